"""`lmtasks score`: compare a file of predictions with one or more files of references, row by row."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmtasks.cli.score_inputs import (
    check_rows,
    check_stdin,
    has_columns,
    predicted_column,
    read_answers,
    read_labels,
    read_references,
    read_tags,
    read_texts,
)
from lmtasks.errors import InputError
from lmtasks.reports.pictures import check_picture

if TYPE_CHECKING:
    from lmtasks.metrics.translation import BLEU, CHRF, TER

HELP = "score a file of predictions against a file of references"


@dataclass(frozen=True)
class Result:
    """What the command prints."""

    scores: dict[str, float]
    """Name -> number; the first is the one that counts."""
    signature: str
    """How the numbers came about, so that others can repeat them."""
    table: str = ""
    """Numbers of each class, for people."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("metric", choices=METRICS, metavar="METRIC", help=f"one of {', '.join(METRICS)}")
    parser.add_argument("hypotheses", metavar="HYPOTHESES", help="file of predictions (plain lines, .jsonl; .gz), or -")
    parser.add_argument("references", metavar="REFERENCE", nargs="+", help="file of references, row for row, or -")
    parser.add_argument(
        "--column",
        help="column of the predictions (default: prediction, or labels, where there is one, as `lmtasks run` writes; "
        "else text, of entities tags, of accuracy label)",
    )
    parser.add_argument(
        "--reference-column",
        help="column of the references (default: that of --column, else text, of entities tags, of accuracy label, of "
        "squad answers)",
    )
    parser.add_argument("--language", help="language of the texts, for bleu, squad and rouge (default: en)")
    parser.add_argument("--lowercase", action="store_true", help="let bleu ignore upper and lower case")
    parser.add_argument("--picture", metavar="FILE", help="draw the confusion matrix of accuracy (.png, .svg or .pdf)")
    parser.add_argument("--json", action="store_true", help="print a JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Print the score and its signature on one line; further scores and a table of classes below."""
    _refuse_idle_options(arguments)
    check_stdin([arguments.hypotheses, *arguments.references])
    result = METRICS[arguments.metric](arguments)
    scores = {name: round(score, 4) for name, score in result.scores.items()}
    main, *others = result.scores.items()
    if arguments.json:
        several = {"scores": scores} if others else {}
        print(
            json.dumps({"metric": arguments.metric, "score": scores[main[0]], **several, "signature": result.signature})
        )
        return 0
    if not others:
        print(f"{main[1]:.2f} {result.signature}")
    else:
        print(f"{main[1]:.2f} {main[0]} {result.signature}")
        print("\n".join(f"{score:.2f} {name}" for name, score in others))
    if result.table:
        print(f"\n{result.table}")
    return 0


def _bleu(options: argparse.Namespace) -> Result:
    from lmtasks.metrics.translation import BLEU  # loads torch

    return _of_texts(BLEU(options.language or "en", options.lowercase), "bleu", options)


def _chrf(options: argparse.Namespace) -> Result:
    from lmtasks.metrics.translation import CHRF

    return _of_texts(CHRF(), "chrf", options)


def _ter(options: argparse.Namespace) -> Result:
    from lmtasks.metrics.translation import TER

    return _of_texts(TER(), "ter", options)


def _of_texts(metric: BLEU | CHRF | TER, name: str, options: argparse.Namespace) -> Result:
    metric.update(*_read_texts(options))
    return Result({name: metric.compute().item()}, metric.signature)


def _rouge(options: argparse.Namespace) -> Result:
    from lmtasks.metrics.summary import ROUGE

    metric = ROUGE(options.language or "en")
    metric.update(*_read_texts(options))
    return Result({name: metric.compute()[name].item() for name in ("rougeL", "rouge1", "rouge2")}, metric.signature)


def _squad(options: argparse.Namespace) -> Result:
    from lmtasks.metrics.answers import SQuAD

    reference = _only_reference(options)
    answers, known = read_answers(options.hypotheses, reference, options.column, options.reference_column or "answers")
    check_rows(options.hypotheses, answers, reference, known)
    metric = SQuAD(options.language or "en")
    metric.update(answers, known)
    scores = {name: score.item() for name, score in metric.compute().items()}
    return Result({"f1": scores.pop("f1"), **scores}, metric.signature)


def _accuracy(options: argparse.Namespace) -> Result:
    from lmtasks.metrics.labels import Labels, MultiLabels, draw_confusion

    reference = _only_reference(options)
    column = options.column or predicted_column(options.hypotheses, "label", listed=True)
    given = read_labels(options.hypotheses, column)
    actual = read_labels(reference, options.reference_column or options.column or "label", blank=False)
    check_rows(options.hypotheses, given, reference, actual)
    if any(isinstance(row, list) for row in [*given, *actual]):
        for path, rows in ((options.hypotheses, given), (reference, actual)):
            _check_lists(path, rows)
        if options.picture:
            raise InputError("--picture: rows with several labels have no confusion matrix; leave it out")
        several = MultiLabels(sorted({label for row in [*given, *actual] for label in row}) or ["(none)"])
        several.update(given, actual)
        return Result(
            {name: score.item() for name, score in several.compute().items()}, several.signature, several.table()
        )
    one = Labels(sorted({str(label) for label in [*given, *actual]}))
    one.update([str(label) for label in given], [str(label) for label in actual])
    if options.picture:
        draw_confusion(one.confusion, one.labels, options.picture)
    return Result({name: score.item() for name, score in one.compute().items()}, one.signature, one.table())


def _entities(options: argparse.Namespace) -> Result:
    from lmtasks.metrics.entities import Entities
    from lmtasks.text.tags import spans

    reference = _only_reference(options)
    given = read_tags(options.hypotheses, options.column or predicted_column(options.hypotheses, "tags", listed=True))
    named = options.column if has_columns(reference) else None  # a word a line has no names
    actual = read_tags(reference, options.reference_column or named or "tags")
    check_rows(options.hypotheses, given, reference, actual)
    rows = []
    for (here, ours), (there, theirs) in zip(given, actual, strict=True):
        if len(ours) != len(theirs):
            raise InputError(f"{here}: {len(ours)} tags, {there} has {len(theirs)}; give one tag for each word")
        rows.append((_at(here, spans, ours), _at(there, spans, theirs)))
    metric = Entities(sorted({label for row in rows for found in row for label, _, _ in found}))
    metric.update([found for found, _ in rows], [known for _, known in rows])
    scores = {name: metric.compute()[name].item() for name in ("f1", "precision", "recall")}
    return Result(scores, metric.signature, metric.table())


METRICS: dict[str, Callable[[argparse.Namespace], Result]] = {
    "bleu": _bleu,
    "chrf": _chrf,
    "ter": _ter,
    "squad": _squad,
    "entities": _entities,
    "accuracy": _accuracy,
    "rouge": _rouge,
}
OPTIONS = {"language": ("bleu", "squad", "rouge"), "lowercase": ("bleu",), "picture": ("accuracy",)}  # where they count


def _refuse_idle_options(options: argparse.Namespace) -> None:
    for name, metrics in OPTIONS.items():
        if getattr(options, name) and options.metric not in metrics:
            raise InputError(
                f"--{name} changes nothing in {options.metric}, only in {', '.join(metrics)}; leave it out"
            )
    if options.picture:
        check_picture("--picture", options.picture)


def _read_texts(options: argparse.Namespace) -> tuple[list[str], list[list[str]]]:
    """Return the texts and, for each, the references from all files."""
    texts = read_texts(options.hypotheses, options.column or predicted_column(options.hypotheses, "text"))
    column = options.reference_column or options.column or "text"
    return texts, read_references(options.references, column, options.hypotheses, texts)


def _only_reference(options: argparse.Namespace) -> str:
    if len(options.references) > 1:
        raise InputError(f"{options.metric} takes one file of references, not {len(options.references)}")
    return options.references[0]


def _check_lists(path: str, rows: Sequence[str | list[str]]) -> None:
    """Refuse a file of texts that is to be compared with lists: "politics, sport" is no label."""
    for number, row in enumerate(rows, 1):
        if isinstance(row, str):
            raise InputError(
                f"{path}, row {number}: {row[:40]!r} is a text and the other file has lists; give lists in both, "
                "--column labels of what `lmtasks run` writes"
            )


def _at(place: str, read: Callable[[list[str]], list], tags: list[str]) -> list:
    try:
        return read(tags)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None
