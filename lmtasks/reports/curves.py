"""Pictures of `lmtasks compare`: how the losses of each task fell, and how the gradients of the tasks agree."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from lmtasks.reports.comparison import Run
from lmtasks.reports.pictures import picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh

COLOURS = ("#1f5fa8", "#d9661f", "#2f9461", "#a23b8c", "#8c6d1f", "#3aa6b9", "#c23b3b", "#6b6b6b")
GRID, INK, PALE = "#e3e7eb", "#1f2d3d", "#7b8894"
ACROSS = 3  # panels side by side
PANEL = (4.0, 2.9)  # inches of a panel of losses
CELL = 1.05  # inches of a cell of cosines
SMOOTH = 30  # a smoothed loss averages over about 1/30 of the points
START = 0.05  # first part of the steps, whose steep fall may leave the panel


def draw(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Draw what the runs have logged, and return the files.

    Raises:
        InputError: If matplotlib is missing.
    """
    files: list[Path] = []
    if any(_losses(run, task) for run in runs for task in run.metrics):
        folder.mkdir(exist_ok=True)
        files.append(folder / "losses.png")
        draw_losses(runs, files[-1])
    for run in runs:
        if cosines := mean_cosines(run):
            folder.mkdir(exist_ok=True)
            name = re.sub(r"[^\w.-]+", "-", run.name)
            files.append(folder / f"gradients-{name}.png")
            draw_gradients(run, cosines, files[-1])
    return files


def draw_losses(runs: Sequence[Run], path: Path) -> None:
    """Draw a panel per task with the losses of all runs that have it: training as a line, validation as dots."""
    tasks = list(dict.fromkeys(task for run in runs for task in run.metrics if _losses(run, task)))
    across = min(len(tasks), ACROSS if len(tasks) != 4 else 2)  # four make a square
    down = math.ceil(len(tasks) / across)
    with picture(path, max(PANEL[0] * across, 5.5), PANEL[1] * down + 0.7) as figure:
        handles = {}
        for number, task in enumerate(tasks, 1):
            axes = figure.add_subplot(down, across, number)
            axes.set_title(task, fontsize=11, loc="left", color=INK)
            for place, run in enumerate(runs):
                if lines := _draw_run(axes, run, task, COLOURS[place % len(COLOURS)]):
                    handles[run.name] = lines
            _limit(axes, [_seen(run, task) for run in runs])
            _plain(axes)
            if number > len(tasks) - across:
                axes.set_xlabel("optimiser steps", fontsize=9, color=PALE)
            if number % across == 1 or across == 1:
                axes.set_ylabel("loss", fontsize=9, color=PALE)
        figure.legend(
            handles=list(handles.values()),
            labels=list(handles),
            loc="outside upper left",
            ncols=4 if across > 2 else 3,
            frameon=False,
            fontsize=10,
        )
        figure.supxlabel(
            "thick line: training, smoothed    dots: validation", fontsize=9, color=PALE, x=0.01, ha="left"
        )


def draw_gradients(run: Run, cosines: Mapping[tuple[str, str], tuple[float, float]], path: Path) -> None:
    """Draw the mean cosine between the gradients of each two tasks, and the mean norm of each.

    cosines: {(task, other): (mean, share of the steps in which it was negative)}.
    """
    tasks = [task for task in run.metrics if any(task in pair for pair in cosines)]
    size = len(tasks)
    letters = max(map(len, tasks))
    with picture(path, CELL * size + 3.4 + 0.09 * letters, CELL * size + 2.0) as figure:
        matrix = figure.add_subplot()
        bars = matrix.inset_axes((1.06, 0, 2.4 / (CELL * size), 1), sharey=matrix)  # its rows are those of the matrix
        both = {**cosines, **{(b, a): value for (a, b), value in cosines.items()}}
        colours = _draw_matrix(matrix, tasks, both)
        scale = matrix.inset_axes((0, -0.3 / (CELL * size), 1, 0.12 / (CELL * size)))
        bar = figure.colorbar(colours, cax=scale, orientation="horizontal", ticks=[-1, -0.5, 0, 0.5, 1])
        bar.outline.set_visible(False)
        scale.tick_params(length=0, labelsize=9, labelcolor=PALE)
        norms = [[row[key] for row in run.history if (key := f"train/{task}/gradient_norm") in row] for task in tasks]
        _draw_norms(bars, [fmean(several or [0.0]) for several in norms])
        figure.suptitle(f"Gradients of the tasks on the shared parameters, {run.name}", x=0.01, ha="left", fontsize=12)
        below = "mean cosine over the logged steps; %: steps in which the two conflict (cosine < 0)"
        figure.supxlabel(below, fontsize=9, color=PALE, x=0.01, ha="left")


def mean_cosines(run: Run) -> dict[tuple[str, str], tuple[float, float]]:
    """Return for each pair of tasks (mean cosine of their gradients, share of the steps in which it is negative).

    It is empty for a run that did not log gradients.
    """
    found: dict[tuple[str, str], tuple[float, float]] = {}
    for a in run.metrics:
        for b in run.metrics:
            if values := [row[key] for row in run.history if (key := f"train/{a}/cosine_{b}") in row]:
                found[a, b] = fmean(values), sum(value < 0 for value in values) / len(values)
    return found


def smoothed(values: Sequence[float], back: float) -> list[float]:
    """Return running means in which a value `back` places ago counts 1/e of the newest.

    >>> smoothed([1.0, 1.0, 1.0], back=2)
    [1.0, 1.0, 1.0]
    """
    keep = math.exp(-1 / back)
    total = weight = 0.0
    means = []
    for value in values:
        total, weight = keep * total + value, keep * weight + 1  # a mean of what there is: the first counts as it is
        means.append(total / weight)
    return means


def _losses(run: Run, task: str, split: str = "train") -> list[tuple[int, float]]:
    """Return (optimiser steps done, loss) of a task; the logs count steps from 0."""
    rows = [(row["step"], row.get(f"{split}/{task}/loss", math.nan)) for row in run.history]
    return [(int(step) + 1, loss) for step, loss in rows if math.isfinite(loss)]


def _seen(run: Run, task: str) -> list[tuple[int, float]]:
    """Return the points that a panel should show: smoothed training losses, and validation losses."""
    train = _losses(run, task)
    means = smoothed([loss for _, loss in train], max(1, len(train) / SMOOTH))
    return [*zip((step for step, _ in train), means, strict=True), *_losses(run, task, "validation")]


def _draw_run(axes: Axes, run: Run, task: str, colour: str) -> object:
    """Draw the losses of a run and return its line for the legend, or None if it has no losses."""
    train, validation = _losses(run, task), _losses(run, task, "validation")
    if not train:
        return None
    steps, losses = zip(*train, strict=True)
    means = [mean for _, mean in _seen(run, task)[: len(train)]]
    axes.plot(steps, losses, color=colour, alpha=0.18, linewidth=0.8)
    (line,) = axes.plot(steps, means, color=colour, linewidth=1.8)
    if validation:
        axes.plot(*zip(*validation, strict=True), color=colour, linestyle=":", linewidth=1, marker="o", markersize=4.5)
    return line


def _limit(axes: Axes, points: Sequence[Sequence[tuple[int, float]]]) -> None:
    """Let the losses after START fill the panel; the first ones may lie above it."""
    last = max(step for run in points for step, _ in run)
    losses = [loss for run in points for step, loss in run if step > START * last]
    low, high = min(losses), max(losses)
    margin = 0.06 * (high - low or abs(high) or 1)
    axes.set_ylim(low - margin, high + margin)
    axes.set_xlim(0, last * 1.02)


def _plain(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=9, labelcolor=PALE)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")


def _draw_matrix(axes: Axes, tasks: Sequence[str], cosines: Mapping[tuple[str, str], tuple[float, float]]) -> QuadMesh:
    """Draw cosines, blue where tasks help each other and red where they conflict, and return the coloured cells."""
    cells = [[cosines.get((row, column), (math.nan,))[0] for column in tasks] for row in tasks]
    colours = axes.pcolormesh(cells, cmap="RdBu", vmin=-1, vmax=1, edgecolors="white", linewidth=2)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.spines[:].set_visible(False)
    places = [number + 0.5 for number in range(len(tasks))]
    axes.xaxis.tick_top()
    axes.set_xticks(places, tasks, rotation=35, ha="left", rotation_mode="anchor")
    axes.set_yticks(places, tasks)
    axes.tick_params(length=0, labelsize=10)
    for row, a in enumerate(tasks):
        for column, b in enumerate(tasks):
            if (a, b) in cosines:
                mean, share = cosines[a, b]
                colour = "white" if abs(mean) > 0.6 else INK  # legible on dark cells
                number = f"{mean:+.2f}" if abs(mean) >= 0.005 else "0.00"
                axes.text(column + 0.5, row + 0.43, number, ha="center", va="center", fontsize=12, color=colour)
                number = f"{100 * share:.0f} %"
                axes.text(column + 0.5, row + 0.72, number, ha="center", va="center", fontsize=8, color=colour)
    return colours


def _draw_norms(axes: Axes, norms: Sequence[float]) -> None:
    """Draw a bar for each row of the matrix beside it."""
    places = [number + 0.5 for number in range(len(norms))]
    axes.barh(places, norms, height=0.34, color="#9db4c8")
    for place, norm in zip(places, norms, strict=True):
        axes.text(norm, place, f" {norm:.3g}", va="center", fontsize=10, color=INK)
    axes.set_xlim(0, 1.3 * max(norms))
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelleft=False)
    axes.set_title("mean norm", fontsize=10, loc="left")
