"""The recurrent backbone: a bidirectional LSTM or GRU encoder and a decoder with additive attention.

Bahdanau, Cho, Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate" (2015), sections 3.1,
3.2 and A.1, A.2; with `input_feeding`, Luong, Pham, Manning, "Effective Approaches to Attention-based Neural Machine
Translation" (2015), section 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmtasks.backbones.base import Backbone, BackboneConfig, Memory, State
from lmtasks.backbones.dropout import Dropout
from lmtasks.errors import InputError


@dataclass(frozen=True)
class RecurrentConfig(BackboneConfig):
    """A recurrent encoder-decoder with additive attention.

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
    """Width in which a decoder state and an encoder state are compared; the cost of attention grows with it."""
    encoder_layers: int = 1
    """Number of bidirectional layers, at least 1."""
    decoder_layers: int = 1
    """Number of recurrent layers of the decoder, at least 1."""
    input_feeding: bool = False
    """Feed the previous readout to the next step (Luong et al., section 3.3), not only the previous context."""
    dropout: float = 0.2
    """Share of zeroed units in embeddings, between layers, in encoder states and in the readout (0 to 1)."""
    tied_embeddings: bool = True
    """Score the vocabulary with the embedding matrix (Press and Wolf 2017), not with a matrix of its own."""

    def build(self, vocab_size: int) -> Recurrent:
        """Return the backbone with fresh random weights for `vocab_size` tokens.

        Raises: InputError if a stack has no layer.
        """
        if self.encoder_layers < 1 or self.decoder_layers < 1:
            raise InputError(
                f"RecurrentConfig: encoder_layers={self.encoder_layers}, decoder_layers={self.decoder_layers}; "
                "a recurrent backbone needs at least 1 of each"
            )
        return Recurrent(self, vocab_size)


class LSTMCell(nn.Module):
    """One step of an LSTM that is given its input already multiplied by the input weights.

    Source: Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000. Gates in the order i, f, g, o of PyTorch.
    """

    gates = 4

    def __init__(self, d_hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(self.gates * d_hidden, d_hidden))

    @staticmethod
    def start(hidden: Tensor) -> tuple[Tensor, ...]:
        """Return the state (hidden, memory cell), each (N, H), that begins at `hidden` (N, H)."""
        return hidden, torch.zeros_like(hidden)

    def forward(self, inputs: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Take inputs (N, 4H), biases included, and the state into the next state."""
        hidden, memory = state
        i, f, g, o = torch.addmm(inputs, hidden, self.weight.t()).chunk(4, dim=1)  # each (N, H)
        memory = torch.sigmoid(f) * memory + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(memory), memory


class GRUCell(nn.Module):
    """One step of a GRU that is given its input already multiplied by the input weights.

    Source: Cho et al. 2014, in the variant of cuDNN and PyTorch (reset after the product). Gates in the order r, z, n.
    """

    gates = 3

    def __init__(self, d_hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(self.gates * d_hidden, d_hidden))

    @staticmethod
    def start(hidden: Tensor) -> tuple[Tensor, ...]:
        """Return the state (hidden,) that begins at `hidden` (N, H)."""
        return (hidden,)

    def forward(self, inputs: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Take inputs (N, 3H), biases included, and the state into the next state."""
        (hidden,) = state
        input_r, input_z, input_n = inputs.chunk(3, dim=1)  # each (N, H)
        hidden_r, hidden_z, hidden_n = F.linear(hidden, self.weight).chunk(3, dim=1)
        update = torch.sigmoid(input_z + hidden_z)
        new = torch.tanh(input_n + torch.sigmoid(input_r + hidden_r) * hidden_n)
        return (new + update * (hidden - new),)


LAYERS: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}  # whole sentences, for the encoder
CELLS: dict[str, type[LSTMCell] | type[GRUCell]] = {"lstm": LSTMCell, "gru": GRUCell}  # steps, for the decoder


@dataclass
class Source:
    """What attention needs of the sources, once for each of B."""

    keys: Tensor
    """(B, 1, S, A) states in the width of attention."""
    values: Tensor
    """(B, S, D) states."""
    bias: Tensor
    """(B, 1, S) added to the scores: 0 at a real token, the lowest number at padding."""

    def select(self, sources: Tensor) -> Source:
        """Return the sources with these numbers (B',)."""
        return Source(self.keys[sources], self.values[sources], self.bias[sources])


class RecurrentState(State):
    """The recurrent states and the fed vector of each hypothesis, and the sources they read."""

    def __init__(self, source: Source, layers: list[tuple[Tensor, ...]], feed: Tensor) -> None:
        self.source = source
        self.layers = layers  # for each layer its cell's state, tensors (N, H)
        self.feed = feed  # (N, D)

    def select(self, rows: Tensor) -> None:
        """Let hypothesis k of kept source b go on from what was row `rows[b, k]`."""
        sources = len(self.source.values)
        if len(rows) != sources:  # sources keep their order: as many as before are the same ones
            self.source = self.source.select(rows[:, 0] // (len(self.feed) // sources))
        chosen = rows.flatten()
        self.layers = [tuple(part[chosen] for part in layer) for layer in self.layers]
        self.feed = self.feed[chosen]


class BidirectionalLayer(nn.Module):
    """Two recurrent layers that read the sentence from either end (Bahdanau et al., section 3.2).

    Each row is reversed within its own length, so the padding always comes last and no state has seen it. That needs
    no packing: it takes three quarters of the time on a CPU, and the lengths need not leave a GPU.
    """

    def __init__(self, cell: str, d_input: int, d_hidden: int) -> None:
        super().__init__()
        self.ahead = LAYERS[cell](d_input, d_hidden, batch_first=True)
        self.back = LAYERS[cell](d_input, d_hidden, batch_first=True)

    def forward(self, x: Tensor, reverse: Tensor) -> Tensor:
        """Read x (B, S, D) of which `reverse` (B, S) holds the positions in backward order: (B, S, 2H)."""
        ahead, _ = self.ahead(x)  # (B, S, H)
        back, _ = self.back(_reorder(x, reverse))  # (B, S, H)
        return torch.cat([ahead, _reorder(back, reverse)], dim=-1)


class AdditiveAttention(nn.Module):
    """Attention scored by a small network, v . tanh(W s + U h) (Bahdanau et al., section A.1.2)."""

    def __init__(self, d_query: int, d_memory: int, d_attention: int) -> None:
        super().__init__()
        self.query = nn.Linear(d_query, d_attention, bias=False)
        self.key = nn.Linear(d_memory, d_attention)
        self.score = nn.Parameter(torch.empty(d_attention))

    def read(self, memory: Memory) -> Source:
        """Compute once for each source what every query needs."""
        keys = self.key(memory.states).unsqueeze(1)  # (B, 1, S, A)
        bias = torch.zeros(memory.mask.shape, dtype=self.score.dtype, device=keys.device)
        bias = bias.masked_fill(~memory.mask, torch.finfo(bias.dtype).min).unsqueeze(1)  # (B, 1, S)
        return Source(keys, memory.states, bias)

    def forward(self, hidden: Tensor, source: Source) -> tuple[Tensor, Tensor]:
        """Attend with hidden (N, H), N = B * K, to B sources: the context (N, D) and the weights (N, S)."""
        query = self.query(hidden).unflatten(0, (len(source.keys), -1)).unsqueeze(2)  # (B, K, 1, A)
        energies = (source.keys + query).tanh_()  # (B, K, S, A), the one big tensor of a step
        weights = F.softmax(energies @ self.score + source.bias, dim=-1)  # (B, K, S)
        return torch.bmm(weights, source.values).flatten(0, 1), weights.flatten(0, 1)


class Recurrent(Backbone):
    """The recurrent backbone.

    A step of the decoder updates the state by the token and by what the step before fed, attends with the new state,
    and reads out h~ = tanh(W [state; token; context]):
        s_t = cell(s_{t-1}, [E y_t; feed_{t-1}]),  c_t = attention(s_t),  h~_t = tanh(W [s_t; E y_t; c_t])
    Without input feeding feed_t = c_t. That is the recurrence of Bahdanau et al. (section A.2.2: their c_i is
    attention(s_{i-1})); the readout, however, sees the context of the state that has read the newest token, as in
    Luong et al. (section 3.1). With input feeding feed_t = h~_t (Luong et al., section 3.3).

    The readout is their deep output with tanh in place of maxout: it is bounded, so it can be fed again, and has D
    units, so the embeddings can be tied. The first decoder state comes from the mean of the encoder's states
    (Sennrich et al., "Nematus", 2017), which the memory alone tells.
    """

    def __init__(self, config: RecurrentConfig, vocab_size: int) -> None:
        super().__init__()
        self.d_model = config.d_model
        self.input_feeding = config.input_feeding
        d_model, d_hidden = config.d_model, config.d_hidden
        self.cell = CELLS[config.cell]
        d_gates = self.cell.gates * d_hidden
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.dropout = Dropout(config.dropout)
        widths = [d_model] + [2 * d_hidden] * (config.encoder_layers - 1)
        self.encoder = nn.ModuleList(BidirectionalLayer(config.cell, width, d_hidden) for width in widths)
        self.states = nn.Linear(2 * d_hidden, d_model)
        self.first = nn.ModuleList(nn.Linear(d_model, d_hidden) for _ in range(config.decoder_layers))
        self.token_input = nn.Linear(d_model, d_gates)
        self.feed_input = nn.Linear(d_model, d_gates, bias=False)
        self.layer_inputs = nn.ModuleList(nn.Linear(d_hidden, d_gates) for _ in range(config.decoder_layers - 1))
        self.cells = nn.ModuleList(self.cell(d_hidden) for _ in range(config.decoder_layers))
        self.attention = AdditiveAttention(d_hidden, d_model, config.d_attention)
        self.token_readout = nn.Linear(d_model, d_model)
        self.state_readout = nn.Linear(d_hidden + d_model, d_model, bias=False)
        self.output_weight = None if config.tied_embeddings else nn.Parameter(torch.empty(vocab_size, d_model))
        self._initialise()

    def encode(self, source: Tensor, mask: Tensor) -> Memory:
        """Read source ids (B, S) with mask (B, S), True = a real token; the padding is on the right."""
        order = torch.arange(source.shape[1], device=source.device)
        reverse = torch.where(mask, mask.sum(dim=1, keepdim=True) - 1 - order, order)  # (B, S), its own inverse
        x = self._embed(source)  # (B, S, D)
        for layer in self.encoder:
            x = layer(self.dropout(x), reverse)  # (B, S, 2H)
        return Memory(self.dropout(self.states(x)), mask)

    def decode(self, target: Tensor, memory: Memory | None) -> Tensor:
        """Read the whole target (B, T), each position seeing itself and those before it: (B, T, D)."""
        return self.step(target, self.start(memory))

    def start(self, memory: Memory | None) -> RecurrentState:
        """Return the state before the first token, one hypothesis for each source.

        Raises: InputError without a memory: this backbone always reads a source.
        """
        if memory is None:
            raise InputError(
                "a recurrent backbone cannot decode without a source; use TransformerConfig(encoder_layers=0)"
            )
        kept = memory.mask.unsqueeze(-1)  # (B, S, 1)
        mean = memory.states.masked_fill(~kept, 0).sum(dim=1) / kept.sum(dim=1).clamp(min=1)  # (B, D)
        dtype = self.embedding.weight.dtype  # under autocast too, the states that are summed up stay exact
        layers = [self.cell.start(torch.tanh(first(mean)).to(dtype)) for first in self.first]
        return RecurrentState(self.attention.read(memory), layers, torch.zeros_like(mean, dtype=dtype))

    def step(self, target: Tensor, state: RecurrentState) -> Tensor:  # type: ignore[override]  # its own state
        """Append the tokens (N, T) to the hypotheses of `state`, in place: (N, T, D)."""
        return self._run(target, state)[0]

    def output(self) -> tuple[Tensor, Tensor | None]:
        """Return the (V, D) weight that turns hidden states into logits, and no bias."""
        return self.embedding.weight if self.output_weight is None else self.output_weight, None

    def alignment(self, target: Tensor, memory: Memory) -> Tensor:
        """Return how much each target position (B, T) reads of each source token: (B, T, S), rows that sum to 1."""
        return self._run(target, self.start(memory))[1]

    def _run(self, target: Tensor, state: RecurrentState) -> tuple[Tensor, Tensor]:
        """Append the tokens (N, T) in place: the hidden states (N, T, D) and the attention weights (N, T, S).

        Only what depends on the step before stands in the loop. Time comes first inside, so that a step is one block.
        """
        embedded = self.dropout(self._embed(target.t()))  # (T, N, D)
        readouts = self.token_readout(embedded)  # (T, N, D)
        read, weights = [], []
        for x, readout in zip(self.token_input(embedded).unbind(), readouts.unbind(), strict=True):
            state.layers = self._update(torch.addmm(x, state.feed, self.feed_input.weight.t()), state.layers)
            hidden = state.layers[-1][0]  # (N, H)
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

    def _embed(self, tokens: Tensor) -> Tensor:
        return self.embedding(tokens) * self.d_model**0.5

    def _update(self, inputs: Tensor, layers: list[tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
        """Take every layer one step on, the first by its inputs (N, gates * H), the others by the layer below."""
        updated: list[tuple[Tensor, ...]] = []
        for i, cell in enumerate(self.cells):
            if i > 0:
                inputs = self.layer_inputs[i - 1](self.dropout(updated[-1][0]))
            updated.append(cell(inputs, layers[i]))
        return updated

    def _readout(self, read: Tensor, token: Tensor) -> Tensor:
        return torch.tanh(token + self.state_readout(read))  # (..., D)

    def _initialise(self) -> None:
        """Draw the first weights.

        Recurrent matrices are orthogonal gate by gate (Bahdanau et al., section B.1; Saxe et al. 2014), others Glorot
        uniform, the embeddings N(0, 1/D). An LSTM's forget gate starts with bias 1 (Jozefowicz et al. 2015).
        """
        for name, parameter in self.named_parameters():
            if "weight_hh" in name or name.startswith("cells"):
                for gate in parameter.data.split(parameter.shape[1]):
                    gate.copy_(nn.init.orthogonal_(torch.empty_like(gate, dtype=torch.float32)))
            elif parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)
                if self.cell is LSTMCell and ("bias_ih" in name or "_input" in name):
                    nn.init.ones_(parameter.data.chunk(LSTMCell.gates)[1])
        nn.init.normal_(self.attention.score, std=len(self.attention.score) ** -0.5)
        nn.init.normal_(self.embedding.weight, std=self.d_model**-0.5)
        if self.output_weight is not None:
            nn.init.normal_(self.output_weight, std=self.d_model**-0.5)


def _reorder(x: Tensor, positions: Tensor) -> Tensor:
    """Take the positions (B, S) of each row of x (B, S, D)."""
    return x.gather(1, positions.unsqueeze(-1).expand_as(x))
