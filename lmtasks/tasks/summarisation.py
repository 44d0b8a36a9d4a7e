"""Summarisation: a long text in, a short one with its main points out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lmtasks import metrics
from lmtasks.tasks.base import Prediction, Row, texts_of
from lmtasks.tasks.seq2seq import Pair, Seq2SeqTask

# a full stop ends a sentence before a blank, and not in "2.5"; Chinese and Japanese have no blank after it
FIRST_SENTENCE = re.compile(r".*?(?:[.!?](?=\s)|[。！？]|$)", re.DOTALL)


@dataclass(frozen=True)
class SummarisationTask(Seq2SeqTask):
    """Write a summary of a text. A row may have several: the first is the target, all are references.

    Before: `{"text": "Anna lost her key. Paul found it.", "summary": "Paul found a key."}`.
    After, where each word is one token: source `Anna lost ... it . </s>`, target `Paul found a key . </s>`.

    Example:
        >>> SummarisationTask().main_metric
        'rougeL'
    """

    kind = "summarisation"
    columns = ("text", "summary")
    source_columns = ("text",)
    main_metric = "rougeL"
    example_command = '"A long text. It has several sentences."'
    example_call = 'summarise("A long text. It has several sentences.")'
    sentence = "Summarises a text."

    language: str = "en"
    """Language of the summaries (ISO 639), which decides what a word is in their scores."""

    @property
    def limits(self) -> list[str]:
        """What it cannot know."""
        return ["It may write what the text does not say."]

    def texts(self, row: Row) -> Iterator[str]:
        """Yield the text and all summaries."""
        return filter(None, (_text(row), *texts_of(row, "summary")))

    def scored_texts(self, row: Row) -> list[str]:
        """Return the summaries."""
        return texts_of(row, "summary")

    def pairs(self, row: Row) -> Iterator[Pair]:
        """Yield the text and its first summary."""
        if (text := _text(row)).strip():
            summaries = [summary for summary in texts_of(row, "summary") if summary.strip()]
            yield Pair((text,), next(iter(summaries), ""), tuple(summaries))  # the first is the target

    def score(self, predictions: Sequence[Prediction], nll: float, count: int) -> dict[str, float]:
        """Return perplexity, ROUGE-1, 2 and L, and the ROUGE-L that the first sentence of each text would have."""
        references = [each.references for each in predictions]
        own = metrics.rouge([each.prediction for each in predictions], references, self.language)
        lead = metrics.rouge([first_sentence(each.text) for each in predictions], references, self.language)
        return {"perplexity": metrics.perplexity(nll, count), **own.values, "rougeL_lead": lead.values["rougeL"]}

    def signatures(self) -> dict[str, str]:
        """Return the signature of ROUGE, without the number of rows, under the names of `score`."""
        settings = metrics.rouge([], [], self.language).signature.split("|", 1)[1]
        return dict.fromkeys(("rouge1", "rouge2", "rougeL", "rougeL_lead"), settings)


def first_sentence(text: str) -> str:
    """Return a text up to its first full stop, a baseline for summaries (Nenkova 2005).

    >>> first_sentence("Anna lost 2.5 keys. Paul found them.")
    'Anna lost 2.5 keys.'
    """
    match = FIRST_SENTENCE.match(text.strip())
    return match[0] if match else ""


def _text(row: Row) -> str:
    """Return the text, which may be given as a list of its sentences."""
    return " ".join(texts_of(row, "text"))
