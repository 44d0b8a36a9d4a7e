"""Text to text: the text says what is wanted, the answer is written (T5, Raffel et al. 2020, section 2.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lmtasks import metrics
from lmtasks.tasks.base import Prediction, Row, text_of
from lmtasks.tasks.seq2seq import Pair, Seq2SeqTask


@dataclass(frozen=True)
class TextToTextTask(Seq2SeqTask):
    """Write what a text asks for, whatever that is.

    Before: `{"text": "translate English to German: A dog runs.", "answer": "Ein Hund läuft."}`.
    After, where each word is one token: source `translate English to German: A dog runs . </s>`, target
    `Ein Hund läuft . </s>`.

    Example:
        >>> TextToTextTask().columns
        ('text', 'answer')
    """

    kind = "generation"
    columns = ("text", "answer")
    source_columns = ("text",)
    main_metric = "token_probability"  # 100 / perplexity: what is a good answer depends on the text
    example_command = '"translate English to German: A dog runs."'
    example_call = 'generate("translate English to German: A dog runs.")'
    sentence = "Writes what a text asks for."

    def pairs(self, row: Row) -> Iterator[Pair]:
        """Yield the text and its answer."""
        if (text := text_of(row, "text")).strip():
            yield Pair((text,), text_of(row, "answer"))

    def score(self, predictions: Sequence[Prediction], nll: float, count: int) -> dict[str, float]:
        """Return perplexity, and the mean probability of a token of the answers, in percent."""
        return {
            "perplexity": metrics.perplexity(nll, count),
            "token_probability": metrics.token_probability(nll, count),
        }

    def signatures(self) -> dict[str, str]:
        """Say what is counted."""
        return {"token_probability": "ends:scored"}
