"""What all pictures share: their files and fonts. Only drawing one imports matplotlib."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmtasks.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

ENDINGS = (".png", ".svg", ".pdf")
FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "Noto Sans", "Arial Unicode MS")


def check_picture(option: str, path: str | Path) -> None:
    """Check that a picture can be written to a file; `option` is the command-line option that names it.

    Raises: InputError if the file has another ending, or its folder does not exist.
    """
    file = Path(path)
    if file.suffix.lower() not in ENDINGS:
        raise InputError(f"{option} {path}: a picture ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    if not file.parent.is_dir():
        raise InputError(f"{option} {path}: there is no folder {file.parent}")


@contextmanager
def picture(path: str | Path, width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure of a size in inches to draw on, and write it to `path` at the end.

    Raises: InputError if matplotlib is missing.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
        from matplotlib.font_manager import get_font_names
    except ModuleNotFoundError:
        raise InputError("pictures need matplotlib: pip install 'lmtasks[plot]'") from None
    present = set(get_font_names())
    fonts = [font for font in FONTS if font in present]  # matplotlib looks for each character in this order
    # A $ in a label is no formula, and the text of an SVG stays text.
    with matplotlib.rc_context({"font.family": fonts, "svg.fonttype": "none", "text.parse_math": False}):
        figure = Figure(figsize=(width, height), layout="constrained")  # not pyplot, which keeps figures and a window
        yield figure
        figure.savefig(path, dpi=160, bbox_inches="tight", pad_inches=0.15)


def draw_cells(axes: Axes, values: Any, colours: str, low: float, high: float, linewidth: float = 1.5) -> QuadMesh:
    """Draw a matrix, its first row on top, in the colours of a colour map from `low` to `high`; return the cells."""
    cells = axes.pcolormesh(values, cmap=colours, vmin=low, vmax=high, edgecolors="white", linewidth=linewidth)
    axes.set_aspect("equal")
    axes.invert_yaxis()  # pcolormesh draws its first row at the bottom
    axes.spines[:].set_visible(False)
    return cells
