"""Documents, the row format of language models: running text with its document boundaries.

Plain text files, each a document or cut at blank lines or at every line; or a column of a table, one document per row.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from lmtasks.data.readers.files import read_lines
from lmtasks.data.readers.formats import file_format, has_columns
from lmtasks.data.readers.table import Files
from lmtasks.errors import InputError

PATTERN = frozenset("*?[")  # characters that make a path a pattern of glob


@dataclass(frozen=True)
class Documents(Files):
    r"""The texts of a language model, from plain files or from a column of a table.

    Before: `poems.txt` with the lines "Over all the hilltops", "is calm.", "", "In all the treetops", and the unit
    "paragraph".
    After: `{"text": "Over all the hilltops\nis calm.", "place": "poems.txt, row 1"}` and
    `{"text": "In all the treetops", "place": "poems.txt, row 4"}`.
    """

    train: str | None = None
    """Training data: a plain text file (also .gz), or several as a pattern, `books/*.txt`; or a table with a column
    "text" (.jsonl .json .csv .tsv .parquet, also .gz), one document per row; or a hub id, `owner/name`."""
    predict: str | None = None
    """Prompts to continue, in the same forms; in a plain text file each line that is not blank is one."""
    unit: Literal["file", "paragraph", "line"] = "file"
    """How to cut plain text into documents: not at all, at blank lines (paragraph), or at every line."""

    def rows(self, split: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the documents of a split as {"text", "place"}; those of plain text are not blank, \\n ends a line."""
        unit = "line" if split == "predict" else self.unit
        for path in self.paths(split):
            if has_columns(path):
                rows = self.table(path, split, columns)
            else:
                rows = ((number, {"text": text}) for number, text in _cut(read_lines(path), unit))
            for number, row in rows:
                yield {**row, "place": f"{path}, row {number}"}

    def paths(self, split: str) -> list[str]:
        """Return the files of a split, those of a pattern sorted by name, or its hub id."""
        (path,) = super().paths(split)
        pattern = Path(path).expanduser()
        if file_format(path) == "hub" or not PATTERN.intersection(path) or pattern.exists():  # a name may have a [
            return [path]
        found = sorted(file for file in glob.glob(str(pattern), recursive=True) if Path(file).is_file())
        if not found:
            raise InputError(f"{path}: no file matches this pattern; * stands for any name and ** for folders too")
        return found


def _cut(lines: Iterable[str], unit: str) -> Iterator[tuple[int, str]]:
    """Yield the documents of a plain text, each with the number of its first line."""
    if unit == "file":
        text = "\n".join(lines)
        yield from [(1, text)] if text.strip() else []
        return
    for blank, group in groupby(enumerate(lines, 1), key=lambda line: not line[1].strip()):
        if unit == "line" and not blank:
            yield from group
        elif not blank:
            numbers, paragraph = zip(*group, strict=True)
            yield numbers[0], "\n".join(paragraph)
