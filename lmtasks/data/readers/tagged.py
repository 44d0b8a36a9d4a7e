"""Tagged words, the row format of tagging: each row is a sentence as its words, with a tag for each.

Text files with one word per line, as in CoNLL-2003 (Tjong Kim Sang and De Meulder 2003, section 2.2), CoNLL-U or, for
Chinese, one character per line; or a table whose rows hold a list of words and a list of tags, or a word and the number
of its sentence. Tags stay as the file has them. Which columns hold words and tags is guessed from the first sentences,
and said where they are not the first and the last.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby, islice, pairwise
from typing import Any

from lmtasks.data.readers.files import logger, read_lines, read_rows, say
from lmtasks.data.readers.formats import ending, file_format, has_columns
from lmtasks.data.readers.table import Files
from lmtasks.errors import InputError, collected
from lmtasks.text.forms import listed_texts

DOCUMENT = "-DOCSTART-"
TAG = re.compile(r"[BIOESMLU]|[BIESMLU]-.+")  # of a named entity
COUNT = re.compile(r"[0-9]{1,9}(?:[-.][0-9]+)?")  # a word's number; in CoNLL-U also a range, 1-2, or an empty node, 8.1
SENTENCE = re.compile(r"sent(ence)?s?([ _-]*(#|id|ids|idx|index|no|nr|num|number))?", re.IGNORECASE)
SENTENCES = 200  # the first ones, which show which columns a file has
MOSTLY = 0.9  # share of tags that makes a column one of tags
FEW = 10  # numbers in the first column that may be words
LONG = 1000  # words of a sentence that is probably several

Line = tuple[int, list[str]]  # number in the file, columns


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
    tags (.jsonl .json .parquet, also .gz), or with a word per row (.csv); or a hub id, `owner/name`."""
    predict: str | None = None
    """Data to tag, in the same forms, with or without tags; or plain sentences: a .txt with one per line, or a table
    with a column "text"."""
    columns: dict[str, str] = field(default_factory=dict)
    """Columns of a table that are not named words and tags: {words: tokens, tags: ner_tags}; where it has a word per
    row, also the column that numbers its sentences: {sentence: id}. In a file with one word per line, their positions
    from 1: {words: "2", tags: "4"}."""

    def rows(self, split: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the sentences of a split as {"words", "tags", "place"}; the place is that of the first word.

        "tags" are left out if they are not among `columns`. The split "predict" may have {"text", "place"} instead. A
        line that begins a document (-DOCSTART-) ends the sentence before it; comments (# id = 7) are skipped.
        """
        names = ["words"] + ["tags"] * ("tags" in columns)
        for path in self.paths(split):
            if has_columns(path) and (file_format(path) != "tsv" or self._has_header(path)):
                rows = self._of_table(path, split, names)
            elif split == "predict" and ending(path) == ".txt":
                rows = ((number, {"text": line}) for number, line in enumerate(read_lines(path), 1))
            else:
                rows = self._of_lines(path, names)
            for number, row in rows:
                yield {**row, "place": f"{path}, row {number}"}

    def _has_header(self, path: str) -> bool:
        """Tell whether a .tsv is a table, and not a file with one word per line."""
        first = next(read_lines(path), "").split("\t")
        return self.columns.get("words", "words") in first

    def _of_table(self, path: str, split: str, names: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield sentences from lists in a table or from a word per row, or plain texts to tag."""
        texts = ["text"] if split == "predict" else []
        rows = self.table(path, split, names + texts, absent=texts and ["words", "text"])
        hint = ""
        if file_format(path) in ("csv", "tsv"):  # which hold no lists, but as texts
            first = next(rows, None)
            rows = chain([] if first is None else [first], rows)
            if first is not None and isinstance(word := first[1]["words"], str) and len(word.split()) < 2:
                header = list(next(read_rows(path, split))[1])
                column = self.columns.get("sentence") or next(filter(SENTENCE.fullmatch, header), "")
                if column:
                    yield from self._of_words(path, split, names, column)
                    return
                mapped = f"""{self.columns_option} '{{"sentence": "COLUMN"}}'"""
                hint = f"; if each row is a word, name the column that numbers the sentences: {mapped}"

        def sentence(numbered: tuple[int, dict[str, Any]]) -> tuple[int, dict[str, Any]]:
            """Return a row of lists, or a text."""
            number, row = numbered
            if texts and row["words"] is None:
                if row["text"] is None:
                    named = f"""name the column of one: {self.columns_option} '{{"text": "COLUMN"}}'"""
                    raise InputError(f"{path}, row {number}: neither words nor a text; {named}")
                return number, {"text": row["text"]}
            lists = {name: listed_texts(row[name]) for name in names}
            if lists.keys() == {"words", "tags"} and all(isinstance(value, str) for value in lists.values()):
                words, tags = (lists[name].split() for name in ("words", "tags"))
                if len(words) == len(tags) > 1 and all(map(TAG.fullmatch, tags)):  # with blanks between
                    lists = {"words": words, "tags": tags}
            for name, value in lists.items():
                if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                    place = f"{path}, row {number}, column '{self.columns.get(name, name)}'"
                    raise InputError(f"{place}: {str(value)[:40]}, expected a list of texts{hint}")
            if len({*map(len, lists.values())}) > 1:
                counts = f"{len(lists['words'])} words and {len(lists['tags'])} tags"
                raise InputError(f"{path}, row {number}: {counts}, expected a tag for each word")
            return number, lists

        yield from collected(rows, sentence)

    def _of_words(
        self, path: str, split: str, names: list[str], column: str
    ) -> Iterator[tuple[int, dict[str, list[str]]]]:
        """Yield sentences from a table with a word per row; a blank number goes on with the sentence before it."""
        say(f"{path}: each row is a word, and the column '{column}' numbers the sentences")
        numbers = {**self.columns, "sentence": column}
        table = type(self)(columns=numbers).called(self.option).table(path, split, [*names, "sentence"])

        def word(numbered: tuple[int, dict[str, Any]]) -> tuple[int, dict[str, Any]]:
            """Return a row that has all it needs."""
            number, row = numbered
            if lacking := [name for name in names if not row[name]]:
                raise InputError(f"{path}, row {number}: no {lacking[0].removesuffix('s')} in its column")
            return number, row

        seen, last = set[str](), ""
        sentence = list[tuple[int, dict[str, Any]]]()
        for number, row in chain(collected(table, word), [(0, {"sentence": ""})]):
            current = row["sentence"] or last
            if sentence and (current != last or not number):
                yield sentence[0][0], {name: [each[name] for _, each in sentence] for name in names}
                sentence = []
            if current != last and current in seen:
                fault = f"the sentence {current} goes on here after others"
                raise InputError(f"{path}, row {number}: {fault}; put the words of a sentence one after the other")
            seen.add(current)
            sentence.append((number, row))
            last = current

    def _of_lines(self, path: str, names: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield sentences from lines with one word each."""
        given: dict[str, int] = {}  # columns that were given by position, from 0
        for name in (name for name in names if name in self.columns):
            if not re.fullmatch("[1-9][0-9]*", column := self.columns[name]):
                fault = f"'{column}' for {name}, but columns of a file with one word per line are positions from 1"
                raise InputError(f"""{path}: {fault}, as in {self.columns_option} '{{"words": "1", "tags": "4"}}'""")
            given[name] = int(column) - 1
        sentences = _sentences(read_lines(path))
        first = list(islice(sentences, SENTENCES))
        width = Counter(len(fields) for sentence in first for _, fields in sentence).most_common(1)
        columns = _Columns(path, names, given, width[0][0] if width else 0, first)
        every: Iterator[list[Line]] = chain(first, sentences)
        if columns.counted and _is_constant(first):
            every = (list(part) for lines in every for _, part in groupby(lines, lambda line: line[1][0]))
        elif "words" not in given and columns.width > len(names) and _is_constant(first):
            fault = f"the first column is always {first[0][0][1][0][:40]!r} in a sentence, so it has no words"
            option = f"""{self.columns_option} '{{"words": "2", "tags": "3"}}'"""
            raise InputError(f"{path}, row {first[0][0][0]}: {fault}; give the positions of the columns: {option}")
        yield from collected(every, columns.of)
        columns.report()


class _Columns:
    """Which columns of a file with one word per line hold the words and the tags, and what was left out of it."""

    def __init__(self, path: str, names: Sequence[str], given: dict[str, int], width: int, first: Sequence[list[Line]]):
        self.path, self.names, self.width, self.given = path, names, width, given
        self.left_out = 0
        rows = [fields for sentence in first for _, fields in sentence if len(fields) == width]
        self.counted = width > len(names) and _counts(first)
        self.at = {"words": int(self.counted), "tags": width - 1, **given}
        if self.counted and "words" not in given:
            what = "numbers the sentences" if _is_constant(first) else "counts words"
            say(f"{path}: the first column {what}, so words are read from column 2")
        if "tags" in names and "tags" not in given and rows:
            self._find_tags(rows)

    def of(self, sentence: list[Line]) -> tuple[int, dict[str, list[str]]]:
        """Return the words and tags of a sentence, and where it begins."""
        number = sentence[0][0]
        if self.counted:  # CoNLL-U has lines for ranges of words, 1-2, and for words that are not in the text, 8.1
            kept = [line for line in sentence if line[1][0].isdecimal() or not COUNT.fullmatch(line[1][0])]
            self.left_out += len(sentence) - len(kept)
            sentence = kept or sentence
        for place, fields in sentence:
            if fault := self._fault(fields):
                raise InputError(f"{self.path}, row {place}: {fault}")
        if len(sentence) > LONG:
            say(f"{self.path}, row {number}: a sentence of {len(sentence):,} words; a blank line ends a sentence")
        return number, {name: [fields[self.at[name]] for _, fields in sentence] for name in self.names}

    def report(self) -> None:
        """Log how many lines were left out."""
        if self.left_out:
            what = "ranges of words (1-2) or empty nodes (8.1)"
            logger.warning("%s: left out %d lines of %s", self.path, self.left_out, what)

    def _find_tags(self, rows: Sequence[list[str]]) -> None:
        """Take the last column of tags; say so if it is not the last of all, or one of several."""
        shares = [sum(bool(TAG.fullmatch(fields[at])) for fields in rows) / len(rows) for at in range(self.width)]
        found = [at for at, share in enumerate(shares) if share >= MOSTLY and at > self.at["words"]]
        found = [at for at in found if any(fields[at] != "O" for fields in rows)] or found[-1:]
        if found:
            self.at["tags"] = found[-1]
        if len(found) > 1 or self.at["tags"] != self.width - 1:
            listing = " and ".join(str(at + 1) for at in found)
            tagged = f"{'columns' if len(found) > 1 else 'column'} {listing} of {self.width} with tags"
            say(f"{self.path}: {tagged}: they are read from column {self.at['tags'] + 1}")

    def _fault(self, fields: Sequence[str]) -> str:
        """Return what is wrong with the columns of a line, "" if nothing is."""
        if "tags" in self.names and "tags" not in self.given:
            if len(fields) < 2:
                return (
                    "1 column, expected a word and its tag, separated by a tab or spaces; a blank line ends a sentence"
                )
            if len(fields) != self.width:
                return f"{len(fields)} columns, expected {self.width} as in most lines; use tabs if words have spaces"
        if self.counted and "words" not in self.given and not COUNT.fullmatch(fields[0]):
            return f"{fields[0][:40]!r} in the first column, expected the number of a word as in other rows"
        for name in self.names:
            place = self.at[name]
            if place >= len(fields):
                return f"{len(fields)} columns, expected {place + 1} or more: {name} are in column {place + 1}"
            if not fields[place]:
                return f"no {name.removesuffix('s')} in its column"
        return ""


def _counts(sentences: Sequence[list[Line]]) -> bool:
    """Tell whether the first column counts words or sentences."""
    if not all(COUNT.fullmatch(fields[0]) for sentence in sentences for _, fields in sentence):
        return False
    counts = [[int(fields[0]) for _, fields in sentence if fields[0].isdecimal()] for sentence in sentences]
    rising = any(len(row) > 1 and row[0] < 2 and all(b == a + 1 for a, b in pairwise(row)) for row in counts)
    return rising or sum(map(len, counts)) > FEW


def _is_constant(sentences: Sequence[list[Line]]) -> bool:
    """Tell whether the first column goes on unchanged from word to word, as the number of a sentence or a document."""
    pairs = [(one[1][0], other[1][0]) for sentence in sentences for one, other in pairwise(sentence)]
    return len(pairs) > FEW // 2 and sum(one == other for one, other in pairs) > len(pairs) / 2


def _sentences(lines: Iterable[str]) -> Iterator[list[Line]]:
    """Yield the lines of each sentence, without comments, as their columns."""
    for between, group in groupby(enumerate(lines, 1), lambda line: _is_end(line[1])):
        sentence = [] if between else list(group)
        if any("\t" in line for _, line in sentence):  # CoNLL-U: its words have tabs, its comments have none
            sentence = [(number, line) for number, line in sentence if "\t" in line or not line.startswith("#")]
        columns = [(number, _fields(line)) for number, line in sentence]
        while columns and _is_comment(columns[0][1], len(columns[-1][1])):
            del columns[0]  # comments stand before the words
        if columns:
            yield columns


def _is_end(line: str) -> bool:
    """Tell whether a line ends a sentence: a blank one, or one that begins a document."""
    return not line.strip() or (DOCUMENT in line and DOCUMENT in line.split(maxsplit=2)[:2])


def _fields(line: str) -> list[str]:
    return line.split("\t") if "\t" in line else re.split(" +", line.rstrip(" "))


def _is_comment(fields: Sequence[str], width: int) -> bool:
    """Tell "# id = 7", "#id=7" and "# newdoc" from the word "#" with as many columns as other words, the last a tag."""
    if not fields[0].startswith("#"):
        return False
    named = fields[0] == "#" and (fields[1:2] in (["newdoc"], ["newpar"]) or fields[2:3] == ["="])
    return (
        named
        or len(fields) != width
        or (fields[0] == "#" and len(fields) > 2 and not any(map(TAG.fullmatch, fields[1:])))
    )
