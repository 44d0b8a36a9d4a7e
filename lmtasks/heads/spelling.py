"""Spelling: what the letters of a word say, which the ids of its pieces hide: capitals, digits, endings.

Ma and Hovy 2016, "End-to-end Sequence Labeling via Bi-directional LSTM-CNNs-CRF", section 2.1, on bytes for letters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lmtasks.backbones.dropout import Dropout

LONGEST = 24  # bytes of a word that are read
WINDOW = 3  # bytes


class Spelling(nn.Module):
    """A vector for each word, from the bytes of its pieces: embedding, convolution, maximum over the word."""

    table: Tensor
    lengths: Tensor

    def __init__(self, pieces: Sequence[bytes], d_byte: int = 32, d_word: int = 64, dropout: float = 0.1) -> None:
        """Draw fresh weights; `pieces` are the bytes of each token of the vocabulary, none for special tokens."""
        super().__init__()
        cut = [piece[:LONGEST] for piece in pieces]
        width = max(1, max(map(len, cut), default=1))
        rows = [[byte + 1 for byte in piece] + [0] * (width - len(piece)) for piece in cut]
        self.register_buffer("table", torch.tensor(rows, dtype=torch.int64), persistent=False)  # (V, P), 0 = nothing
        self.register_buffer("lengths", torch.tensor([*map(len, cut)], dtype=torch.int64), persistent=False)  # (V,)
        self.d_word = d_word
        self.embedding = nn.Embedding(257, d_byte, padding_idx=0)
        self.dropout = Dropout(dropout)
        self.convolution = nn.Conv1d(d_byte, d_word, WINDOW, padding=WINDOW // 2)

    def forward(self, source: Tensor, places: Tensor, words: Tensor) -> Tensor:
        """Read source (B, S) with words (B, S) bool, True = the first piece of one, at places (B, W): (B, W, d_word).

        Places beyond the words of a row may be anything; so is what is returned for them.
        """
        letters = self.spell(source, places, words)  # (B, W, L)
        x = self.dropout(self.embedding(letters.flatten(0, 1)))  # (BW, L, C)
        x = self.convolution(x.transpose(1, 2))  # (BW, d_word, L)
        real = (letters > 0).flatten(0, 1).unsqueeze(1)  # (BW, 1, L)
        x = x.masked_fill(~real, torch.finfo(x.dtype).min).amax(-1)
        x = x * real.any(-1).to(x.dtype)  # a word without bytes says nothing
        return x.unflatten(0, places.shape)

    def spell(self, source: Tensor, places: Tensor, words: Tensor) -> Tensor:
        """Return the bytes of each word plus 1, (B, W, L) int64, 0 where there is none; as in `forward`."""
        pieces, lengths = self.table[source], self.lengths[source]  # (B, S, P), (B, S)
        before = lengths.cumsum(1) - lengths  # (B, S) bytes before each piece
        owner = words.cumsum(1) - 1  # (B, S) the word of each piece, -1 before the first
        at = before - before.gather(1, places).gather(1, owner.clamp(min=0))  # (B, S) where in the word it begins
        place = torch.arange(pieces.size(-1), device=source.device)
        real = (place < lengths.unsqueeze(-1)) & (owner >= 0).unsqueeze(-1)  # (B, S, P)
        place = at.unsqueeze(-1) + place  # (B, S, P)
        real &= place < LONGEST
        nowhere = places.size(1) * LONGEST
        index = torch.where(real, owner.unsqueeze(-1) * LONGEST + place, nowhere).flatten(1)
        letters = source.new_zeros(len(source), nowhere + 1).scatter_(1, index, pieces.flatten(1))
        letters = letters[:, :nowhere].unflatten(1, (-1, LONGEST))  # (B, W, LONGEST)
        longest = int((letters > 0).any(0).any(0).sum())
        return letters[..., : max(1, longest)]
