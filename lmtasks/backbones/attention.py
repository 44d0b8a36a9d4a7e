"""Multi-head attention (Vaswani et al. 2017, section 3.2.2), and the ways to tell positions apart.

Self-attention appends to a cache when it is given one; cross-attention lets the K hypotheses of one source read a
memory that is kept once. Rotary: Su et al. 2021, section 3.4.2; relative bias: Raffel et al. 2020, section 2.1.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Cache:
    """Keys and values that one self-attention has seen, (N, H, t, D/H) each; None before the first token."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    @property
    def length(self) -> int:
        """t, the tokens seen."""
        return 0 if self.keys is None else self.keys.size(2)

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add (N, H, T, D/H) at the end and return all there is."""
        if self.keys is not None and self.values is not None:
            keys = torch.cat((self.keys, keys), dim=2)
            values = torch.cat((self.values, values), dim=2)
        self.keys, self.values = keys, values
        return keys, values

    def select(self, rows: Tensor) -> None:
        """Keep the rows (N',) in this order."""
        if self.keys is not None and self.values is not None:
            self.keys, self.values = self.keys[rows], self.values[rows]

    def tensors(self) -> tuple[Tensor, ...]:
        """Return keys and values, nothing before the first token."""
        return () if self.keys is None or self.values is None else (self.keys, self.values)


class Rotary(nn.Module):
    """Turns pairs of query and key features by an angle that grows with the position."""

    cosine: Tensor
    sine: Tensor

    def __init__(self, d_head: int, max_length: int, base: float = 10_000.0) -> None:
        super().__init__()
        # float32 even where a model is built in bfloat16, which cannot tell position 257 from 256
        frequencies = base ** (-torch.arange(0, d_head, 2, dtype=torch.float32) / d_head)  # (d_head/2,)
        angles = (
            torch.arange(max_length, dtype=torch.float32)[:, None] * frequencies.repeat(2)[None, :]
        )  # (max_length, d_head)
        self.register_buffer("cosine", angles.cos(), persistent=False)
        self.register_buffer("sine", angles.sin(), persistent=False)

    def forward(self, x: Tensor, first: int) -> Tensor:
        """Turn x (B, H, T, d_head), whose first row stands at position `first`."""
        last = first + x.size(2)
        left, right = x.chunk(2, dim=-1)
        turned = torch.cat((-right, left), dim=-1)
        return (x * self.cosine[first:last] + turned * self.sine[first:last]).to(x.dtype)


class RelativeBias(nn.Module):
    """One learned number per head and bucket of distance, added to the attention scores."""

    def __init__(self, n_heads: int, buckets: int, max_distance: int, bidirectional: bool) -> None:
        super().__init__()
        self.buckets, self.max_distance, self.bidirectional = buckets, max_distance, bidirectional
        self.bias = nn.Embedding(buckets, n_heads)

    def forward(self, queries: int, keys: int) -> Tensor:
        """Return the bias of the last `queries` of `keys` positions: (1, H, queries, keys)."""
        device = self.bias.weight.device
        positions = torch.arange(keys, device=device)
        distance = positions[None, :] - positions[keys - queries :, None]  # (queries, keys), key minus query
        return self.bias(self._bucket(distance)).permute(2, 0, 1)[None]

    def _bucket(self, distance: Tensor) -> Tensor:
        """Near distances have a bucket each, far ones share buckets that widen logarithmically up to max_distance."""
        buckets, first = self.buckets, torch.zeros_like(distance)
        if self.bidirectional:
            buckets //= 2
            first = (distance > 0) * buckets
            distance = distance.abs()
        else:
            distance = (-distance).clamp(min=0)
        exact = buckets // 2
        ratio = torch.log(distance.clamp(min=1).float() / exact) / math.log(self.max_distance / exact)
        far = (exact + (ratio * (buckets - exact)).long()).clamp(max=buckets - 1)
        return first + torch.where(distance < exact, distance, far)


def sinusoids(length: int, width: int, convention: str = "tensor2tensor") -> Tensor:
    """Return sines in the left half and cosines in the right, (length, width): section 3.5.

    convention: the frequencies of tensor2tensor, 10000^(-i / (half - 1)), or those of the paper, 10000^(-2i / width),
    which Hugging Face's port of Marian has.
    """
    half = width // 2
    steps = max(1, half - 1) if convention == "tensor2tensor" else width / 2
    # float32 even where a model is built in bfloat16, which cannot tell position 257 from 256
    frequencies = 10_000 ** (-torch.arange(half, dtype=torch.float32) / steps)
    angles = torch.arange(length, dtype=torch.float32)[:, None] * frequencies[None, :]
    return F.pad(torch.cat((angles.sin(), angles.cos()), dim=1), (0, width % 2))


class SelfAttention(nn.Module):
    """Each position of a text reads the others."""

    def __init__(
        self, d_model: int, n_heads: int, d_head: int, dropout: float, bias: bool, scale: float, rotary: Rotary | None
    ) -> None:
        super().__init__()
        self.n_heads, self.d_head, self.dropout, self.scale, self.rotary = n_heads, d_head, dropout, scale, rotary
        self.query_key_value = nn.Linear(d_model, 3 * n_heads * d_head, bias=bias)
        self.output = nn.Linear(n_heads * d_head, d_model, bias=bias)

    def forward(self, x: Tensor, mask: Tensor | None, causal: bool, cache: Cache | None = None) -> Tensor:
        """Mix x (B, T, D) under a mask that broadcasts to (B, H, T, t): bool, True = read, or a float to add."""
        query, key, value = split_heads(self.query_key_value(x), 3, self.d_head)  # (B, H, T, D/H) each
        if self.rotary is not None:
            first = 0 if cache is None else cache.length
            query, key = self.rotary(query, first), self.rotary(key, first)
        if cache is not None:
            key, value = cache.append(key, value)
        mixed = attend(query, key, value, mask, causal, self.dropout if self.training else 0.0, self.scale)
        return self.output(mixed.transpose(1, 2).flatten(2))  # (B, T, D)


class CrossAttention(nn.Module):
    """Each position of the target reads the memory."""

    def __init__(self, d_model: int, n_heads: int, d_head: int, dropout: float, bias: bool, scale: float) -> None:
        super().__init__()
        self.n_heads, self.d_head, self.dropout, self.scale = n_heads, d_head, dropout, scale
        self.query = nn.Linear(d_model, n_heads * d_head, bias=bias)
        self.key_value = nn.Linear(d_model, 2 * n_heads * d_head, bias=bias)
        self.output = nn.Linear(n_heads * d_head, d_model, bias=bias)

    def project(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Turn memory states (B, S, D) into keys and values, (B, H, S, D/H) each: once for all steps of search."""
        keys, values = split_heads(self.key_value(states), 2, self.d_head)
        return keys, values

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Read for x (N, T, D) from B memories, where N = B * K: K hypotheses share the memory of their source."""
        n, length, _ = x.shape
        query = self._queries(x, len(keys))  # (B, H, K*T, D/H)
        mixed = attend(query, keys, values, mask, False, self.dropout if self.training else 0.0, self.scale)
        return self.output(mixed.transpose(1, 2).reshape(n, length, -1))  # (N, T, D)

    def weights(self, x: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Return the attention itself, (B, H, T, S), for pictures: the fused kernel never builds it."""
        scores = self._queries(x, len(keys)) @ keys.transpose(-2, -1) * self.scale
        return scores.masked_fill(~mask, -torch.inf).softmax(-1)

    def _queries(self, x: Tensor, sources: int) -> Tensor:
        query = self.query(x).unflatten(-1, (self.n_heads, self.d_head))  # (N, T, H, D/H)
        return query.reshape(sources, -1, self.n_heads, self.d_head).transpose(1, 2)


def split_heads(x: Tensor, parts: int, d_head: int) -> list[Tensor]:
    """Cut the features of x (B, T, parts * H * D/H) into parts and heads: `parts` times (B, H, T, D/H).

    Parts first: the gradient of a chunk is written once, that of an unbound dimension is copied once more.
    """
    return [part.unflatten(-1, (-1, d_head)).transpose(1, 2) for part in x.chunk(parts, dim=-1)]


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, dropout: float, scale: float
) -> Tensor:
    """Read values (B, H, t, D/H) with queries (B, H, T, D/H); where a mask stands beside causality, the two become one.

    A causal query block that stands behind cached keys sees all of them: one token needs no mask, several need the
    lower right corner of the triangle.
    """
    queries, keys = query.size(2), key.size(2)
    # the fused kernel's backward takes eight times as long in bfloat16 on a CPU as these few lines
    by_hand = query.device.type == "cpu" and query.dtype == torch.bfloat16
    if causal and queries > 1 and (by_hand or mask is not None or keys > queries):
        triangle = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril(keys - queries)
        if mask is None or mask.dtype == torch.bool:
            mask = triangle if mask is None else mask & triangle
        else:
            mask = mask.masked_fill(~triangle, -torch.inf)
    if mask is not None and mask.is_floating_point():
        mask = mask.to(query.dtype)
    if by_hand:
        return _attend_by_hand(query, key, value, mask, dropout, scale)
    is_causal = False
    if causal and mask is None and queries > 1:  # a branch: torch.compile takes no comparison of sizes as an argument
        is_causal = True
    return F.scaled_dot_product_attention(query, key, value, mask, dropout, is_causal, scale=scale)


def _attend_by_hand(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, scale: float
) -> Tensor:
    """Vaswani et al. 2017, equation 1."""
    scores = (query * scale) @ key.transpose(-2, -1)  # (B, H, T, t)
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)  # finite, should nothing be left to read
    elif mask is not None:
        scores = scores + mask
    return F.dropout(scores.softmax(-1), dropout) @ value if dropout else scores.softmax(-1) @ value
