"""LoRA: low-rank adapters beside the frozen linear layers of a backbone (Hu et al. 2021, sections 4.1 and 4.2).

An adapted layer is still an `nn.Linear` whose weight keeps its name, so a backbone with adapters has the weights of one
without, and a few more. A module whose linear layer computes several things at once says of how many parts it is:
`parts = {"query_key_value": 3}`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmtasks.backbones.base import Backbone
from lmtasks.backbones.dropout import Dropout
from lmtasks.checked import Checked
from lmtasks.errors import InputError

SETTING = "model.training.lora"  # for error messages
DOWN, UP, SCALE = "lora_down", "lora_up", "lora_scale"  # A, B and alpha / rank, by their names in the state_dict


@dataclass(frozen=True)
class LoRA(Checked):
    """Settings of adapters: W x + alpha / rank * B A x, where only A and B are trained.

    A learning rate of about ten times that of full fine-tuning suits them, whatever the rank (Schulman et al. 2025,
    "LoRA Without Regret").

    Raises: InputError for an impossible setting.

    Example:
        >>> from lmtasks import TransformerConfig
        >>> backbone = TransformerConfig(d_model=64, d_ff=128).build(vocab_size=10)
        >>> put(backbone, adapters(backbone, LoRA(rank=4)))
        >>> len(installed(backbone))
        33
    """

    setting = SETTING

    rank: int = 8
    """Rank of the change of a matrix; a layer that makes query, key and value at once has one of this rank for each."""
    alpha: float = 16.0
    """Size of the change: it is multiplied by alpha / rank."""
    dropout: float = 0.0
    """Share of an adapter's inputs dropped in training."""
    layers: tuple[str, ...] | None = None
    """Names of the linear layers that have adapters, such as query_key_value and outer; None = all of the backbone."""

    def __post_init__(self) -> None:
        if not 0 < self.alpha < math.inf:
            raise InputError(f"{SETTING}: alpha {self.alpha}; give a number above 0")
        if not 0 <= self.dropout < 1:
            raise InputError(f"{SETTING}: dropout {self.dropout}; give a share, 0 or more and below 1")


class LoRALinear(nn.Linear):
    """A linear layer with an adapter; weight and bias are those of the layer that it stands for.

    A starts random and B at 0, so that the layer begins as it was. The P parts of a fused layer have an A and a B each.
    """

    # Neither decays: rank and alpha keep their product small, and decay of one would only let the other grow.
    no_decay = (DOWN, UP)
    lora_scale: Tensor

    def __init__(self, linear: nn.Linear, config: LoRA, parts: int = 1) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias, self.config = linear.weight, linear.bias, config
        self.dropout = Dropout(config.dropout)
        self.lora_down = nn.Parameter(linear.weight.new_empty(parts * config.rank, self.in_features))  # (P r, D_in)
        self.lora_up = nn.Parameter(linear.weight.new_zeros(parts, self.out_features // parts, config.rank))
        self.register_buffer(SCALE, torch.tensor(config.alpha / config.rank, device=linear.weight.device))
        nn.init.kaiming_uniform_(self.lora_down, a=math.sqrt(5))  # as the authors' code: uniform up to D_in^-0.5

    def forward(self, input: Tensor) -> Tensor:
        """Run (..., D_in) -> (..., D_out)."""
        down = F.linear(self.dropout(input), self.lora_down).unflatten(-1, (len(self.lora_up), -1))  # (..., P, r)
        change = torch.einsum("...pr,por->...po", down, self.lora_up).flatten(-2)  # (..., D_out)
        return F.linear(input, self.weight, self.bias) + self.lora_scale * change

    def plain(self) -> nn.Linear:
        """Return the layer without the adapter, with the same weight and bias."""
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        linear.weight, linear.bias = self.weight, self.bias
        return linear.train(self.training)


def adapters(backbone: Backbone, config: LoRA) -> dict[str, LoRALinear]:
    """Return fresh adapted layers for a backbone by name; `put` puts them in place.

    Raises: InputError if the backbone lacks one of the layers named, or is recurrent.
    """
    if not backbone.takes_adapters:
        kind = type(backbone).__name__
        raise InputError(f"{SETTING} adapts linear layers, and the cells of a {kind} are none; leave it out")
    owners = [(f"{name}." if name else "", owner) for name, owner in backbone.named_modules()]
    linear = {
        f"{prefix}{name}": (layer, getattr(owner, "parts", {}).get(name, 1))
        for prefix, owner in owners
        for name, layer in owner.named_children()
        if type(layer) is nn.Linear
    }
    names = sorted({name.rpartition(".")[2] for name in linear})
    wanted = names if config.layers is None else config.layers
    if missing := [name for name in wanted if name not in names]:
        raise InputError(f"{SETTING}.layers: the backbone has no linear layer {missing[0]}; it has {', '.join(names)}")
    return {
        name: LoRALinear(layer, config, parts)
        for name, (layer, parts) in linear.items()
        if name.rpartition(".")[2] in wanted
    }


def put(backbone: nn.Module, layers: Mapping[str, nn.Linear]) -> None:
    """Put linear layers into the places of these names."""
    for name, layer in layers.items():
        backbone.set_submodule(name, layer)


def installed(backbone: nn.Module) -> dict[str, LoRALinear]:
    """Return the adapted layers of a backbone by name."""
    return {name: layer for name, layer in backbone.named_modules() if isinstance(layer, LoRALinear)}


def take_out(backbone: nn.Module) -> None:
    """Put plain linear layers in place of adapted ones; their weights are those without the adapters."""
    put(backbone, {name: layer.plain() for name, layer in installed(backbone).items()})


@torch.no_grad()
def merge(backbone: nn.Module) -> None:
    """Add the adapters to the weights, in place; all layers are plain again and compute the same.

    Source: Hu et al. 2021, section 4.1, "No additional inference latency".
    """
    for layer in installed(backbone).values():
        layer.weight.copy_(_merged(layer.weight, layer.lora_down, layer.lora_up, layer.lora_scale))
    take_out(backbone)


@torch.no_grad()
def merged(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a state_dict with its adapters, if it has any, added to the layers that they adapt."""
    whole = {name: tensor for name, tensor in weights.items() if not is_adapter(name)}
    for name in weights:
        layer, _, own = name.rpartition(".")
        if own == DOWN:
            parts = (weights[f"{layer}.{each}"] for each in (DOWN, UP, SCALE))
            whole[f"{layer}.weight"] = _merged(weights[f"{layer}.weight"], *parts)
    return whole


def is_adapter(name: str) -> bool:
    """Return whether a name in a state_dict is that of a tensor of an adapter."""
    return name.rpartition(".")[2] in (DOWN, UP, SCALE)


def fingerprint(backbone: nn.Module) -> str:
    """Return a hash of the weights of a backbone without its adapters."""
    digest = hashlib.sha256()
    for name, tensor in sorted(backbone.state_dict().items()):
        if not is_adapter(name):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _merged(weight: Tensor, down: Tensor, up: Tensor, scale: Tensor) -> Tensor:
    """Return the weight (D_out, D_in) with the adapter added, summed in float32."""
    change = up.float() @ down.float().unflatten(0, (len(up), -1))  # (P, D_out / P, D_in)
    return (weight.float() + scale.float() * change.flatten(0, 1)).to(weight.dtype)
