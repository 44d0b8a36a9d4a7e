"""Tagged words, the row format of tagging: each row is a sentence as its words, with a tag for each.

One word a line as CoNLL-2003 has it (Tjong Kim Sang and De Meulder 2003, section 2.2), a character a line for Chinese;
or a table whose rows hold the list of words and the list of tags. The tags stay as the file has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from lmtasks.data.readers.files import read_lines
from lmtasks.data.readers.hub import is_hub_id
from lmtasks.data.readers.table import Files
from lmtasks.errors import InputError

TABLES = (".jsonl", ".json", ".csv", ".parquet")  # a .tsv has one word a line
DOCUMENT = "-DOCSTART-"
DEFAULT = {"words": 0, "tags": -1}  # columns of a file with a word a line
TAG = re.compile(r"O|[A-Z]-.+")  # of a named entity

Line = tuple[int, str]  # number in the file, text


@dataclass(frozen=True)
class TaggedWords(Files):
    """Where the sentences of a tagging task lie.

    Before: the lines "Anna B-PER", "lives O", "in O", "Rome B-LOC" and a blank one, the first of them line 7 of
    `train.conll`.
    After: `{"words": ["Anna", "lives", "in", "Rome"], "tags": ["B-PER", "O", "O", "B-LOC"],
    "place": "train.conll, row 7"}`.
    """

    train: str | None = None
    """Training data: a text file with a word and its tag a line, tabs or blanks between, and a blank line after each
    sentence (.conll .bmes .tsv .txt or any other ending, also .gz); or a table with lists in the columns words and tags
    (.jsonl .json .parquet, also .gz); or a hub id, `owner/name`."""
    predict: str | None = None
    """Data to tag, in the same forms, tags need not be there; or plain sentences: a .txt with one a line, a table with
    a column "text"."""
    columns: dict[str, str] = field(default_factory=dict)
    """Columns of a table that are not named words and tags: {words: tokens, tags: ner_tags}. In a file with a word a
    line, their positions from 1 where the word is not first or the tag is not last: {words: "2", tags: "4"}."""

    def rows(self, split: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the sentences of a split as {"words", "tags", "place"}, the place being that of the first word; without
        "tags" if they are not among `columns`. The split "predict" may have {"text", "place"} instead.

        Lines that begin a document (-DOCSTART-), and comments before a sentence (# id = 7), are skipped.

        Raises:
            InputError: If the file, a column or the split is missing, a row is broken, or words and tags of a sentence
                differ in number.
        """
        names = ["words"] + ["tags"] * ("tags" in columns)
        for path in self.paths(split):
            plain = path.lower().removesuffix(".gz")
            if is_hub_id(path) or plain.endswith(TABLES):
                rows = self._of_table(path, split, names)
            elif split == "predict" and plain.endswith(".txt"):
                rows = ((number, {"text": line}) for number, line in enumerate(read_lines(path), 1))
            else:
                rows = self._of_lines(path, names)
            for number, row in rows:
                yield {**row, "place": f"{path}, row {number}"}

    def _of_table(self, path: str, split: str, names: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        texts = ["text"] if split == "predict" else []
        for number, row in self.table(path, split, names + texts, absent=texts and ["words", "text"]):
            if texts and row["words"] is None:
                if row["text"] is None:
                    hint = f"""name the column of one: {self.mapping} '{{"text": "COLUMN"}}'"""
                    raise InputError(f"{path}, row {number}: neither words nor a text; {hint}")
                yield number, {"text": row["text"]}
                continue
            sentence = {name: row[name] for name in names}
            for name, value in sentence.items():
                column = f"column '{self.columns.get(name, name)}'"
                if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                    raise InputError(f"{path}, row {number}, {column}: {str(value)[:40]}, expected a list of texts")
            if len({*map(len, sentence.values())}) > 1:
                counts = f"{len(sentence['words'])} words and {len(sentence['tags'])} tags"
                raise InputError(f"{path}, row {number}: {counts}, expected a tag for each word")
            yield number, sentence

    def _of_lines(self, path: str, names: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        at = _positions(path, {name: self.columns[name] for name in names if name in self.columns}, self.mapping)
        width = 0  # columns of the first line
        for sentence in _sentences(read_lines(path)):
            rows = []
            for number, line in sentence:
                fields = line.split("\t") if "\t" in line else re.split(" +", line.rstrip(" "))
                width = width or len(fields)
                fault = _fault(fields, width, names, at)
                if fault:
                    raise InputError(f"{path}, row {number}: {fault}")
                rows.append([fields[at.get(name, DEFAULT[name])] for name in names])
            yield sentence[0][0], dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def _positions(path: str, columns: Mapping[str, str], option: str) -> dict[str, int]:
    for name, column in columns.items():
        if not re.fullmatch("[1-9][0-9]*", column):
            example = f"""{option} '{{"words": "1", "tags": "4"}}'"""
            fault = f"'{column}' for {name}, but columns of a file with a word a line go by their positions from 1"
            raise InputError(f"{path}: {fault}, as in {example}")
    return {name: int(column) - 1 for name, column in columns.items()}


def _sentences(lines: Iterable[str]) -> Iterator[list[Line]]:
    numbered = ((number, line) for number, line in enumerate(lines, 1) if not line.startswith(DOCUMENT))
    for blank, group in groupby(numbered, key=lambda line: not line[1].strip()):
        sentence = [] if blank else list(group)
        while sentence and _is_comment(sentence[0][1]):
            del sentence[0]
        if sentence:
            yield sentence


def _is_comment(line: str) -> bool:
    """Tell "# id = 7" from the word "#" and its columns, the last of which is a tag."""
    fields = line.split()
    return line.startswith("# ") and len(fields) > 2 and not TAG.fullmatch(fields[-1])


def _fault(fields: list[str], width: int, names: Sequence[str], at: Mapping[str, int]) -> str:
    """Return what is wrong with the columns of a line, "" if nothing is."""
    if "tags" in names and "tags" not in at:
        if len(fields) < 2:
            return "1 column, expected a word and its tag with a tab or blanks between; sentences end at a blank line"
        if len(fields) != width:
            return f"{len(fields)} columns, expected {width} as in the first line; tabs between allow blanks in them"
    for name in names:
        if at.get(name, 0) >= len(fields):
            return f"{len(fields)} columns, expected {at[name] + 1} or more: {name} are mapped to column {at[name] + 1}"
        if not fields[at.get(name, DEFAULT[name])]:
            return f"no {name.removesuffix('s')} in its column"
    return ""
