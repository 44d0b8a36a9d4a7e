"""Translation models of Marian, its small "students" above all, as our Transformer: settings and weights.

Students (Kim et al. 2019; Bogoychev et al. 2020, "Edinburgh's Submissions to the 2020 Machine Translation Efficiency
Task") have a deep encoder and a short decoder with an SSRU; Bergamot and Firefox translate with them. Marian's decoder
begins with a zero vector, so that its models know no start token.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.errors import InputError
from lmtasks.pretrained.marian_binary import read

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
LEFT_OUT = "_QuantMultA"  # the end of the names of items for int8 activations, which float32 does not need


def student(path: str | Path) -> tuple[TransformerConfig, dict[str, Tensor]]:
    """Read a model of Marian (.bin): the settings of our Transformer, and its state_dict in float32.

    Build it with as many tokens as `embedding.weight` has rows. Token 0 ends a text, token 1 is the unknown one.

    Raises: InputError if the file cannot be read, or if the model has what our Transformer has not.
    """
    arrays, settings = read(path)
    config = _config(settings, path)
    parts = {}
    for ours, theirs in _table(config):
        missing = [name for name in theirs if name not in arrays]
        if missing:
            raise InputError(f"{path}: no {missing[0]}, which its model.yml asks for; give a whole model of Marian")
        parts[ours] = [_tensor(name, arrays.pop(name)) for name in theirs]
    unknown = [name for name in arrays if not name.endswith(LEFT_OUT)]
    if unknown:
        raise InputError(f"{path}: {unknown[0]} has no place in our Transformer; such a model cannot be read")
    with torch.device("meta"):
        backbone = config.build(len(parts["embedding.weight"][0]))
    shapes = {name: parameter.shape for name, parameter in backbone.named_parameters()}
    for ours, tensors in parts.items():
        wanted = (shapes[ours][0] // len(tensors), *shapes[ours][1:])
        found = next((tuple(tensor.shape) for tensor in tensors if tensor.shape != wanted), None)
        if found:
            raise InputError(
                f"{path}: {ours} from {found}, but {wanted} by its model.yml; give a model that Marian wrote"
            )
    return config, {ours: torch.cat(tensors) for ours, tensors in parts.items()}


def _config(settings: dict[str, Any], path: str | Path) -> TransformerConfig:
    """Translate model.yml; a key that it lacks is newer than the model, whose choice is then the first."""
    for key, choices in EXPRESSIBLE.items():
        if settings.get(key, choices[0]) not in choices:
            wanted = " or ".join(repr(choice) for choice in choices)
            raise InputError(f"{path}: {key} {settings[key]!r}, expected {wanted}; such a model cannot be read")
    recurs = settings.get("transformer-decoder-autoreg") == "rnn"
    if recurs and settings.get("dec-cell") != "ssru":
        raise InputError(f"{path}: dec-cell {settings.get('dec-cell')!r}, expected 'ssru'; such a model cannot be read")

    def size(key: str) -> int:
        found = settings.get(key)
        if not isinstance(found, int) or found < 1:
            raise InputError(f"{path}: {key} {found!r}, expected a number from 1; give a model that Marian wrote")
        return found

    return TransformerConfig(
        d_model=size("dim-emb"),
        n_heads=size("transformer-heads"),
        d_ff=size("transformer-dim-ffn"),
        encoder_layers=size("enc-depth"),
        decoder_layers=size("dec-depth"),
        norm_position="post",
        norm_eps=1e-6,
        activation="silu" if settings.get("transformer-ffn-activation") == "swish" else "relu",
        output_bias=not settings.get("output-omit-bias", False),
        decoder_mixing="ssru" if recurs else "attention",
        zero_start=True,
    )


def _table(config: TransformerConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield our name of every parameter and Marian's names of its parts."""
    for ours, theirs in OUTSIDE.items():
        if ours != "output_bias" or config.output_bias:
            yield ours, theirs
    reads = SSRU if config.decoder_mixing == "ssru" else ATTENTION
    encoder, decoder = ATTENTION | FEED_FORWARD, reads | CROSS_ATTENTION | FEED_FORWARD
    for side, layers, table in (
        ("encoder", config.encoder_layers, encoder),
        ("decoder", config.decoder_layers, decoder),
    ):
        for i in range(layers):
            for ours, theirs in table.items():
                yield f"{side}.layers.{i}.{ours}", tuple(f"{side}_l{i + 1}_{name}" for name in theirs)


def _tensor(name: str, array: np.ndarray) -> Tensor:
    """Turn a matrix (inputs, outputs) into PyTorch's (outputs, inputs), a row (1, outputs) into a vector."""
    array = np.atleast_2d(array)
    if name == "Wemb":
        return torch.from_numpy(array)
    return torch.from_numpy(array[0] if len(array) == 1 else array.T)
