"""The Transformer encoder-decoder (Vaswani et al. 2017), with the choices that its named families need and no other.

For training from scratch: pre-norm (Xiong et al. 2020) and rotary or sinusoidal positions. T5 (Raffel et al. 2020):
RMS norm, relative bias, unscaled attention, free head width, gated feed-forward, scaled output. BART (Lewis et al.
2020): learned positions with an offset, embedding norm, post-norm. Marian (Junczys-Dowmunt et al. 2018): sinusoidal
positions, output bias, zero start; its small fast models: SSRU (Kim et al. 2019) in the decoder. QANet (Yu et al.
2018): convolutions in the encoder, for the neighbours of a token. Without encoder layers it is a language model (GPT,
Radford et al. 2019), without decoder layers an encoder (BERT, Devlin et al. 2019).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lmtasks.backbones.attention import Cache
from lmtasks.backbones.base import NO_DECODER, NO_ENCODER, NO_SOURCE, Backbone, BackboneConfig, Memory, State, per_layer
from lmtasks.backbones.layers import Stack
from lmtasks.errors import InputError


@dataclass(frozen=True, kw_only=True)  # the first number is not the width, as one may think
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
    """Layers of the encoder; 0 = a language model, which has only a decoder and continues a text."""
    decoder_layers: int = 3
    """Layers of the decoder; 0 = an encoder only, for tasks that read and do not write."""
    shared_layers: bool = False
    """One set of weights for all layers of the encoder, and one for those of the decoder (Dehghani et al. 2019)."""
    dropout: float = 0.1
    """Share of features dropped after the embedding and after each sublayer."""
    attention_dropout: float = 0.0
    """Share of attention weights dropped."""
    activation_dropout: float = 0.0
    """Share of inner feed-forward features dropped."""
    norm: Literal["layer", "rms"] = "layer"
    """LayerNorm, or RMSNorm (Zhang and Sennrich 2019)."""
    norm_eps: float | None = None
    """Added to the variance in a norm; by default 1e-5 for LayerNorm and 1e-6 for RMSNorm. BERT has 1e-12."""
    norm_position: Literal["pre", "post"] = "pre"
    """Norm before each sublayer, which trains more easily, or after it, as in the first Transformer."""
    positions: Literal["sinusoidal", "learned", "rotary", "relative"] = "sinusoidal"
    """How a token knows its position."""
    sinusoids: Literal["tensor2tensor", "paper"] = "tensor2tensor"
    """Frequencies of sinusoidal positions: tensor2tensor's, or those of the paper, as in Hugging Face's Marian."""
    max_length: int = 1024
    """Longest text in tokens, of source and target each; relative positions have no limit."""
    position_offset: int = 0
    """Rows skipped at the top of the table of learned or sinusoidal positions; BART and M2M100 skip 2."""
    relative_buckets: int = 32
    """Buckets of distance of the relative bias."""
    relative_distance: int = 128
    """Distance in tokens from which on all share the last bucket."""
    activation: Literal["relu", "gelu", "gelu_tanh", "silu"] = "relu"
    """Nonlinearity of the feed-forward layers and of convolutions; gelu_tanh is the approximation that T5 1.1 has."""
    gated: bool = False
    """Multiply the feed-forward activation by a second projection (Shazeer 2020)."""
    bias: bool = True
    """Give linear layers a bias."""
    tied_embeddings: bool = True
    """Use the embedding as output weight too (Press and Wolf 2017), as an encoder alone always does."""
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
    decoder_mixing: Literal["attention", "ssru"] = "attention"
    """How the decoder reads the text so far: self-attention, or an SSRU (Kim et al. 2019), whose steps cost less."""
    zero_start: bool = False
    """Read zeros in place of the embedding of the first target token, as Marian does; positions are still added."""
    convolution: int = 0
    """Tokens (an odd number) that the convolution of each encoder layer spans (QANet, section 2.2); 0 = none."""
    segments: int = 0
    """Rows of the table that tells a source's first text from its second (BERT, section 3); 0 = no table."""
    separator: int = 0
    """Id of the token that ends each text of a source, where there is a table of segments."""
    embedding_rows: int = 0
    """Least rows of the embedding: pretrained models often have more of them than their tokenizer has tokens."""

    @property
    def compiles(self) -> bool:
        """Whether torch.compile makes it faster; time is unrolled in an SSRU, so each length is compiled anew."""
        return self.decoder_mixing != "ssru"

    @property
    def max_positions(self) -> int | None:
        """Longest source and target in tokens; None = any."""
        return None if self.positions == "relative" else self.max_length

    @property
    def overflows_in_float16(self) -> bool:
        """Whether it is a T5, whose trained feed-forward layers exceed the largest number of float16, 65,504."""
        return self.positions == "relative" and not self.scaled_attention

    @property
    def head_width(self) -> int:
        """Width of a head: d_head, by default d_model / n_heads."""
        return self.d_head or self.d_model // self.n_heads

    @property
    def attention_scale(self) -> float:
        """Factor of the attention scores."""
        return self.head_width**-0.5 if self.scaled_attention else 1.0

    def build(self, vocab_size: int) -> Transformer:
        """Return a Transformer with fresh random weights.

        Raises: InputError if the sizes do not fit together.
        """
        self._check_layers()
        if self.d_head is None and self.d_model % self.n_heads:
            sizes = f"d_model {self.d_model} is not a multiple of n_heads {self.n_heads}"
            raise InputError(f"{sizes}; change one or set d_head")
        if self.convolution < 0 or (self.convolution and self.convolution % 2 == 0):
            raise InputError(f"convolution {self.convolution}; give an odd number of tokens, or 0 for none")
        if self.convolution and not self.encoder_layers:
            raise InputError(f"convolution {self.convolution} reads a source; it needs encoder layers")
        if self.decoder_mixing == "ssru" and not self.decoder_layers:
            raise InputError("decoder_mixing ssru, but decoder_layers 0; give decoder layers, or leave it at attention")
        if self.positions == "rotary" and self.head_width % 2:
            raise InputError(
                f"rotary positions turn pairs of features, but a head is {self.head_width} wide; make it even"
            )
        if self.positions == "relative" and not 4 <= self.relative_buckets < 2 * self.relative_distance:
            sizes = f"relative_buckets {self.relative_buckets}, relative_distance {self.relative_distance}"
            raise InputError(f"{sizes}; give at least 4 buckets, and a distance above half of them")
        return Transformer(self, max(vocab_size, self.embedding_rows))


class TransformerState(State):
    """The cache of every decoder layer for each hypothesis; keys and values of the memory, once per source."""

    def __init__(self, memory: list[tuple[Tensor, ...]], mask: Tensor | None, layers: int, beam: int = 1) -> None:
        self.memory = memory  # keys and values of each layer, (B, H, S, D/H); empty in a language model
        self.mask = mask  # (B, 1, 1, S)
        self.caches = [Cache() for _ in range(layers)]
        self.beam = beam  # hypotheses per source: before the first token no tensor shows it

    def select(self, rows: Tensor) -> None:
        """Keep and reorder hypotheses; a memory that loses no source stays as it is."""
        sources = rows[:, 0] // self.beam  # (B',)
        self.beam = rows.size(1)
        for cache in self.caches:
            cache.select(rows.flatten())
        if self.mask is not None and len(sources) < len(self.mask):
            self.mask = self.mask[sources]
            self.memory = [(keys[sources], values[sources]) for keys, values in self.memory]

    def flatten(self) -> tuple[Tensor, ...]:
        """Return the mask and the memory of each layer, if there is a memory, then the cache of each layer."""
        memory = () if self.mask is None else (self.mask, *(part for layer in self.memory for part in layer))
        return (*memory, *(part for cache in self.caches for part in cache.parts))

    def restored(self, tensors: tuple[Tensor, ...]) -> TransformerState:
        """Return a state with these tensors; after the first token their sizes tell the hypotheses per source."""
        mask, end = (None, 0) if self.mask is None else (tensors[0], 1 + 2 * len(self.memory))
        beam = self.beam if mask is None or len(tensors) == end else len(tensors[end]) // len(mask)
        state = TransformerState(per_layer(tensors[1:end], 2), mask, len(self.caches), beam)
        for cache, parts in zip(state.caches, per_layer(tensors[end:], 2), strict=False):  # no parts before a token
            cache.parts = parts
        return state


class Transformer(Backbone):
    """Transformer encoder and decoder over one embedding."""

    def __init__(self, config: TransformerConfig, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.d_model = config.d_model
        self.max_length = config.max_positions
        self.embedding = nn.Embedding(vocab_size, config.d_model)
        self.segments = nn.Embedding(config.segments, config.d_model) if config.segments else None
        self.encoder = Stack(config, config.encoder_layers, causal=False) if config.has_encoder else None
        self.decoder = Stack(config, config.decoder_layers, causal=True) if config.has_decoder else None
        if config.has_decoder and not config.tied_embeddings:
            self.output_weight = nn.Parameter(torch.empty(vocab_size, config.d_model))
        if config.has_decoder and config.output_bias:
            self.output_bias = nn.Parameter(torch.zeros(vocab_size))
        # Embeddings N(0, 1/d), linear layers Xavier uniform, biases 0, as in tensor2tensor and fairseq.
        # Convolutions stay as PyTorch draws them.
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=self.d_model**-0.5)
        if self.output_weight is not None:
            nn.init.normal_(self.output_weight, std=self.d_model**-0.5)

    def encode(self, source: Tensor, mask: Tensor) -> Memory:
        """Read source ids (B, S) with mask (B, S), True = a real token."""
        if self.encoder is None:
            raise InputError(NO_ENCODER)
        x = self._embed(source)  # (B, S, D)
        if self.segments is not None:
            x = x + self.segments(segments_of(source, self.config))
        return Memory(self.encoder(x, mask[:, None, None, :]), mask)

    def decode(self, target: Tensor, memory: Memory | None) -> Tensor:
        """Read the whole target (B, T), each position seeing itself and those before it: (B, T, D)."""
        return self._decode(target, self.init_state(memory), [])

    def init_state(self, memory: Memory | None) -> TransformerState:
        """Return the state before the first token; the memory is projected to keys and values once."""
        if self.decoder is None:
            raise InputError(NO_DECODER)
        if (memory is None) != (self.encoder is None):
            raise InputError(NO_SOURCE if memory is None else NO_ENCODER)
        if memory is None:
            return TransformerState([], None, self.config.decoder_layers)
        layers: list[Any] = list(self.decoder.layers)
        projected = [layer.cross_attention.project(memory.states) for layer in layers] * self.decoder.repeats
        return TransformerState(projected, memory.mask[:, None, None, :], self.config.decoder_layers)

    def step(self, target: Tensor, state: State) -> Tensor:
        """Append the tokens (N, T) to the hypotheses of `state`, in place: (N, T, D)."""
        assert isinstance(state, TransformerState)
        return self._decode(target, state, state.caches)

    def alignment(self, target: Tensor, memory: Memory) -> Tensor:
        """Return the cross-attention of the layer before the last, mean over heads: (B, T, S).

        Source: Garg et al. 2019, "Jointly Learning to Align and Translate", section 4.1: that layer aligns best.
        """
        state = self.init_state(memory)
        if self.decoder is None or state.mask is None:
            raise InputError(NO_ENCODER)
        chosen = max(0, len(state.memory) - 2)
        x = self.decoder.prepare(self._embed_target(target, 0), 0)  # (B, T, D)
        bias = self.decoder.bias(target.size(1), target.size(1))
        layers = self.decoder.walk()
        for layer, read in zip(layers[:chosen], state.memory, strict=False):
            x = layer(x, bias, (*read, state.mask), None, None)
        return layers[chosen].alignment(x, bias, state.memory[chosen][0], state.mask).mean(1)

    def stacks(self) -> list[list[list[nn.Parameter]]]:
        """Return the parameters of encoder and decoder by layers; norm and output above the last layer are in none."""
        tables = [table for table in (self.embedding, self.segments) if table is not None]
        embeddings = [parameter for table in tables for parameter in table.parameters()]
        stacks = [stack.by_layer() for stack in (self.encoder, self.decoder) if stack is not None]
        return [[[*embeddings, *below], *layers] for below, *layers in stacks]

    def _embed(self, ids: Tensor) -> Tensor:
        scale = math.sqrt(self.d_model) if self.config.scaled_embeddings else 1.0
        return self.embedding(ids) * scale

    def _embed_target(self, ids: Tensor, first: int) -> Tensor:
        x = self._embed(ids)  # (N, T, D)
        if self.config.zero_start and (torch.compiler.is_exporting() or first == 0):
            x = x * (torch.arange(first, first + ids.size(1), device=ids.device) > 0).unsqueeze(1)
        return x

    def _decode(self, target: Tensor, state: TransformerState, caches: list[Cache]) -> Tensor:
        """Training fills no caches: gradient checkpointing runs a layer twice, which would append to them twice."""
        assert self.decoder is not None
        memory = [] if state.mask is None else [(*layer, state.mask) for layer in state.memory]
        x = self._embed_target(target, caches[0].length if caches else 0)
        hidden = self.decoder(x, None, memory, caches)
        return hidden * self.d_model**-0.5 if self.config.scaled_output else hidden


def segments_of(source: Tensor, config: TransformerConfig) -> Tensor:
    """Return the segment of each token of sources (..., S): how many texts end before it, as far as there are rows."""
    ends = source == config.separator
    return (ends.cumsum(-1) - ends.long()).clamp(max=config.segments - 1)  # (..., S)
