"""Precision, recall and F1 of entities: right are only those with the very label, first and last word.

Tjong Kim Sang and De Meulder, "Introduction to the CoNLL-2003 Shared Task" (2003), section 2.3; the numbers are those
of conlleval and of seqeval in its default mode.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from lmtasks.errors import InputError
from lmtasks.metrics.counts import check_lengths, class_table, number_of, precision_recall_f1

Entity = tuple[str, int, int]
"""(label, start, stop), in words or in characters."""


class Entities(Metric):
    """Measure the entities of each row, all labels together (micro) and each alone.

    `labels` is the inventory of labels, each once.

    Raises:
        InputError: A label stands in the inventory twice.

    Source: Tjong Kim Sang and De Meulder (2003); conlleval.

    >>> entities = Entities(["PER", "LOC"])
    >>> entities.update([[("PER", 0, 2), ("LOC", 3, 4)]], [[("PER", 0, 2)]])
    >>> {name: round(value.item()) for name, value in entities.compute().items()}
    {'precision': 50, 'recall': 100, 'f1': 67}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    counts: Tensor

    def __init__(self, labels: Sequence[str], sync_on_compute: bool = True) -> None:
        super().__init__(sync_on_compute=sync_on_compute)
        self.labels = list(labels)
        self.numbers = {label: number for number, label in enumerate(self.labels)}
        if len(self.numbers) != len(self.labels):
            raise InputError(f"labels {self.labels}: one of them stands there twice")
        # for each label: right, predicted, actual
        self.add_state("counts", torch.zeros(len(self.labels), 3, dtype=torch.int64), dist_reduce_fx="sum")

    @property
    def signature(self) -> str:
        """How the scores came about, so that others can repeat them."""
        return f"entities:{self.counts[:, 2].sum().item()}|match:label+span|average:micro|rules:conlleval"

    def update(self, predictions: Sequence[Collection[Entity]], references: Sequence[Collection[Entity]]) -> None:
        """Add rows: the entities found and those that are there; one given twice counts once.

        Raises:
            InputError: The lengths differ, or a label is none of the inventory.
        """
        check_lengths(predictions, references)
        added = torch.zeros_like(self.counts, device="cpu")  # (C, 3)
        for number, (found, actual) in enumerate(zip(predictions, references, strict=True), 1):
            sets = set(found) & set(actual), set(found), set(actual)
            for column, entities in enumerate(sets):
                for label, _, _ in entities:
                    added[number_of(label, self.numbers, number), column] += 1
        self.counts += added.to(self.device)

    def compute(self) -> dict[str, Tensor]:
        """Return precision, recall and f1 over all labels, 0 to 100; 0 where there are no entities."""
        return dict(zip(("precision", "recall", "f1"), precision_recall_f1(self.counts.sum(0)).float(), strict=True))

    def by_label(self) -> dict[str, dict[str, float]]:
        """Return precision, recall, f1 (0 to 100) and support of each label, as far as this process has counted."""
        shares, support = precision_recall_f1(self.counts).tolist(), self.counts[:, 2].tolist()
        return {
            label: {"precision": row[0], "recall": row[1], "f1": row[2], "support": count}
            for label, row, count in zip(self.labels, shares, support, strict=True)
        }

    def table(self) -> str:
        """Return what `by_label` returns as a table for people."""
        return class_table(self.labels, self.counts)
