"""Compare a model with what transformers loads of the folder that `write_hf` wrote: token ids and logits."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lmtasks.backbones.transformer import TransformerConfig, segments_of
from lmtasks.batch import Batch, Example
from lmtasks.data.limits import cut_to_read
from lmtasks.errors import InputError
from lmtasks.export.hf import BESIDE, PEFT_CONFIG, PEFT_PREFIX, PEFT_WEIGHTS, chosen_task
from lmtasks.export.hf_layouts import head_class
from lmtasks.export.hf_tokenizer import framed
from lmtasks.heads.seq2seq import shift_right
from lmtasks.model import Model


@torch.no_grad()
def compare_hf(model: Model, folder: Path, examples: Sequence[Example], task: str | None = None) -> list[float]:
    """Return for each example the largest difference of a logit, infinite where the token ids of its text differ.

    It is a share of the logit where that is above 1. A decoder is compared in what it would write after the tokens of
    the source. `task` is as in `write_hf`.

    Raises: InputError if the package transformers is missing.
    """
    try:
        import transformers
    except ImportError:
        raise InputError("the check needs the package transformers; pip install 'transformers>=5'") from None
    transformers.utils.logging.disable_progress_bar()
    backbone, tokenizer = model.built()
    name, own = chosen_task(model, task)
    read = transformers.AutoTokenizer.from_pretrained(folder)
    theirs = getattr(transformers, f"AutoModel{_ending(model, task)}").from_pretrained(folder).eval()
    if (folder / BESIDE).exists():
        _add_adapter(theirs, folder / BESIDE)
    differences = []
    for example in examples:
        batch = Batch.of(name, [cut_to_read(example, backbone.max_length)], tokenizer.pad_id)
        found, wanted = _logits(theirs, model, name, batch)
        same = read(example.text, verbose=False)["input_ids"] == framed(tokenizer, own, example.text)
        finite = wanted.isfinite()  # a token that cannot be in an answer has no finite logit
        difference = (found - wanted)[finite].abs() / wanted[finite].abs().clamp(min=1)
        differences.append(difference.max().item() if same else math.inf)
    return differences


def _add_adapter(theirs: nn.Module, folder: Path) -> None:
    """Add an adapter to the weights of a model, as PEFT does when it merges."""
    config = json.loads((folder / PEFT_CONFIG).read_text(encoding="utf-8"))
    weights = load_file(folder / PEFT_WEIGHTS)
    for layer in config["target_modules"]:
        down, up = (weights[f"{PEFT_PREFIX}{layer}.lora_{side}.weight"] for side in "AB")
        theirs.get_parameter(f"{layer}.weight").add_(up @ down * config["lora_alpha"] / config["r"])


def _ending(model: Model, task: str | None) -> str:
    """Return the end of the name of the class of transformers that loads a model with its output."""
    if not model.backbone_config.has_decoder:
        return head_class(*chosen_task(model, task))
    return "ForSeq2SeqLM" if model.backbone_config.has_encoder else "ForCausalLM"


def _logits(theirs: Any, model: Model, name: str, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return their logits for a batch, and ours."""
    backbone, _ = model.built()
    source, mask = batch.source, batch.source_mask
    head: Any = model.heads[name]
    read = {"input_ids": source, "attention_mask": mask.long()}
    if model.backbone_config.has_decoder:
        memory = backbone.encode(source, mask) if model.backbone_config.has_encoder else None
        text = source if memory is None else shift_right(source, head.start)
        more = {} if memory is None else {"decoder_input_ids": text}
        return theirs(**read, **more).logits, backbone.logits(backbone.decode(text, memory))
    config = model.backbone_config
    if isinstance(config, TransformerConfig) and config.segments > 1:
        read["token_type_ids"] = segments_of(source, config)
    found, wanted = theirs(**read), head.logits(backbone, batch)
    if "start_logits" in found:
        return torch.stack((found.start_logits, found.end_logits), dim=-1), wanted[0]
    if isinstance(wanted, tuple):
        return found.logits[batch.target >= 0][None], wanted[0]  # at the first piece of each word
    return found.logits, wanted
