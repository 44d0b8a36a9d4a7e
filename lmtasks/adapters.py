"""Adapters of a model: several sets of LoRA weights, each with tasks and heads of its own, on one backbone.

An adapter file is a safetensors file. Its metadata hold settings as plain data, and a hash of the backbone on which the
adapter was trained.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from lmtasks.backbones.base import Backbone
from lmtasks.backbones.lora import LoRA, LoRALinear, adapters, fingerprint, installed, is_adapter
from lmtasks.decoding import Decoding
from lmtasks.errors import InputError
from lmtasks.settings import FORMAT, check_format, from_plain, to_plain
from lmtasks.storage.checksums import check_sums, read_sums
from lmtasks.storage.reading import refusing
from lmtasks.storage.writing import save_tensors
from lmtasks.tasks.base import Task

if TYPE_CHECKING:
    from lmtasks.model import Model

KEY = "lmtasks"  # of the settings in the metadata


@dataclass(frozen=True)
class Adapter:
    """What makes a backbone a model: adapted layers, tasks, their heads and how answers are searched."""

    layers: dict[str, LoRALinear]
    """The adapted layers by their names in the backbone."""
    tasks: dict[str, Task]
    """What it does."""
    heads: nn.ModuleDict
    """The head of each task."""
    decoding: Decoding
    """How answers are searched."""


@dataclass(frozen=True)
class SavedAdapter:
    """What an adapter file holds, before layers and heads are built."""

    lora: LoRA
    """Settings of the adapted layers."""
    tasks: dict[str, Task]
    """What it does."""
    decoding: Decoding
    """How answers are searched."""
    backbone: str
    """The fingerprint of the backbone that it was trained on."""
    weights: dict[str, Tensor]
    """The weights of adapted layers and heads by their names in the model."""

    @torch.no_grad()
    def build(self, backbone: Backbone, heads: nn.ModuleDict) -> Adapter:
        """Return the adapter for a backbone that has none in place; `heads`, built for its tasks, get their weights.

        Raises: InputError if it was trained on another backbone.
        """
        if fingerprint(backbone) != self.backbone:
            raise InputError(
                "an adapter of another backbone, or of one that has been trained since; load the model that "
                "training.init_from named"
            )
        layers = adapters(backbone, self.lora)
        for name, layer in layers.items():
            for own, tensor in layer.state_dict().items():
                if is_adapter(own):
                    tensor.copy_(self.weights[f"backbone.{name}.{own}"])
        heads.load_state_dict(
            {name.removeprefix("heads."): t for name, t in self.weights.items() if name.startswith("heads.")}
        )
        return Adapter(layers, self.tasks, heads, self.decoding)


def save_adapter(model: Model, file: str | Path) -> Path:
    """Write the adapter that a model has in use, with its tasks and heads, and return its path.

    Raises: InputError if the model has none.
    """
    backbone, _ = model.built()
    layers = list(installed(backbone).values())
    if not layers:
        raise InputError("the model has no adapter in use; train one with model.training.lora, or call use_adapter")
    settings = {"lora": layers[0].config, "tasks": model.tasks, "decoding": model.decoding}
    plain = {"format": FORMAT, "backbone": fingerprint(backbone), **to_plain(settings)}
    weights = {
        name: tensor for name, tensor in model.state_dict().items() if name.startswith("heads.") or is_adapter(name)
    }
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    save_tensors(weights, Path(file), {KEY: json.dumps(plain, ensure_ascii=False)})
    return Path(file)


def read_adapter(file: str | Path) -> SavedAdapter:
    """Read an adapter file.

    Raises: InputError if there is none, it is damaged, or lmtasks did not write it.
    """
    if not Path(file).is_file():
        raise InputError(f"{file}: there is no such file; give the adapter.safetensors of a model folder")
    file = Path(file)
    if file.name in read_sums(file.parent):
        check_sums(file.parent, [file.name])
    with refusing(file, "not an adapter of lmtasks"):
        with safe_open(file, "pt") as opened:
            plain: dict[str, Any] = json.loads((opened.metadata() or {})[KEY])
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # no dict
        check_format(plain["format"], file)
        lora, tasks, decoding = (from_plain(plain[name]) for name in ("lora", "tasks", "decoding"))
        if lora.rank > max(len(each) for each in weights.values() if each.ndim):  # before memory is taken for it
            raise InputError(f"its settings ask for rank {lora.rank:,}, its weights have less")
        return SavedAdapter(lora, tasks, decoding, plain["backbone"], weights)
