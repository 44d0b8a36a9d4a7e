"""Resume: bring Lightning's count of micro-batches in line with the optimiser steps that were done.

Lightning resumes by the number of micro-batches, which is wrong in two cases: when the same step is now made of
another number of them (2 devices before, 1 device that accumulates 2 now), and when a checkpoint was saved between
the micro-batches of a step. The plan knows what belongs to step k, so the steps done are all that has to be known.
"""

from __future__ import annotations

from typing import Any


def recount(checkpoint: dict[str, Any], steps_per_epoch: int, accumulate: int) -> None:
    """Set the counts of micro-batches in a Lightning checkpoint, in place, from its `global_step`."""
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    step = checkpoint["global_step"]
    done = step % steps_per_epoch
    if done == 0 and progress["is_last_batch"]:
        done = steps_per_epoch  # the epoch is over, but Lightning has not yet begun the next one
    for name, ready in (("total", step * accumulate), ("current", done * accumulate)):
        counts = progress[name]
        late = counts["ready"] - counts["completed"]  # 1 where it was saved before the batch was counted as completed
        counts.update(ready=ready, started=ready, processed=ready, completed=ready - late)
