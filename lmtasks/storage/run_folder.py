"""Run folders `runs/NAME/`: which one a command works in, and which of its checkpoints an option names."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from typing import Literal

from lmtasks.errors import InputError
from lmtasks.storage import CHECKPOINTS, CONFIG, MODEL, RUN_CONFIG, RUNS
from lmtasks.storage.checkpoint import checkpoints, last_checkpoint, read_checkpoint, scores_of, steps_to_keep

logger = logging.getLogger(__name__)
INHERITED = "LMTASKS_RUN"  # environment variable: the run folder, for the processes that the trainer starts


def existing_run(name: str | None, root: str | None, configs: Sequence[Path]) -> Path:
    """Return the run folder that a name, or a config in a run folder, means."""
    home = _home(configs)
    if home is not None and root is None and name in (None, home.name):
        return home
    return Path(root or (home.parent if home else RUNS)) / (name or _default_name(configs))


def new_run(name: str | None, root: str | None, configs: Sequence[Path]) -> Path:
    """Claim and return the run folder of a new training: NAME, or NAME-2, NAME-3, ... where others have been.

    The processes that the trainer starts get the folder from this one. Those that somebody started together cannot know
    which of them was first: they take the first folder without checkpoints.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0" and INHERITED in os.environ:
        return Path(os.environ[INHERITED])
    wanted = existing_run(name, root, configs)
    candidates = chain([wanted], (wanted.with_name(f"{wanted.name}-{number}") for number in count(2)))
    free = (folder for folder in candidates if not checkpoints(folder))
    folder = next(free) if _started_together() else next(folder for folder in free if _claim(folder))
    os.environ[INHERITED] = str(folder.absolute())
    return folder


def present(wanted: Path) -> set[Path]:
    """Return what is there before a run that wants this folder, or the next free one, begins: see `release`."""
    runs, name = wanted.parent, glob.escape(wanted.name)
    free = [run for like in (name, f"{name}-[0-9]*") for run in runs.glob(like) if not checkpoints(run)]
    return {path for path in (runs, *free, *(path for run in free for path in run.rglob("*"))) if path.exists()}


def release(run: Path, before: Collection[Path]) -> None:
    """Leave nothing of a run without checkpoints but what was `present` before; the next try has its name."""
    if checkpoints(run):
        return
    for path in sorted(set(run.rglob("*")).difference(before), reverse=True):  # what is in a folder, then the folder
        with suppress(OSError):  # it has something of before
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink()
    for folder in (run, run.parent):
        if folder not in before:
            with suppress(OSError):  # other runs are in it
                folder.rmdir()


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


def find_weights(wanted: str | None, run: Path, mode: Literal["min", "max"]) -> Path:
    """Return what `--ckpt_path` means where weights are enough: a model folder too, and by default that of the run.

    Raises:
        InputError: There is none.
    """
    if wanted is None and not (run / MODEL / CONFIG).is_file() and not checkpoints(run):
        raise InputError(f"no model yet: {_listed(run)}; `lmtasks fit` trains one, --ckpt_path names another")
    folder = Path(wanted) if wanted else run / MODEL
    return folder if (folder / CONFIG).is_file() else find_checkpoint(wanted or "best", run, mode)


def best_checkpoint(run: Path, mode: Literal["min", "max"]) -> Path:
    """Return the checkpoint with the best score of validation, the last one where none has a score.

    Raises:
        InputError: The run has no checkpoint.
    """
    last = last_checkpoint(run)
    if not last.is_file():
        raise InputError(f"{run}: there is no {CHECKPOINTS}/{last.name}; {_listed(run)}")
    scores = scores_of(read_checkpoint(last))[1]
    files = {step: run / CHECKPOINTS / f"step={step}.ckpt" for step in scores}
    present = {step: score for step, score in scores.items() if files[step].is_file()}
    best, _ = steps_to_keep(present, best=1, last=0, mode=mode)
    if not best:
        logger.info("%s has no scores of checkpoints; the last one counts as the best", last)
    return files[best[0]] if best else last


def _started_together() -> bool:
    """Tell whether torchrun, SLURM or a script on each node started this process as one of several."""
    sizes = (os.environ.get(name, "1") for name in ("WORLD_SIZE", "SLURM_NTASKS"))
    return any(size != "1" for size in sizes) or "NODE_RANK" in os.environ


def _claim(folder: Path) -> bool:
    """Take a folder by creating its config, which only one process can; tell whether it was this one."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        (folder / RUN_CONFIG).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _home(configs: Sequence[Path]) -> Path | None:
    """Return the run folder in which one of the configs lies."""
    homes = [
        config.parent for config in configs if config.name == RUN_CONFIG and (config.parent / CHECKPOINTS).is_dir()
    ]
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
