"""One settings class per optimiser.

Adam: Kingma and Ba 2015; AdamW: Loshchilov and Hutter 2019; Adafactor: Shazeer and Stern 2018; Muon: Jordan et al.
2024. All but Muon (`muon.py`) are PyTorch's own. Weight decay applies only to matrices of layers, not to embeddings,
norms and biases. A module lists its other parameters without weight decay in `no_decay`. Learning rates that fall from
layer to layer: Howard and Ruder 2018, "Universal Language Model Fine-tuning", section 3.2; Clark et al. 2020,
"ELECTRA", appendix B.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lmtasks.checked import Checked
from lmtasks.errors import InputError
from lmtasks.training.optim.muon import BatchedMuon, run

SETTING = "model.training.optimizer"  # for error messages


@dataclass(frozen=True)
class OptimizerConfig(Checked, ABC):
    """Settings of an optimiser."""

    setting = SETTING

    lr: float = 1e-3
    """Learning rate at its peak."""
    backbone_factor: float = field(default=1.0, kw_only=True)
    """Learning rate of the backbone as a multiple of that of the heads."""
    layer_decay: float = field(default=1.0, kw_only=True)
    """Learning rate of a layer of the backbone as a multiple of that of the layer above; the embeddings have the
    lowest, heads and what stands above the last layer the whole rate."""

    def __post_init__(self) -> None:
        for name in (each.name for each in fields(self) if each.name.endswith("lr")):
            if not 0 <= (rate := getattr(self, name)) < math.inf:
                raise InputError(f"{SETTING}: {name} {rate}; give a number, 0 or more")
        if not 0 < self.backbone_factor < math.inf:
            raise InputError(
                f"{SETTING}: backbone_factor {self.backbone_factor}; give a number above 0, "
                "or model.training.freeze: [backbone] for a backbone that is not trained"
            )
        if not 0 < self.layer_decay <= 1:
            raise InputError(f"{SETTING}: layer_decay {self.layer_decay}; give a number above 0, at most 1")

    @abstractmethod
    def build(self, model: nn.Module) -> Optimizer:
        """Return the optimiser of all parameters of `model`."""

    def groups(self, model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        """Return all parameters in groups: only matrices of layers decay, each layer has its own learning rate."""
        matrices, rest = _matrices_and_rest(model)
        groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
        return self._rated(model, groups, self.lr)

    def _rated(self, model: nn.Module, groups: list[dict[str, Any]], lr: float) -> list[dict[str, Any]]:
        """Split each group by learning rate: lr * backbone_factor * layer_decay ** depth in the backbone, else lr.

        The groups of the deepest parameters come first, those outside of the backbone last.

        Raises: InputError if a factor is not 1 and the model has no backbone.
        """
        factor, decay = self.backbone_factor, self.layer_decay
        if factor == decay == 1:
            return groups
        backbone = getattr(model, "backbone", None)
        if backbone is None:
            given = f"backbone_factor {factor}" if factor != 1 else f"layer_decay {decay}"
            raise InputError(f"{SETTING}: {given}, but the model has no `backbone`; leave it out")
        depths = {id(p): 0 for p in backbone.parameters()}  # those that a head borrows, too
        if decay != 1:
            depths |= _depths(backbone.stacks())
        factors = {key: factor * decay**depth for key, depth in depths.items()}
        deepest = max(depths.values(), default=0)
        rates = dict.fromkeys([*(factor * decay**depth for depth in range(deepest, -1, -1)), 1.0])
        split = [
            {**group, "params": [p for p in group["params"] if factors.get(id(p), 1.0) == rate], "lr": lr * rate}
            for group in groups
            for rate in rates
        ]
        return [group for group in split if group["params"]]


@dataclass(frozen=True)
class Adam(OptimizerConfig):
    """Adam without weight decay."""

    betas: tuple[float, float] = (0.9, 0.98)
    """Decay of the first and second moment; 0.98 as in Vaswani et al. 2017, section 5.3."""
    eps: float = 1e-9
    """Added to the root of the second moment."""

    def build(self, model: nn.Module) -> Optimizer:
        """Return Adam over all parameters in one group."""
        groups = self._rated(model, [{"params": _trained(model)}], self.lr)
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
        """Return AdamW over parameters with and without weight decay."""
        return torch.optim.AdamW(self.groups(model, self.weight_decay), self.lr, self.betas, self.eps, fused=True)


@dataclass(frozen=True)
class Adafactor(OptimizerConfig):
    """Adafactor: second moments as one row and one column per matrix, for large models in little memory.

    Its steps are relative to the size of the parameter that they change, and fall with 1 / sqrt(step) by themselves.
    """

    lr: float = 1e-2
    """Largest change of a parameter by a step, relative to its size (Shazeer and Stern 2018, algorithm 5)."""
    weight_decay: float = 0.0
    """Share of a matrix taken off, times the learning rate, at every step."""

    def build(self, model: nn.Module) -> Optimizer:
        """Return Adafactor over parameters with and without weight decay."""
        return torch.optim.Adafactor(self.groups(model, self.weight_decay), self.lr)


@dataclass(frozen=True)
class Muon(OptimizerConfig):
    """Muon, orthogonalised momentum, for the matrices of the layers; AdamW for embeddings, norms and biases."""

    lr: float = 0.02
    """Learning rate of the matrices at its peak."""
    momentum: float = 0.95
    """Decay of the matrices' momentum."""
    weight_decay: float = 0.0
    """Share of a matrix taken off, times the learning rate, at every step."""
    adam_lr: float = 2e-3
    """Learning rate of all other parameters at its peak."""

    def build(self, model: nn.Module) -> Optimizer:
        """Return Muon and AdamW as one optimiser; only one of them if the parameters of the other are frozen."""
        matrices, rest = _matrices_and_rest(model)
        parts: list[Optimizer] = []
        if matrices:
            groups = self._rated(model, [{"params": matrices}], self.lr)
            parts.append(BatchedMuon(groups, self.lr, self.weight_decay, self.momentum))
        if rest:
            groups = self._rated(model, [{"params": rest}], self.adam_lr)
            parts.append(torch.optim.AdamW(groups, self.adam_lr, (0.9, 0.98), 1e-9, 0.0, fused=True))
        return Joined(parts)


class Joined(Optimizer):
    """Several optimisers of one model as one, because Lightning's automatic optimisation takes only one."""

    def __init__(self, parts: list[Optimizer]) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._share_groups()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Run the closure once, then step every part."""
        loss = run(closure)
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the parts in their order."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()

    def _share_groups(self) -> None:
        """Make `param_groups` the groups of the parts themselves: a schedule sets the learning rate in them."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]


def _depths(stacks: Sequence[Sequence[Iterable[Tensor]]]) -> dict[int, int]:
    """Return id -> how many layers, itself included, a parameter is below the top of its stack.

    What is in several stacks, as the embedding that encoder and decoder share, counts from the higher one.
    """
    depths: dict[int, int] = {}
    for stack in stacks:
        for depth, layer in enumerate(reversed(stack), start=1):
            for parameter in layer:
                depths[id(parameter)] = max(depth, depths.get(id(parameter), 0))
    return depths


def _trained(model: nn.Module) -> list[Tensor]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _matrices_and_rest(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Split the parameters into the matrices of linear and recurrent layers and everything else."""
    others: set[int] = set()
    for module in model.modules():
        names = ("weight",) if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) else getattr(module, "no_decay", ())
        others.update(id(getattr(module, name)) for name in names)
    matrices: list[Tensor] = []
    rest: list[Tensor] = []
    for parameter in _trained(model):
        # a tied output weight is the parameter of the embedding, so it is not among the matrices either
        (matrices if parameter.ndim == 2 and id(parameter) not in others else rest).append(parameter)
    return matrices, rest
