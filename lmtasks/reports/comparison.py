"""Compare runs: read the scores of each run, put them side by side, task by task, and show the gains over the first.

`as_text(compare(read_runs([(Path("runs/joint"), ""), (Path("runs/alone"), "")])))` is the table of `lmtasks compare`.
"""

from __future__ import annotations

import csv
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmtasks.errors import InputError
from lmtasks.settings import from_plain
from lmtasks.storage import CONFIG, METRICS_FILE, MODEL
from lmtasks.storage.checkpoint import find_model, read_metrics, read_settings
from lmtasks.storage.reading import refusing
from lmtasks.text.columns import align

ALONE = "alone"  # the column of several runs that have one task each
EMPTY = (None, "", "nan")  # cells of metrics.csv without a number: a task took no part
SPLITS = ("test", "validation")  # a task is compared on the first split that all runs with scores of it have
TEST, VALIDATION = SPLITS


@dataclass(frozen=True)
class Run:
    """A run as read from its folder. If its only task was renamed, so were its scores."""

    name: str
    path: Path
    metrics: dict[str, str]
    """Task -> main metric."""
    scores: dict[str, dict[str, float]]
    """Split -> score of each task/metric."""
    signatures: dict[str, str]
    """Task/metric -> how it was computed."""
    history: list[dict[str, float]]
    """The rows of metrics.csv that training wrote."""

    def splits(self, task: str, metric: str) -> list[str]:
        """Return the splits for which the run has this score."""
        return [split for split in SPLITS if f"{task}/{metric}" in self.scores[split]]


@dataclass(frozen=True)
class Mean:
    """The mean scores of the first column and of another one, over the tasks that both have."""

    tasks: tuple[str, ...]
    """The tasks that both columns have."""
    first: float
    """Mean score of the first column."""
    own: float
    """Mean score of the other column."""

    @property
    def gain(self) -> float:
        """How much higher the mean of the other column is."""
        return self.own - self.first


@dataclass(frozen=True)
class Comparison:
    """Main scores of runs side by side; the other columns are compared with the first one."""

    metrics: dict[str, str]
    """Task -> the metric that is shown: the main metric of the first run that has the task."""
    splits: dict[str, str]
    """Task -> the split of its scores; a task is missing if its runs have no split in common."""
    columns: dict[str, dict[str, float]]
    """Name of a run, or `alone` for several runs of one task each -> the score of each task."""
    paths: dict[str, Path]
    """Run -> its folder."""
    alone: dict[str, str] = field(default_factory=dict)
    """Task -> the run that learned it alone, if the first column is made of such runs."""

    @property
    def first(self) -> str:
        """The name of the first column."""
        return next(iter(self.columns))

    @property
    def others(self) -> list[str]:
        """The names of the columns after the first."""
        return list(self.columns)[1:]

    def gain(self, column: str, task: str) -> float | None:
        """Return how much higher a column scores than the first; None if one of them has no score."""
        first, own = self.columns[self.first].get(task), self.columns[column].get(task)
        return None if first is None or own is None else own - first

    @property
    def means(self) -> dict[str, Mean]:
        """The mean of each later column that has a task in common with the first."""
        found = {}
        for name in self.others:
            if tasks := tuple(task for task in self.metrics if self.gain(name, task) is not None):
                first, own = (sum(self.columns[n][task] for task in tasks) / len(tasks) for n in (self.first, name))
                found[name] = Mean(tasks, first, own)
        return found


def read_runs(places: Sequence[tuple[Path, str]]) -> list[Run]:
    """Read runs, given as (run folder or its model folder, new name of its only task or "").

    Raises: InputError if a folder is no run, has no scores or is given twice, or if a run of several tasks is renamed.
    """
    paths = []
    for path, _ in places:
        if path.is_file():
            raise InputError(f"{path}: a file; give the folder of a run")
        paths.append(path.parent if path.name == MODEL and (path / CONFIG).is_file() else path)
    names = shortest_names(paths)
    return [_read(name, path, task) for name, path, (_, task) in zip(names, paths, places, strict=True)]


def shortest_names(paths: Sequence[Path]) -> list[str]:
    """Return the names of folders, each with as many parent folders as tell it from the others.

    Raises: InputError if a folder is given twice.

    >>> shortest_names([Path("/a/x/run"), Path("/a/y/run"), Path("/a/other")])
    ['x/run', 'y/run', 'other']
    """
    whole = [Path(os.path.abspath(path)).parts for path in paths]  # resolve() would lose the name of a link
    if twice := [path for path, parts in zip(paths, whole, strict=True) if whole.count(parts) > 1]:
        raise InputError(f"{twice[0]} is given twice")

    def shortest(parts: tuple[str, ...]) -> str:
        """Return the shortest end of a path that no other path has; a whole path is unique."""
        ends = (parts[-length:] for length in range(1, len(parts) + 1))
        return next("/".join(end) for end in ends if sum(other[-len(end) :] == end for other in whole) == 1)

    return [shortest(parts) for parts in whole]


def compare(runs: Sequence[Run]) -> Comparison:
    """Put the scores of runs side by side.

    The first column holds the first run. But if runs of one task each, of different tasks, are given together with runs
    of several tasks, the runs of one task share the first column.

    Raises: InputError if there is no task for which all runs that learned it have scores of the same split.
    """
    metrics: dict[str, str] = {}  # in the order of the runs, which becomes that of the lines
    for run in runs:
        metrics |= {task: metric for task, metric in run.metrics.items() if task not in metrics}
    splits = {}
    for task, metric in metrics.items():
        given = [own for run in runs if (own := run.splits(task, metric))]
        if common := [split for split in SPLITS if given and all(split in own for own in given)]:
            splits[task] = common[0]
    if not splits:
        each = "; ".join(f"{run.name}: {', '.join(s for s in SPLITS if run.scores[s])}" for run in runs)
        raise InputError(
            f"these runs have no scores of the same split ({each}); `lmtasks fit` scores the splits that the data has"
        )
    columns: dict[str, dict[str, float]] = {}
    for run in runs:
        keys = {task: f"{task}/{metrics[task]}" for task in splits}
        columns[run.name] = {
            task: run.scores[splits[task]][key] for task, key in keys.items() if key in run.scores[splits[task]]
        }
    single = [run for run in runs if len(run.metrics) == 1]
    alone = {task: run.name for run in single for task in run.metrics}
    if not 0 < len(alone) == len(single) < len(runs):  # two runs of the same task cannot share a column
        return Comparison(metrics, splits, columns, {run.name: run.path for run in runs})
    joined = {task: score for run in single for task, score in columns.pop(run.name).items()}
    shared = ALONE if ALONE not in columns else f"{ALONE} (several)"  # a run may be called so, too
    first = single[0].name if len(single) == 1 else shared
    return Comparison(metrics, splits, {first: joined, **columns}, {run.name: run.path for run in runs}, alone)


def notes(runs: Sequence[Run], comparison: Comparison) -> list[str]:
    """Return what a reader of the table must know in addition, a line each."""
    found = []
    untested: dict[str, list[str]] = {}  # the runs without test scores -> the tasks compared on validation for them
    for task in (task for task, split in comparison.splits.items() if split != TEST):
        given = {run.name: run.splits(task, comparison.metrics[task]) for run in runs}
        names = ", ".join(name for name, splits in given.items() if splits and TEST not in splits)
        untested.setdefault(names, []).append(task)
    if any(run.scores[TEST] for run in runs):  # otherwise all scores are of validation, and the heading says so
        for names, tasks in untested.items():
            found.append(f"no test scores of {', '.join(tasks)} in {names}: these are of the best validation")
    for task, metric in comparison.metrics.items():
        own = "; ".join(f"{run.name} {', '.join(s)}" for run in runs if (s := run.splits(task, metric)))
        if own and task not in comparison.splits:
            found.append(f"{task} has no scores of the same split in all runs: {own}")
        signed = {run.name: run.signatures[key] for run in runs if (key := f"{task}/{metric}") in run.signatures}
        if len(set(signed.values())) > 1:
            each = "; ".join(f"{name} {signature}" for name, signature in signed.items())
            found.append(f"{task}/{metric} is computed in different ways: {each}")
    owners = Counter(task for run in runs for task in run.metrics)
    for run in runs:
        (task, *others) = run.metrics
        if len(runs) > 1 and not others and owners[task] == 1:
            found.append(f"only {run.name} has {task}; if the others use another name for it, give {run.path}=NAME")
    return found


def as_text(comparison: Comparison) -> str:
    """Return the comparison as a table for people."""
    first, means, columns = comparison.first, comparison.means, comparison.columns
    several = len(set(comparison.splits.values())) > 1  # then the name of each task begins with its split
    rows = [["split/task" if several else next(iter(comparison.splits.values())), "metric", first]]
    for task, metric in comparison.metrics.items():
        label = f"{comparison.splits.get(task, '-')}/{task}" if several else task
        rows.append([label, metric, _score(columns[first].get(task))])
    if means:
        mean = next(iter(means.values()))
        same = len({each.tasks for each in means.values()}) == 1  # otherwise the first column has several means
        rows.append([f"mean of {len(mean.tasks) if same else 'shared'}", "", _score(mean.first) if same else ""])
    for name in comparison.others:
        cells = [(name, f"vs {first}")]
        cells += [(_score(columns[name].get(task)), _gain(comparison.gain(name, task))) for task in comparison.metrics]
        cells.append((_score(means[name].own), _gain(means[name].gain)) if name in means else ("-", "-"))
        for row, pair in zip(rows, cells, strict=False):  # without means there is no row for the last pair
            row += pair
    text = "\n".join(align(rows, left=2))
    alone = ", ".join(f"{task} of {name}" for task, name in comparison.alone.items())
    return f"{text}\n\n{first}: {alone}" if len(comparison.alone) > 1 else text


def as_plain(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as data for JSON; null means that a run does not have the task."""
    return {
        "runs": {name: str(path) for name, path in comparison.paths.items()},
        "against": comparison.first,
        "alone": comparison.alone,
        "tasks": {
            task: {
                "metric": metric,
                "split": comparison.splits.get(task),
                "scores": {name: scores.get(task) for name, scores in comparison.columns.items()},
                "gains": {name: comparison.gain(name, task) for name in comparison.others},
            }
            for task, metric in comparison.metrics.items()
        },
        "means": {
            name: {"tasks": list(mean.tasks), "score": mean.own, "against": mean.first, "gain": mean.gain}
            for name, mean in comparison.means.items()
        },
    }


def _read(name: str, path: Path, renamed: str) -> Run:
    place = find_model(path)
    settings = read_settings(place)
    with refusing(place):
        tasks = from_plain(settings["tasks"])
        metrics = {task: str(value.main_metric) for task, value in tasks.items()}
    if renamed and len(metrics) > 1:
        raise InputError(f"{path}={renamed}: the run has {len(metrics)} tasks; only a single task can be renamed")

    def rename(key: str) -> str:
        """Return split/task/metric with the task's new name; other keys stay."""
        split, _, rest = key.partition("/")
        task, slash, metric = rest.partition("/")
        return f"{split}/{renamed}/{metric}" if renamed and slash and task in metrics else key

    history = [{rename(column): value for column, value in row.items()} for row in _read_history(path)]
    scored = [row for row in history if not math.isnan(row.get("validation/score", math.nan))]
    best = max(scored, key=lambda row: row["validation/score"], default={})  # the row whose weights `fit` keeps
    saved = read_metrics(path / MODEL) or read_metrics(path)
    scores = {rename(key): float(value) for key, value in saved.get("scores", {}).items() if value is not None}
    splits = {split: _of_split(scores, split) for split in SPLITS}
    if splits[VALIDATION]:  # the saved model was validated last: an average, or weights of an earlier step
        validated = [place for place, row in enumerate(history) if any(key.startswith("validation/") for key in row)]
        history = [row for place, row in enumerate(history) if place not in validated[-1:]]
    splits[VALIDATION] = _of_split(best, VALIDATION) | splits[VALIDATION]  # scores of the saved model come first
    if not any(splits.values()):
        raise InputError(f"{path}: no scores yet; `lmtasks fit` writes them when it validates and when it ends")
    signatures = {rename(f"/{key}")[1:]: text for key, text in saved.get("signatures", {}).items()}
    learned = {renamed or task: metric for task, metric in metrics.items()}
    return Run(name, path, learned, splits, signatures, history)


def _read_history(path: Path) -> list[dict[str, float]]:
    """Return the rows of metrics.csv without empty cells; a row without a step was cut off while written."""
    file = path / METRICS_FILE
    if not file.is_file():
        return []
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = [row for row in csv.DictReader(lines) if row.get("step")]
        return [{name: float(value) for name, value in row.items() if name and value not in EMPTY} for row in rows]
    except (ValueError, csv.Error) as error:
        raise InputError(f"{file}: {error}; metrics.csv holds numbers only") from error


def _of_split(scores: dict[str, float], split: str) -> dict[str, float]:
    """Return {task/metric: score} of a split, without the mean, which is called split/score."""
    parts = {key.removeprefix(f"{split}/"): value for key, value in scores.items() if key.startswith(f"{split}/")}
    return {key: value for key, value in parts.items() if "/" in key}


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _gain(value: float | None) -> str:
    return "-" if value is None else "0.00" if abs(value) < 0.005 else f"{value:+.2f}"  # never -0.00
