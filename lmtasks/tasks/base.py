"""Task: what a text means. Row -> token ids; ids -> answer; which head; which scores. Plain data, no parameters.

A task that writes text builds on `tasks.seq2seq`.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from lmtasks.batch import Example
from lmtasks.checked import Checked
from lmtasks.errors import InputError
from lmtasks.heads.base import Head
from lmtasks.metrics.languages import LOOKED_AT, fitting_language
from lmtasks.text.base import BaseTokenizer

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]
"""{column: value}; a row of a file also has its PLACE."""
PLACE = "place"
"""The file and number of a row, for error messages: "train.jsonl, row 7"."""


class Span(NamedTuple):
    """A part of a text, `text[start:stop]`, and its label."""

    start: int
    stop: int
    text: str
    label: str = ""


class Answer(NamedTuple):  # Lightning copies predictions, and cannot copy a frozen dataclass
    """A model's answer to one row."""

    text: str
    """The answer as text, such as a translation, a label or the words of a span; "" where there is none."""
    score: float
    """Confidence of the model; for a written text log-probability / length ** length_penalty."""
    probabilities: Mapping[str, float] = {}
    """Probability of each label; empty where there are none."""
    spans: tuple[Span, ...] = ()
    """Where in the text the answer stands; empty where it was written."""
    labels: tuple[str, ...] | None = None
    """Labels of a text that may have several, or of each word; None where there are none to choose."""

    def plain(self) -> dict[str, Any]:
        """Return the answer as a row of a file: prediction and score, and the other fields that are not empty."""
        row: dict[str, Any] = {"prediction": self.text, "score": self.score}
        if self.labels is not None:  # no label at all is an answer too
            row["labels"] = list(self.labels)
        if self.probabilities:
            row["probabilities"] = dict(self.probabilities)
        if self.spans:
            row["spans"] = [span._asdict() for span in self.spans]
        return row


Answers = list[list[Answer]]
"""The answers to each of several examples, best first."""


@dataclass(frozen=True)
class Prediction:
    """A row of an evaluation with its answers, for scorers and for people to read."""

    text: str
    """The source, for people to read."""
    reference: str
    """The right answer, for people to read; "" where none is known."""
    references: list[str] = field(default_factory=list)
    """All right answers, for scorers."""
    answers: list[Answer] = field(default_factory=list)
    """The model's answers, best first; empty where the task answers only a few rows."""
    group: str = ""
    """Which of the task's groups the row belongs to, such as the direction "en-de"; "" without groups."""

    @property
    def answer(self) -> Answer | None:
        """The best answer."""
        return self.answers[0] if self.answers else None

    @property
    def prediction(self) -> str:
        """The text of the best answer, "" without one."""
        return self.answers[0].text if self.answers else ""


@dataclass(frozen=True)
class Task(Checked, ABC):
    """The contract of a task. A subclass sets what is constant as class attributes: `columns = ("text", "label")`."""

    kind: ClassVar[str]
    """What the task does; its name where no other is given."""
    generates: ClassVar[bool] = False
    """Whether its answers are texts, written token by token."""
    multi_turn: ClassVar[bool] = False
    """Whether an answer depends on all earlier turns, as in a dialogue."""
    cuts_target: ClassVar[bool] = True
    """Whether a target is a sequence of its own whose end may be cut off."""
    empty: ClassVar[str] = "the text is blank, or the model writes nothing"
    """What an answer without text means."""
    marks: ClassVar[tuple[str, ...]] = ()
    """Special tokens that the vocabulary needs beside language tags, such as "<user>"."""

    # Properties, and not class variables: mypy lets a subclass override them by either.

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """The columns that a row needs for training."""

    @property
    @abstractmethod
    def source_columns(self) -> tuple[str, ...]:
        """Those of the columns that a prediction needs."""

    @property
    @abstractmethod
    def main_metric(self) -> str:
        """The score that chooses the best checkpoint: 0 to 100, higher is better."""

    @property
    def input_column(self) -> str:
        """The column of the text that a user types."""
        return self.source_columns[0]

    @property
    def context(self) -> str | None:
        """The column of a second text that the input refers to, as a question to its context; None without one."""
        return None

    @property
    def example_command(self) -> str:
        """What to type after `lmtasks run MODEL` to try the task."""
        return '"A sentence."' + (' --context "Another sentence."' if self.context else "")

    @property
    def example_call(self) -> str:
        """What to call of a model in Python to try the task."""
        return f'solve([{{"{self.input_column}": "A sentence."}}])'

    # What a model card says of the task.

    @property
    def sentence(self) -> str:
        """What the task does, for people who do not know it: a sentence."""
        return f"Does {self.kind}."

    @property
    def limits(self) -> list[str]:
        """What it does not do, by its settings: sentences."""
        return []

    @property
    def written_in(self) -> tuple[str, ...]:
        """Codes of the languages of its texts, by default its setting `language`; empty where they are not known."""
        language = getattr(self, "language", None)
        return (language,) if language else ()

    @property
    def names_itself(self) -> bool:
        """Whether what is read says which task it is, so that its decoder needs no start token of its own."""
        return False

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages that need a tag in the vocabulary."""
        return ()

    @property
    def needs_encoder(self) -> bool:
        """Whether an encoder reads the source; otherwise the decoder continues it."""
        return True

    @property
    def examples_per_row(self) -> int | None:
        """How many examples a whole row gives; None where that depends on the row, 0 where rows are joined."""
        return 1

    @property
    def max_length(self) -> int | None:
        """Longest source or target in tokens where the task cuts rows itself and nothing else may; None = any."""
        return None

    @property
    def max_answered(self) -> int | None:
        """How many examples an evaluation answers, for people to read; None = all, because the scores need them."""
        return None

    # From rows to examples.

    def learn(self, rows: Iterable[Row]) -> Task:
        """Return the task with what it must know of the training rows, such as the labels; called before training.

        By default that is the setting `language`, if it has one: where the first rows are in a script that this
        language cannot split into words, it is the language of that script.
        """
        given = getattr(self, "language", None)
        if given is None:
            return self
        texts = chain.from_iterable(map(self.scored_texts, islice(rows, LOOKED_AT)))
        language, doubt = fitting_language(given, texts)
        if not doubt:
            return self
        task = replace(self, language=language)  # type: ignore[call-arg]
        try:
            task.signatures()
        except InputError as error:  # a package that splits the words is missing
            logger.warning("%s: %s, but scored as %r: %s", self.kind, doubt, given, error)
            return self
        logger.warning("%s: %s; the language of its scores is %r", self.kind, doubt, language)
        return task

    def scored_texts(self, row: Row) -> Iterable[str]:
        """Yield the texts of a row that show the language of its answers."""
        return self.texts(row)

    def texts(self, row: Row) -> Iterator[str]:
        """Yield the texts of a row that a tokenizer is trained on: by default those of `source_columns`."""
        return (text for column in self.source_columns if (text := text_of(row, column)))

    def check(self, row: Row) -> None:
        """Check the values of a training row by themselves: by default the texts.

        Raises: InputError if one has a wrong form, with the PLACE of the row.
        """
        for _ in self.texts(row):
            pass

    @abstractmethod
    def examples(self, rows: Sequence[Row], tokenizer: BaseTokenizer) -> list[Example]:
        """Turn rows into examples; a row may give none, one or several.

        Raises: InputError if a row does not fit, with its PLACE.
        """

    def questions(self, rows: Sequence[Row], tokenizer: BaseTokenizer) -> list[Example]:
        """Turn rows that need no more than `source_columns` into examples to be answered."""
        return self.examples(rows, tokenizer)

    def choose(self, source: str | None, target: str | None) -> tuple[str, str | None]:
        """Return (column of the text, group of the examples) for the languages that a user names.

        Raises: InputError if the task has no languages.
        """
        if source is not None or target is not None:
            raise InputError(f"{self.kind} has no languages to choose from; leave out source and target")
        return self.input_column, None

    def narrowed(self, group: str) -> Task:
        """Return a task that makes examples of one group only, where it can; by default the task itself.

        Raises: InputError if the task cannot have such a group.
        """
        return self

    # From the predictions of the head to answers and scores.

    @abstractmethod
    def head(self, tokenizer: BaseTokenizer, d_model: int) -> Head:
        """Return the head of the task, on states of width `d_model`."""

    @abstractmethod
    def answers(self, found: list[Any], examples: Sequence[Example], tokenizer: BaseTokenizer) -> Answers:
        """Turn what `Head.predict` found for each example into answers, best first."""

    def join(self, parts: Sequence[list[Answer]]) -> list[Answer]:
        """Join the answers to the examples of one row; a task that splits long rows into windows overrides it."""
        (answers,) = parts  # one example a row, unless the task overrides this
        return answers

    def calibrate(self, head: Head, predictions: Sequence[Prediction]) -> list[Prediction]:
        """Set what a head chooses on validation rows, such as a threshold, before they are scored, and answer again."""
        return list(predictions)

    @abstractmethod
    def score(self, predictions: Sequence[Prediction], nll: float, count: int) -> dict[str, float]:
        """Return metric name -> value; `nll` is the summed negative log-likelihood of `count` targets, in nats."""

    @abstractmethod
    def signatures(self) -> dict[str, str]:
        """Return how each score is computed, so that others can repeat it: metric name -> signature of the scorer.

        Raises: InputError if a package that a scorer needs is missing; called before training.
        """

    def label_of(self, reference: str) -> str | None:
        """Return the label that one of the `references` of an example stands for, None where the task has no labels."""
        return None

    def table(self, predictions: Sequence[Prediction]) -> str:
        """Return a table to print beside the scores, such as the scores of each class; "" for none."""
        return ""

    def draw(self, predictions: Sequence[Prediction], folder: Path) -> list[Path]:
        """Draw pictures of the answers into a folder and return their files; needs matplotlib."""
        return []


def listed(names: Sequence[str], shown: int = 12) -> str:
    """Return names as part of a sentence: "a, b and c"; of more than `shown`, the first ones and how many more.

    >>> listed(["bad", "fair", "good"])
    'bad, fair and good'
    """
    names = names if len(names) <= shown else [*names[:shown], f"{len(names) - shown:,} more"]
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def text_of(row: Row, column: str) -> str:
    """Return the text in a column of a row, "" where it has none.

    Raises: InputError if the value is not a text.
    """
    value = row.get(column)
    if value is not None and not isinstance(value, str):
        raise fault(row, f"column '{column}': {str(value)[:40]}, expected a text")
    return value or ""


def texts_of(row: Row, column: str) -> list[str]:
    """Return the list of texts in a column of a row; a single text is a list of one, a missing value an empty list.

    Raises: InputError if the value is neither.
    """
    value = row.get(column)
    values = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(values, (list, tuple)) or not all(isinstance(text, str) for text in values):
        raise fault(row, f"column '{column}': {str(value)[:40]}, expected a list of texts")
    return list(values)


def metric_name(metric: str, group: str) -> str:
    """Return the name of a score of one group of rows; slashes separate split, task and metric.

    >>> metric_name("f1", "person/group")
    'f1_person_group'
    """
    return f"{metric}_{group.replace('/', '_')}"


def fault(row: Row, problem: str) -> InputError:
    """Return the error for a row: its place, if it has one, and the problem."""
    return InputError(f"{row[PLACE]}, {problem}" if PLACE in row else problem)
