"""TaskExamples: those of a split that are used, and the batches made of them.

They know no trainer and no module, so that a worker process can be given them, however it is started.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from lmtasks.batch import IGNORE, Batch, cut, lengths_to_mask, pad
from lmtasks.data.mixing import Mixture
from lmtasks.data.tokenized import TokenizedDataset


@dataclass(frozen=True, eq=False)
class TaskExamples:
    """The examples of a task in a split that are used."""

    task: str
    """Name of their task."""
    encoded: TokenizedDataset
    """All examples of the split."""
    kept: np.ndarray
    """(examples,) row numbers in `encoded` of those that are used."""
    max_length: int
    """Longest source and target in tokens; the rest is cut off."""
    cuts_target: bool = True
    """Whether targets are cut too; those of one that is not count as one token in `lengths`."""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of source and target, (examples, 2)."""
        longest = (self.max_length, self.max_length if self.cuts_target else 1)
        lengths = np.stack((self.encoded.source.lengths, self.encoded.target.lengths), axis=1)
        return lengths[self.kept].clip(max=longest)

    @property
    def targets(self) -> np.ndarray:
        """Number of targets, over which a loss is averaged, (examples,)."""
        target = self.encoded.target
        counts = target.counts.copy()
        for row in np.flatnonzero((target.lengths > self.max_length) & self.cuts_target).tolist():
            counts[row] = sum(value != IGNORE for value in self._cut(target[row]))
        return counts[self.kept]

    def __len__(self) -> int:
        return len(self.kept)

    def batch(self, ids: np.ndarray | Sequence[int], scale: float = 1.0, weight: float = 1.0) -> Batch:
        """Return some of the examples, by their numbers among those used, as a batch."""
        rows = self.kept[ids]
        source = [self._cut(self.encoded.source[row]) for row in rows]
        target = [self._cut(self.encoded.target[row]) if self.cuts_target else self.encoded.target[row] for row in rows]
        mask = lengths_to_mask([len(row) for row in source])
        numbers = torch.from_numpy(rows)
        return Batch(self.task, pad(source, 0), mask, pad(target, IGNORE), numbers, scale, weight)

    def _cut(self, ids: np.ndarray) -> np.ndarray | list[int]:
        return ids if len(ids) <= self.max_length else cut(ids.tolist(), self.max_length)


@dataclass(frozen=True, eq=False)
class TrainDataset(Dataset):
    """The micro-batches of training: `dataset[k, part]` is a part of step k, a batch of each task that takes part."""

    examples: Mapping[str, TaskExamples]
    """What is learned from, by task."""
    mixture: Mixture
    """Which of them make step k."""

    def __getitem__(self, key: tuple[int, int]) -> tuple[Batch, ...]:
        k, part = key
        batches = []
        for task, rows in self.mixture.step(k).items():
            weight = self.mixture.weight(k, task)
            scale = weight * self.mixture.plans[task].scale(rows)
            batches.append(self.examples[task].batch(rows[part], scale, weight))
        return tuple(batches)


@dataclass(frozen=True, eq=False)
class EvalDataset(Dataset):
    """The batches of an evaluation: `dataset[task, ids]` has those examples of a task."""

    examples: Mapping[str, TaskExamples]
    """What is asked, by task."""

    def __getitem__(self, key: tuple[str, np.ndarray]) -> Batch:
        task, ids = key
        return self.examples[task].batch(ids)
