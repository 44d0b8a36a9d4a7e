"""`lmtasks compare`: the scores of several runs on each task, and the gain from learning the tasks together."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from lmtasks.cli.configs import check_model
from lmtasks.errors import InputError

HELP = """compare the scores of several runs, task by task, and draw their curves

Each task has a line with its main metric: that of the test rows if all runs have test scores of the task, else that of
the best validation. Each column but the first is followed by its gain over the first. If some runs have one task and
others several, the runs of one task share the first column, "alone", and the gains are those of learning together. The
last line is the mean over the tasks that both have. A run without the task has a -."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    runs_help = "run folder or model folder; RUN=TASK calls its only task as the other runs do"
    parser.add_argument("runs", metavar="RUN", nargs="+", help=runs_help)
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    pictures_help = "draw the losses there, and the agreement of the tasks' gradients (model.training.joint.watch)"
    parser.add_argument("--pictures", metavar="FOLDER", help=pictures_help)


def run(arguments: argparse.Namespace) -> int:
    """Print the comparison, draw the pictures, and return the exit status."""
    places = [_place(argument) for argument in arguments.runs]
    folder = Path(arguments.pictures or ".")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--pictures {folder}: that is a file; name a folder")
    if not folder.parent.is_dir():
        raise InputError(f"--pictures {folder}: there is no folder {folder.parent}")
    from lmtasks.reports.comparison import as_plain, as_text, compare, notes, read_runs

    runs = read_runs(places)
    comparison = compare(runs)
    print(json.dumps(as_plain(comparison), indent=2, ensure_ascii=False) if arguments.json else as_text(comparison))
    for note in notes(runs, comparison):
        print(f"note: {note}", file=sys.stderr)
    if arguments.pictures:
        from lmtasks.reports.curves import draw

        files = draw(runs, folder)
        nothing = "note: nothing to draw: these runs have logged no training loss (trainer.log_every_n_steps)"
        for line in [f"picture: {file}" for file in files] or [nothing]:
            print(line, file=sys.stderr)
    return 0


def _place(argument: str) -> tuple[Path, str]:
    """Return the path of RUN or RUN=TASK, and the name of its task, empty where none is given."""
    path, equals, task = argument.rpartition("=")
    if not equals or Path(argument).exists():
        path, task = argument, ""
    elif not (path and task):
        raise InputError(f"{argument}: give RUN, or RUN=TASK")
    check_model(path)
    return Path(path), task
