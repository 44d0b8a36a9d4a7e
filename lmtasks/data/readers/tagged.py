"""Tagged words, the row format of tagging: each row is a sentence as its words, with a tag for each.

Text files with one word per line, as in CoNLL-2003 (Tjong Kim Sang and De Meulder 2003, section 2.2), for Chinese one
character per line; or a table whose rows hold a list of words and a list of tags. Tags stay as the file has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from lmtasks.data.readers.files import read_lines
from lmtasks.data.readers.formats import ending, file_format, has_columns
from lmtasks.data.readers.table import Files
from lmtasks.errors import InputError

DOCUMENT = "-DOCSTART-"
DEFAULT = {"words": 0, "tags": -1}  # columns of a file with one word per line
TAG = re.compile(r"O|[A-Z]-.+")  # of a named entity

Line = tuple[int, str]  # number in the file, text


@dataclass(frozen=True)
class TaggedWords(Files):
    """Sentences as words with tags, from text files with one word per line or from tables.

    Before: the lines "Anna B-PER", "lives O", "in O", "Rome B-LOC" and a blank one; the first is line 7 of
    `train.conll`.
    After: `{"words": ["Anna", "lives", "in", "Rome"], "tags": ["B-PER", "O", "O", "B-LOC"],
    "place": "train.conll, row 7"}`.
    """

    train: str | None = None
    """Training data: a text file with a word and its tag per line, separated by tabs or spaces, and a blank line after
    each sentence (.conll .bmes .tsv .txt or any other ending, also .gz); or a table with lists in the columns words and
    tags (.jsonl .json .parquet, also .gz); or a hub id, `owner/name`."""
    predict: str | None = None
    """Data to tag, in the same forms, with or without tags; or plain sentences: a .txt with one per line, or a table
    with a column "text"."""
    columns: dict[str, str] = field(default_factory=dict)
    """Columns of a table that are not named words and tags: {words: tokens, tags: ner_tags}. In a file with one
    word per line, their positions from 1 if the word is not first or the tag is not last: {words: "2", tags: "4"}."""

    def rows(self, split: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the sentences of a split as {"words", "tags", "place"}; the place is that of the first word.

        "tags" are left out if they are not among `columns`. The split "predict" may have {"text", "place"} instead. A
        line that begins a document (-DOCSTART-) ends the sentence before it; comments (# id = 7) are skipped.
        """
        names = ["words"] + ["tags"] * ("tags" in columns)
        for path in self.paths(split):
            if has_columns(path) and file_format(path) != "tsv":  # here a .tsv has one word per line
                rows = self._of_table(path, split, names)
            elif split == "predict" and ending(path) == ".txt":
                rows = ((number, {"text": line}) for number, line in enumerate(read_lines(path), 1))
            else:
                rows = self._of_lines(path, names)
            for number, row in rows:
                yield {**row, "place": f"{path}, row {number}"}

    def _of_table(self, path: str, split: str, names: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield sentences from lists in a table, or plain texts to tag."""
        texts = ["text"] if split == "predict" else []
        for number, row in self.table(path, split, names + texts, absent=texts and ["words", "text"]):
            if texts and row["words"] is None:
                if row["text"] is None:
                    hint = f"""name the column of one: {self.columns_option} '{{"text": "COLUMN"}}'"""
                    raise InputError(f"{path}, row {number}: neither words nor a text; {hint}")
                yield number, {"text": row["text"]}
                continue
            sentence = {name: row[name] for name in names}
            for name, value in sentence.items():
                if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                    place = f"{path}, row {number}, column '{self.columns.get(name, name)}'"
                    raise InputError(f"{place}: {str(value)[:40]}, expected a list of texts")
            if len({*map(len, sentence.values())}) > 1:
                counts = f"{len(sentence['words'])} words and {len(sentence['tags'])} tags"
                raise InputError(f"{path}, row {number}: {counts}, expected a tag for each word")
            yield number, sentence

    def _of_lines(self, path: str, names: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield sentences from lines with one word each."""
        at: dict[str, int] = {}  # columns that were given by position, from 0
        for name in (name for name in names if name in self.columns):
            if not re.fullmatch("[1-9][0-9]*", column := self.columns[name]):
                fault = f"'{column}' for {name}, but columns of a file with one word per line are positions from 1"
                raise InputError(f"""{path}: {fault}, as in {self.columns_option} '{{"words": "1", "tags": "4"}}'""")
            at[name] = int(column) - 1
        width = 0
        for sentence in _sentences(read_lines(path)):
            rows = []
            for number, line in sentence:
                fields = line.split("\t") if "\t" in line else re.split(" +", line.rstrip(" "))
                width = width or len(fields)  # of the first line, with which the others are compared
                if fault := _fault(fields, width, names, at):
                    raise InputError(f"{path}, row {number}: {fault}")
                rows.append([fields[at.get(name, DEFAULT[name])] for name in names])
            yield sentence[0][0], dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def _sentences(lines: Iterable[str]) -> Iterator[list[Line]]:
    """Yield the lines of each sentence, without comments."""
    ends = groupby(enumerate(lines, 1), lambda line: not line[1].strip() or line[1].startswith(DOCUMENT))
    for between, group in ends:
        sentence = [] if between else list(group)
        if any("\t" in line for _, line in sentence):  # CoNLL-U: its words have tabs, its comments have none
            sentence = [(number, line) for number, line in sentence if "\t" in line or not line.startswith("#")]
        while sentence and _is_comment(sentence[0][1]):
            del sentence[0]  # comments stand before the words
        if sentence:
            yield sentence


def _is_comment(line: str) -> bool:
    """Tell "# id = 7" and "# newdoc" from the word "#" with its columns, the last of which is a tag."""
    fields = line.split()
    if not line.startswith("# ") or len(fields) < 2:
        return False
    named = fields[1] in ("newdoc", "newpar") or fields[2:3] == ["="]
    return named or (len(fields) > 2 and not TAG.fullmatch(fields[-1]))


def _fault(fields: list[str], width: int, names: Sequence[str], at: Mapping[str, int]) -> str:
    """Return what is wrong with the columns of a line, "" if nothing is."""
    if "tags" in names and "tags" not in at:
        if len(fields) < 2:
            return "1 column, expected a word and its tag, separated by a tab or spaces; a blank line ends a sentence"
        if len(fields) != width:
            return f"{len(fields)} columns, expected {width} as in the first line; use tabs if words have spaces"
    for name in names:
        if at.get(name, 0) >= len(fields):
            return f"{len(fields)} columns, expected {at[name] + 1} or more: {name} are mapped to column {at[name] + 1}"
        if not fields[at.get(name, DEFAULT[name])]:
            return f"no {name.removesuffix('s')} in its column"
    return ""
