"""`lmtasks attend`: show which source tokens the decoder reads for each target token, as text or as a picture."""

from __future__ import annotations

import argparse
import sys

from lmtasks.cli.run import add_choice
from lmtasks.errors import InputError
from lmtasks.reports.pictures import check_picture

HELP = "show which source words the model reads for each target word"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="run folder, model folder, .ckpt file or hub id")
    parser.add_argument("text", metavar="TEXT", help="the sentence to read")
    parser.add_argument("answer", metavar="ANSWER", nargs="?", help="what to write; default: the model's own answer")
    parser.add_argument("--output", metavar="FILE", help="write a picture (.png, .svg or .pdf) instead of text")
    add_choice(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show one alignment and return the exit status."""
    if not arguments.text.strip():
        raise InputError("TEXT is blank; give a sentence")
    if arguments.output:
        check_picture("--output", arguments.output)
    from lmtasks.reports.alignment import as_text, draw
    from lmtasks.storage.model_folder import load

    model = load(arguments.model, arguments.device)
    _, group = model.find_task(arguments.task)[1].choose(arguments.source, arguments.target)
    source, target, weights = model.align(arguments.text, arguments.answer, group, arguments.task)
    if arguments.output:
        draw(source, target, weights, arguments.output, title=arguments.text)
        print(f"wrote {arguments.output}", file=sys.stderr)
    else:
        print(as_text(source, target, weights))
    return 0
