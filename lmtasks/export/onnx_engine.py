"""Run ONNX files: a backbone whose encoder and decoder are sessions of ONNX Runtime, under our search and our heads.

All else is shared with the model, so that texts and scores are its own. Several threads may use one session.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmtasks.backbones.base import Backbone, Memory, State
from lmtasks.batch import IGNORE, Batch, longest
from lmtasks.errors import InputError
from lmtasks.export.onnx import ALONE, DECODER, ENCODER, LOWEST, PAST, SEEN, is_cache, reader_file
from lmtasks.export.shared import Shared, device_of
from lmtasks.heads.classification import ClassificationHead
from lmtasks.heads.span import SpanHead
from lmtasks.heads.tagging import TaggingHead
from lmtasks.model import Model

CPU, GPU = "CPUExecutionProvider", "CUDAExecutionProvider"


class Session(Shared):
    """An ONNX file that is open; tensors go in and come out by their names."""

    def __init__(self, path: Path, device: str, threads: int) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise InputError("this needs the package onnxruntime; pip install onnxruntime") from None
        kind, index = device_of(device)
        if kind == "cuda" and GPU not in onnxruntime.get_available_providers():
            raise InputError(f"ONNX Runtime has no device {device} here; give cpu, or install onnxruntime-gpu for cuda")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        provider = (GPU, {"device_id": index}) if kind == "cuda" else CPU
        try:
            super().__init__(onnxruntime.InferenceSession(path, options, providers=[provider]))
        except Exception as error:  # the package has classes of its own, which are no OSError
            raise InputError(f"{path.name} is missing or damaged ({type(error).__name__}); export again") from error
        self.inputs = {each.name: each.shape for each in self.session.get_inputs()}  # a name where a size is free
        self.outputs = [each.name for each in self.session.get_outputs()]

    def __call__(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute all outputs."""
        found = self.session.run(None, {name: tensor.numpy() for name, tensor in given.items()})
        return {name: torch.from_numpy(array) for name, array in zip(self.outputs, found, strict=True)}


@dataclass(frozen=True)
class OnnxMemory(Memory):
    """The encoder's result, and what each step reads of it."""

    inputs: Mapping[str, Tensor]
    """The mask (B, S), and keys and values (B, H, S, D/H) of each layer, by their names as inputs."""


class OnnxState(State):
    """The cache of the decoder for each hypothesis, and the memory, once for each source."""

    def __init__(self, memory: Mapping[str, Tensor]) -> None:
        self.memory, self.cache = dict(memory), dict[str, Tensor]()
        self.beam = 1  # hypotheses for each source
        self.length = 0  # tokens seen

    def select(self, rows: Tensor) -> None:
        """Keep and reorder hypotheses; a memory that loses no source stays as it is."""
        sources = rows[:, 0] // self.beam  # (B',)
        self.beam = rows.size(1)
        self.cache = {name: part[rows.flatten()] for name, part in self.cache.items()}
        if any(len(sources) < len(part) for part in self.memory.values()):
            self.memory = {name: part[sources] for name, part in self.memory.items()}


class OnnxBackbone(Backbone):
    """The encoder and the decoder of a model, as sessions; it has no parameters.

    Args:
        encoder: Reads a source; None = no task writes for one.
        decoder: Makes a step; None = no task writes.
    """

    takes_adapters = False

    def __init__(self, encoder: Session | None, decoder: Session | None) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    @property
    def device(self) -> torch.device:
        """Where ids are read and logits returned."""
        return torch.device("cpu")

    def encode(self, source: Tensor, mask: Tensor) -> Memory:
        """Read source ids (B, S) with mask (B, S), True = a real token."""
        if self.encoder is None:
            return super().encode(source, mask)
        real = mask.long()
        found = self.encoder({"input_ids": source, "attention_mask": real})
        states = found.pop("last_hidden_state")  # (B, S, D)
        memory = {name.replace("present", PAST): part for name, part in found.items()}
        return OnnxMemory(states, mask, {"encoder_attention_mask": real, **memory})

    def init_state(self, memory: Memory | None) -> OnnxState:
        """Return the state before the first token."""
        return OnnxState(memory.inputs if isinstance(memory, OnnxMemory) else {})

    def step(self, target: Tensor, state: State) -> Tensor:
        """Append the tokens (N, T) to the hypotheses of `state`, in place, and return their logits (N, T, V)."""
        assert isinstance(state, OnnxState)
        if self.decoder is None:
            return super().step(target, state)
        if SEEN in self.decoder.inputs and target.size(1) > 1:  # an SSRU reads one token at a time
            return torch.cat([self.step(token, state) for token in target.split(1, dim=1)], dim=1)
        cache = state.cache or self._empty_cache(len(target))
        given = {"input_ids": target, **state.memory, **cache}
        if SEEN in self.decoder.inputs:
            given[SEEN] = target.new_zeros(len(target), state.length)
        logits, *parts = self.decoder(given).values()
        state.cache = dict(zip(cache, parts, strict=True))
        state.length += target.size(1)
        return logits

    def logits(self, hidden: Tensor) -> Tensor:
        """Return what a step gave."""
        return hidden

    def alignment(self, target: Tensor, memory: Memory) -> Tensor:
        """Raise an InputError: the files do not give their attention."""
        raise InputError("ONNX files do not give their attention; load the model without engine=")

    def _empty_cache(self, rows: int) -> dict[str, Tensor]:
        """Return the cache before the first token: keys and values (N, H, 0, D/H), or the cells (N, D) of SSRUs."""
        assert self.decoder is not None
        shapes = {name: shape for name, shape in self.decoder.inputs.items() if is_cache(name)}
        free = {name: [size if isinstance(size, int) else 0 for size in shape[1:]] for name, shape in shapes.items()}
        return {name: torch.zeros(rows, *sizes) for name, sizes in free.items()}


def open_backbone(folder: Path, model: Model, device: str, threads: int) -> OnnxBackbone:
    """Return the backbone of a model, of which tasks and settings are read; nothing else is there yet.

    device: cpu, cuda or cuda:N. threads: on which a step computes.

    Raises: InputError if a file is damaged, or there is no such device.
    """
    config, writes = model.backbone_config, any(task.generates for task in model.tasks.values())
    encoder = Session(folder / ENCODER, device, threads) if writes and config.has_encoder else None
    decoder = Session(folder / (DECODER if config.has_encoder else ALONE), device, threads) if writes else None
    return OnnxBackbone(encoder, decoder)


def adapt_heads(model: Model, folder: Path, device: str, threads: int) -> None:
    """Let the heads of a model that read have their logits from a session; what they make of these stays theirs.

    Raises: InputError if a file is damaged, or there is no such device.
    """
    for name, head in model.heads.items():
        if not model.tasks[name].generates:
            logits = next(logits for kind, logits in LOGITS.items() if isinstance(head, kind))
            vars(head)["logits"] = partial(logits, head, Session(folder / reader_file(model, name), device, threads))


def _class_logits(head: ClassificationHead, session: Session, backbone: Backbone, batch: Batch) -> Tensor:
    """Score the classes of each row: (B, C)."""
    return _run(session, batch)


def _span_logits(head: SpanHead, session: Session, backbone: Backbone, batch: Batch) -> tuple[Tensor, Tensor]:
    """Score each token as the first and as the last of the answer, and tell the context; see `SpanHead.logits`."""
    logits = _run(session, batch)
    _, _, words = head.parts(batch)
    return logits.masked_fill(logits <= LOWEST, -torch.inf), words


def _tag_logits(head: TaggingHead, session: Session, backbone: Backbone, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Score all tags of the words, with their mask, and zeros for tags, which answers need not know."""
    words = batch.target != IGNORE  # (B, S)
    lengths = words.sum(1, keepdim=True)  # (B, 1)
    mask = torch.arange(longest(lengths, words.size(1))) < lengths  # (B, W)
    emissions = _run(session, batch, words=words.long())[:, : mask.size(1)]
    return emissions, mask, torch.zeros_like(mask, dtype=torch.long)


LOGITS: dict[type, Callable[..., Any]] = {
    ClassificationHead: _class_logits,
    SpanHead: _span_logits,
    TaggingHead: _tag_logits,
}


def _run(session: Session, batch: Batch, **more: Tensor) -> Tensor:
    (logits,) = session({"input_ids": batch.source, "attention_mask": batch.source_mask.long(), **more}).values()
    return logits
