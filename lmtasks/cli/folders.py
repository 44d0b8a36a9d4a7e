"""Run folders `runs/NAME/`: which one a command works in, and which of its checkpoints an option names."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Literal

from lmtasks.cli.configs import RUN_CONFIG
from lmtasks.errors import InputError
from lmtasks.training.checkpoints import FOLDER, last_checkpoint, read_checkpoint, steps_to_keep

ROOT = "runs"


def existing_run(name: str | None, root: str | None, configs: Sequence[Path]) -> Path:
    """Return the run folder that a name, or a config in a run folder, means."""
    home = _home(configs)
    if home is not None and root is None and name in (None, home.name):
        return home
    return Path(root or (home.parent if home else ROOT)) / (name or _default_name(configs))


def new_run(name: str | None, root: str | None, configs: Sequence[Path]) -> Path:
    """Return the run folder of a new training: NAME, or NAME-2, NAME-3, ... where the ones before hold checkpoints."""
    wanted = existing_run(name, root, configs)
    numbered = (wanted.with_name(f"{wanted.name}-{number}") for number in count(2))
    return wanted if not checkpoints(wanted) else next(folder for folder in numbered if not checkpoints(folder))


def checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    return sorted((run / FOLDER).glob("*.ckpt"), key=lambda path: path.stat().st_mtime)


def find_checkpoint(wanted: str, run: Path, mode: Literal["min", "max"]) -> Path:
    """Return the checkpoint that `--ckpt_path` means: 'last' or 'best' of the run, or a path.

    Raises:
        InputError: There is none; the line names those that are there.
    """
    if wanted == "last" and last_checkpoint(run).is_file():
        return last_checkpoint(run)
    if wanted == "best" and checkpoints(run):
        return best_checkpoint(run, mode)
    path = Path(wanted)
    if path.is_file() and wanted not in ("last", "best"):
        return path
    if path.is_dir() and checkpoints(path):
        raise InputError(f"--ckpt_path {wanted} is a run folder; give one of its files: {_listed(path)}")
    raise InputError(f"--ckpt_path {wanted}: there is no such checkpoint; {_listed(run)}")


def best_checkpoint(run: Path, mode: Literal["min", "max"]) -> Path:
    """Return the checkpoint with the best score of validation, the last one where none has a score.

    Raises:
        InputError: The run has no checkpoint.
    """
    last = last_checkpoint(run)
    if not last.is_file():
        raise InputError(f"{run}: there is no {FOLDER}/{last.name}; {_listed(run)}")
    scores = read_checkpoint(last).get("callbacks", {}).get("Checkpoints", {}).get("scores", {})
    present = {step: score for step, score in scores.items() if (run / FOLDER / f"step={step}.ckpt").is_file()}
    best, _ = steps_to_keep(present, best=1, last=0, mode=mode)
    return run / FOLDER / f"step={best[0]}.ckpt" if best else last


def _home(configs: Sequence[Path]) -> Path | None:
    """Return the run folder in which one of the configs lies."""
    homes = [config.parent for config in configs if config.name == RUN_CONFIG and (config.parent / FOLDER).is_dir()]
    return homes[0] if homes else None


def _default_name(configs: Sequence[Path]) -> str:
    if not configs:
        return "run"
    return configs[0].parent.resolve().name if configs[0].name == RUN_CONFIG else configs[0].stem


def _listed(run: Path) -> str:
    found = checkpoints(run)
    if found:
        return "there are " + ", ".join(map(str, found))
    return f"{run} holds no checkpoints" if run.is_dir() else f"there is no run folder {run}"
