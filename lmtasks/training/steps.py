"""Optimiser steps: how many a run has, and the correction of Lightning's counts of micro-batches."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer


def last_step(trainer: Trainer, steps_per_epoch: int | None) -> int | None:
    """Return the optimiser step at which training ends, None if only time or a callback ends it."""
    # trainer.estimated_stepping_batches would load the data again, and a stateful loader would lose its position
    ends = [trainer.max_steps] if trainer.max_steps > 0 else []
    if trainer.max_epochs is not None and trainer.max_epochs > 0 and steps_per_epoch is not None:
        ends.append(trainer.max_epochs * steps_per_epoch)
    return min(ends, default=None)


def recount(checkpoint: dict[str, Any], steps_per_epoch: int, accumulate: int) -> None:
    """Set the counts of micro-batches in a Lightning checkpoint, in place, from its `global_step`.

    Lightning resumes by the number of micro-batches. It is wrong if a step now has another number of them (2 devices
    before, 1 device that accumulates 2 now), or if the checkpoint was saved between the micro-batches of a step. The
    plan knows the rows of step k, so the number of steps is enough.
    """
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    step = checkpoint["global_step"]
    done = step % steps_per_epoch
    if done == 0 and progress["is_last_batch"]:
        done = steps_per_epoch  # the epoch is over, but Lightning has not yet begun the next one
    for name, ready in (("total", step * accumulate), ("current", done * accumulate)):
        counts = progress[name]
        late = counts["ready"] - counts["completed"]  # 1 where it was saved before the batch was counted as completed
        counts.update(ready=ready, started=ready, processed=ready, completed=ready - late)
