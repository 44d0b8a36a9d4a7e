"""Start: from what a model begins that does not begin from nothing, and what of it is not trained.

A backbone that has learnt some tasks starts another one: tokenizer and backbone come from its run, heads are new.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lmtasks.backbones.base import Backbone, BackboneConfig
from lmtasks.errors import InputError
from lmtasks.saved import Saved, find_model, read
from lmtasks.settings import from_plain
from lmtasks.text.tokenizer import Tokenizer

FREE = ("gradient_checkpointing",)  # settings of a backbone that its weights do not depend on, beside those of dropout
logger = logging.getLogger(__name__)


def begin_from(path: str) -> Saved:
    """Read the model to start from: a run folder, model folder or checkpoint.

    Raises:
        InputError: If there is none.
    """
    return read(find_model(path))


def take_tokenizer(saved: Saved, languages: Sequence[str], marks: Sequence[str]) -> Tokenizer:
    """Return the tokenizer of a saved model, with tokens added at its end for languages and marks that it lacks."""
    return Tokenizer.from_json(saved.tokenizer).extended(languages, marks)


@torch.no_grad()
def take_backbone(backbone: Backbone, config: BackboneConfig, saved: Saved, path: str) -> None:
    """Give a backbone, built of `config`, the weights of a saved one.

    The embeddings of new tokens stay as they are, and a decoder that the new backbone has no use for is left out.

    Raises:
        InputError: If the saved one is built otherwise.
    """
    before: Any = from_plain(saved.settings["backbone"])
    if type(before) is not type(config):
        raise InputError(f"init_from {path}: its backbone is a {type(before).__name__}, not a {type(config).__name__}")
    if change := next(iter(_changes(before, config)), None):
        raise InputError(f"init_from {path}: its backbone has {change}; set model.backbone likewise")
    weights = {name.removeprefix("backbone."): tensor for name, tensor in saved.weights.items()}
    for name, tensor in backbone.state_dict().items():
        tensor[: len(weights[name])] = weights[name]
    logger.info("backbone: weights of %s", path)


def freeze(module: nn.Module, names: Sequence[str]) -> None:
    """Keep parameters from being trained: those called one of `names`, or part of what is called so.

    Raises:
        InputError: If nothing is called so, or a head and the backbone it stands on have nothing left to learn.
    """
    for name in names:
        found = [p for own, p in module.named_parameters() if f"{own}.".startswith(f"{name}.")]
        if not found:
            parts = dict.fromkeys(".".join(own.split(".")[:2]) for own, _ in module.named_parameters())
            raise InputError(f"model.freeze: the model has no {name}; it has {', '.join(parts)} and what is in them")
        for parameter in found:
            parameter.requires_grad_(False)
    shared = any(parameter.requires_grad for parameter in module.get_submodule("backbone").parameters())
    for task, head in module.get_submodule("heads").named_children():
        if not shared and not any(parameter.requires_grad for parameter in head.parameters()):
            raise InputError(
                f"model.freeze: nothing of {task} is left to learn, as all its parameters are those of the backbone; "
                "freeze less"
            )


def _changes(before: Any, now: Any) -> list[str]:
    """Return what of the settings of two backbones must be alike and is not."""
    fields = [field.name for field in dataclasses.fields(now)]
    values = [(name, getattr(before, name), getattr(now, name)) for name in fields]
    return [
        f"{name} {old}, not {new}"
        for name, old, new in values
        if old != new and name not in FREE and "dropout" not in name and (name, new) != ("decoder_layers", 0)
    ]
