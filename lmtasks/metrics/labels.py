"""Accuracy, F1, a table by class and the confusion matrix of classified texts, one label a text or several.

Sokolova and Lapalme, "A systematic analysis of performance measures for classification tasks" (2009), table 3 and 4;
the numbers are those of torchmetrics and scikit-learn.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lmtasks.errors import InputError
from lmtasks.metrics.score import (
    LabelledScore,
    class_table,
    count_labels,
    labelled_scores,
    percent,
    precision_recall_f1,
)


@dataclass(frozen=True, kw_only=True)
class ConfusionScore(LabelledScore):
    """A score with the confusion matrix."""

    confusion: Tensor = field(compare=False)
    """(C, C) whole numbers: how many texts of each actual label got each predicted label."""


def label_scores(predictions: Sequence[str], references: Sequence[str], labels: Sequence[str]) -> ConfusionScore:
    """Score texts that have one label each, as `accuracy` and `macro_f1`, the mean over the labels that occur.

    `labels` is the inventory of labels.

    Raises:
        InputError: The lengths differ, a label is none of the inventory, or the inventory is empty or has one twice.

    Source: Sokolova and Lapalme (2009), table 3.

    >>> score = label_scores(["bad", "good", "good"], ["bad", "good", "bad"], ["bad", "good"])
    >>> {name: round(value) for name, value in score.values.items()}, score.confusion.tolist()
    ({'accuracy': 67, 'macro_f1': 67}, [[1, 1], [0, 1]])
    """
    _check_inventory(labels)
    counts = count_labels([[(label,)] for label in predictions], [[(label,)] for label in references], labels)
    number, size = {label: number for number, label in enumerate(labels)}, len(labels)
    # a pair of labels is a cell of the matrix, whose rows stand one behind the other
    cells = [number[actual] * size + number[given] for given, actual in zip(predictions, references, strict=True)]
    confusion = torch.bincount(torch.tensor(cells, dtype=torch.int64), minlength=size * size).view(size, size)
    by_label = labelled_scores(counts)
    # a label that never occurs has no F1; scikit-learn and torchmetrics leave it out too
    f1 = [by_label[label]["f1"] for label, count in counts.items() if any(count)]
    return ConfusionScore(
        {
            "accuracy": percent([given == actual for given, actual in zip(predictions, references, strict=True)]),
            "macro_f1": sum(f1) / max(1, len(f1)),
        },
        f"rows:{len(references)}|classes:{size}|macro:classes that occur",
        class_table(by_label),
        by_label=by_label,
        confusion=confusion,
    )


def multi_label_scores(
    predictions: Sequence[Collection[str]], references: Sequence[Collection[str]], labels: Sequence[str]
) -> LabelledScore:
    """Score texts that have any number of labels each, as `micro_f1`, `macro_f1` and `subset_accuracy`.

    `macro_f1` is the mean over all labels of the inventory `labels`, `subset_accuracy` the share of rows wholly right.

    Raises:
        InputError: The lengths differ, a row is a text and no collection of labels, a label is none of the inventory,
            or the inventory is empty or has one twice.

    Source: Sokolova and Lapalme (2009), table 4.

    >>> score = multi_label_scores([["sport"], []], [["sport", "politics"], []], ["sport", "politics"])
    >>> {name: round(value) for name, value in score.values.items()}
    {'micro_f1': 67, 'macro_f1': 50, 'subset_accuracy': 50}
    """
    _check_inventory(labels)
    for row, given in [*enumerate(predictions, 1), *enumerate(references, 1)]:
        if isinstance(given, str):
            raise InputError(f"row {row}: {given!r}, expected a list of labels")
    ours, theirs = ([{(label,) for label in row} for row in rows] for rows in (predictions, references))
    counts = count_labels(ours, theirs, labels)
    by_label = labelled_scores(counts)
    totals = map(sum, zip(*counts.values(), strict=True))  # right, predicted, actual
    return LabelledScore(
        {
            "micro_f1": precision_recall_f1(*totals)["f1"],
            "macro_f1": sum(row["f1"] for row in by_label.values()) / len(counts),
            "subset_accuracy": percent([given == actual for given, actual in zip(ours, theirs, strict=True)]),
        },
        f"rows:{len(ours)}|classes:{len(counts)}|macro:all classes",
        class_table(by_label),
        by_label=by_label,
    )


def _check_inventory(labels: Sequence[str]) -> None:
    if not labels or len(set(labels)) != len(labels):
        raise InputError(f"labels {list(labels)}: expected at least one, each once")
