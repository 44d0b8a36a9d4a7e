"""One line of progress while a model trains, and its validation scores.

A terminal shows one line that is rewritten in place; a log file gets a line every so many steps. The first process
writes to stderr, the others write nothing.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from lmtasks.batch import IGNORE, Batch
from lmtasks.reports.tables import scores_line
from lmtasks.training.steps import last_step

if TYPE_CHECKING:
    from lmtasks.training.module import TaskModule

REFRESH = 0.5  # seconds between two drawings of the line on a terminal
CLEAR = "\r\x1b[K"  # go to the start of the line and erase it


class Progress(ProgressBar):
    """Show step, loss, speed and time left on one line, and the scores of each validation on one line.

    With several tasks a line of scores has only the main score and the loss of each; metrics.csv has all of them. The
    loss is the mean of `train/<task>/loss` since the last full line, because the texts of one step have similar
    lengths, and long ones are harder. The speed counts real targets (tokens without padding) of this process times the
    number of processes, without the time of validation; the time left includes validation.

    step 400/8000  loss 3.214  12,300 tokens/s  54 min left
    """

    def __init__(self, every: int = 100) -> None:
        """Set `every`, the steps between two lines if stderr is no terminal, and over which the speed is averaged."""
        super().__init__()
        self.every = every
        self._enabled = True
        self._shown = -math.inf  # when the line was last drawn
        self._step = 0  # the last optimiser step that was seen
        self._open_line = False

    @property
    def is_enabled(self) -> bool:
        """Whether `LightningModule.print` has to go through this callback."""
        return self._enabled

    def enable(self) -> None:
        """Show progress again (Lightning calls it)."""
        self._enabled = True

    def disable(self) -> None:
        """Show nothing; Lightning calls it in every process but the first."""
        self._enabled = False

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print after erasing the line."""
        self._end_line(CLEAR)
        super().print(*args, **kwargs)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clocks."""
        mixture = cast("TaskModule", pl_module).mixture
        self._last = last_step(trainer, mixture.steps_per_epoch if mixture else None)
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
        if self._step == self._last or self._step % self.every == 0 or self._redraws():
            self._show(self._training_line(trainer))
        if self._step == self._last:
            self._end_line()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock of training."""
        self._validation_started = monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the validation scores and restart the clock of training."""
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            self._end_line(CLEAR)
            return
        self._paused += monotonic() - self._validation_started
        scores = {k: v for k, v in trainer.callback_metrics.items() if k.startswith("validation/")}
        if scores and self._enabled:
            self._end_line(CLEAR)
            width = len(str(self._last or ""))
            tasks = cast("TaskModule", pl_module).tasks
            line = scores_line(scores, {name: task.main_metric for name, task in tasks.items()})
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
        """Show how far validation, test or prediction is, on a terminal."""
        if not self._enabled or not self._redraws():
            return
        stage, totals = "validation", trainer.num_val_batches
        if trainer.sanity_checking:
            totals = trainer.num_sanity_val_batches
        elif trainer.testing:
            stage, totals = "test", trainer.num_test_batches
        elif trainer.predicting:
            stage, totals = "predict", trainer.num_predict_batches
        total = totals[dataloader_idx]
        self._show(f"{stage}  batch {batch_idx + 1}" + (f"/{total:.0f}" if math.isfinite(total) else ""))

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Erase the line: the results follow."""
        self._end_line(CLEAR)

    on_predict_end = on_test_end

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the last line."""
        self._end_line()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keep the last line; the message comes below it."""
        self._end_line()

    def _training_line(self, trainer: Trainer) -> str:
        parts = [f"step {self._step}/{self._last}" if self._last else f"step {self._step}"]
        means = {task: float(torch.stack(losses).mean()) for task, losses in sorted(self._losses.items())}
        parts += [f"{task if len(means) > 1 else 'loss'} {mean:.3f}" for task, mean in means.items()]
        targets = int(self._targets) * trainer.world_size  # waits for the GPU, so the clock is read after it
        now = monotonic()
        trained = now - self._paused
        since, before = self._marks[0]
        if trained > since:
            parts.append(f"{(targets - before) / (trained - since):,.0f} tokens/s")
        if self._last:
            seconds = (now - self._started) / (self._step - self._first_step)
            parts.append(f"{_duration(seconds * (self._last - self._step))} left")
        if self._step % self.every == 0:
            self._marks.append((trained, targets))
            self._losses = {}
        return "  ".join(parts)

    def _redraws(self) -> bool:
        return _on_terminal() and monotonic() - self._shown > REFRESH

    def _show(self, line: str) -> None:
        self._shown = monotonic()
        if _on_terminal():
            width = shutil.get_terminal_size().columns
            # a line of the full width would wrap in some terminals, and "\r" goes back to its second part only
            print(CLEAR + line[: width - 1], end="", file=sys.stderr, flush=True)
            self._open_line = True
        else:
            print(line, file=sys.stderr, flush=True)

    def _end_line(self, text: str = "\n") -> None:
        if self._open_line:
            print(text, end="", file=sys.stderr, flush=True)
        self._open_line = False


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def _on_terminal() -> bool:
    return sys.stderr.isatty()
