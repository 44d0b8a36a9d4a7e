"""Evaluation: the answers of all processes to the rows of one task, scored once.

Answers are gathered by row number and duplicates dropped, so the score is the same at any world size. Losses add up
as sums.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch

from lmtasks.batch import Batch
from lmtasks.data.encoded import Encoded
from lmtasks.loss import Loss
from lmtasks.tasks.base import Task


@dataclass(frozen=True)
class Sample:
    """A row of an evaluation, for people to read."""

    text: str
    reference: str
    prediction: str


@dataclass
class Evaluation:
    """What one pass over the rows of a task has brought so far."""

    answers: dict[int, str] = field(default_factory=dict)
    """Row number -> answer."""
    nll: float = 0.0
    """Summed negative log-likelihood of the targets in nats."""
    count: int = 0
    """Number of targets."""

    def add(self, batch: Batch, answers: list[str], loss: Loss) -> None:
        """Take in a batch."""
        self.answers.update(zip(batch.ids.tolist(), answers, strict=True))
        self.nll += float(loss.nll)
        self.count += int(loss.count)

    def gathered(self) -> Evaluation:
        """Return what all processes have."""
        merged = Evaluation()
        for part in gather(self):
            merged.answers.update(part.answers)
            merged.nll += part.nll
            merged.count += part.count
        return merged

    def scores(self, task: Task, rows: Encoded) -> dict[str, float]:
        """Return loss (nats a target), perplexity and the task's own scores."""
        ids = sorted(self.answers)
        predictions = [self.answers[row] for row in ids]
        loss = self.nll / max(1, self.count)
        own = task.score(predictions, rows.column("reference", ids), rows.column("group", ids))
        return {"loss": loss, "perplexity": math.exp(min(loss, 100.0)), **own}

    def samples(self, rows: Encoded) -> list[Sample]:
        """Return all rows with their answers, in the order of the data."""
        ids = sorted(self.answers)
        texts, references = rows.column("text", ids), rows.column("reference", ids)
        return [Sample(text, right, self.answers[row]) for row, text, right in zip(ids, texts, references, strict=True)]


def gather(own: Any) -> list[Any]:
    """Return what each process has, in the order of their ranks."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return [own]
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, own)
    return parts
