"""The contract of a backbone: encode a source, decode a target, turn hidden states into logits.

The three words are those of Rush, "The Annotated Transformer" (2018). Transformer and recurrent backbones keep this one
contract; heads, search and modules know nothing else of them. It is plain PyTorch: no task, no Lightning.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

NO_ENCODER = (
    "this backbone is a language model without an encoder (encoder_layers=0), it can read no source; "
    "set encoder_layers to 1 or more"
)
NO_DECODER = (
    "this backbone has an encoder only (decoder_layers=0), it can write no text; set decoder_layers to 1 or more"
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


class Backbone(nn.Module, ABC):
    """The parameters that all tasks share.

    Without an encoder it is a language model: it decodes with memory None. Without a decoder it reads only. Whoever
    asks for the part that is not there gets an InputError that names the setting.
    """

    d_model: int
    """D, the width of encoder and decoder states."""
    max_length: int | None = None
    """Longest source and target in tokens; None = any."""
    embedding: nn.Embedding
    """(V, D) vectors of the tokens, of source and target alike."""

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

    @abstractmethod
    def output(self) -> tuple[Tensor, Tensor | None]:
        """Return the (V, D) weight and the (V,) bias that turn hidden states into logits."""

    def logits(self, hidden: Tensor) -> Tensor:
        """Score every token of the vocabulary: (..., D) -> (..., V)."""
        weight, bias = self.output()
        return F.linear(hidden, weight, bias)

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
        """Whether it has an encoder."""
        return self.encoder_layers > 0

    @property
    def has_decoder(self) -> bool:
        """Whether it has a decoder."""
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
