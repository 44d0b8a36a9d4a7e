"""Optimiser steps: how many a run has, and where a resumed run goes on.

A checkpoint is saved between two optimiser steps, and the number of steps done says what follows. Lightning's own
counts of micro-batches, epochs and rows of the log are set from it. They are wrong if a step now has another number of
micro-batches (2 devices before, 1 device that accumulates 2 now), and Lightning 2.6.6 moves them on by one in some
resumes. One fact more is needed: whether a validation was due when the checkpoint was saved, and had not been made.
"""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

COUNTS = ("ready", "started", "processed", "completed")  # of Lightning's loops


def last_step(trainer: Trainer, steps_per_epoch: int | None) -> int | None:
    """Return the optimiser step at which training ends, None if only time or a callback ends it."""
    # trainer.estimated_stepping_batches would load the data again, and a stateful loader would lose its position
    ends = [trainer.max_steps] if trainer.max_steps > 0 else []
    if trainer.max_epochs is not None and trainer.max_epochs > 0 and steps_per_epoch is not None:
        ends.append(trainer.max_epochs * steps_per_epoch)
    return min(ends, default=None)


def recount(checkpoint: dict[str, Any], steps_per_epoch: int, accumulate: int) -> None:
    """Set the counts in a Lightning checkpoint, in place, to those between two steps, from its `global_step`."""
    loops, step = checkpoint["loops"]["fit_loop"], checkpoint["global_step"]
    epoch, done = divmod(step, steps_per_epoch)
    began = epoch + (done > 0)  # an epoch that is over is behind us, whether or not its end was saved
    batches, epochs = loops["epoch_loop.batch_progress"], loops["epoch_progress"]
    batches["total"].update(dict.fromkeys(COUNTS, step * accumulate))
    batches["current"].update(dict.fromkeys(COUNTS, done * accumulate))
    batches["is_last_batch"] = False
    for counts in (epochs["total"], epochs["current"]):
        counts.update(ready=began, started=began, processed=epoch, completed=epoch)
    for counts in (loops["epoch_loop.val_loop.batch_progress"][name] for name in ("total", "current")):
        counts.update(dict.fromkeys(COUNTS, 0))
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] = step


def lift_limits(trainer: Trainer) -> tuple[int, int | None]:
    """Take away and return the limits of steps and epochs: Lightning starts nothing where no step is left.

    The validation after the last step may still be due; `go_on` sets the limits back.
    """
    limits = trainer.fit_loop.max_steps, trainer.fit_loop.max_epochs
    trainer.fit_loop.epoch_loop.max_steps = trainer.fit_loop.max_epochs = -1
    return limits


def go_on(trainer: Trainer, steps_per_epoch: int, limits: tuple[int, int | None] | None) -> None:
    """Begin with the next step, in `on_train_start`; `limits` of `lift_limits`: first validate, which was due."""
    fit, loop = trainer.fit_loop, trainer.fit_loop.epoch_loop
    step, epochs = trainer.global_step, fit.epoch_progress.current
    loop.val_loop.restarting = False
    if limits is not None:
        loop.max_steps, fit.max_epochs = limits
        before = epochs.completed
        # its rows of the log are those of the step before, in the epoch of that step
        loop._batches_that_stepped, epochs.completed = step - 1, (step - 1) // steps_per_epoch
        trainer.validating = True
        loop.val_loop.run()
        trainer.training = True
        loop._batches_that_stepped, epochs.completed = step, before
    if step % steps_per_epoch == 0:
        loop.restarting = False  # else Lightning goes on within an epoch that it has not begun
    elif loop._should_check_val_fx(fit._data_fetcher):  # type: ignore[arg-type]
        loop._batches_that_stepped -= 1  # Lightning counts the step once more when it passes over the validation


def close_epoch(trainer: Trainer, steps_per_epoch: int) -> None:
    """Count the epoch in which training ended, as Lightning does unless nothing was left to train."""
    epochs = trainer.fit_loop.epoch_progress.current
    epochs.completed = -(-trainer.global_step // steps_per_epoch)


def stop_at_validations(trainer: Trainer) -> None:
    """Let early stopping look at a validation when it ends, and not when the epoch does: it is saved in between."""
    if trainer.enable_validation and trainer.val_check_interval == 1.0 and trainer.check_val_every_n_epoch == 1:  # type: ignore[attr-defined]
        for stop in trainer.early_stopping_callbacks:
            stop._check_on_train_epoch_end = False  # type: ignore[attr-defined]


def stopped_early(trainer: Trainer) -> list[str]:
    """Return why early stopping has ended the training, a line for each callback that did."""
    stops = (stop for stop in trainer.early_stopping_callbacks if isinstance(stop, EarlyStopping))
    ended = [stop for stop in stops if stop.stopping_reason != EarlyStoppingReason.NOT_STOPPED]
    reasons = [(stop.stopping_reason_message or stop.monitor).partition(" Signaling")[0] for stop in ended]
    return [f"early stopping at step {trainer.global_step}: {' '.join(reason.split())}" for reason in reasons]
