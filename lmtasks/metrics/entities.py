"""Precision, recall and F1 of entities: right are only those with the very label, first and last word.

Tjong Kim Sang and De Meulder, "Introduction to the CoNLL-2003 Shared Task" (2003), section 2.3; the numbers are those
of conlleval and of seqeval in its default mode.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lmtasks.errors import InputError
from lmtasks.metrics.score import LabelledScore, class_table, count_labels, labelled_scores, precision_recall_f1

Entity = tuple[str, int, int]
"""(label, start, stop), in words or in characters."""


def entity_scores(
    found: Sequence[Collection[Entity]], actual: Sequence[Collection[Entity]], labels: Sequence[str]
) -> LabelledScore:
    """Score the entities found in each row against those that are there, as `precision`, `recall` and `f1`.

    The values are those of all labels together (micro), 0 where there are no entities. An entity given twice counts
    once. `labels` is the inventory of labels.

    Raises:
        InputError: The lengths differ, a label is none of the inventory or stands there twice.

    Source: Tjong Kim Sang and De Meulder (2003); conlleval.

    >>> score = entity_scores([[("PER", 0, 2), ("LOC", 3, 4)]], [[("PER", 0, 2)]], ["PER", "LOC"])
    >>> {name: round(value) for name, value in score.values.items()}
    {'precision': 50, 'recall': 100, 'f1': 67}
    """
    counts = count_labels(found, actual, labels)
    if len(counts) != len(labels):
        raise InputError(f"labels {list(labels)}: one of them stands there twice")
    totals = [sum(row[place] for row in counts.values()) for place in range(3)]  # right, predicted, actual
    by_label = labelled_scores(counts)
    return LabelledScore(
        precision_recall_f1(*totals),
        f"entities:{totals[-1]}|match:label+span|average:micro|rules:conlleval",
        class_table(by_label),
        by_label=by_label,
    )
