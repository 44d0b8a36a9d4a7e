"""Finding the answer to a question in a text: its first and its last token, or that there is none.

Attention between question and context: Yu et al. 2018, "QANet", section 2.2, "Context-Query Attention Layer", whose
similarity is that of Seo et al. 2017, "Bidirectional Attention Flow", section 2; the recurrent layer above it is that
paper's modelling layer. Exact match: Chen et al. 2017, "Reading Wikipedia to Answer Open-Domain Questions", section
3.2. No answer, and the score of a span: Devlin et al. 2019, "BERT", section 4.3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmtasks.backbones.base import Backbone
from lmtasks.backbones.dropout import Dropout
from lmtasks.backbones.loss import Loss
from lmtasks.backbones.recurrence import BidirectionalLayer
from lmtasks.batch import IGNORE, Batch
from lmtasks.decoding import Decoding
from lmtasks.heads.base import Head


class SpanHead(Head):
    """The first and the last token of the answer, of which the last token of the source stands for "no answer".

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
    ) -> None:
        """Draw fresh weights.

        attention: let question and context read each other once more, above the encoder.
        word_match: tell each token of the context whether the question has it too.
        layers: bidirectional LSTM layers of d_model / 2 each way above that; 0 = none, as above a pretrained encoder.
        dropout: share of the features dropped before each layer.
        max_span: longest answer in tokens.
        n_best: spans predicted for each row, "no answer" not counted.
        forms: for each token of the vocabulary a number; those with the same number match, such as " The" and "the".
        """
        super().__init__()
        self.end, self.max_span, self.n_best = end, max_span, n_best
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

        The second says which tokens an answer can consist of. The others have the logit -inf, but for the last one.
        """
        memory = backbone.encode(batch.source, batch.source_mask)
        question, context = _parts(batch, self.end)  # (B, Q), (B, S)
        x = self._model(self.dropout(memory.states), batch, question, context)  # (B, S, D or 2D)
        logits = self.output(self.dropout(x))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        last = (batch.source_mask.sum(1, keepdim=True) - 1).clamp(min=0)  # (B, 1)
        possible = context.scatter(1, last, True)
        return logits.masked_fill(~possible.unsqueeze(-1), -torch.inf), context.scatter(1, last, False)

    def loss(self, backbone: Backbone, batch: Batch) -> Loss:
        """Return the negative log-likelihoods of the first and of the last token; count = 2 a row."""
        logits, _ = self.logits(backbone, batch)
        total = F.cross_entropy(logits, batch.target, ignore_index=IGNORE, reduction="sum")
        return Loss(total, total.detach(), (batch.target != IGNORE).sum())

    @torch.no_grad()
    def predict(
        self, backbone: Backbone, batch: Batch, decoding: Decoding, prefix: Sequence[int] = ()
    ) -> list[list[tuple[int, int, float]]]:
        """Return for each row (first, last, score) of the `n_best` spans and of "no answer", best first.

        Positions are those of the source, both in the span; "no answer" is its last token twice. The score is the sum
        of two logits and no probability: a probability would say how good a span is in its window, and not which
        window of a long text has the answer (Clark and Gardner 2018, "Simple and Effective Multi-Paragraph Reading
        Comprehension", section 3).
        """
        logits, body = self.logits(backbone, batch)
        last = (batch.source_mask.sum(1, keepdim=True) - 1).clamp(min=0)  # (B, 1)
        nothing = logits.sum(-1).gather(1, last)[:, 0] + self.threshold  # (B,)
        starts, ends = logits.masked_fill(~body.unsqueeze(-1), -torch.inf).unbind(-1)  # (B, S) each
        found = best_spans(starts, ends, self.max_span, self.n_best)
        answers = []
        for spans, place, score in zip(found, last[:, 0].tolist(), nothing.tolist(), strict=True):
            answers.append(sorted([*spans, (place, place, score)], key=lambda span: -span[2]))
        return answers

    def _model(self, states: Tensor, batch: Batch, question: Tensor, context: Tensor) -> Tensor:
        """Join states (B, S, D) with what the question says about them, and read the result in both directions."""
        same = None if self.match is None else self.match(batch.source, question, context)  # (B, S, Q)
        x = states if self.attention is None else self.attention(states, question, context, same)  # (B, S, D)
        if self.match is not None and same is not None:
            x = x + self.match.embed(same).to(x.dtype)
        order = torch.arange(x.size(1), device=x.device)
        lengths = batch.source_mask.sum(1, keepdim=True)
        reverse = torch.where(batch.source_mask, lengths - 1 - order, order)  # (B, S)
        read = x
        for layer in self.layers:
            read = layer(self.dropout(read), reverse)  # (B, S, D)
        return torch.cat((x, read), dim=-1) if len(self.layers) else x


class WordMatch(nn.Module):
    """Which tokens of the context stand in the question too.

    What that says is added to the features as an embedding, which begins as large as they are: with few questions the
    other features are soon learned by heart, and a weak hint is found too late.
    """

    forms: Tensor | None

    def __init__(self, d_model: int, forms: Sequence[int] | None) -> None:
        super().__init__()
        self.embedding = nn.Linear(2, d_model, bias=False)
        nn.init.normal_(self.embedding.weight)
        # told by the tokenizer and not learned
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

    The similarity of context c and question q is w . [c; q; c * q], and with exact matches a learned number more for
    the same word: a model that is trained from nothing on few questions need not learn what "the same" means.
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
        lowest = torch.finfo(scores.dtype).min  # finite, should nothing be left to read
        to_question = scores.masked_fill(~question.unsqueeze(1), lowest).softmax(2).to(states.dtype)  # (B, S, Q)
        to_context = scores.masked_fill(~context.unsqueeze(2), lowest).softmax(1).to(states.dtype)  # (B, S, Q)
        read = to_question @ asked  # (B, S, D), a
        seen = to_question @ (to_context.transpose(1, 2) @ states)  # (B, S, D), b
        return states, read, states * read, states * seen


def match_features(same: Tensor) -> Tensor:
    """Return whether a token is in the question, and that divided by how often the context has it: (B, S, 2).

    The second tells a rare word, which says where the answer is, from "the"; DrQA has term frequencies for that.
    """
    counts = same.sum(1, keepdim=True).clamp(min=1)  # (B, 1, Q)
    return torch.stack((same.any(2).float(), (same / counts).amax(2)), dim=-1)


def best_spans(starts: Tensor, ends: Tensor, max_span: int, n_best: int) -> list[list[tuple[int, int, float]]]:
    """Return for each row the spans (first, last, score) of highest starts[first] + ends[last], best first.

    starts, ends: (B, S), -inf where no span can begin or end. The search is exact, and makes only those pairs that
    may win, first <= last < first + max_span.
    """
    width = min(max_span, starts.size(1))
    band = F.pad(ends, (0, width - 1), value=-torch.inf).unfold(1, width, 1)  # (B, S, width)
    scores = (starts.unsqueeze(2) + band).flatten(1)  # (B, S * width)
    values, places = scores.topk(min(n_best, scores.size(1)), dim=1)
    found = []
    for row_values, row_places in zip(values.tolist(), places.tolist(), strict=True):
        spans = [(place // width, place // width + place % width) for place in row_places]
        found.append([(*span, value) for span, value in zip(spans, row_values, strict=True) if value > -torch.inf])
    return found


def _parts(batch: Batch, end: int) -> tuple[Tensor, Tensor]:
    """Return which tokens are the question (B, Q), its end among them, and which come after it (B, S)."""
    ends = (batch.source == end) & batch.source_mask  # (B, S)
    context = (ends.cumsum(1) - ends.long() > 0) & batch.source_mask
    question = batch.source_mask & ~context
    return question[:, : max(1, int(question.sum(1).max()))], context
