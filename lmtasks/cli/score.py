"""`lmtasks score`: compare a file of predictions with one or more files of references, row by row."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

from lmtasks import metrics  # loads nothing heavy before a metric is called
from lmtasks.cli import score_inputs as inputs
from lmtasks.cli.stdin import STDIN
from lmtasks.errors import InputError
from lmtasks.metrics.score import Score
from lmtasks.reports.pictures import check_picture

HELP = "score a file of predictions against a file of references"
MAIN = {"squad": "f1", "entities": "f1", "rouge": "rougeL"}  # the main score, where it is not the first
ONE_REFERENCE = ("squad", "entities", "accuracy")  # metrics that take one file of references
OPTIONS = {"language": ("bleu", "squad", "rouge"), "lowercase": ("bleu",), "picture": ("accuracy",)}  # of these metrics


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("metric", choices=METRICS, metavar="METRIC", help=f"one of {', '.join(METRICS)}")
    parser.add_argument("hypotheses", metavar="HYPOTHESES", help="file of predictions (plain lines, .jsonl; .gz), or -")
    parser.add_argument("references", metavar="REFERENCE", nargs="+", help="file of references, row for row, or -")
    own = "text, for entities tags, for accuracy label"
    column_help = f"column of the predictions (default: prediction or labels of what `lmtasks run` wrote, else {own})"
    parser.add_argument("--column", help=column_help)
    reference_help = f"column of the references (default: that of --column, else {own}, for squad answers)"
    parser.add_argument("--reference-column", help=reference_help)
    parser.add_argument("--language", help="language of the texts, for bleu, squad and rouge (default: en)")
    parser.add_argument("--lowercase", action="store_true", help="let bleu ignore upper and lower case")
    parser.add_argument("--picture", metavar="FILE", help="draw the confusion matrix of accuracy (.png, .svg or .pdf)")
    parser.add_argument("--json", action="store_true", help="print a JSON object")


def run(options: argparse.Namespace) -> int:
    """Print the score and its signature on one line, further scores and a table of classes below it."""
    _check_options(options)
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


def _squad(options: argparse.Namespace) -> Score:
    (reference,) = options.references
    column = options.reference_column or "answers"
    answers, known = inputs.read_answers(options.hypotheses, reference, options.column, column)
    inputs.check_rows(options.hypotheses, answers, reference, known)
    return metrics.squad(answers, known, options.language or "en")


def _accuracy(options: argparse.Namespace) -> Score:
    (reference,) = options.references
    column = options.column or inputs.predicted_column(options.hypotheses, "label", listed=True)
    given = inputs.read_labels(options.hypotheses, column)
    actual = inputs.read_labels(reference, options.reference_column or options.column or "label", blank=False)
    inputs.check_rows(options.hypotheses, given, reference, actual)
    if any(isinstance(row, list) for row in [*given, *actual]):
        lists = inputs.check_lists(options.hypotheses, given), inputs.check_lists(reference, actual)
        if options.picture:
            raise InputError("--picture: rows with several labels have no confusion matrix; leave it out")
        labels = sorted({label for rows in lists for row in rows for label in row})
        return metrics.multi_label_scores(*lists, labels or ["(none)"])
    single = [str(label) for label in given], [str(label) for label in actual]
    labels = sorted({label for rows in single for label in rows})
    score = metrics.label_scores(*single, labels)
    if options.picture:
        from lmtasks.reports.confusion import draw_confusion

        draw_confusion(score.confusion, labels, options.picture)
    return score


def _entities(options: argparse.Namespace) -> Score:
    (reference,) = options.references
    column = options.column or inputs.predicted_column(options.hypotheses, "tags", listed=True)
    given = inputs.read_tags(options.hypotheses, column)
    named = options.column if inputs.has_columns(reference) else None  # a word a line has no names
    actual = inputs.read_tags(reference, options.reference_column or named or "tags")
    inputs.check_rows(options.hypotheses, given, reference, actual)
    found, known = inputs.find_spans(given, actual)
    return metrics.entity_scores(found, known, sorted({label for row in [*found, *known] for label, _, _ in row}))


METRICS: dict[str, Callable[[argparse.Namespace], Score]] = {
    "bleu": lambda options: metrics.bleu(*_read_texts(options), options.language or "en", options.lowercase),
    "chrf": lambda options: metrics.chrf(*_read_texts(options)),
    "ter": lambda options: metrics.ter(*_read_texts(options)),
    "squad": _squad,
    "entities": _entities,
    "accuracy": _accuracy,
    "rouge": lambda options: metrics.rouge(*_read_texts(options), options.language or "en"),
}


def _check_options(options: argparse.Namespace) -> None:
    for name, where in OPTIONS.items():
        if getattr(options, name) and options.metric not in where:
            raise InputError(f"--{name} changes nothing in {options.metric}, only in {', '.join(where)}; leave it out")
    if options.picture:
        check_picture("--picture", options.picture)
    if [options.hypotheses, *options.references].count(STDIN) > 1:
        raise InputError("- stands for stdin and can be read once only; write one of the texts to a file")
    if options.metric in ONE_REFERENCE and len(options.references) > 1:
        raise InputError(f"{options.metric} takes one file of references, not {len(options.references)}")


def _read_texts(options: argparse.Namespace) -> tuple[list[str], list[list[str]]]:
    """Return the texts, and for each its references from all files."""
    texts = inputs.read_texts(options.hypotheses, options.column or inputs.predicted_column(options.hypotheses, "text"))
    column = options.reference_column or options.column or "text"
    return texts, inputs.read_references(options.references, column, options.hypotheses, texts)
