"""Parallel text, the row format of translation: each row is one sentence in several languages.

Line-parallel plain files, one per language (WMT, Multi30k); a table with a column per language; or a hub set.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from lmtasks.data.readers.files import read_lines
from lmtasks.data.readers.table import Files
from lmtasks.errors import InputError

LANG = "{lang}"


@dataclass(frozen=True)
class ParallelText(Files):
    """Sentences in several languages, from line-parallel files or from tables.

    Before: line 7 of `train.en` is "A dog runs.", line 7 of `train.de` is "Ein Hund rennt."
    After: row 7 of `rows("train", ("en", "de"))`,
    `{"en": "A dog runs.", "de": "Ein Hund rennt.", "place": "train.{lang}, row 7"}`.
    """

    train: str | None = None
    """Training data: `data/train.{lang}` for line-parallel plain files, where `{lang}` stands for the language code; or
    one table with a column per language (.jsonl .json .csv .tsv .parquet, also .gz); or a hub id, `owner/name`."""
    predict: str | None = None
    """Data to translate, in the same forms; only the source language is needed, so a plain text file will do."""
    columns: dict[str, str] = field(default_factory=dict)
    """Column of a language if it is not the language code: {en: english}; a field in a column: {en: translation.en};
    its position from 1 in a table without a header: {en: "1"}. For line-parallel files it replaces `{lang}`."""

    def rows(self, split: str, columns: Sequence[str]) -> Iterator[dict[str, str | None]]:
        """Yield the rows of a split as {language: text} for the languages in `columns`, and their "place".

        A value that is missing in a table is None, and blank text stays as it is; the caller skips and counts both. If
        files differ in their number of lines, the error comes after the last row.
        """
        (path,) = super().paths(split)
        if LANG in path:
            rows = _side_by_side(dict(zip(columns, self.files(split, columns), strict=True)))
        else:
            rows = self.table(path, split, columns, nested=False)
        yield from ({**row, "place": f"{path}, row {number}"} for number, row in rows)

    def files(self, split: str, columns: Sequence[str]) -> list[str]:
        """Return the files of the languages in `columns`, or the one that has them all."""
        (path,) = super().paths(split)
        named = [path.replace(LANG, self.columns.get(lang, lang)) for lang in columns]
        return named if LANG in path else [path]

    def paths(self, split: str) -> list[str]:
        """Return the files of a split, for `{lang}` those of all languages, or its hub id."""
        (path,) = super().paths(split)
        # escape leaves {lang} as it is, and a folder may be called odd[1]
        found = glob.glob(glob.escape(os.path.expanduser(path)).replace(LANG, "*")) if LANG in path else []
        return sorted(file for file in found if os.path.isfile(file)) or [path]


def _side_by_side(paths: Mapping[str, str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line n of all files, {language: path}, as row n."""
    files = [read_lines(path) for path in paths.values()]
    for number, lines in enumerate(zip_longest(*files)):  # zip would stop without a word about the lines left over
        if None in lines:  # one file has ended: count what the others still have
            rest = [(line is not None) + sum(1 for _ in file) for line, file in zip(lines, files, strict=True)]
            listed = ", ".join(f"{path} has {number + n} lines" for path, n in zip(paths.values(), rest, strict=True))
            raise InputError(f"{listed}; line-parallel files need the same number, line n translating line n")
        yield number + 1, dict(zip(paths, lines, strict=True))
