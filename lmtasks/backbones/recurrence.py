"""The parts of the recurrent backbones: cells, bidirectional layers, additive attention.

LSTM: Hochreiter and Schmidhuber 1997, Gers et al. 2000. GRU: Cho et al. 2014. Bidirectional layer and attention:
Bahdanau, Cho, Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate" (2015), sections 3.2
and A.1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmtasks.backbones.base import Memory


class LSTMCell(nn.Module):
    """One step of an LSTM whose input is already multiplied by the input weights.

    Source: Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000. Gates in the order i, f, g, o of PyTorch.
    """

    gates = 4

    def __init__(self, d_hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(self.gates * d_hidden, d_hidden))

    @staticmethod
    def init_state(hidden: Tensor) -> tuple[Tensor, ...]:
        """Return the state (hidden, memory cell), each (N, H), that begins at `hidden` (N, H)."""
        return hidden, torch.zeros_like(hidden)

    def forward(self, inputs: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the next state, from inputs (N, 4H), biases included, and the state."""
        hidden, memory = state
        i, f, g, o = torch.addmm(inputs, hidden, self.weight.t()).chunk(4, dim=1)  # each (N, H)
        memory = torch.sigmoid(f) * memory + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(memory), memory


class GRUCell(nn.Module):
    """One step of a GRU whose input is already multiplied by the input weights.

    Source: Cho et al. 2014, in the variant of cuDNN and PyTorch (reset after the product). Gates in the order r, z, n.
    """

    gates = 3

    def __init__(self, d_hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(self.gates * d_hidden, d_hidden))

    @staticmethod
    def init_state(hidden: Tensor) -> tuple[Tensor, ...]:
        """Return the state (hidden,) that begins at `hidden` (N, H)."""
        return (hidden,)

    def forward(self, inputs: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the next state, from inputs (N, 3H), biases included, and the state."""
        (hidden,) = state
        input_r, input_z, input_n = inputs.chunk(3, dim=1)  # each (N, H)
        hidden_r, hidden_z, hidden_n = F.linear(hidden, self.weight).chunk(3, dim=1)
        update = torch.sigmoid(input_z + hidden_z)
        new = torch.tanh(input_n + torch.sigmoid(input_r + hidden_r) * hidden_n)
        return (new + update * (hidden - new),)


class LSTM(nn.LSTM):
    """PyTorch's LSTM, in float32 on a CPU without bfloat16 under autocast, where oneDNN would fail."""

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:  # type: ignore[override]
        """Read (N, T, D) from a state of two tensors (1, N, H): the states (N, T, H), and the last one."""
        lacks_it = input.device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
        if lacks_it and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(input.float(), hx)
        return super().forward(input, hx)


class GRU(nn.GRU):
    """PyTorch's GRU, with its state in a tuple as that of an LSTM."""

    def forward(self, input: Tensor, hx: tuple[Tensor, ...] | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:  # type: ignore[override]
        """Read (N, T, D) from a state of one tensor (1, N, H): the states (N, T, H), and the last one."""
        states, last = super().forward(input, None if hx is None else hx[0])
        return states, (last,)


LAYERS: dict[str, type[LSTM] | type[GRU]] = {"lstm": LSTM, "gru": GRU}  # whole texts at once
CELLS: dict[str, type[LSTMCell] | type[GRUCell]] = {"lstm": LSTMCell, "gru": GRUCell}  # one step at a time


class Source(NamedTuple):
    """What attention reads, stored once for each of B sources."""

    keys: Tensor
    """(B, 1, S, A) states in the width of attention."""
    values: Tensor
    """(B, S, D) states."""
    bias: Tensor
    """(B, 1, S) added to the scores: 0 at a real token, the lowest number at padding."""

    def select(self, sources: Tensor) -> Source:
        """Return the sources with these numbers (B',)."""
        return Source(*(part[sources] for part in self))


def backward_order(mask: Tensor) -> Tensor:
    """Return the positions (B, S) of the tokens of mask (B, S), last first, then those of the padding on the right.

    Each row is its own inverse.
    """
    order = torch.arange(mask.size(1), device=mask.device)
    return torch.where(mask, mask.sum(dim=1, keepdim=True) - 1 - order, order)


class BidirectionalLayer(nn.Module):
    """Two recurrent layers that read the sentence from either end (Bahdanau et al., section 3.2).

    Each row is reversed within its own length, so padding comes last and no state has seen it. Unlike packing, this
    keeps the lengths on the GPU, and it takes three quarters of the time on a CPU.
    """

    def __init__(self, cell: str, d_input: int, d_hidden: int) -> None:
        super().__init__()
        self.ahead = LAYERS[cell](d_input, d_hidden, batch_first=True)
        self.back = LAYERS[cell](d_input, d_hidden, batch_first=True)

    def forward(self, x: Tensor, reverse: Tensor) -> Tensor:
        """Read x (B, S, D), with the positions in `reverse` (B, S) as `backward_order` gives them: (B, S, 2H)."""
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


def _reorder(x: Tensor, positions: Tensor) -> Tensor:
    """Take the positions (B, S) of each row of x (B, S, D)."""
    return x.gather(1, positions.unsqueeze(-1).expand_as(x))
