"""The plan: which rows of a task make up optimiser step k is a pure function of lengths, settings and k.

Nothing is drawn while training runs. A resume needs one integer, the number of steps done; one device with four
accumulated micro-batches takes the same steps from the same rows as four devices; every rank has equally many
micro-batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lmtasks.errors import InputError

KEPT = 2  # epochs whose orders are in memory: that of now, and the next, from which batches are made ahead


@dataclass(frozen=True, eq=False)
class Plan:
    """The schedule of training.

    Rows are sorted by (target, source) length, equal lengths in an order drawn anew each epoch, and cut into steps of
    at most `tokens_per_step` padded tokens, the longer of source and target counting. Steps come in an order drawn
    anew each epoch. Each epoch has every row once.
    """

    lengths: np.ndarray
    """(rows, 2) tokens of source and target."""
    targets: np.ndarray
    """(rows,) number of targets, over which the loss is averaged."""
    tokens_per_step: int
    """Padded tokens of an optimiser step, over all devices and accumulated micro-batches."""
    parts: int = 1
    """Micro-batches of a step: devices x accumulate_grad_batches."""
    seed: int = 1
    """Seed of all orders."""

    def __post_init__(self) -> None:
        if len(self.lengths) < self.parts:
            raise InputError(
                f"{len(self.lengths)} training rows cannot be dealt to {self.parts} micro-batches a step "
                "(devices x accumulate_grad_batches); give more rows or fewer devices"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in which every row comes once."""
        return len(self._bounds) - 1

    @property
    def padding(self) -> float:
        """Share of padded tokens that are padding, of source and target together."""
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
        """Return what the summed loss of each micro-batch of a step is multiplied by.

        Lightning divides by the accumulated micro-batches and DDP by the devices: times `parts`, over the step's
        targets, that makes the exact mean over all targets of the step.
        """
        return self.parts / float(sum(self.targets[rows].sum() for rows in step))

    def total(self, units: np.ndarray, steps: int) -> float:
        """Return what the rows of the first steps have together; units: (rows,) of each row."""
        passes, left = divmod(steps, self.steps_per_epoch)
        order, turn = self._orders(passes)
        a_step = np.add.reduceat(units[order], self._bounds[:-1])
        return float(passes * units.sum() + a_step[turn[:left]].sum())

    def _orders(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows sorted by length with ties in random order, and the order of the steps."""
        if epoch not in self._kept:
            random = np.random.default_rng((self.seed, epoch))
            ties = random.permutation(len(self.lengths))
            order = ties[_by_length(self.lengths[ties])]
            if len(self._kept) == KEPT:
                del self._kept[min(self._kept)]
            self._kept[epoch] = (order, random.permutation(self.steps_per_epoch))
        return self._kept[epoch]

    @cached_property
    def _kept(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """The orders of the latest epochs."""
        return {}

    @cached_property
    def _bounds(self) -> np.ndarray:
        """Where steps begin and end in the sorted rows; the same for each epoch, since lengths sort the same."""
        return steps_of(padded_lengths(self.lengths), self.tokens_per_step, self.parts)


def padded_lengths(lengths: np.ndarray) -> np.ndarray:
    """Return the longer of source and target, (rows,), of rows (rows, 2) in the order that steps are cut of."""
    return lengths[_by_length(lengths)].max(axis=1)


def steps_of(padded: np.ndarray, tokens_per_step: int, parts: int = 1) -> np.ndarray:
    """Return where steps begin in rows of these `padded_lengths`, and where the last one ends.

    Each has a row at least for each of its parts. Fewer that are left go into the last step, above its budget.
    """
    bounds, longest = [0], 0
    for row, length in enumerate(padded.tolist()):
        longest = max(longest, length)
        rows = row - bounds[-1]
        if rows >= parts and longest * (rows + 1) > tokens_per_step:
            bounds.append(row)
            longest = length
    if len(bounds) > 1 and len(padded) - bounds[-1] < parts:
        bounds.pop()  # too few rows are left for a step of their own
    return np.array([*bounds, len(padded)])


def _by_length(lengths: np.ndarray) -> np.ndarray:
    """Return the stable order by target length, sources climbing and falling in turn: neighbours are always alike."""
    source, target = lengths.T
    return np.lexsort((np.where(target % 2, -source, source), target))


def evaluation_batches(lengths: np.ndarray, tokens: int, rank: int = 0, world_size: int = 1) -> list[np.ndarray]:
    """Return the row numbers of this rank's evaluation batches: all ranks together have every row once.

    lengths: (rows, 2). Longest first, so that memory runs out at once or never; at most `tokens` padded tokens a
    batch, and a row more in the last. Every rank has equally many batches, none of them empty where there are
    `world_size` rows: one that has fewer would not answer when the others synchronise.
    """
    order = _by_length(lengths)[::-1]
    return [np.array_split(rows, world_size)[rank] for rows in _pack(order, lengths, tokens, world_size)]


def _pack(order: np.ndarray, lengths: np.ndarray, tokens: int, parts: int) -> Iterator[np.ndarray]:
    """Cut the rows into groups that, dealt to `parts`, have at most `tokens` padded tokens a part."""
    first, longest = 0, 0
    for i, row in enumerate(order):
        length = int(lengths[row].max())
        longest = max(longest, length)
        rows_a_part = -(-(i + 1 - first) // parts)
        if i - first >= parts and len(order) - i >= parts and longest * rows_a_part > tokens:
            yield order[first:i]
            first, longest = i, length
    if len(order) > first:
        yield order[first:]
