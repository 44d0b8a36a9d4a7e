"""Mixing: the share of each task in optimiser step k; a pure function, like the plan of each task.

A step holds rows of every task: heterogeneous batches train better than one task after the other (Aghajanyan et al.
2021, section 3.2), and each task has its own gradient in every step. Shares are proportional to size, where a cap and a
temperature can even sizes out (Raffel et al. 2020, section 3.5.2); or they are given; and they can change over time.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from lmtasks.checked import Checked
from lmtasks.data.plan import Plan, padded_lengths, steps_of
from lmtasks.errors import InputError

ROUNDS = 4  # iterations that fit the budgets of the tasks to their shares and to tokens_per_step, padding included
FINEST = 2.0**-30  # participations are multiples of it: sums of millions are exact and no step of a plan is left out


@dataclass(frozen=True)
class Mixing(Checked):
    """How the share of each task in training is set; by default in proportion to its tokens.

    Example:
        >>> Mixing(by="rows", temperature=2.0).shares({"translation": 900.0, "sentiment": 100.0})
        {'translation': 0.75, 'sentiment': 0.25}
    """

    setting = "data.mixing"

    by: Literal["tokens", "rows"] = "tokens"
    """The unit of sizes and shares: tokens of source and target, or rows."""
    temperature: float = 1.0
    """Sizes count as size ** (1 / temperature): 1 for shares in proportion to size, large for equal shares."""
    cap: int | None = None
    """Larger tasks count as tasks of this size, in tokens or rows."""
    rates: dict[str, float] = field(default_factory=dict)
    """Shares of the tasks, in any unit, in place of those that follow from their sizes."""
    final_rates: dict[str, float] = field(default_factory=dict)
    """Shares at the end of a linear change from the first ones."""
    change: int = 0
    """Steps over which the shares change."""

    def __post_init__(self) -> None:
        if not self.temperature > 0 or (self.cap is not None and self.cap < 1):
            raise InputError(f"data.mixing: temperature {self.temperature}, cap {self.cap}; both must be above 0")
        if self.rates and (self.temperature, self.cap) != (1.0, None):
            raise InputError("data.mixing: rates replace temperature and cap; set rates to {}, or leave both out")
        if self.change < 0:
            raise InputError(f"data.mixing: change {self.change}; give the steps over which the rates change")
        if (self.change > 0) != bool(self.final_rates):
            raise InputError("data.mixing: final_rates and change go together; give the steps of the change too")

    def check(self, tasks: Collection[str]) -> None:
        """Check the rates before any rows are read.

        Raises: InputError if they do not name these tasks, or are all 0.
        """
        for name, rates in (("rates", self.rates), ("final_rates", self.final_rates)):
            if rates:
                _as_shares(rates, tasks, name)

    def shares(self, sizes: Mapping[str, float]) -> dict[str, float]:
        """Return the share of each task at the first step, from its `sizes` in tokens or rows; they add up to 1.

        Raises: InputError if `rates` do not name these tasks.
        """
        if self.rates:
            return _as_shares(self.rates, sizes, "rates")
        sizes = {task: min(size, self.cap or size) for task, size in sizes.items()}
        largest = max(sizes.values())  # dividing by it keeps the powers finite
        capped = {task: (size / largest) ** (1 / self.temperature) for task, size in sizes.items()}
        return {task: size / sum(capped.values()) for task, size in capped.items()}

    def final_shares(self, sizes: Mapping[str, float]) -> dict[str, float]:
        """Return the share of each task from step `change` on; see `shares`."""
        return _as_shares(self.final_rates, sizes, "final_rates") if self.final_rates else self.shares(sizes)


class Mixture:
    """Which rows of which tasks make up step k = 0, 1, ...

    Each task has its own plan, whose tokens per step follow from its share. A task whose share is less than one row per
    micro-batch takes part in fewer steps, with more rows. While shares change, a step may have up to twice as many
    tokens as `tokens_per_step`.
    """

    def __init__(
        self,
        lengths: Mapping[str, np.ndarray],
        targets: Mapping[str, np.ndarray],
        tokens_per_step: int,
        parts: int = 1,
        seed: int = 1,
        mixing: Mixing = Mixing(),
    ) -> None:
        """Plan the steps from the `lengths` (rows, 2) and `targets` (rows,) of each task; the rest is as in `Plan`."""
        self.mixing, self.parts, self.tokens_per_step, self.seed = mixing, parts, tokens_per_step, seed
        sizes = self._sizes = {
            task: float(table.sum() if mixing.by == "tokens" else len(table)) for task, table in lengths.items()
        }
        ends = np.array([list(mixing.shares(sizes).values()), list(mixing.final_shares(sizes).values())])
        part = np.linspace(0, 1, mixing.change + 1)[:, None]
        shares = self._shares = ends[0] + part * (ends[1] - ends[0])  # (change + 1, tasks)
        budgets = self._budgets(lengths, ends.max(axis=0))
        self.plans = {
            task: Plan(table, targets[task], budgets[task], parts, seed + number)
            for number, (task, table) in enumerate(lengths.items())
        }
        per_step = shares / np.array([sizes[task] / plan.steps_per_epoch for task, plan in self.plans.items()])
        # (change + 1, tasks): the fraction of steps in which each task takes part; 1 for at least one task
        self._participation = _rounded(per_step / per_step.max(axis=1, keepdims=True))
        # (change + 1, tasks): the sum of the participations before each of the first steps
        self._sums = np.cumsum(np.vstack((np.zeros(len(lengths)), self._participation[:-1])), axis=0)
        # (tasks,): different offsets, so that rare tasks do not fall into the same steps
        self._first = _rounded(np.arange(len(lengths)) / (2 * len(lengths)))

    def _budgets(self, lengths: Mapping[str, np.ndarray], shares: np.ndarray) -> dict[str, int]:
        """Return the padded tokens per step of each task.

        The shares hold for tokens without padding. All budgets together are at most the sum of the shares times
        `tokens_per_step`.
        """
        rows = {task: padded_lengths(table) for task, table in lengths.items()}
        padded = {task: rows[task].sum() / self._sizes[task] for task in lengths}  # padded tokens per token or row
        size = shares.sum() * self.tokens_per_step  # the largest step, of all tasks
        tokens = float(size)
        for _ in range(ROUNDS):
            a_step = shares * tokens / (shares @ list(padded.values()))  # (tasks,) tokens or rows per step
            budgets = {}
            for task, wanted in zip(lengths, a_step, strict=True):
                budget = wanted * padded[task]
                for _ in range(ROUNDS if len(lengths) > 1 else 0):
                    # with one part, so that the budgets do not depend on the number of devices
                    steps = len(steps_of(rows[task], round(budget))) - 1
                    found = self._sizes[task] / steps
                    if found >= wanted:
                        break
                    budget *= wanted / found
                budgets[task] = round(budget)
            if (total := sum(budgets.values())) <= size:
                break
            tokens *= size / total
        return budgets

    @property
    def steps_per_epoch(self) -> int:
        """Steps that take as many rows as all tasks have: each row once, if shares are in proportion to size."""
        rows = sum(len(plan.lengths) for plan in self.plans.values())
        a_step = np.array([len(plan.lengths) / plan.steps_per_epoch for plan in self.plans.values()])
        return max(1, round(rows / float(a_step @ self._participation[0])))

    def step(self, k: int) -> dict[str, list[np.ndarray]]:
        """Return the row numbers of step k: for each task that takes part, a list of `parts` micro-batches."""
        before, after = self.done(k), self.done(k + 1)
        return {task: plan.step(before[task]) for task, plan in self.plans.items() if after[task] > before[task]}

    def weight(self, k: int, task: str) -> float:
        """Return the weight of a task's mean loss in step k, if it takes part; on average over steps, its share."""
        return self.wanted(k)[task] / self.participation(k)[task]

    def done(self, k: int) -> dict[str, int]:
        """Return the number of steps of each task's own plan before step k."""
        changing = min(k, self.mixing.change)  # from then on the participations stay the same
        sums = self._sums[changing] + (k - changing) * self._participation[-1]
        # a task takes part whenever its sum passes a whole number
        return dict(zip(self.plans, np.floor(sums + self._first).astype(int).tolist(), strict=True))

    def wanted(self, k: int) -> dict[str, float]:
        """Return the intended share of each task in step k."""
        return self._at(k, self._shares)

    def participation(self, k: int) -> dict[str, float]:
        """Return the fraction of the steps around step k in which each task takes part."""
        return self._at(k, self._participation)

    def report(self, k: int) -> dict[str, float]:
        """Return for each task its tokens before step k, its share so far, and the intended share."""
        done, wanted = self.done(k), self.wanted(k)
        counts = {task: plan.done(done[task]) for task, plan in self.plans.items()}
        units = {task: counts[task][self.mixing.by] for task in self.plans}
        found: dict[str, float] = {}
        for task in self.plans:
            share = units[task] / max(1.0, sum(units.values()))
            found |= {
                f"{task}/tokens": counts[task]["tokens"],
                f"{task}/share": share,
                f"{task}/wanted_share": wanted[task],
            }
        return found

    @property
    def identity(self) -> dict[str, str | int]:
        """Everything that determines the rows of step k; a resume compares it."""
        found: dict[str, str | int] = {"tasks": ", ".join(self.plans)}
        found |= {"tokens_per_step": self.tokens_per_step, "parts": self.parts, "seed": self.seed}
        for task, plan in self.plans.items():
            of = f" of {task}" if len(self.plans) > 1 else ""
            found |= {f"rows{of}": len(plan.lengths), f"lengths of the rows{of} (a hash)": plan.digest}
        ends = f"{', '.join(self.plans)} {self._shares[[0, -1]].round(9).tolist()}"
        shares = f"{ends} over {self.mixing.change} steps by {self.mixing.by}"
        return found | ({"shares of the tasks": shares} if len(self.plans) > 1 else {})

    def _at(self, k: int, table: np.ndarray) -> dict[str, float]:
        """Return row k of a table (change + 1, tasks), or its last row."""
        return dict(zip(self.plans, table[min(k, self.mixing.change)].tolist(), strict=True))


def _as_shares(rates: Mapping[str, float], tasks: Collection[str], name: str) -> dict[str, float]:
    """Return rates as shares that add up to 1, in the order of the tasks."""
    total = sum(rates.values())
    if set(rates) != set(tasks):
        raise InputError(f"data.mixing.{name} has {', '.join(rates)}; the tasks are {', '.join(tasks)}")
    if not 0 < total < math.inf or min(rates.values()) < 0:
        raise InputError(f"data.mixing.{name}: {dict(rates)}; give numbers from 0 on, not all of them 0")
    return {task: rates[task] / total for task in tasks}


def _rounded(participation: np.ndarray) -> np.ndarray:
    """Round to multiples of FINEST."""
    return np.round(participation / FINEST) * FINEST
