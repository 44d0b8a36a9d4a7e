"""Tagging: a sentence as words in, the names in it out, each with its kind.

A row {"words": ["Anna", "lives", "in", "Rome"], "tags": ["B-PER", "O", "O", "B-LOC"]} gives as source the ids of all
words and the end token, and as target the tag of each word at its first piece (Devlin et al. 2019, section 5.3).
Words are encoded one by one, so that a word has the same ids whatever stands beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import Any, NamedTuple

from lmtasks import metrics
from lmtasks.batch import IGNORE
from lmtasks.errors import InputError
from lmtasks.heads.tagging import TaggingHead
from lmtasks.tasks.base import Answer, Example, Prediction, Row, Span, Task, fault, metric_name, text_of, texts_of
from lmtasks.text.tags import OUTSIDE, as_bio, detect_scheme, spans, split_tag
from lmtasks.text.tokenizer import Tokenizer
from lmtasks.text.words import LETTERS, Place, join_words, learn_writing, split_words

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaggingTask(Task):
    """Find the names in a text.

    Example:
        >>> row = {"words": ["Anna", "lives", "in", "Rome"], "tags": ["B-PER", "O", "O", "B-LOC"]}
        >>> task = TaggingTask().learn([row])
        >>> task.tags
        ['O', 'B-LOC', 'I-LOC', 'B-PER', 'I-PER']
    """

    crf: bool = True
    """Learn which tags follow which (Lample et al. 2016, section 2.2)."""
    spelling: bool = True
    """Read the letters of each word beside its pieces (Ma and Hovy 2016, section 2.1)."""
    layers: int = 1
    """Bidirectional LSTM layers over the words, above the backbone."""
    dropout: float = 0.3
    """Share of the features of a word dropped."""
    labels: tuple[str, ...] = ()
    """Kinds of names, learned from the training rows."""
    writing: tuple[str, ...] = ()
    """What stands inside the words, learned from the training rows; see `lmtasks.text.words`."""

    def __post_init__(self) -> None:
        for name in ("labels", "writing"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def kind(self) -> str:
        return "tagging"

    @property
    def columns(self) -> tuple[str, ...]:
        return ("words", "tags")

    @property
    def source_columns(self) -> tuple[str, ...]:
        return ("words",)

    @property
    def input_column(self) -> str:
        return "text"

    @property
    def tags(self) -> list[str]:
        """The tags of a word: outside, and beginning and inside of each kind."""
        return [OUTSIDE, *(f"{prefix}-{label}" if label else prefix for label in self.labels for prefix in "BI")]

    @property
    def generates(self) -> bool:
        return False

    @property
    def example_command(self) -> str:
        return '"Anna Bell lives in Rome."'

    @property
    def main_metric(self) -> str:
        return "f1"

    def learn(self, rows: Iterable[Row]) -> TaggingTask:
        """Return the task with the kinds of names and the writing of the rows; kinds that it has already stay.

        Raises:
            InputError: If tags are of no scheme or of two, or nothing is tagged.
        """
        words: list[list[str]] = []
        tags: list[list[str]] = []
        for row in rows:
            words.append(texts_of(row, "words"))
            tags.append(_tags(row, words[-1]))
        scheme = detect_scheme(tags)
        found = sorted({label for row in tags for label, _, _ in spans(row)})
        if not found:
            raise InputError(f"column 'tags': all {len(tags)} training rows have no name, only {OUTSIDE}")
        task = replace(self, labels=self.labels or tuple(found), writing=learn_writing(words))
        kind = "words" if LETTERS in task.writing else "single characters"
        logger.info("tagging: scheme %s, of %s, names of %s", scheme, kind, ", ".join(task.labels))
        return task

    def texts(self, row: Row) -> Iterator[str]:
        """Give the words with blanks between, as they are encoded: no piece reaches over two."""
        words = texts_of(row, "words")
        return iter([" ".join(words)] if words else [])

    def examples(self, rows: Sequence[Row], tokenizer: Tokenizer) -> list[Example]:
        """Give an example for each row that has words; the tags may be of any scheme, row by row."""
        return self._examples(rows, tokenizer, tagged=True)

    def questions(self, rows: Sequence[Row], tokenizer: Tokenizer) -> list[Example]:
        """Give an example for each row that has words, or a "text", which is cut to words as the training rows are."""
        return self._examples(rows, tokenizer, tagged=False)

    def head(self, tokenizer: Tokenizer, d_model: int) -> TaggingHead:
        """Return a head whose answers begin a name before they go on with it."""
        tags = self.tags
        inside = [tag[1:] if tag != OUTSIDE else None for tag in tags]  # the kind of the name that a word is in
        allowed = [
            [tag[0] != "I" or kind == before for tag, kind in zip(tags, inside, strict=True)] for before in inside
        ]
        first = [tag[0] != "I" for tag in tags]
        pieces = [piece.strip(b" ") for piece in tokenizer.byte_pieces()] if self.spelling else None
        return TaggingHead(d_model, len(tags), allowed, first, None, self.dropout, self.crf, pieces, self.layers)

    def answers(self, found: Sequence[Any], examples: Sequence[Example], tokenizer: Tokenizer) -> list[list[Answer]]:
        """Turn tags into names; the score is the probability of all tags of the text together."""
        return [[self._answer(example, *pair)] for pair, example in zip(found, examples, strict=True)]

    def score(self, samples: Sequence[Prediction], nll: float, count: int) -> dict[str, float]:
        """Return precision, recall and F1 of the names, and F1 of each kind where there are several."""
        metric = self._counted(samples)
        kinds = metric.by_label if len(self.labels) > 1 else {}
        return metric.values | {metric_name("f1", label): values["f1"] for label, values in kinds.items()}

    def table(self, samples: Sequence[Prediction]) -> str:
        """Return precision, recall, F1 and number of the names of each kind, for people."""
        return self._counted(samples).table

    def signatures(self) -> dict[str, str]:
        signature = metrics.entity_scores([], [], []).signature.partition("|")[
            2
        ]  # without the number of names: there are none yet
        return dict.fromkeys(("precision", "recall", "f1"), signature)

    def _counted(self, samples: Sequence[Prediction]) -> metrics.LabelledScore:
        given = [sample.answer.spans if sample.answer else () for sample in samples]
        found = [[(span.label, span.start, span.stop) for span in several] for several in given]
        actual = [[_parsed(reference) for reference in sample.references] for sample in samples]
        return metrics.entity_scores(found, actual, self.labels)

    def _sentence(self, row: Row) -> Sentence:
        """Return what stands in the words of a row, or else in its text."""
        words = texts_of(row, "words")
        if words:
            return Sentence(words, *join_words(words, self.writing), row)
        text = text_of(row, "text")
        places = split_words(text, self.writing)
        return Sentence([text[slice(*place)] for place in places], text, places, row)

    def _entities(self, sentence: Sentence) -> list[tuple[str, int, int]]:
        """Return the names that the tags of a sentence mark, (kind, first word, word behind).

        Raises:
            InputError: If there is a tag that none is, or a kind that the training rows have not.
        """
        entities = spans(_tags(sentence.row, sentence.words))
        for label, start, _ in entities:
            if label not in self.labels:
                known = ", ".join(self.labels) or "none: the task has learned from no rows yet"
                problem = f"column 'tags', word {start + 1}: a name of the kind {label!r}, expected one of {known}"
                raise fault(sentence.row, f"{problem}, which are those of the training rows")
        return entities

    def _examples(self, rows: Sequence[Row], tokenizer: Tokenizer, tagged: bool) -> list[Example]:
        sentences = [self._sentence(row) for row in rows]
        encoded = self._encode({word for sentence in sentences for word in sentence.words}, tokenizer)
        numbers = {tag: number for number, tag in enumerate(self.tags)}
        examples = []
        for row, sentence in enumerate(sentences):
            if not sentence.words:
                continue
            entities = self._entities(sentence) if tagged else []
            tags = [numbers[tag] for tag in as_bio(entities, len(sentence.words))]
            names = [sentence.span(*entity) for entity in entities]
            pieces = [encoded[word] for word in sentence.words]
            firsts = ([tag] + [IGNORE] * (len(piece) - 1) for tag, piece in zip(tags, pieces, strict=True))
            places = ([*place] * len(piece) for place, piece in zip(sentence.places, pieces, strict=True))
            example = Example(
                source=[*chain.from_iterable(pieces), tokenizer.eos_id],
                target=[*chain.from_iterable(firsts), IGNORE],
                text=sentence.text,
                reference=marked(sentence.text, names),
                references=[f"{name.start}:{name.stop} {name.label}" for name in names],
                offsets=[*chain.from_iterable(places), 0, 0],
                row=row,
            )
            examples.append(example)
        return examples

    def _encode(self, words: Collection[str], tokenizer: Tokenizer) -> dict[str, list[int]]:
        """Return the ids that each word has amid a text; one of blanks alone has one too, for it has a tag."""
        listed = sorted(words)
        blank = " " if LETTERS in self.writing and tokenizer.kind in ("character", "byte") else ""  # others put one
        ids = tokenizer.encode_batch([blank + word for word in listed])
        return {word: pieces or [tokenizer.eos_id] for word, pieces in zip(listed, ids, strict=True)}

    def _answer(self, example: Example, tags: Sequence[int], probability: float) -> Answer:
        """Return the names that tags mark; of a text that was cut, the words behind have none."""
        words = [place for place, target in enumerate(example.target) if target != IGNORE]
        places = [(example.offsets[2 * place], example.offsets[2 * place + 1]) for place in words]
        written = [self.tags[tag] for tag in tags]
        sentence = Sentence([""] * len(places), example.text, places, {})
        entities = spans(written)
        names = tuple(sentence.span(*entity) for entity in entities)
        labels = tuple(as_bio(entities, len(words) + _cut_off(example)))
        return Answer(marked(example.text, names), probability, spans=names, labels=labels)


class Sentence(NamedTuple):
    """The words of a row and where they stand in its text."""

    words: list[str]
    text: str
    places: list[Place]
    row: Row

    def span(self, label: str, start: int, stop: int) -> Span:
        """Return the words [start, stop) as a part of the text."""
        first, last = self.places[start][0], self.places[stop - 1][1]
        return Span(first, last, self.text[first:last], label)


def marked(text: str, names: Sequence[Span]) -> str:
    """Return a text with its names in brackets behind their kinds.

    >>> marked("Anna lives in Rome.", [Span(0, 4, "Anna", "PER"), Span(14, 18, "Rome", "LOC")])
    '[PER Anna] lives in [LOC Rome].'
    """
    parts, before = [], 0
    for start, stop, name, label in names:
        parts += [text[before:start], f"[{label} {name}]" if label else f"[{name}]"]
        before = stop
    return "".join([*parts, text[before:]])


def _tags(row: Row, words: Sequence[str]) -> list[str]:
    """Return the tags of a row, after checking that each is one and that there is one for each word."""
    tags = texts_of(row, "tags")
    if len(tags) != len(words):
        raise fault(row, f"{len(words)} words and {len(tags)} tags, expected a tag for each word")
    for tag in tags:
        try:
            split_tag(tag)
        except InputError as error:
            raise fault(row, f"column 'tags': {error}") from None
    return tags


def _parsed(reference: str) -> metrics.Entity:
    """Return "0:4 PER" as ("PER", 0, 4)."""
    place, _, label = reference.partition(" ")
    start, stop = place.split(":")
    return label, int(start), int(stop)


def _cut_off(example: Example) -> int:
    """Return how many words stand behind the cut of an example that was cut; all pieces of a word have its place."""
    offsets = example.offsets[:-2]  # without the end
    places = [None, *zip(offsets[::2], offsets[1::2], strict=True)]
    return sum(before != place for before, place in pairwise(places[len(example.target) - 1 :]))
