"""`lmtasks score`: compare a file of predictions with one or more files of references, row by row.

It reads texts, labels, tags and answers from plain lines, tables and nested files of SQuAD. Errors name the file, row
and column of what does not fit.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain, dropwhile
from typing import Any

from lmtasks import metrics  # loads nothing heavy before a metric is called
from lmtasks.cli.stdin import STDIN, stdin_lines
from lmtasks.data.readers.files import numbered_rows, read_json, read_lines, read_rows
from lmtasks.data.readers.formats import file_format, has_columns
from lmtasks.data.readers.squad import find_articles, is_impossible, list_answers, list_questions
from lmtasks.data.readers.tagged import TaggedWords
from lmtasks.errors import InputError
from lmtasks.metrics.languages import fitting_language
from lmtasks.metrics.score import Score
from lmtasks.reports.pictures import check_picture
from lmtasks.text.forms import alike
from lmtasks.text.tags import spans

HELP = "score a file of predictions against a file of references"
MAIN = {"squad": "f1", "entities": "f1", "rouge": "rougeL"}  # the main score, where it is not the first
ONE_REFERENCE = ("squad", "entities", "accuracy")  # metrics that take one file of references
# options of some metrics only
OPTIONS = {"language": ("bleu", "ter", "squad", "rouge"), "lowercase": ("bleu",), "picture": ("accuracy",)}
# Columns that `lmtasks run` adds to its rows; a name with a number is given where the input has the plain one.
PREDICTED, LISTED = re.compile(r"prediction(_\d+)?"), re.compile(r"(predicted_)?labels(_\d+)?")
SHOWN = 3  # ids that an error lists at most

Cell = tuple[str, Any]
"""Where a value stands ("a.jsonl, row 7, column 'text'"), and the value."""
Tagged = tuple[str, list[str]]
"""Where a row stands, and its tags."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("metric", choices=METRICS, metavar="METRIC", help=f"one of {', '.join(METRICS)}")
    parser.add_argument("hypotheses", metavar="HYPOTHESES", help="file of predictions (plain lines, .jsonl; .gz), or -")
    parser.add_argument("references", metavar="REFERENCE", nargs="+", help="file of references, row for row, or -")
    own = "text; entities: tags; accuracy: label"
    column_help = f"column of the predictions (default: prediction or labels of what `lmtasks run` wrote, else {own})"
    parser.add_argument("--column", help=column_help)
    reference_help = f"column of the references (default: that of --column, else {own}; squad: answers)"
    parser.add_argument("--reference-column", help=reference_help)
    language_help = "language of the texts, for bleu, ter, squad and rouge (default: that of their script, or en)"
    parser.add_argument("--language", help=language_help)
    parser.add_argument("--lowercase", action="store_true", help="let bleu ignore upper and lower case")
    parser.add_argument("--picture", metavar="FILE", help="draw the confusion matrix of accuracy (.png, .svg or .pdf)")
    parser.add_argument("--json", action="store_true", help="print a JSON object")


def run(options: argparse.Namespace) -> int:
    """Print the score and its signature on one line, further scores and a table of classes below it."""
    for name, where in OPTIONS.items():
        if getattr(options, name) and options.metric not in where:
            raise InputError(f"--{name} changes nothing in {options.metric}, only in {', '.join(where)}; leave it out")
    if options.picture:
        check_picture("--picture", options.picture)
    if [options.hypotheses, *options.references].count(STDIN) > 1:
        raise InputError("- stands for stdin and can be read once only; write one of the texts to a file")
    if options.metric in ONE_REFERENCE and len(options.references) > 1:
        raise InputError(f"{options.metric} takes one file of references, not {len(options.references)}")
    score = METRICS[options.metric](options)
    main = MAIN.get(options.metric, next(iter(score.values)))
    scores = {main: score.values[main], **score.values}
    if options.json:
        rounded = {name: round(value, 4) for name, value in scores.items()}
        several = {"scores": rounded} if len(rounded) > 1 else {}
        print(json.dumps({"metric": options.metric, "score": rounded[main], **several, "signature": score.signature}))
        return 0
    name = f" {main}" if len(scores) > 1 else ""
    print(f"{scores.pop(main):.2f}{name} {score.signature}")
    for name, value in scores.items():
        print(f"{value:.2f} {name}")
    if score.table:
        print(f"\n{score.table}")
    return 0


def _accuracy(options: argparse.Namespace) -> Score:
    (reference,) = options.references
    column = options.column or predicted_column(options.hypotheses, "label", listed=True)
    given = read_labels(options.hypotheses, column)
    actual = read_labels(reference, options.reference_column or options.column or "label", blank=False)
    check_rows(options.hypotheses, given, reference, actual)
    if any(isinstance(row, list) for row in [*given, *actual]):
        lists = check_lists(options.hypotheses, given), check_lists(reference, actual)
        if options.picture:
            raise InputError("--picture: rows with several labels have no confusion matrix; leave it out")
        labels = _inventory(label for rows in lists for row in rows for label in row)
        return metrics.multi_label_scores(*lists, labels or ["(none)"])
    single = [str(label) for label in given], [str(label) for label in actual]
    labels = _inventory(chain.from_iterable(single))
    score = metrics.label_scores(*single, labels)
    if options.picture:
        from lmtasks.reports.confusion import draw_confusion

        draw_confusion(score.confusion, labels, options.picture)
    return score


def _inventory(found: Iterable[str]) -> list[str]:
    """Return the labels in the order of the alphabet; say which differ only in their form."""
    labels = sorted({*found})
    for group in alike(labels):
        print(
            f"the labels {', '.join(map(repr, group))} differ only in their form, and count as different",
            file=sys.stderr,
        )
    return labels


def _entities(options: argparse.Namespace) -> Score:
    (reference,) = options.references
    column = options.column or predicted_column(options.hypotheses, "tags", listed=True)
    given = read_tags(options.hypotheses, column)
    named = options.column if has_columns(reference) else None  # the columns of a word per line have no names
    actual = read_tags(reference, options.reference_column or named or "tags")
    check_rows(options.hypotheses, given, reference, actual)
    for (here, ours), (there, theirs) in zip(given, actual, strict=True):
        if len(ours) != len(theirs):
            raise InputError(f"{here}: {len(ours)} tags, {there} has {len(theirs)}; give one tag for each word")
    found, known = ([_spans(place, tags) for place, tags in rows] for rows in (given, actual))
    return metrics.entity_scores(found, known, sorted({label for row in [*found, *known] for label, _, _ in row}))


METRICS: dict[str, Callable[[argparse.Namespace], Score]] = {
    "bleu": lambda options: _in_language(partial(metrics.bleu, lowercase=options.lowercase), _read_texts, options),
    "chrf": lambda options: metrics.chrf(*_read_texts(options)),
    "ter": lambda options: _in_language(metrics.ter, _read_texts, options),
    "squad": lambda options: _in_language(metrics.squad, _read_answers, options),
    "entities": _entities,
    "accuracy": _accuracy,
    "rouge": lambda options: _in_language(metrics.rouge, _read_texts, options),
}


def _in_language(
    metric: Callable[..., Score],
    read: Callable[[argparse.Namespace], tuple[list[str], list[list[str]]]],
    options: argparse.Namespace,
) -> Score:
    """Score texts in the language that was given, or that their script shows; say so where it is not English."""
    texts, references = read(options)
    language, doubt = fitting_language(options.language or "en", chain.from_iterable(references))
    if doubt and options.language:
        print(f"{doubt}; scored as {options.language!r}", file=sys.stderr)
    elif doubt:
        print(f"{doubt}; scored with --language {language}", file=sys.stderr)
    return metric(texts, references, language=options.language or language)


def _read_texts(options: argparse.Namespace) -> tuple[list[str], list[list[str]]]:
    """Return the texts, and for each its references from all files; a row of a file has one, or a list of several."""
    path = options.hypotheses
    texts = read_texts(path, options.column or predicted_column(path, "text"))
    references: list[list[str]] = [[] for _ in texts]
    for other in options.references:
        cells = _cells(other, options.reference_column or options.column or "text")
        check_rows(path, texts, other, cells)
        for row, (place, value) in zip(references, cells, strict=True):
            row += _texts(place, value)
            if value == []:
                raise InputError(f"{place}: an empty list, expected at least one reference")
    return texts, references


def predicted_column(path: str, own: str, listed: bool = False) -> str:
    """Return the column of the predictions: that of `lmtasks run` if it wrote the file, else `own`.

    With `listed` it is the column of lists where the file has one. `run` copies its input, the right answers among it,
    and adds an answer as the last columns of a row, the prediction first: `labels` before it are those of the input.
    """
    rows = [list(row.items()) for _, row in read_rows(path)] if has_columns(path) else []
    found = {name for row in rows for name, value in row if PREDICTED.fullmatch(name) and value is not None}
    if not found:
        return own
    last = max(found, key=lambda name: (len(name), name))  # prediction, prediction_2, ..., prediction_10
    for row in rows if listed else ():
        for name, value in dropwhile(lambda cell: cell[0] != last, row):
            if LISTED.fullmatch(name) and isinstance(value, list):
                return name
    return last


def read_texts(path: str, column: str) -> list[str]:
    """Return the text of each row."""
    return [_text(place, value) for place, value in _cells(path, column)]


def read_labels(path: str, column: str, blank: bool = True) -> list[str | list[str]]:
    """Return the label of each row, or the list of its labels where the file has lists; null is an empty list there.

    blank: whether a row may have a blank label, as a prediction may.
    """
    labels: list[str | list[str]] = []
    cells = _cells(path, column)
    lists = any(isinstance(value, list) for _, value in cells)
    for place, value in cells:
        given = [] if lists and blank and value is None else value
        labels.append(_texts(place, given) if isinstance(given, list) else _text(place, given).strip())
        if not blank and "" in (labels[-1], *labels[-1]):
            raise InputError(f"{place}: blank, expected a label")
    return labels


def check_lists(path: str, rows: Sequence[str | list[str]]) -> list[list[str]]:
    """Return rows of labels; refuse a text among them: "politics, sport" is not a list of two labels."""
    for number, row in enumerate(rows, 1):
        if isinstance(row, str):
            fault = f"{path}, row {number}: {row[:40]!r} is a text and the other file has lists; give lists in both"
            raise InputError(f"{fault}, --column labels of what `lmtasks run` writes")
    return [list(row) for row in rows]


def read_tags(path: str, column: str) -> list[Tagged]:
    """Return where each row stands, and its tags: a list of them, or a text with spaces between; null has none.

    In a file with one word per line `column` is the position of the tags from 1; "tags" is the last one.
    """
    if file_format(path) == "conll":
        if column != "tags" and not column.isdecimal():
            fault = f"{path}: a file with a word a line has no column {column!r}"
            raise InputError(f"{fault}; give the position of the tags from 1, as in --reference-column 4")
        words = TaggedWords(test=path, columns={} if column == "tags" else {"tags": column})
        return [(row["place"], row["tags"]) for row in words.rows("test", ("words", "tags"))]
    cells = [(place, [] if value is None else value) for place, value in _cells(path, column)]
    return [(place, value.split() if isinstance(value, str) else _texts(place, value)) for place, value in cells]


def _read_answers(options: argparse.Namespace) -> tuple[list[str], list[list[str]]]:
    """Return the answer to each question and its right answers.

    Right answers may have any form that `SquadFile` reads. If the file of references is nested, the predictions may be
    the {id: text} of the official scripts. Otherwise both have a row for each question; a blank line, and null or []
    among the right answers, mean that there is no answer.
    """
    predictions, (reference,) = options.hypotheses, options.references
    articles = find_articles(read_json(reference)[0]) if file_format(reference) == "json" else None
    if articles is None:
        given, questions, column = None, [], options.reference_column or "answers"
        cells = [(place, [] if value is None else value) for place, value in _cells(reference, column)]
    else:
        given, questions = _read_object(predictions), list(list_questions(reference, articles))
        cells = [
            (f"{place}, 'answers'", [] if is_impossible(place, question) else question["answers"])
            for place, question in questions
        ]
    known = [[text for text, _ in list_answers(place, value)] for place, value in cells]
    if given is None:
        answers = read_texts(predictions, options.column or predicted_column(predictions, "text"))
    else:
        if nameless := [place for place, question in questions if question["id"] is None]:
            raise InputError(f"{nameless[0]}: a question without an id; give the answers row for row, not by their ids")
        names = [str(question["id"]) for _, question in questions]
        if missing := [name for name in names if name not in given]:
            more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
            fault = f"{predictions}: no answer to {', '.join(missing[:SHOWN])}{more} of {reference}"
            raise InputError(f"{fault}; give one for each question, '' for none")
        answers = [_text(f"{predictions}, answer {name}", given[name]) for name in names]
    check_rows(predictions, answers, reference, known)
    return answers, known


def check_rows(path: str, rows: Sequence[object], other: str, others: Sequence[object]) -> None:
    """Refuse two files that differ in their number of rows, or have none."""
    if len(rows) != len(others):
        counts = f"{path} has {len(rows)} rows and {other} has {len(others)}"
        raise InputError(f"{counts}; row n of one must belong to row n of the other")
    if not rows:
        raise InputError(f"{path}: no rows, nothing to score")


def _cells(path: str, column: str) -> list[Cell]:
    """Return where each row stands and its value, None where that is null or absent."""
    if path == STDIN:
        return [(f"stdin, line {number}", line) for number, line in enumerate(stdin_lines(), 1)]
    if not has_columns(path):
        return [(f"{path}, row {number}", line) for number, line in enumerate(read_lines(path), 1)]
    names = {"value": column}
    rows = list(numbered_rows(path, names, "test", nested=True, absent=names))
    if all(row["value"] is None for _, row in rows):  # a column that no row has is an error, which this raises
        rows = list(numbered_rows(path, names, "test", nested=True))
    return [(f"{path}, row {number}, column '{column}'", row["value"]) for number, row in rows]


def _text(place: str, value: Any) -> str:
    if value is None:
        raise InputError(f"{place}: null or absent, expected a text ('' if empty)")
    if not isinstance(value, str):
        kind = "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else type(value).__name__
        raise InputError(f"{place}: {kind}, expected text")
    return value


def _texts(place: str, value: Any) -> list[str]:
    """Return the texts of a list, or one text alone."""
    return [_text(place, text) for text in (value if isinstance(value, list) else [value])]


def _spans(place: str, tags: list[str]) -> list[tuple[str, int, int]]:
    try:
        return spans(tags)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


def _read_object(path: str) -> dict[str, Any] | None:
    """Return what a .json file holds if it is one object, else None."""
    value, whole = read_json(path) if file_format(path) == "json" else (None, True)
    return value if isinstance(value, dict) and whole else None
