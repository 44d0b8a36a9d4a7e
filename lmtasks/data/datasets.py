"""The datasets of training and evaluation: they turn the keys of a sampler into whole batches.

They know no trainer and no module, so that any worker process can be given them, forked or spawned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch.utils.data import Dataset

from lmtasks.batch import IGNORE, Batch
from lmtasks.data.limits import cut
from lmtasks.data.mixing import Mixture
from lmtasks.data.tokenized import TokenizedDataset


@dataclass(frozen=True, eq=False)
class TaskExamples:
    """The examples of one task that are used in a split."""

    task: str
    """Name of their task."""
    tokenized: TokenizedDataset
    """All examples of the split."""
    kept: np.ndarray
    """(examples,) row numbers in `tokenized` of those that are used."""
    max_length: int
    """Longest source and target in tokens; the rest is cut off."""
    pad_id: int = 0
    """Token id that fills up sources."""
    cuts_target: bool = True
    """Whether targets are cut too; if not, they count as one token in `lengths`."""
    answer_every: int = 1
    """Evaluation answers every nth of all examples; 0 = none."""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of source and target, (examples, 2)."""
        longest = (self.max_length, self.max_length if self.cuts_target else 1)
        lengths = np.empty((len(self), 2), np.int32)
        for side, tokens in enumerate((self.tokenized.source, self.tokenized.target)):
            lengths[:, side] = tokens.lengths[self.kept].clip(max=longest[side])
        return lengths

    @property
    def targets(self) -> np.ndarray:
        """Number of targets, over which the loss is averaged, (examples,)."""
        target = self.tokenized.target
        counts = target.counts.copy()
        for row in np.flatnonzero((target.lengths > self.max_length) & self.cuts_target).tolist():
            counts[row] = sum(value != IGNORE for value in self._cut(target[row]))  # those beyond the cut do not count
        return counts[self.kept]

    def __len__(self) -> int:
        """Return the number of examples that are used."""
        return len(self.kept)

    def batch(self, ids: np.ndarray | Sequence[int], scale: float = 1.0, weight: float = 1.0) -> Batch:
        """Return examples, by their numbers among those used, as a batch of token ids."""
        rows, source, target = self.kept[ids], self.tokenized.source, self.tokenized.target
        sources = [self._cut(source[row]) for row in rows]
        targets = [self._cut(target[row]) if self.cuts_target else target[row] for row in rows]
        return Batch.of_ids(self.task, sources, targets, self.pad_id, rows, scale, weight)

    def evaluation_batch(self, ids: np.ndarray | Sequence[int]) -> Batch:
        """Return the same batch with the examples themselves, which answers and scores need."""
        batch, rows = self.batch(ids), self.kept[ids].tolist()
        # by the number of the example in the split: the same ones whatever the batches and devices
        asked = tuple(place for place, row in enumerate(rows) if self.answer_every and row % self.answer_every == 0)
        return replace(batch, examples=tuple(self.tokenized.examples(rows)), asked=asked)

    def _cut(self, ids: np.ndarray) -> np.ndarray | list[int]:
        return ids if len(ids) <= self.max_length else cut(ids.tolist(), self.max_length)


@dataclass(frozen=True, eq=False)
class TrainDataset(Dataset):
    """The micro-batches of training: `dataset[k, part]` has one batch for each task that takes part in step k."""

    examples: Mapping[str, TaskExamples]
    """The training examples, by task."""
    mixture: Mixture
    """Which of them make up step k."""

    def __getitem__(self, key: tuple[int, int]) -> tuple[Batch, ...]:
        """Return the batches of one micro-batch."""
        k, part = key
        batches = []
        for task, rows in self.mixture.step(k).items():
            weight = self.mixture.weight(k, task)
            scale = weight * self.mixture.plans[task].scale(rows)
            batches.append(self.examples[task].batch(rows[part], scale, weight))
        return tuple(batches)


@dataclass(frozen=True, eq=False)
class EvalDataset(Dataset):
    """The batches of an evaluation: `dataset[task, ids]` has these examples of a task."""

    examples: Mapping[str, TaskExamples]
    """The examples to evaluate, by task."""

    def __getitem__(self, key: tuple[str, np.ndarray]) -> Batch:
        """Return a batch that carries its examples."""
        task, ids = key
        return self.examples[task].evaluation_batch(ids)
