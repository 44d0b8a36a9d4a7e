"""Summarisation: a long text in, what matters of it out.

A row {"text": "Anna lost her key. She looked for it. Paul found it.", "summary": "Paul found Anna's key."} gives the
source ids of the text and the target ids of the summary, each with the end token. A row may have several summaries: the
first is learned, and all are references.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lmtasks import metrics
from lmtasks.heads.seq2seq import Seq2SeqHead
from lmtasks.tasks.base import Example, Prediction, Row, Task, texts_of
from lmtasks.text.tokenizer import Tokenizer

FIRST_SENTENCE = re.compile(r".*?(?:[.!?](?=\s)|[。！？]|$)", re.DOTALL)


@dataclass(frozen=True)
class SummarisationTask(Task):
    """Write a short text that says what a long one says.

    Example:
        >>> SummarisationTask().main_metric
        'rougeL'
    """

    language: str = "en"
    """Language of the summaries (ISO 639), which says what a word is when they are scored."""
    label_smoothing: float = 0.1
    """Share of the target's probability spread over the vocabulary (Szegedy et al. 2016, section 7)."""

    @property
    def kind(self) -> str:
        return "summarisation"

    @property
    def columns(self) -> tuple[str, ...]:
        return ("text", "summary")

    @property
    def source_columns(self) -> tuple[str, ...]:
        return ("text",)

    @property
    def main_metric(self) -> str:
        return "rougeL"

    @property
    def example_command(self) -> str:
        return '"A long text. It has several sentences."'

    def texts(self, row: Row) -> Iterator[str]:
        yield from (text for text in (_text(row), *texts_of(row, "summary")) if text)

    def examples(self, rows: Sequence[Row], tokenizer: Tokenizer) -> list[Example]:
        """Give an example for each row that has a text; a missing summary is left empty."""
        texts = [(number, row, text) for number, row in enumerate(rows) if (text := _text(row)).strip()]
        summaries = [[summary for summary in texts_of(row, "summary") if summary.strip()] for _, row, _ in texts]
        sources = tokenizer.encode_batch([text for _, _, text in texts])
        targets = tokenizer.encode_batch([first for first, *_ in (several or [""] for several in summaries)])
        return [
            Example(
                source=[*source, tokenizer.eos_id],
                target=[*target, tokenizer.eos_id] if several else [],
                text=text,
                reference=several[0] if several else "",
                references=several,
                row=number,
            )
            for (number, _, text), several, source, target in zip(texts, summaries, sources, targets, strict=True)
        ]

    def head(self, tokenizer: Tokenizer, d_model: int) -> Seq2SeqHead:
        return Seq2SeqHead(tokenizer.bos_id, tokenizer.eos_id, tokenizer.suppress_tokens, self.label_smoothing)

    def score(self, samples: Sequence[Prediction], nll: float, count: int) -> dict[str, float]:
        """Return perplexity, ROUGE-1, 2 and L, and the ROUGE-L that the first sentence of each text would have."""
        references = [sample.references for sample in samples]
        own = metrics.rouge([sample.prediction for sample in samples], references, self.language).values
        lead = metrics.rouge([first_sentence(sample.text) for sample in samples], references, self.language).values
        return {"perplexity": metrics.perplexity(nll, count), **own, "rougeL_lead": lead["rougeL"]}

    def signatures(self) -> dict[str, str]:
        """Return the signature of ROUGE under the names of `score`."""
        settings = metrics.rouge([], [], self.language).signature.split("|", 1)[1]  # without the number of rows
        return dict.fromkeys(("rouge1", "rouge2", "rougeL", "rougeL_lead"), settings)


def first_sentence(text: str) -> str:
    """Return a text up to its first full stop, the summary to be compared with (Nenkova 2005).

    Example:
        >>> first_sentence("Anna lost 2.5 keys. Paul found them.")
        'Anna lost 2.5 keys.'
    """
    match = FIRST_SENTENCE.match(text.strip())
    return match[0] if match else ""


def _text(row: Row) -> str:
    """Return the text, which may come as a list of its sentences."""
    return " ".join(texts_of(row, "text"))
