"""Compare runs: read the scores of each run, set them side by side, task by task, and show what one gains over another.

`as_text(compare(read_runs([(Path("runs/joint"), ""), (Path("runs/alone"), "")])))` is the table of `lmtasks compare`.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmtasks.errors import InputError
from lmtasks.reports.tables import align
from lmtasks.settings import from_plain
from lmtasks.storage import CONFIG, METRICS, METRICS_FILE, MODEL
from lmtasks.storage.checkpoint import find_model, read_settings

ALONE = "alone"  # the column of several runs of one task each
EMPTY = (None, "", "nan")  # cells of metrics.csv without a number
SPLITS = ("test", "validation")  # a task is compared on the first split that all runs with scores of it have
TEST, VALIDATION = SPLITS


@dataclass(frozen=True)
class Run:
    """A run as its folder tells it. Its only task may have been renamed, and its scores with it."""

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
        """Return the splits of which the run has this score."""
        return [split for split in SPLITS if f"{task}/{metric}" in self.scores[split]]


@dataclass(frozen=True)
class Mean:
    """The mean scores of the first column and of another one, over the tasks that both have."""

    tasks: tuple[str, ...]
    first: float
    own: float

    @property
    def gain(self) -> float:
        """How much higher the mean of the other column is."""
        return self.own - self.first


@dataclass(frozen=True)
class Comparison:
    """Main scores of runs side by side; the first column is what the others are compared with."""

    metrics: dict[str, str]
    """Task -> the metric that is shown: the main one of the first run that has the task."""
    splits: dict[str, str]
    """Task -> the split of its scores; none where the runs have no split of it in common."""
    columns: dict[str, dict[str, float]]
    """Name of a run, or of several that have a task each -> the score of each task."""
    paths: dict[str, Path]
    """Run -> its folder."""
    alone: dict[str, str] = field(default_factory=dict)
    """Task -> the run of it alone, if the first column is of such runs."""

    @property
    def first(self) -> str:
        """The name of the first column."""
        return next(iter(self.columns))

    @property
    def others(self) -> list[str]:
        """The names of the columns after the first."""
        return list(self.columns)[1:]

    def gain(self, column: str, task: str) -> float | None:
        """Return how much higher a column scores than the first; None if one has no score."""
        first, own = self.columns[self.first].get(task), self.columns[column].get(task)
        return None if first is None or own is None else own - first

    @property
    def means(self) -> dict[str, Mean]:
        """The mean of each column after the first that has a task in common with it."""
        found = {}
        for name in self.others:
            if tasks := tuple(task for task in self.metrics if self.gain(name, task) is not None):
                first, own = (sum(self.columns[n][task] for task in tasks) / len(tasks) for n in (self.first, name))
                found[name] = Mean(tasks, first, own)
        return found


def read_runs(places: Sequence[tuple[Path, str]]) -> list[Run]:
    """Read runs, given as (folder, new name of its only task or nothing).

    Raises:
        InputError: One is no run, or has no scores, or is given twice, or has several tasks and a new name for one.
    """
    paths = [_home(path) for path, _ in places]
    names = shortest_names(paths)
    return [_read(name, path, task) for name, path, (_, task) in zip(names, paths, places, strict=True)]


def shortest_names(paths: Sequence[Path]) -> list[str]:
    """Return the names of folders, with as many of the folders above as tell them from each other.

    >>> shortest_names([Path("/a/x/run"), Path("/a/y/run"), Path("/a/other")])
    ['x/run', 'y/run', 'other']
    """
    whole = [Path(os.path.abspath(path)).parts for path in paths]  # resolve() would lose the name of a link
    if twice := [path for path, parts in zip(paths, whole, strict=True) if whole.count(parts) > 1]:
        raise InputError(f"{twice[0]} is given twice")
    lengths = [1] * len(whole)  # how many folders each name has; those that are shared grow until none is
    while True:
        names = ["/".join(parts[-length:]) for parts, length in zip(whole, lengths, strict=True)]
        counts = Counter(names)
        if len(counts) == len(names):
            return names
        lengths = [length + (counts[name] > 1) for length, name in zip(lengths, names, strict=True)]


def compare(runs: Sequence[Run]) -> Comparison:
    """Set the scores of runs against each other.

    Runs of one task each, of different tasks, share the first column if runs of several tasks stand beside them;
    otherwise the first run is the first column.

    Raises:
        InputError: There is no task of which all runs that have learned it have scores of the same split.
    """
    metrics: dict[str, str] = {}  # in the order of the runs, which is that of the lines
    for run in runs:
        metrics |= {task: metric for task, metric in run.metrics.items() if task not in metrics}
    splits = _common_splits(runs, metrics)
    columns = {run.name: _main_scores(run, metrics, splits) for run in runs}
    alone = _learned_alone(runs)
    if names := set(alone.values()):
        joined = {task: score for name in columns if name in names for task, score in columns[name].items()}
        others = {name: scores for name, scores in columns.items() if name not in names}
        free = ALONE if ALONE not in columns else f"{ALONE} (several)"
        columns = {names.pop() if len(names) == 1 else free: joined, **others}
    return Comparison(metrics, splits, columns, {run.name: run.path for run in runs}, alone)


def notes(runs: Sequence[Run], comparison: Comparison) -> list[str]:
    """Return what a reader of the comparison must know beside it, a line each."""
    found = []
    untested: dict[str, list[str]] = {}  # the runs without test scores -> the tasks compared on validation for them
    for task in (task for task, split in comparison.splits.items() if split != TEST):
        given = {run.name: run.splits(task, comparison.metrics[task]) for run in runs}
        names = ", ".join(name for name, splits in given.items() if splits and TEST not in splits)
        untested.setdefault(names, []).append(task)
    if any(run.scores[TEST] for run in runs):  # else all is validation, and the heading says so
        for names, tasks in untested.items():
            found.append(f"no test scores of {', '.join(tasks)} in {names}: these are of the best validation")
    for task, metric in comparison.metrics.items():
        own = "; ".join(f"{run.name} {', '.join(s)}" for run in runs if (s := run.splits(task, metric)))
        if own and task not in comparison.splits:
            found.append(f"{task} has no scores of the same split in all runs: {own}")
        signed = {run.name: run.signatures[key] for run in runs if (key := f"{task}/{metric}") in run.signatures}
        if len(set(signed.values())) > 1:
            each = "; ".join(f"{name} {signature}" for name, signature in signed.items())
            found.append(f"{task}/{metric} is not computed alike: {each}")
    owners = Counter(task for run in runs for task in run.metrics)
    for run in runs:
        (task, *others) = run.metrics
        if len(runs) > 1 and not others and owners[task] == 1:
            found.append(f"only {run.name} has {task}; if the others call it something else, give {run.path}=NAME")
    return found


def as_text(comparison: Comparison) -> str:
    """Return the comparison as a table for people."""
    first, means = comparison.first, comparison.means
    several = len(set(comparison.splits.values())) > 1  # then each task is named with its split
    split = "split/task" if several else next(iter(comparison.splits.values()))
    shared = {mean.tasks for mean in means.values()}
    counts = {len(tasks) for tasks in shared}
    heads, rows = [split, "metric", first], []
    for task, metric in comparison.metrics.items():
        label = f"{comparison.splits.get(task, '-')}/{task}" if several else task
        rows.append([label, metric, _score(comparison.columns[first].get(task))])
    last = [f"mean of {counts.pop()}" if len(shared) == 1 else "mean of shared", ""]
    last.append(_score(next(iter(means.values())).first) if len(shared) == 1 else "")
    for name in comparison.others:
        heads += [name, f"vs {first}"]
        for task, row in zip(comparison.metrics, rows, strict=True):
            row += [_score(comparison.columns[name].get(task)), _gain(comparison.gain(name, task))]
        mean = means.get(name)
        last += [_score(mean.own), _gain(mean.gain)] if mean else ["-", "-"]
    text = "\n".join(align([heads, *rows, *([last] if means else [])], left=2))
    alone = ", ".join(f"{task} of {name}" for task, name in comparison.alone.items())
    return f"{text}\n\n{first}: {alone}" if len(comparison.alone) > 1 else text


def as_plain(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as data for JSON; null stands where a run does not have the task."""
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


def _home(path: Path) -> Path:
    """Return the run folder that a path means: that of its model folder too."""
    if path.is_file():
        raise InputError(f"{path}: a file; give the folder of a run")
    return path.parent if path.name == MODEL and (path / CONFIG).is_file() else path


def _read(name: str, path: Path, renamed: str) -> Run:
    place = find_model(path)
    try:
        tasks = from_plain(read_settings(place)["tasks"])
        metrics = {task: str(value.main_metric) for task, value in tasks.items()}
    except (TypeError, KeyError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{place}: its settings do not fit this version of lmtasks ({reason})") from error
    if renamed and len(metrics) > 1:
        raise InputError(f"{path}={renamed}: the run has {len(metrics)} tasks; only one that is alone can be renamed")
    names = {task: renamed or task for task in metrics}
    history = [{_renamed(column, names): value for column, value in row.items()} for row in _history(path)]
    tested = _tested(path)
    scores = {_renamed(key, names): float(value) for key, value in tested.get("scores", {}).items()}
    splits = {split: _of_split(scores, split) for split in SPLITS}
    # The scores of the model that was kept, if it was validated, count before those of the best validation.
    splits[VALIDATION] = _of_split(_best(history), VALIDATION) | splits[VALIDATION]
    if not any(splits.values()):
        raise InputError(f"{path}: no scores yet; `lmtasks fit` writes them when it validates and when it ends")
    signatures = {_renamed(f"/{key}", names)[1:]: text for key, text in tested.get("signatures", {}).items()}
    learned = {names[task]: metric for task, metric in metrics.items()}
    return Run(name, path, learned, splits, signatures, _while_training(history, scores))


def _tested(path: Path) -> dict[str, Any]:
    """Return metrics.json of a run or model folder, nothing where training has not come to its end."""
    for file in (path / MODEL / METRICS, path / METRICS):
        if file.is_file():
            try:
                return json.loads(file.read_text(encoding="utf-8"))
            except ValueError as error:
                raise InputError(f"{file}: not JSON ({error})") from error
    return {}


def _history(path: Path) -> list[dict[str, float]]:
    """Return the rows of metrics.csv, without those that were cut off and without empty cells: a task took no part."""
    file = path / METRICS_FILE
    if not file.is_file():
        return []
    with file.open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row.get("step")]
    try:
        return [{name: float(value) for name, value in row.items() if name and value not in EMPTY} for row in rows]
    except ValueError as error:
        raise InputError(f"{file}: {error}; metrics.csv holds numbers only") from error


def _best(history: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """Return the row of the best validation, the one whose weights `fit` keeps."""
    scored = [row for row in history if not math.isnan(row.get("validation/score", math.nan))]
    return max(scored, key=lambda row: row["validation/score"], default={})


def _while_training(history: list[dict[str, float]], scores: Mapping[str, float]) -> list[dict[str, float]]:
    """Return the rows without that of the model that was kept.

    It was validated last, if it has validation scores; its weights are an average, or those of an earlier step.
    """
    if not _of_split(scores, VALIDATION):
        return history
    validated = [number for number, row in enumerate(history) if any(key.startswith(f"{VALIDATION}/") for key in row)]
    return [row for number, row in enumerate(history) if number not in validated[-1:]]


def _renamed(key: str, names: Mapping[str, str]) -> str:
    """Return split/task/metric with the task's new name; other names stay."""
    split, _, rest = key.partition("/")
    task, slash, metric = rest.partition("/")
    return f"{split}/{names.get(task, task)}/{metric}" if slash else key


def _of_split(scores: Mapping[str, float], split: str) -> dict[str, float]:
    """Return {task/metric: score} of a split."""
    found = {key.removeprefix(f"{split}/"): value for key, value in scores.items() if key.startswith(f"{split}/")}
    return {key: value for key, value in found.items() if "/" in key}  # not the mean, which is split/score


def _common_splits(runs: Sequence[Run], metrics: Mapping[str, str]) -> dict[str, str]:
    """Return for each task the first split of which all runs with scores of the task have some."""
    found = {}
    for task, metric in metrics.items():
        given = [splits for run in runs if (splits := run.splits(task, metric))]
        if common := [split for split in SPLITS if given and all(split in splits for splits in given)]:
            found[task] = common[0]
    if not found:
        each = "; ".join(f"{run.name}: {', '.join(s for s in SPLITS if run.scores[s])}" for run in runs)
        raise InputError(
            f"these runs have no scores of the same split ({each}); `lmtasks fit` scores what the data has"
        )
    return found


def _main_scores(run: Run, metrics: Mapping[str, str], splits: Mapping[str, str]) -> dict[str, float]:
    found = {task: run.scores[split].get(f"{task}/{metrics[task]}") for task, split in splits.items()}
    return {task: score for task, score in found.items() if score is not None}


def _learned_alone(runs: Sequence[Run]) -> dict[str, str]:
    """Return task -> run, of runs of one task each, all different, if there are runs of several tasks beside them."""
    single = [run for run in runs if len(run.metrics) == 1]
    alone = {task: run.name for run in single for task in run.metrics}
    return alone if 0 < len(alone) == len(single) < len(runs) else {}


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _gain(value: float | None) -> str:
    return "-" if value is None else "0.00" if abs(value) < 0.005 else f"{value:+.2f}"  # never -0.00
