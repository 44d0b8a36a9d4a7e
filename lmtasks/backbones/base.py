"""The contract of a backbone: encode a source, decode a target, turn hidden states into logits.

The three words are those of Rush, "The Annotated Transformer" (2018). Transformer and recurrent backbones keep this one
contract; heads, search and modules know nothing else of them. It is plain PyTorch: no task, no Lightning.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmtasks.backbones.loss import Loss, linear_cross_entropy

NO_ENCODER = (
    "this backbone is a language model without an encoder (encoder_layers=0) and cannot read a source; "
    "set encoder_layers to 1 or more"
)
NO_DECODER = (
    "this backbone has an encoder only (decoder_layers=0) and cannot write a text; set decoder_layers to 1 or more"
)
NO_SOURCE = (
    "this backbone's decoder reads a source, and there is none; give it one (text generation: its prompt), or set "
    "encoder_layers to 0 for a language model"
)


@dataclass(frozen=True)
class Memory:
    """What the encoder made of the source."""

    states: Tensor
    """(B, S, D) one state for each source token."""
    mask: Tensor
    """(B, S) bool, True = a real token."""


class State(ABC):
    """What a decoder remembers between two calls of `Backbone.step`: everything that search has to carry.

    Its rows are hypotheses, N = B * K of them: K for each of B sources, the hypotheses of one source side by side.
    What depends on the source alone is kept once a source and not once a hypothesis.
    """

    @abstractmethod
    def select(self, rows: Tensor) -> None:
        """Let hypothesis k of kept source b go on from what was row `rows[b, k]`.

        `rows` is (B', K') int64 over the N rows of now. One call widens a source into a beam, reorders a beam, and
        lets finished sources leave. All rows of one line must stem from one source; sources keep their order.
        """

    def flatten(self) -> tuple[Tensor, ...]:
        """Return all tensors of the state, in a fixed order, for example to trace a step for export.

        A state without a memory has none before its first step, which tells how many hypotheses there are. Search does
        not need it.
        """
        raise NotImplementedError(f"a {type(self).__name__} cannot be flattened")

    def restored(self, tensors: tuple[Tensor, ...]) -> State:
        """Return a state of the same kind that holds these tensors, in the order of `flatten`."""
        raise NotImplementedError(f"a {type(self).__name__} cannot be restored")


class Backbone(nn.Module, ABC):
    """The parameters that all tasks share.

    Without an encoder it is a language model and decodes with memory None. Without a decoder it only encodes. A part
    that is missing raises an InputError that names the setting.
    """

    d_model: int
    """D, the width of encoder and decoder states."""
    max_length: int | None = None
    """Longest source and target in tokens; None = any."""
    embedding: nn.Embedding
    """(V, D) vectors of the tokens, for source and target alike."""

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.embedding.weight.device

    @abstractmethod
    def encode(self, source: Tensor, mask: Tensor) -> Memory:
        """Read source ids (B, S) with mask (B, S), True = a real token."""

    @abstractmethod
    def decode(self, target: Tensor, memory: Memory | None) -> Tensor:
        """Read the whole target (B, T), each position seeing itself and those before it: (B, T, D).

        Row t is the state that predicts token t + 1. Padding on the right changes nothing on its left. `memory` is
        None only for a decoder-only model.
        """

    @abstractmethod
    def init_state(self, memory: Memory | None) -> State:
        """Return the state before the first token, one hypothesis for each source.

        With memory None the first `step` tells how many there are.
        """

    @abstractmethod
    def step(self, target: Tensor, state: State) -> Tensor:
        """Append the tokens (N, T) to the hypotheses of `state`, in place: (N, T, D). Usually T = 1."""

    def logits(self, hidden: Tensor) -> Tensor:
        """Score every token of the vocabulary: (..., D) -> (..., V)."""
        weight, bias = self._output()
        return F.linear(hidden, weight, bias)

    def loss(self, hidden: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Loss:
        """Return the cross-entropy of `logits(hidden)`, hidden (..., D), against target (...), IGNORE where none.

        All logits are never held at once, see `backbones.loss`.
        """
        weight, bias = self._output()
        return linear_cross_entropy(hidden, weight, bias, target, label_smoothing)

    @abstractmethod
    def _output(self) -> tuple[Tensor, Tensor | None]:
        """Return the (V, D) weight and the (V,) bias of the output layer, which other classes reach by logits and
        loss."""

    @abstractmethod
    def alignment(self, target: Tensor, memory: Memory) -> Tensor:
        """Return how much each target position (B, T) reads of each source token: (B, T, S), rows that sum to 1."""


@dataclass(frozen=True)
class BackboneConfig(ABC):
    """Sizes and choices of a backbone: data, which builds the layers when the vocabulary is known."""

    encoder_layers: int
    decoder_layers: int

    @property
    def has_encoder(self) -> bool:
        """Whether there is an encoder."""
        return self.encoder_layers > 0

    @property
    def has_decoder(self) -> bool:
        """Whether there is a decoder."""
        return self.decoder_layers > 0

    @property
    def compiles(self) -> bool:
        """Whether torch.compile makes it faster."""
        return True

    @property
    def max_positions(self) -> int | None:
        """Longest source and target in tokens; None = any."""
        return None

    @abstractmethod
    def build(self, vocab_size: int) -> Backbone:
        """Return the backbone with fresh random weights for `vocab_size` tokens."""
