"""Scores named `<split>/<task>/<metric>`, and `<split>/score`, the mean of the main ones, as tables and on one line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from lmtasks.reports.pictures import columns

if TYPE_CHECKING:
    from torch import Tensor

SCORE = "score"  # the mean of the main scores
WIDEST = 120  # columns of a table


def score_table(metrics: Mapping[str, float | Tensor], main: Mapping[str, str] | None = None) -> str:
    """Return a table of scores named `<split>/<task>/<metric>`: a row for each task, a column for each metric.

    Where tasks have different metrics, a row has the `main` one of its task first ({task: metric}, else the first that
    comes), then what all have in common, then the others with their names. Of several tasks the mean of the main
    scores comes last. Names of two parts or one (epoch, learning rate) are left out. With several splits the rows are
    named split/task.

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
    means = {label: float(mean) for label, mean in found.items() if mean is not None}
    alone = len(rows) == len(splits)  # a task a split: its score is the mean
    if len({frozenset(row) for row in rows.values()}) == 1 and (alone or len(set(first.values())) == 1):
        return _even_table(head, rows, next(iter(first.values())), {} if alone else means)
    return _uneven_table(head, rows, first, means)


def one_line(metrics: Mapping[str, float | Tensor], main: Mapping[str, str]) -> str:
    """Return the scores of one split side by side, each as wide as at the next validation.

    Of several tasks there are the main score ({task: metric}) and the loss, and the mean of the main scores.

    >>> one_line({"test/fr/bleu": 31.2, "test/fr/loss": 1.91, "test/fr/chrf": 57.1, "test/score": 31.2}, {"fr": "bleu"})
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


def align(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Return rows of cells as lines with straight columns: the first `left` flush left, the others flush right.

    >>> align([["task", "bleu"], ["北京", "31.20"]], left=1)
    ['task   bleu', '北京  31.20']
    """
    widths = [max(map(columns, cells)) for cells in zip(*rows, strict=True)]

    def pad(place: int, cell: str) -> str:
        """Fill a cell up to the width of its column."""
        blanks = " " * (widths[place] - columns(cell))
        return cell + blanks if place < left else blanks + cell

    return ["  ".join(map(pad, range(len(row)), row)).rstrip() for row in rows]


def _even_table(head: str, rows: Mapping[str, Mapping[str, float]], main: str, means: Mapping[str, float]) -> str:
    """Return a table of rows, {label: {metric: value}}, that have the same scores; the means are of the main one."""
    names = list(next(iter(rows.values())))
    lines = [[label, *(_number(row[name]) for name in names)] for label, row in rows.items()]
    lines += [[label, *(_number(mean) if name == main else "" for name in names)] for label, mean in means.items()]
    return "\n".join(align([[head, *names], *lines], left=1))


def _uneven_table(
    head: str, rows: Mapping[str, Mapping[str, float]], main: Mapping[str, str], means: Mapping[str, float]
) -> str:
    """Return a table of rows with different scores, {label: {metric: value}}; `main` is {label: metric}."""
    names = dict.fromkeys(name for row in rows.values() for name in row)
    common = [name for name in names if all(name in row and main[label] != name for label, row in rows.items())]
    lines = [[head, "main", "", *common]]
    for label, row in rows.items():
        lines.append([label, main[label], *(_number(row[name]) for name in (main[label], *common))])
    lines += [[label, "mean", _number(mean), *("" for _ in common)] for label, mean in means.items()]
    aligned = align(lines, left=2)
    indent = max(map(len, aligned)) + 2
    others = [["others"]]
    for label, row in rows.items():
        rest = (f"{name} {_number(value)}" for name, value in row.items() if name not in (main[label], *common))
        others.append(_wrapped(rest, WIDEST - indent) or [""])
    others += [[""] for _ in means]
    return "\n".join(
        f"{left if number == 0 else '':<{indent}}{right}".rstrip()
        for left, several in zip(aligned, others, strict=True)
        for number, right in enumerate(several)
    )


def _wrapped(texts: Iterable[str], width: int) -> list[str]:
    """Return texts side by side, on as many lines as their width asks for."""
    lines: list[str] = []
    for text in texts:
        if lines and len(lines[-1]) + 2 + len(text) <= width:
            lines[-1] += f"  {text}"
        else:
            lines.append(text)
    return lines


def _sort_scores(metrics: Mapping[str, float | Tensor]) -> dict[tuple[str, str], dict[str, float]]:
    """Return {(split, task): {metric: value}} in the order of the names; a task's name may hold slashes."""
    scores: dict[tuple[str, str], dict[str, float]] = {}
    for name, value in metrics.items():
        split, *task, metric = name.split("/") if "/" in name else ("", name)
        if task:
            scores.setdefault((split, "/".join(task)), {})[metric] = float(value)
    return scores


def _main(task: str, row: Mapping[str, float], main: Mapping[str, str]) -> str:
    """Return the metric of a row that counts: its main one, else, of what is no task of ours, the first."""
    return main[task] if main.get(task) in row else next(iter(row))


def _number(value: float) -> str:
    """Return about four digits: 31.20 for scores from 0 to 100, 0.8750 for those from 0 to 1."""
    if abs(value) >= 10_000:
        return f"{value:.1e}"
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"
