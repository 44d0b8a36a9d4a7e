"""What a command line names, looked for before torch and Lightning are imported, which takes seconds."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from lmtasks.cli.configs import RUNS, take_configs
from lmtasks.errors import InputError


def check_names(file: str, arguments: Sequence[str]) -> None:
    """Look for the configs of `fit` and its kin, or for the model that a command of another file begins with.

    Raises:
        InputError: One is not there. A model that follows an option is looked for later, by `lmtasks.load`.
    """
    if file == "fit":
        take_configs(arguments)
    elif file in ("run", "info", "attend") and arguments and not {"-h", "--help"} & {*arguments}:
        check_model(arguments[0])


def check_model(argument: str) -> None:
    """Look for a run, model folder or checkpoint; what begins with a dash is an option.

    Raises:
        InputError: It is not there; the line names what was probably meant.
    """
    path = Path(argument)
    if argument.startswith("-") or path.exists():
        return
    known = {other.name: other for other in Path(RUNS).glob("*")}
    known |= {other.name: other for other in path.parent.glob("*")}
    near = get_close_matches(path.name, known, n=1)
    hint = f"did you mean {known[near[0]]}?" if near else "give a run folder, a model folder or a .ckpt file"
    raise InputError(f"{path}: there is no such file or folder; {hint}")
