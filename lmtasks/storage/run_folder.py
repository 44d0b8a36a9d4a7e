"""Run folders `runs/NAME/`: choose the one that a command works in, and the checkpoint that an option names."""

from __future__ import annotations

import errno
import fcntl
import glob
import logging
import os
import re
import socket
from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from typing import Literal

from lmtasks.errors import InputError
from lmtasks.storage import CHECKPOINTS, CONFIG, MODEL, RUN_CONFIG, RUNS
from lmtasks.storage.checkpoint import checkpoints, last_checkpoint, read_checkpoint, scores_of, steps_to_keep
from lmtasks.storage.writing import interrupted

logger = logging.getLogger(__name__)
NAME, MOST_NAME = re.compile(r"[^/\\\0-\x1f]+"), 200  # of a run, whose folder may get a number too
LOCK = ".lock"  # in a run folder: held by the process that trains
INHERITED = "LMTASKS_RUN"  # environment variable: the run folder, for the processes that the trainer starts


def existing_run(name: str | None, root: str | None, configs: Sequence[Path]) -> Path:
    """Return the run folder `root`/`name`. A config.yaml in a run folder means that run, or its neighbours.

    Raises: InputError if the name is none of a folder inside `root`.
    """
    home = next((config.parent for config in configs if is_run(config)), None)
    if home is not None and root is None and name in (None, home.name):
        return home
    if not name:
        first = configs[0] if configs else Path("run")
        name = first.parent.resolve().name if first.name == RUN_CONFIG else first.stem
    if name in (".", "..") or not NAME.fullmatch(name) or len(os.fsencode(name)) > MOST_NAME:
        shown = name if len(name) <= MOST_NAME else f"{name[:MOST_NAME]}..."
        raise InputError(
            f"--name {shown!r}: expected the name of a folder, of at most {MOST_NAME} bytes and without / in it; where "
            "it lies is set by --trainer.default_root_dir"
        )
    return Path(root or (home.parent if home else RUNS)) / name


def is_run(config: Path) -> bool:
    """Tell whether a config is that of a run, in its folder."""
    return config.name == RUN_CONFIG and any((config.parent / own).exists() for own in (CHECKPOINTS, LOCK))


def lock(run: Path) -> int:
    """Take the run folder for this process alone, until it ends, and return the open file of the lock.

    The system frees it, after a kill too. Child processes do not hold it. Without locks on a file system there is none.

    Raises: InputError if another process has it, or the folder cannot be written.
    """
    try:
        handle = os.open(run / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(f"{run}: cannot be written: {error.strerror}; choose another folder") from error
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            holder = os.read(handle, 300).decode(errors="replace").strip()
            os.close(handle)
            raise InputError(f"{run}: {holder or 'another process'} trains this run; wait for it, or stop it") from None
        return handle
    os.truncate(handle, 0)
    os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    return handle


def new_run(name: str | None, root: str | None, configs: Sequence[Path]) -> Path:
    """Claim and return the run folder of a new training: NAME, or NAME-2, NAME-3, ... if earlier runs have the name.

    The processes that the trainer starts get the folder from this one. Processes that somebody started together cannot
    know which of them is first: they take the first folder without checkpoints.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0" and INHERITED in os.environ:
        return Path(os.environ[INHERITED])
    wanted = existing_run(name, root, configs)
    candidates = chain([wanted], (wanted.with_name(f"{wanted.name}-{number}") for number in count(2)))
    free = (folder for folder in candidates if not checkpoints(folder))
    # torchrun, SLURM, or a script on each node
    together = any(os.environ.get(size, "1") != "1" for size in ("WORLD_SIZE", "SLURM_NTASKS"))
    together = together or "NODE_RANK" in os.environ
    folder = next(free) if together else next(folder for folder in free if _claim(folder))
    os.environ[INHERITED] = str(folder.absolute())
    return folder


def present(wanted: Path) -> set[Path]:
    """Return the files and folders that exist before a run in this folder, or in the next free one: see `release`."""
    runs, name = wanted.parent, glob.escape(wanted.name)
    free = [run for like in (name, f"{name}-[0-9]*") for run in runs.glob(like) if not checkpoints(run)]
    return {path for path in (runs, *free, *(path for run in free for path in run.rglob("*"))) if path.exists()}


def release(run: Path, before: Collection[Path]) -> None:
    """Delete what a run without checkpoints has made since `present`, so that the next try can have its name."""
    if checkpoints(run):
        return
    made = sorted(set(run.rglob("*")).difference(before), reverse=True)  # what is in a folder comes before the folder
    for path in [*made, *(folder for folder in (run, run.parent) if folder not in before)]:
        with suppress(OSError):  # a folder that is not empty stays: it holds other runs or older files
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink()


def find_checkpoint(wanted: str, run: Path, mode: Literal["min", "max"]) -> Path:
    """Return the checkpoint that `--ckpt_path` means: 'last' or 'best' of the run, or a path.

    Raises: InputError if there is none; the message lists those that exist.
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
    """Return what `--ckpt_path` means if weights are enough: a model folder too, by default that of the run.

    Raises: InputError if there is none.
    """
    model = interrupted(run / MODEL)
    if wanted is None and not (model / CONFIG).is_file() and not checkpoints(run):
        raise InputError(f"no model yet: {_listed(run)}; `lmtasks fit` trains one, --ckpt_path names another")
    folder = Path(wanted) if wanted else model
    return folder if (folder / CONFIG).is_file() else find_checkpoint(wanted or "best", run, mode)


def best_checkpoint(run: Path, mode: Literal["min", "max"]) -> Path:
    """Return the checkpoint with the best score of validation, or the last one if none has a score.

    Raises: InputError if the run has no checkpoint.
    """
    last = last_checkpoint(run)
    if not last.is_file():
        raise InputError(f"{run}: there is no {CHECKPOINTS}/{last.name}; {_listed(run)}")
    scores = scores_of(read_checkpoint(last))[1]
    files = {step: run / CHECKPOINTS / f"step={step}.ckpt" for step in scores}
    kept = {step: score for step, score in scores.items() if files[step].is_file()}
    best, _ = steps_to_keep(kept, best=1, last=0, mode=mode)
    if not best:
        logger.info("%s has no scores of checkpoints; the last one counts as the best", last)
    return files[best[0]] if best else last


def _claim(folder: Path) -> bool:
    """Try to take a folder by creating its config, which only one of several processes can do; tell whether it did."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        (folder / RUN_CONFIG).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _listed(run: Path) -> str:
    if found := checkpoints(run):
        return "there are " + ", ".join(map(str, found))
    return f"{run} holds no checkpoints" if run.is_dir() else f"there is no run folder {run}"
