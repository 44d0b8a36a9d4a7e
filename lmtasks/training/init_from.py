"""Initialise a model from the tokenizer and backbone of another one, and choose what of a model is trained.

Heads are always new, so the tasks of the two models may differ.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from lmtasks.backbones.base import Backbone, BackboneConfig, Origin
from lmtasks.backbones.lora import SETTING, LoRA, adapters, installed, is_adapter, put
from lmtasks.errors import InputError
from lmtasks.finite import check_finite
from lmtasks.model import start_marks
from lmtasks.settings import from_plain
from lmtasks.storage.checkpoint import Saved, find_model, read
from lmtasks.storage.model_folder import find_own
from lmtasks.storage.reading import refusing
from lmtasks.text.base import BaseTokenizer

FREE = ("gradient_checkpointing",)  # settings of a backbone that may differ, as those of dropout may
logger = logging.getLogger(__name__)


class Source(Origin):
    """The model that another one begins with, read once: a run or model folder, a checkpoint or an id on the hub."""

    def __init__(self, path: str, writers: int = 1) -> None:
        """Set where the model is, and how many tasks of the new one write text."""
        self.path, self.writers = path, writers

    @property
    def called(self) -> str:
        """Its path as it was given, or the name alone where that is absolute."""
        return Path(self.path).name if Path(self.path).is_absolute() else self.path

    def tokenizer(self, languages: Sequence[str], marks: Sequence[str]) -> BaseTokenizer:
        """Return the tokenizer of the model, with tokens added at its end for languages and marks that it lacks.

        Raises: InputError if there is no model.
        """
        return self._saved.build_tokenizer().extended(languages, marks)

    @torch.no_grad()
    def initialise(self, backbone: Backbone, config: BackboneConfig, tokenizer: BaseTokenizer) -> None:
        """Copy the weights of the model into a backbone that was built of `config` for `tokenizer`.

        The embeddings of new tokens stay as they are, and a decoder that the new backbone does not have is left out. If
        the model generates for several tasks, each with a start token of its own, and the new one for one, <s> gets the
        mean of these.

        Raises: InputError if there is no model, its backbone has other settings, or its tokens are not the first of
        `tokenizer`.
        """
        saved, where = self._saved, f"init_from {self.path}: its"
        old = saved.build_tokenizer()
        size = len(old)
        if len(tokenizer) < size or tokenizer.pieces(range(size)) != old.pieces(range(size)):
            raise InputError(
                f"{where} {size} tokens are not the first of model.tokenizer; do not set that, or set one that "
                "extends its tokenizer"
            )
        with refusing(f"init_from {self.path}"):
            before: BackboneConfig = from_plain(saved.settings["backbone"])
            if type(before) is not type(config):
                raise InputError(f"{where} backbone is a {type(before).__name__}, not a {type(config).__name__}")
            # only learned positions depend on the length
            free = FREE if getattr(config, "positions", None) == "learned" else (*FREE, "max_length")
            for name in (each.name for each in dataclasses.fields(config)):
                was, now = getattr(before, name), getattr(config, name)
                if was != now and name not in free and "dropout" not in name and (name, now) != ("decoder_layers", 0):
                    raise InputError(f"{where} backbone has {name} {was}, not {now}; set model.backbone likewise")
            check_finite(saved.weights)
            weights = {name.removeprefix("backbone."): tensor for name, tensor in saved.weights.items()}
            for name, tensor in backbone.state_dict().items():
                tensor[: len(weights[name])] = weights[name]  # the embeddings may have more rows now
            began = set(start_marks(from_plain(saved.settings["tasks"])).values())
            marks = [i for i in old.suppress_tokens if old.pieces([i])[0] in began]
            if marks and self.writers == 1:
                table = backbone.embedding.weight  # (V, D)
                table[old.bos_id] = table[marks].mean(0)
        logger.info("backbone: weights of %s", self.path)
        del self._saved  # frees the memory

    @cached_property
    def _saved(self) -> Saved:
        return read(find_model(find_own(self.path) or self.path))


def freeze(module: nn.Module, names: Sequence[str]) -> None:
    """Exclude from training the parameters named in `names`, and those inside a part of such a name.

    Raises: InputError if there is no such part, or a head and the backbone have nothing left to train.
    """
    for parameter in parameters_in(module, names, "freeze"):
        parameter.requires_grad_(False)
    check_trained(module, [], "freeze")


def parameters_in(module: nn.Module, names: Iterable[str], setting: str) -> list[nn.Parameter]:
    """Return the parameters named in `names`, and those inside a part of such a name.

    Raises: InputError if there is no such part; the message names the setting.
    """
    parameters = dict(module.named_parameters())
    for name in names:
        check_part(name, parameters, setting)
    return [p for own, p in parameters.items() if any(f"{own}.".startswith(f"{name}.") for name in names)]


def check_trained(module: nn.Module, excluded: Iterable[nn.Parameter], setting: str) -> None:
    """Check that each head or the backbone has something to train besides the `excluded` parameters.

    Raises: InputError if not; the message names the task and the setting.
    """
    left_out = set(map(id, excluded))

    def learns(part: nn.Module) -> bool:
        return any(p.requires_grad and id(p) not in left_out for p in part.parameters())

    shared = learns(module.get_submodule("backbone"))
    for task, head in module.get_submodule("heads").named_children():
        if not shared and not learns(head):
            raise InputError(
                f"model.training.{setting}: nothing of {task} is left to train, because all its parameters are those "
                f"of the backbone; {setting} less"
            )


def check_part(name: str, parameters: Iterable[str], setting: str) -> None:
    """Check that a model with these parameters has a part of this name.

    Raises: InputError if it has none; the message names the setting and lists the parts.
    """
    names = list(parameters)
    if not any(f"{own}.".startswith(f"{name}.") for own in names):
        parts = dict.fromkeys(".".join(own.split(".")[:2]) for own in names)
        raise InputError(
            f"model.training.{setting}: the model has no {name}; it has {', '.join(parts)} and what is in them"
        )


def adapt(backbone: Backbone, config: LoRA) -> None:
    """Put adapters into a backbone, if it has none, and exclude everything else of it from training.

    Raises: InputError if the backbone lacks one of the layers named, is recurrent, or has adapters of other settings.
    """
    present = installed(backbone)
    if any(layer.config != config for layer in present.values()):
        raise InputError(f"{SETTING}: the model has an adapter of other settings in use; call use_adapter(None) before")
    if not present:
        put(backbone, adapters(backbone, config))
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(is_adapter(name))
    trained = sum(p.numel() for p in backbone.parameters() if p.requires_grad)
    share = trained / sum(p.numel() for p in backbone.parameters())
    logger.info("lora: %.1f %% of the backbone's parameters are trained", 100 * share)
