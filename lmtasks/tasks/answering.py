"""Extractive question answering: the answer to a question is a part of a text, its context, or is not there.

A long context is read in windows that overlap (Devlin et al. 2019, "BERT", and its run_squad.py), each of them an
example. "No answer" is the last token of the source, or the first (BERT, section 4.3), which is also the target of a
window without the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import cast

import torch

from lmtasks import metrics
from lmtasks.batch import IGNORE, Example
from lmtasks.cuts import note_cut
from lmtasks.errors import InputError
from lmtasks.heads.base import Head
from lmtasks.heads.span import NoAnswerAt, ScoredSpans, SpanHead
from lmtasks.tasks.base import Answer, Answers, Prediction, Row, Span, Task, fault, text_of, texts_of
from lmtasks.text.base import BaseTokenizer
from lmtasks.text.words import whole_words

N_BEST = 5  # answers found in a window, and kept of a row
MIN_WINDOW = 8  # tokens: a question of two, two ends, and some context
NOTHING = (-1, -1)  # a span in no window
UNKNOWN = (-2, -2)  # there is an answer, but its place is not known
NO_TEXT = (0, 0)  # the characters of a special token

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

    kind = "answering"
    columns = ("question", "context", "answers", "starts")
    source_columns = ("question", "context")
    context = "context"
    main_metric = "f1"
    examples_per_row = None  # one for each window
    empty = "the context has no answer, or a text is blank"
    example_command = '"Who has a cat?" --context "Anna has a cat."'
    example_call = 'answer("Who has a cat?", "Anna has a cat.")'

    window: int = 256
    """Longest source in tokens, question and both ends included; a longer context is read in several windows."""
    stride: int = 128
    """Tokens of the context from the beginning of a window to that of the next."""
    no_answer: bool = False
    """Whether a context may lack the answer; otherwise one is always given."""
    max_answer: int = 30
    """Longest answer found, in tokens; longer ones are learned from all the same."""
    language: str = "en"
    """Language of the answers (ISO 639), which decides the rules of their scores."""
    attention: bool = True
    """Let question and context read each other above the encoder."""
    word_match: bool = True
    """Tell each token of the context whether the question has it too."""
    dropout: float = 0.1
    """Share of the features dropped above the encoder."""
    layers: int = 1
    """Bidirectional LSTM layers above the encoder; 0 suits a pretrained one."""
    no_answer_at: NoAnswerAt = "last"
    """The token of the source that means "no answer": the last one, or the first, as in BERT."""

    def __post_init__(self) -> None:
        if self.window < MIN_WINDOW or self.stride < 1:
            given = f"window {self.window}, stride {self.stride}"
            raise InputError(f"{given}: at least {MIN_WINDOW} and 1 token are needed")

    @property
    def sentence(self) -> str:
        """What it finds."""
        return f"Finds the answer to a question in a text{', or that the text has none' if self.no_answer else ''}."

    @property
    def limits(self) -> list[str]:
        """It knows nothing but the text, of which it sees a window at a time."""
        always = [] if self.no_answer else ["It always gives an answer, also where the text has none."]
        return [
            f"It reads a long text in windows of {self.window:,} tokens; an answer has {self.max_answer} at most.",
            "Its answer is a part of the text: it does not count, compare or conclude.",
            *always,
        ]

    @property
    def max_length(self) -> int:
        """The window."""
        return self.window

    def check(self, row: Row) -> None:
        """Check question, context and answers."""
        super().check(row)
        if text_of(row, "question").strip() and text_of(row, "context").strip():
            self._known_answers(row)

    def examples(self, rows: Sequence[Row], tokenizer: BaseTokenizer, answered: bool = True) -> list[Example]:
        """Give an example for each window of each row that has a question and a context.

        The first answer that stands in the context is the target; all are references. Where a piece of the tokenizer
        exceeds the answer, the whole piece is the target. An answer that is not in the context, start -1, is only a
        reference. answered: whether the rows have answers.

        Raises: InputError if an answer is not where the row says, or there is none and `no_answer` is off.
        """
        encode_context = cache(tokenizer.encode_with_offsets)  # a context has several questions
        examples: list[Example] = []
        for number, row in enumerate(rows):
            question, context = " ".join(text_of(row, "question").split()), text_of(row, "context")
            if not question or not context.strip():
                continue
            answers = self._known_answers(row) if answered else []
            span = _tokens_of(row, answers, encode_context(context)[1]) if answers else NOTHING
            references = [text for text, _ in answers]
            whole = Example([], [], f"{question}\n{context}", next(iter(references), ""), references, row=number)
            asked = _without(tokenizer.separator_id, tokenizer.encode_with_offsets(question))
            examples += self._windows(whole, asked, encode_context(context), span, tokenizer)
        return examples

    def questions(self, rows: Sequence[Row], tokenizer: BaseTokenizer) -> list[Example]:
        """Give an example for each window of each row that has a question and a context, whatever its answers."""
        return [replace(example, target=[]) for example in self.examples(rows, tokenizer, answered=False)]

    def head(self, tokenizer: BaseTokenizer, d_model: int) -> SpanHead:
        """Return a head that finds spans."""
        numbers: dict[str, int] = {}
        pieces = tokenizer.pieces(range(len(tokenizer))) if self.word_match else []
        # " The" and "the" have the same number, and match; a blank alone matches itself
        forms = [numbers.setdefault(piece.strip().casefold() or piece, len(numbers)) for piece in pieces]
        return SpanHead(
            d_model,
            tokenizer.separator_id,
            self.attention,
            self.word_match,
            self.layers,
            self.dropout,
            max_span=self.max_answer,
            n_best=N_BEST,
            forms=forms or None,
            no_answer_at=self.no_answer_at,
        )

    def answers(self, found: ScoredSpans, examples: Sequence[Example], tokenizer: BaseTokenizer) -> Answers:
        """Return the answers found in each window; their spans are characters of the context, and "" has none."""
        pairs = zip(found, examples, strict=True)
        return [[answer for span in spans for answer in _answers(span, example)] for spans, example in pairs]

    def join(self, parts: Sequence[list[Answer]]) -> list[Answer]:
        """Return the best answers of all windows, each place once; "no answer" has its lowest score of all windows."""
        every = _best_first(answer for part in parts for answer in part)
        places = {answer.spans: answer for answer in reversed(every) if answer.spans}
        best = _best_first(places.values())[:N_BEST]
        nothing = [answer for answer in every if not answer.spans][-1:]
        return _best_first([*best, *nothing]) if self.no_answer else best or nothing

    def calibrate(self, head: Head, predictions: Sequence[Prediction]) -> list[Prediction]:
        """Set the threshold from which on the head gives no answer to where F1 is best, and answer again.

        Source: evaluate-v2.0.py of SQuAD, find_best_thresh.
        """
        if not self.no_answer:
            return list(predictions)
        best = [next((answer for answer in each.answers if answer.spans), Answer("", 0.0)) for each in predictions]
        nothing = [next(answer for answer in each.answers if not answer.spans) for each in predictions]
        doubts = [none.score - some.score for none, some in zip(nothing, best, strict=True)]
        references, texts = [each.references for each in predictions], [answer.text for answer in best]
        threshold = _between(doubts, metrics.best_threshold(texts, references, doubts, self.language).f1_threshold)
        with torch.no_grad():
            cast(SpanHead, head).threshold -= threshold  # in place: a buffer, saved with the weights
        moved = [
            [each if each.spans else each._replace(score=each.score - threshold) for each in prediction.answers]
            for prediction in predictions
        ]
        return [replace(each, answers=_best_first(own)) for each, own in zip(predictions, moved, strict=True)]

    def score(self, predictions: Sequence[Prediction], nll: float, count: int) -> dict[str, float]:
        """Return exact match and F1, and those of the rows with and without an answer where there are both."""
        answers, references = [each.prediction for each in predictions], [each.references for each in predictions]
        return metrics.squad(answers, references, self.language).values

    def signatures(self) -> dict[str, str]:
        """Return the rules of the scorer, without the number of rows."""
        rules = metrics.squad([], [], self.language).signature.split("|")[-1]
        return {"exact_match": rules, "f1": rules}

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
        self, whole: Example, question: Cut, context: Cut, span: tuple[int, int], tokenizer: BaseTokenizer
    ) -> Iterator[Example]:
        """Yield `whole` with source, target and offsets of each window; `span` is the answer in context tokens."""
        asked = question[0][: self.window // 2]  # at least half of a window is left to the context
        if len(asked) < len(question[0]):
            note_cut(whole.row, len(question[0]), len(asked))
        before = len(tokenizer.frame_source(asked, [])) - 1  # tokens in front of the context; one end follows it
        first = len(tokenizer.frame_source([])) - 1  # tokens in front of the question
        between = before - first - len(asked)  # ends between question and context
        begins = whole.text.index("\n") + 1  # the character of the text, a line of question and the context
        room = self.window - before - 1  # tokens of the context in a window
        step = min(self.stride, room)  # no token of the context falls between two windows
        for begin in range(0, max(1, len(context[0]) - room + step), step):
            read = context[0][begin : begin + room]
            source = tokenizer.frame_source(asked, read)
            shift = before - begin
            holds = begin <= span[0] and span[1] < begin + len(read)
            nowhere = len(source) - 1 if self.no_answer_at == "last" else 0
            target = [span[0] + shift, span[1] + shift] if holds else [nowhere] * 2  # half an answer is none
            places = [(start + begins, stop + begins) for start, stop in context[1][begin:][:room]]
            pairs = [*[NO_TEXT] * first, *question[1][: len(asked)], *[NO_TEXT] * between, *places, NO_TEXT]
            offsets = [place for pair in pairs for place in pair]
            yield replace(whole, source=source, target=[IGNORE] * 2 if span == UNKNOWN else target, offsets=offsets)


def _without(token: int, cut: Cut) -> Cut:
    """Return a text without a token: the separator, which a text may spell, must not end the question."""
    kept = [(i, place) for i, place in zip(*cut, strict=True) if i != token]
    return [i for i, _ in kept], [place for _, place in kept]


def _tokens_of(row: Row, answers: Sequence[tuple[str, int]], offsets: Offsets) -> tuple[int, int]:
    """Return the first and the last token of the first answer that stands in the context, UNKNOWN if none does."""
    context = text_of(row, "context")
    for text, start in answers:
        if start < 0:
            continue
        stop = start + len(text)
        if (there := context[start:stop]) != text:
            raise fault(row, f"column 'starts': at character {start} is {there[:40]!r}, not the answer {text[:40]!r}")
        tokens = [i for i, (left, right) in enumerate(offsets) if left < stop and right > start]
        return tokens[0], tokens[-1]
    return UNKNOWN


def _answers(span: tuple[int, int, float], example: Example) -> Iterator[Answer]:
    """Yield the answer that a span of tokens is; none where it is blank."""
    first, last, score = span
    if first in (0, len(example.source) - 1):  # neither is ever of the context
        yield Answer("", score)
        return
    start, stop = example.offsets[2 * first], example.offsets[2 * last + 1]
    found = example.text[start:stop]
    if not found.strip():
        return
    start += len(found) - len(found.lstrip())
    start, stop = whole_words(example.text, start, start + len(found.strip()))
    begins = example.text.index("\n") + 1  # of the context, from which characters are counted
    yield Answer(
        example.text[start:stop], score, spans=(Span(start - begins, stop - begins, example.text[start:stop]),)
    )


def _best_first(answers: Iterable[Answer]) -> list[Answer]:
    return sorted(answers, key=lambda answer: -answer.score)


def _between(doubts: Sequence[float], threshold: float) -> float:
    """Return a threshold that splits the doubts as `threshold` does, far enough from each for any rounding."""
    kept, dropped = [doubt for doubt in doubts if doubt <= threshold], [doubt for doubt in doubts if doubt > threshold]
    if kept and dropped:
        return (max(kept) + min(dropped)) / 2
    return max(kept) + 1 if kept else min(dropped) - 1
