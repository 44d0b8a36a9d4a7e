"""What the pictures of a confusion matrix and of an alignment share: their files and fonts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.errors import InputError
from lmtasks.text.words import columns as columns  # tables of the same reports need it

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDINGS = (".png", ".svg", ".pdf")
FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "Noto Sans", "Arial Unicode MS")


def check_picture(option: str, path: str | Path) -> None:
    """Refuse a file that no picture can be written to; `option` is how the user named it.

    Raises:
        InputError: It has another ending, or its folder is not there.
    """
    file = Path(path)
    if file.suffix.lower() not in ENDINGS:
        raise InputError(f"{option} {path}: a picture ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    if not file.parent.is_dir():
        raise InputError(f"{option} {path}: there is no folder {file.parent}")


@contextmanager
def picture(path: str | Path, width: float, height: float) -> Iterator[Figure]:
    """Give an empty figure, sizes in inches, to be drawn on, and write it to `path` in the end.

    Raises:
        InputError: If matplotlib is missing.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise InputError("pictures need matplotlib: pip install 'lmtasks[plot]'") from None
    with matplotlib.rc_context({"font.family": _fonts(), "svg.fonttype": "none", "text.parse_math": False}):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        figure.savefig(path, dpi=160, bbox_inches="tight", pad_inches=0.15)


def _fonts() -> list[str]:
    """Return the fonts that are here, in the order in which to look for a character."""
    from matplotlib import font_manager

    present = set(font_manager.get_font_names())
    return [font for font in FONTS if font in present]
