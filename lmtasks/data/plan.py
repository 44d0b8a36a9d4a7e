"""The plan: the rows of a task in optimiser step k are a pure function of the lengths, the settings and k.

No random state is kept. So a resume needs one integer, the number of steps done. One device with four accumulated
micro-batches takes the same steps from the same rows as four devices. All ranks have equally many micro-batches.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np

from lmtasks.errors import InputError

KEPT = 2  # epochs whose orders are in memory: the current one, and the next one, whose batches are prepared ahead


@dataclass(frozen=True, eq=False)
class Plan:
    """The steps of one task: which rows each has, in which order.

    Rows are sorted by (target, source) length and cut into steps of at most `tokens_per_step` padded tokens, where the
    longer of source and target counts. Each epoch has every row once, and shuffles the steps and the rows of equal
    length anew.
    """

    lengths: np.ndarray
    """(rows, 2) tokens of source and target."""
    targets: np.ndarray
    """(rows,) number of targets; the loss is averaged over them."""
    tokens_per_step: int
    """Padded tokens of an optimiser step, summed over devices and accumulated micro-batches."""
    parts: int = 1
    """Micro-batches of a step: devices x accumulate_grad_batches."""
    seed: int = 1
    """Seed of all orders."""
    _kept: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict, init=False, repr=False)
    """A cache of the orders of the latest epochs."""

    def __post_init__(self) -> None:
        if (rows := len(self.lengths)) < self.parts:
            parts = f"{self.parts} micro-batches per step (devices x accumulate_grad_batches)"
            raise InputError(f"{rows} training rows cannot be split into {parts}; give more rows or fewer devices")

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in which every row is used once."""
        return len(self._bounds) - 1

    @property
    def padding(self) -> float:
        """Share of padding in the padded tokens of source and target together."""
        first, rows = self._bounds[:-1, None], np.diff(self._bounds)[:, None]  # of each step
        part = np.arange(self.parts)
        starts = (first + part * (rows // self.parts) + np.minimum(part, rows % self.parts)).ravel()  # as array_split
        longest = np.maximum.reduceat(self.lengths[_by_length(self.lengths)], starts)  # (micro-batches, 2)
        padded = longest.sum(axis=1) @ np.diff(starts, append=len(self.lengths))
        return float(1 - self.lengths.sum() / padded)

    def step(self, k: int) -> list[np.ndarray]:
        """Return the row numbers of step k = 0, 1, ..., a list of `parts` micro-batches."""
        epoch, index = divmod(k, self.steps_per_epoch)
        order, turn = self._orders(epoch)
        first, last = self._bounds[turn[index] : turn[index] + 2]
        return np.array_split(order[first:last], self.parts)

    def scale(self, step: list[np.ndarray]) -> float:
        """Return the factor for the summed loss of each micro-batch of a step.

        Lightning divides by the accumulated micro-batches and DDP by the devices. With `parts` over the step's targets
        the result is the exact mean over all targets of the step.
        """
        return self.parts / float(sum(self.targets[rows].sum() for rows in step))

    def total(self, units: np.ndarray, steps: int) -> float:
        """Return the sum of `units` (rows,) over the rows of the first `steps` steps."""
        epochs, left = divmod(steps, self.steps_per_epoch)
        order, turn = self._orders(epochs)
        a_step = np.add.reduceat(units[order], self._bounds[:-1])
        return float(epochs * units.sum() + a_step[turn[:left]].sum())

    def _orders(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows sorted by length, ties in random order, and the order of the steps."""
        if epoch not in self._kept:
            random = np.random.default_rng((self.seed, epoch))  # no epoch needs the ones before it
            ties = random.permutation(len(self.lengths))
            order = ties[_by_length(self.lengths[ties])]
            if len(self._kept) == KEPT:  # an order has a number for each row: not all epochs fit into memory
                del self._kept[min(self._kept)]
            self._kept[epoch] = (order, random.permutation(self.steps_per_epoch))
        return self._kept[epoch]

    @cached_property
    def _bounds(self) -> np.ndarray:
        """Bounds of the steps in the sorted rows; the same in each epoch, as only rows of equal length swap."""
        return steps_of(padded_lengths(self.lengths), self.tokens_per_step, self.parts)


def padded_lengths(lengths: np.ndarray) -> np.ndarray:
    """Return the longer of source and target length, (rows,), of `lengths` (rows, 2) sorted as steps are cut."""
    return lengths[_by_length(lengths)].max(axis=1)


def steps_of(padded: np.ndarray, tokens: int, parts: int = 1, ranks: int = 1) -> np.ndarray:
    """Return where steps begin in rows of these `padded` lengths, and where the last one ends.

    A step has at least one row for each of its `parts`, and on each rank at most `tokens` padded tokens. If fewer rows
    than parts are left at the end, they join the last step, above budget.
    """
    bounds, longest = [0], 0
    for row, length in enumerate(padded.tolist()):
        longest = max(longest, length)
        rows = row - bounds[-1]
        rows_per_rank = -(-(rows + 1) // ranks)  # rounded up, with this row
        if rows >= parts and longest * rows_per_rank > tokens:
            bounds.append(row)
            longest = length
    if len(bounds) > 1 and len(padded) - bounds[-1] < parts:
        bounds.pop()  # too few rows are left for another step
    return np.array([*bounds, len(padded)])


def evaluation_batches(lengths: np.ndarray, tokens: int, rank: int = 0, world_size: int = 1) -> list[np.ndarray]:
    """Return the row numbers of this rank's evaluation batches; all ranks together have every row once.

    `lengths` is (rows, 2). The longest rows come first, so that memory runs out at once or never. A batch has at most
    `tokens` padded tokens, the last one a row more. Every rank has equally many batches, none of them empty if there
    are `world_size` rows: a rank with fewer would not answer when the others synchronise.
    """
    order = _by_length(lengths)[::-1]
    bounds = steps_of(lengths[order].max(axis=1), tokens, world_size, world_size)
    steps = [order[first:last] for first, last in pairwise(bounds) if last > first]  # without rows there is no step
    return [np.array_split(rows, world_size)[rank] for rows in steps]


def _by_length(lengths: np.ndarray) -> np.ndarray:
    """Return the stable order by target length, then by source length up and down in turn: neighbours are similar."""
    source, target = lengths.T
    return np.lexsort((np.where(target % 2, -source, source), target))
