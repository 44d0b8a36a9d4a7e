"""The plan: the rows of a task in optimiser step k are a pure function of the lengths, the settings and k.

No random state is kept. So a resume needs one integer, the number of steps done. One device with four accumulated
micro-batches takes the same steps from the same rows as four devices. All ranks have equally many micro-batches.
"""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np

from lmtasks.errors import InputError

KEPT = 2  # epochs whose orders are in memory: the current one, and the next one, whose batches are prepared ahead
AT_ONCE = 1 << 20  # rows whose lengths are hashed at once


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
        order, longest = _sorted(_keys(self.lengths)), np.zeros(len(starts), np.int64)  # (micro-batches,)
        for side in self.lengths.T:
            longest += np.maximum.reduceat(side[order], starts)
        padded = longest @ np.diff(starts, append=len(self.lengths))
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

    def done(self, steps: int) -> dict[str, float]:
        """Return the rows and the tokens of source and target in the first `steps` steps."""
        epochs, left = divmod(steps, self.steps_per_epoch)
        turn = self._orders(epochs)[1][:left]
        whole = {name: float(epochs * counts.sum()) for name, counts in self._counts.items()}
        return {name: whole[name] + float(counts[turn].sum()) for name, counts in self._counts.items()}

    def _orders(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows sorted by length, ties in random order, and the order of the steps."""
        if epoch not in self._kept:
            random = np.random.default_rng((self.seed, epoch))  # no epoch needs the ones before it
            if len(self._kept) == KEPT:  # an order has a number for each row: not all epochs fit into memory
                del self._kept[min(self._kept)]
            ties = random.permutation(np.arange(len(self.lengths), dtype=_smallest(max(2**16, len(self.lengths)))))
            order = ties[_sorted(tuple(key[ties] for key in self._keys))]
            self._kept[epoch] = (order, random.permutation(self.steps_per_epoch))
        return self._kept[epoch]

    @cached_property
    def _keys(self) -> tuple[np.ndarray, np.ndarray]:
        return _keys(self.lengths)

    @cached_property
    def _bounds(self) -> np.ndarray:
        """Bounds of the steps in the sorted rows; the same in each epoch, as only rows of equal length swap."""
        return steps_of(padded_lengths(self.lengths), self.tokens_per_step, self.parts)

    @cached_property
    def _counts(self) -> dict[str, np.ndarray]:
        """Rows and tokens of each step, by its place in the sorted rows, (steps,); the same in each epoch too."""
        tokens = self.lengths.sum(axis=1)[_sorted(self._keys)]
        return {"rows": np.diff(self._bounds), "tokens": np.add.reduceat(tokens, self._bounds[:-1])}

    @cached_property
    def digest(self) -> str:
        """Eight digits that differ for other lengths of the rows: the beginning of a SHA-256."""
        digest = hashlib.sha256()
        for first in range(0, len(self.lengths), AT_ONCE):
            digest.update(self.lengths[first : first + AT_ONCE].astype("<i8").tobytes())
        return digest.hexdigest()[:8]


def padded_lengths(lengths: np.ndarray) -> np.ndarray:
    """Return the longer of source and target length, (rows,), of `lengths` (rows, 2) sorted as steps are cut."""
    return lengths.max(axis=1)[_sorted(_keys(lengths))]


def steps_of(padded: np.ndarray, tokens: int, parts: int = 1, ranks: int = 1) -> np.ndarray:
    """Return where steps begin in rows of these `padded` lengths, and where the last one ends.

    A step has at least one row for each of its `parts`, and on each rank at most `tokens` padded tokens. If fewer rows
    than parts are left at the end, they join the last step, above budget.
    """
    bounds, first, left = array("q", [0]), 0, len(padded)
    while left:
        most = max(parts, ranks * (tokens // max(1, int(padded[first]))))  # rows, if none is longer than the first
        longest = np.maximum.accumulate(padded[first : first + most + 1])
        rows_per_rank = -(-np.arange(1, len(longest) + 1) // ranks)  # rounded up
        too_many = np.maximum(longest, 1) * rows_per_rank > tokens
        too_many[:parts] = False
        rows = int(too_many.argmax())  # 0: the rest is one step
        rows = rows if rows and left - rows >= parts else left
        first, left = first + rows, left - rows
        bounds.append(first)
    return np.array(bounds if len(bounds) > 1 else [0, 0])


def evaluation_batches(lengths: np.ndarray, tokens: int, rank: int = 0, world_size: int = 1) -> list[np.ndarray]:
    """Return the row numbers of this rank's evaluation batches; all ranks together have every row once.

    `lengths` is (rows, 2). The longest rows come first, so that memory runs out at once or never. A batch has at most
    `tokens` padded tokens, the last one a row more. Every rank has equally many batches, none of them empty if there
    are `world_size` rows: a rank with fewer would not answer when the others synchronise.
    """
    order = _sorted(_keys(lengths))[::-1]
    bounds = steps_of(lengths.max(axis=1)[order], tokens, world_size, world_size)
    steps = [order[first:last] for first, last in pairwise(bounds) if last > first]  # without rows there is no step
    return [np.array_split(rows, world_size)[rank] for rows in steps]


def _keys(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers by which rows are sorted, the last one first: target length, then source length.

    The source counts up and down in turn, so that neighbours are similar.
    """
    source, target = lengths.T
    top = int(source.max(initial=0))
    kind = _smallest(max(top, int(target.max(initial=0))))
    return np.where(target % 2, top - source, source).astype(kind), target.astype(kind)


def _sorted(keys: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the stable order of the rows by their keys."""
    return np.lexsort(keys)


def _smallest(largest: int) -> type[np.integer]:
    """Return a small type for numbers up to the largest: numpy sorts those of 16 bits several times as fast."""
    return np.uint16 if largest < 2**16 else np.int32 if largest < 2**31 else np.int64
