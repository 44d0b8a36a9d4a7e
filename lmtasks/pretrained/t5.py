"""T5 (Raffel et al. 2020) and what followed it: T5 1.1, Flan-T5, mT5 (Xue et al. 2021), byT5 (Xue et al. 2022).

Every text is `text </s>`, and the decoder begins with <pad>. T5 also drops features after the last norm of each stack,
which our Transformer does not: this concerns training only. UMT5, whose layers have a bias each, is not read.
"""

from __future__ import annotations

import re
from functools import cached_property

import torch

from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.errors import InputError
from lmtasks.pretrained.family import Family
from lmtasks.pretrained.table import Row, Table
from lmtasks.pretrained.tokenizers import special_ids, t5_pieces
from lmtasks.tasks.base import Task
from lmtasks.tasks.summarisation import SummarisationTask
from lmtasks.tasks.text_to_text import TextToTextTask
from lmtasks.tasks.translation import TranslationTask
from lmtasks.text.pretrained import Framing, PretrainedTokenizer

SHARED, OUTPUT = "shared.weight", "lm_head.weight"
EMBEDDINGS = (SHARED, "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")  # all the same
# fmt: off
ENCODER = (
    ("encoder.relative.bias.weight",                        # that of the first layer is the bias of all
     ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",)),
    ("encoder.layers.{i}.self_attention.query_key_value.*", ("encoder.block.{i}.layer.0.SelfAttention.q.*",
                                                             "encoder.block.{i}.layer.0.SelfAttention.k.*",
                                                             "encoder.block.{i}.layer.0.SelfAttention.v.*")),
    ("encoder.layers.{i}.self_attention.output.*",          ("encoder.block.{i}.layer.0.SelfAttention.o.*",)),
    ("encoder.layers.{i}.self_attention_norm.*",            ("encoder.block.{i}.layer.0.layer_norm.*",)),
    ("encoder.layers.{i}.feed_forward_norm.*",              ("encoder.block.{i}.layer.1.layer_norm.*",)),
    ("encoder.final_norm.*",                                ("encoder.final_layer_norm.*",)),
)
DECODER = (
    ("decoder.relative.bias.weight",
     ("decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",)),
    ("decoder.layers.{i}.self_attention.query_key_value.*", ("decoder.block.{i}.layer.0.SelfAttention.q.*",
                                                             "decoder.block.{i}.layer.0.SelfAttention.k.*",
                                                             "decoder.block.{i}.layer.0.SelfAttention.v.*")),
    ("decoder.layers.{i}.self_attention.output.*",          ("decoder.block.{i}.layer.0.SelfAttention.o.*",)),
    ("decoder.layers.{i}.self_attention_norm.*",            ("decoder.block.{i}.layer.0.layer_norm.*",)),
    ("decoder.layers.{i}.cross_attention.query.*",          ("decoder.block.{i}.layer.1.EncDecAttention.q.*",)),
    ("decoder.layers.{i}.cross_attention.key_value.*",      ("decoder.block.{i}.layer.1.EncDecAttention.k.*",
                                                             "decoder.block.{i}.layer.1.EncDecAttention.v.*")),
    ("decoder.layers.{i}.cross_attention.output.*",         ("decoder.block.{i}.layer.1.EncDecAttention.o.*",)),
    ("decoder.layers.{i}.cross_attention_norm.*",           ("decoder.block.{i}.layer.1.layer_norm.*",)),
    ("decoder.layers.{i}.feed_forward_norm.*",              ("decoder.block.{i}.layer.2.layer_norm.*",)),
    ("decoder.final_norm.*",                                ("decoder.final_layer_norm.*",)),
)
PLAIN = (("inner", "wi"), ("outer", "wo"))                      # ours, theirs
GATED = (("inner", "wi_0"), ("gate", "wi_1"), ("outer", "wo"))  # wi_0 has the nonlinearity
FEED_FORWARD = {                                                # their name -> activation, gated
    "relu":       ("relu", False),
    "gelu":       ("gelu", False),
    "silu":       ("silu", False),
    "gated-relu": ("relu", True),
    "gated-gelu": ("gelu_tanh", True),                          # the approximation, against its name
    "gated-silu": ("silu", True),
}
# fmt: on
UNUSED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"  # in the first T5s
TRANSLATION = re.compile(r"translation_([a-z]+)_to_([a-z]+)")


class T5(Family):
    """An encoder and a decoder with relative positions and RMS norm, without biases, trained to do what a text asks."""

    model_types = ("t5",)
    feed_forward = "relu"  # where config.json says nothing

    def settings(self) -> TransformerConfig:
        """Translate config.json; an unknown feed-forward layer is refused."""
        activation, gated = self.choice("feed_forward_proj", FEED_FORWARD, self.feed_forward)
        layers, dropout = self.setting("num_layers"), self.config.get("dropout_rate", 0.1)
        return TransformerConfig(
            d_model=self.setting("d_model"),
            n_heads=self.setting("num_heads"),
            d_head=self.setting("d_kv"),
            d_ff=self.setting("d_ff"),
            encoder_layers=layers,
            decoder_layers=0 if self.is_encoder else self.config.get("num_decoder_layers") or layers,
            dropout=dropout,
            attention_dropout=dropout,
            activation_dropout=dropout,
            norm="rms",
            norm_eps=self.config.get("layer_norm_epsilon", 1e-6),
            positions="relative",
            relative_buckets=self.config.get("relative_attention_num_buckets", 32),
            relative_distance=self.config.get("relative_attention_max_distance", 128),
            activation=activation,
            gated=gated,
            bias=False,
            tied_embeddings=self.tied,
            scaled_embeddings=False,
            scaled_attention=False,
            scaled_output=self.scaled,
            embedding_rows=self.setting("vocab_size"),
        )

    @property
    def is_encoder(self) -> bool:
        """Whether the decoder was left out when the model was saved."""
        return any(str(name).endswith("EncoderModel") for name in self.config.get("architectures") or ())

    @property
    def scaled(self) -> bool:
        """Whether the last state is divided by the square root of its width; the first T5, not 1.1.

        tie_word_embeddings tells it in older files, scale_decoder_outputs in those of transformers 5.
        """
        return bool(self.config.get("scale_decoder_outputs", self.config.get("tie_word_embeddings") is not False))

    @cached_property
    def tied(self) -> bool:
        """Whether the embedding is the output weight too.

        The weights decide: transformers 5 writes tie_word_embeddings true whatever they are.
        """
        with self.tensors() as tensors:
            embedding = next((name for name in EMBEDDINGS if name in tensors), OUTPUT)
            return OUTPUT not in tensors or torch.equal(tensors[OUTPUT], tensors[embedding])

    def table(self) -> Table:
        """Return the names."""
        _, gated = self.choice("feed_forward_proj", FEED_FORWARD, self.feed_forward)
        return t5_table(gated, self.tied, self.is_encoder)

    def tokenizer(self) -> PretrainedTokenizer:
        """Return the pieces, framed `text </s>`; the marks <extra_id_0> ... are tokens too."""
        pieces = t5_pieces(self.folder)
        pad, end = special_ids(self.folder, pieces, pad="<pad>", eos="</s>")
        start = self.config.get("decoder_start_token_id")
        start = pad if start is None else int(start)
        return PretrainedTokenizer(pieces, Framing(pad, end, start, start, end, suppress=self.suppressed()))

    def tasks(self) -> dict[str, Task]:
        """Return text to text as "generation", and what config.json gives the words for, by which it is asked."""
        if self.is_encoder:
            return {}
        tasks: dict[str, Task] = {"generation": TextToTextTask()}
        for name, settings in (self.config.get("task_specific_params") or {}).items():
            if not (words := settings.get("prefix")):
                continue
            if not isinstance(words, str):
                raise InputError(f"config.json has task_specific_params.{name}.prefix {words!r}, expected a text")
            if name == "summarization":
                tasks["summarisation"] = SummarisationTask(prompt_text=words)
            elif match := TRANSLATION.fullmatch(name):
                direction = "-".join(match.groups())
                tasks[f"translation-{direction}"] = TranslationTask((direction,), prompt_text=words)
        return tasks


class MT5(T5):
    """T5 for 101 languages; byT5, of the same time, is found as "t5" or "mt5" by its tokenizer."""

    model_types = ("mt5",)
    feed_forward = "gated-gelu"
    scaled = False  # whatever config.json says, as in transformers 5


def t5_table(gated: bool, tied: bool, is_encoder: bool) -> Table:
    """Return the names of the weights.

    tied: whether the embedding is the output weight too.
    is_encoder: whether there is no decoder.
    """
    copies = dict.fromkeys((*EMBEDDINGS[1:], *([OUTPUT] if tied else [])), SHARED)
    rows = (("embedding.weight", (SHARED,)), *ENCODER, *_feed_forward("encoder", 1, gated))
    if is_encoder:
        return Table(rows, (), copies, fresh=("decoder.",))
    rows += (("output_weight", (OUTPUT,)), *DECODER, *_feed_forward("decoder", 2, gated))
    return Table(rows, (UNUSED,), copies)


def _feed_forward(stack: str, place: int, gated: bool) -> tuple[Row, ...]:
    """Return the names of the feed-forward layers of a stack; in each of its blocks they stand at `place`."""
    own, other = f"{stack}.layers.{{i}}.feed_forward", f"{stack}.block.{{i}}.layer.{place}.DenseReluDense"
    return tuple((f"{own}.{ours}.*", (f"{other}.{theirs}.*",)) for ours, theirs in (GATED if gated else PLAIN))
