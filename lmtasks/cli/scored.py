"""What `lmtasks score` reads: texts, labels, tags and answers, from plain lines, tables and nested files of SQuAD."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lmtasks.cli.lines import STDIN, stdin_lines
from lmtasks.data.files import numbered_rows, read_lines
from lmtasks.errors import InputError

WITH_COLUMNS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")  # all else is plain text, a line a row
SHOWN = 3  # ids that an error lists at most

Cell = tuple[str, Any]
"""Where a value stands ("a.jsonl, row 7, column 'text'"), and the value."""


def read_texts(path: str, column: str) -> list[str]:
    """Return the text of each row.

    Raises:
        InputError: Naming file, row and column of what is no text.
    """
    return [_text(place, value) for place, value in _cells(path, column)]


def read_references(paths: Sequence[str], column: str, path: str, texts: Sequence[str]) -> list[list[str]]:
    """Return the references of each of `texts`, which stand in `path`, those of all files together.

    A row of a file has one, or a list of several.

    Raises:
        InputError: Naming file, row and column of what is no text, or files of different lengths.
    """
    files = []
    for other in paths:
        cells = list(_cells(other, column))
        check_rows(path, texts, other, cells)
        files.append([_texts(place, value) for place, value in cells])
        empty = [place for (place, _), row in zip(cells, files[-1], strict=True) if not row]
        if empty:
            raise InputError(f"{empty[0]}: an empty list, expected at least one reference")
    return [[text for several in row for text in several] for row in zip(*files, strict=True)]


def read_labels(path: str, column: str, blank: bool = True) -> list[str | list[str]]:
    """Return the label of each row, or the list of its labels where the file has lists.

    Raises:
        InputError: Naming file, row and column of what is neither, or of a blank label where `blank` is False.
    """
    labels: list[str | list[str]] = []
    for place, value in _cells(path, column):
        labels.append(_texts(place, value) if isinstance(value, list) else _text(place, value).strip())
        if not blank and "" in (labels[-1], *labels[-1]):
            raise InputError(f"{place}: blank, expected a label")
    return labels


def read_tags(path: str, column: str) -> list[tuple[str, list[str]]]:
    """Return where each row stands, and its tags: a list of them, or a text with spaces between.

    Raises:
        InputError: Naming file, row and column of what is neither.
    """
    return [
        (place, _text(place, value).split() if isinstance(value, str) else _texts(place, value))
        for place, value in _cells(path, column)
    ]


def read_answers(
    predictions: str, references: str, column: str, reference_column: str
) -> tuple[list[str], list[list[str]]]:
    """Return an answer for each question and the right answers to it.

    Where `references` is a nested file of SQuAD, `predictions` may be the {id: text} of the official scripts. Else both
    have a row for each question: a blank line and a null or [] among the right answers mean that there is none.

    Raises:
        InputError: Naming file, row, column or question of what does not fit.
    """
    nested = _read_object(references)
    if nested is None:
        cells = _cells(references, reference_column, blank=True)
        rows = [[text for text in _texts(place, value) if text] for place, value in cells]
        return read_texts(predictions, column), rows
    questions = _questions(references, nested)
    given = _read_object(predictions)
    if given is None:
        return read_texts(predictions, column), list(questions.values())
    missing = [name for name in questions if name not in given]
    if missing:
        listed = ", ".join(missing[:SHOWN]) + (f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else "")
        raise InputError(
            f"{predictions}: no answer to {listed} of {references}; give one for each question, '' for none"
        )
    return [_text(f"{predictions}, answer {name}", given[name]) for name in questions], list(questions.values())


def check_rows(path: str, rows: Sequence[object], other: str, others: Sequence[object]) -> None:
    """Refuse files that do not have as many rows as each other, and those without any.

    Raises:
        InputError: Naming both files and their rows.
    """
    if len(rows) != len(others):
        raise InputError(
            f"{path} has {len(rows)} rows and {other} has {len(others)}; row n of one must belong to row n of the other"
        )
    if not rows:
        raise InputError(f"{path}: no rows, nothing to score")


def check_stdin(paths: Sequence[str]) -> None:
    """Refuse stdin for more than one text.

    Raises:
        InputError: - stands among the paths more than once.
    """
    if Counter(paths)[STDIN] > 1:
        raise InputError("- stands for stdin and can be read once only; write one of the texts to a file")


def _cells(path: str, column: str, blank: bool = False) -> Iterator[Cell]:
    """Yield where each row stands and its value; with `blank`, a null becomes []."""
    if path == STDIN:
        yield from ((f"stdin, line {number}", line) for number, line in enumerate(stdin_lines(), 1))
    elif not _ends(path, WITH_COLUMNS):
        yield from ((f"{path}, row {number}", line) for number, line in enumerate(read_lines(path), 1))
    else:
        rows = numbered_rows(path, {"value": column}, "test", optional=("value",), nested=("value",))
        for number, row in rows:
            place, value = f"{path}, row {number}, column '{column}'", row["value"]
            if value is None and not blank:
                raise InputError(f"{place}: null or absent, expected a text ('' if empty)")
            yield place, [] if value is None else value


def _text(place: str, value: Any) -> str:
    if not isinstance(value, str):
        kind = {list: "a list", dict: "an object", type(None): "null"}.get(type(value), type(value).__name__)
        raise InputError(f"{place}: {kind}, expected text")
    return value


def _texts(place: str, value: Any) -> list[str]:
    """Return the texts of a list, of the field `text` of an answer as `datasets` stores it, or of one text alone."""
    if isinstance(value, dict) and "text" in value:
        value = value["text"]
    return [_text(place, text) for text in (value if isinstance(value, list) else [value])]


def _ends(path: str, endings: tuple[str, ...]) -> bool:
    return Path(path.lower().removesuffix(".gz")).suffix in endings


def _read_object(path: str) -> dict[str, Any] | None:
    """Return what a .json file holds if it is one object, else None."""
    if path == STDIN or not _ends(path, (".json",)):
        return None
    text = "\n".join(read_lines(path))
    if not text.lstrip().startswith("{"):
        return None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # JSON Lines under another name
            return None
        fault = f"row {error.lineno}: invalid JSON at character {error.colno} ({error.msg})"
        raise InputError(f"{path}, {fault}; expected one object, as the official scripts read") from None


def _questions(path: str, nested: dict[str, Any]) -> dict[str, list[str]]:
    """Return id -> right answers, in the order of the file."""
    found = {}
    try:
        for article in nested["data"]:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    found[str(question["id"])] = [answer["text"] for answer in question["answers"]]
    except (KeyError, TypeError) as error:
        fault = f"after question {len(found)}: {type(error).__name__} {error}"
        raise InputError(f"{path}, {fault}; expected SQuAD's data > paragraphs > qas > id, answers > text") from None
    return found
