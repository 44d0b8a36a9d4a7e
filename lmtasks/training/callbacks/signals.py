"""SIGTERM and SIGINT: finish the optimiser step, save once, leave with the shell's code, on every process.

Lightning 2.6.6 exits with 0 or 1 and no checkpoint, and its handler calls a collective operation inside a signal, which
hangs. Its handlers are displaced while training runs; it puts back those from before the run itself.
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
from lightning.pytorch.utilities.rank_zero import rank_zero_info

IMPATIENCE = 1.0  # seconds; launchers pass one Ctrl-C on, so that it may arrive twice at the same moment


class StopOnSignal(Callback):
    """Stop training at SIGTERM or SIGINT to any process: `Checkpoints` saves, then SystemExit(143 or 130) on all.

    The running optimiser step is finished first; a running validation too. A second SIGINT ends the process at once,
    and the checkpoint before stays good. Data loader workers must ignore both signals (`worker_init_fn`): a terminal
    and SLURM send them to every process.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        """128 + the signal, once the processes have agreed to stop."""
        self._received = 0
        self._received_at = 0.0  # seconds
        self._steps_done = 0

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals over from Lightning, which takes them just before."""
        self._take_signals()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals over from Lightning."""
        self._steps_done = trainer.global_step
        self._take_signals()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Agree on stopping after an optimiser step; `Checkpoints`, which Lightning calls last, then saves."""
        if trainer.global_step != self._steps_done:
            self._steps_done = trainer.global_step
            self._agree(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave: saving is done, and validation is not started any more."""
        self._leave(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave: saving is done."""
        self._leave(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Leave where `min_steps` or `min_epochs` keep the trainer from stopping."""
        self._leave(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave with the signal's code too if it came during the last validation."""
        self._agree(trainer)
        self._leave(trainer)

    def _take_signals(self) -> None:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            signal.signal(signal.SIGTERM, self._receive)
            signal.signal(signal.SIGINT, self._receive)

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
            trainer.should_stop = True

    def _leave(self, trainer: Trainer) -> None:
        if self.exit_code is None:
            return
        rank_zero_info(f"Stopped by {signal.Signals(self.exit_code - 128).name} after step {trainer.global_step}.")
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher):
            launcher.procs.clear()  # else its observer kills this process when it sees the others leave with our code
        raise SystemExit(self.exit_code)
