"""The weights of the losses of several tasks that are trained together, as typed settings.

Uncertainty: Kendall, Gal and Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses" (2018). Dynamic average:
Liu, Johns and Davison, "End-to-End Multi-Task Learning with Attention" (2019), section 3.2. GradNorm: Chen et al.,
"GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks" (2018), Algorithm 1.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lmtasks.checked import Checked
from lmtasks.errors import InputError, did_you_mean

SETTING = "model.training.joint.weighting"  # for error messages
LEAST = 1e-3  # smallest weight of GradNorm: a weight of 0 has no gradient and would stay 0
TINY = 1e-12  # smallest loss that is divided by


class TaskWeights(nn.Module):
    """The weights of the losses of several tasks; parameters and buffers hold all that a resume needs."""

    weights: Tensor  # (T,) a buffer of those classes that do not override `weighted` and `now`
    needs_gradients: bool = False
    """Whether `observe` needs the norms of the gradients."""

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)

    def weighted(self, task: str, loss: Tensor, share: float) -> Tensor:
        """Return the weighted loss of a micro-batch, which is added to the loss that is minimised.

        `loss` is the mean loss of the micro-batch times the constant `share` of the task in the step; a cost of the
        weight is multiplied by `share` too.
        """
        return self.weights[self.tasks.index(task)] * loss

    def now(self) -> dict[str, float]:
        """Return the present weights."""
        return dict(zip(self.tasks, self.weights.tolist(), strict=True))

    def observe(self, losses: Tensor, norms: Tensor | None) -> None:
        """Update the weights after an optimiser step, from the same numbers on all processes; by default do nothing.

        `losses` (T,) has the mean loss of each of `tasks`, `norms` (T,) the norm of the gradient of its weighted loss
        on the backbone, None unless `needs_gradients`. NaN or infinity stands for a task that took no part.
        """


@dataclass(frozen=True)
class Weighting(Checked, ABC):
    """Settings of the weights of the losses."""

    setting = SETTING

    @abstractmethod
    def build(self, tasks: Sequence[str]) -> TaskWeights:
        """Return the initial weights of the tasks with these names."""


class StaticWeights(TaskWeights):
    """See `Static`. A checkpoint does not hold these weights, so that a changed setting applies after a resume."""

    def __init__(self, tasks: Sequence[str], weights: Sequence[float]) -> None:
        super().__init__(tasks)
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32), persistent=False)


@dataclass(frozen=True)
class Static(Weighting):
    """Constant weights.

    Raises: InputError if a weight is negative or not finite; in `build`, if a name is no task or all weights are 0.
    """

    weights: dict[str, float] = field(default_factory=dict)
    """Factor of the loss of each task; 1 for a task that is not named."""

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            if not 0 <= weight < math.inf:
                raise InputError(f"{SETTING}.weights: {name} has {weight}; give a finite number, 0 or more")

    def build(self, tasks: Sequence[str]) -> TaskWeights:
        """Return constant weights."""
        for name in self.weights:
            if name not in tasks:
                hint = did_you_mean(name, tasks, f"choose from {', '.join(tasks)}")
                raise InputError(f"{SETTING}.weights: {name} is no task; {hint}")
        weights = [self.weights.get(task, 1.0) for task in tasks]
        if not any(weights):
            raise InputError(f"{SETTING}.weights: those of all tasks are 0, which leaves nothing to train; raise one")
        return StaticWeights(tasks, weights)


class UncertaintyWeights(TaskWeights):
    """See `Uncertainty`. The weights are exp(-s), with s = log variance, and cost s / 2; the optimiser of the model
    trains s."""

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__(tasks)
        self.log_variance = nn.Parameter(torch.zeros(len(self.tasks)))  # (T,)

    def weighted(self, task: str, loss: Tensor, share: float) -> Tensor:
        """Return the weighted loss plus the cost of the weight."""
        log_variance = self.log_variance[self.tasks.index(task)]
        return torch.exp(-log_variance) * loss + share * log_variance / 2

    def now(self) -> dict[str, float]:
        """Return the present weights."""
        return dict(zip(self.tasks, torch.exp(-self.log_variance.detach()).tolist(), strict=True))


@dataclass(frozen=True)
class Uncertainty(Weighting):
    """Weights 1 / variance, where the variance of each task is learned together with the model.

    Source: Kendall, Gal and Cipolla (2018), equation 10, in its form for cross-entropies.
    """

    def build(self, tasks: Sequence[str]) -> TaskWeights:
        """Return weights of 1."""
        return UncertaintyWeights(tasks)


class DynamicAverageWeights(TaskWeights):
    """See `DynamicAverage`."""

    steps: Tensor  # () of the present interval
    total: Tensor  # (T,) sum of the losses in the present interval
    count: Tensor  # (T,) steps of the present interval in which a task took part
    before: Tensor  # (T,) mean loss of the last interval in which a task took part; NaN before there is one

    def __init__(self, tasks: Sequence[str], temperature: float, every: int) -> None:
        super().__init__(tasks)
        self.temperature = temperature
        self.every = every
        self.register_buffer("weights", torch.ones(len(self.tasks)))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("total", torch.zeros(len(self.tasks)))
        self.register_buffer("count", torch.zeros(len(self.tasks), dtype=torch.long))
        self.register_buffer("before", torch.full((len(self.tasks),), torch.nan))

    @torch.no_grad()
    def observe(self, losses: Tensor, norms: Tensor | None) -> None:
        """Add the losses to the interval; at its end, set the weights by this interval and the one before."""
        losses = losses.to(self.total)
        self.total += torch.where(losses.isfinite(), losses, 0)
        self.count += losses.isfinite()
        self.steps += 1
        if self.steps < self.every:
            return
        last = torch.where(self.count > 0, self.total / self.count, self.before)
        rate = (last / self.before.clamp(min=TINY)).nan_to_num(nan=1.0)  # 1 for a task without two intervals
        self.weights.copy_(len(self.tasks) * torch.softmax(rate / self.temperature, dim=0))
        self.before.copy_(last)
        for running in (self.steps, self.total, self.count):
            running.zero_()


@dataclass(frozen=True)
class DynamicAverage(Weighting):
    """Weights that are larger for a task whose loss falls more slowly; they sum to the number of tasks.

    Raises: InputError if a setting is out of range.
    Source: Liu, Johns and Davison (2019), section 3.2, where the interval is an epoch.
    """

    temperature: float = 2.0
    """Divisor of the rates at which losses change; a larger one makes the weights more equal."""
    every: int = 100
    """Interval over which losses are averaged, in optimiser steps; all weights are 1 for the first two intervals."""

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise InputError(f"{SETTING}.temperature: {self.temperature}; give a number above 0")
        if self.every < 1:
            raise InputError(f"{SETTING}.every: {self.every}; give 1 step or more")

    def build(self, tasks: Sequence[str]) -> TaskWeights:
        """Return weights of 1."""
        return DynamicAverageWeights(tasks, self.temperature, self.every)


class GradNormWeights(TaskWeights):
    """See `GradNorm`. Tasks that take no part in a step keep their weights; the others share the rest of the sum."""

    needs_gradients = True
    initial: Tensor  # (T,) loss of the first step in which a task took part; NaN before

    def __init__(self, tasks: Sequence[str], alpha: float, lr: float) -> None:
        super().__init__(tasks)
        self.alpha = alpha
        self.lr = lr
        self.register_buffer("weights", torch.ones(len(self.tasks)))
        self.register_buffer("initial", torch.full((len(self.tasks),), torch.nan))

    @torch.no_grad()
    def observe(self, losses: Tensor, norms: Tensor | None) -> None:
        """Take a step of gradient descent on sum_i |G_i - mean(G) r_i ** alpha|, with the second term constant.

        G_i is the norm of the gradient of w_i L_i; r_i is the present over the first loss of task i, divided by the
        mean of these ratios.
        """
        assert norms is not None
        losses, norms = losses.to(self.weights), norms.to(self.weights)
        present = losses.isfinite() & norms.isfinite()  # (T,), P of them
        if not present.any():
            return
        self.initial.copy_(torch.where(present & self.initial.isnan(), losses, self.initial))
        losses, norms, weights = losses[present], norms[present], self.weights[present]  # (P,)
        left = (losses / self.initial[present].clamp(min=TINY)).clamp(min=TINY)  # (P,)
        wanted = norms.mean() * (left / left.mean()) ** self.alpha  # (P,)
        slope = torch.sign(norms - wanted) * norms / weights  # (P,)
        moved = (weights - self.lr * slope).clamp(min=LEAST)
        rest = len(self.tasks) - self.weights[~present].sum()
        self.weights[present] = (moved * rest / moved.sum()).clamp(min=LEAST)


@dataclass(frozen=True)
class GradNorm(Weighting):
    """Weights that make the gradients of all tasks equally large, and larger for a task that lags behind.

    They sum to the number of tasks.

    Raises: InputError if a setting is out of range.
    Source: Chen et al. (2018), Algorithm 1.
    """

    alpha: float = 1.5
    """How much larger the gradient of a task that lags behind becomes; 0 = as large as the others."""
    lr: float = 0.025
    """Learning rate of the weights: a weight moves by this times the norm of the gradient of its unweighted loss."""

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < math.inf:
            raise InputError(f"{SETTING}.alpha: {self.alpha}; give a number, 0 or more")
        if not 0 < self.lr < math.inf:
            raise InputError(f"{SETTING}.lr: {self.lr}; give a number above 0")

    def build(self, tasks: Sequence[str]) -> TaskWeights:
        """Return weights of 1."""
        return GradNormWeights(tasks, self.alpha, self.lr)
