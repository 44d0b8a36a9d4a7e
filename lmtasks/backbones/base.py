"""The contract of a backbone: encode a source, decode a target, turn hidden states into logits.

The three words are those of Rush, "The Annotated Transformer" (2018). Transformer and recurrent backbones keep this
contract; heads, search and modules know nothing else of them. It is plain PyTorch: no task, no Lightning.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmtasks.backbones.loss import Loss, linear_cross_entropy
from lmtasks.checked import Checked
from lmtasks.errors import InputError
from lmtasks.text.base import BaseTokenizer

NO_ENCODER = "this backbone has no encoder (encoder_layers=0) and cannot read a source; set encoder_layers to 1 or more"
NO_DECODER = "this backbone has no decoder (decoder_layers=0) and cannot write a text; set decoder_layers to 1 or more"
NO_SOURCE = (
    "this backbone's decoder reads a source, but none was given; give one (text generation: its prompt), or set "
    "encoder_layers to 0 for a language model"
)


@dataclass(frozen=True)
class Memory:
    """The encoder's result."""

    states: Tensor
    """(B, S, D) one state for each source token."""
    mask: Tensor
    """(B, S) bool, True = a real token."""


class State(ABC):
    """What a decoder remembers between two calls of `Backbone.step`.

    Its rows are N = B * K hypotheses: K for each of B sources, those of one source side by side. What depends on the
    source alone is stored once per source, not once per hypothesis.
    """

    @abstractmethod
    def select(self, rows: Tensor) -> None:
        """Let hypothesis k of kept source b continue from the present row `rows[b, k]`; `rows` is (B', K') int64.

        One call widens a source into a beam, reorders a beam, and drops finished sources. All rows of one line must
        belong to one source; sources keep their order.
        """

    def flatten(self) -> tuple[Tensor, ...]:
        """Return all tensors in a fixed order, to trace a step for export; without a memory, none before a step."""
        raise NotImplementedError(f"a {type(self).__name__} cannot be flattened")

    def restored(self, tensors: tuple[Tensor, ...]) -> State:
        """Return a state of the same kind that holds these tensors, in the order of `flatten`."""
        raise NotImplementedError(f"a {type(self).__name__} cannot be restored")


class Backbone(nn.Module):
    """The parameters that all tasks share.

    Without an encoder it is a language model and decodes with memory None; without a decoder it only encodes. A
    subclass overrides what it can do; all else raises an InputError that names the setting.
    """

    d_model: int
    """D, the width of encoder and decoder states."""
    max_length: int | None = None
    """Longest source and target in tokens; None = any."""
    embedding: nn.Embedding
    """(V, D) vectors of the tokens, for source and target alike."""
    takes_adapters = True
    """Whether LoRA suits it: most of its weights are linear layers, each of which is called as a module."""
    no_decay = ("output_weight",)  # an embedding too: one row per token, not a matrix between layers

    def __init__(self) -> None:
        super().__init__()
        self.output_weight: nn.Parameter | None = None  # (V, D); None = the embedding is the output weight too
        self.output_bias: nn.Parameter | None = None  # (V,)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def encode(self, source: Tensor, mask: Tensor) -> Memory:
        """Read source ids (B, S) with mask (B, S), True = a real token."""
        raise InputError(NO_ENCODER)

    def decode(self, target: Tensor, memory: Memory | None) -> Tensor:
        """Read the whole target (B, T), each position seeing itself and those before it: (B, T, D).

        Row t is the state that predicts token t + 1. Padding on the right changes nothing on its left. `memory` is
        None only for a language model.
        """
        return self.step(target, self.init_state(memory))

    def init_state(self, memory: Memory | None) -> State:
        """Return the state before the first token, with one hypothesis per source (memory None: per row of a step)."""
        raise InputError(NO_DECODER)

    def step(self, target: Tensor, state: State) -> Tensor:
        """Append the tokens (N, T) to the hypotheses of `state`, in place: (N, T, D). Usually T = 1."""
        raise InputError(NO_DECODER)

    def logits(self, hidden: Tensor) -> Tensor:
        """Score every token of the vocabulary: (..., D) -> (..., V)."""
        return F.linear(hidden, *self._output())

    def loss(self, hidden: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Loss:
        """Return the cross-entropy of `logits(hidden)`, hidden (..., D), against target (...), IGNORE where none."""
        return linear_cross_entropy(hidden, *self._output(), target, label_smoothing)

    def alignment(self, target: Tensor, memory: Memory) -> Tensor:
        """Return how much each target position (B, T) reads of each source token: (B, T, S), rows that sum to 1."""
        self.init_state(memory)  # tells a missing decoder; otherwise it is the encoder that is missing
        raise InputError(NO_ENCODER)

    def stacks(self) -> list[list[list[nn.Parameter]]]:
        """Return the parameters of encoder and decoder by layers, from the embedding upwards.

        The first entry of a stack is what is below its first layer; what is in no stack stands above the last layers.
        """
        kind = type(self).__name__
        raise InputError(f"a {kind} does not tell its layers; leave out model.training.optimizer.layer_decay")

    def _output(self) -> tuple[Tensor, Tensor | None]:
        """Return weight (V, D) and bias (V,) of the output layer; other classes use `logits` and `loss`."""
        return self.embedding.weight if self.output_weight is None else self.output_weight, self.output_bias


class Origin(ABC):
    """Where the tokenizer and the first weights of a backbone come from: another model."""

    new_parts: tuple[str, ...] = ()
    """Parts of the backbone for which it has no weights."""

    @property
    def called(self) -> str:
        """What people call it; "" where it has no name."""
        return ""

    @property
    def revision(self) -> str | None:
        """The version that was found, where the settings may leave it open; None = there are no versions."""
        return None

    @abstractmethod
    def tokenizer(self, languages: Sequence[str], marks: Sequence[str]) -> BaseTokenizer:
        """Return its tokenizer, with tokens added at the end for languages and marks that it lacks."""

    @abstractmethod
    def initialise(self, backbone: Backbone, config: BackboneConfig, tokenizer: BaseTokenizer) -> None:
        """Copy its weights into a backbone that was built of `config` for `tokenizer`."""


@dataclass(frozen=True)
class BackboneConfig(Checked, ABC):
    """Sizes and choices of a backbone: data, which builds the layers when the vocabulary is known."""

    setting = "model.backbone"

    encoder_layers: int
    """Layers of the encoder; 0 = none."""
    decoder_layers: int
    """Layers of the decoder; 0 = none."""

    @property
    def has_encoder(self) -> bool:
        """Whether there is an encoder."""
        return self.encoder_layers > 0

    @property
    def has_decoder(self) -> bool:
        """Whether there is a decoder."""
        return self.decoder_layers > 0

    @property
    def max_positions(self) -> int | None:
        """Longest source and target in tokens; None = any."""
        return None

    @property
    def overflows_in_float16(self) -> bool:
        """Whether states may exceed the largest number of float16, 65,504."""
        return False

    @property
    def compiles(self) -> bool:
        """Whether torch.compile makes it faster."""
        return True

    @abstractmethod
    def build(self, vocab_size: int) -> Backbone:
        """Return the backbone with fresh random weights for `vocab_size` tokens."""

    def resolve(self) -> tuple[BackboneConfig, Origin | None]:
        """Return the settings to build, and where the first weights come from; None = they are drawn at random."""
        return self, None

    def _check_layers(self) -> None:
        if min(self.encoder_layers, self.decoder_layers) < 0 or not self.encoder_layers + self.decoder_layers:
            counts = f"encoder_layers {self.encoder_layers}, decoder_layers {self.decoder_layers}"
            raise InputError(f"{counts}; give at least one of them 1")


def per_layer(tensors: Sequence[Tensor], size: int) -> list[tuple[Tensor, ...]]:
    """Group the flat tensors of a state into tuples of `size`, one for each layer."""
    return [tuple(tensors[first : first + size]) for first in range(0, len(tensors), size)]
