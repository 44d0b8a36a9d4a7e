"""`lmtasks info`: what a run folder, a model folder or a checkpoint is."""

from __future__ import annotations

import argparse
import json

HELP = "say what a run, model folder or checkpoint is"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="run folder, model folder, .ckpt file or hub id")
    parser.add_argument("--json", action="store_true", help="print a JSON object, with all settings and scores")


def run(arguments: argparse.Namespace) -> int:
    """Print what is known and return the exit status."""
    from lmtasks.reports.description import as_text, describe

    about = describe(arguments.model)
    print(json.dumps(about, indent=2, ensure_ascii=False) if arguments.json else as_text(about))
    return 0
