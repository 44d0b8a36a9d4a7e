"""write_hf: a model in the layout of transformers, whose logits and token ids are ours.

`hf_layouts` says which architecture fits, `hf_tokenizer` writes the tokenizer. Where an architecture lacks one of our
settings but can compute the same, the weights are changed: layers that share weights are written several times, and
factors of embeddings and attention scores go into the weights. The package transformers is not needed for writing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import lmtasks
from lmtasks.backbones.lora import LoRALinear, installed
from lmtasks.backbones.transformer import Transformer, TransformerConfig
from lmtasks.decoding import Decoding
from lmtasks.errors import InputError
from lmtasks.export.hf_layouts import BEHIND_PADDING, Layout, choose_layout, head_class, t5_scales_output
from lmtasks.export.hf_tokenizer import write_tokenizer
from lmtasks.model import Model, start_marks
from lmtasks.pretrained.family import EARLY_STOP
from lmtasks.pretrained.heads import ANSWERING, TAGGING
from lmtasks.pretrained.table import Table
from lmtasks.settings import public_name
from lmtasks.storage import CONFIG, WEIGHTS
from lmtasks.storage.writing import save_tensors
from lmtasks.tasks.base import Task
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.tasks.seq2seq import Seq2SeqTask
from lmtasks.tasks.tagging import TaggingTask
from lmtasks.tasks.translation import TranslationTask
from lmtasks.text.base import BaseTokenizer

WRITTEN_BY = "lmtasks"  # a setting in config.json, which tells a folder that this file wrote
GENERATION = "generation_config.json"
OUTPUT = "lm_head.weight"
OUTSIDE = (OUTPUT, "final_logits_bias")  # stand beside the model that a class with an output holds
BESIDE = "adapter"  # the folder of an adapter in the form of the package PEFT
PEFT_CONFIG, PEFT_WEIGHTS, PEFT_PREFIX = "adapter_config.json", "adapter_model.safetensors", "base_model.model."


def write_hf(
    model: Model,
    folder: Path,
    dtype: torch.dtype = torch.float32,
    task: str | None = None,
    keep_adapter: bool = False,
) -> None:
    """Write config.json, weights of type `dtype`, generation_config.json and tokenizer files into an empty folder.

    Weights are merged with the adapter in use; `keep_adapter` writes it beside them, as PEFT reads it. `task` is the
    one that the folder is for, where a model has several.

    Raises: InputError if transformers has no architecture, head or tokenizer that is the same; nothing is written then.
    """
    backbone, tokenizer = model.built()
    name, own = chosen_task(model, task)
    if not isinstance(backbone, Transformer) or not isinstance(config := model.backbone_config, TransformerConfig):
        kind = public_name(type(model.backbone_config))
        raise InputError(f"model.backbone is a {kind}, which transformers does not have; export it --to onnx")
    if dtype == torch.float16 and config.overflows_in_float16:
        raise InputError("the states of a T5 exceed the largest number of float16; export it --precision bfloat16")
    ending = "" if config.has_decoder else head_class(name, own)
    layout = choose_layout(config, name, own, tokenizer)
    merged = model.weights()
    if keep_adapter:
        merged |= {each: tensor for each, tensor in model.state_dict().items() if each in merged}
    weights = _backbone_weights(merged, backbone, layout, tokenizer.pad_id)
    settings = _settings(model, config, layout, name)
    if ending:
        weights |= _head_weights(model, layout, name, own)
        settings |= _labels(own) | {"architectures": [f"{layout.stem}{ending}"]}
    write_tokenizer(tokenizer, folder, own, layout.model_type, backbone.max_length, segments=config.segments > 1)
    if keep_adapter:
        _write_adapter(installed(backbone), config, layout, folder / BESIDE)
    typed = {each: tensor.to("cpu", dtype).clone() for each, tensor in weights.items()}
    save_tensors(typed, folder / WEIGHTS, {"format": "pt"})
    files = {CONFIG: settings | {"dtype": str(dtype).removeprefix("torch.")}}
    if config.has_decoder:
        files[GENERATION] = _generation(model, config, name, own)
    for file, plain in files.items():
        (folder / file).write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def chosen_task(model: Model, task: str | None) -> tuple[str, Task]:
    """Return the task that is exported; several may be where they differ in the texts that are read alone."""
    if task is not None and task not in model.tasks:
        raise InputError(f"the model has no task {task}; it has {', '.join(model.tasks)}")
    alike = not start_marks(model.tasks) and all(each.generates for each in model.tasks.values())
    if task is None and len(model.tasks) > 1 and not alike:
        raise InputError(f"a folder of transformers is for one task, and the model has {', '.join(model.tasks)}; "
                         "choose one by --task NAME")  # fmt: skip
    name = task or next(iter(model.tasks))
    own = model.tasks[name]
    if model.backbone_config.has_decoder and not own.generates:
        raise InputError(f"model.tasks.{name} is {own.kind} above a backbone with a decoder, for which transformers "
                         "has no head; export it --to onnx")  # fmt: skip
    return name, own


def _backbone_weights(
    weights: Mapping[str, Tensor], backbone: Transformer, layout: Layout, pad: int
) -> dict[str, Tensor]:
    """Return the weights of the backbone by their names in transformers."""
    config = backbone.config
    own = {name.removeprefix("backbone."): tensor for name, tensor in weights.items() if name.startswith("backbone.")}
    own = _with_attention_scale(_layer_by_layer(own, config), config, layout)
    if layout.has_bias and not config.bias:
        own |= _zero_biases(own)
    if layout.first_row is not None:
        own |= _positions(backbone, pad + 1 if layout.first_row == BEHIND_PADDING else int(layout.first_row))
    if not config.has_decoder and not config.segments and layout.model_type != "distilbert":
        own["segments.weight"] = torch.zeros_like(own["embedding.weight"][:1])
    if layout.model_type == "t5" and not t5_scales_output(config):
        factor = config.d_model**-0.5 if config.scaled_output else 1.0
        own["output_weight"] = own.get("output_weight", own["embedding.weight"]) * factor
    if config.scaled_embeddings and not layout.scales:
        own.setdefault("output_weight", own["embedding.weight"])
        own["embedding.weight"] = own["embedding.weight"] * config.d_model**0.5
    output = own.pop("output_weight", None)
    named = dict(layout.table.named(own))
    if "final_logits_bias" in named:
        named["final_logits_bias"] = named["final_logits_bias"][None]  # (1, V)
    if config.has_decoder and output is not None:
        copies = layout.table.copies or {}
        named |= {copy: named[original] for copy, original in copies.items() if copy != OUTPUT} | {OUTPUT: output}
    return {name if name in OUTSIDE else layout.prefix + name: tensor for name, tensor in named.items()}


def _write_adapter(layers: Mapping[str, LoRALinear], config: TransformerConfig, layout: Layout, folder: Path) -> None:
    """Write an adapter as PEFT reads it. The parts of a fused layer, each with an A and a B, are layers there.

    Source: the package peft, LoraConfig and its checkpoint format.
    """
    down = {f"{name}.weight": layer.lora_down.detach() for name, layer in layers.items()}  # (P r, D_in)
    up = {f"{name}.weight": layer.lora_up.detach().flatten(0, 1) for name, layer in layers.items()}  # (D_out, r)
    sides = {
        "lora_A": _layer_by_layer(down, config),
        "lora_B": _with_attention_scale(_layer_by_layer(up, config), config, layout),
    }
    weights = {
        f"{PEFT_PREFIX}{layout.prefix}{name.removesuffix('weight')}{side}.weight": tensor.float().cpu().clone()
        for side, own in sides.items()
        for name, tensor in layout.table.named(own)
    }
    lora = next(iter(layers.values())).config
    settings = {
        "peft_type": "LORA", "r": lora.rank, "lora_alpha": lora.alpha, "lora_dropout": lora.dropout, "bias": "none",
        "target_modules": sorted({name.removeprefix(PEFT_PREFIX).rpartition(".lora_")[0] for name in weights}),
        "base_model_name_or_path": "..", "inference_mode": True,
    }  # fmt: skip
    folder.mkdir()
    save_tensors(weights, folder / PEFT_WEIGHTS, {"format": "pt"})
    (folder / PEFT_CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _layer_by_layer(own: Mapping[str, Tensor], config: TransformerConfig) -> dict[str, Tensor]:
    """Return weights with those of shared layers once for each layer."""
    counts = {"encoder": config.encoder_layers, "decoder": config.decoder_layers} if config.shared_layers else {}
    first = [(f"{stack}.layers.0.", count) for stack, count in counts.items()]
    repeated = {
        name.replace(".0.", f".{i}.", 1): tensor
        for name, tensor in own.items()
        for begin, count in first
        if name.startswith(begin)
        for i in range(1, count)
    }
    return {**own, **repeated}


def _with_attention_scale(own: dict[str, Tensor], config: TransformerConfig, layout: Layout) -> dict[str, Tensor]:
    """Return weights in which queries have the factor that attention scores lack in the architecture."""
    factor = config.attention_scale / (config.head_width**-0.5 if layout.scales_attention else 1.0)
    if factor == 1.0:
        return own
    scaled = dict(own)
    for name, tensor in own.items():
        if ".query_key_value." in name:
            queries, others = tensor.tensor_split([len(tensor) // 3])
            scaled[name] = torch.cat((queries * factor, others))
        elif ".cross_attention.query." in name:
            scaled[name] = tensor * factor
    return scaled


def _zero_biases(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a bias of zeros for each linear layer."""
    layers = [name for name, tensor in own.items() if ".layers." in name and tensor.ndim == 2]
    return {name.removesuffix("weight") + "bias": torch.zeros_like(own[name][:, 0]) for name in layers}


def _positions(backbone: Transformer, first: int) -> dict[str, Tensor]:
    """Return the tables of positions, with `first` rows that no position has."""
    tables, offset = {}, backbone.config.position_offset
    for name, stack in (("encoder", backbone.encoder), ("decoder", backbone.decoder)):
        if stack is not None:
            assert stack.places is not None
            places = stack.places.detach()[max(0, offset - first) :]
            tables[f"{name}.places"] = F.pad(places, (0, 0, max(0, first - offset), 0))  # (first + max_length, D)
    return tables


def _head_weights(model: Model, layout: Layout, name: str, task: Task) -> dict[str, Tensor]:
    """Return the weights of the head above an encoder by their names in transformers."""
    begin = f"heads.{name}."
    own = {each.removeprefix(begin): tensor for each, tensor in model.weights().items() if each.startswith(begin)}
    if isinstance(task, ClassificationTask):
        named = dict(Table(layout.classifier).named(own))
        return {layout.prefix + each if each.startswith("pooler.") else each: tensor for each, tensor in named.items()}
    own.pop("threshold", None)
    return dict(Table(TAGGING if isinstance(task, TaggingTask) else ANSWERING).named(own))


def _labels(task: Task) -> dict[str, Any]:
    """Return the settings of a head: what its outputs are called."""
    if not isinstance(task, (ClassificationTask, TaggingTask)):
        return {}
    labels = task.tags if isinstance(task, TaggingTask) else list(task.labels)
    named = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    if not isinstance(task, ClassificationTask):
        return named
    kind = "multi_label_classification" if task.multi_label else "single_label_classification"
    return named | {"problem_type": kind}


def _settings(model: Model, config: TransformerConfig, layout: Layout, name: str) -> dict[str, Any]:
    """Return config.json."""
    backbone, tokenizer = model.built()
    rows = backbone.embedding.num_embeddings
    settings = {
        "model_type": layout.model_type,
        WRITTEN_BY: lmtasks.__version__,
        "is_encoder_decoder": config.has_encoder and config.has_decoder,
        "vocab_size": rows,
        "pad_token_id": tokenizer.pad_id,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        **layout.settings(config),
    }
    if layout.first_row == BEHIND_PADDING:
        settings["max_position_embeddings"] += tokenizer.pad_id + 1
    if config.has_decoder:
        settings["architectures"] = [layout.stem + layout.output]
        if config.has_encoder:
            settings["decoder_start_token_id"] = _start(model, name)
        if prompts := _prompts(model.tasks):
            settings["task_specific_params"] = prompts
    if layout.model_type == "marian":
        settings |= {"share_encoder_decoder_embeddings": True, "decoder_vocab_size": rows}
    return settings


def _start(model: Model, name: str) -> int:
    """Return the token that the decoder begins with."""
    _, tokenizer = model.built()
    marks = start_marks(model.tasks)
    return tokenizer.mark(marks[name]) if name in marks else tokenizer.decoder_start_id


def _prompts(tasks: Mapping[str, Task]) -> dict[str, dict[str, str]]:
    """Return the texts in front of sources as T5's config.json has them."""
    prompts = {}
    for task in tasks.values():
        if isinstance(task, Seq2SeqTask) and task.prompt_text:
            kind = "summarization" if task.kind == "summarisation" else task.kind
            if isinstance(task, TranslationTask) and len(task.directions) == 1:
                kind = f"translation_{'_to_'.join(task.directions[0].split('-'))}"
            prompts[kind] = {"prefix": task.prompt_text}
    return prompts


def _generation(model: Model, config: TransformerConfig, name: str, task: Task) -> dict[str, Any]:
    """Return generation_config.json; its max_length counts the token that the decoder begins with.

    `max_ratio` is left out, as transformers has no such limit. A text that must end at max_length does so there with
    probability 1, and here with that of the model, so that a beam may choose another of those texts.
    """
    backbone, tokenizer = model.built()
    decoding = model.decoding
    settings: dict[str, Any] = {
        "pad_token_id": tokenizer.pad_id,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "forced_eos_token_id": tokenizer.eos_id,
        "num_beams": decoding.beam,
        "num_return_sequences": decoding.n_best,
        "do_sample": decoding.sample,
        "repetition_penalty": decoding.repetition_penalty,
        "no_repeat_ngram_size": decoding.no_repeat_ngram,
        **_search(decoding),
    }
    if config.positions == "relative" and config.decoder_layers > config.encoder_layers:
        # the cache of a T5 in transformers 5.23 has a place for each layer of the encoder
        settings["use_cache"] = False
    if never := dict.fromkeys(tokenizer.suppress_tokens):
        settings["bad_words_ids"] = [[i] for i in never]
    if config.has_encoder:
        longest = min(decoding.max_length, backbone.max_length or decoding.max_length)
        lengths = {"max_length": longest + 1, "min_length": decoding.min_length}
        return settings | lengths | {"decoder_start_token_id": _start(model, name)} | _first_token(tokenizer, task)
    opens = {"bos_token_id": tokenizer.eos_id}  # a text follows the end of another one
    return settings | opens | {"max_new_tokens": decoding.max_length, "min_new_tokens": decoding.min_length}


def _search(decoding: Decoding) -> dict[str, Any]:
    """Return the settings of a beam, or of draws."""
    if decoding.sample:
        return {name: getattr(decoding, name) for name in ("temperature", "top_k", "top_p", "min_p")}
    if decoding.beam == 1:
        return {}
    stop = next((theirs for theirs, ours in EARLY_STOP.items() if ours == decoding.early_stop), False)
    return {"length_penalty": decoding.length_penalty, "early_stopping": stop}


def _first_token(tokenizer: BaseTokenizer, task: Task) -> dict[str, int]:
    """Return the token with which every text begins, if there is one; of several languages it is chosen later."""
    several = isinstance(task, TranslationTask) and len(task.targets) != 1
    language = task.targets[0] if isinstance(task, TranslationTask) and not several else None
    prefix = tokenizer.target_prefix(language)
    return {"forced_bos_token_id": prefix[0]} if prefix else {}
