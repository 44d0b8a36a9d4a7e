"""Choosing labels for a whole text: the encoder's states pooled into one vector, and one linear layer.

Pooling by attention: Yang et al. 2016, "Hierarchical Attention Networks for Document Classification", section 2.2; by
the maximum: Conneau et al. 2017, "Supervised Learning of Universal Sentence Representations", section 3.2.2. Label
smoothing: Szegedy et al. 2016, section 7. A hidden layer, as BERT has, is rarely needed: the encoder has some.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmtasks.backbones.base import Backbone
from lmtasks.backbones.dropout import Dropout
from lmtasks.backbones.loss import Loss
from lmtasks.batch import IGNORE, Batch
from lmtasks.decoding import Decoding
from lmtasks.heads.base import Head

Pooling = Literal["mean", "max", "first", "attention"]
Hidden = Literal["none", "tanh", "relu"]

PLACES = 65_536  # rows of the table of n-grams; sequences beyond them share
SHORTEST, LONGEST = 2, 16  # bytes of an n-gram; longer ones are words, which few texts have
FACTOR = 0x100000001B3  # of the hash of Fowler, Noll and Vo
BREAK = 256  # stands for a special token: no sequence crosses the end of a text


class ClassificationHead(Head):
    """One label out of `n_classes`, or with `multi_label` any number of them.

    `batch.target` is (B, 1) class indices, or with `multi_label` (B, C) of 0 and 1; IGNORE where a label is not known.

    Example:
        >>> from lmtasks import Batch, TransformerConfig
        >>> backbone = TransformerConfig(d_model=16, n_heads=2, d_ff=32).build(vocab_size=10)
        >>> ids = torch.tensor([[5, 6, 2]])
        >>> batch = Batch("mood", source=ids, source_mask=ids > 0, target=torch.tensor([[1]]), ids=torch.tensor([0]))
        >>> int(ClassificationHead(d_model=16, n_classes=3).loss(backbone, batch).count)
        1
    """

    class_weights: Tensor | None

    def __init__(
        self,
        d_model: int,
        n_classes: int,
        pooling: Pooling = "mean",
        dropout: float = 0.1,
        class_weights: Sequence[float] | None = None,
        multi_label: bool = False,
        label_smoothing: float = 0.0,
        ngrams: Ngrams | None = None,
        hidden: Hidden = "none",
    ) -> None:
        """Draw fresh weights.

        pooling: what stands for the text: the mean of its token states, the maximum of each feature, the first state,
            or a mean weighted by attention.
        dropout: share of the pooled features dropped.
        class_weights: a factor of the loss for each class; see `loss`.
        ngrams: reads the sequences of letters of a text beside the encoder.
        hidden: activation of a hidden layer above the pooled features; "none" = without that layer.
        """
        super().__init__()
        self.pooling, self.multi_label, self.label_smoothing = pooling, multi_label, label_smoothing
        self.attention = AttentionWeights(d_model) if pooling == "attention" else None
        self.hidden = None if hidden == "none" else nn.Linear(d_model, d_model)
        self.activation = torch.relu if hidden == "relu" else torch.tanh
        self.dropout = Dropout(dropout)
        self.ngrams = ngrams
        self.output = nn.Linear(d_model + (ngrams.d_text if ngrams else 0), n_classes)
        weights = None if class_weights is None else torch.tensor(list(class_weights), dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)  # a setting of training, not learned

    def logits(self, backbone: Backbone, batch: Batch) -> Tensor:
        """Score the classes of each row: (B, C), float32 or wider."""
        memory = backbone.encode(batch.source, batch.source_mask)
        states, real = memory.states, memory.mask.unsqueeze(-1)  # (B, S, D), (B, S, 1)
        if self.attention is not None:
            pooled = (self.attention(states, memory.mask).unsqueeze(1) @ states)[:, 0]  # (B, D)
        elif self.pooling == "first":
            pooled = states[:, 0]  # (B, D)
        elif self.pooling == "max":
            pooled = states.masked_fill(~real, torch.finfo(states.dtype).min).amax(1)  # (B, D)
        else:
            pooled = states.masked_fill(~real, 0).sum(1) / real.sum(1).clamp(min=1)  # (B, D)
        if self.hidden is not None:
            pooled = self.activation(self.hidden(pooled))  # (B, D)
        features = self.dropout(pooled)
        if self.ngrams is not None:
            features = torch.cat((features, self.ngrams(batch.source, batch.source_mask).to(features.dtype)), dim=-1)
        logits = self.output(features)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def loss(self, backbone: Backbone, batch: Batch) -> Loss:
        """Return the sum of the cross-entropies of the labels, each times the weight of its class.

        total = sum of w_y * cross-entropy; nll is the same without weights and smoothing; count = the labels that are
        known: one a row, or with `multi_label` one a class. A step divides by that count and not by the sum of the
        weights, so that micro-batches add up whatever their classes. Weights whose mean over the training rows is 1,
        such as rows / (classes * rows of the class), keep the scale of the loss. With `multi_label` only a yes has the
        weight of its class: a no is never rare.
        """
        logits = self.logits(backbone, batch)  # (B, C)
        smoothing = self.label_smoothing if self.training else 0.0
        loss = _binary_cross_entropy if self.multi_label else _cross_entropy
        total = loss(logits, batch.target, self.class_weights, smoothing)
        with torch.no_grad():
            nll = loss(logits, batch.target, None, 0.0)
        return Loss(total, nll, (batch.target != IGNORE).sum())

    @torch.no_grad()
    def predict(
        self, backbone: Backbone, batch: Batch, decoding: Decoding, prefix: Sequence[int] = ()
    ) -> list[list[float]]:
        """Return the probability of each class for each row: they sum to 1, except with `multi_label`."""
        logits = self.logits(backbone, batch)
        return (logits.sigmoid() if self.multi_label else logits.softmax(-1)).tolist()


class AttentionWeights(nn.Module):
    """How much each token tells of the text: softmax of u . tanh(W h + b)."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.key = nn.Linear(d_model, d_model)
        self.query = nn.Linear(d_model, 1, bias=False)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Read states (B, S, D) with mask (B, S): weights (B, S) that sum to 1 over the real tokens."""
        scores = self.query(self.key(states).tanh()).squeeze(-1)  # (B, S)
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1).to(states.dtype)


class Ngrams(nn.Module):
    """A vector for each text: the sum of those of its sequences of 2 to `longest` bytes, over the root of their number.

    They are counted without their order, so that little data suffices to learn them. All sequences share one table, and
    a hash gives each its row. ASCII capitals are read as small letters.

    Source: Bojanowski et al. 2017, "Enriching Word Vectors with Subword Information", section 3.2, for a whole text;
    Joulin et al. 2017, "Bag of Tricks for Efficient Text Classification", section 2.

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
        found = [torch.zeros_like(letters[:, :1])]  # EmbeddingBag needs a place, if only that of nothing
        sequence = torch.zeros_like(letters)  # the hash of the `length` bytes that begin at each place
        broken = torch.zeros_like(breaks)
        for length in range(1, min(self.longest, letters.size(1)) + 1):
            begin = letters.size(1) - length + 1  # places where a sequence of this length may begin
            sequence = (sequence[:, :begin] ^ (letters[:, length - 1 :] + 1)) * FACTOR  # wraps around
            broken = broken[:, :begin] | breaks[:, length - 1 :]
            if length >= SHORTEST:
                place = 1 + (sequence ^ (sequence >> 29)).remainder(PLACES - 1)
                found.append(place.masked_fill(broken, 0))
        places = torch.cat(found, dim=1)  # (B, N), 0 = none
        count = (places > 0).sum(1, keepdim=True).clamp(min=1)
        return self.dropout(self.embedding(places) / count.sqrt())

    def spell(self, source: Tensor, mask: Tensor) -> Tensor:
        """Return the bytes of each text, (B, L) int64: BREAK for a special token and after the last."""
        lengths = torch.where(mask, self.lengths[source], 0)  # (B, S)
        before = lengths.cumsum(1) - lengths  # (B, S) bytes before each token
        token = torch.arange(source.numel(), device=source.device).repeat_interleave(lengths.flatten())  # (N,)
        starts = lengths.flatten().cumsum(0) - lengths.flatten()
        place = torch.arange(len(token), device=source.device) - starts[token]  # (N,) of a byte in its token
        letters = source.new_full((len(source), int(lengths.sum(1).max())), BREAK)
        row, column = token // source.size(1), before.flatten()[token] + place
        letters[row, column] = self.letters[self.first[source.flatten()[token]] + place].to(letters.dtype)
        return letters


def _cross_entropy(logits: Tensor, target: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """Sum over rows; smoothing gives each class e / C, as everywhere in PyTorch."""
    weights = None if weights is None else weights.to(logits.dtype)
    return F.cross_entropy(
        logits, target[:, 0], weights, ignore_index=IGNORE, reduction="sum", label_smoothing=smoothing
    )


def _binary_cross_entropy(logits: Tensor, target: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """Sum over rows and classes, each yes weighted; smoothing gives yes and no e / 2 each."""
    wanted = target.to(logits.dtype) * (1 - smoothing) + smoothing / 2  # (B, C)
    factors = (target != IGNORE).to(logits.dtype)
    if weights is not None:
        factors = torch.where(target == 1, weights.to(logits.dtype), factors)
    losses = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")  # (B, C)
    return (losses * factors).sum()
