"""SIGTERM and SIGINT: finish the optimiser step, save once, exit with the shell's code, in every process.

Lightning 2.6.6 exits with 0 or 1 and no checkpoint, and its handler calls a collective operation inside a signal, which
hangs. Its handlers are replaced while training runs; Lightning itself restores those from before the run.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from lmtasks.training.callbacks.checkpoints import Checkpoints

IMPATIENCE = 1.0  # seconds; launchers forward Ctrl-C, so that one may arrive twice within a moment


class StopOnSignal(Callback):
    """Stop training at SIGTERM or SIGINT to any process: `Checkpoints` saves, then all raise SystemExit(143 or 130).

    The running optimiser step or validation is finished first; a validation that is due then is left to the resumed
    run. `trainer.should_stop` is not used: Lightning would log and validate what an uninterrupted run does not. A
    second SIGINT ends the process at once; the previous checkpoint stays as it was. Data loader workers must ignore
    both signals (`worker_init_fn`): a terminal and SLURM send them to every process.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        """128 + the number of the signal, once the processes have agreed to stop."""
        self._received = 0
        self._received_at = 0.0  # seconds
        self._steps_done = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace the handlers that Lightning sets just before the sanity check and before training."""
        self._steps_done = trainer.global_step
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            signal.signal(signal.SIGTERM, self._receive)
            signal.signal(signal.SIGINT, self._receive)

    on_sanity_check_start = on_train_start

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Agree on stopping after an optimiser step; what is logged of it comes first."""
        if trainer.global_step != self._steps_done:
            self._steps_done = trainer.global_step
            self._agree(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Agree on stopping after a validation."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._agree(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Save and exit if the processes have agreed to."""
        if self.exit_code is not None:
            for callback in _checkpoints(trainer):
                callback.interrupt(trainer)
            self._leave(trainer, self.exit_code)

    # The first of these that comes after the step: a validation that is due is left to the resumed run.
    on_validation_start = on_train_epoch_start = on_train_batch_start

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Exit with the code of the signal, even if it came in the last moment; the end is saved as always."""
        self._agree(trainer)
        if self.exit_code is not None:
            for callback in _checkpoints(trainer):
                callback.on_train_end(trainer, pl_module)
            self._leave(trainer, self.exit_code)

    def _leave(self, trainer: Trainer, code: int) -> None:
        rank_zero_info(f"Stopped by {signal.Signals(code - 128).name} after step {trainer.global_step}.")
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher):
            launcher.procs.clear()  # else its observer kills this process when it sees the others exit with our code
        raise SystemExit(code)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if number == signal.SIGINT and self._received and now - self._received_at > IMPATIENCE:
            os._exit(128 + number)
        if not self._received:
            self._received, self._received_at = number, now

    def _agree(self, trainer: Trainer) -> None:
        received = self._received
        if trainer.world_size > 1:
            flag = torch.tensor(received, device=trainer.strategy.root_device)
            received = int(trainer.strategy.reduce(flag, reduce_op="max"))
        if received:
            self.exit_code = 128 + received


def _checkpoints(trainer: Trainer) -> list[Checkpoints]:
    return [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, Checkpoints)]
