"""The one exception for what a user can mend: a file, a row, a column, a setting.

The commands print its message as it is, without a traceback, and exit with 2.
"""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

FULL = [os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]
CLOSED = (  # of other places that take no file
    errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
    errno.ENAMETOOLONG, errno.ELOOP,
)  # fmt: skip


class InputError(ValueError):
    """One line: what was given, what was wanted, what to do; with file, row and column where data are at fault."""


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
