"""The picture of a confusion matrix: which labels a model takes for which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.reports.pictures import picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

CELL_INCHES = 0.62
NUMBERED = 25  # classes up to which each cell shows its number
WORDED = 100  # classes up to which each row shows its label


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
