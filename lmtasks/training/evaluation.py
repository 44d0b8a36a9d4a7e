"""Evaluation: the answers of all processes to the rows of one task, scored once.

Answers are gathered by example number without duplicates, so the score is the same for any number of processes.
Losses are added as sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from lmtasks.backbones.loss import Loss
from lmtasks.batch import Batch, Example
from lmtasks.predict import join_rows
from lmtasks.tasks.base import Answer, Prediction, Task


@dataclass
class Evaluation:
    """The answers and losses of an evaluation of one task so far."""

    examples: dict[int, Example] = field(default_factory=dict)
    """Examples by number, without their token ids."""
    answers: dict[int, list[Answer]] = field(default_factory=dict)
    """Answers by number of the example, best first; an empty list if the task does not ask for them."""
    nll: float = 0.0
    """Summed negative log-likelihood of the targets in nats."""
    count: int = 0
    """Number of targets."""

    def add(self, batch: Batch, answers: Sequence[list[Answer]], loss: Loss | None = None) -> None:
        """Add a batch with its answers, and its loss if the targets are known."""
        ids = batch.ids.tolist()
        # scoring needs only texts, so ids and offsets are not sent to all processes
        slim = (replace(example, source=[], target=[], offsets=[]) for example in batch.examples)
        self.examples.update(zip(ids, slim, strict=True))
        self.answers.update(zip(ids, answers, strict=True))
        if loss is not None:
            self.nll += float(loss.nll)
            self.count += int(loss.count)

    @property
    def is_empty(self) -> bool:
        """Whether there was no example: a limited evaluation may end before the first batch of a task."""
        return not self.answers

    def gathered(self) -> Evaluation:
        """Return the evaluation of all processes together."""
        parts, merged = [self], Evaluation()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            parts *= torch.distributed.get_world_size()
            torch.distributed.all_gather_object(parts, self)  # replaces them, in the order of the ranks
        for part in parts:
            merged.examples.update(part.examples)
            merged.answers.update(part.answers)
            merged.nll += part.nll
            merged.count += part.count
        return merged

    def rows(self, task: Task) -> list[tuple[Example, list[Answer]]]:
        """Return each row of the data with its joined answers, in the order of the data."""
        ids = sorted(self.answers)
        return join_rows(task, [self.examples[i] for i in ids], [self.answers[i] for i in ids])

    def predictions(self, task: Task) -> list[Prediction]:
        """Return all rows with their answers, for scoring."""
        return [
            Prediction(example.text, example.reference, example.references, answers, example.group)
            for example, answers in self.rows(task)
        ]

    def scores(self, task: Task, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Return the loss in nats per target and the scores of the task."""
        return {"loss": self.nll / max(1, self.count), **task.score(predictions, self.nll, self.count)}
