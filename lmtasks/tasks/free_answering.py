"""Generative question answering: the answer to a question about a text is written, in words of the model's own.

With `group_by` each kind of question is scored by itself, as the twenty tasks of bAbI (Weston et al. 2015).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lmtasks import metrics
from lmtasks.tasks.base import Prediction, Row, metric_name, text_of, texts_of
from lmtasks.tasks.seq2seq import Pair, Seq2SeqTask


@dataclass(frozen=True)
class FreeAnsweringTask(Seq2SeqTask):
    """Write the answer to a question about a context. The first answer is the target, all are references.

    Before: `{"question": "Who has a cat?", "context": "Anna has a cat.", "answers": ["Anna", "anna"]}`.
    After, where each word is one token: source `Who has a cat ? </s> Anna has a cat . </s>`, target `Anna </s>`.

    Example:
        >>> FreeAnsweringTask(group_by="task").columns
        ('question', 'context', 'answers', 'task')
    """

    kind = "answering"
    source_columns = ("question", "context")
    context = "context"
    main_metric = "f1"
    example_command = '"Who has a cat?" --context "Anna has a cat."'
    example_call = 'solve([{"question": "Who has a cat?", "context": "Anna has a cat."}])'
    sentence = "Answers a question about a text in words of its own."

    group_by: str | None = None
    """Column that gives the kind of a question; scores are then means over the kinds, and each kind has its own."""
    language: str = "en"
    """Language of the answers (ISO 639), which decides the rules of their scores."""
    label_smoothing: float = field(default=0.0, kw_only=True)
    """Share of the target's probability spread over the vocabulary (Szegedy et al. 2016, section 7)."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Question, context, answers, and the kind of the question if it is used."""
        return (*self.source_columns, "answers", *([self.group_by] if self.group_by else []))

    def texts(self, row: Row) -> Iterator[str]:
        """Yield question, context and all answers."""
        return filter(None, (text_of(row, "question"), text_of(row, "context"), *texts_of(row, "answers")))

    def scored_texts(self, row: Row) -> list[str]:
        """Return the answers."""
        return texts_of(row, "answers")

    def pairs(self, row: Row) -> Iterator[Pair]:
        """Yield question, context and first answer of a row that has the first two."""
        question, context = text_of(row, "question"), text_of(row, "context")
        if question.strip() and context.strip():
            answers = [text for text in texts_of(row, "answers") if text.strip()]
            group = text_of(row, self.group_by) if self.group_by else ""
            yield Pair((question, context), next(iter(answers), ""), tuple(answers), group)  # the first is the target

    def score(self, predictions: Sequence[Prediction], nll: float, count: int) -> dict[str, float]:
        """Return perplexity, exact match, F1 and ROUGE-L, means over the groups, and the exact match of each."""
        groups = sorted({row.group for row in predictions}, key=lambda group: (len(group), group))  # qa2 before qa10
        each = {group: self._score([row for row in predictions if row.group == group]) for group in groups}
        means = {metric: sum(scores[metric] for scores in each.values()) / len(each) for metric in self.signatures()}
        own = {metric_name("exact_match", group): scores["exact_match"] for group, scores in each.items()}
        return {"perplexity": metrics.perplexity(nll, count), **means, **(own if len(each) > 1 else {})}

    def signatures(self) -> dict[str, str]:
        """Return the rules of the scorers, without the number of rows."""
        rules = metrics.squad([], [], self.language).signature.split("|")[-1]
        words = metrics.rouge([], [], self.language).signature.split("|", 1)[1]
        return {"exact_match": rules, "f1": rules, "rouge_l": words}

    def _score(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        answers, references = [each.prediction for each in predictions], [each.references for each in predictions]
        found = metrics.squad(answers, references, self.language).values
        rouge = metrics.rouge(answers, references, self.language).values
        return {"exact_match": found["exact_match"], "f1": found["f1"], "rouge_l": rouge["rougeL"]}
