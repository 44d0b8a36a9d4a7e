"""Start: from what a model begins that does not begin from nothing, and what of it is not trained.

A backbone that has learned some tasks starts another one: tokenizer and backbone come from its run, heads are new.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from lmtasks.backbones.base import Backbone, BackboneConfig
from lmtasks.errors import InputError
from lmtasks.settings import from_plain
from lmtasks.storage.checkpoint import Saved, find_model, read
from lmtasks.tasks.base import Task
from lmtasks.text.tokenizer import Tokenizer

FREE = ("gradient_checkpointing",)  # settings of a backbone that its weights do not depend on, beside those of dropout
logger = logging.getLogger(__name__)


class Start:
    """The model from which another one starts: a run folder, model folder or checkpoint, read once."""

    def __init__(self, path: str | None, tokenizer_file: str | None, vectors: str | None) -> None:
        """None is a start from nothing; the others are what must not be given beside a path.

        Raises:
            InputError: If they are.
        """
        if path and tokenizer_file:
            raise InputError("model.init_from brings a tokenizer of its own; leave out model.tokenizer.file")
        if path and vectors:
            raise InputError("model.init_from brings embeddings of its own; leave out model.vectors")
        self.path = path
        self._saved: Saved | None = None

    def tokenizer(self, languages: Sequence[str], marks: Sequence[str]) -> Tokenizer:
        """Return the tokenizer of the model, with tokens added at its end for languages and marks that it lacks.

        Raises:
            InputError: If there is no model.
        """
        return Tokenizer.from_json(self._read().tokenizer).extended(languages, marks)

    def give(self, backbone: Backbone, config: BackboneConfig, tokenizer: Tokenizer) -> None:
        """Give a backbone, built of `config`, the weights of the model's; what was read is then forgotten.

        Raises:
            InputError: If there is no model, it is built otherwise, or its tokens are not the first of `tokenizer`.
        """
        assert self.path is not None
        take_backbone(backbone, config, tokenizer, self._read(), self.path)
        self._saved = None

    def _read(self) -> Saved:
        assert self.path is not None
        self._saved = self._saved or read(find_model(self.path))
        return self._saved


def beginnings(tasks: Mapping[str, Task]) -> dict[str, str]:
    """Return the token with which the texts of each task begin, where a decoder writes for several."""
    writers = [name for name, task in tasks.items() if task.generates]
    return {name: f"<task-{name}>" for name in writers} if len(writers) > 1 else {}


@torch.no_grad()
def take_backbone(backbone: Backbone, config: BackboneConfig, tokenizer: Tokenizer, saved: Saved, path: str) -> None:
    """Give a backbone, built of `config` for `tokenizer`, the weights of a saved one.

    The embeddings of new tokens stay as they are, and a decoder that the new backbone has no use for is left out. Where
    the saved one wrote for several tasks, <s>, with which it began no text, becomes the mean of what it began with.

    Raises:
        InputError: If the saved one is built otherwise, or its tokens are not the first of `tokenizer`.
    """
    old = Tokenizer.from_json(saved.tokenizer)
    size = len(old)
    if len(tokenizer) < size or tokenizer.pieces(range(size)) != old.pieces(range(size)):
        raise InputError(
            f"init_from {path}: its {size} tokens are not the first of module.tokenizer; do not set that, or to one "
            "that extends its tokenizer"
        )
    before: Any = from_plain(saved.settings["backbone"])
    if type(before) is not type(config):
        raise InputError(f"init_from {path}: its backbone is a {type(before).__name__}, not a {type(config).__name__}")
    if change := next(iter(_changes(before, config)), None):
        raise InputError(f"init_from {path}: its backbone has {change}; set model.backbone likewise")
    weights = {name.removeprefix("backbone."): tensor for name, tensor in saved.weights.items()}
    for name, tensor in backbone.state_dict().items():
        tensor[: len(weights[name])] = weights[name]
    began = set(beginnings(from_plain(saved.settings["tasks"])).values())
    marks = [i for i in old.suppress_tokens if old.pieces([i])[0] in began]  # none in a model older than these tokens
    if marks:
        table = backbone.embedding.weight  # (V, D)
        table[old.bos_id] = table[marks].mean(0)
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
    """Return what of the settings of two backbones must be alike and is not; only learned positions have a length."""
    free = FREE if getattr(now, "positions", None) == "learned" else (*FREE, "max_length")
    fields = [field.name for field in dataclasses.fields(now)]
    values = [(name, getattr(before, name), getattr(now, name)) for name in fields]
    return [
        f"{name} {old}, not {new}"
        for name, old, new in values
        if old != new and name not in free and "dropout" not in name and (name, new) != ("decoder_layers", 0)
    ]
