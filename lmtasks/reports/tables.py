"""Scores named `<split>/<task>/<metric>`, and `<split>/score`, the mean of the main ones, as tables and on one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lmtasks.text.columns import align

if TYPE_CHECKING:
    from torch import Tensor

SCORE = "score"  # the mean of the main scores
WIDEST = 120  # columns of a table


def score_table(metrics: Mapping[str, float | Tensor], main: Mapping[str, str] | None = None) -> str:
    """Return a table of scores named `<split>/<task>/<metric>`: a row for each task, a column for each metric.

    If tasks have different metrics, a row begins with the main metric of its task (`main` is {task: metric}; by default
    the first one). The metrics that all tasks have follow, then the others with their names. With several tasks the
    last row is the mean of the main scores. With several splits the rows are named split/task. Names of one or two
    parts (epoch, learning rate) are left out.

    >>> scores = {"test/fr/bleu": 31.204, "test/fr/loss": 1.91, "test/de/bleu": 28.5, "test/de/loss": 2.0}
    >>> print(score_table(scores | {"test/score": 29.852}))
    test    bleu    loss
    fr     31.20  1.9100
    de     28.50  2.0000
    score  29.85
    >>> scores = {"test/fr/bleu": 31.2, "test/fr/chrf": 57.1, "test/fr/loss": 1.91, "test/mood/loss": 0.3}
    >>> scores |= {"test/mood/accuracy": 87.5, "test/score": 59.35}
    >>> print(score_table(scores, {"fr": "bleu", "mood": "accuracy"}))
    test   main               loss  others
    fr     bleu      31.20  1.9100  chrf 57.10
    mood   accuracy  87.50  0.3000
    score  mean      59.35
    """
    scores = _sort_scores(metrics)
    if not scores:
        return ""
    splits = list(dict.fromkeys(split for split, _ in scores))
    head, prefix = ("split/task", "{}/") if len(splits) > 1 else (splits[0], "")
    rows = {prefix.format(split) + task: row for (split, task), row in scores.items()}
    first = {prefix.format(split) + task: _main(task, row, main or {}) for (split, task), row in scores.items()}
    found = {prefix.format(split) + SCORE: metrics.get(f"{split}/{SCORE}") for split in splits}
    means = {label: _number(float(mean)) for label, mean in found.items() if mean is not None}
    alone = len(rows) == len(splits)  # one task per split: its score is the mean
    if len({frozenset(row) for row in rows.values()}) > 1 or not (alone or len(set(first.values())) == 1):
        return _uneven_table(head, rows, first, means)
    names, shown = list(next(iter(rows.values()))), next(iter(first.values()))  # the means are of the metric shown
    lines = [[head, *names], *([label, *(_number(row[name]) for name in names)] for label, row in rows.items())]
    if not alone:
        lines += [[label, *(mean if name == shown else "" for name in names)] for label, mean in means.items()]
    return "\n".join(align(lines, left=1))


def scores_line(metrics: Mapping[str, float | Tensor], main: Mapping[str, str]) -> str:
    """Return the scores of one split side by side, in columns that stay where they are at the next validation.

    With several tasks each shows its main score (`main` is {task: metric}) and its loss; the mean of the main scores
    comes last.

    >>> scores = {"test/fr/bleu": 31.2, "test/fr/loss": 1.91, "test/fr/chrf": 57.1, "test/score": 31.2}
    >>> scores_line(scores, {"fr": "bleu"})
    'fr  bleu   31.20  loss  1.9100  chrf   57.10'
    """
    scores = _sort_scores(metrics)
    several = len(scores) > 1
    parts = []
    for (_, task), row in scores.items():
        shown = list(dict.fromkeys([_main(task, row, main), *({"loss"} & row.keys())])) if several else list(row)
        parts.append("  ".join([task, *(f"{name} {_number(row[name]):>7}" for name in shown)]))
    if several:
        means = (value for name, value in metrics.items() if name.endswith(f"/{SCORE}") and name.count("/") == 1)
        parts += [f"{SCORE} {_number(float(mean)):>7}" for mean in means]
    return " | ".join(parts)


def _uneven_table(
    head: str, rows: Mapping[str, Mapping[str, float]], main: Mapping[str, str], means: Mapping[str, str]
) -> str:
    """Return a table of rows {label: {metric: value}} with different metrics; `main` is {label: metric}."""
    names = dict.fromkeys(name for row in rows.values() for name in row)
    common = [name for name in names if all(name in row and main[label] != name for label, row in rows.items())]
    lines = [[head, "main", "", *common]]
    for label, row in rows.items():
        lines.append([label, main[label], *(_number(row[name]) for name in (main[label], *common))])
    lines += [[label, "mean", mean, *("" for _ in common)] for label, mean in means.items()]
    aligned = align(lines, left=2)
    indent = max(map(len, aligned)) + 2
    others = [["others"]]  # of each line of the table: as many lines as the other metrics need
    for label, row in rows.items():
        wrapped = [""]
        for name in (name for name in row if name not in (main[label], *common)):
            text = f"{name} {_number(row[name])}"
            if wrapped[-1] and indent + len(wrapped[-1]) + 2 + len(text) > WIDEST:
                wrapped.append(text)
            else:
                wrapped[-1] += f"  {text}" if wrapped[-1] else text
        others.append(wrapped)
    others += [[""] for _ in means]
    return "\n".join(
        f"{left if number == 0 else '':<{indent}}{right}".rstrip()
        for left, several in zip(aligned, others, strict=True)
        for number, right in enumerate(several)
    )


def _sort_scores(metrics: Mapping[str, float | Tensor]) -> dict[tuple[str, str], dict[str, float]]:
    """Return {(split, task): {metric: value}} in the order of the names; a task's name may hold slashes."""
    scores: dict[tuple[str, str], dict[str, float]] = {}
    for name, value in metrics.items():
        split, *task = name.split("/")
        if len(task) > 1:
            scores.setdefault((split, "/".join(task[:-1])), {})[task[-1]] = float(value)
    return scores


def _main(task: str, row: Mapping[str, float], main: Mapping[str, str]) -> str:
    """Return the main metric of a row, or the first one if the task names none that the row has."""
    return main[task] if main.get(task) in row else next(iter(row))


def _number(value: float) -> str:
    """Return about four digits: 31.20 for scores from 0 to 100, 0.8750 for those from 0 to 1."""
    if abs(value) >= 10_000:
        return f"{value:.1e}"
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"
