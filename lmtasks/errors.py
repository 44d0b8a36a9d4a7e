"""The one exception for what a user can mend: a file, a row, a column, a setting.

The commands print its message as it is, without a traceback, and exit with 2.
"""

from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

MAX_FAULTS = 10  # faults of a file that one message places
LONGEST_FAULT = 200  # characters of each of several faults


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
