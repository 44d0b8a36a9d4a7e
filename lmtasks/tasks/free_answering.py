"""Generative question answering: the answer to a question about a text is written, in words that need not be there.

A row {"question": "Who has a cat?", "context": "Anna has a cat.", "answers": ["Anna", "anna"]} gives the source ids of
question and context, each with the end token, and the target ids of the first answer with its end token. All answers
are right. With `group_by` each kind of question is scored by itself, as the twenty tasks of bAbI (Weston et al. 2015).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lmtasks import metrics
from lmtasks.heads.seq2seq import Seq2SeqHead
from lmtasks.tasks.base import Example, Prediction, Row, Task, metric_name, text_of, texts_of
from lmtasks.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class FreeAnsweringTask(Task):
    """Write the answer to a question about a context.

    Before: `{"question": "Who has a cat?", "context": "Anna has a cat.", "answers": ["Anna"]}`.
    After, where each word is one token: source `Who has a cat ? </s> Anna has a cat . </s>`, target `Anna </s>`.

    Example:
        >>> FreeAnsweringTask(group_by="task").columns
        ('question', 'context', 'answers', 'task')
    """

    group_by: str | None = None
    """Column that says of which kind a question is; scores are then means over the kinds, and each has its own."""
    language: str = "en"
    """Language of the answers (ISO 639), by whose rules they are scored."""
    label_smoothing: float = 0.0
    """Share of the target's probability spread over the vocabulary (Szegedy et al. 2016, section 7)."""

    @property
    def kind(self) -> str:
        return "answering"

    @property
    def columns(self) -> tuple[str, ...]:
        return ("question", "context", "answers", *([self.group_by] if self.group_by else []))

    @property
    def source_columns(self) -> tuple[str, ...]:
        return ("question", "context")

    @property
    def context(self) -> str:
        return "context"

    @property
    def example_command(self) -> str:
        return '"Who has a cat?" --context "Anna has a cat."'

    @property
    def main_metric(self) -> str:
        return "f1"

    def texts(self, row: Row) -> Iterator[str]:
        texts = [text_of(row, "question"), text_of(row, "context"), *texts_of(row, "answers")]
        return (text for text in texts if text)

    def examples(self, rows: Sequence[Row], tokenizer: Tokenizer) -> list[Example]:
        """Give an example for each row that has a question and a context; a missing answer is left empty."""
        asked = [(number, row) for number, row in enumerate(rows) if _is_whole(row)]
        questions = tokenizer.encode_batch([text_of(row, "question") for _, row in asked])
        contexts = tokenizer.encode_batch([text_of(row, "context") for _, row in asked])
        known = [[text for text in texts_of(row, "answers") if text.strip()] for _, row in asked]
        first = [next(iter(answers), "") for answers in known]
        targets = tokenizer.encode_batch(first)
        return [
            Example(
                source=[*question, tokenizer.eos_id, *context, tokenizer.eos_id],
                target=[*target, tokenizer.eos_id] if reference else [],
                text=f"{row['question']}\n{row['context']}",
                reference=reference,
                references=references,
                group=text_of(row, self.group_by) if self.group_by else "",
                row=number,
            )
            for (number, row), question, context, target, reference, references in zip(
                asked, questions, contexts, targets, first, known, strict=True
            )
        ]

    def head(self, tokenizer: Tokenizer, d_model: int) -> Seq2SeqHead:
        return Seq2SeqHead(tokenizer.bos_id, tokenizer.eos_id, tokenizer.suppress_tokens, self.label_smoothing)

    def score(self, samples: Sequence[Prediction], nll: float, count: int) -> dict[str, float]:
        """Return perplexity, exact match, F1 and ROUGE-L, means over the groups, and the exact match of each."""
        groups: dict[str, list[Prediction]] = {}
        for sample in samples:
            groups.setdefault(sample.group, []).append(sample)
        each = {group: self._score(groups[group]) for group in sorted(groups, key=_by_number)}
        means = {metric: sum(scores[metric] for scores in each.values()) / len(each) for metric in self.signatures()}
        own = {metric_name("exact_match", group): scores["exact_match"] for group, scores in each.items()}
        return {"perplexity": metrics.perplexity(nll, count), **means, **(own if len(each) > 1 else {})}

    def signatures(self) -> dict[str, str]:
        rules = metrics.squad([], [], self.language).signature.split("|")[-1]
        words = metrics.rouge([], [], self.language).signature.split("|", 1)[1]
        return {"exact_match": rules, "f1": rules, "rouge_l": words}

    def _score(self, samples: Sequence[Prediction]) -> dict[str, float]:
        predictions, references = [sample.prediction for sample in samples], [sample.references for sample in samples]
        squad = metrics.squad(predictions, references, self.language).values
        rouge = metrics.rouge(predictions, references, self.language).values
        return {"exact_match": squad["exact_match"], "f1": squad["f1"], "rouge_l": rouge["rougeL"]}


def _is_whole(row: Row) -> bool:
    return bool(text_of(row, "question").strip() and text_of(row, "context").strip())


def _by_number(group: str) -> tuple[int, str]:
    """Sort qa2 before qa10."""
    return len(group), group
