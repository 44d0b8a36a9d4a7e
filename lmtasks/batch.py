"""Batch: what every head is given, rows of one task padded to one length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

IGNORE = -100  # a target that is no target: cross_entropy's own default for ignore_index


@dataclass(frozen=True)
class Batch:
    """Rows of one task.

    The training loss of a batch is `scale` times the sum of its targets' losses; `scale` is computed from the whole
    optimiser step in advance, so that micro-batches and ranks add up to the exact mean (see `data.plan`).

    Example:
        >>> source = pad([[5, 6, 2], [7, 2]], 0)
        >>> mask = lengths_to_mask([3, 2])
        >>> batch = Batch("translation", source, mask, pad([[8, 2], [9, 9, 2]], IGNORE), torch.tensor([0, 1]))
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
    """(B,) int64 row numbers, for an evaluation that is exact whatever the order."""
    scale: float = 1.0
    """Factor of the summed loss."""
    weight: float = 1.0
    """What the mean loss of the task counts in the step, which `scale` has in it."""

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Return the batch on `device`, without waiting for what is pinned.

        (Lightning moves a frozen dataclass only by its own method, and does not say there that it need not wait.)
        """
        return self._with_tensors(lambda tensor: tensor.to(device, non_blocking=non_blocking or tensor.is_pinned()))

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory, from which a GPU copies without waiting."""
        return self._with_tensors(lambda tensor: tensor.pin_memory())

    def select(self, rows: Sequence[int]) -> Batch:
        """Return the batch of some of the rows, by their places."""
        return self._with_tensors(lambda tensor: tensor[torch.as_tensor(rows, device=tensor.device)])

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> Batch:
        names = ("source", "source_mask", "target", "ids")
        changed: dict[str, Any] = {name: change(getattr(self, name)) for name in names}
        return replace(self, **changed)


def pad(rows: Sequence[Sequence[int] | np.ndarray], value: int) -> Tensor:
    """Put rows of token ids into one (B, T) int64 tensor, filled up on the right with `value`."""
    padded = np.full((len(rows), max(map(len, rows), default=0)), value, dtype=np.int64)
    for line, row in zip(padded, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(padded)


def cut(ids: list[int], max_length: int) -> list[int]:
    """Cut token ids to a limit, but keep the last one, the end."""
    return ids if len(ids) <= max_length else [*ids[: max_length - 1], ids[-1]]


def lengths_to_mask(lengths: Sequence[int]) -> Tensor:
    """Return the (B, max length) bool mask of rows that have these lengths, True = a real token."""
    counts = torch.as_tensor(lengths)
    return torch.arange(int(counts.max()))[None, :] < counts[:, None]
