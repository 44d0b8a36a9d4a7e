"""Checkpoints that stay readable after a kill during a save or on a full disk, and that detect damaged files.

Lightning does most of it. Two things are added here: a file is replaced as a whole or not at all and checked when it is
read (`SafeCheckpointIO`), and `last.ckpt` is always the newest state (`Checkpoints`).
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Literal
from urllib.request import urlopen

import torch
from lightning.fabric.utilities.cloud_io import _is_local_file_protocol, get_filesystem
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lmtasks.errors import InputError, one_line
from lmtasks.storage import CHECKPOINTS, LAST
from lmtasks.storage.checkpoint import KEPT, read_checkpoint, steps_to_keep

PART = ".part"  # ending of a file that is being written


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that replaces `path` when the block ends without an error; otherwise `path` stays as it was.

    The bytes are on the disk (fsync) before the file is renamed. Partial files of a killed run are removed.

    Raises: InputError if the folder cannot be written, or the disk is full.
    """
    part = path.with_name(f".{path.name}{PART}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in path.parent.glob(f".*{PART}"):
            leftover.unlink(missing_ok=True)
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        # torch.save raises a RuntimeError while it handles the OSError of a full disk
        cause = error.__context__ if isinstance(error, RuntimeError) else error
        if not isinstance(cause, OSError):
            raise
        raise InputError(f"{path}: cannot be written: {cause.strerror}; free space or choose another folder") from error
    finally:
        if part.parent.is_dir():  # else unlink raises NotADirectoryError where a parent is a file
            part.unlink(missing_ok=True)


class SafeCheckpointIO(TorchCheckpointIO):
    """Save a checkpoint as a whole or not at all, and check it when it is loaded; for `Trainer(plugins=[...])`.

    Lightning handles paths with a protocol (`s3://`, `gs://`): such storage replaces an object as a whole by itself.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write `checkpoint` to `path`, by `replacing`."""
        if storage_options is not None or not _is_local_file_protocol(path):
            super().save_checkpoint(checkpoint, path, storage_options)
        else:
            with replacing(Path(path)) as file:
                torch.save(checkpoint, file)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read the checkpoint at `path`; only tensors and plain values, whatever `weights_only` says.

        One with a protocol is copied here first, so that it is checked too.
        """
        if _is_local_file_protocol(path):
            return read_checkpoint(path, map_location)
        with TemporaryDirectory() as folder:
            local = Path(folder) / "copy.ckpt"
            try:
                source = urlopen(str(path)) if str(path).startswith("http") else get_filesystem(path).open(path)
                with source as remote, local.open("wb") as file:
                    shutil.copyfileobj(remote, file)
                return read_checkpoint(local, map_location)
            except OSError as error:
                raise InputError(f"{path}: cannot be read ({one_line(error)})") from error
            except InputError as error:
                raise InputError(str(error).replace(str(local), str(path))) from error


class Checkpoints(ModelCheckpoint):
    """Keep the best and the last checkpoints of a run in `<run folder>/checkpoints`.

    A run is saved after every validation (after every epoch if there is none), when training ends, every
    `every_n_steps` or `every_n_minutes`, and by `interrupt`. `step=2000.ckpt` is the state after 2000 optimiser steps.
    `last.ckpt` is always the newest state; after an interruption it is the only file of that state.
    """

    def __init__(
        self,
        monitor: str | None = None,
        mode: Literal["min", "max"] = "min",
        best: int = 1,
        keep_last: int = 0,
        every_n_steps: int | None = None,
        every_n_minutes: float | None = None,
    ) -> None:
        """Set what is kept.

        Args:
            monitor: Name of the logged metric that ranks checkpoints; with None, scores do not count.
            mode: Whether a low ("min") or a high ("max") value of `monitor` is better.
            best: Number of checkpoints with the best scores to keep.
            keep_last: Number of newest checkpoints to keep regardless of score, besides `last.ckpt`.
            every_n_steps: Optimiser steps between additional saves.
            every_n_minutes: Minutes between additional saves.
        """
        self.best = best if monitor else 0
        super().__init__(monitor=monitor, mode=mode, save_top_k=self.best, save_last=True)
        self.keep_last = keep_last
        self.every_n_steps = every_n_steps
        self.every_n_minutes = every_n_minutes
        self._direction = mode
        self._scores: dict[int, float | None] = {}  # of the checkpoints kept, by step; None if not validated
        self._steps_done = 0
        self._due = False
        self._dropped: set[int] = set()  # steps whose files are to be removed
        self._saved_at = time.monotonic()  # seconds

    @property
    def state_key(self) -> str:
        """Return the key of the saved state; Lightning's own changes with the settings, and a resume would miss it."""
        return KEPT

    @property
    def best_paths(self) -> list[str]:
        """Return the checkpoints with the best scores, best first."""
        return [self._path(step) for step in self._keep()[0]]

    @property
    def last_paths(self) -> list[str]:
        """Return the `keep_last` newest checkpoints, oldest first."""
        return [self._path(step) for step in self._keep()[1]]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set the folder."""
        self.dirpath = trainer.strategy.broadcast(os.path.join(trainer.default_root_dir, CHECKPOINTS))
        self._last_path = os.path.join(str(self.dirpath), LAST)
        self._fs = get_filesystem(self._last_path)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget checkpoints that were removed; warn if the `last.ckpt` of an earlier run will be replaced."""
        self._take_stock(trainer)
        self._remove_dropped(trainer)
        self._steps_done = self._last_global_step_saved = trainer.global_step
        self._due, self._saved_at = False, time.monotonic()
        if trainer.ckpt_path is None and self._may_save(trainer) and self._fs.exists(self._last_path):
            rank_zero_warn(f"{self._last_path} is of an earlier run and will be replaced; ckpt_path continues it.")

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Find out whether a save is due by steps or minutes."""
        stepped, self._steps_done = trainer.global_step != self._steps_done, trainer.global_step
        self._due = self._due or (stepped and self._is_due(trainer))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Save if it is due; what is logged of the step has been written by now."""
        if self._due:
            self.on_train_end(trainer, pl_module)

    # A validation may be long, so it is saved that it is due.
    on_validation_start = on_train_epoch_start = on_train_batch_start

    def interrupt(self, trainer: Trainer) -> None:
        """Save `last.ckpt` alone: the same run without an interruption keeps no other file of this step."""
        if self._due:
            self._save(trainer, None)
        elif self._may_save(trainer):
            self.last_model_path = self._last_path
            self._save_checkpoint(trainer, self._last_path)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if there is no validation."""
        if not trainer.enable_validation or sum(trainer.num_val_batches) == 0:
            self.on_train_end(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save with the score of the validation.

        Raises: InputError if `monitor` is not among the metrics.
        """
        if not self._may_save(trainer):
            return
        score, metrics = None, trainer.callback_metrics
        if self.monitor is not None:
            if self.monitor not in metrics:
                names = ", ".join(sorted(metrics)) or "none"
                raise InputError(f"monitor={self.monitor!r} is not a metric of this run; choose one of: {names}")
            score = trainer.strategy.broadcast(float(metrics[self.monitor]))
        self._save(trainer, score)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save without a score, unless the step is saved already."""
        if self._may_save(trainer) and trainer.global_step != self._last_global_step_saved:
            self._save(trainer, None)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find what is kept if nothing was left to train: Lightning skips `on_train_start` then."""
        self._take_stock(trainer)
        self._remove_dropped(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return the scores by step, without paths, so that a run folder may be moved."""
        return {"monitor": self.monitor, "scores": dict(self._scores), "dropped": sorted(self._dropped)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the saved scores, unless they are of another metric."""
        if state_dict["monitor"] == self.monitor:
            self._scores, self._dropped = dict(state_dict["scores"]), set(state_dict.get("dropped", ()))

    def _path(self, step: int) -> str:
        return os.path.join(str(self.dirpath), f"step={step}.ckpt")

    def _keep(self) -> tuple[list[int], list[int]]:
        return steps_to_keep(self._scores, self.best, self.keep_last, self._direction)

    def _may_save(self, trainer: Trainer) -> bool:
        rehearsing = trainer.sanity_checking or trainer.fast_dev_run  # type: ignore[attr-defined]
        return trainer.state.fn == TrainerFn.FITTING and not rehearsing

    def _is_due(self, trainer: Trainer) -> bool:
        passed = (time.monotonic() - self._saved_at) / 60  # minutes
        late = self.every_n_minutes is not None and trainer.strategy.broadcast(passed >= self.every_n_minutes)
        return late or (self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0)

    def _save(self, trainer: Trainer, score: float | None) -> None:
        """Save `step=N.ckpt` if it is among the best or the last, then `last.ckpt`; then remove those that are not."""
        step, before = trainer.global_step, set(self._scores)
        self._scores[step] = score
        self.last_model_path = self._last_path
        best, last = self._keep()
        self._scores = {kept: self._scores[kept] for kept in sorted({*best, *last})}
        self._dropped = before - set(self._scores)
        self._publish()
        linked = step in self._scores and _is_local_file_protocol(self._last_path)
        if step in self._scores:
            self._save_checkpoint(trainer, self._path(step))
        if not linked:
            self._save_checkpoint(trainer, self._last_path)
        elif trainer.is_global_zero:
            _link(Path(self._path(step)), Path(self._last_path))
        trainer.strategy.barrier("last.ckpt")
        self._remove_dropped(trainer)  # last: a kill before this line leaves a file too many, never one too few
        self._due, self._saved_at = False, time.monotonic()

    def _remove_dropped(self, trainer: Trainer) -> None:
        """Remove what is kept no longer; a resumed run does it for one that was killed before it could."""
        for dropped in self._dropped - set(self._scores):
            if self._fs.exists(self._path(dropped)):
                trainer.strategy.remove_checkpoint(self._path(dropped))

    def _take_stock(self, trainer: Trainer) -> None:
        present = {step: score for step, score in self._scores.items() if self._fs.exists(self._path(step))}
        self._scores = trainer.strategy.broadcast(present)
        if trainer.ckpt_path is not None:
            self.last_model_path = self._last_path if self._fs.exists(self._last_path) else str(trainer.ckpt_path)
        self._publish()

    def _publish(self) -> None:
        """Set what Lightning and its loggers read of a `ModelCheckpoint`."""
        self.best_k_models = {self._path(step): torch.tensor(self._scores[step]) for step in self._keep()[0]}
        self.best_model_path = next(iter(self.best_k_models), self.last_model_path)
        self.best_model_score = self.best_k_models.get(self.best_model_path)
        self.current_score = None

    def _find_last_checkpoints(self, trainer: Trainer) -> set[str]:
        """Return the file of `ckpt_path="last"`; Lightning asks before `setup`."""
        return {os.path.join(trainer.default_root_dir, CHECKPOINTS, LAST)}


def _link(source: Path, target: Path) -> None:
    """Give the file `source` the second name `target`, which shares its bytes and outlives the first name."""
    part = target.with_name(f".{target.name}{PART}")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:  # a file system without hard links
        with replacing(target) as file, source.open("rb") as original:
            shutil.copyfileobj(original, file)
    else:
        os.replace(part, target)
        _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    if os.name != "nt":  # where folders cannot be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
