"""Run ONNX files: a backbone whose encoder and decoder steps are sessions, under our search and our heads.

All else is ours, so that texts and scores are those of the model. Threads may share a session.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmtasks.backbones.base import Backbone, Memory, State
from lmtasks.batch import IGNORE, Batch, lengths_to_mask
from lmtasks.errors import InputError, one_line
from lmtasks.export.onnx import ALONE, DECODER, ENCODER, reader_file
from lmtasks.export.shared import Shared
from lmtasks.heads.classification import ClassificationHead
from lmtasks.heads.span import SpanHead
from lmtasks.heads.tagging import TaggingHead
from lmtasks.model import Model

CPU, GPU = "CPUExecutionProvider", "CUDAExecutionProvider"


@dataclass(frozen=True)
class OnnxMemory(Memory):
    """The encoder's result, with what the decoder reads of it."""

    fixed: Mapping[str, np.ndarray]
    """Inputs of each step, by their names: the mask, and keys and values of each layer."""


class OnnxState(State):
    """The cache of the decoder, and the memory of the source, a row for each hypothesis."""

    def __init__(self, fixed: Mapping[str, np.ndarray]) -> None:
        self.fixed, self.past = dict(fixed), dict[str, np.ndarray]()
        self.sources = np.arange(len(next(iter(self.fixed.values()), ())))  # which source each row belongs to

    def select(self, rows: Tensor) -> None:
        """Keep and reorder hypotheses; the memory is copied only where its rows change."""
        flat = rows.flatten().numpy()
        self.past = {name: value[flat] for name, value in self.past.items()}
        if not len(self.sources):
            return
        sources = self.sources[flat]
        if not np.array_equal(sources, self.sources):
            self.fixed = {name: value[flat] for name, value in self.fixed.items()}
            self.sources = sources


class OnnxBackbone(Backbone):
    """Encoder and decoder in ONNX Runtime; a step gives logits at once.

    Args:
        config: Settings of the model, of which sizes are read.
        encoder: Session of the encoder, where a task writes for a source.
        decoder: Session of the decoder, where a task writes.
    """

    def __init__(self, config: Any, encoder: Shared | None, decoder: Shared | None) -> None:
        super().__init__()
        self.d_model, self.max_length = config.d_model, config.max_positions
        self.encoder, self.decoder = encoder, decoder
        self.cache = [each.name for each in decoder.session.get_inputs() if _is_cache(each.name)] if decoder else []
        shapes = {each.name: each.shape for each in decoder.session.get_inputs()} if decoder else {}
        self.shapes = {name: tuple(shapes[name][i] for i in (1, 3)) for name in self.cache}  # H, D/H

    @property
    def device(self) -> torch.device:
        """Where our search computes."""
        return torch.device("cpu")

    def encode(self, source: Tensor, mask: Tensor) -> Memory:
        """Read source ids (B, S) with mask (B, S), True = a real token; what the decoder reads comes with it."""
        assert self.encoder is not None, "no task writes for a source"
        inputs = {"input_ids": source.numpy(), "attention_mask": mask.long().numpy()}
        states, *memory = self.encoder.session.run(None, inputs)
        names = [each.name.replace("present", "past_key_values") for each in self.encoder.session.get_outputs()[1:]]
        fixed = {"encoder_attention_mask": inputs["attention_mask"], **dict(zip(names, memory, strict=True))}
        return OnnxMemory(torch.from_numpy(states), mask, fixed)

    def init_state(self, memory: Memory | None) -> OnnxState:
        """Return the state before the first token."""
        return OnnxState(memory.fixed if isinstance(memory, OnnxMemory) else {})

    def step(self, target: Tensor, state: State) -> Tensor:
        """Append the tokens (N, T) to the hypotheses of `state`, in place, and return their logits (N, T, V)."""
        assert isinstance(state, OnnxState)
        assert self.decoder is not None
        past = state.past or {
            name: np.zeros((len(target), heads, 0, width), np.float32) for name, (heads, width) in self.shapes.items()
        }
        logits, *present = self.decoder.session.run(None, {"input_ids": target.numpy(), **state.fixed, **past})
        state.past = dict(zip(self.cache, present, strict=True))
        return torch.from_numpy(logits)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return what a step gave."""
        return hidden

    def alignment(self, target: Tensor, memory: Memory) -> Tensor:
        """Raise the InputError for what the files do not hand out."""
        raise InputError("ONNX files do not hand out their attention; load the model without engine")


def open_backbone(folder: Path, model: Model, device: str, threads: int) -> OnnxBackbone:
    """Return the backbone for a model, of which tasks and settings are read, and nothing else is there yet."""
    config, encoder, decoder = model.backbone_config, None, None
    if any(task.generates for task in model.tasks.values()):
        encoder = _session(folder / ENCODER, device, threads) if config.has_encoder else None
        decoder = _session(folder / (DECODER if config.has_encoder else ALONE), device, threads)
    return OnnxBackbone(config, encoder, decoder)


def adapt_heads(model: Model, folder: Path, device: str, threads: int) -> None:
    """Let the heads of a model that read take their logits from a session."""
    for name, head in model.heads.items():
        kind = next((kind for kind in LOGITS if isinstance(head, kind)), None)
        if kind is not None:
            session = _session(folder / reader_file(model, name), device, threads)
            vars(head)["logits"] = partial(LOGITS[kind], session, head)  # of a copy: with the same session


def _class_logits(session: Shared, head: ClassificationHead, backbone: Backbone, batch: Batch) -> Tensor:
    """Score the classes of each row: (B, C)."""
    return _run(session, batch)


def _span_logits(session: Shared, head: SpanHead, backbone: Backbone, batch: Batch) -> tuple[Tensor, Tensor]:
    """Score each token as the first and as the last of the answer: (B, S, 2); and tell the context: bool (B, S)."""
    logits, (_, _, words) = _run(session, batch), head.parts(batch)
    possible = words.scatter(1, head.nowhere(batch), True)
    return logits.masked_fill(~possible.unsqueeze(-1), -torch.inf), words


def _tag_logits(session: Shared, head: TaggingHead, backbone: Backbone, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Score all tags of the words: (B, W, K); with the mask and, where they are not known, any tags of the words."""
    words = batch.target != IGNORE  # (B, S)
    mask = lengths_to_mask(words.sum(1).clamp(min=1).tolist()) & words.any(1, keepdim=True)  # (B, W)
    emissions = _run(session, batch, words=words.long().numpy())[:, : mask.size(1)]
    return emissions, mask, torch.zeros_like(mask, dtype=torch.long)


LOGITS: dict[type, Callable[..., Any]] = {
    ClassificationHead: _class_logits, SpanHead: _span_logits, TaggingHead: _tag_logits
}  # fmt: skip


def _run(session: Shared, batch: Batch, **more: np.ndarray) -> Tensor:
    inputs = {"input_ids": batch.source.numpy(), "attention_mask": batch.source_mask.long().numpy(), **more}
    return torch.from_numpy(session.session.run(None, inputs)[0])


def _is_cache(name: str) -> bool:
    return name.startswith("past_key_values") and ".encoder." not in name


def _session(path: Path, device: str, threads: int) -> Shared:
    """Open a file. Raises: InputError if it is damaged, the package is missing, or there is no such device."""
    try:
        import onnxruntime
    except ImportError:
        raise InputError("this needs the package onnxruntime; pip install 'onnxruntime>=1.22'") from None
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (kind == "cuda" and GPU not in onnxruntime.get_available_providers()):
        raise InputError(f"ONNX Runtime has no device {device!r} here; give cpu, or install onnxruntime-gpu for cuda")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    provider: Any = CPU if kind == "cpu" else (GPU, {"device_id": int(index or 0)})
    try:
        return Shared(onnxruntime.InferenceSession(str(path), options, providers=[provider]))
    except Exception as error:  # the package has classes of its own for each kind
        raise InputError(f"{path.name} cannot be opened ({one_line(error)}); export the model again") from error
