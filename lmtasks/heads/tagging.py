"""Tagging words: a linear-chain conditional random field, or each word for itself, with rules that no answer breaks.

Lample et al. 2016, "Neural Architectures for Named Entity Recognition", section 2.2; Huang, Xu, Yu 2015,
"Bidirectional LSTM-CRF Models for Sequence Tagging", section 2.5. Letters beside pieces, and layers over the words: Ma
and Hovy 2016, "End-to-end Sequence Labeling via Bi-directional LSTM-CNNs-CRF", section 2. Rules in the normaliser, and
not only in the search: Papay, Klinger, Pado 2022, "Constraining Linear-chain CRFs to Regular Languages".
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmtasks.backbones.base import Backbone
from lmtasks.backbones.dropout import Dropout
from lmtasks.backbones.loss import Loss
from lmtasks.backbones.recurrence import BidirectionalLayer, backward_order
from lmtasks.batch import IGNORE, Batch, longest
from lmtasks.decoding import Decoding
from lmtasks.heads.base import Head

ScoredTags = list[tuple[list[int], float]]
"""The tags of the words of each row, and their probability."""
FORBIDDEN = (
    -1e9
)  # the score of a tag that a rule forbids: its exponential is 0, and unlike -inf it gives no NaN gradient
LONGEST = 24  # bytes of a word that are read
WINDOW = 3  # bytes of the convolution


class TaggingHead(Head):
    """One tag out of `n_tags` for each word, which is read at its first piece.

    `batch.target` is (B, S): the tag at the first piece of each word, IGNORE elsewhere. Prediction reads from it only
    where the words begin.

    Example:
        >>> from lmtasks import Batch, TransformerConfig
        >>> backbone = TransformerConfig(d_model=16, n_heads=2, d_ff=32).build(vocab_size=10)
        >>> ids, tags = torch.tensor([[5, 6, 7, 2]]), torch.tensor([[0, -100, 1, -100]])
        >>> batch = Batch("names", source=ids, source_mask=ids > 0, target=tags, ids=torch.tensor([0]))
        >>> int(TaggingHead(d_model=16, n_tags=3).loss(backbone, batch).count)
        2
    """

    def __init__(
        self,
        d_model: int,
        n_tags: int,
        allowed: Sequence[Sequence[bool]] | None = None,
        first: Sequence[bool] | None = None,
        last: Sequence[bool] | None = None,
        dropout: float = 0.1,
        crf: bool = True,
        pieces: Sequence[bytes] | None = None,
        layers: int = 0,
    ) -> None:
        """Draw fresh weights.

        allowed: (K, K), whether tag j may follow tag i at [i][j]; None = always, as for the next two.
        first: (K,), whether a text may begin with the tag.
        last: (K,), whether a text may end with the tag.
        dropout: share of the features of a word dropped.
        crf: learn which tags follow which; otherwise each word is learned alone, and only the rules connect the tags.
        pieces: the bytes of each token of the vocabulary, where the head is to read the letters of the words too.
        layers: bidirectional LSTM layers of d_model / 2 each way over the words, above the backbone.
        """
        super().__init__()
        self.dropout = Dropout(dropout)
        self.spelling = Spelling(pieces, dropout=dropout) if pieces is not None else None
        width, half = d_model + (self.spelling.d_word if self.spelling else 0), d_model // 2
        widths = [width, *[2 * half] * layers]
        self.layers = nn.ModuleList(BidirectionalLayer("lstm", d_input, half) for d_input in widths[:-1])
        self.emission = nn.Linear(widths[-1], n_tags)
        self.chain = Chain(n_tags, allowed, first, last, learned=crf)
        self.crf = crf

    def logits(self, backbone: Backbone, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Score all tags of the words: (B, W, K), float32 or wider; with the mask and the tags of the words (B, W)."""
        states = backbone.encode(batch.source, batch.source_mask).states  # (B, S, D)
        words = batch.target != IGNORE  # (B, S)
        lengths = words.sum(1, keepdim=True)  # (B, 1)
        width = longest(lengths, words.size(1))
        places = first_pieces(words)[:, :width]  # (B, W)
        mask = torch.arange(width, device=words.device) < lengths  # (B, W)
        x = states.gather(1, places.unsqueeze(-1).expand(-1, -1, states.size(-1)))  # (B, W, D)
        if self.spelling is not None:
            x = torch.cat((x, self.spelling(batch.source, places, words).to(x.dtype)), dim=-1)
        reverse = backward_order(mask)  # (B, W)
        for layer in self.layers:
            x = layer(self.dropout(x), reverse)  # (B, W, D)
        emissions = self.emission(self.dropout(x))  # (B, W, K)
        tags = batch.target.gather(1, places).clamp(min=0)
        return emissions.to(torch.promote_types(emissions.dtype, torch.float32)), mask, tags

    def loss(self, backbone: Backbone, batch: Batch) -> Loss:
        """Return the negative log-likelihood of the tags of all words; count = words."""
        emissions, mask, tags = self.logits(backbone, batch)
        if self.crf:
            total = self.chain.nll(emissions, mask, tags).sum()
        else:
            total = F.cross_entropy(emissions[mask], tags[mask], reduction="sum")
        return Loss(total, total.detach(), mask.sum())

    @torch.no_grad()
    def predict(self, backbone: Backbone, batch: Batch, decoding: Decoding, prefix: Sequence[int] = ()) -> ScoredTags:
        """Return for each row the likeliest tags of its words that break no rule, and their probability."""
        emissions, mask, _ = self.logits(backbone, batch)
        best = self.chain.best(emissions, mask)  # (B, W)
        probabilities = (-self.chain.nll(emissions, mask, best)).exp().tolist()
        found = zip(best.tolist(), mask.sum(1).tolist(), probabilities, strict=True)
        return [(tags[:length], probability) for tags, length, probability in found]


class Chain(nn.Module):
    """Scores of neighbouring tags, and rules for which tags may be neighbours.

    The score of a sequence is begin[y_1] + sum of emission[t, y_t] + sum of follow[y_t-1, y_t] + end[y_n]. All methods
    read emissions (B, W, K) and a mask (B, W) of words, with the padding on the right.
    """

    no_decay = ("follow",)  # scores of neighbours, no matrix of a layer
    follow: Tensor | None
    begin: Tensor | None
    end: Tensor | None
    may_follow: Tensor
    may_begin: Tensor
    may_end: Tensor

    def __init__(
        self,
        n_tags: int,
        allowed: Sequence[Sequence[bool]] | None,
        first: Sequence[bool] | None,
        last: Sequence[bool] | None,
        learned: bool,
    ) -> None:
        super().__init__()
        for name, given in {"follow": allowed, "begin": first, "end": last}.items():
            shape = (n_tags, n_tags) if name == "follow" else (n_tags,)
            rule = torch.ones(shape, dtype=torch.bool) if given is None else torch.tensor(given, dtype=torch.bool)
            assert rule.shape == shape, f"rules of shape {tuple(rule.shape)} for {n_tags} tags"
            self.register_buffer(f"may_{name}", rule, persistent=False)  # given by the tags, not learned
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)) if learned else None)

    def nll(self, emissions: Tensor, mask: Tensor, tags: Tensor) -> Tensor:
        """Return -log p(tags) of each row: (B,), 0 for one without words.

        A row whose own tags break the rules is compared with all lawful sequences and itself: finite, never below 0.
        """
        score, lawful = self.score(emissions, mask, tags)
        normaliser = self.normaliser(emissions, mask)
        normaliser = torch.where(lawful, normaliser, torch.logaddexp(normaliser, score))
        return torch.where(mask[:, 0], normaliser - score, torch.zeros_like(score))

    def score(self, emissions: Tensor, mask: Tensor, tags: Tensor) -> tuple[Tensor, Tensor]:
        """Return the score of the tags (B, W), and whether they keep the rules: (B,) and (B,) bool."""
        final = tags.gather(1, (mask.sum(1, keepdim=True) - 1).clamp(min=0))[:, 0]  # (B,)
        before, after, both = tags[:, :-1], tags[:, 1:], mask[:, 1:]  # (B, W - 1)
        lawful = (self.may_follow[before, after] | ~both).all(1) & self.may_begin[tags[:, 0]] & self.may_end[final]
        score = (emissions.gather(2, tags.unsqueeze(-1)).squeeze(-1) * mask).sum(1)  # (B,)
        if self.follow is not None and self.begin is not None and self.end is not None:
            neighbours = (self.follow[before, after].to(score.dtype) * both).sum(1)
            score = score + neighbours + self.begin[tags[:, 0]] + self.end[final]
        return score, lawful

    def normaliser(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Return the logarithm of the summed exponential scores of all lawful sequences: (B,)."""
        follow, begin, end = self.ruled(emissions.dtype)
        alpha = begin + emissions[:, 0]  # (B, K), all beginnings that end in this tag
        for emission, real in zip(emissions[:, 1:].unbind(1), mask[:, 1:, None].unbind(1), strict=True):
            longer = (alpha.unsqueeze(2) + follow).logsumexp(1) + emission  # (B, K, K) -> (B, K)
            alpha = torch.where(real, longer, alpha)
        return (alpha + end).logsumexp(1)

    def best(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Return the lawful sequence of the highest score (Viterbi 1967): (B, W), valid where the mask is True."""
        follow, begin, end = self.ruled(emissions.dtype)
        alpha = begin + emissions[:, 0]  # (B, K), the best beginning that ends in this tag
        stay = torch.arange(alpha.size(1), device=alpha.device).expand_as(alpha)
        came_from = []
        for emission, real in zip(emissions[:, 1:].unbind(1), mask[:, 1:, None].unbind(1), strict=True):
            longer, before = (alpha.unsqueeze(2) + follow).max(1)  # (B, K) each
            alpha = torch.where(real, longer + emission, alpha)
            came_from.append(torch.where(real, before, stay))  # padding passes the last tag on
        tags = [(alpha + end).argmax(1, keepdim=True)]  # (B, 1)
        for before in reversed(came_from):
            tags.append(before.gather(1, tags[-1]))
        return torch.cat(tags[::-1], dim=1)

    def ruled(self, dtype: torch.dtype) -> list[Tensor]:
        """Return scores of neighbours (K, K), beginnings (K,) and ends (K,), FORBIDDEN where a rule says so."""
        pairs = (self.follow, self.may_follow), (self.begin, self.may_begin), (self.end, self.may_end)
        return [
            (torch.zeros_like(rule, dtype=dtype) if scores is None else scores.to(dtype)).masked_fill(~rule, FORBIDDEN)
            for scores, rule in pairs
        ]


def first_pieces(words: Tensor) -> Tensor:
    """Return the positions of the first pieces, True in words (B, S), in order: (B, S), 0 behind the last of a row."""
    length = words.size(1)
    number = torch.where(words, words.cumsum(1) - 1, length)  # (B, S), one place for all that is no first piece
    places = torch.arange(length, device=words.device).expand_as(number)
    return number.new_zeros(words.size(0), length + 1).scatter_(1, number, places)[:, :length]


class Spelling(nn.Module):
    """A vector for each word, from the bytes of its pieces: embedding, convolution, maximum over the word.

    It reads capitals, digits and endings, which the ids of the pieces hide.

    Source: Ma and Hovy 2016, section 2.1, on bytes instead of letters.
    """

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
        x = x * real.any(-1).to(x.dtype)  # 0 for a word without bytes
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
        nowhere = places.size(1) * LONGEST  # a place behind all words, for bytes that are not read
        index = torch.where(real, owner.unsqueeze(-1) * LONGEST + place, nowhere).flatten(1)
        letters = source.new_zeros(source.size(0), nowhere + 1).scatter_(1, index, pieces.flatten(1))
        letters = letters[:, :nowhere].unflatten(1, (-1, LONGEST))  # (B, W, LONGEST)
        return letters[..., : longest((letters > 0).any(0).any(0).sum(), LONGEST)]
