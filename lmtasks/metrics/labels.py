"""Accuracy, F1, a table by class and the confusion matrix of classified texts, one label a text or several.

Sokolova and Lapalme, "A systematic analysis of performance measures for classification tasks" (2009), table 3 and 4;
the numbers are those of torchmetrics and scikit-learn.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_confusion_matrix

from lmtasks.errors import InputError
from lmtasks.metrics.counts import check_lengths, class_table, number_of, precision_recall_f1
from lmtasks.reports.pictures import picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CELL_INCHES = 0.62
NUMBERED = 25  # classes up to which each cell shows its number
WORDED = 100  # classes up to which each row shows its label


class Labels(Metric):
    """Measure how many texts get their one label, and how well each label is found.

    `labels` is the inventory of labels, each once.

    Source: Sokolova and Lapalme (2009), table 3.

    >>> metric = Labels(["bad", "good"])
    >>> metric.update(["bad", "good", "good"], ["bad", "good", "bad"])
    >>> {name: round(value.item()) for name, value in metric.compute().items()}
    {'accuracy': 67, 'macro_f1': 67}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    confusion: Tensor

    def __init__(self, labels: Sequence[str], sync_on_compute: bool = True) -> None:
        super().__init__(sync_on_compute=sync_on_compute)
        self.labels = list(labels)
        self.numbers = _inventory(self.labels)
        size = len(self.labels)
        self.add_state("confusion", torch.zeros(size, size, dtype=torch.int64), dist_reduce_fx="sum")  # actual, given

    @property
    def counts(self) -> Tensor:
        """How often each label was right, predicted and actual, (C, 3)."""
        return torch.stack([self.confusion.diagonal(), self.confusion.sum(0), self.confusion.sum(1)], dim=-1)

    @property
    def signature(self) -> str:
        """How the scores came about, so that others can repeat them."""
        return f"rows:{self.confusion.sum().item()}|classes:{len(self.labels)}|macro:classes that occur"

    def update(self, predictions: Sequence[str], references: Sequence[str]) -> None:
        """Add rows, one label each.

        Raises:
            InputError: The lengths differ, or a label is none of the inventory.
        """
        check_lengths(predictions, references)
        given, actual = (
            torch.tensor([number_of(label, self.numbers, row) for row, label in enumerate(texts, 1)], dtype=torch.int64)
            for texts in (predictions, references)
        )  # (rows,)
        if len(self.labels) == 1:  # torchmetrics asks for two classes
            self.confusion += len(given)
        elif len(given):
            self.confusion += multiclass_confusion_matrix(given, actual, len(self.labels)).to(self.device)

    def compute(self) -> dict[str, Tensor]:
        """Return accuracy and macro_f1, 0 to 100; macro_f1 is the mean over the labels predicted or actual."""
        counts = self.counts
        accuracy = 100 * counts[:, 0].sum() / counts[:, 2].sum().clamp(min=1)
        occur = counts.sum(-1) > 0  # (C,)
        f1 = precision_recall_f1(counts)[:, 2]
        return {"accuracy": accuracy.float(), "macro_f1": (f1.sum() / occur.sum().clamp(min=1)).float()}

    def table(self) -> str:
        """Return precision, recall, F1 and support of each label as far as this process has counted, for people."""
        return class_table(self.labels, self.counts)


class MultiLabels(Metric):
    """Measure texts that have any number of labels each.

    `labels` is the inventory of labels, each once.

    Source: Sokolova and Lapalme (2009), table 4.

    >>> metric = MultiLabels(["sport", "politics"])
    >>> metric.update([["sport"], []], [["sport", "politics"], []])
    >>> {name: round(value.item()) for name, value in metric.compute().items()}
    {'micro_f1': 67, 'macro_f1': 50, 'subset_accuracy': 50}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    counts: Tensor
    rows: Tensor

    def __init__(self, labels: Sequence[str], sync_on_compute: bool = True) -> None:
        super().__init__(sync_on_compute=sync_on_compute)
        self.labels = list(labels)
        self.numbers = _inventory(self.labels)
        # for each label: right, predicted, actual
        self.add_state("counts", torch.zeros(len(self.labels), 3, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("rows", torch.zeros(2, dtype=torch.int64), dist_reduce_fx="sum")  # all, those wholly right

    @property
    def signature(self) -> str:
        """How the scores came about, so that others can repeat them."""
        return f"rows:{self.rows[0].item()}|classes:{len(self.labels)}|macro:all classes"

    def update(self, predictions: Sequence[Collection[str]], references: Sequence[Collection[str]]) -> None:
        """Add rows, a collection of labels each, which may be empty.

        Raises:
            InputError: The lengths differ, a label is none of the inventory, or a row is a text and no collection.
        """
        check_lengths(predictions, references)
        given, actual = (
            torch.tensor([self._hot(labels, row) for row, labels in enumerate(rows, 1)], dtype=torch.int64).view(
                -1, len(self.labels)
            )
            for rows in (predictions, references)
        )  # (rows, C)
        self.counts += torch.stack([(given & actual).sum(0), given.sum(0), actual.sum(0)], dim=-1).to(self.device)
        self.rows += torch.stack([torch.tensor(len(given)), (given == actual).all(-1).sum()]).to(self.device)

    def compute(self) -> dict[str, Tensor]:
        """Return micro_f1, macro_f1 (the mean over all labels) and subset_accuracy (rows wholly right), 0 to 100."""
        rows, right = self.rows
        return {
            "micro_f1": precision_recall_f1(self.counts.sum(0))[2].float(),
            "macro_f1": (precision_recall_f1(self.counts)[:, 2].sum() / max(1, len(self.labels))).float(),
            "subset_accuracy": 100 * right / rows.clamp(min=1),
        }

    def table(self) -> str:
        """Return precision, recall, F1 and support of each label as far as this process has counted, for people."""
        return class_table(self.labels, self.counts)

    def _hot(self, labels: Collection[str], row: int) -> list[int]:
        if isinstance(labels, str):
            raise InputError(f"row {row}: {labels!r}, expected a list of labels")
        chosen = {number_of(label, self.numbers, row) for label in labels}
        return [int(number in chosen) for number in range(len(self.labels))]


def draw_confusion(confusion: Tensor, labels: Sequence[str], path: str | Path, title: str = "") -> None:
    """Write a confusion matrix (C, C), actual label by predicted label, as a picture: .png, .svg or .pdf.

    Colour is the share of the actual label's texts, the number in a cell how many there are.

    Raises:
        InputError: If matplotlib is missing.
    """
    counts = confusion.cpu()
    shares = 100 * counts / counts.sum(1, keepdim=True).clamp(min=1)
    size = len(labels)
    cell = CELL_INCHES if size <= NUMBERED else CELL_INCHES * NUMBERED / size
    letters = max(map(len, labels), default=0)
    side = max(cell * size, 2)
    with picture(path, side + 1.8 + 0.09 * letters, side + 1.2) as figure:
        axes = figure.add_subplot()
        image = axes.pcolormesh(
            shares.numpy(), cmap="Blues", vmin=0, vmax=100, edgecolors="white", linewidth=min(1.5, 3 * cell)
        )
        axes.set_aspect("equal")
        axes.invert_yaxis()
        _name_axes(axes, labels)
        if size <= NUMBERED:
            _number_cells(axes, counts, shares)
        bar = figure.colorbar(image, ax=axes, shrink=min(1.0, 3.0 / side), aspect=14, pad=0.03, ticks=[0, 50, 100])
        bar.outline.set_visible(False)
        bar.set_label("% of the actual label", fontsize=9)
        bar.ax.tick_params(length=0, labelsize=9)
        if title:
            axes.set_title(title, fontsize=12, loc="left", pad=12)


def _name_axes(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_xlabel("predicted", fontsize=11, labelpad=8)
    axes.set_ylabel("actual", fontsize=11, labelpad=8)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=10 if len(labels) <= NUMBERED else 6)
    places = [number + 0.5 for number in range(len(labels))] if len(labels) <= WORDED else []
    shown = list(labels) if places else []
    axes.set_yticks(places, shown)
    if max(map(len, labels), default=0) <= 4 and len(labels) <= NUMBERED:
        axes.set_xticks(places, shown)
    else:
        axes.set_xticks(places, shown, rotation=45, ha="right", rotation_mode="anchor")


def _number_cells(axes: Axes, counts: Tensor, shares: Tensor) -> None:
    for row, (numbers, parts) in enumerate(zip(counts.tolist(), shares.tolist(), strict=True)):
        for column, (number, share) in enumerate(zip(numbers, parts, strict=True)):
            colour = "white" if share > 55 else "#1f2d3d" if number else "#b8c4d0"
            axes.text(column + 0.5, row + 0.5, f"{number:,}", ha="center", va="center", fontsize=9, color=colour)


def _inventory(labels: list[str]) -> dict[str, int]:
    numbers = {label: number for number, label in enumerate(labels)}
    if not labels or len(numbers) != len(labels):
        raise InputError(f"labels {labels}: expected at least one, each once")
    return numbers
