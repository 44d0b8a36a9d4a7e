"""Sequences of letters as they stand in a text, counted and not ordered: little data suffices to learn what they say.

Bojanowski et al. 2017, "Enriching Word Vectors with Subword Information", section 3.2, for a whole text, and Joulin et
al. 2017, "Bag of Tricks for Efficient Text Classification", section 2: all sequences share a table, in which a hash
gives each its place. Bytes stand for letters, and for the capitals of ASCII small ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from lmtasks.backbones.dropout import Dropout

PLACES = 65_536  # of the table; sequences beyond them share
SHORTEST, LONGEST = 2, 16  # bytes; longer ones are words, which stand in few texts
FACTOR = 0x100000001B3  # of the hash of Fowler, Noll and Vo
BREAK = 256  # stands for a special token: no sequence goes over the end of a text


class Ngrams(nn.Module):
    """A vector for each text: the sum of those of its sequences of 2 to `longest` bytes, over the root of their number.

    Example:
        >>> ngrams = Ngrams([b"", b"good", b" film"], longest=3)
        >>> source = torch.tensor([[1, 2], [1, 0]])
        >>> ngrams(source, source > 0).shape
        torch.Size([2, 16])
    """

    letters: Tensor
    first: Tensor
    lengths: Tensor

    def __init__(self, pieces: Sequence[bytes], longest: int, d_text: int = 16, dropout: float = 0.0) -> None:
        """Draw fresh weights; `pieces` are the bytes of each token of the vocabulary, none for special tokens.

        dropout: share of the features of a text dropped.
        """
        super().__init__()
        self.longest, self.d_text = longest, d_text
        spelt = [list(piece.lower()) or [BREAK] for piece in pieces]
        lengths = torch.tensor([len(letters) for letters in spelt])  # (V,)
        self.register_buffer("letters", torch.tensor([*chain(*spelt)], dtype=torch.int16), persistent=False)
        self.register_buffer("first", lengths.cumsum(0) - lengths, persistent=False)  # (V,) where each piece begins
        self.register_buffer("lengths", lengths, persistent=False)
        self.embedding = nn.EmbeddingBag(PLACES, d_text, mode="sum", padding_idx=0)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.dropout = Dropout(dropout)

    def forward(self, source: Tensor, mask: Tensor) -> Tensor:
        """Read source (B, S), of which mask (B, S) is True for real tokens: (B, d_text)."""
        letters = self.spell(source, mask)  # (B, L)
        breaks = letters == BREAK
        found = [torch.zeros_like(letters[:, :1])]  # so that there is one, even if it is none
        sequence = torch.zeros_like(letters)  # the hash of each one that begins here, as long as the round says
        broken = torch.zeros_like(breaks)
        for length in range(1, min(self.longest, letters.size(1)) + 1):
            begin = letters.size(1) - length + 1  # sequences that may begin so far
            sequence = (sequence[:, :begin] ^ (letters[:, length - 1 :] + 1)) * FACTOR  # wraps around
            broken = broken[:, :begin] | breaks[:, length - 1 :]
            if length >= SHORTEST:
                place = 1 + (sequence ^ (sequence >> 29)).remainder(PLACES - 1)
                found.append(place.masked_fill(broken, 0))
        places = torch.cat(found, dim=1)  # (B, N), 0 = none
        count = (places > 0).sum(1, keepdim=True).clamp(min=1)
        return self.dropout(self.embedding(places) / count.sqrt())

    def spell(self, source: Tensor, mask: Tensor) -> Tensor:
        """Return the bytes of each text, (B, L) int64: BREAK for a special token and behind the last."""
        lengths = torch.where(mask, self.lengths[source], 0)  # (B, S)
        before = lengths.cumsum(1) - lengths  # (B, S) bytes before each token
        token = torch.arange(source.numel(), device=source.device).repeat_interleave(lengths.flatten())  # (N,)
        starts = lengths.flatten().cumsum(0) - lengths.flatten()
        place = torch.arange(len(token), device=source.device) - starts[token]  # (N,) of a byte in its token
        letters = source.new_full((len(source), int(lengths.sum(1).max())), BREAK)
        row, column = token // source.size(1), before.flatten()[token] + place
        letters[row, column] = self.letters[self.first[source.flatten()[token]] + place].to(letters.dtype)
        return letters
