"""Multi-head attention (Vaswani et al. 2017, section 3.2.2), and the ways to tell positions apart.

Self-attention appends to a cache when it is given one. In cross-attention the K hypotheses of one source read a
memory that is stored once. Rotary: Su et al. 2021, section 3.4.2; relative bias: Raffel et al. 2020, section 2.1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from lmtasks.backbones.transformer import TransformerConfig


class Cache:
    """What one self-attention, or the SSRU in its place, has seen."""

    def __init__(self) -> None:
        # keys and values, (N, H, t, D/H) each; SSRU: (N, 1, t, 0) and the cell (N, D); empty before the first token
        self.parts: tuple[Tensor, ...] = ()

    @property
    def length(self) -> int:
        """t, the tokens seen."""
        return self.parts[0].size(2) if self.parts else 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, ...]:
        """Add (N, H, T, D/H) at the end and return all keys and values."""
        new = (keys, values)
        self.parts = tuple(torch.cat(pair, dim=2) for pair in zip(self.parts, new, strict=True)) if self.parts else new
        return self.parts

    def select(self, rows: Tensor) -> None:
        """Keep the rows (N',) in this order."""
        self.parts = tuple(part[rows] for part in self.parts)


def sinusoids(length: int, width: int, convention: str = "tensor2tensor") -> Tensor:
    """Return sines in the left half and cosines in the right, (length, width).

    The frequencies are those of tensor2tensor, 10000^(-i / (half - 1)), or of the "paper" (Vaswani et al. 2017,
    section 3.5), 10000^(-2i / width), which Hugging Face's port of Marian has.
    """
    if torch.get_default_device().type == "meta":  # a draft has shapes alone
        return torch.empty(length, width)
    half = width // 2
    steps = max(1, half - 1) if convention == "tensor2tensor" else width / 2
    # float32 even where a model is built in bfloat16, which cannot tell position 257 from 256
    frequencies = 10_000 ** (-torch.arange(half, dtype=torch.float32) / steps)
    angles = torch.arange(length, dtype=torch.float32)[:, None] * frequencies[None, :]
    return F.pad(torch.cat((angles.sin(), angles.cos()), dim=1), (0, width % 2))


class Rotary(nn.Module):
    """Turns pairs of query and key features by an angle that grows with the position."""

    cosine: Tensor
    sine: Tensor

    def __init__(self, d_head: int, max_length: int) -> None:
        super().__init__()
        halves = (
            sinusoids(max_length, d_head, "paper").unflatten(1, (2, 1, -1)).transpose(0, 1)
        )  # (2, T, 1, d_head / 2)
        # features i and i + d_head / 2 form a pair, as in GPT-NeoX; both need the same angle
        sine, cosine = halves.expand(-1, -1, 2, -1).flatten(2)  # (max_length, d_head) each
        self.register_buffer("cosine", cosine, persistent=False)
        self.register_buffer("sine", sine, persistent=False)

    def forward(self, x: Tensor, first: int) -> Tensor:
        """Turn x (B, H, T, d_head), whose first row has position `first`."""
        last = first + x.size(2)
        left, right = x.chunk(2, dim=-1)
        turned = torch.cat((-right, left), dim=-1)
        return (x * self.cosine[first:last] + turned * self.sine[first:last]).to(x.dtype)


class RelativeBias(nn.Module):
    """One learned number per head and bucket of distance, added to the attention scores.

    Near distances have a bucket each. Far ones share buckets that widen logarithmically up to relative_distance.
    """

    def __init__(self, config: TransformerConfig, bidirectional: bool) -> None:
        super().__init__()
        self.config, self.bidirectional = config, bidirectional
        self.bias = nn.Embedding(config.relative_buckets, config.n_heads)

    def forward(self, queries: int, keys: int) -> Tensor:
        """Return the bias of the last `queries` of `keys` positions: (1, H, queries, keys)."""
        positions = torch.arange(keys, device=self.bias.weight.device)
        distance = positions[None, :] - positions[keys - queries :, None]  # (queries, keys), key minus query
        buckets, first = self.config.relative_buckets, torch.zeros_like(distance)
        if self.bidirectional:  # half of the buckets for each direction
            buckets //= 2
            first = (distance > 0) * buckets
            distance = distance.abs()
        else:
            distance = (-distance).clamp(min=0)
        exact = buckets // 2
        ratio = torch.log(distance.clamp(min=1).float() / exact) / math.log(self.config.relative_distance / exact)
        far = (exact + (ratio * (buckets - exact)).long()).clamp(max=buckets - 1)
        bucket = first + torch.where(distance < exact, distance, far)
        return self.bias(bucket).permute(2, 0, 1)[None]


class SelfAttention(nn.Module):
    """Each position of a text reads the others; with `causal`, only those before it and itself."""

    parts: ClassVar = {"query_key_value": 3}  # what a layer computes at once

    def __init__(self, config: TransformerConfig, causal: bool, rotary: Rotary | None) -> None:
        super().__init__()
        self.config, self.causal, self.rotary = config, causal, rotary
        width = config.n_heads * config.head_width
        self.query_key_value = nn.Linear(config.d_model, 3 * width, bias=config.bias)
        self.output = nn.Linear(width, config.d_model, bias=config.bias)

    def forward(self, x: Tensor, mask: Tensor | None, cache: Cache | None = None) -> Tensor:
        """Mix x (B, T, D) under a mask that broadcasts to (B, H, T, t): bool, True = read, or a float to add."""
        query, key, value = split_heads(self.query_key_value(x), 3, self.config.head_width)  # (B, H, T, D/H) each
        if self.rotary is not None:
            first = 0 if cache is None else cache.length
            query, key = self.rotary(query, first), self.rotary(key, first)
        if cache is not None:
            key, value = cache.append(key, value)
        dropout = self.config.attention_dropout if self.training else 0.0
        mixed = attend(query, key, value, mask, self.causal, dropout, self.config.attention_scale)
        return self.output(mixed.transpose(1, 2).reshape(*x.shape[:2], -1))  # (B, T, D)


class CrossAttention(nn.Module):
    """Each position of the target reads the memory."""

    parts: ClassVar = {"key_value": 2}

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.n_heads * config.head_width
        self.query = nn.Linear(config.d_model, width, bias=config.bias)
        self.key_value = nn.Linear(config.d_model, 2 * width, bias=config.bias)
        self.output = nn.Linear(width, config.d_model, bias=config.bias)

    def project(self, states: Tensor) -> tuple[Tensor, ...]:
        """Turn memory states (B, S, D) into keys and values, (B, H, S, D/H) each: once for all steps of search."""
        return tuple(split_heads(self.key_value(states), 2, self.config.head_width))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Read for x (N, T, D) from B memories, where N = B * K: K hypotheses share the memory of their source."""
        query = self._queries(x, keys.size(0))  # (B, H, K*T, D/H)
        dropout = self.config.attention_dropout if self.training else 0.0
        mixed = attend(query, keys, values, mask, False, dropout, self.config.attention_scale)
        return self.output(mixed.transpose(1, 2).reshape(*x.shape[:2], -1))  # (N, T, D)

    def weights(self, x: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Return the attention weights (B, H, T, S), for pictures: the fused kernel never builds them."""
        scores = self._queries(x, keys.size(0)) @ keys.transpose(-2, -1) * self.config.attention_scale
        return scores.masked_fill(~mask, -torch.inf).softmax(-1)

    def _queries(self, x: Tensor, sources: int) -> Tensor:
        query = self.query(x).unflatten(-1, (self.config.n_heads, -1))  # (N, T, H, D/H)
        return query.reshape(sources, -1, *query.shape[2:]).transpose(1, 2)


def split_heads(x: Tensor, parts: int, d_head: int) -> list[Tensor]:
    """Cut the features of x (B, T, parts * H * D/H) into parts and heads: `parts` times (B, H, T, D/H)."""
    # chunk first: its gradient is written once, whereas that of an unbound dimension is copied once more
    return [part.unflatten(-1, (-1, d_head)).transpose(1, 2) for part in x.chunk(parts, dim=-1)]


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, dropout: float, scale: float
) -> Tensor:
    """Read values (B, H, t, D/H) with queries (B, H, T, D/H); a mask and causality together become one mask.

    A causal block of queries sees all cached keys before it: one token needs no mask, several need the lower right
    corner of the triangle.
    """
    queries, keys = query.size(2), key.size(2)
    # the fused kernel's backward takes eight times as long in bfloat16 on a CPU as these few lines; an export has none
    by_hand = torch.compiler.is_exporting() or (query.device.type == "cpu" and query.dtype == torch.bfloat16)
    if causal and queries > 1 and (by_hand or mask is not None or keys > queries):
        triangle = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril(keys - queries)
        if mask is None or mask.dtype == torch.bool:
            mask = triangle if mask is None else mask & triangle
        else:
            mask = mask.masked_fill(~triangle, -torch.inf)
    if mask is not None and mask.is_floating_point():
        mask = mask.to(query.dtype)
    if by_hand:  # Vaswani et al. 2017, equation 1
        scores = (query * scale) @ key.transpose(-2, -1)  # (B, H, T, t)
        if mask is not None and mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)  # finite, even if no key may be read
        elif mask is not None:
            scores = scores + mask
        weights = scores.softmax(-1)
        return (F.dropout(weights, dropout) if dropout else weights) @ value
    is_causal = False
    if causal and mask is None and queries > 1:  # a branch: torch.compile takes no comparison of sizes as an argument
        is_causal = True
    return F.scaled_dot_product_attention(query, key, value, mask, dropout, is_causal, scale=scale)
