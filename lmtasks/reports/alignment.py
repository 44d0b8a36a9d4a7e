"""Alignments: how much of its attention the decoder gives each source token for each target token.

The picture is that of Bahdanau et al., "Neural machine translation by jointly learning to align and translate" (2015),
figure 3: the source is on the horizontal axis, the target on the vertical one. A darker cell has more attention.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.reports.pictures import draw_cells, picture
from lmtasks.text.columns import columns

if TYPE_CHECKING:
    from torch import Tensor

BLOCKS = ["·", "▁▁", "▂▂", "▃▃", "▄▄", "▅▅", "▆▆", "▇▇", "██"]  # nine heights of a cell in the terminal
CELL_INCHES = 0.42


def as_text(source: Sequence[str], target: Sequence[str], weights: Tensor) -> str:
    """Return weights (T, S) for a terminal: a column for each source token, a line for each target token.

    The height of a block is the share of the attention of its line, from 0 to 1.
    """
    labels = [_shown(piece) for piece in target]
    width = max(map(columns, labels), default=0)
    lines = [" " * (width + 2) + "│  " * column + _shown(piece) for column, piece in enumerate(source)]
    for label, row in zip(labels, weights.tolist(), strict=True):
        blocks = [BLOCKS[round(min(max(weight, 0.0), 1.0) * (len(BLOCKS) - 1))] for weight in row]
        cells = " ".join(f"{block:<2}" for block in blocks)
        lines.append(f"{' ' * (width - columns(label))}{label}  {cells}".rstrip())
    return "\n".join(lines)


def draw(source: Sequence[str], target: Sequence[str], weights: Tensor, path: str | Path, title: str = "") -> None:
    """Write weights (T, S) as a picture to `path`.

    Raises: InputError if matplotlib is missing.
    """
    width = max(CELL_INCHES * len(source) + 2.2, 4.0)
    with picture(path, width, CELL_INCHES * len(target) + 2.0) as figure:
        axes = figure.add_subplot()
        image = draw_cells(axes, weights.numpy(), "Blues", 0, 1)
        axes.xaxis.tick_top()
        places = [column + 0.5 for column in range(len(source))]  # the middle of a cell
        axes.set_xticks(places, [_shown(piece) for piece in source], rotation=50, ha="left", rotation_mode="anchor")
        axes.set_yticks([row + 0.5 for row in range(len(target))], [_shown(piece) for piece in target])
        axes.tick_params(length=0, labelsize=11)
        bar = figure.colorbar(image, ax=axes, shrink=min(1.0, 6 / len(target)), aspect=14, pad=0.03, ticks=[0, 0.5, 1])
        bar.outline.set_visible(False)
        bar.set_label("share of attention", fontsize=9)
        bar.ax.tick_params(length=0, labelsize=9)
        if title:
            figure.suptitle("\n".join(textwrap.wrap(title, int(width * 11))), fontsize=12, x=0.02, ha="left")


def _shown(piece: str) -> str:
    """Return a token as a label, with signs for blanks and control characters, which would be invisible."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in piece.strip()) or "␣"
