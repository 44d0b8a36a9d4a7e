"""Write a Transformer, and the heads above any encoder of ours, as ONNX files.

A model that writes has two: encoder_model.onnx reads a source and projects it, once, to the keys and values of each
decoder layer; decoder_with_past_model.onnx continues texts from a cache, which is empty before the first token. A
language model, or the only task of a model that reads, is model.onnx; otherwise each task that reads has TASK.onnx.
Inputs and outputs have the names of Hugging Face's Optimum.
"""

from __future__ import annotations

import copy
import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from lmtasks.backbones.base import Backbone, per_layer
from lmtasks.backbones.lora import merge
from lmtasks.backbones.transformer import Transformer, TransformerConfig, TransformerState
from lmtasks.batch import IGNORE, Batch
from lmtasks.errors import InputError
from lmtasks.heads.classification import ClassificationHead
from lmtasks.heads.span import SpanHead
from lmtasks.heads.tagging import TaggingHead
from lmtasks.model import Model

Axes = tuple[str | int, ...]
"""The sizes of an input, with a name in place of one that may be any."""

ENCODER, DECODER, ALONE = "encoder_model.onnx", "decoder_with_past_model.onnx", "model.onnx"
PAST, KEYS = "past_key_values", ("key", "value")
SEEN = "past_ids"  # (N, t): the tokens before a step of an SSRU, of which only the number counts
OPSET = 20
LOWEST = -1e9  # in place of -inf, with which not every engine computes
QUANTISED = ["MatMul", "Gather", "LSTM"]  # operators that read weights of 8 bits
SOURCE = "batch", "length"
SIZES = {"batch": 2, "rows": 6, "length": 7, "target": 3, "past": 5}  # of the samples; each axis can have any size


class EncoderGraph(nn.Module):
    """The encoder, and the memory of each decoder layer."""

    def __init__(self, backbone: Transformer) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, given: dict[str, Tensor]) -> list[Tensor]:
        """Read ids and mask (B, S): the states (B, S, D), then keys and values (B, H, S, D/H) of each layer."""
        memory = self.backbone.encode(given["input_ids"], given["attention_mask"] > 0)
        return [memory.states, *(part for layer in self.backbone.init_state(memory).memory for part in layer)]


class StepGraph(nn.Module):
    """A step of the decoder: N = B * K hypotheses, K for each of B sources, those of one source side by side."""

    def __init__(self, backbone: Transformer) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, given: dict[str, Tensor]) -> list[Tensor]:
        """Append ids (N, T): the logits (N, T, V), then the cache of each layer."""
        mask = given.get("encoder_attention_mask")  # (B, S)
        memory = per_layer([given[name] for name in given if ".encoder." in name], 2)
        wide = None if mask is None else mask[:, None, None, :] > 0  # (B, 1, 1, S)
        state = TransformerState(memory, wide, self.backbone.config.decoder_layers)
        past = [given[name] for name in given if is_cache(name)]
        if SEEN in given:  # beside its cell an SSRU counts the tokens seen, by the size of a tensor without numbers
            count = past[0].new_empty(past[0].size(0), 1, given[SEEN].size(1), 0)  # (N, 1, t, 0)
            past = [part for cell in past for part in (count, cell)]
        for cache, parts in zip(state.caches, per_layer(past, 2), strict=True):
            cache.parts = parts
        logits = self.backbone.logits(self.backbone.step(given["input_ids"], state))  # (N, T, V)
        return [logits, *(part for cache in state.caches for part in cache.parts if part.size(-1))]


class LSTMGraph(nn.Module):
    """An LSTM as the operator of ONNX, which reads texts of any length; PyTorch's would be unrolled for one length."""

    weight: Tensor
    recurrent: Tensor
    bias: Tensor

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.d_hidden = lstm.hidden_size
        weight, recurrent, *biases = (_gates(tensor.detach()) for tensor in lstm.parameters())
        self.register_buffer("weight", weight[None])  # (1, 4H, D): the first axis counts directions
        self.register_buffer("recurrent", recurrent[None])  # (1, 4H, H)
        self.register_buffer("bias", torch.cat(biases)[None])  # (1, 8H)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Read x (B, S, D): the states (B, S, H), and nothing for the last of them, which no head reads."""
        given = x.transpose(0, 1), self.weight, self.recurrent, self.bias
        shape = x.size(1), 1, x.size(0), self.d_hidden
        states = torch.onnx.ops.symbolic("LSTM", given, {"hidden_size": self.d_hidden}, dtype=x.dtype, shape=shape)
        return states.squeeze(1).transpose(0, 1), None  # of (S, 1, B, H)


class ReadingGraph(nn.Module):
    """The encoder with the head of a task that reads."""

    def __init__(self, backbone: Backbone, head: Any) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        for name, module in list(self.named_modules()):
            if isinstance(module, nn.LSTM):
                self.set_submodule(name, LSTMGraph(module))

    def forward(self, given: dict[str, Tensor]) -> Tensor:
        """Score the classes of texts (B, C), the two ends of a span (B, S, 2), or the tags of words (B, S, K).

        The words of a row, of which the input `words` has a 1 at the first piece, come first; what follows is no score.
        """
        ids, words = given["input_ids"], given.get("words")  # (B, S) each
        target = torch.full_like(ids, IGNORE) if words is None else torch.where(words > 0, 0, IGNORE)
        found = self.head.logits(self.backbone, Batch("", ids, given["attention_mask"] > 0, target, ids[:, 0]))
        return found if isinstance(found, Tensor) else found[0].clamp(min=LOWEST)


def write_onnx(model: Model, folder: Path, precision: str = "float32") -> None:
    """Write a model as ONNX files into a folder; its weights are merged with the adapter in use.

    precision: "float32", or "int8": weights are 8-bit integers, and what they are multiplied with is rounded to these.

    Raises: InputError if a part of it cannot be expressed, or a package is missing.
    """
    check_packages()
    built, _ = model.built()
    readers = {name: head for name, head in model.heads.items() if not model.tasks[name].generates}
    check_backbone(built, writes=len(readers) < len(model.heads))
    for name, head in readers.items():
        check_head(name, head)
    backbone = copy.deepcopy(built).cpu().float()
    merge(backbone)
    with silence():
        if isinstance(backbone, Transformer) and len(readers) < len(model.heads):
            _write_decoder(backbone, folder)
        for name, head in readers.items():
            graph = ReadingGraph(backbone, copy.deepcopy(head).cpu().float())
            inputs = ["input_ids", "attention_mask", *(["words"] if isinstance(head, TaggingHead) else [])]
            _export(graph, dict.fromkeys(inputs, SOURCE), ["logits"], folder / reader_file(model, name))
        if precision == "int8":
            for path in sorted(folder.glob("*.onnx")):
                _quantise(path)


def reader_file(model: Model, name: str) -> str:
    """Return the name of the file of a task that reads."""
    return ALONE if len(model.tasks) == 1 else f"{name}.onnx"


def is_cache(name: str) -> bool:
    """Tell whether an input of a step is a part of the cache, which grows; the memory of the source does not."""
    return name.startswith(PAST) and ".encoder." not in name


def check_packages() -> None:
    """Check that what writes ONNX files is installed. Raises: InputError if not."""
    if missing := [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]:
        raise InputError(f"this needs the packages {', '.join(missing)}; pip install 'lmtasks[onnx]'")


def check_backbone(backbone: Backbone, writes: bool) -> None:
    """Check that a backbone can be expressed, with its decoder or without. Raises: InputError if it cannot."""
    if writes and not isinstance(backbone, Transformer):
        kind = type(backbone).__name__
        raise InputError(f"model.backbone is a {kind}, and only a Transformer writes in ONNX; keep this model in torch")
    if any(isinstance(module, nn.GRU) for module in backbone.modules()):
        raise InputError("model.backbone.cell gru: ONNX files have the LSTM only; keep this model in torch")


def check_head(name: str, head: nn.Module) -> None:
    """Check that a head that reads can be expressed. Raises: InputError if it cannot."""
    if not isinstance(head, ClassificationHead | SpanHead | TaggingHead):
        raise InputError(f"model.tasks.{name}: --to onnx knows no {type(head).__name__}; keep this model in torch")
    if isinstance(head, ClassificationHead) and head.ngrams is not None:
        raise InputError(f"model.tasks.{name}.ngrams: ONNX files cannot cut texts into letters; --to ct2 takes it")


def _write_decoder(backbone: Transformer, folder: Path) -> None:
    """Write the encoder, if there is one, and a step of the decoder."""
    config, layers = backbone.config, range(backbone.config.decoder_layers)
    given: dict[str, Axes] = {"input_ids": ("rows", "target")}
    if config.decoder_mixing == "ssru":
        given = {"input_ids": ("rows", 1), SEEN: ("rows", "past")}
    cache, memory = _cache(config), {}
    if config.has_encoder:
        keys = ("batch", config.n_heads, "length", config.head_width)
        memory = {f"{PAST}.{i}.encoder.{part}": keys for i in layers for part in KEYS}
        source = {"input_ids": SOURCE, "attention_mask": SOURCE}
        _export(EncoderGraph(backbone), source, ["last_hidden_state", *_present(memory)], folder / ENCODER)
        given["encoder_attention_mask"] = SOURCE
    path = folder / (DECODER if config.has_encoder else ALONE)
    _export(StepGraph(backbone), given | cache | memory, ["logits", *_present(cache)], path)


def _cache(config: TransformerConfig) -> dict[str, Axes]:
    """Return what a step reads and returns of each layer."""
    names = [f"{PAST}.{i}.decoder" if config.has_encoder else f"{PAST}.{i}" for i in range(config.decoder_layers)]
    if config.decoder_mixing == "ssru":
        return {f"{name}.cell": ("rows", config.d_model) for name in names}
    keys = ("rows", config.n_heads, "past", config.head_width)
    return {f"{name}.{part}": keys for name in names for part in KEYS}


def _gates(tensor: Tensor) -> Tensor:
    """Put the gates of an LSTM, in PyTorch i, f, g, o, into the order of ONNX: i, o, f, g."""
    i, f, g, o = tensor.chunk(4)
    return torch.cat((i, o, f, g))


def _present(names: Iterable[str]) -> list[str]:
    """Return what parts of a cache are called as outputs."""
    return [name.replace(PAST, "present") for name in names]


def _export(graph: nn.Module, inputs: Mapping[str, Axes], outputs: Sequence[str], path: Path) -> None:
    """Write one graph, which is given its inputs by name."""
    given = {name: _sample(axes, torch.float32 if PAST in name else torch.int64) for name, axes in inputs.items()}
    free = {name: {i: Dim.DYNAMIC for i, axis in enumerate(axes) if axis in SIZES} for name, axes in inputs.items()}
    # Deferred: sizes are compared when a graph runs and not when it is traced. ONNX leaves these comparisons out.
    traced = torch.export.export(
        graph.eval(), (given,), dynamic_shapes=(free,), prefer_deferred_runtime_asserts_over_guards=True
    )
    program = torch.onnx.export(
        traced, input_names=[*inputs], output_names=[*outputs], opset_version=OPSET, verbose=False
    )
    assert program is not None
    _tidy(program.model.graph, inputs)
    program.save(path)


def _sample(axes: Axes, dtype: torch.dtype) -> Tensor:
    """Return a tensor to trace a graph with."""
    return torch.ones([SIZES[axis] if isinstance(axis, str) else axis for axis in axes], dtype=dtype)


def _tidy(graph: Any, inputs: Mapping[str, Axes]) -> None:
    """Name the free axes of a graph as those of its inputs, not s28, and forget which lines of Python made it."""
    for part in (graph, *graph, *graph.inputs, *graph.outputs, *graph.initializers.values()):
        part.metadata_props.clear()
    names = {
        str(size): axis
        for value, axes in zip(graph.inputs, inputs.values(), strict=True)
        for size, axis in zip(value.shape, axes, strict=True)
    }
    for value in (*graph.inputs, *graph.outputs, *(value for node in graph for value in node.outputs)):
        for i, size in enumerate(value.shape or ()):
            if not isinstance(size, int):
                value.shape[i] = re.sub(r"s\d+", lambda found: str(names.get(found[0], found[0])), str(size))


def _quantise(path: Path) -> None:
    """Replace a file by one whose weights are 8-bit integers."""
    from onnx import TensorProto
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # Unsigned: sums of products of signed weights overflow on CPUs without VNNI. A tensor whose type a graph does not
    # tell is a float.
    quantize_dynamic(
        path, path, QUANTISED, per_channel=True, weight_type=QuantType.QUInt8,
        extra_options={"DefaultTensorType": TensorProto.FLOAT},
    )  # fmt: skip
    path.with_name(f"{path.name}.data").unlink(missing_ok=True)  # weights above 2 GB


@contextmanager
def silence() -> Iterator[None]:
    """Keep what the exporter tells of its progress, and its warnings, from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
