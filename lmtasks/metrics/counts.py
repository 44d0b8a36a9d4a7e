"""Precision, recall and F1 from what adds up: how many were right, predicted, and there to be found.

van Rijsbergen, "Information Retrieval" (1979), chapter 7. Rows of texts are summed as whole numbers too: each score
between 0 and 1 counts in units of 2^-32, so that no order of the rows and no split over processes changes the sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from lmtasks.errors import InputError
from lmtasks.reports.pictures import columns

UNIT = 1 << 32  # two billion rows fit into 63 bits, and each is exact to ten digits
COLUMNS = ("precision", "recall", "f1", "support")


def units(scores: Iterable[float]) -> int:
    """Return the sum of scores from 0 to 1, in whole units of 2^-32."""
    return sum(round(score * UNIT) for score in scores)


def precision_recall_f1(counts: Tensor) -> Tensor:
    """Return shares from 0 to 100 for counts (..., 3) of right, predicted and actual; 0 where there are none.

    The answer is (..., 3): precision, recall and F1.
    """
    right, predicted, actual = counts.double().unbind(-1)
    parts = [right / predicted.clamp(min=1), right / actual.clamp(min=1), 2 * right / (predicted + actual).clamp(min=1)]
    return 100 * torch.stack(parts, dim=-1)


def class_table(labels: Sequence[str], counts: Tensor) -> str:
    """Return a table for people: precision, recall, F1 and support of each label, from counts (C, 3)."""
    width = max(map(columns, labels), default=0)
    lines = [" " * width + "".join(f"  {name:>9}" for name in COLUMNS)]
    for label, shares, support in zip(labels, precision_recall_f1(counts).tolist(), counts[:, 2].tolist(), strict=True):
        cells = "".join(f"  {share:>9.2f}" for share in shares)
        lines.append(f"{label}{' ' * (width - columns(label))}{cells}  {support:>9}")
    return "\n".join(lines)


def number_of(label: str, numbers: Mapping[str, int], row: int) -> int:
    """Return the number of a label in the inventory.

    Raises:
        InputError: It is none of them; `row` says where it stands.
    """
    if label not in numbers:
        raise InputError(f"row {row}: label {label!r}, expected one of {', '.join(numbers)}")
    return numbers[label]


def check_lengths(predictions: Sequence[object], references: Sequence[object]) -> None:
    """Refuse rows that do not belong together.

    Raises:
        InputError: There are not as many predictions as references.
    """
    if len(predictions) != len(references):
        raise InputError(f"{len(predictions)} predictions but {len(references)} references; give one for each row")
