"""The recurrent backbones: an encoder and a decoder that attends to it, an encoder alone, a language model.

Bahdanau, Cho, Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate" (2015), sections 3.1,
3.2 and A.1, A.2; with `input_feeding`, Luong, Pham, Manning, "Effective Approaches to Attention-based Neural Machine
Translation" (2015), section 3.3. The language model: Zaremba, Sutskever, Vinyals, "Recurrent Neural Network
Regularization" (2014).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from lmtasks.backbones.base import NO_ENCODER, NO_SOURCE, Backbone, BackboneConfig, Memory, State, per_layer
from lmtasks.backbones.dropout import Dropout
from lmtasks.backbones.recurrence import (
    CELLS,
    LAYERS,
    AdditiveAttention,
    BidirectionalLayer,
    LSTMCell,
    Source,
    backward_order,
)
from lmtasks.errors import InputError


@dataclass(frozen=True, kw_only=True)  # the first number is not the width, as one may think
class RecurrentConfig(BackboneConfig):
    """A recurrent encoder-decoder with additive attention, or an encoder alone, or a language model.

    Example:
        >>> backbone = RecurrentConfig(d_model=16, d_hidden=16).build(vocab_size=10)
        >>> source = torch.tensor([[5, 6, 2]])
        >>> backbone.encode(source, source > 0).states.shape
        torch.Size([1, 3, 16])
    """

    cell: Literal["lstm", "gru"] = "lstm"
    """Kind of recurrent unit; `gru` has three quarters of the weights."""
    d_model: int = 256
    """Width of embeddings, encoder states and readout."""
    d_hidden: int = 256
    """Width of the decoder's recurrent state, and of the encoder's in each direction."""
    d_attention: int = 128
    """Width in which decoder and encoder states are compared; the cost of attention grows with it."""
    encoder_layers: int = 1
    """Bidirectional layers of the encoder; 0 = a language model, which has only a decoder and continues a text."""
    decoder_layers: int = 1
    """Recurrent layers of the decoder; 0 = an encoder only, for tasks that read and do not write."""
    input_feeding: bool = False
    """Feed the previous readout to the next step (Luong et al., section 3.3), not only the previous context."""
    dropout: float = 0.2
    """Share of zeroed units in embeddings, between layers, in encoder states and in the readout (0 to 1)."""
    tied_embeddings: bool = True
    """Score the vocabulary with the embedding matrix (Press and Wolf 2017), as an encoder alone always does."""

    @property
    def compiles(self) -> bool:
        """Whether torch.compile makes it faster; time is unrolled, so each length would be compiled anew."""
        return False

    def build(self, vocab_size: int) -> Backbone:
        """Return the backbone with fresh random weights.

        Raises: InputError if there is no layer at all, or input feeding without attention.
        """
        self._check_layers()
        if self.input_feeding and not (self.has_encoder and self.has_decoder):
            raise InputError("input_feeding feeds what was read of a source; it needs encoder and decoder layers")
        kind = Recurrent if self.has_decoder else RecurrentEncoder
        backbone = kind(self, vocab_size) if self.has_encoder else RecurrentLanguageModel(self, vocab_size)
        _initialise(backbone, self.cell)
        return backbone


class RecurrentEncoder(Backbone):
    """Bidirectional layers that read a source (Bahdanau et al., section 3.2)."""

    takes_adapters = False  # cells have matrices of their own

    def __init__(self, config: RecurrentConfig, vocab_size: int) -> None:
        super().__init__()
        self.d_model = config.d_model
        self.embedding = nn.Embedding(vocab_size, config.d_model)
        self.dropout = Dropout(config.dropout)
        widths = [config.d_model] + [2 * config.d_hidden] * (config.encoder_layers - 1)
        self.encoder = nn.ModuleList(BidirectionalLayer(config.cell, width, config.d_hidden) for width in widths)
        self.states = nn.Linear(2 * config.d_hidden, config.d_model)

    def encode(self, source: Tensor, mask: Tensor) -> Memory:
        """Read source ids (B, S) with mask (B, S), True = a real token; the padding is on the right."""
        reverse = backward_order(mask)  # (B, S)
        x = self._embed(source)  # (B, S, D)
        for layer in self.encoder:
            x = layer(self.dropout(x), reverse)  # (B, S, 2H)
        return Memory(self.dropout(self.states(x)), mask)

    def stacks(self) -> list[list[list[nn.Parameter]]]:
        """Return the parameters of the embedding, then those of each layer."""
        return [[list(self.embedding.parameters()), *(list(layer.parameters()) for layer in self.encoder)]]

    def _embed(self, tokens: Tensor) -> Tensor:
        return self.embedding(tokens) * self.d_model**0.5


class RecurrentState(State):
    """The recurrent states and the fed vector of each hypothesis, and the sources that they read."""

    def __init__(self, source: Source, layers: list[tuple[Tensor, ...]], feed: Tensor) -> None:
        self.source = source
        self.layers = layers  # the state of each layer's cell, (N, H): LSTM hidden and memory, GRU hidden
        self.feed = feed  # (N, D)

    def select(self, rows: Tensor) -> None:
        """Let hypothesis k of kept source b continue from the present row `rows[b, k]`."""
        sources = len(self.source.values)
        if len(rows) != sources:  # sources keep their order: as many as before are the same ones
            self.source = self.source.select(rows[:, 0] // (len(self.feed) // sources))
        chosen = rows.flatten()
        self.layers = [tuple(part[chosen] for part in layer) for layer in self.layers]
        self.feed = self.feed[chosen]

    def flatten(self) -> tuple[Tensor, ...]:
        """Return keys, values and bias of the sources, the fed vectors, then the state of each layer's cell."""
        return (*self.source, self.feed, *(part for layer in self.layers for part in layer))

    def restored(self, tensors: tuple[Tensor, ...]) -> RecurrentState:
        """Return a state with these tensors."""
        keys, values, bias, feed, *parts = tensors
        return RecurrentState(Source(keys, values, bias), per_layer(parts, len(self.layers[0])), feed)


class Recurrent(RecurrentEncoder):
    """The recurrent encoder-decoder.

    A step of the decoder updates the state by the token and by what the step before fed, attends with the new state,
    and reads out h~ = tanh(W [state; token; context]):
        s_t = cell(s_{t-1}, [E y_t; feed_{t-1}]),  c_t = attention(s_t),  h~_t = tanh(W [s_t; E y_t; c_t])
    Without input feeding feed_t = c_t, the recurrence of Bahdanau et al. (section A.2.2: their c_i is
    attention(s_{i-1})). The readout, however, sees the context of the state that has read the newest token, as in
    Luong et al. (section 3.1). With input feeding feed_t = h~_t (Luong et al., section 3.3).

    The readout is their deep output with tanh in place of maxout: it is bounded, so it can be fed again, and it has D
    units, so the embeddings can be tied. The first decoder state comes from the mean of the encoder's states (Sennrich
    et al., "Nematus", 2017).
    """

    def __init__(self, config: RecurrentConfig, vocab_size: int) -> None:
        super().__init__(config, vocab_size)
        self.input_feeding = config.input_feeding
        d_model, d_hidden = config.d_model, config.d_hidden
        self.cell = CELLS[config.cell]
        d_gates = self.cell.gates * d_hidden
        self.first = nn.ModuleList(nn.Linear(d_model, d_hidden) for _ in range(config.decoder_layers))
        self.token_input = nn.Linear(d_model, d_gates)
        self.feed_input = nn.Linear(d_model, d_gates, bias=False)
        self.layer_inputs = nn.ModuleList(nn.Linear(d_hidden, d_gates) for _ in range(config.decoder_layers - 1))
        self.cells = nn.ModuleList(self.cell(d_hidden) for _ in range(config.decoder_layers))
        self.attention = AdditiveAttention(d_hidden, d_model, config.d_attention)
        self.token_readout = nn.Linear(d_model, d_model)
        self.state_readout = nn.Linear(d_hidden + d_model, d_model, bias=False)
        self.output_weight = None if config.tied_embeddings else nn.Parameter(torch.empty(vocab_size, d_model))

    def init_state(self, memory: Memory | None) -> RecurrentState:
        """Return the state before the first token, one hypothesis for each source."""
        if memory is None:
            raise InputError(NO_SOURCE)
        kept = memory.mask.unsqueeze(-1)  # (B, S, 1)
        mean = memory.states.masked_fill(~kept, 0).sum(dim=1) / kept.sum(dim=1).clamp(min=1)  # (B, D)
        dtype = self.embedding.weight.dtype  # under autocast too, the states that are summed up stay exact
        layers = [self.cell.init_state(torch.tanh(first(mean)).to(dtype)) for first in self.first]
        return RecurrentState(self.attention.read(memory), layers, torch.zeros_like(mean, dtype=dtype))

    def step(self, target: Tensor, state: RecurrentState) -> Tensor:  # type: ignore[override]  # its own state
        """Append the tokens (N, T) to the hypotheses of `state`, in place: (N, T, D)."""
        return self._run(target, state)[0]

    def alignment(self, target: Tensor, memory: Memory) -> Tensor:
        """Return how much each target position (B, T) reads of each source token: (B, T, S), rows that sum to 1."""
        return self._run(target, self.init_state(memory))[1]

    def stacks(self) -> list[list[list[nn.Parameter]]]:
        """Return those of the encoder, then the embedding and each cell with its inputs and its first state."""
        inputs = [nn.ModuleList([self.token_input, self.feed_input]), *self.layer_inputs]
        layers = [nn.ModuleList(parts) for parts in zip(self.cells, inputs, self.first, strict=True)]
        return [*super().stacks(), [list(self.embedding.parameters()), *(list(layer.parameters()) for layer in layers)]]

    def _run(self, target: Tensor, state: RecurrentState) -> tuple[Tensor, Tensor]:
        """Append the tokens (N, T) in place: the hidden states (N, T, D) and the attention weights (N, T, S)."""
        embedded = self.dropout(self._embed(target.t()))  # (T, N, D), time first, so that a step is one block
        readouts = self.token_readout(embedded)  # (T, N, D)
        read, weights = [], []
        # the loop holds only what depends on the step before
        for x, readout in zip(self.token_input(embedded).unbind(), readouts.unbind(), strict=True):
            inputs = torch.addmm(x, state.feed, self.feed_input.weight.t())  # (N, gates * H)
            layers: list[tuple[Tensor, ...]] = []
            for i, cell in enumerate(self.cells):
                if i > 0:
                    inputs = self.layer_inputs[i - 1](self.dropout(layers[-1][0]))
                layers.append(cell(inputs, state.layers[i]))
            state.layers = layers
            hidden = layers[-1][0]  # (N, H)
            context, weight = self.attention(hidden, state.source)  # (N, D), (N, S)
            weights.append(weight)
            read.append(torch.cat([hidden, context], dim=1))  # (N, H + D)
            if self.input_feeding:
                read[-1] = self._readout(read[-1], readout)
            state.feed = read[-1] if self.input_feeding else context
        hidden = torch.stack(read)
        if not self.input_feeding:
            hidden = self._readout(hidden, readouts)
        return self.dropout(hidden.transpose(0, 1).contiguous()), torch.stack(weights, dim=1)

    def _readout(self, read: Tensor, token: Tensor) -> Tensor:
        return torch.tanh(token + self.state_readout(read))  # (..., D)


class LanguageModelState(State):
    """The state of each layer of a recurrent language model."""

    def __init__(self, depth: int, layers: list[tuple[Tensor, ...]]) -> None:
        self.depth = depth  # number of layers
        self.layers = layers  # LSTM: hidden and memory, (1, N, H) each; GRU: hidden; empty before the first token

    def select(self, rows: Tensor) -> None:
        """Keep these rows of every layer."""
        self.layers = [tuple(part[:, rows.flatten()] for part in layer) for layer in self.layers]

    def flatten(self) -> tuple[Tensor, ...]:
        """Return the state of each layer, nothing before the first token."""
        return tuple(part for layer in self.layers for part in layer)

    def restored(self, tensors: tuple[Tensor, ...]) -> LanguageModelState:
        """Return a state with these tensors."""
        return LanguageModelState(self.depth, per_layer(tensors, max(1, len(tensors) // self.depth)))


class RecurrentLanguageModel(Backbone):
    """Recurrent layers over the tokens so far (Zaremba et al. 2014), read out as in `Recurrent`, without a context.

    s_t = cell(s_{t-1}, E y_t),  h~_t = tanh(W [s_t; E y_t])
    """

    takes_adapters = False  # cells have matrices of their own

    def __init__(self, config: RecurrentConfig, vocab_size: int) -> None:
        super().__init__()
        self.d_model = config.d_model
        d_model, d_hidden = config.d_model, config.d_hidden
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.dropout = Dropout(config.dropout)
        widths = [d_model] + [d_hidden] * (config.decoder_layers - 1)
        self.decoder = nn.ModuleList(LAYERS[config.cell](width, d_hidden, batch_first=True) for width in widths)
        self.token_readout = nn.Linear(d_model, d_model)
        self.state_readout = nn.Linear(d_hidden, d_model, bias=False)
        self.output_weight = None if config.tied_embeddings else nn.Parameter(torch.empty(vocab_size, d_model))

    def init_state(self, memory: Memory | None) -> LanguageModelState:
        """Return the state before the first token."""
        if memory is not None:
            raise InputError(NO_ENCODER)
        return LanguageModelState(len(self.decoder), [])

    def step(self, target: Tensor, state: LanguageModelState) -> Tensor:  # type: ignore[override]  # its own state
        """Append the tokens (N, T) to the texts of `state`, in place: (N, T, D)."""
        embedded = self.dropout(self.embedding(target) * self.d_model**0.5)  # (N, T, D)
        x, layers = embedded, []
        for i, layer in enumerate(self.decoder):
            x, last = layer(self.dropout(x) if i else x, state.layers[i] if state.layers else None)  # (N, T, H)
            layers.append(last)
        state.layers = layers
        return self.dropout(torch.tanh(self.token_readout(embedded) + self.state_readout(x)))

    def stacks(self) -> list[list[list[nn.Parameter]]]:
        """Return the parameters of the embedding, then those of each layer."""
        return [[list(self.embedding.parameters()), *(list(layer.parameters()) for layer in self.decoder)]]


def _initialise(backbone: Backbone, cell: str) -> None:
    """Draw the first weights.

    Recurrent matrices are orthogonal gate by gate (Bahdanau et al., section B.1; Saxe et al. 2014), others Glorot
    uniform, the embeddings N(0, 1/D). An LSTM's forget gate starts with bias 1 (Jozefowicz et al. 2015).
    """
    named = dict(backbone.named_parameters())
    for name, parameter in named.items():
        if "weight_hh" in name or name.startswith("cells"):
            for gate in parameter.data.split(parameter.shape[1]):
                gate.copy_(nn.init.orthogonal_(torch.empty(gate.shape, dtype=torch.float32)))
        elif parameter.ndim > 1:
            nn.init.xavier_uniform_(parameter)
        else:
            nn.init.zeros_(parameter)
            if cell == "lstm" and ("bias_ih" in name or "_input" in name):
                nn.init.ones_(parameter.data.chunk(LSTMCell.gates)[1])
    for name in ("attention.score", "embedding.weight", "output_weight"):
        if name in named:
            nn.init.normal_(named[name], std=named[name].size(-1) ** -0.5)
