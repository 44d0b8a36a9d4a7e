"""`Score`, what every metric returns, and what several metrics share: means, precision, recall and F1, checks of rows.

van Rijsbergen, "Information Retrieval" (1979), chapter 7.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from lmtasks.errors import InputError
from lmtasks.text.words import columns


@dataclass(frozen=True)
class Score:
    """The numbers of a corpus, and how they came about."""

    values: dict[str, float]
    """Name -> number, 0 to 100 where it is a share."""
    signature: str
    """The settings of the metric, so that others can repeat it."""
    table: str = ""
    """The numbers of each class, for people."""


@dataclass(frozen=True, kw_only=True)
class LabelledScore(Score):
    """A score with the numbers of each label."""

    by_label: dict[str, dict[str, float]]
    """Label -> precision, recall, f1 (0 to 100) and support (how often the label is a right answer)."""


def percent(shares: Collection[float]) -> float:
    """Return the mean of shares from 0 to 1 in percent, 0 where there are none."""
    return 100 * math.fsum(shares) / max(1, len(shares))  # fsum is exact: the order of the rows changes no digit


def precision_recall_f1(right: int, predicted: int, actual: int) -> dict[str, float]:
    """Return precision, recall and f1, 0 to 100, from counts; 0 where there is nothing to divide by."""
    return {
        "precision": 100 * right / max(1, predicted),
        "recall": 100 * right / max(1, actual),
        "f1": 200 * right / max(1, predicted + actual),
    }


def count_labels(
    found: Sequence[Collection[tuple]], actual: Sequence[Collection[tuple]], labels: Sequence[str]
) -> dict[str, list[int]]:
    """Count for each label how many of the (label, ...) of all rows were right, predicted and actual.

    One that a row has twice counts once.

    Raises:
        InputError: The lengths differ, or a label is none of the inventory `labels`.
    """
    check_lengths(found, actual)
    counts = {label: [0, 0, 0] for label in labels}
    for number, (ours, theirs) in enumerate(zip(found, actual, strict=True), 1):
        predicted, known = set(map(tuple, ours)), set(map(tuple, theirs))
        # whole items are compared, so that an entity is right only with its label and its place
        for place, items in enumerate((predicted & known, predicted, known)):
            for label, *_ in items:
                if label not in counts:
                    raise InputError(f"row {number}: label {label!r}, expected one of {', '.join(counts)}")
                counts[label][place] += 1
    return counts


def labelled_scores(counts: Mapping[str, Sequence[int]]) -> dict[str, dict[str, float]]:
    """Return the scores and the support of each label from its counts of right, predicted and actual."""
    return {label: {**precision_recall_f1(*row), "support": row[2]} for label, row in counts.items()}


def class_table(by_label: Mapping[str, Mapping[str, float]]) -> str:
    """Return a table for people: precision, recall, F1 and support, a row for each label."""
    width = max(map(columns, by_label), default=0)
    lines = [" " * width + "".join(f"  {name:>9}" for name in ("precision", "recall", "f1", "support"))]
    for label, row in by_label.items():
        cells = "".join(f"  {row[name]:>9.2f}" for name in ("precision", "recall", "f1"))
        lines.append(f"{label}{' ' * (width - columns(label))}{cells}  {row['support']:>9}")
    return "\n".join(lines)


def check_lengths(predictions: Sequence[object], references: Sequence[object]) -> None:
    """Refuse rows that do not belong together.

    Raises:
        InputError: There are not as many predictions as references.
    """
    if len(predictions) != len(references):
        raise InputError(f"{len(predictions)} predictions but {len(references)} references; give one for each row")


def check_references(predictions: Sequence[object], references: Sequence[Sequence[str]], least: int = 1) -> None:
    """Refuse rows whose references are no lists.

    Raises:
        InputError: The lengths differ, or a row has a text in place of a list, or fewer than `least` (0 or 1) texts.
    """
    check_lengths(predictions, references)
    for number, row in enumerate(references, 1):
        if isinstance(row, str) or len(row) < least:
            wanted = "a list of at least one text" if least else "a list of right answers, [] for none"
            raise InputError(f"references, row {number}: {row!r}, expected {wanted}")
