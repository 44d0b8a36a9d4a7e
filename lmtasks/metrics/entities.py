"""Precision, recall and F1 of entities: only those with the same label, first and last word are right.

Tjong Kim Sang and De Meulder, "Introduction to the CoNLL-2003 Shared Task" (2003), section 2.3; the numbers are those
of conlleval and of seqeval in its default mode.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lmtasks.metrics.score import LabelledScore, count_labels, labelled_scores, precision_recall_f1

Entity = tuple[str, int, int]
"""(label, start, stop), in words or in characters."""


def entity_scores(
    found: Sequence[Collection[Entity]], actual: Sequence[Collection[Entity]], labels: Sequence[str]
) -> LabelledScore:
    """Score the entities found in each row against the actual ones, as `precision`, `recall` and `f1`.

    The values count the entities of all labels together (micro average), 0 if there are none. An entity given twice
    counts once. `labels` is the inventory of labels.

    Raises: InputError if the lengths differ, a label is not in the inventory, or the inventory has a label twice.

    Source: Tjong Kim Sang and De Meulder (2003); conlleval.

    >>> score = entity_scores([[("PER", 0, 2), ("LOC", 3, 4)]], [[("PER", 0, 2)]], ["PER", "LOC"])
    >>> {name: round(value) for name, value in score.values.items()}
    {'precision': 50, 'recall': 100, 'f1': 67}
    """
    counts = count_labels(found, actual, labels)  # sums of counts, not means of scores: micro average
    right, predicted, known = (sum(row[place] for row in counts.values()) for place in range(3))
    signature = f"entities:{known}|match:label+span|average:micro|rules:conlleval"
    return LabelledScore(precision_recall_f1(right, predicted, known), signature, labelled_scores(counts))
