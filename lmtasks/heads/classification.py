"""Choosing labels for a whole text: the encoder's states pooled into one vector, and one linear layer.

Pooling by attention is that of Yang et al. 2016, "Hierarchical Attention Networks for Document Classification",
section 2.2; by the maximum, that of Conneau et al. 2017, "Supervised Learning of Universal Sentence Representations",
section 3.2.2. Label smoothing: Szegedy et al. 2016, section 7. There is no hidden layer: the encoder has some.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from lmtasks.heads.ngrams import Ngrams

Pooling = Literal["mean", "max", "first", "attention"]


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
    ) -> None:
        """Draw fresh weights.

        pooling: what stands for the text: the mean of its token states, the maximum of each feature, the first one, or
            a mean that attention weighs.
        dropout: share of the pooled features dropped.
        class_weights: a factor of the loss for each class; see `loss`.
        ngrams: what reads the sequences of letters of a text beside the encoder.
        """
        super().__init__()
        self.pooling, self.multi_label, self.label_smoothing = pooling, multi_label, label_smoothing
        self.attention = AttentionWeights(d_model) if pooling == "attention" else None
        self.dropout = Dropout(dropout)
        self.ngrams = ngrams
        self.output = nn.Linear(d_model + (ngrams.d_text if ngrams else 0), n_classes)
        # settings of a training and no part of what is learned: they stand in no file of weights
        self.register_buffer("class_weights", _weights(class_weights), persistent=False)

    def logits(self, backbone: Backbone, batch: Batch) -> Tensor:
        """Score the classes of each row: (B, C), float32 or wider."""
        memory = backbone.encode(batch.source, batch.source_mask)
        if self.attention is not None:
            pooled = (self.attention(memory.states, memory.mask).unsqueeze(1) @ memory.states)[:, 0]  # (B, D)
        elif self.pooling == "first":
            pooled = memory.states[:, 0]  # (B, D)
        elif self.pooling == "max":
            lowest = torch.finfo(memory.states.dtype).min
            pooled = memory.states.masked_fill(~memory.mask.unsqueeze(-1), lowest).amax(1)  # (B, D)
        else:
            kept = memory.mask.unsqueeze(-1)  # (B, S, 1)
            pooled = memory.states.masked_fill(~kept, 0).sum(1) / kept.sum(1).clamp(min=1)  # (B, D)
        features = self.dropout(pooled)
        if self.ngrams is not None:
            features = torch.cat((features, self.ngrams(batch.source, batch.source_mask).to(features.dtype)), dim=-1)
        logits = self.output(features)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def loss(self, backbone: Backbone, batch: Batch) -> Loss:
        """Return the sums of the cross-entropies of the labels, each row's times the weight of its class.

        total = sum of w_y * cross-entropy, nll the same without weights and smoothing, count = the labels that are
        known: a row's one, or with `multi_label` the yes or no of every class. A step divides by that count and not by
        the sum of the weights, so that micro-batches add up whatever their classes. Weights whose mean over the
        training rows is 1, such as rows / (classes * rows of the class), leave the size of the loss as it is. With
        `multi_label` only a yes has the weight of its class; a no counts once, as there is no lack of it.
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
        """Return the probability of each class for each row: they sum to 1, or with `multi_label` each is its own."""
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


def _weights(given: Sequence[float] | None) -> Tensor | None:
    return None if given is None else torch.tensor(list(given), dtype=torch.float32)


def _cross_entropy(logits: Tensor, target: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """Sum over rows; smoothing gives each class e / C, as everywhere in PyTorch."""
    weights = None if weights is None else weights.to(logits.dtype)
    return F.cross_entropy(
        logits, target[:, 0], weights, ignore_index=IGNORE, reduction="sum", label_smoothing=smoothing
    )


def _binary_cross_entropy(logits: Tensor, target: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """Sum over rows and classes, each yes weighed; smoothing gives yes and no e / 2 each."""
    wanted = target.to(logits.dtype) * (1 - smoothing) + smoothing / 2  # (B, C)
    factors = (target != IGNORE).to(logits.dtype)
    if weights is not None:
        factors = torch.where(target == 1, weights.to(logits.dtype), factors)
    losses = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")  # (B, C)
    return (losses * factors).sum()
