"""Tagging: a sentence as words in, the names in it out, each with its kind.

The first piece of a word bears its tag (Devlin et al. 2019, "BERT", section 5.3). Words are encoded one by one, so that
a word has the same ids whatever its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from lmtasks import metrics
from lmtasks.batch import IGNORE, Example
from lmtasks.errors import InputError
from lmtasks.heads.tagging import ScoredTags, TaggingHead
from lmtasks.tasks.base import (
    Answer,
    Answers,
    Prediction,
    Row,
    Span,
    Task,
    fault,
    listed,
    logger,
    metric_name,
    text_of,
    texts_of,
)
from lmtasks.text.base import BaseTokenizer
from lmtasks.text.tags import OUTSIDE, as_bio, detect_scheme, spans, split_tag
from lmtasks.text.words import LETTERS, Place, join_words, learn_writing, split_words

CAPITAL, CAPITALS = "<capital>", "<capitals>"  # before a word that begins with a capital, or has others too


@dataclass(frozen=True)
class TaggingTask(Task):
    """Find the names in a text.

    Before: `{"words": ["Anna", "lives", "in", "Rome"], "tags": ["B-PER", "O", "O", "B-LOC"]}`.
    After, where "Anna" has two pieces: source `An na lives in Rome </s>`, target `3 - 0 0 1 -`, the place of each tag
    in `tags`, where - is IGNORE.

    Example:
        >>> row = {"words": ["Anna", "lives", "in", "Rome"], "tags": ["B-PER", "O", "O", "B-LOC"]}
        >>> TaggingTask().learn([row]).tags
        ['O', 'B-LOC', 'I-LOC', 'B-PER', 'I-PER']
    """

    kind = "tagging"
    columns = ("words", "tags")
    source_columns = ("words",)
    input_column = "text"
    main_metric = "f1"
    example_command = '"Anna Bell lives in Rome."'
    example_call = 'tag("Anna Bell lives in Rome.")'

    crf: bool = True
    """Learn which tags follow which (Lample et al. 2016, section 2.2)."""
    spelling: bool = True
    """Read the letters of each word beside its pieces (Ma and Hovy 2016, section 2.1)."""
    layers: int = 1
    """Bidirectional LSTM layers over the words, above the backbone."""
    dropout: float = 0.3
    """Share of the features of a word dropped."""
    case_marks: bool = False
    """Put a token before each word with capitals, for a tokenizer that makes all letters small (Berard et al. 2019)."""
    labels: tuple[str, ...] = ()
    """Kinds of names, found in the training rows."""
    writing: tuple[str, ...] = ()
    """How words are written, found in the training rows; see `lmtasks.text.words`."""
    rules: bool = True
    """Let a name begin with B-, as in BIO; otherwise each word may have any tag, as in models of others."""

    @property
    def sentence(self) -> str:
        """The kinds of names."""
        kinds = [label for label in self.labels if label]  # names may be of no kind
        return f"Finds names in a text{f', and says of which kind each is: {listed(kinds)}' if kinds else ''}."

    @property
    def limits(self) -> list[str]:
        """It has no names within names."""
        return ["It finds no names inside other names, and none of other kinds."]

    @property
    def marks(self) -> tuple[str, ...]:  # type: ignore[override]
        """The tokens of words with capitals."""
        return (CAPITAL, CAPITALS) if self.case_marks else ()

    @property
    def tags(self) -> list[str]:
        """The tags of a word: outside, and beginning and inside of each kind."""
        return [OUTSIDE, *(f"{prefix}-{label}" if label else prefix for label in self.labels for prefix in "BI")]

    def learn(self, rows: Iterable[Row]) -> TaggingTask:
        """Return the task with the kinds of names and the writing of the rows; kinds that it has already stay.

        Raises: InputError if the tags are of no scheme or of several, or no word has one.
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
        """Yield the words with blanks between, as they are encoded: no piece spans two words."""
        words = texts_of(row, "words")
        return iter([" ".join(words)] if words else [])

    def check(self, row: Row) -> None:
        """Check the words and their tags."""
        _tags(row, texts_of(row, "words"))

    def examples(self, rows: Sequence[Row], tokenizer: BaseTokenizer, tagged: bool = True) -> list[Example]:
        """Give an example for each row that has words; each row may have a tag scheme of its own.

        tagged: whether the rows have tags.
        """
        sentences = [self._sentence(row) for row in rows]
        vocabulary = sorted({word for words, _, _ in sentences for word in words})  # each word is encoded once
        encoded = dict(zip(vocabulary, tokenizer.encode_words(vocabulary, LETTERS in self.writing), strict=True))
        numbers = {tag: number for number, tag in enumerate(self.tags)}
        lead = len(tokenizer.frame_source([])) - 1  # special tokens in front of the words; one follows them
        examples = []
        for number, (row, (words, text, places)) in enumerate(zip(rows, sentences, strict=True)):
            if not words:
                continue
            entities = self._entities(row, words) if tagged else []
            ids, target, offsets = [], [IGNORE] * lead, [0, 0] * lead
            for word, tag, place in zip(words, as_bio(entities, len(words)), places, strict=True):
                mark = [tokenizer.mark(name) for name in self._case(word)]
                pieces = encoded[word] or [tokenizer.eos_id]  # every word needs a place for its tag
                ids += [*mark, *pieces]
                target += [*[IGNORE] * len(mark), numbers[tag], *[IGNORE] * (len(pieces) - 1)]
                offsets += [*place] * (len(mark) + len(pieces))
            names = [_name(text, places, entity) for entity in entities]
            references = [f"{name.start}:{name.stop} {name.label}" for name in names]
            source, target, offsets = tokenizer.frame_source(ids), [*target, IGNORE], [*offsets, 0, 0]
            examples.append(Example(source, target, text, mark_names(text, names), references, offsets, row=number))
        return examples

    def questions(self, rows: Sequence[Row], tokenizer: BaseTokenizer) -> list[Example]:
        """Give an example for each row that has words, or a "text", which is split as the training rows are."""
        return self.examples(rows, tokenizer, tagged=False)

    def head(self, tokenizer: BaseTokenizer, d_model: int) -> TaggingHead:
        """Return a head whose answers begin a name before they continue it, if there are rules."""
        tags = self.tags
        first = [not self.rules or tag[0] != "I" for tag in tags]
        # I-PER follows B-PER and I-PER only
        allowed = [
            [begins or before in (f"B{tag[1:]}", tag) for tag, begins in zip(tags, first, strict=True)]
            for before in tags
        ]
        pieces = [piece.strip(b" ") for piece in tokenizer.byte_pieces()] if self.spelling else None
        return TaggingHead(d_model, len(tags), allowed, first, None, self.dropout, self.crf, pieces, self.layers)

    def answers(self, found: ScoredTags, examples: Sequence[Example], tokenizer: BaseTokenizer) -> Answers:
        """Turn tags into names; the score is the probability of all tags of the text together."""
        names_of_tags, answers = self.tags, []
        for (tags, probability), example in zip(found, examples, strict=True):
            offsets = list(zip(example.offsets[::2], example.offsets[1::2], strict=True))
            places = [place for place, target in zip(offsets, example.target, strict=False) if target != IGNORE]
            entities = spans([names_of_tags[tag] for tag in tags])
            names = tuple(_name(example.text, places, entity) for entity in entities)
            # offsets are never cut: each new place behind the end of the target is a word that was cut off
            behind = [None, *offsets[:-1]][len(example.target) - 1 :]
            cut_off = sum(before != place for before, place in pairwise(behind))
            labels = tuple(as_bio(entities, len(places) + cut_off))
            answers.append([Answer(mark_names(example.text, names), probability, spans=names, labels=labels)])
        return answers

    def score(self, predictions: Sequence[Prediction], nll: float, count: int) -> dict[str, float]:
        """Return precision, recall and F1 of the names, and F1 of each kind where there are several."""
        found = self._scored(predictions)
        kinds = found.by_label if len(self.labels) > 1 else {}  # the F1 of a single kind is that of all
        return found.values | {metric_name("f1", label): values["f1"] for label, values in kinds.items()}

    def signatures(self) -> dict[str, str]:
        """Return the rules of the scores, without the number of names."""
        rules = metrics.entity_scores([], [], []).signature.partition("|")[2]
        return dict.fromkeys(("precision", "recall", "f1"), rules)

    def label_of(self, reference: str) -> str:
        """Return the kind of a name."""
        return reference.partition(" ")[2]

    def table(self, predictions: Sequence[Prediction]) -> str:
        """Return precision, recall, F1 and number of the names of each kind."""
        return self._scored(predictions).table

    def _case(self, word: str) -> tuple[str, ...]:
        """Return the mark of a word with capitals, if there are marks."""
        if not self.case_marks or word == word.lower():
            return ()
        return (CAPITALS,) if word[1:] != word[1:].lower() else (CAPITAL,)

    def _sentence(self, row: Row) -> tuple[list[str], str, list[Place]]:
        """Return the words of a row, or of its text, with the text and the place of each word in it."""
        if words := texts_of(row, "words"):
            return words, *join_words(words, self.writing)
        text = text_of(row, "text")
        places = split_words(text, self.writing)
        return [text[slice(*place)] for place in places], text, places

    def _entities(self, row: Row, words: Sequence[str]) -> list[tuple[str, int, int]]:
        """Return the names that the tags of a row mark, (kind, first word, word behind).

        Raises: InputError if a tag is none, or its kind is not in the training rows.
        """
        entities = spans(_tags(row, words))
        for label, start, _ in entities:
            if label not in self.labels:
                known = ", ".join(self.labels) or "none: the task has learned from no rows yet"
                problem = f"column 'tags', word {start + 1}: a name of the kind {label!r}, expected one of {known}"
                raise fault(row, f"{problem}, which are those of the training rows")
        return entities

    def _scored(self, predictions: Sequence[Prediction]) -> metrics.LabelledScore:
        given = [each.answer.spans if each.answer else () for each in predictions]
        found = [[(span.label, span.start, span.stop) for span in spans] for spans in given]
        right = [[_parsed(reference) for reference in each.references] for each in predictions]
        return metrics.entity_scores(found, right, self.labels)


def mark_names(text: str, names: Sequence[Span]) -> str:
    """Return a text with its names in brackets after their kinds.

    >>> mark_names("Anna lives in Rome.", [Span(0, 4, "Anna", "PER"), Span(14, 18, "Rome", "LOC")])
    '[PER Anna] lives in [LOC Rome].'
    """
    parts, before = [], 0
    for start, stop, name, label in names:
        parts += [text[before:start], f"[{label} {name}]" if label else f"[{name}]"]
        before = stop
    return "".join([*parts, text[before:]])


def _name(text: str, places: Sequence[Place], entity: tuple[str, int, int]) -> Span:
    """Return an entity (label, first word, word behind) as a part of the text."""
    label, start, stop = entity
    first, last = places[start][0], places[stop - 1][1]
    return Span(first, last, text[first:last], label)


def _tags(row: Row, words: Sequence[str]) -> list[str]:
    """Return the tags of a row; checks that they are tags, and as many as there are words."""
    tags = texts_of(row, "tags")
    if len(tags) != len(words):
        raise fault(row, f"{len(words)} words and {len(tags)} tags, expected a tag for each word")
    for tag in tags:
        try:
            split_tag(tag)
        except InputError as error:
            hint = "tags of all words, such as parts of speech, need B- before each"
            if tag.isdecimal():
                hint = "a number is no tag; write the name that it stands for"
            raise fault(row, f"column 'tags': {error}; {hint}") from None
    return tags


def _parsed(reference: str) -> metrics.Entity:
    """Return "0:4 PER" as ("PER", 0, 4)."""
    place, _, label = reference.partition(" ")
    start, stop = place.split(":")
    return label, int(start), int(stop)
