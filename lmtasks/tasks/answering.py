"""Extractive question answering: the answer to a question is a part of a text, its context, or is not there.

A row {"question": "Who has a cat?", "context": "Anna has a cat.", "answers": ["Anna"], "starts": [0]} gives the source
`Who has a cat? </s> Anna has a cat. </s>` and as target the first and the last token of "Anna" in it. A long context is
read in windows that overlap (Devlin et al. 2019, "BERT", and its run_squad.py), each of them an example. "No answer"
is the last token of the source, as is the target of a window without the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch

from lmtasks import metrics
from lmtasks.batch import IGNORE
from lmtasks.errors import InputError
from lmtasks.heads.base import Head
from lmtasks.heads.span import SpanHead
from lmtasks.tasks.base import Answer, Example, Prediction, Row, Span, Task, fault, text_of, texts_of
from lmtasks.text.tokenizer import Tokenizer

N_BEST = 5  # answers found in a window, and kept of a row
MIN_WINDOW = 8  # tokens: a question of two, two ends, and some context
NOTHING = (-1, -1)  # a span in no window
UNKNOWN = (-2, -2)  # there is an answer, but nobody knows where

Offsets = list[tuple[int, int]]
Cut = tuple[list[int], Offsets]  # a text as token ids and their places in it


@dataclass(frozen=True)
class SpanAnsweringTask(Task):
    """Find the answer to a question in its context.

    Before: `{"question": "Who has a cat?", "context": "Anna has a cat.", "answers": ["Anna"], "starts": [0]}`.
    After, where each word is one token: source `Who has a cat ? </s> Anna has a cat . </s>` and target (6, 6).

    Example:
        >>> SpanAnsweringTask(no_answer=True).columns
        ('question', 'context', 'answers', 'starts')
    """

    window: int = 256
    """Longest source in tokens, question and both ends included; a longer context is read in several windows."""
    stride: int = 128
    """Tokens of the context from the beginning of a window to that of the next."""
    no_answer: bool = False
    """Whether a context may lack the answer; when not, one is always given."""
    max_answer: int = 30
    """Longest answer found, in tokens; longer ones are learned from all the same."""
    language: str = "en"
    """Language of the answers (ISO 639), by whose rules they are scored."""
    attention: bool = True
    """Let question and context read each other above the encoder."""
    word_match: bool = True
    """Tell each token of the context whether the question has it too."""
    dropout: float = 0.1
    """Share of the features dropped above the encoder."""

    def __post_init__(self) -> None:
        if self.window < MIN_WINDOW or self.stride < 1:
            raise InputError(
                f"window {self.window}, stride {self.stride}: at least {MIN_WINDOW} and 1 token are needed"
            )

    @property
    def kind(self) -> str:
        return "answering"

    @property
    def columns(self) -> tuple[str, ...]:
        return ("question", "context", "answers", "starts")

    @property
    def source_columns(self) -> tuple[str, ...]:
        return ("question", "context")

    @property
    def context(self) -> str:
        return "context"

    @property
    def examples_per_row(self) -> None:
        return None

    @property
    def generates(self) -> bool:
        return False

    @property
    def example_command(self) -> str:
        return '"Who has a cat?" --context "Anna has a cat."'

    @property
    def longest(self) -> int:
        return self.window

    @property
    def main_metric(self) -> str:
        return "f1"

    def texts(self, row: Row) -> Iterator[str]:
        return (text for column in self.source_columns if (text := text_of(row, column)))

    def examples(self, rows: Sequence[Row], tokenizer: Tokenizer) -> list[Example]:
        """Give an example for each window of each row that has a question and a context.

        The first answer that stands in the context is the target; all are references. Where a piece of the tokenizer
        goes beyond the answer, the whole piece is the target. An answer that stands nowhere in the context, start -1,
        is no target, but a reference still.

        Raises:
            InputError: If an answer does not stand where the row says, or there is none and `no_answer` is off.
        """
        return self._examples(rows, tokenizer, answered=True)

    def questions(self, rows: Sequence[Row], tokenizer: Tokenizer) -> list[Example]:
        return self._examples(rows, tokenizer, answered=False)

    def head(self, tokenizer: Tokenizer, d_model: int) -> SpanHead:
        return SpanHead(
            d_model,
            tokenizer.eos_id,
            self.attention,
            self.word_match,
            dropout=self.dropout,
            max_span=self.max_answer,
            n_best=N_BEST,
            forms=_forms(tokenizer) if self.word_match else None,
        )

    def answers(
        self, found: Sequence[list[tuple[int, int, float]]], examples: Sequence[Example], tokenizer: Tokenizer
    ) -> list[list[Answer]]:
        """Return the answers found in each window; their spans are characters of the context, and "" has none."""
        pairs = zip(found, examples, strict=True)
        return [[answer for span in spans for answer in _answers(span, example)] for spans, example in pairs]

    def join(self, parts: Sequence[list[Answer]]) -> list[Answer]:
        """Return the best answers of all windows, each place once; that there is none is as sure as in the window
        where it is least so."""
        every = sorted((answer for part in parts for answer in part), key=lambda answer: -answer.score)
        places = {answer.spans: answer for answer in reversed(every) if answer.spans}
        best = sorted(places.values(), key=lambda answer: -answer.score)[:N_BEST]
        nothing = [answer for answer in every if not answer.spans][-1:]
        if not self.no_answer:
            return best or nothing
        return sorted([*best, *nothing], key=lambda answer: -answer.score)

    def calibrate(self, head: Head, samples: Sequence[Prediction]) -> list[Prediction]:
        """Set the score of "no answer" above which the head gives none to where F1 is best, and answer anew.

        Source: evaluate-v2.0.py of SQuAD, find_best_thresh.
        """
        if not self.no_answer:
            return list(samples)
        best = [next((answer for answer in sample.answers if answer.spans), Answer("", 0.0)) for sample in samples]
        nothing = [next(answer for answer in sample.answers if not answer.spans) for sample in samples]
        doubts = [none.score - some.score for none, some in zip(nothing, best, strict=True)]
        references, texts = [sample.references for sample in samples], [answer.text for answer in best]
        threshold = metrics.best_threshold(texts, references, doubts, self.language).f1_threshold
        threshold = _amid(doubts, threshold)
        with torch.no_grad():
            cast(SpanHead, head).threshold -= threshold
        return [_recalibrated(sample, threshold) for sample in samples]

    def score(self, samples: Sequence[Prediction], nll: float, count: int) -> dict[str, float]:
        """Return exact match and F1, and those of the rows with and without an answer where there are both."""
        predictions, references = [sample.prediction for sample in samples], [sample.references for sample in samples]
        return metrics.squad(predictions, references, self.language).values

    def signatures(self) -> dict[str, str]:
        rules = metrics.squad([], [], self.language).signature.split("|")[-1]
        return {"exact_match": rules, "f1": rules}

    def _examples(self, rows: Sequence[Row], tokenizer: Tokenizer, answered: bool) -> list[Example]:
        cuts: dict[str, Cut] = {}  # contexts, each of which has several questions
        examples = []
        for number, row in enumerate(rows):
            question, context = " ".join(text_of(row, "question").split()), text_of(row, "context")
            if not question or not context.strip():
                continue
            if context not in cuts:
                cuts[context] = tokenizer.encode_with_offsets(context)
            answers = self._known_answers(row) if answered else []
            span = _tokens_of(row, answers, cuts[context][1]) if answers else NOTHING
            references = [text for text, _ in answers]
            whole = Example([], [], f"{question}\n{context}", next(iter(references), ""), references, row=number)
            asked = tokenizer.encode_with_offsets(question)
            windows = self._windows(asked, cuts[context], span, tokenizer.eos_id, _context_begins(whole.text))
            examples += [replace(whole, **window) for window in windows]
        return examples if answered else [replace(example, target=[]) for example in examples]

    def _known_answers(self, row: Row) -> list[tuple[str, int]]:
        """Return text and start of each answer that is not blank."""
        texts, starts = texts_of(row, "answers"), row.get("starts")
        starts = [] if starts is None else [starts] if isinstance(starts, (str, int)) else starts  # of one, as in a CSV
        try:
            answers = [(text, int(start)) for text, start in zip(texts, starts, strict=True) if text.strip()]
        except (TypeError, ValueError):
            raise fault(row, f"column 'starts': {str(starts)[:40]}, expected a number for each answer") from None
        if not answers and not self.no_answer:
            raise fault(row, "column 'answers': there is none; set no_answer to true if it may be so, or drop the row")
        return answers

    def _windows(
        self, question: Cut, context: Cut, span: tuple[int, int], end: int, begins: int
    ) -> Iterator[dict[str, Any]]:
        """Yield source, target and offsets of each window; `span` is the answer in tokens of the context, `begins` the
        character of the example's text where the context begins."""
        asked = question[0][: self.window // 2]
        room = self.window - len(asked) - 2
        step = min(self.stride, room)
        for begin in range(0, max(1, len(context[0]) - room + step), step):
            read = context[0][begin : begin + room]
            source = [*asked, end, *read, end]
            shift = len(asked) + 1 - begin
            holds = begin <= span[0] and span[1] < begin + len(read)
            target = [span[0] + shift, span[1] + shift] if holds else [len(source) - 1] * 2
            places = [(start + begins, stop + begins) for start, stop in context[1][begin:][:room]]
            offsets = [*question[1][: len(asked)], (0, 0), *places, (0, 0)]
            known = target if span != UNKNOWN else [IGNORE] * 2
            yield {"source": source, "target": known, "offsets": [place for pair in offsets for place in pair]}


def _tokens_of(row: Row, answers: Sequence[tuple[str, int]], offsets: Offsets) -> tuple[int, int]:
    """Return the first and the last token of the first answer that stands in the context, UNKNOWN if none does."""
    context = text_of(row, "context")
    for text, start in answers:
        if start < 0:
            continue
        if context[start : start + len(text)] != text:
            there = context[start : start + len(text)][:40]
            raise fault(row, f"column 'starts': at character {start} is {there!r}, not the answer {text[:40]!r}")
        stop = start + len(text)
        tokens = [i for i, (left, right) in enumerate(offsets) if left < stop and right > start]
        return tokens[0], tokens[-1]
    return UNKNOWN


def _context_begins(text: str) -> int:
    """Return where the context begins in the text of an example: behind the question, a line, and its break."""
    return text.index("\n") + 1


def _answers(span: tuple[int, int, float], example: Example) -> Iterator[Answer]:
    """Yield the answer that a span of tokens is; none where it is blank."""
    first, last, score = span
    if first == len(example.source) - 1:
        yield Answer("", score)
        return
    start, stop = example.offsets[2 * first], example.offsets[2 * last + 1]
    found = example.text[start:stop]
    start += len(found) - len(found.lstrip())
    start -= _context_begins(example.text)
    if text := found.strip():
        yield Answer(text, score, spans=(Span(start, start + len(text), text),))


def _amid(doubts: Sequence[float], threshold: float) -> float:
    """Return a threshold that parts the doubts as `threshold` does, and no rounding takes for one of them."""
    kept, dropped = [doubt for doubt in doubts if doubt <= threshold], [doubt for doubt in doubts if doubt > threshold]
    if kept and dropped:
        return (max(kept) + min(dropped)) / 2
    return max(kept) + 1 if kept else min(dropped) - 1


def _recalibrated(sample: Prediction, threshold: float) -> Prediction:
    """Return the sample with its answers in the order that they have when "no answer" counts less by `threshold`."""
    moved = [answer if answer.spans else answer._replace(score=answer.score - threshold) for answer in sample.answers]
    answers = sorted(moved, key=lambda answer: -answer.score)
    return replace(sample, answers=answers)


def _forms(tokenizer: Tokenizer) -> list[int]:
    """Return a number for each piece; " The" and "the" have the same."""
    numbers: dict[str, int] = {}
    pieces = tokenizer.pieces(range(len(tokenizer)))
    return [numbers.setdefault(piece.strip().casefold() or piece, len(numbers)) for piece in pieces]
