"""`Score`, what every metric returns, and what several metrics share: means, precision, recall and F1, checks of rows.

van Rijsbergen, "Information Retrieval" (1979), chapter 7.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from lmtasks.errors import InputError
from lmtasks.text.columns import align


@dataclass(frozen=True)
class Score:
    """The numbers of a corpus, and how they were computed."""

    values: dict[str, float]
    """Name -> number, 0 to 100 if it is a share."""
    signature: str
    """The settings of the metric, so that others can repeat it."""

    @property
    def table(self) -> str:
        """The numbers of each class as a table for people; empty for metrics without classes."""
        return ""


@dataclass(frozen=True)
class LabelledScore(Score):
    """A score with the numbers of each label."""

    by_label: dict[str, dict[str, float]]
    """Label -> precision, recall, f1 (0 to 100) and support (how often the label is a right answer)."""

    @property
    def table(self) -> str:
        """Precision, recall, F1 and support as a table for people, a row for each label."""
        shares = ("precision", "recall", "f1")
        lines = [["", *(f"{name:>9}" for name in (*shares, "support"))]]  # columns of one width
        for label, row in self.by_label.items():
            lines.append([label, *(f"{row[name]:.2f}" for name in shares), str(row["support"])])
        return "\n".join(align(lines, left=1))


def percent(shares: Collection[float]) -> float:
    """Return the mean of shares from 0 to 1 in percent, 0 if there are none."""
    return 100 * math.fsum(shares) / max(1, len(shares))  # fsum is exact: the order of the rows changes no digit


def precision_recall_f1(right: int, predicted: int, actual: int) -> dict[str, float]:
    """Return precision, recall and f1, 0 to 100, from counts; 0 instead of a division by 0."""
    return {
        "precision": 100 * right / max(1, predicted),
        "recall": 100 * right / max(1, actual),
        "f1": 200 * right / max(1, predicted + actual),
    }


def count_labels(
    found: Sequence[Collection[tuple]], actual: Sequence[Collection[tuple]], labels: Sequence[str], least: int = 0
) -> dict[str, list[int]]:
    """Count for each label how many of the (label, ...) of all rows were right, predicted and actual.

    Items that a row has twice count once. `labels` is the inventory of at least `least` (0 or 1) labels.

    Raises: InputError if the lengths differ, a label is not in the inventory, or the inventory has faults.
    """
    check_lengths(found, actual)
    counts = {label: [0, 0, 0] for label in labels}
    if len(counts) != len(labels) or len(counts) < least:
        raise InputError(f"labels {list(labels)}: expected {'at least one, ' if least else ''}each once")
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


def check_lengths(predictions: Sequence[object], references: Sequence[object]) -> None:
    """Check that there are as many predictions as references.

    Raises: InputError if not.
    """
    if len(predictions) != len(references):
        raise InputError(f"{len(predictions)} predictions but {len(references)} references; give one for each row")


def check_references(predictions: Sequence[object], references: Sequence[Sequence[str]], least: int = 1) -> None:
    """Check that there is a list of references for each prediction.

    Raises: InputError if the lengths differ, or a row has a text instead of a list, or fewer than `least` (0, 1) texts.
    """
    check_lengths(predictions, references)
    for number, row in enumerate(references, 1):
        if isinstance(row, str) or len(row) < least:
            wanted = "a list of at least one text" if least else "a list of right answers, [] for none"
            raise InputError(f"references, row {number}: {row!r}, expected {wanted}")
