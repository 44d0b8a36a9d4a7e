"""The one exception for what a user can mend: a file, a row, a column, a setting.

The commands print its message as it is, without a traceback, and exit with 2.
"""

from collections.abc import Iterable
from difflib import get_close_matches


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
