"""The one exception for what a user can mend: a file, a row, a column, a setting.

The commands print its message as it is, without a traceback, and exit with 2.
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

MAX_FAULTS = 10  # faults of a file that one message places
LONGEST_FAULT = 200  # characters of each of several faults
FULL = [os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]
CLOSED = (  # of other places that take no file
    errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
    errno.ENAMETOOLONG, errno.ELOOP,
)  # fmt: skip


class InputError(ValueError):
    """One line: what was given, what was wanted, what to do; with file, row and column where data are at fault."""

    def __init__(self, message: str = "") -> None:
        super().__init__(" ".join(str(message).splitlines()))  # names and values of a file may have line ends


class InputErrors(InputError):
    """Several faults of a file as one line: how many, the first ten with their places, what to do about the first."""

    def __init__(self, errors: list[InputError], count: int) -> None:
        self.errors, self.count = errors[:MAX_FAULTS], count
        file, place, _ = str(errors[0]).partition(", row ")
        prefix = f"{file}, " if place else ""
        faults, hint = [], str(errors[0]).partition("; ")[2]
        for error in self.errors:
            fault = str(error).removeprefix(prefix).partition("; ")[0]
            faults.append(fault if len(fault) <= LONGEST_FAULT else f"{fault[:LONGEST_FAULT]}...")
        more = [f"and {count - len(faults):,} more"] * (count > len(faults))
        start = f"{file}: " if place else ""
        super().__init__(
            start + "; ".join([f"{count:,} faults: {faults[0]}", *faults[1:], *more, *filter(None, [hint])])
        )


def collected(items: Iterable[Item], make: Callable[[Item], Made]) -> Iterator[Made]:
    """Yield `make(item)` of each item that is right, and in the end raise the faults of all others together.

    Faults that `items` raises count too, so that several such iterators may stand one above the other.
    """
    faults: list[InputError] = []
    count = 0

    def keep(error: InputError) -> int:
        faults.extend(error.errors if isinstance(error, InputErrors) else [error])
        del faults[MAX_FAULTS:]
        return error.count if isinstance(error, InputErrors) else 1

    try:
        for item in items:
            try:
                made = make(item)
            except InputError as error:
                count += keep(error)
                continue
            yield made
    except InputError as error:
        count += keep(error)
    if count:
        raise faults[0] if count == 1 else InputErrors(faults, count)


def one_line(error: BaseException) -> str:
    """Return the message of an error on one line, or the name of its type if it has no message."""
    return " ".join(str(error).split()) or type(error).__name__


def did_you_mean(given: str, known: Iterable[str], otherwise: str) -> str:
    """Return the known name that was probably meant, or what to say where none is near.

    >>> did_you_mean("bluw", ["bleu", "chrf"], "see --help")
    'did you mean bleu?'
    """
    near = get_close_matches(given, list(known), n=1)
    return f"did you mean {near[0]}?" if near else otherwise


@contextmanager
def writing(place: str | Path, option: str) -> Iterator[None]:
    """Name a place, and the option that sets it, where the block cannot write there: no space, read-only, no folder.

    Errors of files elsewhere pass, and so do those that are about something else.

    Raises: InputError in their stead.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if (reason := why_not_written(error)) is None or not _is_about(error, Path(place)):
            raise
        ways = "free space, or give another place" if reason in FULL else "give another place"
        raise InputError(f"{place}: cannot be written: {reason}; {ways} with {option}") from error


def why_not_written(error: BaseException) -> str | None:
    """Return what the system says where an error means that a file could not be written; else None."""
    if isinstance(error, OSError) and error.errno in CLOSED:
        return os.strerror(error.errno)
    cause: BaseException | None = error
    while cause is not None:  # torch raises another error above it, safetensors has it in its text
        for reason in FULL:
            if reason in str(cause):
                return reason
        cause = cause.__cause__ or cause.__context__
    return None


def _is_about(error: BaseException, place: Path) -> bool:
    """Tell whether an error names no file, or one on the way to a place or in it."""
    if not (named := getattr(error, "filename", None)) or not isinstance(named, str | os.PathLike):
        return True
    file, own = Path(named).absolute(), place.absolute()
    return file.is_relative_to(own) or own.is_relative_to(file) or file.parent == own.parent
