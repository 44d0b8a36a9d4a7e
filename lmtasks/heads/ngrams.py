"""Sequences of letters as they stand in a text, counted and not ordered: little data suffices to learn what they say.

Bojanowski et al. 2017, "Enriching Word Vectors with Subword Information", section 3.2, for a whole text, and Joulin et
al. 2017, "Bag of Tricks for Efficient Text Classification", section 2: all sequences share a table, in which a hash
gives each its place. Bytes stand for letters, capitals for small ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lmtasks.backbones.dropout import Dropout

PLACES = 65_536  # of the table; sequences beyond them share
SHORTEST = 2  # bytes
FACTOR = 0x100000001B3  # of the hash of Fowler, Noll and Vo


class Ngrams(nn.Module):
    """A vector for each text: the sum of those of its sequences of 2 to `longest` bytes, over the root of their number.

    Example:
        >>> ngrams = Ngrams([b"", b"good", b" film"], longest=3)
        >>> ngrams(torch.tensor([[1, 2], [1, 0]])).shape
        torch.Size([2, 16])
    """

    table: Tensor
    lengths: Tensor

    def __init__(self, pieces: Sequence[bytes], longest: int, d_text: int = 16, dropout: float = 0.0) -> None:
        """Draw fresh weights; `pieces` are the bytes of each token of the vocabulary, none for special tokens.

        dropout: share of the features of a text dropped.
        """
        super().__init__()
        self.longest, self.d_text = longest, d_text
        width = max(1, max(map(len, pieces), default=1))
        rows = [[byte + 1 for byte in piece.lower()] + [0] * (width - len(piece)) for piece in pieces]
        self.register_buffer("table", torch.tensor(rows, dtype=torch.int64), persistent=False)  # (V, P), 0 = nothing
        self.register_buffer("lengths", torch.tensor([*map(len, pieces)], dtype=torch.int64), persistent=False)  # (V,)
        self.embedding = nn.EmbeddingBag(PLACES, d_text, mode="sum", padding_idx=0)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.dropout = Dropout(dropout)

    def forward(self, source: Tensor) -> Tensor:
        """Read source (B, S), in which special tokens and padding have no bytes: (B, d_text)."""
        letters = self.spell(source)  # (B, L)
        found = []
        sequence = torch.zeros_like(letters)  # the hash of each one that begins here, as long as the round says
        for length in range(1, min(self.longest, letters.size(1)) + 1):
            last = letters[:, length - 1 :]  # (B, L - length + 1)
            sequence = (sequence[:, : last.size(1)] ^ last) * FACTOR  # wraps around
            if length >= SHORTEST:
                place = 1 + (sequence ^ (sequence >> 29)).remainder(PLACES - 1)
                found.append(torch.where(last > 0, place, 0))
        if not found:
            return self.embedding.weight.new_zeros(len(source), self.d_text)
        places = torch.cat(found, dim=1)  # (B, N), 0 = none
        count = (places > 0).sum(1, keepdim=True).clamp(min=1)
        return self.dropout(self.embedding(places) / count.sqrt())

    def spell(self, source: Tensor) -> Tensor:
        """Return the bytes of each text plus 1, (B, L) int64, 0 behind the last."""
        pieces, lengths = self.table[source], self.lengths[source]  # (B, S, P), (B, S)
        ends = lengths.cumsum(1)
        longest = int(ends[:, -1].max())
        place = torch.arange(pieces.size(-1), device=source.device)
        index = torch.where(place < lengths.unsqueeze(-1), (ends - lengths).unsqueeze(-1) + place, longest).flatten(1)
        return source.new_zeros(len(source), longest + 1).scatter_(1, index, pieces.flatten(1))[:, :longest]
