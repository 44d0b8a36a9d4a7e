"""What `lmtasks compare` reads of runs, and how it sets their scores against each other."""

from __future__ import annotations

import csv
import json
import math
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmtasks.errors import InputError
from lmtasks.settings import from_plain
from lmtasks.storage.checkpoint import CONFIG, METRICS, METRICS_FILE, MODEL, find_model, read_settings

ALONE = "alone"  # the column of several runs of one task each
EMPTY = (None, "", "nan")  # cells of metrics.csv
SPLITS = ("test", "validation")  # the scores of a task in the first count, if all runs that have learned it have them


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


@dataclass(frozen=True)
class Column:
    """The main scores of one run, or of several that have a task each."""

    name: str
    scores: dict[str, float]


@dataclass(frozen=True)
class Mean:
    """What the first column and another score on average over the tasks that both have."""

    tasks: tuple[str, ...]
    first: float
    own: float

    @property
    def gain(self) -> float:
        """How much higher the mean of the other column is."""
        return self.own - self.first


@dataclass(frozen=True)
class Comparison:
    """Scores of runs side by side; the first column is what the others are compared with."""

    metrics: dict[str, str]
    """Task -> the metric that is shown: the main one of the first run that has the task."""
    splits: dict[str, str]
    """Task -> the split of its scores; none where the runs have no split of it in common."""
    columns: list[Column]
    paths: dict[str, Path]
    alone: dict[str, str] = field(default_factory=dict)
    """Task -> the run of it alone, if the first column is of such runs."""

    def gain(self, column: Column, task: str) -> float | None:
        """Return how much higher a column scores than the first; None if one has no score."""
        first, own = self.columns[0].scores.get(task), column.scores.get(task)
        return None if first is None or own is None else own - first

    @property
    def means(self) -> dict[str, Mean]:
        """The mean of each column after the first that has a task in common with it."""
        found = {}
        first = self.columns[0].scores
        for column in self.columns[1:]:
            tasks = tuple(task for task in self.metrics if self.gain(column, task) is not None)
            if tasks:
                means = (sum(scores[task] for task in tasks) / len(tasks) for scores in (first, column.scores))
                found[column.name] = Mean(tasks, *means)
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
    lengths = [1] * len(whole)
    while True:
        names = ["/".join(parts[-length:]) for parts, length in zip(whole, lengths, strict=True)]
        counts = Counter(names)
        if len(counts) == len(names):
            return names
        lengths = [length + (counts[name] > 1) for length, name in zip(lengths, names, strict=True)]


def compare(runs: Sequence[Run]) -> Comparison:
    """Set the scores of runs against each other.

    Runs of one task, each of another, that come with runs of several tasks are what those are compared with; otherwise
    it is the first run.

    Raises:
        InputError: There is no task of which all runs that have learned it have scores of the same split.
    """
    metrics = _shown_metrics(runs)
    splits = _shown_splits(runs, metrics)
    alone = _learned_alone(runs)
    columns = [Column(run.name, _main_scores(run, metrics, splits)) for run in runs]
    if alone:
        columns = _joined(columns, set(alone.values()))
    return Comparison(metrics, splits, columns, {run.name: run.path for run in runs}, alone)


def notes(runs: Sequence[Run], comparison: Comparison) -> list[str]:
    """Return what a reader of the comparison must know beside it, a line each."""
    found = []
    tested = any(run.scores[SPLITS[0]] for run in runs)
    for names, tasks in _untested(runs, comparison).items() if tested else ():
        found.append(f"no test scores of {', '.join(tasks)} in {', '.join(names)}: these are of the best validation")
    for task, metric in comparison.metrics.items():
        if task not in comparison.splits and (own := _given(runs, task, metric)):
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
    splits["validation"] = _of_split(_best(history), "validation") | splits["validation"]  # of the model, if it was
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
    """Return the rows of metrics.csv, without those that were cut off, and without the cells of tasks that took no part
    in a step."""
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
    """Return the rows without that of the model that was kept, which was validated last if it has such scores: its
    weights are an average, or of an earlier step."""
    if not any(key.startswith("validation/") for key in scores):
        return history
    validated = [number for number, row in enumerate(history) if any(key.startswith("validation/") for key in row)]
    return [row for number, row in enumerate(history) if number not in validated[-1:]]


def _renamed(key: str, names: Mapping[str, str]) -> str:
    """Return split/task/metric with the task's new name; other names stay."""
    split, _, rest = key.partition("/")
    task, slash, metric = rest.partition("/")
    return f"{split}/{names.get(task, task)}/{metric}" if slash else key


def _of_split(scores: Mapping[str, float], split: str) -> dict[str, float]:
    """Return {task/metric: score} of a split."""
    found = {key.removeprefix(f"{split}/"): value for key, value in scores.items() if key.startswith(f"{split}/")}
    return {key: value for key, value in found.items() if "/" in key}


def _shown_metrics(runs: Sequence[Run]) -> dict[str, str]:
    """Return the metric of each task: the main one of the first run that has the task."""
    found: dict[str, str] = {}
    for run in runs:
        for task, metric in run.metrics.items():
            found.setdefault(task, metric)
    return found


def _shown_splits(runs: Sequence[Run], metrics: Mapping[str, str]) -> dict[str, str]:
    """Return for each task the first split of which all runs with scores of the task have some."""
    found = {}
    for task, metric in metrics.items():
        given = [splits for run in runs if (splits := _splits_of(run, task, metric))]
        if common := [split for split in SPLITS if given and all(split in splits for splits in given)]:
            found[task] = common[0]
    if not found:
        each = "; ".join(f"{run.name}: {', '.join(s for s in SPLITS if run.scores[s])}" for run in runs)
        raise InputError(
            f"these runs have no scores of the same split ({each}); `lmtasks fit` scores what the data has"
        )
    return found


def _splits_of(run: Run, task: str, metric: str) -> list[str]:
    """Return the splits of which a run has the score of a task."""
    return [split for split in SPLITS if f"{task}/{metric}" in run.scores[split]]


def _main_scores(run: Run, metrics: Mapping[str, str], splits: Mapping[str, str]) -> dict[str, float]:
    found = {task: run.scores[split].get(f"{task}/{metrics[task]}") for task, split in splits.items()}
    return {task: score for task, score in found.items() if score is not None}


def _learned_alone(runs: Sequence[Run]) -> dict[str, str]:
    """Return task -> run, of runs of one task each of another, if there are runs of several tasks beside them."""
    single = [run for run in runs if len(run.metrics) == 1]
    alone = {task: run.name for run in single for task in run.metrics}
    return alone if 0 < len(alone) == len(single) < len(runs) else {}


def _joined(columns: Sequence[Column], names: Collection[str]) -> list[Column]:
    """Return one column of those called `names`, and the others after it."""
    first = {task: score for column in columns if column.name in names for task, score in column.scores.items()}
    others = [column for column in columns if column.name not in names]
    free = ALONE if all(column.name != ALONE for column in columns) else f"{ALONE} (several)"
    return [Column(next(iter(names)) if len(names) == 1 else free, first), *others]


def _untested(runs: Sequence[Run], comparison: Comparison) -> dict[tuple[str, ...], list[str]]:
    """Return the runs for whose sake tasks are compared by their validation scores, with these tasks."""
    found: dict[tuple[str, ...], list[str]] = {}
    for task in (task for task, split in comparison.splits.items() if split != SPLITS[0]):
        given = {run.name: _splits_of(run, task, comparison.metrics[task]) for run in runs}
        names = tuple(name for name, splits in given.items() if splits and SPLITS[0] not in splits)
        found.setdefault(names, []).append(task)
    return found


def _given(runs: Sequence[Run], task: str, metric: str) -> str:
    """Say which run has scores of which splits of a task."""
    given = {run.name: _splits_of(run, task, metric) for run in runs}
    return "; ".join(f"{name} {', '.join(splits)}" for name, splits in given.items() if splits)
