"""Evaluation: the answers of all processes to the rows of one task, scored once.

Answers are gathered by example number and duplicates dropped, so the score is the same at any world size. Losses add up
as sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from lmtasks.backbones.base import Backbone
from lmtasks.backbones.loss import Loss
from lmtasks.batch import Batch
from lmtasks.data.tokenized import TokenizedDataset
from lmtasks.decoding import Decoding
from lmtasks.heads.base import Head
from lmtasks.tasks.base import Answer, Example, Prediction, Task
from lmtasks.text.tokenizer import Tokenizer


@dataclass
class Evaluation:
    """What one pass over the rows of a task has brought so far."""

    answers: dict[int, list[Answer]] = field(default_factory=dict)
    """Number of an example -> its answers, best first; none where the task does not ask for them."""
    nll: float = 0.0
    """Summed negative log-likelihood of the targets in nats."""
    count: int = 0
    """Number of targets."""

    def add(self, batch: Batch, answers: Sequence[list[Answer]], loss: Loss) -> None:
        """Take in a batch."""
        self.answers.update(zip(batch.ids.tolist(), answers, strict=True))
        self.nll += float(loss.nll)
        self.count += int(loss.count)

    @property
    def is_empty(self) -> bool:
        """Whether no example came: a limited evaluation may end before the first batch of a task."""
        return not self.answers and not self.count

    def gathered(self) -> Evaluation:
        """Return what all processes have."""
        merged = Evaluation()
        for part in gather(self):
            merged.answers.update(part.answers)
            merged.nll += part.nll
            merged.count += part.count
        return merged

    def samples(self, task: Task, rows: TokenizedDataset) -> list[Prediction]:
        """Return all rows with their best answers, in the order of the data."""
        ids = sorted(self.answers)
        examples = rows.examples(ids)
        samples = []
        for places in parts_of_rows(examples):
            first = examples[places[0]]
            found = [self.answers[ids[place]] for place in places]
            answers = task.join(found) if all(found) else []
            samples.append(Prediction(first.text, first.reference, first.references, answers, first.group))
        return samples

    def scores(self, task: Task, samples: Sequence[Prediction]) -> dict[str, float]:
        """Return loss (nats a target) and the task's own scores."""
        return {"loss": self.nll / max(1, self.count), **task.score(samples, self.nll, self.count)}


def answers_of(
    backbone: Backbone,
    head: Head,
    task: Task,
    tokenizer: Tokenizer,
    batch: Batch,
    rows: TokenizedDataset,
    decoding: Decoding,
    few: int | None = None,
) -> list[list[Answer]]:
    """Return the answers to the examples of a batch of `rows`, best first.

    With `few`, about so many of all the rows are answered, spread evenly; the others have no answers.
    """
    ids = batch.ids.tolist()
    few = len(rows) if few is None else few
    asked = [place for place, example in enumerate(ids) if few and example % math.ceil(len(rows) / few) == 0]
    answers: list[list[Answer]] = [[] for _ in ids]
    if asked:
        found = head.predict(backbone, batch.select(asked), decoding)
        examples = rows.examples([ids[place] for place in asked])
        for place, several in zip(asked, task.answers(found, examples, tokenizer), strict=True):
            answers[place] = several
    return answers


def parts_of_rows(examples: Sequence[Example]) -> list[list[int]]:
    """Return the places of the examples that are answered as one: those of the same row and group."""
    parts: dict[tuple[int, str], list[int]] = {}
    for place, example in enumerate(examples):
        parts.setdefault((example.row, example.group), []).append(place)
    return list(parts.values())


def gather(own: Any) -> list[Any]:
    """Return what each process has, in the order of their ranks."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return [own]
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, own)
    return parts
