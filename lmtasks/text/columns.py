"""Columns of a terminal: how many a text takes, and tables whose columns are straight in any script."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes: East Asian characters take two, combining ones none.

    >>> columns("abc"), columns("北京")
    (3, 4)
    """
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)


def align(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Return rows of cells as lines with straight columns: the first `left` flush left, the others flush right.

    >>> align([["task", "bleu"], ["北京", "31.20"]], left=1)
    ['task   bleu', '北京  31.20']
    """
    widths = [max(map(columns, cells)) for cells in zip(*rows, strict=True)]  # str.ljust counts 北京 as 2, not as 4
    lines = []
    for row in rows:
        cells = []
        for place, (width, cell) in enumerate(zip(widths, row, strict=True)):
            blanks = " " * (width - columns(cell))
            cells.append(cell + blanks if place < left else blanks + cell)
        lines.append("  ".join(cells).rstrip())
    return lines
