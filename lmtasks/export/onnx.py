"""Write a Transformer, and the heads above its encoder, as ONNX files.

A model that writes has two files: encoder_model.onnx reads a source and projects it once to the keys and values of each
decoder layer, decoder_with_past_model.onnx continues texts by the tokens given, with a cache that is empty before the
first. A language model, or the only task that reads, is model.onnx; several tasks that read have TASK.onnx each. Inputs
and outputs are named as in Optimum's exports.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lmtasks.backbones.base import Backbone
from lmtasks.backbones.lora import merged, take_out
from lmtasks.backbones.recurrence import GRU, LSTM
from lmtasks.backbones.transformer import Transformer, TransformerState
from lmtasks.batch import IGNORE, Batch
from lmtasks.errors import InputError
from lmtasks.heads.classification import ClassificationHead
from lmtasks.heads.span import SpanHead
from lmtasks.heads.tagging import TaggingHead
from lmtasks.model import Model

ENCODER, DECODER, ALONE = "encoder_model.onnx", "decoder_with_past_model.onnx", "model.onnx"
OPSET = 20
NOTHING = -1e9  # in place of -inf, which 8-bit products turn into NaN
NAMES = ("batch", "length", "target", "past")  # of the sizes that are free
ROWS, LENGTH, TARGET, PAST = 2, 7, 3, 5  # sizes of the example by which a graph is made; none is fixed by it


class EncoderGraph(nn.Module):
    """The encoder, and the memory of the decoder's layers."""

    def __init__(self, backbone: Transformer) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Read ids and mask (B, S): the states (B, S, D), then keys and values (B, H, S, D/H) of each layer."""
        memory = self.backbone.encode(input_ids, attention_mask > 0)
        return memory.states, *(part for layer in self.backbone.init_state(memory).memory for part in layer)


class StepGraph(nn.Module):
    """One step of the decoder."""

    def __init__(self, backbone: Transformer) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, input_ids: Tensor, encoder_attention_mask: Tensor | None, past: list[Tensor]) -> list[Tensor]:
        """Append ids (N, T) to the texts of a cache: the logits (N, T, V), then the longer cache.

        `past` has keys and values (N, H, t, D/H) of each layer, and behind them those of the source, if there is one.
        """
        layers = self.backbone.config.decoder_layers
        own, read = past[: 2 * layers], past[2 * layers :]
        mask = None if encoder_attention_mask is None else encoder_attention_mask[:, None, None, :] > 0
        state = TransformerState(list(zip(read[::2], read[1::2], strict=True)), mask, layers)
        for cache, keys, values in zip(state.caches, own[::2], own[1::2], strict=True):
            cache.parts = (keys, values)
        logits = self.backbone.logits(self.backbone.step(input_ids, state))
        return [logits, *(part for cache in state.caches for part in cache.parts)]


class ReadingGraph(nn.Module):
    """The encoder with the head of a task that reads."""

    def __init__(self, backbone: Backbone, head: Any) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, input_ids: Tensor, attention_mask: Tensor, words: Tensor | None = None) -> Tensor:
        """Return the logits of classes (B, C), of the ends of a span (B, S, 2) or of the tags of words (B, S, K)."""
        target = torch.full_like(input_ids, IGNORE) if words is None else torch.where(words > 0, 0, IGNORE)
        batch = Batch("", input_ids, attention_mask > 0, target, input_ids[:, 0])
        found = self.head.logits(self.backbone, batch)
        logits = found if isinstance(found, Tensor) else found[0]
        return logits.clamp(min=NOTHING) if isinstance(self.head, SpanHead) else logits


class Recurrence(nn.Module):
    """An LSTM as the one node that ONNX has for it, which the exporter would unroll over the tokens of its example.

    Source: operator LSTM of ONNX, version 14; its gates are in the order i, o, f, c.
    """

    inputs: Tensor
    states: Tensor
    bias: Tensor

    def __init__(self, lstm: LSTM) -> None:
        super().__init__()
        self.width = lstm.hidden_size
        own = lstm.state_dict()
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        inputs, states, *biases = (self._ordered(own[name]) for name in names)
        for name, weight in (("inputs", inputs), ("states", states), ("bias", torch.cat(biases))):
            self.register_buffer(name, weight.unsqueeze(0))

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Read x (B, S, D): the states (B, S, H)."""
        given = x.transpose(0, 1)  # (S, B, D)
        found = torch.onnx.ops.symbolic(
            "LSTM", (given, self.inputs, self.states, self.bias), {"hidden_size": self.width},
            dtype=x.dtype, shape=(x.size(1), 1, x.size(0), self.width), version=14,
        )  # fmt: skip
        return found.squeeze(1).transpose(0, 1), None

    def _ordered(self, weight: Tensor) -> Tensor:
        """Return the rows of the gates i, f, g, o of PyTorch as ONNX has them."""
        i, f, g, o = weight.chunk(4)
        return torch.cat((i, o, f, g))


def write_onnx(model: Model, folder: Path, precision: str = "float32") -> None:
    """Write a model as ONNX files into a folder; its weights are merged with the adapter in use.

    precision: float32 or int8, whose weights are 8-bit integers and whose products are quantised as they come.

    Raises: InputError if a part of it cannot be expressed, or a package is missing.
    """
    import_onnx()
    own, _ = model.built()
    backbone = _plain(own)
    readers = {name: head for name, head in model.heads.items() if not model.tasks[name].generates}
    with quiet():
        if len(readers) < len(model.heads):
            _write_decoder(check_settings(backbone), folder)
        for name, head in readers.items():
            _write_reader(backbone, name, head, folder / reader_file(model, name))
        if precision == "int8":
            for path in sorted(folder.glob("*.onnx")):
                _quantise(path)


def reader_file(model: Model, name: str) -> str:
    """Return the file of a task that reads."""
    return ALONE if len(model.tasks) == 1 else f"{name}.onnx"


def check_settings(backbone: Backbone) -> Transformer:
    """Return a backbone that writes, if its steps can be expressed. Raises: InputError if not."""
    if not isinstance(backbone, Transformer):
        kind = type(backbone).__name__
        raise InputError(f"model.backbone is a {kind}, and only a Transformer writes in ONNX; keep this model in torch")
    if backbone.config.decoder_mixing != "attention":
        raise InputError(
            f"model.backbone.decoder_mixing {backbone.config.decoder_mixing}: ONNX files have attention only; keep "
            "this model in torch"
        )
    return backbone


def import_onnx() -> None:
    """Check that the packages are there. Raises: InputError if one is not."""
    if missing := [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]:
        raise InputError(f"this needs the packages {', '.join(missing)}; pip install 'lmtasks[onnx]'")


def _plain(backbone: Backbone) -> Backbone:
    """Return a copy in evaluation mode and float32, with merged weights in place of adapters."""
    plain = copy.deepcopy(backbone).cpu().float().eval()
    weights = merged(plain.state_dict())
    take_out(plain)
    plain.load_state_dict(weights)
    return plain


def _write_decoder(backbone: Transformer, folder: Path) -> None:
    """Write what a model needs that writes."""
    config = backbone.config
    layers = config.decoder_layers
    batch, length, target, past = (torch.export.Dim(name) for name in NAMES)
    cache = [f"{i}.decoder.{part}" for i in range(layers) for part in ("key", "value")]
    read = [f"{i}.encoder.{part}" for i in range(layers) for part in ("key", "value")] if config.has_encoder else []
    ids, mask = torch.ones(ROWS, LENGTH, dtype=torch.int64), torch.ones(ROWS, LENGTH, dtype=torch.int64)
    if config.has_encoder:
        _export(
            EncoderGraph(backbone), (ids, mask), folder / ENCODER, ["input_ids", "attention_mask"],
            ["last_hidden_state", *(f"present.{name}" for name in read)], ({0: batch, 1: length},) * 2,
        )  # fmt: skip
    else:
        cache = [name.replace(".decoder", "") for name in cache]
    past_sizes = [PAST] * len(cache) + [LENGTH] * len(read)
    filled = [torch.zeros(ROWS, config.n_heads, size, config.head_width) for size in past_sizes]  # each its own
    shapes = [{0: batch, 2: past}] * len(cache) + [{0: batch, 2: length}] * len(read)
    reads = config.has_encoder
    _export(
        StepGraph(backbone),
        (torch.ones(ROWS, TARGET, dtype=torch.int64), mask if reads else None, filled),
        folder / (DECODER if reads else ALONE),
        ["input_ids", *["encoder_attention_mask"] * reads, *(f"past_key_values.{each}" for each in cache + read)],
        ["logits", *(f"present.{name}" for name in cache)],
        ({0: batch, 1: target}, {0: batch, 1: length} if reads else None, shapes),
    )  # fmt: skip


def _write_reader(backbone: Backbone, name: str, head: nn.Module, path: Path) -> None:
    """Write the encoder with the head of a task that reads."""
    if isinstance(head, ClassificationHead) and head.ngrams is not None:
        raise InputError(f"model.tasks.{name}.ngrams: ONNX files cannot cut texts into letters; "
                         "--to ct2 takes it")  # fmt: skip
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length")
    ids, mask = torch.ones(ROWS, LENGTH, dtype=torch.int64), torch.ones(ROWS, LENGTH, dtype=torch.int64)
    inputs = ["input_ids", "attention_mask"] + ["words"] * isinstance(head, TaggingHead)
    given = (ids, mask, mask.clone())[: len(inputs)]
    graph = ReadingGraph(backbone, copy.deepcopy(head).cpu().float().eval())
    for place, module in list(graph.named_modules()):
        if isinstance(module, GRU):
            raise InputError("model.backbone.cell gru: ONNX files have the LSTM only; keep this model in torch")
        if isinstance(module, LSTM):
            graph.set_submodule(place, Recurrence(module))
    _export(graph, given, path, inputs, ["logits"], ({0: batch, 1: length},) * len(inputs))


def _export(
    module: nn.Module, given: tuple[Any, ...], path: Path, inputs: Sequence[str], outputs: Sequence[str], shapes: Any
) -> None:
    """Write one graph, without what the exporter tells of the lines of Python that made it, and of their paths."""
    program = torch.onnx.export(
        module, given, input_names=list(inputs), output_names=list(outputs), dynamic_shapes=shapes,
        opset_version=OPSET, dynamo=True, verbose=False, optimize=True,
    )  # fmt: skip
    assert program is not None
    graph = program.model.graph
    for part in (graph, *graph, *graph.inputs, *graph.outputs, *graph.initializers.values()):
        part.metadata_props.clear()
    program.save(str(path), external_data=False)


def _quantise(path: Path) -> None:
    """Replace a file by one whose weights are 8-bit integers.

    Each column has a scale of its own: with one for all, answers on SQuAD lose 4 points of F1.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(path, path, per_channel=True, weight_type=QuantType.QInt8, extra_options={"DefaultTensorType": 1})


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what the exporter tells of its progress from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
