"""The losses of a training: NaN or infinity stops it and names the rows, a loss far above its first one is said.

On one CPU every step is checked before the optimiser moves. Elsewhere a check waits for the device, or for the other
processes, so it comes when losses are logged anyway, before each validation and before each save.
"""

from __future__ import annotations

import logging
import math
from typing import NamedTuple

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor

from lmtasks.errors import InputError

FAR = 2.0  # a loss so many times the first one, which an untrained model has, says that the training diverges
LONG = 50  # steps above that before it is said
MOST = 1000  # micro-batches that wait for a check where nothing is logged
SHOWN = 8  # examples that a message names

logger = logging.getLogger(__name__)


class Taken(NamedTuple):
    """A micro-batch of a task whose loss has not been looked at."""

    step: int
    """Number of the optimiser step, from 1."""
    task: str
    rows: Tensor
    """(B,) numbers of the examples, from 0."""
    sums: Tensor
    """(2,) summed nll and number of targets."""


class Health:
    """What is known of the losses since training began."""

    def __init__(self) -> None:
        self.taken: list[Taken] = []
        self._checked: list[Taken] = []  # by the last check
        self._first: dict[str, float] = {}  # loss of each task
        self._above: dict[str, tuple[int, float]] = {}  # step since which the loss is far above, and the last loss
        self._said: set[str] = set()  # tasks that were warned of

    def take(self, step: int, task: str, rows: Tensor, sums: Tensor) -> None:
        """Note a micro-batch; nothing waits for the device."""
        self.taken.append(Taken(step, task, rows, sums))

    def check(self, skips: bool, remedy: str) -> None:
        """Look at all losses since the last check.

        `skips`: whether a step with infinite gradients is skipped, as float16 does until its scale fits; then only
        losses that are all infinite stop the training.

        Raises: InputError if one is not finite, in all processes.
        """
        taken, self.taken, self._checked = self.taken, [], self.taken
        means: dict[str, list[float]] = {}
        broken = None
        for each, (nll, count) in zip(taken, _numbers(taken), strict=True):
            if math.isfinite(nll):
                means.setdefault(each.task, []).append(nll / max(1.0, count))
            elif broken is None:
                broken = f"step {each.step}: the loss of {each.task} is {nll}, with {_named(each.rows)}"
        broken = None if skips and means else broken
        if found := next(filter(None, _of_all_processes(broken)), None):
            raise InputError(f"{found}; {remedy}")
        for task, several in means.items():
            self._compare(taken[-1].step, task, sum(several) / len(several))

    def named(self, step: int) -> str:
        """Return the tasks of a step, the last one, with their examples."""
        parts = [each for each in (*self._checked, *self.taken) if each.step == step]
        return "; ".join(f"{each.task} with {_named(each.rows)}" for each in parts)

    def _compare(self, step: int, task: str, loss: float) -> None:
        first = self._first.setdefault(task, loss)
        if loss <= FAR * max(1.0, first):
            self._above.pop(task, None)
            return
        since, _ = self._above.get(task, (step, loss))
        self._above[task] = (since, loss)
        if step - since >= LONG:
            self.warn()

    @rank_zero_only
    def warn(self) -> None:
        """Say which tasks have a loss far above their first one; once for each."""
        for task, (since, loss) in self._above.items():
            if task not in self._said:
                self._said.add(task)
                text = (
                    "the loss of %s is %.4g, and was %.4g at first (since step %d): the training diverges; "
                    "lower model.training.optimizer.lr"
                )
                logger.warning(text, task, loss, self._first[task], since)


def _numbers(taken: list[Taken]) -> list[list[float]]:
    return torch.stack([each.sums for each in taken]).tolist()  # the one wait for the device


def _named(rows: Tensor) -> str:
    """Return the examples of a batch for people, who count from 1."""
    numbers = [str(row + 1) for row in rows.tolist()]
    more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
    return f"training examples {', '.join(numbers[:SHOWN])}{more}"


def _of_all_processes(text: str | None) -> list[str | None]:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [text]
    texts: list[str | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(texts, text)
    return texts
