"""Pictures of `lmtasks compare`: the losses of each task over the steps, and how the gradients of the tasks agree."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from lmtasks.reports.comparison import Run
from lmtasks.reports.pictures import draw_cells, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.lines import Line2D

COLOURS = ("#1f5fa8", "#d9661f", "#2f9461", "#a23b8c", "#8c6d1f", "#3aa6b9", "#c23b3b", "#6b6b6b")
GRID, INK, PALE = "#e3e7eb", "#1f2d3d", "#7b8894"
ACROSS = 3  # panels side by side
PANEL = (4.0, 2.9)  # inches of a panel of losses
CELL = 1.05  # inches of a cell of cosines
SMOOTH = 30  # a smoothed loss averages over about 1/30 of the points
START = 0.05  # first part of the steps, in which the losses fall steeply and may leave the panel

Cosines = dict[tuple[str, str], tuple[float, float]]
"""(task, another) -> mean cosine of their gradients, share of the steps in which it is negative."""


def draw(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Draw what the runs have logged, and return the files.

    Raises: InputError if matplotlib is missing.
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
        lines: dict[str, Line2D] = {}
        for number, task in enumerate(tasks, 1):
            axes = figure.add_subplot(down, across, number)
            axes.set_title(task, fontsize=11, loc="left", color=INK)
            lines |= _draw_panel(axes, runs, task)
            if number > len(tasks) - across:
                axes.set_xlabel("optimiser steps", fontsize=9, color=PALE)
            if number % across == 1 or across == 1:
                axes.set_ylabel("loss", fontsize=9, color=PALE)
        columns = 4 if across > 2 else 3
        # "outside" makes the layout leave room for the legend
        figure.legend(lines.values(), lines, loc="outside upper left", ncols=columns, frameon=False, fontsize=10)
        below = "thick line: training, smoothed    dots: validation"
        figure.supxlabel(below, fontsize=9, color=PALE, x=0.01, ha="left")


def draw_gradients(run: Run, cosines: Cosines, path: Path) -> None:
    """Draw the mean cosine between the gradients of each two tasks, and the mean norm of each."""
    tasks = [task for task in run.metrics if any(task in pair for pair in cosines)]
    size, letters = len(tasks), max(map(len, tasks))
    with picture(path, CELL * size + 3.4 + 0.09 * letters, CELL * size + 2.0) as figure:
        matrix = figure.add_subplot()
        bars = matrix.inset_axes((1.06, 0, 2.4 / (CELL * size), 1), sharey=matrix)  # its rows are those of the matrix
        colours = _draw_matrix(matrix, tasks, {**cosines, **{(b, a): value for (a, b), value in cosines.items()}})
        scale = matrix.inset_axes((0, -0.3 / (CELL * size), 1, 0.12 / (CELL * size)))
        bar = figure.colorbar(colours, cax=scale, orientation="horizontal", ticks=[-1, -0.5, 0, 0.5, 1])
        bar.outline.set_visible(False)
        scale.tick_params(length=0, labelsize=9, labelcolor=PALE)
        norms = []
        for place, task in enumerate(tasks):
            logged = [row[key] for row in run.history if (key := f"train/{task}/gradient_norm") in row]
            norms.append(fmean(logged or [0.0]))
            bars.text(norms[-1], place + 0.5, f" {norms[-1]:.3g}", va="center", fontsize=10, color=INK)
        bars.barh([place + 0.5 for place in range(size)], norms, height=0.34, color="#9db4c8")
        bars.set_xlim(0, 1.3 * max(norms))  # room for the numbers beside the bars
        bars.set_xticks([])
        bars.spines[:].set_visible(False)
        bars.tick_params(length=0, labelleft=False)
        bars.set_title("mean norm", fontsize=10, loc="left")
        figure.suptitle(f"Gradients of the tasks on the shared parameters, {run.name}", x=0.01, ha="left", fontsize=12)
        below = "mean cosine over the logged steps; %: steps in which the two conflict (cosine < 0)"
        figure.supxlabel(below, fontsize=9, color=PALE, x=0.01, ha="left")


def mean_cosines(run: Run) -> Cosines:
    """Return the cosines of the tasks of a run, nothing if it did not log gradients."""
    found: Cosines = {}
    for a, b in product(run.metrics, repeat=2):
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
        total, weight = keep * total + value, keep * weight + 1  # divided by the weight, the mean does not start at 0
        means.append(total / weight)
    return means


def _losses(run: Run, task: str, split: str = "train") -> list[tuple[int, float]]:
    """Return (optimiser steps done, loss) of a task; the logs count steps from 0."""
    rows = [(row["step"], row.get(f"{split}/{task}/loss", math.nan)) for row in run.history]
    return [(int(step) + 1, loss) for step, loss in rows if math.isfinite(loss)]


def _draw_panel(axes: Axes, runs: Sequence[Run], task: str) -> dict[str, Line2D]:
    """Draw the losses of a task and return the line of each run that has training losses, for the legend."""
    from matplotlib.ticker import MaxNLocator

    lines = {}
    points: list[tuple[int, float]] = []  # that the panel should show
    for place, run in enumerate(runs):
        train, validation = _losses(run, task), _losses(run, task, "validation")
        points += validation
        if not train:
            continue
        colour = COLOURS[place % len(COLOURS)]
        steps, losses = zip(*train, strict=True)
        means = smoothed(losses, max(1, len(train) / SMOOTH))
        points += zip(steps, means, strict=True)
        axes.plot(steps, losses, color=colour, alpha=0.18, linewidth=0.8)
        (lines[run.name],) = axes.plot(steps, means, color=colour, linewidth=1.8)
        if validation:
            steps, losses = zip(*validation, strict=True)
            axes.plot(steps, losses, color=colour, linestyle=":", linewidth=1, marker="o", markersize=4.5)
    last = max(step for step, _ in points)
    late = [loss for step, loss in points if step > START * last]
    low, high = min(late), max(late)
    margin = 0.06 * (high - low or abs(high) or 1)
    axes.set_ylim(low - margin, high + margin)
    axes.set_xlim(0, last * 1.02)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=9, labelcolor=PALE)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
    return lines


def _draw_matrix(axes: Axes, tasks: Sequence[str], cosines: Cosines) -> QuadMesh:
    """Draw cosines, blue where tasks help each other and red where they conflict, and return the cells."""
    values = [[cosines.get((row, column), (math.nan,))[0] for column in tasks] for row in tasks]
    cells = draw_cells(axes, values, "RdBu", -1, 1, linewidth=2)
    places = [number + 0.5 for number in range(len(tasks))]  # the middle of a cell
    axes.xaxis.tick_top()
    axes.set_xticks(places, tasks, rotation=35, ha="left", rotation_mode="anchor")
    axes.set_yticks(places, tasks)
    axes.tick_params(length=0, labelsize=10)
    for (y, a), (x, b) in product(zip(places, tasks, strict=True), repeat=2):
        if (a, b) in cosines:
            mean, share = cosines[a, b]
            colour = "white" if abs(mean) > 0.6 else INK  # legible on dark cells
            number = f"{mean:+.2f}" if abs(mean) >= 0.005 else "0.00"  # never -0.00
            axes.text(x, y - 0.07, number, ha="center", va="center", fontsize=12, color=colour)
            axes.text(x, y + 0.22, f"{100 * share:.0f} %", ha="center", va="center", fontsize=8, color=colour)
    return cells
