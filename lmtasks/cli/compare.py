"""`lmtasks compare`: what several runs score on each task, and what is gained by learning the tasks together."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmtasks.cli.configs import check_model
from lmtasks.errors import InputError
from lmtasks.reports.pictures import columns

if TYPE_CHECKING:
    from lmtasks.reports.runs import Comparison, Mean

HELP = """compare the scores of several runs, task by task, and draw their curves

Each task has a line with its main metric, of the test rows if all runs have test scores of it, else of the best
validation. Each column but the first is followed by what it gains over the first. Runs of one task that stand beside a
run of several share the first column, "alone": the gains are then those of learning together. The last line is the mean
over the tasks that both have; - stands where a run does not have the task."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        help="run folder or model folder; RUN=TASK calls its only task as the other runs do",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    parser.add_argument(
        "--pictures",
        metavar="FOLDER",
        help="draw the curves of the losses there, and how the gradients of the tasks agree in runs that watched them "
        "(model.joint.watch)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the comparison, draw the pictures, and return the exit status."""
    places = [_place(argument) for argument in arguments.runs]
    if arguments.pictures:
        _check_folder(arguments.pictures)
    from lmtasks.reports.runs import compare, notes, read_runs

    runs = read_runs(places)
    comparison = compare(runs)
    print(json.dumps(as_plain(comparison), indent=2, ensure_ascii=False) if arguments.json else as_text(comparison))
    for note in notes(runs, comparison):
        print(f"note: {note}", file=sys.stderr)
    if arguments.pictures:
        from lmtasks.reports.curves import draw

        files = draw(runs, Path(arguments.pictures))
        nothing = "note: nothing to draw: these runs have logged no training loss (trainer.log_every_n_steps)"
        for line in [f"picture: {file}" for file in files] or [nothing]:
            print(line, file=sys.stderr)
    return 0


def as_text(comparison: Comparison) -> str:
    """Return the comparison as a table for people."""
    first, *others = comparison.columns
    split, labels = _labels(comparison)
    heads = [split, "metric", first.name]
    tasks = list(comparison.metrics)
    lines = [[labels[task], comparison.metrics[task], _score(first.scores.get(task))] for task in tasks]
    means = comparison.means
    shared = {mean.tasks for mean in means.values()}
    last = [_mean_label(means), "", _score(next(iter(means.values())).first) if len(shared) == 1 else ""]
    for column in others:
        heads += [column.name, f"vs {first.name}"]
        for task, line in zip(tasks, lines, strict=True):
            line += [_score(column.scores.get(task)), _gain(comparison.gain(column, task))]
        mean = means.get(column.name)
        last += [_score(mean.own), _gain(mean.gain)] if mean else ["-", "-"]
    rows = [heads, *lines, *([last] if means else [])]
    widths = [max(map(columns, cells)) for cells in zip(*rows, strict=True)]
    text = "\n".join(
        "  ".join(_pad(cell, widths[n], left=n < 2) for n, cell in enumerate(row)).rstrip() for row in rows
    )
    alone = ", ".join(f"{task} of {name}" for task, name in comparison.alone.items())
    return f"{text}\n\n{first.name}: {alone}" if len(comparison.alone) > 1 else text


def as_plain(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as data for JSON; null stands where a run does not have the task."""
    first, *others = comparison.columns
    return {
        "runs": {name: str(path) for name, path in comparison.paths.items()},
        "against": first.name,
        "alone": comparison.alone,
        "tasks": {
            task: {
                "metric": metric,
                "split": comparison.splits.get(task),
                "scores": {column.name: column.scores.get(task) for column in comparison.columns},
                "gains": {column.name: comparison.gain(column, task) for column in others},
            }
            for task, metric in comparison.metrics.items()
        },
        "means": {
            name: {"tasks": list(mean.tasks), "score": mean.own, "against": mean.first, "gain": mean.gain}
            for name, mean in comparison.means.items()
        },
    }


def _place(argument: str) -> tuple[Path, str]:
    """Return the path of RUN or RUN=TASK, and the name of its task, empty where none is given."""
    path, equals, task = argument.rpartition("=")
    if not equals or Path(argument).exists():
        path, task = argument, ""
    elif not (path and task):
        raise InputError(f"{argument}: give RUN, or RUN=TASK")
    check_model(path)
    return Path(path), task


def _check_folder(folder: str) -> None:
    """Refuse what is no folder; one that is not there yet is made later, in a folder that is."""
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise InputError(f"--pictures {folder}: that is a file; name a folder")
    if not path.parent.is_dir():
        raise InputError(f"--pictures {folder}: there is no folder {path.parent}")


def _labels(comparison: Comparison) -> tuple[str, dict[str, str]]:
    """Return the split of all scores and the names of the tasks, with that of the split before it if it is not one."""
    splits = set(comparison.splits.values())
    if len(splits) == 1:
        return splits.pop(), {task: task for task in comparison.metrics}
    return "split/task", {task: f"{comparison.splits.get(task, '-')}/{task}" for task in comparison.metrics}


def _mean_label(means: dict[str, Mean]) -> str:
    """Say of how many tasks the means are, if of all columns the same."""
    shared = {mean.tasks for mean in means.values()}
    return f"mean of {len(next(iter(shared)))}" if len(shared) == 1 else "mean of shared"


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _gain(value: float | None) -> str:
    return "-" if value is None else "0.00" if abs(value) < 0.005 else f"{value:+.2f}"


def _pad(cell: str, width: int, left: bool) -> str:
    blanks = " " * (width - columns(cell))
    return cell + blanks if left else blanks + cell
