"""The Transformer encoder-decoder (Vaswani et al. 2017), with the choices that its named families need and no other.

Training from scratch takes pre-norm (Xiong et al. 2020) and rotary or sinusoidal positions. T5 (Raffel et al. 2020):
RMS norm, relative bias, unscaled attention, free head width, gated feed-forward, scaled output. BART (Lewis et al.
2020): learned positions with an offset, embedding norm, post-norm. Marian (Junczys-Dowmunt et al. 2018): sinusoidal
positions, output bias. Zero encoder layers make a decoder-only language model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lmtasks.backbones.attention import Cache, CrossAttention, RelativeBias, Rotary, SelfAttention, sinusoids
from lmtasks.backbones.base import Backbone, BackboneConfig, Memory, State
from lmtasks.backbones.dropout import Dropout
from lmtasks.errors import InputError

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu}


@dataclass(frozen=True)
class TransformerConfig(BackboneConfig):
    """Sizes and choices of a Transformer.

    Example:
        >>> backbone = TransformerConfig(d_model=16, n_heads=2, d_ff=32).build(vocab_size=10)
        >>> source = torch.tensor([[5, 6, 2]])
        >>> memory = backbone.encode(source, source > 0)
        >>> backbone.logits(backbone.decode(torch.tensor([[1, 7]]), memory)).shape
        torch.Size([1, 2, 10])
    """

    d_model: int = 256
    """Width of the states."""
    n_heads: int = 4
    """Attention heads."""
    d_head: int | None = None
    """Width of a head; d_model / n_heads when not given."""
    d_ff: int = 1024
    """Inner width of the feed-forward layers."""
    encoder_layers: int = 3
    """Layers of the encoder; 0 = a decoder-only language model."""
    decoder_layers: int = 3
    """Layers of the decoder."""
    dropout: float = 0.1
    """Share of features dropped after the embedding and after each sublayer."""
    attention_dropout: float = 0.0
    """Share of attention weights dropped."""
    activation_dropout: float = 0.0
    """Share of inner feed-forward features dropped."""
    norm: Literal["layer", "rms"] = "layer"
    """LayerNorm, or RMSNorm (Zhang and Sennrich 2019)."""
    norm_position: Literal["pre", "post"] = "pre"
    """Norm before each sublayer, which trains without care, or after it, as in the first Transformer."""
    positions: Literal["sinusoidal", "learned", "rotary", "relative"] = "sinusoidal"
    """How a token knows its place."""
    max_length: int = 1024
    """Longest text in tokens, of source and target each; relative positions have no limit."""
    position_offset: int = 0
    """Rows skipped at the top of the learned position table; BART skips 2."""
    relative_buckets: int = 32
    """Buckets of distance of the relative bias."""
    relative_distance: int = 128
    """Distance in tokens from which on all share the last bucket."""
    activation: Literal["relu", "gelu", "silu"] = "relu"
    """Nonlinearity of the feed-forward layers."""
    gated: bool = False
    """Multiply the feed-forward activation by a second projection (Shazeer 2020)."""
    bias: bool = True
    """Give linear layers a bias."""
    tied_embeddings: bool = True
    """Use the embedding as output weight too (Press and Wolf 2017)."""
    output_bias: bool = False
    """Add a bias to the logits."""
    scaled_embeddings: bool = True
    """Multiply embeddings by the square root of d_model."""
    scaled_attention: bool = True
    """Divide attention scores by the square root of the head width; T5 does not."""
    scaled_output: bool = False
    """Divide the last hidden state by the square root of d_model before a tied output, as T5 does."""
    embedding_norm: bool = False
    """Normalise embeddings before the first layer, as BART does."""
    gradient_checkpointing: bool = False
    """Compute layers again in the backward pass: less memory, about a third more time."""

    def build(self, vocab_size: int) -> Transformer:
        """Return a Transformer with fresh random weights."""
        if self.d_head is None and self.d_model % self.n_heads:
            raise InputError(
                f"d_model {self.d_model} is not a multiple of n_heads {self.n_heads}; change one or set d_head"
            )
        d_head = self.d_head or self.d_model // self.n_heads
        if self.positions == "rotary" and d_head % 2:
            raise InputError(f"rotary positions turn pairs of features, but a head is {d_head} wide; make it even")
        return Transformer(self, vocab_size)


class TransformerState(State):
    """Cached keys and values of every decoder layer: of the hypotheses, and of the memory once a source."""

    def __init__(self, memory: list[tuple[Tensor, Tensor]], mask: Tensor | None, layers: int) -> None:
        self.memory = memory  # a layer: keys and values, (B, H, S, D/H) each
        self.mask = mask  # (B, 1, 1, S)
        self.caches = [Cache() for _ in range(layers)]
        self.beam = 1
        self.length = 0

    def select(self, rows: Tensor) -> None:
        sources = rows[:, 0] // self.beam  # (B',)
        self.beam = rows.size(1)
        flat = rows.flatten()
        for cache in self.caches:
            cache.select(flat)
        if self.mask is not None and len(sources) < len(self.mask):
            self.mask = self.mask[sources]
            self.memory = [(keys[sources], values[sources]) for keys, values in self.memory]


class Transformer(Backbone):
    """Transformer encoder and decoder over one embedding."""

    def __init__(self, config: TransformerConfig, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.d_model = config.d_model
        self.max_length = None if config.positions == "relative" else config.max_length
        self.embedding = nn.Embedding(vocab_size, config.d_model)
        self.encoder = Stack(config, config.encoder_layers, causal=False) if config.encoder_layers else None
        self.decoder = Stack(config, config.decoder_layers, causal=True)
        self.output_weight = None if config.tied_embeddings else nn.Parameter(torch.empty(vocab_size, config.d_model))
        self.output_bias = nn.Parameter(torch.zeros(vocab_size)) if config.output_bias else None
        self._initialise()

    def encode(self, source: Tensor, mask: Tensor) -> Memory:
        if self.encoder is None:
            raise InputError(
                "this backbone has no encoder (encoder_layers = 0); give it some, or train a language model"
            )
        return Memory(self.encoder(self._embed(source), mask[:, None, None, :]), mask)

    def decode(self, target: Tensor, memory: Memory | None) -> Tensor:
        return self._decode(target, self._project(memory), _attention_mask(memory), None)

    def start(self, memory: Memory | None) -> TransformerState:
        return TransformerState(self._project(memory), _attention_mask(memory), self.config.decoder_layers)

    def step(self, target: Tensor, state: State) -> Tensor:
        assert isinstance(state, TransformerState)
        hidden = self._decode(target, state.memory, state.mask, state)
        state.length += target.size(1)
        return hidden

    def output(self) -> tuple[Tensor, Tensor | None]:
        return self.embedding.weight if self.output_weight is None else self.output_weight, self.output_bias

    def alignment(self, target: Tensor, memory: Memory) -> Tensor:
        """Return the cross-attention of the layer before the last, mean over heads.

        Source: Garg et al. 2019, "Jointly Learning to Align and Translate", section 4.1: that layer aligns best.
        """
        projected, mask = self._project(memory), _attention_mask(memory)
        assert mask is not None
        chosen = max(0, len(projected) - 2)
        x = self.decoder.prepare(self._embed(target), 0)  # (B, T, D)
        bias = self.decoder.bias(target.size(1), target.size(1))
        layers: list[Layer] = list(self.decoder.layers)  # type: ignore[arg-type]
        for layer, read in zip(layers[:chosen], projected, strict=False):
            x = layer(x, bias, True, read, mask)
        return layers[chosen].alignment(x, bias, projected[chosen][0], mask).mean(1)  # (B, T, S)

    def _embed(self, ids: Tensor) -> Tensor:
        scale = math.sqrt(self.d_model) if self.config.scaled_embeddings else 1.0
        return self.embedding(ids) * scale

    def _project(self, memory: Memory | None) -> list[tuple[Tensor, Tensor]]:
        layers: list[Any] = list(self.decoder.layers)
        return [] if memory is None else [layer.cross_attention.project(memory.states) for layer in layers]

    def _decode(
        self, target: Tensor, memory: list[tuple[Tensor, Tensor]], mask: Tensor | None, state: TransformerState | None
    ) -> Tensor:
        hidden = self.decoder(self._embed(target), None, memory, mask, state)
        return hidden * self.d_model**-0.5 if self.config.scaled_output else hidden

    def _initialise(self) -> None:
        """Embeddings N(0, 1/d), linear layers Xavier uniform, biases 0 (Vaswani et al.'s tensor2tensor and fairseq)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=self.d_model**-0.5)
        if self.output_weight is not None:
            nn.init.normal_(self.output_weight, std=self.d_model**-0.5)


class Stack(nn.Module):
    """The layers of an encoder or of a decoder, with what stands before the first and after the last."""

    def __init__(self, config: TransformerConfig, layers: int, causal: bool) -> None:
        super().__init__()
        self.config, self.causal = config, causal
        d_head = config.d_head or config.d_model // config.n_heads
        rotary = Rotary(d_head, config.max_length) if config.positions == "rotary" else None
        reads_memory = causal and config.encoder_layers > 0
        self.layers = nn.ModuleList(Layer(config, d_head, rotary, reads_memory) for _ in range(layers))
        self.embedding_norm = _norm(config) if config.embedding_norm else None
        self.final_norm = _norm(config) if config.norm_position == "pre" else None
        self.dropout = Dropout(config.dropout)
        self.relative = None
        if config.positions == "relative":
            self.relative = RelativeBias(config.n_heads, config.relative_buckets, config.relative_distance, not causal)
        if config.positions == "learned":
            self.register_parameter(
                "places", nn.Parameter(sinusoids(config.max_length + config.position_offset, config.d_model) * 0.1)
            )
        elif config.positions == "sinusoidal":
            self.register_buffer("places", sinusoids(config.max_length, config.d_model), persistent=False)
        else:
            self.places = None

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        memory: list[tuple[Tensor, Tensor]] | None = None,
        memory_mask: Tensor | None = None,
        state: TransformerState | None = None,
    ) -> Tensor:
        """Run x (B, T, D) through all layers."""
        first = 0 if state is None else state.length
        bias = self.bias(x.size(1), first + x.size(1))
        if bias is not None:
            mask = bias if mask is None else bias.masked_fill(~mask, -torch.inf)
        x = self.prepare(x, first)
        for i, layer in enumerate(self.layers):
            read = memory[i] if memory else None
            cache = None if state is None else state.caches[i]
            if self.config.gradient_checkpointing and self.training:
                x = checkpoint(layer, x, mask, self.causal, read, memory_mask, cache, use_reentrant=False)
            else:
                x = layer(x, mask, self.causal, read, memory_mask, cache)
        return x if self.final_norm is None else self.final_norm(x)

    def prepare(self, x: Tensor, first: int) -> Tensor:
        """Add positions to embeddings (B, T, D) that start at position `first`, norm and drop."""
        last = first + x.size(1)
        if self.relative is None and last > self.config.max_length:
            raise InputError(
                f"a text of {last} tokens, but the backbone's max_length is {self.config.max_length}; "
                "raise it or cut the text"
            )
        if self.places is not None:
            offset = self.config.position_offset
            x = x + self.places[first + offset : last + offset]
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        return self.dropout(x)

    def bias(self, queries: int, keys: int) -> Tensor | None:
        """Return the relative bias (1, H, queries, keys), or None where positions are told otherwise."""
        return None if self.relative is None else self.relative(queries, keys)


class Layer(nn.Module):
    """Self-attention, cross-attention in a decoder that has an encoder, feed-forward; each with its residual and
    norm."""

    def __init__(self, config: TransformerConfig, d_head: int, rotary: Rotary | None, reads_memory: bool) -> None:
        super().__init__()
        sizes = (config.d_model, config.n_heads, d_head, config.attention_dropout, config.bias)
        scale = d_head**-0.5 if config.scaled_attention else 1.0
        self.pre_norm = config.norm_position == "pre"
        self.dropout = Dropout(config.dropout)
        self.self_attention = SelfAttention(*sizes, scale, rotary)
        self.self_attention_norm = _norm(config)
        self.cross_attention = CrossAttention(*sizes, scale) if reads_memory else None
        self.cross_attention_norm = _norm(config) if reads_memory else None
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = _norm(config)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        causal: bool,
        memory: tuple[Tensor, Tensor] | None = None,
        memory_mask: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x = self._residual(x, self.self_attention_norm, self.self_attention, mask, causal, cache)
        if memory is not None:
            assert self.cross_attention is not None
            assert self.cross_attention_norm is not None
            x = self._residual(x, self.cross_attention_norm, self.cross_attention, *memory, memory_mask)
        return self._residual(x, self.feed_forward_norm, self.feed_forward)

    def alignment(self, x: Tensor, mask: Tensor | None, keys: Tensor, memory_mask: Tensor) -> Tensor:
        """Return what this layer's cross-attention reads of the memory: (B, H, T, S)."""
        assert self.cross_attention is not None
        assert self.cross_attention_norm is not None
        x = self._residual(x, self.self_attention_norm, self.self_attention, mask, True, None)
        return self.cross_attention.weights(self.cross_attention_norm(x) if self.pre_norm else x, keys, memory_mask)

    def _residual(self, x: Tensor, norm: nn.Module, sublayer: nn.Module, *arguments: Any) -> Tensor:
        if self.pre_norm:
            return x + self.dropout(sublayer(norm(x), *arguments))
        return norm(x + self.dropout(sublayer(x, *arguments)))


class FeedForward(nn.Module):
    """Two linear layers with a nonlinearity between, at each position alone."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.inner = nn.Linear(config.d_model, config.d_ff, bias=config.bias)
        self.gate = nn.Linear(config.d_model, config.d_ff, bias=config.bias) if config.gated else None
        self.outer = nn.Linear(config.d_ff, config.d_model, bias=config.bias)
        self.dropout = Dropout(config.activation_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        inner = self.activation(self.inner(x))  # (B, T, d_ff)
        if self.gate is not None:
            inner = inner * self.gate(x)
        return self.outer(self.dropout(inner))


def _norm(config: TransformerConfig) -> nn.Module:
    return nn.LayerNorm(config.d_model) if config.norm == "layer" else nn.RMSNorm(config.d_model, eps=1e-6)


def _attention_mask(memory: Memory | None) -> Tensor | None:
    return None if memory is None else memory.mask[:, None, None, :]
