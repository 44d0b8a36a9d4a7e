"""Example and Batch: a row as token ids, and rows of one task padded to one length, which every head is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

IGNORE = -100  # a position without a target: the default ignore_index of cross_entropy


@dataclass(frozen=True)
class Example:
    """A row as a model sees it, with what scoring needs beside it."""

    source: list[int]
    """Token ids that the encoder reads."""
    target: list[int]
    """What the head must predict; empty where the row has no answer."""
    text: str = ""
    """The source as a person reads it."""
    reference: str = ""
    """The right answer as a person reads it."""
    references: list[str] = field(default_factory=list)
    """The right answers as scorers compare them, where they are several or have another form."""
    offsets: list[int] = field(default_factory=list)
    """Start and stop, one after the other, of the characters of `text` that each source token covers; empty where no
    answer is a part of the text."""
    prefix: list[int] = field(default_factory=list)
    """Tokens with which a written answer must begin, such as the code of its language."""
    group: str = ""
    """Rows that are scored together, such as a translation direction."""
    row: int = 0
    """Which of the rows given it comes from."""


@dataclass(frozen=True)
class Batch:
    """Rows of one task.

    The training loss of a batch is `scale` times the sum of its targets' losses; `scale` is computed from the whole
    optimiser step in advance, so that micro-batches and ranks add up to the exact mean (see `data.plan`).

    Example:
        >>> batch = Batch.of("translation", [Example([5, 6, 2], [8, 2]), Example([7, 2], [9, 9, 2])], pad_id=0)
        >>> batch.target.tolist()
        [[8, 2, -100], [9, 9, 2]]
    """

    task: str
    """Name of the task, the key of its head."""
    source: Tensor
    """(B, S) int64 token ids."""
    source_mask: Tensor
    """(B, S) bool, True = a real token."""
    target: Tensor
    """What the head must predict, IGNORE where there is nothing: (B, T) tokens, (B, 1) class or (B, C) truth of each
    class, (B, 2) first and last token of a span, (B, S) tags at the first piece of each word."""
    ids: Tensor
    """(B,) int64 row numbers, for an evaluation that is exact in any order."""
    scale: float = 1.0
    """Factor of the summed loss."""
    weight: float = 1.0
    """Weight of the task's mean loss in the step; `scale` contains it."""
    examples: tuple[Example, ...] = ()
    """What the rows are made of, in evaluation: answers and scores are made from it. Empty in training."""
    asked: tuple[int, ...] | None = None
    """Places of the rows that an evaluation answers; None = all."""

    @classmethod
    def of(
        cls, task: str, examples: Sequence[Example], pad_id: int, ids: Sequence[int] | np.ndarray | None = None
    ) -> Batch:
        """Return examples as a batch that carries them; `ids` are their numbers, 0, 1, ... by default."""
        sources, targets = [each.source for each in examples], [each.target for each in examples]
        batch = cls.of_ids(task, sources, targets, pad_id, range(len(examples)) if ids is None else ids)
        return replace(batch, examples=tuple(examples))

    @classmethod
    def of_ids(
        cls,
        task: str,
        sources: Sequence[Sequence[int] | np.ndarray],
        targets: Sequence[Sequence[int] | np.ndarray],
        pad_id: int,
        ids: Sequence[int] | np.ndarray,
        scale: float = 1.0,
        weight: float = 1.0,
    ) -> Batch:
        """Return rows of source and target ids as a batch."""
        mask = lengths_to_mask([len(row) for row in sources])
        numbers = torch.from_numpy(np.array(list(ids), dtype=np.int64))
        return cls(task, pad(sources, pad_id), mask, pad(targets, IGNORE), numbers, scale, weight)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.ids)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Return the batch on `device`; pinned memory is copied without waiting.

        (Lightning moves a frozen dataclass only by its own method, and does not pass `non_blocking` there.)
        """
        return self._with_tensors(lambda tensor: tensor.to(device, non_blocking=non_blocking or tensor.is_pinned()))

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory, from which a GPU copies without waiting."""
        return self._with_tensors(lambda tensor: tensor.pin_memory())

    def select(self, rows: Sequence[int]) -> Batch:
        """Return the batch of some of the rows, by their places."""
        chosen = self._with_tensors(lambda tensor: tensor[torch.as_tensor(rows, device=tensor.device)])
        return replace(chosen, examples=tuple(self.examples[row] for row in rows) if self.examples else (), asked=None)

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> Batch:
        source, mask, target, ids = map(change, (self.source, self.source_mask, self.target, self.ids))
        return replace(self, source=source, source_mask=mask, target=target, ids=ids)


def pad(rows: Sequence[Sequence[int] | np.ndarray], value: int) -> Tensor:
    """Put rows of token ids into one (B, T) int64 tensor, filled up on the right with `value`."""
    padded = np.full((len(rows), max(map(len, rows), default=0)), value, dtype=np.int64)
    for line, row in zip(padded, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(padded)


def longest(lengths: Tensor, limit: int) -> int:
    """Return the largest of the lengths, at least 1, so that no more is computed than is needed.

    It is `limit` where a graph is exported, whose sizes cannot depend on numbers.
    """
    return limit if torch.compiler.is_exporting() else max(1, int(lengths.max()))


def lengths_to_mask(lengths: Sequence[int]) -> Tensor:
    """Return the (B, max length) bool mask of rows that have these lengths, True = a real token."""
    counts = torch.as_tensor(lengths)
    return torch.arange(int(counts.max()))[None, :] < counts[:, None]
