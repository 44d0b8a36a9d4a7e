"""The learning rate over the optimiser steps: a warm-up, then a decay or no change.

Vaswani et al. 2017, section 5.3; Loshchilov and Hutter 2017, "SGDR", section 3 (half a cosine, without restarts).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lmtasks.checked import Checked
from lmtasks.errors import InputError


@dataclass(frozen=True)
class Schedule(Checked):
    """The learning rate over the steps, as a factor of its peak.

    Example:
        >>> Schedule("linear", warmup=10).factor(5, steps=100)
        0.5
    """

    setting = "model.training.schedule"

    kind: Literal["inverse_sqrt", "cosine", "linear", "constant"] = "inverse_sqrt"
    """What follows the warm-up: 1 / sqrt(step) (Vaswani et al. 2017, section 5.3), half a cosine, a line to the end,
    or no change."""
    warmup: int = 1000
    """Steps over which the rate rises linearly from 0 to its peak."""
    final: float = 0.0
    """Factor at the last step, of cosine and linear."""

    def build(self, optimizer: Optimizer, steps: int | None) -> LambdaLR:
        """Return the schedule for a run of `steps` optimiser steps; None if their number is not known.

        Raises: InputError if cosine or linear lack the number of steps, or the run is not longer than the warm-up.
        """
        self.check(steps)
        # LambdaLR counts the steps that are done
        return LambdaLR(optimizer, lambda done: self.factor(done + 1, steps or 0))

    def check(self, steps: int | None) -> None:
        """Raise InputError if a run of `steps` optimiser steps does not suit this schedule; see `build`."""
        if self.kind in ("inverse_sqrt", "constant"):
            return  # they have no end
        if steps is None:
            raise InputError(
                f"model.training.schedule: {self.kind} needs the end of the run; set trainer.max_steps or max_epochs"
            )
        if steps <= self.warmup:
            raise InputError(
                f"model.training.schedule: the warm-up takes {self.warmup} steps and the whole run only {steps}; "
                "set a shorter warmup"
            )

    def factor(self, step: int, steps: int) -> float:
        """Return the factor of step 1, 2, ... of `steps`."""
        if step < self.warmup:
            return step / self.warmup
        if self.kind == "constant":
            return 1.0
        if self.kind == "inverse_sqrt":
            return math.sqrt(max(1, self.warmup) / max(1, step))
        left = max(0.0, (steps - step) / (steps - self.warmup))
        shape = left if self.kind == "linear" else 0.5 * (1 - math.cos(math.pi * left))
        return self.final + (1 - self.final) * shape
