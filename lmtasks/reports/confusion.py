"""The picture of a confusion matrix: how often a model predicts one label for another."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.reports.pictures import draw_cells, picture

if TYPE_CHECKING:
    from torch import Tensor

CELL_INCHES = 0.62
NUMBERED = 25  # classes up to which each cell shows its number
WORDED = 100  # classes up to which each row shows its label


def draw_confusion(confusion: Tensor, labels: Sequence[str], path: str | Path, title: str = "") -> None:
    """Write a confusion matrix (C, C), actual label by predicted label, as a picture: .png, .svg or .pdf.

    The number in a cell is a number of texts; the colour is their share of all texts with the actual label.

    Raises: InputError if matplotlib is missing.
    """
    counts = confusion.cpu()
    shares = 100 * counts / counts.sum(1, keepdim=True).clamp(min=1)
    size = len(labels)
    numbered = size <= NUMBERED
    cell = CELL_INCHES if numbered else CELL_INCHES * NUMBERED / size
    letters = max(map(len, labels), default=0)
    side = max(cell * size, 2)
    places = [number + 0.5 for number in range(size)] if size <= WORDED else []  # the middle of a cell
    shown = list(labels) if places else []
    short = letters <= 4 and numbered  # longer labels would overlap unless they are slanted
    slant, anchor = (0, "center") if short else (45, "right")
    with picture(path, side + 1.8 + 0.09 * letters, side + 1.2) as figure:
        axes = figure.add_subplot()
        image = draw_cells(axes, shares.numpy(), "Blues", 0, 100, linewidth=min(1.5, 3 * cell))
        axes.set_xlabel("predicted", fontsize=11, labelpad=8)
        axes.set_ylabel("actual", fontsize=11, labelpad=8)
        axes.tick_params(length=0, labelsize=10 if numbered else 6)
        axes.set_yticks(places, shown)
        axes.set_xticks(places, shown, rotation=slant, ha=anchor, rotation_mode="anchor")
        for row, column in product(range(size), repeat=2) if numbered else ():
            number = counts[row, column].item()
            colour = "white" if shares[row, column] > 55 else "#1f2d3d" if number else "#b8c4d0"  # legible on the cell
            axes.text(column + 0.5, row + 0.5, f"{number:,}", ha="center", va="center", fontsize=9, color=colour)
        bar = figure.colorbar(image, ax=axes, shrink=min(1.0, 3.0 / side), aspect=14, pad=0.03, ticks=[0, 50, 100])
        bar.outline.set_visible(False)
        bar.set_label("% of the actual label", fontsize=9)
        bar.ax.tick_params(length=0, labelsize=9)
        if title:
            axes.set_title(title, fontsize=12, loc="left", pad=12)
