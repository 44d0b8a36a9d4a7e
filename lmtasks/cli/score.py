"""`lmtasks score`: compare a file of predictions with one or more files of references, row by row."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from lmtasks.cli.lines import STDIN, stdin_lines
from lmtasks.data.files import read_lines, read_rows
from lmtasks.errors import InputError

HELP = "score a file of predictions against a file of references"
WITH_COLUMNS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")  # all else is plain text, a line a row

Scorer = Callable[[list[str], list[list[str]], argparse.Namespace], tuple[float, str]]
"""(hypotheses, a list of references for each, the command's options) -> (score, how it was computed)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("metric", choices=METRICS, metavar="METRIC", help=f"one of {', '.join(METRICS)}")
    parser.add_argument("hypotheses", metavar="HYPOTHESES", help="file of predictions (plain lines, .jsonl; .gz), or -")
    parser.add_argument("references", metavar="REFERENCE", nargs="+", help="file of references, row for row, or -")
    parser.add_argument("--column", default="text", help="field of the predictions in JSON Lines (default: text)")
    parser.add_argument("--reference-column", help="field of the references in JSON Lines (default: that of --column)")
    parser.add_argument("--language", help="target language, chooses the tokeniser of bleu (default: en)")
    parser.add_argument("--lowercase", action="store_true", help="let bleu ignore upper and lower case")
    parser.add_argument("--json", action="store_true", help="print a JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Print the score and its signature on one line."""
    score, signature = METRICS[arguments.metric](*_read(arguments), arguments)
    if arguments.json:
        print(json.dumps({"metric": arguments.metric, "score": round(score, 4), "signature": signature}))
    else:
        print(f"{score:.2f} {signature}")
    return 0


def _bleu(hypotheses: list[str], references: list[list[str]], options: argparse.Namespace) -> tuple[float, str]:
    from lmtasks.metrics import BLEU  # loads torch

    metric = BLEU(options.language or "en", options.lowercase)
    metric.update(hypotheses, references)
    return metric.compute().item(), metric.signature


def _chrf(hypotheses: list[str], references: list[list[str]], options: argparse.Namespace) -> tuple[float, str]:
    from lmtasks.metrics import CHRF

    _refuse_options_of_bleu(options)
    metric = CHRF()
    metric.update(hypotheses, references)
    return metric.compute().item(), metric.signature


def _ter(hypotheses: list[str], references: list[list[str]], options: argparse.Namespace) -> tuple[float, str]:
    from lmtasks.metrics import TER

    _refuse_options_of_bleu(options)
    metric = TER()
    metric.update(hypotheses, references)
    return metric.compute().item(), metric.signature


METRICS: dict[str, Scorer] = {"bleu": _bleu, "chrf": _chrf, "ter": _ter}


def _refuse_options_of_bleu(options: argparse.Namespace) -> None:
    for name, given in (("--language", options.language is not None), ("--lowercase", options.lowercase)):
        if given:
            raise InputError(f"{name} changes nothing in {options.metric}, only in bleu; leave it out")


def _read(arguments: argparse.Namespace) -> tuple[list[str], list[list[str]]]:
    """Return the hypotheses and, for each, one reference from every file."""
    if Counter([arguments.hypotheses, *arguments.references])[STDIN] > 1:
        raise InputError("- stands for stdin and can be read once only; write one of the texts to a file")
    hypotheses = _texts(arguments.hypotheses, arguments.column)
    columns = []
    for path in arguments.references:
        texts = _texts(path, arguments.reference_column or arguments.column)
        if len(texts) != len(hypotheses):
            raise InputError(
                f"{arguments.hypotheses} has {len(hypotheses)} rows and {path} has {len(texts)}; "
                "row n of one must belong to row n of the other"
            )
        columns.append(texts)
    if not hypotheses:
        raise InputError(f"{arguments.hypotheses}: no rows, nothing to score")
    return hypotheses, [list(row) for row in zip(*columns, strict=True)]


def _texts(path: str, column: str) -> list[str]:
    if path == STDIN:
        return list(stdin_lines())
    if Path(path.lower().removesuffix(".gz")).suffix not in WITH_COLUMNS:
        return list(read_lines(path))
    texts = []
    for number, row in enumerate(read_rows(path, {"text": column}, "test", optional=("text",)), 1):
        if row["text"] is None:
            raise InputError(f"{path}, row {number}, column '{column}': null or absent, expected a text ('' if empty)")
        texts.append(row["text"])
    return texts
