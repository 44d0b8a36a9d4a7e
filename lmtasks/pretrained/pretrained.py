"""Pretrained: a backbone that starts from the weights of a pretrained model.

It stands where the settings of a backbone stand. What is built and saved is our own Transformer: the model folder needs
neither the original nor this package.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from lmtasks.backbones.base import Backbone, BackboneConfig, Origin
from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.errors import InputError
from lmtasks.model import Model, default_dtype
from lmtasks.pretrained.bart import Bart
from lmtasks.pretrained.bert import Bert, DistilBert, Roberta
from lmtasks.pretrained.blenderbot import Blenderbot
from lmtasks.pretrained.family import Family
from lmtasks.pretrained.folder import CONFIG, Folder
from lmtasks.pretrained.m2m100 import M2M100, MBart
from lmtasks.pretrained.marian import Marian
from lmtasks.pretrained.students import Student
from lmtasks.pretrained.t5 import MT5, T5
from lmtasks.pretrained.table import OF_TOKENS
from lmtasks.story import Story
from lmtasks.text.base import BaseTokenizer

ALL = -1  # of the layers
FAMILIES: tuple[type[Family], ...] = (
    Bert, Roberta, DistilBert, Marian, M2M100, MBart, Bart, Blenderbot, T5, MT5, Student,
)  # fmt: skip
MOST_MARKS = 1000  # special tokens of a tokenizer that its model has no embedding for, such as <mask> of some BARTs
MOST_POSITIONS = 65_536
PROBE = "Ab 1, ñ漢\N{EGYPTIAN HIEROGLYPH A001}"  # has what most tokenizers do not know


@dataclass(frozen=True)
class Pretrained(BackboneConfig):
    """The backbone of a pretrained model, with its tokenizer and framing.

    Example:
        >>> Pretrained("google-bert/bert-base-uncased", decoder_layers=2).name
        'google-bert/bert-base-uncased'
    """

    in_files: ClassVar[bool] = False  # a saved model has the settings found, and reads no other model

    name: str
    """A folder with config.json, weights and tokenizer, or the id of a model on the Hugging Face hub."""
    revision: str | None = None
    """Branch, tag or commit on the hub; a run keeps the commit that it found."""
    dropout: float | None = None
    """Share of features dropped after the embedding, after each sublayer and, where the model does so, in feed-forward
    layers; by default that of the model."""
    attention_dropout: float | None = None
    """Share of attention weights dropped; by default that of the model."""
    gradient_checkpointing: bool = False
    """Compute layers again in the backward pass: less memory, about a third more time."""
    encoder_layers: int = field(default=ALL, kw_only=True)
    """Layers of the encoder that are kept, from the first one; -1 = all."""
    decoder_layers: int = field(default=ALL, kw_only=True)
    """Layers of the decoder that are kept; -1 = all, 0 = an encoder only. Over an encoder alone they are new."""

    def __post_init__(self) -> None:
        for name in ("dropout", "attention_dropout"):
            if (share := getattr(self, name)) is not None and not 0 <= share < 1:
                raise InputError(f"model.backbone.{name} {share}; give a share, 0 or more and below 1")

    def resolve(self) -> tuple[TransformerConfig, PretrainedOrigin]:
        """Return the settings of our Transformer, and where its weights come from.

        Raises: InputError if there is no such model, its architecture is not supported, or its files are damaged or do
        not belong together.
        """
        folder = Folder(self.name, self.revision)
        with folder.naming():
            origin = PretrainedOrigin(find_family(folder))
            found = origin.family.settings()
            origin.check(found)
        inner = self.dropout if found.activation_dropout else 0.0
        config = replace(
            found,
            dropout=found.dropout if self.dropout is None else self.dropout,
            activation_dropout=found.activation_dropout if inner is None else inner,
            attention_dropout=found.attention_dropout if self.attention_dropout is None else self.attention_dropout,
            gradient_checkpointing=self.gradient_checkpointing,
            encoder_layers=_layers("encoder", found.encoder_layers, self.encoder_layers),
            decoder_layers=_layers("decoder", found.decoder_layers, self.decoder_layers),
        )
        origin.new_parts = ("decoder",) if config.has_decoder and not found.has_decoder else ()
        return config, origin

    def build(self, vocab_size: int) -> Backbone:
        """Return the backbone with its weights, and new rows of the embedding up to `vocab_size`."""
        config, origin = self.resolve()
        backbone = config.build(vocab_size)
        origin.initialise(backbone, config, origin.tokenizer((), ()))
        return backbone


class PretrainedOrigin(Origin):
    """The tokenizer and the weights of a pretrained model."""

    def __init__(self, family: Family) -> None:
        self.family = family

    @property
    def called(self) -> str:
        """Its id and commit on the hub, or the name of its folder."""
        name = self.family.folder.name
        return f"{name}@{self.revision}" if self.revision else Path(name).resolve().name

    @property
    def revision(self) -> str | None:
        """The commit on the hub; None for a folder."""
        return self.family.folder.revision

    def tokenizer(self, languages: Sequence[str], marks: Sequence[str]) -> BaseTokenizer:
        """Return its tokenizer, with tokens added at the end for languages and marks that it lacks."""
        return self.family.own_tokenizer.extended(languages, marks)

    def check(self, found: TransformerConfig) -> None:
        """Check that settings, weights and tokenizer belong together, before any memory is taken for the weights.

        Raises: InputError if they do not.
        """
        _check_numbers(found)
        with self.family.tensors() as tensors:
            layers = found.encoder_layers + found.decoder_layers
            if layers > len(tensors):  # else it would take its time
                raise InputError(f"config.json asks for {layers:,} layers, but there are {len(tensors):,} weights")
        with torch.device("meta"):
            draft = found.build(0)
        self._load(draft, whole=True)
        rows, tokenizer = found.embedding_rows, self.family.own_tokenizer
        named = (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.decoder_start_id)
        for i in (*named, *tokenizer.suppress_tokens):
            if type(i) is not int or not 0 <= i < max(rows, len(tokenizer)):
                raise InputError(f"a special token has the id {i!r}, but its embedding has {rows:,} rows")
        without = range(rows, len(tokenizer))
        if len(without) > MOST_MARKS or any(tokenizer.decode_batch([[i] for i in without])):
            sizes = f"its tokenizer has {len(tokenizer):,} tokens, but its embedding {rows:,} rows"
            raise InputError(f"{sizes}; take the tokenizer that belongs to the weights")
        tokenizer.encode_batch([PROBE]), tokenizer.encode_targets([PROBE])

    @torch.no_grad()
    def initialise(self, backbone: Backbone, config: BackboneConfig, tokenizer: BaseTokenizer) -> None:
        """Copy the weights; tokens that have none, such as those that were added, get the mean of the others.

        Raises: InputError if weights are missing, left over or of another size, or cannot be read.
        """
        assert isinstance(config, TransformerConfig)
        with self.family.folder.naming():
            self._load(backbone, len(backbone.embedding.weight) - config.embedding_rows)
        own = min(len(self.family.own_tokenizer), config.embedding_rows)
        for name, table in backbone.named_parameters():
            if name in OF_TOKENS and len(tokenizer) > own:
                table[own : len(tokenizer)] = table[:own].mean(0)

    def load_heads(self, heads: nn.ModuleDict) -> None:
        """Copy the weights of the heads of the family's tasks. Raises: InputError as `initialise` does."""
        if not (trained := self.family.heads()):
            return  # weights of some formats take long to open
        with self.family.folder.naming(), self._tensors() as tensors:
            for name, head in trained.items():
                head.load(heads[name], tensors, self.family.rename)

    def _load(self, backbone: Backbone, more: int = 0, whole: bool = False) -> None:
        """Copy the weights into a backbone; see `Table.load`."""
        with self._tensors() as tensors:
            self.family.table().load(backbone, tensors, self.family.rename, more, whole)

    @contextmanager
    def _tensors(self) -> Iterator[Mapping[str, Tensor]]:
        """Open the weights, and say in the error that the model cannot be read if they are not as expected."""
        with self.family.tensors() as tensors:
            try:
                yield tensors
            except InputError as error:
                raise InputError(f"{error}; lmtasks does not read this model") from error


def find_family(folder: Folder) -> Family:
    """Return a model as one of its family. Raises: InputError if its architecture is none that lmtasks reads."""
    known = {model_type: family for family in FAMILIES for model_type in family.model_types}
    if "tasks" in folder.config:
        raise InputError("a model of lmtasks, not a pretrained one of others; name it in model.training.init_from")
    if folder.model_type not in known:
        raise InputError(
            f"{folder.name}: {CONFIG} has model_type {folder.model_type!r}, which lmtasks does not read; it reads "
            f"{', '.join(known)}"
        )
    return known[folder.model_type](folder)


def open_model(name: str, revision: str | None = None, dtype: torch.dtype | None = None) -> Model:
    """Return a model of others, with what it does without further training, and weights of type `dtype`.

    Raises: InputError if there is no such model, or it does nothing by itself.
    """
    config, origin = Pretrained(name, revision).resolve()
    with origin.family.folder.naming():
        tasks, decoding = origin.family.tasks(), origin.family.decoding()
    if not tasks:
        raise InputError(
            f"{name}: a {origin.family.folder.model_type} does nothing before it is trained for a task; "
            f"begin a model with it: backbone=Pretrained({name!r})"
        )
    model = Model(tasks, config, decoding)
    model.origin = origin
    with default_dtype(dtype):
        model.build()
    origin.load_heads(model.heads)
    model.origin, model.story = None, Story(base=origin.called)
    return model


def _check_numbers(found: TransformerConfig) -> None:
    """Check the numbers that a config.json gave, which may be of any type. Raises: InputError if one is no number."""
    for each in fields(found):
        value, kind = getattr(found, each.name), str(each.type)
        if (value is None and each.default is None) or not kind.startswith(("int", "float")):
            continue
        whole = kind.startswith("int")
        fits = type(value) is int and value >= 0 if whole else type(value) in (int, float) and 0 <= value < 1
        if not fits:
            wanted = "a whole number from 0" if whole else "a number from 0, below 1"
            raise InputError(f"config.json gives {each.name} {value!r}, expected {wanted}")
    if (found.max_positions or 0) > MOST_POSITIONS:  # no weights bound a table of sinusoids
        raise InputError(f"config.json gives {found.max_length:,} positions, expected at most {MOST_POSITIONS:,}")


def _layers(part: str, found: int, wanted: int) -> int:
    """Return how many layers of a part are kept, or new where the pretrained model has none."""
    if wanted == ALL:
        return found
    if wanted < (part == "encoder") or (found and wanted > found) or (part == "encoder" and not found):
        raise InputError(
            f"model.backbone.{part}_layers {wanted}: the pretrained model has {found}; -1 takes all of them"
        )
    return wanted
