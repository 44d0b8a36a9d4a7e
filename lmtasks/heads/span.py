"""Finding the answer to a question in a text: its first and its last token, or that there is none.

Attention between question and context: Yu et al. 2018, "QANet", section 2.2, "Context-Query Attention Layer", whose
similarity is that of Seo et al. 2017, "Bidirectional Attention Flow", section 2; the recurrent layer above it is that
paper's modelling layer. Exact match: Chen et al. 2017, "Reading Wikipedia to Answer Open-Domain Questions", section
3.2. No answer, and the score of a span: Devlin et al. 2019, "BERT", section 4.3.
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
from lmtasks.backbones.recurrence import BidirectionalLayer, backward_order
from lmtasks.batch import IGNORE, Batch, longest
from lmtasks.decoding import Decoding
from lmtasks.heads.base import Head

ScoredSpans = list[list[tuple[int, int, float]]]
"""(first token, last token, score) of the spans found for each row, best first."""
NoAnswerAt = Literal["first", "last"]
"""Which token of the source stands for "no answer"."""


class SpanHead(Head):
    """The first and the last token of the answer, or twice a token of the source that means "no answer".

    `batch.source` is the question, a separator `end`, the context, and `end`; `batch.target` is (B, 2) positions in it.

    Example:
        >>> from lmtasks import Batch, TransformerConfig
        >>> backbone = TransformerConfig(d_model=16, n_heads=2, d_ff=32).build(vocab_size=10)
        >>> ids, span = torch.tensor([[5, 2, 6, 5, 7, 2]]), torch.tensor([[3, 4]])
        >>> batch = Batch("answer", source=ids, source_mask=ids > 0, target=span, ids=torch.tensor([0]))
        >>> int(SpanHead(d_model=16, end=2).loss(backbone, batch).count)
        2
    """

    threshold: Tensor
    """() added to the score of "no answer" when spans are predicted, and saved with the weights."""

    def __init__(
        self,
        d_model: int,
        end: int,
        attention: bool = True,
        word_match: bool = True,
        layers: int = 1,
        dropout: float = 0.1,
        max_span: int = 30,
        n_best: int = 5,
        forms: Sequence[int] | None = None,
        no_answer_at: NoAnswerAt = "last",
    ) -> None:
        """Draw fresh weights.

        attention: let question and context read each other once more, above the encoder.
        word_match: tell each token of the context whether the question has it too.
        layers: bidirectional LSTM layers of d_model / 2 each way above that; 0 = none, as above a pretrained encoder.
        dropout: share of the features dropped before each layer.
        max_span: longest answer in tokens.
        n_best: spans predicted for each row, "no answer" not counted.
        forms: for each token of the vocabulary a number; those with the same number match, such as " The" and "the".
        no_answer_at: the token of the source that means "no answer".
        """
        super().__init__()
        self.end, self.max_span, self.n_best, self.no_answer_at = end, max_span, n_best, no_answer_at
        half = d_model // 2
        self.dropout = Dropout(dropout)
        self.match = WordMatch(d_model, forms) if word_match else None
        self.attention = QuestionAttention(d_model, word_match) if attention else None
        widths = [d_model, *[2 * half] * (layers - 1)][:layers]
        self.layers = nn.ModuleList(BidirectionalLayer("lstm", d_input, half) for d_input in widths)
        self.output = nn.Linear(d_model + (2 * half if layers else 0), 2)
        self.register_buffer("threshold", torch.zeros(()))

    def logits(self, backbone: Backbone, batch: Batch) -> tuple[Tensor, Tensor]:
        """Score each token as the first and as the last of the answer: (B, S, 2), float32 or wider, and bool (B, S).

        The second is True for the context. All other tokens have the logit -inf, except that of "no answer".
        """
        mask = batch.source_mask
        question, context, words = self.parts(batch)
        x = self.dropout(backbone.encode(batch.source, mask).states)  # (B, S, D)
        same = None if self.match is None else self.match(batch.source, question, context)  # (B, S, Q)
        if self.attention is not None:
            x = self.attention(x, question, context, same)
        if self.match is not None and same is not None:
            x = x + self.match.embed(same).to(x.dtype)
        read, reverse = x, backward_order(mask)  # (B, S, D), (B, S)
        for layer in self.layers:
            read = layer(self.dropout(read), reverse)  # (B, S, D)
        x = torch.cat((x, read), dim=-1) if len(self.layers) else x
        logits = self.output(self.dropout(x))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        possible = words.scatter(1, self.nowhere(batch), True)
        return logits.masked_fill(~possible.unsqueeze(-1), -torch.inf), words

    def loss(self, backbone: Backbone, batch: Batch) -> Loss:
        """Return the negative log-likelihoods of the first and of the last token; count = 2 a row."""
        logits, _ = self.logits(backbone, batch)
        total = F.cross_entropy(logits, batch.target, ignore_index=IGNORE, reduction="sum")
        return Loss(total, total.detach(), (batch.target != IGNORE).sum())

    @torch.no_grad()
    def predict(self, backbone: Backbone, batch: Batch, decoding: Decoding, prefix: Sequence[int] = ()) -> ScoredSpans:
        """Return for each row (first, last, score) of the `n_best` spans and of "no answer", best first.

        First and last are positions in the source, both in the span. The score is the sum of two logits and no
        probability: a probability compares the spans of one window, and not the windows of a long text (Clark and
        Gardner 2018, "Simple and Effective Multi-Paragraph Reading Comprehension", section 3).
        """
        logits, context = self.logits(backbone, batch)
        nowhere = self.nowhere(batch)
        nothing = logits.sum(-1).gather(1, nowhere)[:, 0] + self.threshold  # (B,)
        starts, ends = logits.masked_fill(~context.unsqueeze(-1), -torch.inf).unbind(-1)  # (B, S) each
        found = best_spans(starts, ends, self.max_span, self.n_best)
        return [
            sorted([*spans, (place, place, score)], key=lambda span: -span[2])
            for spans, place, score in zip(found, nowhere[:, 0].tolist(), nothing.tolist(), strict=True)
        ]

    def parts(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the masks of the question and its end (B, Q), of the context and its ends, and of its words (B, S)."""
        ends = (batch.source == self.end) & batch.source_mask  # (B, S)
        context = (ends.cumsum(1) - ends.long() > 0) & batch.source_mask  # (B, S), after the first end
        question = batch.source_mask & ~context
        question = question[:, : longest(question.sum(1), question.size(1))]
        return question, context, context & ~ends  # RoBERTa has two ends between question and context

    def nowhere(self, batch: Batch) -> Tensor:
        """Return the position of the token of each row that means "no answer": (B, 1)."""
        last = (batch.source_mask.sum(1, keepdim=True) - 1).clamp(min=0)
        return last if self.no_answer_at == "last" else torch.zeros_like(last)


class WordMatch(nn.Module):
    """Which tokens of the context stand in the question too.

    The match is added to the features as an embedding that begins as large as they are: with few questions the other
    features are soon learned by heart, and a weak hint is found too late.
    """

    forms: Tensor | None

    def __init__(self, d_model: int, forms: Sequence[int] | None) -> None:
        super().__init__()
        self.embedding = nn.Linear(2, d_model, bias=False)
        nn.init.normal_(self.embedding.weight)
        # not persistent: it comes from the tokenizer and is not learned
        self.register_buffer("forms", None if forms is None else torch.tensor(list(forms)), persistent=False)

    def forward(self, source: Tensor, question: Tensor, context: Tensor) -> Tensor:
        """Compare source ids (B, S) with those of the question (B, Q): bool (B, S, Q), True where both are one word."""
        words = source if self.forms is None else self.forms[source]
        same = words.unsqueeze(2) == words[:, None, : question.size(1)]
        return same & question.unsqueeze(1) & context.unsqueeze(2)

    def embed(self, same: Tensor) -> Tensor:
        """Turn same (B, S, Q) into features to add: (B, S, D), 0 for tokens that are not in the question."""
        return self.embedding(match_features(same).to(self.embedding.weight.dtype))


class QuestionAttention(nn.Module):
    """Each token of the context reads the question, and the context as the question sees it.

    The similarity of context c and question q is w . [c; q; c * q], plus a learned number for the same word, so that a
    model without pretraining need not learn from few questions what "the same" means.
    """

    def __init__(self, d_model: int, word_match: bool) -> None:
        super().__init__()
        self.context = nn.Linear(d_model, 1, bias=False)
        self.question = nn.Linear(d_model, 1, bias=False)
        self.product = nn.Parameter(torch.full((d_model,), d_model**-0.5))  # begins as a scaled dot product
        self.match = nn.Parameter(torch.ones(())) if word_match else None
        self.join = nn.Linear(4 * d_model, d_model)

    def forward(self, states: Tensor, question: Tensor, context: Tensor, same: Tensor | None) -> Tensor:
        """Read states (B, S, D) with the masks question (B, Q) and context (B, S): (B, S, D), from [c; a; c*a; c*b]."""
        return F.relu(self.join(torch.cat(self.read(states, question, context, same), dim=-1)))

    def read(
        self, states: Tensor, question: Tensor, context: Tensor, same: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return c, a, c * a and c * b of the paper, (B, S, D) each."""
        asked = states[:, : question.size(1)]  # (B, Q, D)
        scores = (states * self.product) @ asked.transpose(1, 2)  # (B, S, Q)
        scores = scores + self.context(states) + self.question(asked).transpose(1, 2)
        if self.match is not None and same is not None:
            scores = scores + same * self.match
        lowest = torch.finfo(scores.dtype).min  # finite: a softmax over -inf alone is not a number
        to_question = scores.masked_fill(~question.unsqueeze(1), lowest).softmax(2).to(states.dtype)  # (B, S, Q)
        to_context = scores.masked_fill(~context.unsqueeze(2), lowest).softmax(1).to(states.dtype)  # (B, S, Q)
        read = to_question @ asked  # (B, S, D), a
        seen = to_question @ (to_context.transpose(1, 2) @ states)  # (B, S, D), b
        return states, read, states * read, states * seen


def match_features(same: Tensor) -> Tensor:
    """Return whether a token is in the question, and that divided by how often the context has it: (B, S, 2).

    The second tells a rare word, which shows where the answer is, from "the"; DrQA has term frequencies for that.
    """
    counts = same.sum(1, keepdim=True).clamp(min=1)  # (B, 1, Q)
    return torch.stack((same.any(2).float(), (same / counts).amax(2)), dim=-1)


def best_spans(starts: Tensor, ends: Tensor, max_span: int, n_best: int) -> ScoredSpans:
    """Return for each row the spans (first, last, score) of highest starts[first] + ends[last], best first.

    starts, ends: (B, S), -inf where no span can begin or end. The search is exact: it scores all pairs with
    first <= last < first + max_span.
    """
    width = min(max_span, starts.size(1))
    band = F.pad(ends, (0, width - 1), value=-torch.inf).unfold(1, width, 1)  # (B, S, width)
    scores = (starts.unsqueeze(2) + band).flatten(1)  # (B, S * width)
    values, places = scores.topk(min(n_best, scores.size(1)), dim=1)
    rows = zip(values.tolist(), places.tolist(), strict=True)
    spans = [[(at // width, at // width + at % width, value) for value, at in zip(*row, strict=True)] for row in rows]
    return [[span for span in row if span[2] > -torch.inf] for row in spans]
