"""Optimisers and schedules as typed settings: what a config may say, and nothing that a class change could leave
behind.

Adam: Kingma and Ba 2015; AdamW: Loshchilov and Hutter 2019; Adafactor: Shazeer and Stern 2018; Muon: Jordan et al.
2024. All but Muon (`muon.py`) are PyTorch's own. Weight decay falls on matrices of the layers only, never on
embeddings, norms and biases.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lmtasks.errors import InputError
from lmtasks.training.optim.muon import BatchedMuon


@dataclass(frozen=True)
class OptimizerConfig(ABC):
    """Settings of an optimiser."""

    lr: float = 1e-3
    """Learning rate at its peak."""
    backbone_factor: float = field(default=1.0, kw_only=True)
    """Learning rate of the backbone as a share of that of the heads."""

    def __post_init__(self) -> None:
        _check_rate("lr", self.lr)
        if not 0 < self.backbone_factor < math.inf:
            raise InputError(
                f"optimizer: backbone_factor {self.backbone_factor}; give a number above 0, "
                "or model.freeze: [backbone] for a backbone that stays as it is"
            )

    @abstractmethod
    def build(self, model: nn.Module) -> Optimizer:
        """Return the optimiser of all parameters of `model`."""


@dataclass(frozen=True)
class Adam(OptimizerConfig):
    """Adam without weight decay."""

    betas: tuple[float, float] = (0.9, 0.98)
    """Decay of the first and second moment; 0.98 as in Vaswani et al. 2017, section 5.3."""
    eps: float = 1e-9
    """Added to the root of the second moment."""

    def build(self, model: nn.Module) -> Optimizer:
        groups = _rated(model, [{"params": _trained(model)}], self.lr, self.backbone_factor)
        return torch.optim.Adam(groups, self.lr, self.betas, self.eps, fused=True)


@dataclass(frozen=True)
class AdamW(OptimizerConfig):
    """Adam with decoupled weight decay."""

    betas: tuple[float, float] = (0.9, 0.98)
    """Decay of the first and second moment."""
    eps: float = 1e-8
    """Added to the root of the second moment."""
    weight_decay: float = 0.01
    """Share of a matrix taken off, times the learning rate, at every step."""

    def build(self, model: nn.Module) -> Optimizer:
        groups = _rated(model, _decay_groups(model, self.weight_decay), self.lr, self.backbone_factor)
        return torch.optim.AdamW(groups, self.lr, self.betas, self.eps, fused=True)


@dataclass(frozen=True)
class Adafactor(OptimizerConfig):
    """Adafactor: second moments as one row and one column a matrix, for large models in little memory.

    Its steps are relative: a share of the size of what they change, which falls with 1 / sqrt(step) by itself.
    """

    lr: float = 1e-2
    """Largest share of a parameter's own size that a step changes (Shazeer and Stern 2018, algorithm 5)."""
    weight_decay: float = 0.0
    """Share of a matrix taken off, times the learning rate, at every step."""

    def build(self, model: nn.Module) -> Optimizer:
        groups = _rated(model, _decay_groups(model, self.weight_decay), self.lr, self.backbone_factor)
        return torch.optim.Adafactor(groups, self.lr)


@dataclass(frozen=True)
class Muon(OptimizerConfig):
    """Muon, momentum made orthogonal, for the matrices of the layers; AdamW for embeddings, norms and biases."""

    lr: float = 0.02
    """Learning rate of the matrices at its peak."""
    momentum: float = 0.95
    """Decay of the matrices' momentum."""
    weight_decay: float = 0.0
    """Share of a matrix taken off, times the learning rate, at every step."""
    adam_lr: float = 2e-3
    """Learning rate of all the rest at its peak."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_rate("adam_lr", self.adam_lr)

    def build(self, model: nn.Module) -> Optimizer:
        matrices, rest = _matrices_and_rest(model)
        parts: list[Optimizer] = []  # one of them alone where the other's parameters are frozen
        if matrices:
            groups = _rated(model, [{"params": matrices}], self.lr, self.backbone_factor)
            parts.append(BatchedMuon(groups, self.lr, self.weight_decay, self.momentum))
        if rest:
            groups = _rated(model, [{"params": rest}], self.adam_lr, self.backbone_factor)
            parts.append(torch.optim.AdamW(groups, self.adam_lr, (0.9, 0.98), 1e-9, 0.0, fused=True))
        return Joined(parts)


class Joined(Optimizer):
    """Several optimisers of one model as one, since a Lightning loop steps one."""

    def __init__(self, parts: list[Optimizer]) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._share_groups()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Run the closure once, then step every part."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the parts' states in order."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()

    def _share_groups(self) -> None:
        """A schedule sets the rate in `param_groups`: let it be the parts' very groups."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]


@dataclass(frozen=True)
class Schedule:
    """The learning rate over the steps, as a factor of its peak."""

    kind: Literal["inverse_sqrt", "cosine", "linear", "constant"] = "inverse_sqrt"
    """What follows the warm-up: 1 / sqrt(step) (Vaswani et al. 2017, section 5.3), half a cosine, a line, or
    nothing."""
    warmup: int = 1000
    """Steps over which the rate climbs in a line from 0 to its peak."""
    final: float = 0.0
    """Factor at the last step of cosine and linear."""

    def build(self, optimizer: Optimizer, steps: int | None) -> LambdaLR:
        """Return the schedule for a run of `steps` optimiser steps, None where nobody knows how many.

        Raises:
            InputError: If cosine or linear do not know where they end, or the run is not longer than the warm-up.
        """
        self.check(steps)
        return LambdaLR(optimizer, partial(self._factor_after, steps=steps or 0))

    def check(self, steps: int | None) -> None:
        """Complain of a run that this schedule does not fit; see `build`."""
        if self.kind in ("inverse_sqrt", "constant"):
            return  # they have no end
        if steps is None:
            raise InputError(f"schedule: {self.kind} must know when the run ends; set trainer.max_steps or max_epochs")
        if steps <= self.warmup:
            raise InputError(
                f"schedule: the warm-up takes {self.warmup} steps and the whole run only {steps}; "
                "set a shorter model.schedule.warmup"
            )

    def factor(self, step: int, steps: int) -> float:
        """Return the factor of step 1, 2, ... of `steps`."""
        if step < self.warmup:
            return step / self.warmup
        if self.kind == "constant":
            return 1.0
        if self.kind == "inverse_sqrt":
            return math.sqrt(max(1, self.warmup) / max(1, step))
        left = max(0.0, (steps - step) / (steps - self.warmup))
        shape = left if self.kind == "linear" else 0.5 * (1 - math.cos(math.pi * left))
        return self.final + (1 - self.final) * shape

    def _factor_after(self, done: int, steps: int) -> float:
        return self.factor(done + 1, steps)


def _check_rate(name: str, rate: float) -> None:
    if not 0 <= rate < math.inf:
        raise InputError(f"optimizer: {name} {rate}; give a number from 0 on")


def _trained(model: nn.Module) -> list[Tensor]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _matrices_and_rest(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Split the parameters into weights of linear and recurrent layers and everything else."""
    tables = {id(module.weight) for module in model.modules() if isinstance(module, (nn.Embedding, nn.EmbeddingBag))}
    outputs = {
        id(parameter)
        for name, parameter in model.named_parameters()
        if name.endswith(("output_weight", "places", "follow"))
    }
    matrices: list[Tensor] = []
    rest: list[Tensor] = []
    for parameter in _trained(model):
        is_matrix = parameter.ndim == 2 and id(parameter) not in tables | outputs
        (matrices if is_matrix else rest).append(parameter)
    return matrices, rest


def _decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    matrices, rest = _matrices_and_rest(model)
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def _rated(model: nn.Module, groups: list[dict[str, Any]], lr: float, factor: float) -> list[dict[str, Any]]:
    """Take the parameters of the backbone out of each group into one that learns at lr * factor; none if that is lr.

    Raises:
        InputError: If there is no backbone to learn at a rate of its own.
    """
    if factor == 1:
        return groups
    backbone = {id(parameter) for name, parameter in model.named_parameters() if name.startswith("backbone.")}
    if not backbone:
        raise InputError(f"optimizer: backbone_factor {factor}, but no parameter is called backbone.*; leave it out")
    split = [
        {**group, "params": [p for p in group["params"] if (id(p) in backbone) == ours], "lr": rate}
        for group in groups
        for ours, rate in ((True, lr * factor), (False, lr))
    ]
    return [group for group in split if group["params"]]
