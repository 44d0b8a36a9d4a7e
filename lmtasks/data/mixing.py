"""Mixing: how much of each task makes up optimiser step k, a pure function like the plan of each task.

A step holds rows of every task, as heterogeneous batches train better than one task after the other (Aghajanyan et al.
2021, section 3.2), so that the shares are met in every step and each task has its own gradient in it. Shares:
proportional to size, by temperature, with sizes capped (Raffel et al. 2020, section 3.5.2), given, or changing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from lmtasks.data.plan import Plan, padded_lengths, steps_of
from lmtasks.errors import InputError

ROUNDS = 4  # of fitting the steps of the tasks to their shares in spite of padding, and together to tokens_per_step
FINEST = 2.0**-30  # turns are multiples of it: sums of millions of them are exact, and no step of a plan is left out


@dataclass(frozen=True)
class Mixing:
    """The share of each task in training; without settings, that of its rows in all rows.

    Example:
        >>> Mixing(by="rows", temperature=2.0).shares({"translation": 900.0, "sentiment": 100.0})
        {'translation': 0.75, 'sentiment': 0.25}
    """

    by: Literal["tokens", "rows"] = "tokens"
    """What is shared out: tokens of source and target, or rows."""
    temperature: float = 1.0
    """Sizes count as size ** (1 / temperature): 1 = in proportion, large = all tasks alike."""
    cap: int | None = None
    """A task counts as at most so large, in tokens or rows."""
    rates: dict[str, float] = field(default_factory=dict)
    """Shares of the tasks in place of those that follow from their sizes, in any unit."""
    final_rates: dict[str, float] = field(default_factory=dict)
    """Shares to which the first ones change in a line."""
    change: int = 0
    """Steps over which they change."""

    def __post_init__(self) -> None:
        if not self.temperature > 0 or (self.cap is not None and self.cap < 1):
            raise InputError(f"data.mixing: temperature {self.temperature}, cap {self.cap}; both must be above 0")
        if self.rates and (self.temperature, self.cap) != (1.0, None):
            raise InputError(
                "data.mixing: rates leave nothing to temperature and cap; set rates to {}, or leave both out"
            )
        if self.change < 0:
            raise InputError(f"data.mixing: change {self.change}; give the steps over which the rates change")
        if (self.change > 0) != bool(self.final_rates):
            raise InputError("data.mixing: final_rates and change go together; give the steps of the change too")

    def check(self, tasks: Collection[str]) -> None:
        """Check what is known before the rows are: that rates are of these tasks, and not all 0.

        Raises:
            InputError: If it is not so.
        """
        for name, rates in (("rates", self.rates), ("final_rates", self.final_rates)):
            if rates:
                _checked(rates, tasks, name)

    def shares(self, sizes: Mapping[str, float]) -> dict[str, float]:
        """Return the share of each task at the first step; they add up to 1.

        sizes: tokens or rows of each task.

        Raises:
            InputError: If `rates` are not of these tasks.
        """
        if self.rates:
            return _checked(self.rates, sizes, "rates")
        sizes = {task: min(size, self.cap or size) for task, size in sizes.items()}
        largest = max(sizes.values())  # by which they are divided, lest a power of them be too large a number
        capped = {task: (size / largest) ** (1 / self.temperature) for task, size in sizes.items()}
        return {task: size / sum(capped.values()) for task, size in capped.items()}

    def final_shares(self, sizes: Mapping[str, float]) -> dict[str, float]:
        """Return the share of each task from step `change` on; see `shares`."""
        return _checked(self.final_rates, sizes, "final_rates") if self.final_rates else self.shares(sizes)


class Mixture:
    """Which rows of which tasks make up step k = 0, 1, ...

    Each task has a plan of its own, with as many tokens a step as are its share. One whose share is not a whole number
    of rows for each micro-batch takes part with more of them in fewer steps. While shares change, a step may have up to
    twice `tokens_per_step`.
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
        """`lengths` (rows, 2) and `targets` (rows,) of each task; the others as in `Plan`."""
        self.mixing, self.parts, self.tokens_per_step, self.seed = mixing, parts, tokens_per_step, seed
        self._units = {
            task: table.sum(1) if mixing.by == "tokens" else np.ones(len(table)) for task, table in lengths.items()
        }
        sizes = self._sizes = {task: float(units.sum()) for task, units in self._units.items()}
        ends = np.array([list(mixing.shares(sizes).values()), list(mixing.final_shares(sizes).values())])
        part = np.linspace(0, 1, mixing.change + 1)[:, None]
        self._shares = ends[0] + part * (ends[1] - ends[0])  # (change + 1, tasks)
        budgets = self._budgets(lengths, ends.max(axis=0))
        self.plans = {
            task: Plan(table, targets[task], budgets[task], parts, seed + number)
            for number, (task, table) in enumerate(lengths.items())
        }

    def _budgets(self, lengths: Mapping[str, np.ndarray], shares: np.ndarray) -> dict[str, int]:
        """Return how many padded tokens a step of each task has, such that the tasks have these shares in spite of
        padding, and all together at most the sum of the shares times `tokens_per_step`."""
        rows = {task: padded_lengths(table) for task, table in lengths.items()}
        padded = {task: rows[task].sum() / self._sizes[task] for task in lengths}  # of a token or row
        size = shares.sum() * self.tokens_per_step  # the largest step, of all tasks
        tokens = float(size)
        for _ in range(ROUNDS):
            a_step = shares * tokens / (shares @ list(padded.values()))  # tokens or rows, (tasks,)
            budgets = {}
            for task, wanted in zip(lengths, a_step, strict=True):
                budget = wanted * padded[task]
                for _ in range(ROUNDS if len(lengths) > 1 else 0):
                    steps = len(steps_of(rows[task], round(budget))) - 1  # of one part: the parts decide nothing
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
        """Steps in which as many rows come as all tasks have; each comes once where shares are in proportion."""
        rows = sum(len(plan.lengths) for plan in self.plans.values())
        a_step = np.array([len(plan.lengths) / plan.steps_per_epoch for plan in self.plans.values()])
        return max(1, round(rows / float(a_step @ self._participation[0])))

    def step(self, k: int) -> dict[str, list[np.ndarray]]:
        """Return the row numbers of step k: for each task that takes part, a list of `parts` micro-batches."""
        before, after = self.done(k), self.done(k + 1)
        return {task: plan.step(before[task]) for task, plan in self.plans.items() if after[task] > before[task]}

    def weight(self, k: int, task: str) -> float:
        """Return what the mean loss of a task counts in step k, where it takes part: its share, on the average."""
        return self.wanted(k)[task] / self.participation(k)[task]

    def done(self, k: int) -> dict[str, int]:
        """Return how many steps of each task's own plan are done before step k."""
        changing = min(k, self.mixing.change)
        sums = self._sums[changing] + (k - changing) * self._participation[-1]
        return dict(zip(self.plans, np.floor(sums + self._first).astype(int).tolist(), strict=True))

    def wanted(self, k: int) -> dict[str, float]:
        """Return the shares that step k is to have."""
        return self._at(k, self._shares)

    def participation(self, k: int) -> dict[str, float]:
        """Return in what part of the steps around step k each task takes part."""
        return self._at(k, self._participation)

    def report(self, k: int) -> dict[str, float]:
        """Return what each task has had before step k: tokens of source and target, its share, and that wanted now."""
        done, wanted = self.done(k), self.wanted(k)
        units = {task: plan.total(self._units[task], done[task]) for task, plan in self.plans.items()}
        tokens = {task: plan.total(plan.lengths.sum(1), done[task]) for task, plan in self.plans.items()}
        found: dict[str, float] = {}
        for task in self.plans:
            share = units[task] / max(1.0, sum(units.values()))
            found |= {f"{task}/tokens": tokens[task], f"{task}/share": share, f"{task}/wanted_share": wanted[task]}
        return found

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same for step k to have the same rows."""
        found: dict[str, Any] = {"tasks": ", ".join(self.plans)}
        found |= {"tokens_per_step": self.tokens_per_step, "parts": self.parts, "seed": self.seed}
        for task, plan in self.plans.items():
            of = f" of {task}" if len(self.plans) > 1 else ""
            lengths = hashlib.sha256(plan.lengths.astype("<i8").tobytes()).hexdigest()[:8]
            found |= {f"rows{of}": len(plan.lengths), f"lengths of the rows{of} (a hash)": lengths}
        ends = f"{', '.join(self.plans)} {self._shares[[0, -1]].round(9).tolist()}"
        shares = f"{ends} over {self.mixing.change} steps by {self.mixing.by}"
        return found | ({"shares of the tasks": shares} if len(self.plans) > 1 else {})

    def _at(self, k: int, table: np.ndarray) -> dict[str, float]:
        """Return the row of a table (change + 1, tasks) that step k has; the last one stays."""
        return dict(zip(self.plans, table[min(k, self.mixing.change)].tolist(), strict=True))

    @cached_property
    def _participation(self) -> np.ndarray:
        """In what part of the steps each task takes part, (change + 1, tasks); one of them in each."""
        units = [self._units[task].sum() / plan.steps_per_epoch for task, plan in self.plans.items()]  # of its steps
        turns = self._shares / np.array(units)
        return _whole(turns / turns.max(axis=1, keepdims=True))

    @cached_property
    def _sums(self) -> np.ndarray:
        """Turns before each of the first steps, (change + 1, tasks)."""
        return np.cumsum(np.vstack((np.zeros(len(self.plans)), self._participation[:-1])), axis=0)

    @cached_property
    def _first(self) -> np.ndarray:
        """Where the tasks begin to count, (tasks,), such that rare ones do not fall into the same steps."""
        return _whole(np.arange(len(self.plans)) / (2 * len(self.plans)))


def _checked(rates: Mapping[str, float], tasks: Collection[str], name: str) -> dict[str, float]:
    """Return rates as shares, in the order of the tasks."""
    given, total = set(rates), sum(rates.values())
    if given != set(tasks):
        raise InputError(f"data.mixing.{name} has {', '.join(rates)}; the tasks are {', '.join(tasks)}")
    if not 0 < total < math.inf or min(rates.values()) < 0:
        raise InputError(f"data.mixing.{name}: {dict(rates)}; give numbers from 0 on, not all of them 0")
    return {task: rates[task] / total for task in tasks}


def _whole(turns: np.ndarray) -> np.ndarray:
    """Round to multiples of FINEST."""
    return np.round(turns / FINEST) * FINEST
