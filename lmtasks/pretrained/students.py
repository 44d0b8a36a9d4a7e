"""Translation models of Marian, its small "students" above all, as our Transformer: settings and weights.

Students (Kim et al. 2019; Bogoychev et al. 2020, "Edinburgh's Submissions to the 2020 Machine Translation Efficiency
Task") have a deep encoder and a short decoder with an SSRU; Bergamot and Firefox translate with them. Marian's decoder
begins with a zero vector, so that its models know no start token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np
import torch
from torch import Tensor

from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.decoding import Decoding
from lmtasks.errors import InputError
from lmtasks.pretrained.family import Family
from lmtasks.pretrained.folder import STUDENT
from lmtasks.pretrained.marian_binary import read
from lmtasks.pretrained.table import Row, Table
from lmtasks.pretrained.tokenizers import sentence_piece
from lmtasks.tasks.base import Task
from lmtasks.tasks.translation import TranslationTask
from lmtasks.text.pretrained import Framing, PretrainedTokenizer

# Ours after encoder.layers.N or decoder.layers.N -> Marian's after encoder_lN or decoder_lN; several are joined.
# fmt: off
ATTENTION = {
    "self_attention.query_key_value.weight": ("self_Wq", "self_Wk", "self_Wv"),
    "self_attention.query_key_value.bias":   ("self_bq", "self_bk", "self_bv"),
    "self_attention.output.weight":          ("self_Wo",),
    "self_attention.output.bias":            ("self_bo",),
    "self_attention_norm.weight":            ("self_Wo_ln_scale",),
    "self_attention_norm.bias":              ("self_Wo_ln_bias",),
}
SSRU = {
    "self_attention.candidate.weight":       ("rnn_W",),
    "self_attention.forget.weight":          ("rnn_Wf",),
    "self_attention.forget.bias":            ("rnn_bf",),
    "self_attention_norm.weight":            ("rnn_ffn_ln_scale",),  # Marian's name: there is no feed-forward in it
    "self_attention_norm.bias":              ("rnn_ffn_ln_bias",),
}
CROSS_ATTENTION = {
    "cross_attention.query.weight":          ("context_Wq",),
    "cross_attention.query.bias":            ("context_bq",),
    "cross_attention.key_value.weight":      ("context_Wk", "context_Wv"),
    "cross_attention.key_value.bias":        ("context_bk", "context_bv"),
    "cross_attention.output.weight":         ("context_Wo",),
    "cross_attention.output.bias":           ("context_bo",),
    "cross_attention_norm.weight":           ("context_Wo_ln_scale",),
    "cross_attention_norm.bias":             ("context_Wo_ln_bias",),
}
FEED_FORWARD = {
    "feed_forward.inner.weight":             ("ffn_W1",),
    "feed_forward.inner.bias":               ("ffn_b1",),
    "feed_forward.outer.weight":             ("ffn_W2",),
    "feed_forward.outer.bias":               ("ffn_b2",),
    "feed_forward_norm.weight":              ("ffn_ffn_ln_scale",),
    "feed_forward_norm.bias":                ("ffn_ffn_ln_bias",),
}
OUTSIDE: dict[str, tuple[str, ...]] = {  # of all layers, by their whole names
    "embedding.weight":                      ("Wemb",),
    "output_bias":                           ("decoder_ff_logit_out_b",),
}
EXPRESSIBLE: dict[str, tuple[Any, ...]] = {  # key of model.yml -> what our Transformer can do
    "type":                                  ("transformer",),
    "transformer-preprocess":                ("",),
    "transformer-postprocess":               ("dan", "an"),  # dropout, add, norm
    "transformer-postprocess-emb":           ("d", ""),
    "transformer-postprocess-top":           ("",),
    "transformer-decoder-autoreg":           ("self-attention", "rnn"),
    "transformer-ffn-activation":            ("relu", "swish"),  # Marian's gelu is another than those of PyTorch
    "transformer-ffn-depth":                 (2,),
    "transformer-no-projection":             (False,),
    "transformer-rnn-projection":            (False,),
    "transformer-tied-layers":               ([],),
    "transformer-train-position-embeddings": (False,),
    "tied-embeddings-all":                   (True,),
    "layer-normalization":                   (False,),  # in the recurrent cell
    "lemma-dim-emb":                         (0,),
    "input-types":                           ([],),
    "right-left":                            (False,),
}
# fmt: on
LEFT_OUT = ("*_QuantMultA",)  # for int8 activations, which float32 does not need
END, UNKNOWN = 0, 1
DIRECTION = re.compile(r"\.([a-z]{2,3})([a-z]{2,3})\.")


class Student(Family):
    """A translation model in Marian's own format: one file of weights and settings, and the tokenizer beside it."""

    model_types: ClassVar[tuple[str, ...]] = (STUDENT,)

    @property
    def file(self) -> Path:
        """The file of weights and settings."""
        assert self.folder.student_file is not None, "what makes a folder one of this family"
        return self.folder.student_file

    @cached_property
    def _model(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The arrays of the file, and its model.yml."""
        return read(self.file)

    def settings(self) -> TransformerConfig:
        """Translate model.yml; a key that it lacks is newer than the model, whose choice is then the first."""
        _, given = self._model
        for key, choices in EXPRESSIBLE.items():
            if given.get(key, choices[0]) not in choices:
                self._refuse(key, given[key], " or ".join(map(repr, choices)))
        recurs = given.get("transformer-decoder-autoreg") == "rnn"
        if recurs and given.get("dec-cell") != "ssru":
            self._refuse("dec-cell", given.get("dec-cell"), "'ssru'")
        return TransformerConfig(
            d_model=self._size("dim-emb"),
            n_heads=self._size("transformer-heads"),
            d_ff=self._size("transformer-dim-ffn"),
            encoder_layers=self._size("enc-depth"),
            decoder_layers=self._size("dec-depth"),
            dropout=0.0,  # students have none, and a tenth ruins what they know; model.yml does not say
            norm_position="post",
            norm_eps=1e-6,
            activation="silu" if given.get("transformer-ffn-activation") == "swish" else "relu",
            output_bias=not given.get("output-omit-bias", False),
            decoder_mixing="ssru" if recurs else "attention",
            zero_start=True,
            embedding_rows=len(self._model[0]["Wemb"]),
        )

    def table(self) -> Table:
        """Return the names, with layers counted from 0."""
        reads = SSRU if self.settings().decoder_mixing == "ssru" else ATTENTION
        encoder, decoder = ATTENTION | FEED_FORWARD, reads | CROSS_ATTENTION | FEED_FORWARD
        return Table((*OUTSIDE.items(), *_rows("encoder", encoder), *_rows("decoder", decoder)), LEFT_OUT)

    def rename(self, name: str) -> str:
        """Count layers from 0, and not from 1 as Marian does."""
        return re.sub(r"(?<=coder_l)\d+", lambda match: str(int(match[0]) - 1), name)

    @contextmanager
    def tensors(self) -> Iterator[Mapping[str, Tensor]]:
        """Give the arrays in PyTorch's orientation."""
        arrays, _ = self._model
        yield {name: _tensor(name, array) for name, array in arrays.items()}

    def tokenizer(self) -> PretrainedTokenizer:
        """Return the pieces, framed `text </s>`; there is no token that begins a text, nor one for padding."""
        pieces = sentence_piece(self.folder, ".spm")
        return PretrainedTokenizer(pieces, Framing(END, END, END, END, END, suppress=(UNKNOWN,)))

    def tasks(self) -> dict[str, Task]:
        """Return translation, in the direction that the name of the file ends with: model.enpt.bin."""
        match = DIRECTION.search(self.file.name)
        return {"translation": TranslationTask((f"{match[1]}-{match[2]}" if match else "src-trg",))}

    def decoding(self) -> Decoding:
        """Return a greedy search, for which students are made."""
        return Decoding(beam=1, max_ratio=2.5)

    def _size(self, key: str) -> int:
        found = self._model[1].get(key)
        if not isinstance(found, int) or found < 1:
            self._refuse(key, found, "a number from 1")
        return int(found)

    def _refuse(self, key: str, found: Any, wanted: str) -> NoReturn:
        raise InputError(f"{self.file}: model.yml has {key} {found!r}, and lmtasks reads {wanted} only")


def _rows(side: str, table: Mapping[str, tuple[str, ...]]) -> Iterator[Row]:
    """Yield the rows of the layers of one side."""
    for ours, theirs in table.items():
        yield f"{side}.layers.{{i}}.{ours}", tuple(f"{side}_l{{i}}_{name}" for name in theirs)


def _tensor(name: str, array: np.ndarray) -> Tensor:
    """Turn a matrix (inputs, outputs) into PyTorch's (outputs, inputs), a row (1, outputs) into a vector."""
    array = np.atleast_2d(array)
    if name == "Wemb":
        return torch.from_numpy(array)
    return torch.from_numpy(array[0] if len(array) == 1 else array.T)
