"""The layers of the Transformer (Vaswani et al. 2017, section 3.1), alone and in stacks.

Norm before or after a sublayer: Xiong et al. 2020. RMS norm: Zhang and Sennrich 2019. Gated feed-forward: Shazeer 2020.
Convolution in the encoder: Yu et al. 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lmtasks.backbones.attention import Cache, CrossAttention, RelativeBias, Rotary, SelfAttention, sinusoids
from lmtasks.backbones.dropout import Dropout
from lmtasks.backbones.ssru import SSRU
from lmtasks.errors import InputError

if TYPE_CHECKING:
    from lmtasks.backbones.transformer import TransformerConfig

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
}


class FeedForward(nn.Module):
    """Two linear layers with a nonlinearity between them, applied to each position alone."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.inner = nn.Linear(config.d_model, config.d_ff, bias=config.bias)
        self.gate = nn.Linear(config.d_model, config.d_ff, bias=config.bias) if config.gated else None
        self.outer = nn.Linear(config.d_ff, config.d_model, bias=config.bias)
        self.dropout = Dropout(config.activation_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Run (B, T, D) -> (B, T, D)."""
        inner = self.activation(self.inner(x))  # (B, T, d_ff)
        if self.gate is not None:
            inner = inner * self.gate(x)
        return self.outer(self.dropout(inner))


class Convolution(nn.Module):
    """Depthwise separable convolution: each feature over neighbouring tokens, then all features of one token.

    The nonlinearity stands between the two and not behind them, so that the residual can grow and shrink.
    Source: Yu et al. 2018, section 2.2.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width, features = config.convolution, config.d_model
        self.along = nn.Conv1d(features, features, width, padding=width // 2, groups=features, bias=config.bias)
        self.across = nn.Linear(features, features, bias=config.bias)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        """Read x (B, T, D), in which `keep` (B, T, 1) is True at real tokens: (B, T, D)."""
        along = self.along((x * keep).transpose(1, 2)).transpose(1, 2)  # (B, T, D)
        return self.across(self.activation(along))


class Layer(nn.Module):
    """Convolution (some encoders), self-attention or SSRU, cross-attention (a decoder with an encoder), feed-forward.

    Each has its residual and norm.
    """

    def __init__(self, config: TransformerConfig, causal: bool, rotary: Rotary | None) -> None:
        super().__init__()
        self.pre_norm = config.norm_position == "pre"
        self.dropout = Dropout(config.dropout)
        convolves, reads_memory = not causal and config.convolution > 0, causal and config.has_encoder
        self.convolution = Convolution(config) if convolves else None
        self.convolution_norm = _norm(config) if convolves else None
        recurs = causal and config.decoder_mixing == "ssru"
        self.self_attention = SSRU(config) if recurs else SelfAttention(config, causal, rotary)
        self.self_attention_norm = _norm(config)
        self.cross_attention = CrossAttention(config) if reads_memory else None
        self.cross_attention_norm = _norm(config) if reads_memory else None
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = _norm(config)

    def forward(
        self, x: Tensor, mask: Tensor | None, memory: tuple[Tensor, ...], cache: Cache | None, keep: Tensor | None
    ) -> Tensor:
        """Run (B, T, D) -> (B, T, D).

        `memory` is empty, or keys, values and mask; `keep` (B, T, 1) is True for the tokens that a convolution reads.
        """
        if self.convolution is not None:
            x = self._residual(x, self.convolution_norm, self.convolution, keep)
        x = self._residual(x, self.self_attention_norm, self.self_attention, mask, cache)
        if self.cross_attention is not None:
            x = self._residual(x, self.cross_attention_norm, self.cross_attention, *memory)
        return self._residual(x, self.feed_forward_norm, self.feed_forward)

    def alignment(self, x: Tensor, mask: Tensor | None, keys: Tensor, memory_mask: Tensor) -> Tensor:
        """Return the weights of this layer's cross-attention: (B, H, T, S)."""
        assert self.cross_attention is not None
        assert self.cross_attention_norm is not None
        x = self._residual(x, self.self_attention_norm, self.self_attention, mask)
        return self.cross_attention.weights(self.cross_attention_norm(x) if self.pre_norm else x, keys, memory_mask)

    def _residual(self, x: Tensor, norm: nn.Module | None, sublayer: nn.Module, *arguments: Any) -> Tensor:
        assert norm is not None, "a sublayer and its norm exist together"
        if self.pre_norm:
            return x + self.dropout(sublayer(norm(x), *arguments))
        return norm(x + self.dropout(sublayer(x, *arguments)))


class Stack(nn.Module):
    """The layers of an encoder or of a decoder, with the positions before the first and the norm after the last."""

    no_decay = ("places",)  # a table of positions, not a matrix between layers
    places: Tensor | None

    def __init__(self, config: TransformerConfig, layers: int, causal: bool) -> None:
        super().__init__()
        self.config = config
        rotary = Rotary(config.head_width, config.max_length) if config.positions == "rotary" else None
        self.repeats = layers if config.shared_layers else 1  # how often a text passes all of `layers`
        self.layers = nn.ModuleList(Layer(config, causal, rotary) for _ in range(layers // self.repeats))
        self.embedding_norm = _norm(config) if config.embedding_norm else None
        self.final_norm = _norm(config) if config.norm_position == "pre" else None
        self.dropout = Dropout(config.dropout)
        attends = not (causal and config.decoder_mixing == "ssru")
        self.relative = RelativeBias(config, not causal) if config.positions == "relative" and attends else None
        rows = config.max_length + config.position_offset
        if config.positions == "learned":
            # small sinusoids in place of noise: neighbours resemble each other from the start
            learned = sinusoids(rows, config.d_model).mul_(0.1)
            self.places = nn.Parameter(learned.to(torch.get_default_dtype()))
        else:
            fixed = config.positions == "sinusoidal"
            table = sinusoids(rows, config.d_model, config.sinusoids) if fixed else None
            self.register_buffer("places", table, persistent=False)

    def forward(
        self, x: Tensor, mask: Tensor | None, memory: Sequence[tuple[Tensor, ...]] = (), caches: Sequence[Cache] = ()
    ) -> Tensor:
        """Run x (B, T, D) through all layers; mask is (B, 1, 1, T), True for real tokens."""
        first = caches[0].length if caches else 0
        keep = None if mask is None else mask[:, 0, 0, :, None]  # (B, T, 1)
        bias = self.bias(x.size(1), first + x.size(1))
        if bias is not None:
            mask = bias if mask is None else bias.masked_fill(~mask, -torch.inf)
        x = self.prepare(x, first)
        for i, layer in enumerate(self.walk()):
            arguments = (x, mask, memory[i] if memory else (), caches[i] if caches else None, keep)
            again = self.config.gradient_checkpointing and self.training
            x = checkpoint(layer, *arguments, use_reentrant=False) if again else layer(*arguments)
        return x if self.final_norm is None else self.final_norm(x)

    def walk(self) -> list[Layer]:
        """Return the layers in the order in which a text passes them; shared ones are repeated."""
        layers: list[Any] = list(self.layers)
        return layers * self.repeats

    def by_layer(self) -> list[list[nn.Parameter]]:
        """Return the parameters below the first layer, then those of each layer."""
        layers = [list(layer.parameters()) for layer in self.layers]
        above = [] if self.final_norm is None else list(self.final_norm.parameters())
        others = {id(parameter) for own in (*layers, above) for parameter in own}
        return [[parameter for parameter in self.parameters() if id(parameter) not in others], *layers]

    def prepare(self, x: Tensor, first: int) -> Tensor:
        """Add positions to embeddings (B, T, D) that start at position `first`, then norm and dropout.

        Raises: InputError if the text is longer than max_length.
        """
        last, limit = first + x.size(1), self.config.max_positions
        if limit is not None and not torch.compiler.is_exporting() and last > limit:
            raise InputError(
                f"a text of {last} tokens, but the backbone's max_length is {limit}; raise it or cut the text"
            )
        if self.places is not None:
            offset = self.config.position_offset
            x = (x + self.places[first + offset : last + offset]).to(x.dtype)
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        return self.dropout(x)

    def bias(self, queries: int, keys: int) -> Tensor | None:
        """Return the relative bias (1, H, queries, keys), or None with another kind of positions."""
        return None if self.relative is None else self.relative(queries, keys)


def _norm(config: TransformerConfig) -> nn.Module:
    if config.norm == "layer":
        return nn.LayerNorm(config.d_model, eps=config.norm_eps or 1e-5)
    return nn.RMSNorm(config.d_model, eps=config.norm_eps or 1e-6)
