"""Accuracy, F1, a table by class and the confusion matrix of classified texts with one label or several.

Sokolova and Lapalme, "A systematic analysis of performance measures for classification tasks" (2009), tables 3 and 4;
the numbers are those of torchmetrics and scikit-learn.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lmtasks.errors import InputError
from lmtasks.metrics.score import LabelledScore, count_labels, labelled_scores, percent, precision_recall_f1


@dataclass(frozen=True)
class ConfusionScore(LabelledScore):
    """A score with the confusion matrix."""

    confusion: Tensor = field(compare=False)  # == of tensors is a tensor
    """(C, C) whole numbers: how many texts of each actual label got each predicted label."""


def label_scores(predictions: Sequence[str], references: Sequence[str], labels: Sequence[str]) -> ConfusionScore:
    """Score texts that have one label each, as `accuracy` and `macro_f1`, the mean over the labels that occur.

    `labels` is the inventory of labels.

    Raises: InputError if the lengths differ, a label is not in the inventory, or the inventory is empty or repeats one.

    Source: Sokolova and Lapalme (2009), table 3.

    >>> score = label_scores(["bad", "good", "good"], ["bad", "good", "bad"], ["bad", "good"])
    >>> {name: round(value) for name, value in score.values.items()}, score.confusion.tolist()
    ({'accuracy': 67, 'macro_f1': 67}, [[1, 1], [0, 1]])
    """
    counts = count_labels([[(label,)] for label in predictions], [[(label,)] for label in references], labels, least=1)
    number, size = {label: number for number, label in enumerate(labels)}, len(labels)
    pairs = list(zip(references, predictions, strict=True))
    # a pair of labels is a cell of the flattened matrix
    cells = torch.tensor([number[actual] * size + number[given] for actual, given in pairs], dtype=torch.int64)
    confusion = torch.bincount(cells, minlength=size * size).view(size, size)
    by_label = labelled_scores(counts)
    # a label that never occurs has no F1; scikit-learn and torchmetrics leave it out too
    f1 = [by_label[label]["f1"] for label, count in counts.items() if any(count)]
    accuracy = percent([given == actual for actual, given in pairs])
    values = {"accuracy": accuracy, "macro_f1": sum(f1) / max(1, len(f1))}
    signature = f"rows:{len(references)}|classes:{size}|macro:classes that occur"
    return ConfusionScore(values, signature, by_label, confusion)


def multi_label_scores(
    predictions: Sequence[Collection[str]], references: Sequence[Collection[str]], labels: Sequence[str]
) -> LabelledScore:
    """Score texts that have any number of labels each, as `micro_f1`, `macro_f1` and `subset_accuracy`.

    `macro_f1` is the mean over all labels of the inventory `labels`. `subset_accuracy` is the share of the rows with
    exactly the right labels.

    Raises: InputError as `label_scores`, and if a row is a text instead of a collection of labels.

    Source: Sokolova and Lapalme (2009), table 4.

    >>> score = multi_label_scores([["sport"], []], [["sport", "politics"], []], ["sport", "politics"])
    >>> {name: round(value) for name, value in score.values.items()}
    {'micro_f1': 67, 'macro_f1': 50, 'subset_accuracy': 50}
    """
    for row, given in [*enumerate(predictions, 1), *enumerate(references, 1)]:
        if isinstance(given, str):  # its characters would count as labels
            raise InputError(f"row {row}: {given!r}, expected a list of labels")
    ours, theirs = ([{(label,) for label in row} for row in rows] for rows in (predictions, references))
    counts = count_labels(ours, theirs, labels, least=1)
    by_label = labelled_scores(counts)
    totals = map(sum, zip(*counts.values(), strict=True))  # right, predicted, actual
    values = {
        "micro_f1": precision_recall_f1(*totals)["f1"],
        "macro_f1": sum(row["f1"] for row in by_label.values()) / len(counts),
        "subset_accuracy": percent([given == actual for given, actual in zip(ours, theirs, strict=True)]),
    }
    return LabelledScore(values, f"rows:{len(ours)}|classes:{len(counts)}|macro:all classes", by_label)
