"""Layouts: the architectures of transformers that our Transformer fits, by its settings.

What an architecture computes decides, and not what it is named after: Blenderbot (Roller et al. 2021) is an
encoder-decoder with norms before the sublayers and a table of positions, which any absolute positions can be written
into. Tables of weights are those that models are read with, where lmtasks reads the architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.errors import InputError
from lmtasks.pretrained.bart import BART
from lmtasks.pretrained.bert import BERT, BERT_HEAD, DISTILBERT, DISTILBERT_HEAD, EMBEDDINGS, LAYER, ROBERTA_HEAD
from lmtasks.pretrained.blenderbot import BLENDERBOT
from lmtasks.pretrained.fairseq import LAYERS, OFFSET
from lmtasks.pretrained.m2m100 import M2M100_TABLE, MBART
from lmtasks.pretrained.marian import MARIAN, MARIAN_LEARNED
from lmtasks.pretrained.t5 import FEED_FORWARD, t5_table
from lmtasks.pretrained.table import Row, Table
from lmtasks.tasks.answering import SpanAnsweringTask
from lmtasks.tasks.base import Task
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.tasks.tagging import TaggingTask
from lmtasks.text.base import BaseTokenizer

Needs = Mapping[str, tuple[Any, ...]]
BEHIND_PADDING = "the id of padding + 1"  # where fairseq's positions begin
ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "silu": "silu"}  # ours -> theirs
FEED_FORWARDS = {ours: theirs for theirs, ours in FEED_FORWARD.items()}
INSTEAD = "export it --to onnx, or train with such a setting"


@dataclass(frozen=True)
class Layout:
    """One architecture."""

    model_type: str
    """What config.json calls it."""
    stem: str
    """How the names of its classes begin."""
    table: Table
    """The names of its weights; those of the output layer stand beside it."""
    needs: Needs
    """Settings of ours that it has, each with the values that fit; all others are free."""
    settings: Callable[[TransformerConfig], dict[str, Any]]
    """Our settings as those of its config.json."""
    output: str = "ForConditionalGeneration"
    """How the name of its class ends that writes."""
    prefix: str = "model."
    """What a class with an output or a head puts before the names of the table."""
    first_row: int | str | None = None
    """The row of its table of positions that the first token has; None = it computes them."""
    scales: bool = False
    """Whether it multiplies embeddings by the square root of their width itself, where its settings say so."""
    has_bias: bool = True
    """Whether its linear layers have biases."""
    scales_attention: bool = True
    """Whether it divides attention scores by the square root of the head width."""
    classifier: tuple[Row, ...] = ()
    """The names of the weights above an encoder where texts have labels."""


# fmt: off
PRE_NORM_LAYER = {  # of RoBERTa's kind, with norms before the sublayers: ours -> theirs
    "encoder.layers.{i}.self_attention_norm.*": "encoder.layer.{i}.attention.LayerNorm.*",
    "encoder.layers.{i}.feed_forward_norm.*":   "encoder.layer.{i}.intermediate.LayerNorm.*",
}
XL_LAYER = {
    "encoder.layers.{i}.self_attention_norm.*": "encoder.layer.{i}.attention.self_attn_layer_norm.*",
    "encoder.layers.{i}.feed_forward_norm.*":   "encoder.layer.{i}.LayerNorm.*",
}
ROBERTA_PRE_NORM, ROBERTA_XL = (
    Table((*EMBEDDINGS, *((ours, (names[ours],) if ours in names else theirs) for ours, theirs in LAYER),
           ("encoder.final_norm.*", (final,))))
    for names, final in ((PRE_NORM_LAYER, "LayerNorm.*"), (XL_LAYER, "encoder.LayerNorm.*"))
)

OPT = Table((
    ("embedding.weight",       ("decoder.embed_tokens.weight",)),
    ("decoder.places",         ("decoder.embed_positions.weight",)),
    ("decoder.final_norm.*",   ("decoder.final_layer_norm.*",)),
    *(row for row in LAYERS if row[0].startswith("decoder.")),
))
LLAMA = Table((
    ("embedding.weight",                                    ("embed_tokens.weight",)),
    ("decoder.layers.{i}.self_attention.query_key_value.*", ("layers.{i}.self_attn.q_proj.*",
                                                             "layers.{i}.self_attn.k_proj.*",
                                                             "layers.{i}.self_attn.v_proj.*")),
    ("decoder.layers.{i}.self_attention.output.*",          ("layers.{i}.self_attn.o_proj.*",)),
    ("decoder.layers.{i}.self_attention_norm.*",            ("layers.{i}.input_layernorm.*",)),
    ("decoder.layers.{i}.feed_forward.inner.*",             ("layers.{i}.mlp.gate_proj.*",)),  # has the nonlinearity
    ("decoder.layers.{i}.feed_forward.gate.*",              ("layers.{i}.mlp.up_proj.*",)),
    ("decoder.layers.{i}.feed_forward.outer.*",             ("layers.{i}.mlp.down_proj.*",)),
    ("decoder.layers.{i}.feed_forward_norm.*",              ("layers.{i}.post_attention_layernorm.*",)),
    ("decoder.final_norm.*",                                ("norm.*",)),
))
# fmt: on


def fairseq_settings(config: TransformerConfig) -> dict[str, Any]:
    """Return the settings of BART and its kin."""
    return {
        "d_model": config.d_model,
        "encoder_layers": config.encoder_layers,
        "decoder_layers": config.decoder_layers,
        "num_hidden_layers": config.encoder_layers,
        "encoder_attention_heads": config.n_heads,
        "decoder_attention_heads": config.n_heads,
        "encoder_ffn_dim": config.d_ff,
        "decoder_ffn_dim": config.d_ff,
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "activation_dropout": config.activation_dropout,
        "activation_function": ACTIVATIONS[config.activation],
        "scale_embedding": config.scaled_embeddings,
        "max_position_embeddings": config.max_length,
        "tie_word_embeddings": config.tied_embeddings,
    }


def t5_scales_output(config: TransformerConfig) -> bool:
    """Tell whether a T5 divides its last state itself: transformers 4 does where the output is the embedding."""
    return config.tied_embeddings and config.scaled_output and not config.scaled_embeddings


def t5_settings(config: TransformerConfig) -> dict[str, Any]:
    """Return the settings of T5; transformers takes the scale of the output from tie_word_embeddings."""
    scales = t5_scales_output(config)
    return {
        "d_model": config.d_model,
        "num_heads": config.n_heads,
        "d_kv": config.head_width,
        "d_ff": config.d_ff,
        "num_layers": config.encoder_layers,
        "num_decoder_layers": config.decoder_layers,
        "dropout_rate": config.dropout,
        "layer_norm_epsilon": config.norm_eps or 1e-6,
        "relative_attention_num_buckets": config.relative_buckets,
        "relative_attention_max_distance": config.relative_distance,
        "feed_forward_proj": FEED_FORWARDS[config.activation, config.gated],
        "tie_word_embeddings": scales,
        "scale_decoder_outputs": scales,
    }


def bert_settings(config: TransformerConfig) -> dict[str, Any]:
    """Return the settings of BERT and its kin; without segments all texts are of one."""
    return {
        "hidden_size": config.d_model,
        "num_attention_heads": config.n_heads,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.encoder_layers,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "layer_norm_eps": config.norm_eps or 1e-5,
        "hidden_act": ACTIVATIONS[config.activation],
        "type_vocab_size": max(1, config.segments),
        "max_position_embeddings": config.max_length,
    }


def distilbert_settings(config: TransformerConfig) -> dict[str, Any]:
    """Return the settings of DistilBERT."""
    return {
        "dim": config.d_model,
        "n_heads": config.n_heads,
        "hidden_dim": config.d_ff,
        "n_layers": config.encoder_layers,
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "activation": ACTIVATIONS[config.activation],
        "max_position_embeddings": config.max_length,
    }


def opt_settings(config: TransformerConfig) -> dict[str, Any]:
    """Return the settings of OPT."""
    return {
        "hidden_size": config.d_model,
        "num_attention_heads": config.n_heads,
        "ffn_dim": config.d_ff,
        "num_hidden_layers": config.decoder_layers,
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "activation_function": ACTIVATIONS[config.activation],
        "max_position_embeddings": config.max_length,
        "do_layer_norm_before": config.norm_position == "pre",
        "tie_word_embeddings": config.tied_embeddings and not config.scaled_embeddings,
    }


def llama_settings(config: TransformerConfig) -> dict[str, Any]:
    """Return the settings of Llama."""
    return {
        "hidden_size": config.d_model,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_heads,
        "head_dim": config.head_width,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.decoder_layers,
        "attention_dropout": config.attention_dropout,
        "hidden_act": ACTIVATIONS[config.activation],
        "max_position_embeddings": config.max_length,
        "rms_norm_eps": config.norm_eps or 1e-6,
        "attention_bias": config.bias,
        "mlp_bias": config.bias,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": config.tied_embeddings and not config.scaled_embeddings,
    }


# fmt: off
PLAIN: Needs = {"decoder_mixing": ("attention",), "convolution": (0,), "zero_start": (False,)}
ABSOLUTE: Needs = {**PLAIN, "positions": ("sinusoidal", "learned"), "norm": ("layer",), "gated": (False,),
                   "d_head": (None,), "scaled_output": (False,)}
FAIRSEQ: Needs = {**ABSOLUTE, "norm_eps": (1e-5,), "segments": (0,)}
STATIC: Needs = {"positions": ("sinusoidal",), "sinusoids": ("paper",), "position_offset": (0,)}
BEHIND: Needs = {"positions": ("sinusoidal",), "sinusoids": ("tensor2tensor",), "position_offset": (BEHIND_PADDING,)}
PRE: Needs = {"norm_position": ("pre",), "embedding_norm": (False,)}
POST: Needs = {"norm_position": ("post",), "embedding_norm": (False,)}
NORMED: Needs = {"embedding_norm": (True,)}
RELATIVE: Needs = {**PLAIN, **PRE, "positions": ("relative",), "norm": ("rms",), "bias": (False,),
                   "output_bias": (False,), "segments": (0,)}
ENCODER_DECODERS = (  # the first that fits is taken
    Layout("m2m_100", "M2M100", M2M100_TABLE, {**FAIRSEQ, **PRE, **BEHIND, "output_bias": (False,)},
           fairseq_settings, scales=True),
    Layout("marian", "Marian", MARIAN, {**FAIRSEQ, **POST, **STATIC}, fairseq_settings, "MTModel", scales=True),
    Layout("mbart", "MBart", MBART, {**FAIRSEQ, **PRE, **NORMED}, fairseq_settings, first_row=OFFSET, scales=True),
    Layout("bart", "Bart", BART, {**FAIRSEQ, **POST, **NORMED}, fairseq_settings, first_row=OFFSET, scales=True),
    Layout("marian", "Marian", MARIAN_LEARNED, {**FAIRSEQ, **POST},
           lambda config: fairseq_settings(config) | {"static_position_embeddings": False}, "MTModel",
           first_row=0, scales=True),
    Layout("blenderbot", "Blenderbot", BLENDERBOT, {**FAIRSEQ, **PRE},
           lambda config: fairseq_settings(config) | {"encoder_no_repeat_ngram_size": 0}, first_row=0, scales=True),
    *(Layout("t5", "T5", t5_table(gated, tied=False, is_encoder=False),
             {**RELATIVE, "gated": (gated,), "activation": activations}, t5_settings, prefix="",
             has_bias=False, scales_attention=False)
      for gated, activations in ((True, ("relu", "gelu_tanh", "silu")), (False, ("relu", "gelu", "silu")))),
)
ENCODERS = (
    Layout("distilbert", "DistilBert", DISTILBERT,
           {**ABSOLUTE, **POST, **NORMED, "segments": (0,), "norm_eps": (1e-12,), "hidden": ("relu",)},
           distilbert_settings, prefix="distilbert.", first_row=0, classifier=DISTILBERT_HEAD),
    Layout("roberta", "Roberta", BERT,
           {**ABSOLUTE, **POST, **NORMED, "segments": (0, 1), "position_offset": (BEHIND_PADDING,),
            "hidden": ("tanh",)},
           bert_settings, prefix="roberta.", first_row=BEHIND_PADDING, classifier=ROBERTA_HEAD),
    Layout("roberta-prelayernorm", "RobertaPreLayerNorm", ROBERTA_PRE_NORM,
           {**ABSOLUTE, **PRE, **NORMED, "hidden": ("tanh",)}, bert_settings, prefix="roberta_prelayernorm.",
           first_row=BEHIND_PADDING, classifier=ROBERTA_HEAD),
    Layout("bert", "Bert", BERT, {**ABSOLUTE, **POST, **NORMED, "hidden": ("tanh",)}, bert_settings, prefix="bert.",
           first_row=0, classifier=BERT_HEAD),
    Layout("xlm-roberta-xl", "XLMRobertaXL", ROBERTA_XL, {**ABSOLUTE, **PRE, "hidden": ("tanh",)}, bert_settings,
           prefix="roberta.", first_row=BEHIND_PADDING, classifier=ROBERTA_HEAD),
)
LANGUAGE_MODELS = (
    Layout("llama", "Llama", LLAMA,
           {**PLAIN, **PRE, "positions": ("rotary",), "norm": ("rms",), "gated": (True,), "output_bias": (False,),
            "scaled_output": (False,), "segments": (0,)}, llama_settings, "ForCausalLM", has_bias=False),
    Layout("opt", "OPT", OPT, {**FAIRSEQ, "embedding_norm": (False,), "output_bias": (False,)}, opt_settings,
           "ForCausalLM", first_row=OFFSET),
)
HEADS: Mapping[type[Task], tuple[str, Needs]] = {  # of encoders: the end of the name of their class, what they need
    ClassificationTask: ("ForSequenceClassification", {"pooling": ("first",), "ngrams": (0,)}),
    TaggingTask:        ("ForTokenClassification", {"crf": (False,), "spelling": (False,), "layers": (0,),
                                                    "case_marks": (False,)}),
    SpanAnsweringTask:  ("ForQuestionAnswering", {"attention": (False,), "word_match": (False,), "layers": (0,)}),
}
# fmt: on


def choose_layout(config: TransformerConfig, name: str, task: Task, tokenizer: BaseTokenizer) -> Layout:
    """Return the first architecture that fits the settings of a backbone, and the head of the task `name`.

    Raises: InputError if there is none: it names the settings that the nearest one does not have.
    """
    facts = {f"model.backbone.{each}": value for each, value in _facts(config, tokenizer).items()}
    if isinstance(task, ClassificationTask):
        facts[f"model.tasks.{name}.hidden"] = task.hidden
    layouts = (ENCODER_DECODERS if config.has_encoder else LANGUAGE_MODELS) if config.has_decoder else ENCODERS
    missed = [(_misfits(facts, each.needs), each) for each in layouts]
    faults, layout = min(missed, key=lambda pair: len(pair[0]))
    if faults:
        raise InputError(f"transformers has no such model; the nearest, {layout.stem}: {'; '.join(faults)}; {INSTEAD}")
    return layout


def head_class(name: str, task: Task) -> str:
    """Return the end of the name of the class that has the head of a task above an encoder.

    Raises: InputError if transformers has no such head.
    """
    found = next((each for kind, each in HEADS.items() if isinstance(task, kind)), None)
    if found is None:
        raise InputError(f"model.tasks.{name}: transformers has no head for a task of the kind {task.kind} above an "
                         f"encoder; export it --to onnx")  # fmt: skip
    ending, needs = found
    facts = {f"model.tasks.{name}.{each}": getattr(task, each) for each in needs}
    if isinstance(task, SpanAnsweringTask) and task.no_answer:
        facts[f"model.tasks.{name}.no_answer_at"], needs = task.no_answer_at, {**needs, "no_answer_at": ("first",)}
    if faults := _misfits(facts, needs):
        raise InputError(f"transformers has no such head: {'; '.join(faults)}; {INSTEAD}")
    return ending


def _facts(config: TransformerConfig, tokenizer: BaseTokenizer) -> dict[str, Any]:
    """Return the settings of a backbone, each way of writing the same one alike.

    Positions behind padding count no padding, so that a decoder that begins with it has others.
    """
    pad, offset = tokenizer.pad_id, config.position_offset
    behind = offset == pad + 1 and not (config.has_decoder and tokenizer.decoder_start_id == pad)
    return vars(config) | {
        "norm_eps": config.norm_eps or 1e-5,
        "d_head": None if config.head_width * config.n_heads == config.d_model else config.d_head,
        "position_offset": BEHIND_PADDING if behind else offset,
    }


def _misfits(facts: Mapping[str, Any], needs: Needs) -> list[str]:
    """Return what is said of each setting that has another value than is needed."""
    said = []
    for setting, values in needs.items():
        full = next((each for each in facts if each.endswith(f".{setting}")), None)
        if full is not None and facts[full] not in values:
            said.append(f"{full} is {facts[full]}, wanted {_listed(values)}")
    return said


def _listed(values: Sequence[Any]) -> str:
    return " or ".join("d_model / n_heads" if value is None else str(value) for value in values)
