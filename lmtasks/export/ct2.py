"""Write a Transformer as a model of CTranslate2, through its own specification classes.

Source: specs/transformer_spec.py of CTranslate2 4.8. Its fused layers have our order: query, key, value; key, value. A
model that writes is a Translator, a language model a Generator; tasks that read need an Encoder of their own, because a
Translator does not hand out the states of its encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lmtasks.backbones.layers import Stack
from lmtasks.backbones.lora import merged
from lmtasks.backbones.transformer import Transformer, TransformerConfig
from lmtasks.errors import InputError
from lmtasks.heads.seq2seq import Seq2SeqHead
from lmtasks.model import Model
from lmtasks.text.base import BaseTokenizer

if TYPE_CHECKING:
    from ctranslate2.specs import common_spec, transformer_spec

Weights = Mapping[str, np.ndarray]
"""The weights of a backbone by their names."""

ENCODER_FOLDER = "encoder"  # the folder of the Encoder, beside a model that writes
ACTIVATIONS = {"relu": "RELU", "gelu": "GELU", "gelu_tanh": "GELUTanh", "silu": "SWISH"}  # ours -> theirs
ELSEWHERE = "--to onnx takes it"


def write_ct2(model: Model, folder: Path, precision: str = "float32") -> None:
    """Write a model for CTranslate2 into a folder; its weights are merged with the adapter in use.

    precision: float32, float16, bfloat16 or int8.

    Raises: InputError if CTranslate2 does not have one of its settings, or is not installed.
    """
    specs = import_ct2().specs
    backbone, tokenizer = model.built()
    config = check_settings(backbone)
    assert isinstance(backbone, Transformer)
    # copies: CTranslate2 quantises in place, and the model is still in use
    weights = {name: tensor.float().cpu().numpy().copy() for name, tensor in merged(backbone.state_dict()).items()}
    writers = [head for name, head in model.heads.items() if model.tasks[name].generates]
    if writers:
        decoder = _decoder(backbone, config, weights)
        if config.has_encoder:
            spec = specs.TransformerSpec(_encoder(backbone, config, weights, segments=False), decoder)
            starts = {head.start for head in writers if isinstance(head, Seq2SeqHead)}
            names = vocabulary(tokenizer, len(weights["embedding.weight"]))
            # with several starts each text brings its own
            spec.config.decoder_start_token = names[starts.pop()] if len(starts) == 1 else None
        else:
            spec = specs.TransformerDecoderModelSpec(decoder)
        _save(spec, tokenizer, config, len(weights["embedding.weight"]), folder, precision)
    if len(writers) < len(model.heads):
        place = folder / ENCODER_FOLDER if writers else folder
        place.mkdir(exist_ok=True)
        spec = specs.TransformerEncoderModelSpec(_encoder(backbone, config, weights, segments=config.segments > 1))
        _save(spec, tokenizer, config, len(weights["embedding.weight"]), place, precision)


def check_settings(backbone: Any) -> TransformerConfig:
    """Return the settings of a backbone, if CTranslate2 has all of them. Raises: InputError if not."""
    if not isinstance(backbone, Transformer):
        kind = type(backbone).__name__
        raise InputError(f"model.backbone is a {kind}, and CTranslate2 runs a Transformer only; keep it in torch")
    config = backbone.config
    if config.convolution:
        raise InputError(f"model.backbone.convolution {config.convolution}: CTranslate2 has none; {ELSEWHERE}")
    if config.decoder_mixing != "attention":
        raise InputError(f"model.backbone.decoder_mixing {config.decoder_mixing}: CTranslate2 has attention only; keep "
                         "this model in torch")  # fmt: skip
    if config.segments > 1 and config.has_decoder and config.has_encoder:
        raise InputError(f"model.backbone.segments {config.segments}: CTranslate2 has them without a decoder only; "
                         f"{ELSEWHERE}")  # fmt: skip
    return config


def vocabulary(tokenizer: BaseTokenizer, rows: int) -> list[str]:
    """Return a name for each of `rows` ids, no two alike; ids that no token has are called <id-7>."""
    names = tokenizer.token_names()
    return [*names, *(f"<id-{i}>" for i in range(len(names), rows))][:rows]


def import_ct2() -> Any:
    """Return the package. Raises: InputError if it is not installed."""
    try:
        import ctranslate2
    except ImportError:
        raise InputError("this needs the package ctranslate2; pip install 'ctranslate2>=4.6'") from None
    return ctranslate2


def _save(
    spec: Any, tokenizer: BaseTokenizer, config: TransformerConfig, rows: int, folder: Path, precision: str
) -> None:
    """Write a specification with its vocabulary."""
    names = vocabulary(tokenizer, rows)
    for register in ("register_source_vocabulary", "register_target_vocabulary", "register_vocabulary"):
        if hasattr(spec, register):
            getattr(spec, register)(names)
    about = spec.config
    about.bos_token, about.eos_token, about.unk_token = (
        names[tokenizer.bos_id], names[tokenizer.eos_id], names[tokenizer.pad_id]
    )  # fmt: skip
    about.layer_norm_epsilon = config.norm_eps or (1e-5 if config.norm == "layer" else 1e-6)
    spec.validate()
    spec.optimize(quantization=None if precision == "float32" else precision)
    spec.save(str(folder))


def _encoder(
    backbone: Transformer, config: TransformerConfig, weights: Weights, segments: bool
) -> transformer_spec.TransformerEncoderSpec:
    """Return the encoder; `segments`: whether it is told which token belongs to which text."""
    ct2 = import_ct2()
    assert backbone.encoder is not None
    tables = 2 if segments else 1
    spec = ct2.specs.TransformerEncoderSpec(
        config.encoder_layers, config.n_heads, num_source_embeddings=tables,
        embeddings_merge=ct2.specs.common_spec.EmbeddingsMerge.ADD, **_choices(config),
    )  # fmt: skip
    spec.embeddings[0].weight, spec.scale_embeddings = weights["embedding.weight"], config.scaled_embeddings
    if "segments.weight" in weights:  # it would scale the sum of both tables, ours scales the first
        scale, spec.scale_embeddings = config.d_model**0.5 if config.scaled_embeddings else 1.0, False
        # each token of a single text has the first row
        first = 0.0 if segments else weights["segments.weight"][0]
        spec.embeddings[0].weight = weights["embedding.weight"] * np.float32(scale) + np.float32(first)
    if segments:
        spec.embeddings[1].weight = weights["segments.weight"]
    _stack(spec, "encoder", backbone.encoder, config, weights)
    return spec


def _decoder(
    backbone: Transformer, config: TransformerConfig, weights: Weights
) -> transformer_spec.TransformerDecoderSpec:
    ct2 = import_ct2()
    assert backbone.decoder is not None
    spec = ct2.specs.TransformerDecoderSpec(
        config.decoder_layers, config.n_heads, with_encoder_attention=config.has_encoder, **_choices(config)
    )
    spec.embeddings.weight = weights["embedding.weight"]
    spec.scale_embeddings = config.scaled_embeddings
    if config.scaled_output:
        spec.scale_outputs = np.float32(config.d_model**-0.5)
    spec.start_from_zero_embedding = config.zero_start
    spec.projection.weight = weights.get("output_weight", weights["embedding.weight"])
    if "output_bias" in weights:
        spec.projection.bias = weights["output_bias"]
    _stack(spec, "decoder", backbone.decoder, config, weights)
    return spec


def _choices(config: TransformerConfig) -> dict[str, Any]:
    """Return what encoder and decoder have in common, by their names for it."""
    activations = import_ct2().specs.common_spec.Activation
    return {
        "pre_norm": config.norm_position == "pre",
        "activation": activations[ACTIVATIONS[config.activation]],
        "layernorm_embedding": config.embedding_norm,
        "relative_attention_bias": config.positions == "relative",
        "ffn_glu": config.gated,
        "rms_norm": config.norm == "rms",
        "head_dim": config.d_head,
        "rotary_dim": 0 if config.positions == "rotary" else None,  # 0 = all of a head
        "rotary_interleave": False,
    }


def _stack(spec: Any, name: str, stack: Stack, config: TransformerConfig, weights: Weights) -> None:
    """Fill in the layers of an encoder or decoder, and what is below and above them."""
    if stack.places is not None:
        spec.position_encodings.encodings = stack.places.detach().float().cpu().numpy()[config.position_offset :]
    elif hasattr(spec, "position_encodings"):
        del spec.position_encodings
    if config.embedding_norm:
        _norm(spec.layernorm_embedding, weights, f"{name}.embedding_norm")
    if config.norm_position == "pre":
        _norm(spec.layer_norm, weights, f"{name}.final_norm")
    for number, layer in enumerate(spec.layer):
        own = f"{name}.layers.{0 if config.shared_layers else number}"
        attention = layer.self_attention
        _linear(attention.linear[0], weights, f"{own}.self_attention.query_key_value")
        _linear(attention.linear[1], weights, f"{own}.self_attention.output")
        _norm(attention.layer_norm, weights, f"{own}.self_attention_norm")
        if config.positions == "relative":
            attention.relative_attention_bias = weights[f"{name}.relative.bias.weight"]
            attention.relative_attention_max_distance = np.int32(config.relative_distance)
        if name == "decoder" and config.has_encoder:
            _linear(layer.attention.linear[0], weights, f"{own}.cross_attention.query")
            _linear(layer.attention.linear[1], weights, f"{own}.cross_attention.key_value")
            _linear(layer.attention.linear[2], weights, f"{own}.cross_attention.output")
            _norm(layer.attention.layer_norm, weights, f"{own}.cross_attention_norm")
        if not config.scaled_attention:
            for each in (attention, *([layer.attention] if hasattr(layer, "attention") else [])):
                each.queries_scale = np.float32(1)
        _linear(layer.ffn.linear_0, weights, f"{own}.feed_forward.inner")
        _linear(layer.ffn.linear_1, weights, f"{own}.feed_forward.outer")
        if config.gated:
            _linear(layer.ffn.linear_0_noact, weights, f"{own}.feed_forward.gate")
        _norm(layer.ffn.layer_norm, weights, f"{own}.feed_forward_norm")


def _linear(spec: common_spec.LinearSpec, weights: Weights, name: str) -> None:
    spec.weight = weights[f"{name}.weight"]
    if f"{name}.bias" in weights:
        spec.bias = weights[f"{name}.bias"]


def _norm(spec: common_spec.LayerNormSpec, weights: Weights, name: str) -> None:
    spec.gamma = weights[f"{name}.weight"]
    if f"{name}.bias" in weights:
        spec.beta = weights[f"{name}.bias"]
