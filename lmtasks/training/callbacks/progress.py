"""One line of progress while a model trains, and its validation scores.

On a terminal the line is rewritten in place; in a log file it comes as a plain line every so many steps. It goes to
stderr, from the first process only.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from lmtasks.batch import IGNORE, Batch
from lmtasks.reports.tables import one_line

REFRESH = 0.5  # seconds between two pictures of the line on a terminal
CLEAR = "\r\x1b[K"  # go to the start of the line and erase it


class Progress(ProgressBar):
    """Show step, loss, speed and time left on one line, and the validation scores on one line each time.

    Of several tasks that line has the main scores and losses only; all are in metrics.csv.
    The loss is the mean, since the last full line, of what the module logs as `train/<task>/loss`: a step holds
    sentences of one length, and long ones are harder. The speed counts real targets (tokens without padding), of this
    process times the number of processes, and leaves out validation; the time left includes it.

    step 400/8000  loss 3.214  12,300 tokens/s  54 min left
    """

    def __init__(self, every: int = 100) -> None:
        """`every`: steps between two lines where stderr is no terminal, and over which the speed is averaged."""
        super().__init__()
        self.every = every
        self._enabled = True
        self._shown = -math.inf  # when the line was last drawn
        self._step = 0  # the last optimiser step that was seen
        self._open_line = False

    @property
    def is_enabled(self) -> bool:
        """Tell whether `LightningModule.print` has to go through this callback."""
        return self._enabled

    def enable(self) -> None:
        """Show progress again (Lightning calls it)."""
        self._enabled = True

    def disable(self) -> None:
        """Show nothing: Lightning calls it in every process but the first."""
        self._enabled = False

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print without tearing the line."""
        self._erase()
        super().print(*args, **kwargs)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clocks."""
        self._step = self._first_step = trainer.global_step
        self._started = monotonic()
        self._paused = 0.0  # seconds in validation
        self._losses: dict[str, list[Tensor]] = {}  # of each task since the last full line
        self._learning: set[str] = set()  # tasks that take part in this step
        self._targets: Tensor | int = 0  # stays on the device: asking for its value would wait for the GPU
        self._marks = deque([(self._started, 0)], maxlen=2)  # (training seconds, targets), every `every` steps

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Sequence[Batch], batch_idx: int
    ) -> None:
        """Count the targets of a micro-batch and show the line after an optimiser step."""
        if not self._enabled:
            return
        for part in batch:
            self._targets = self._targets + (part.target != IGNORE).sum()
            self._learning.add(part.task)
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        for task in self._learning:
            if (loss := trainer.callback_metrics.get(f"train/{task}/loss")) is not None:
                self._losses.setdefault(task, []).append(loss)
        self._learning = set()
        last = self._step == _last_step(trainer)
        if self._step % self.every == 0 or last or (_on_terminal() and monotonic() - self._shown > REFRESH):
            self._show(self._training_line(trainer))
        if last:
            self._close()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock of training."""
        self._validation_started = monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Print the validation scores and let the clock of training go on."""
        self.reset_dataloader_idx_tracker()
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            self._erase()
            return
        self._paused += monotonic() - self._validation_started
        scores = {k: v for k, v in trainer.callback_metrics.items() if k.startswith("validation/")}
        if scores and self._enabled:
            self._erase()
            width = len(str(_last_step(trainer) or ""))
            line = one_line(scores, {name: task.main_metric for name, task in pl_module.tasks.items()})
            print(f"step {trainer.global_step:>{width}}  validation  {line}", file=sys.stderr, flush=True)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Show how far validation is, on a terminal."""
        self.has_dataloader_changed(dataloader_idx)
        self._show_batch("validation", batch_idx + 1, self.total_val_batches_current_dataloader)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Show how far the test is, on a terminal."""
        self.has_dataloader_changed(dataloader_idx)
        self._show_batch("test", batch_idx + 1, self.total_test_batches_current_dataloader)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Show how far prediction is, on a terminal."""
        self.has_dataloader_changed(dataloader_idx)
        self._show_batch("predict", batch_idx + 1, self.total_predict_batches_current_dataloader)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the last line standing."""
        self._close()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Erase the line: results follow."""
        self.reset_dataloader_idx_tracker()
        self._erase()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Erase the line: results follow."""
        self.reset_dataloader_idx_tracker()
        self._erase()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the last line standing, the message comes under it."""
        self._close()

    def _training_line(self, trainer: Trainer) -> str:
        last = _last_step(trainer)
        parts = [f"step {self._step}/{last}" if last else f"step {self._step}", *self._mean_losses()]
        targets = int(self._targets) * trainer.world_size  # waits for the GPU, so the clock is read after it
        now = monotonic()
        trained = now - self._paused
        since, before = self._marks[0]
        if trained > since:
            parts.append(f"{(targets - before) / (trained - since):,.0f} tokens/s")
        if last:
            seconds = (now - self._started) / (self._step - self._first_step)
            parts.append(f"{_duration(seconds * (last - self._step))} left")
        if self._step % self.every == 0:
            self._marks.append((trained, targets))
            self._losses = {}
        return "  ".join(parts)

    def _mean_losses(self) -> list[str]:
        """Return "loss 3.214", or "<task> 3.214" for each of several tasks."""
        means = {task: float(torch.stack(losses).mean()) for task, losses in sorted(self._losses.items())}
        return [f"{task if len(means) > 1 else 'loss'} {mean:.3f}" for task, mean in means.items()]

    def _show_batch(self, name: str, batch: int, total: int | float) -> None:
        if self._enabled and _on_terminal() and monotonic() - self._shown > REFRESH:
            self._show(f"{name}  batch {batch}" + (f"/{total:.0f}" if math.isfinite(total) else ""))

    def _show(self, line: str) -> None:
        self._shown = monotonic()
        if _on_terminal():
            width = shutil.get_terminal_size().columns
            print(CLEAR + line[: width - 1], end="", file=sys.stderr, flush=True)
            self._open_line = True
        else:
            print(line, file=sys.stderr, flush=True)

    def _erase(self) -> None:
        if self._open_line:
            print(CLEAR, end="", file=sys.stderr, flush=True)
        self._open_line = False

    def _close(self) -> None:
        if self._open_line:
            print(file=sys.stderr, flush=True)
        self._open_line = False


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def _last_step(trainer: Trainer) -> int | None:
    """Return the optimiser step at which training ends, None if nobody knows."""
    # trainer.estimated_stepping_batches would load the data anew, and a stateful loader would lose its position.
    ends = [trainer.max_steps] if trainer.max_steps > 0 else []
    batches, epochs = trainer.num_training_batches, trainer.max_epochs
    if epochs is not None and epochs > 0 and math.isfinite(batches):
        ends.append(math.ceil(batches / trainer.accumulate_grad_batches) * epochs)
    return min(ends, default=None)


def _on_terminal() -> bool:
    return sys.stderr.isatty()
