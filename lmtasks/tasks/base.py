"""Task: what a text means. Row -> token ids; ids -> answer; which head; which scores. Plain data, no parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from lmtasks.errors import InputError
from lmtasks.heads.base import Head
from lmtasks.text.tokenizer import Tokenizer

Row = Mapping[str, Any]
"""{column: value}; the row of a file has its PLACE too."""
PLACE = "place"
"""Where a row stands, for complaints: "train.jsonl, row 7"."""


@dataclass(frozen=True)
class Example:
    """A row as a model sees it, with what scoring needs beside it."""

    source: list[int]
    """Token ids that the encoder reads."""
    target: list[int]
    """What the head must predict; empty where the row has no answer."""
    text: str = ""
    """The source as a person reads it."""
    reference: str = ""
    """The right answer as a person reads it."""
    references: list[str] = field(default_factory=list)
    """The right answers as scorers compare them, where they are several or have another form."""
    offsets: list[int] = field(default_factory=list)
    """Start and stop, one after the other, of the characters of `text` that each source token is; empty where no answer
    is a part of the text."""
    group: str = ""
    """Rows that are scored together, such as a translation direction."""
    row: int = 0
    """Which of the rows given it comes from."""


class Span(NamedTuple):
    """A part of a text, `text[start:stop]`, and what it is."""

    start: int
    stop: int
    text: str
    label: str = ""


class Answer(NamedTuple):
    """What a model says to one row. (A named tuple: Lightning copies what is predicted, which it cannot do to a frozen
    dataclass.)"""

    text: str
    """The answer."""
    score: float
    """How sure the model is of it, of a written text its log-probability / length ** length_penalty."""
    probabilities: Mapping[str, float] = {}
    """How likely each label is; empty where there are none."""
    spans: tuple[Span, ...] = ()
    """Where in the text the answer stands; empty where it was written."""
    labels: tuple[str, ...] | None = None
    """Labels of the text where it may have several, or of each word; None where there are none to choose."""

    def plain(self) -> dict[str, Any]:
        """Return the answer as a row of a file: prediction, score, and what else there is."""
        found = {"probabilities": dict(self.probabilities), "spans": [span._asdict() for span in self.spans]}
        labels = {} if self.labels is None else {"labels": list(self.labels)}
        said = {"prediction": self.text, "score": self.score, **labels}
        return said | {name: value for name, value in found.items() if value}


@dataclass(frozen=True)
class Prediction:
    """A row of an evaluation with its answer, for scorers and for people to read."""

    text: str
    reference: str
    references: list[str] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    """Those of the model, best first; empty where the task asks for few answers only."""
    group: str = ""

    @property
    def answer(self) -> Answer | None:
        """The best answer."""
        return self.answers[0] if self.answers else None

    @property
    def prediction(self) -> str:
        """The best answer as a person reads it."""
        return self.answers[0].text if self.answers else ""


@dataclass(frozen=True)
class Task(ABC):
    """The contract of a task. What a method does by default suits a task whose answer is a written text."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """What it does, and its key in module, batches and metric names, where it is not named otherwise."""

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """What a row format must give to learn from."""

    @property
    @abstractmethod
    def source_columns(self) -> tuple[str, ...]:
        """The columns among them that a prediction needs."""

    @property
    def input_column(self) -> str:
        """The column of what a user types, where a row is asked that is in no file."""
        return self.source_columns[0]

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages that need a tag in the vocabulary."""
        return ()

    @property
    def marks(self) -> tuple[str, ...]:
        """Other special tokens that the vocabulary needs, such as "<user>"."""
        return ()

    def choose(self, source: str | None, target: str | None) -> tuple[str, str | None]:
        """Return (column of the text, group of the examples) that a user means; source and target are languages.

        Raises:
            InputError: If the task has no such choice.
        """
        if source is not None or target is not None:
            raise InputError(f"{self.kind} has no languages to choose from; leave out source and target")
        return self.input_column, None

    @property
    def context(self) -> str | None:
        """The column with what a text is asked about, as the context of a question; None where it stands alone."""
        return None

    @property
    def multi_turn(self) -> bool:
        """Whether an answer depends on all that was said before, as in a dialogue."""
        return False

    @property
    def example_command(self) -> str:
        """What to type after `lmtasks run MODEL` to try the task."""
        return '"A sentence."' + (' --context "Another sentence."' if self.context else "")

    @property
    def needs_encoder(self) -> bool:
        """Whether an encoder reads the source; where it is not so, the decoder goes on from it."""
        return True

    @property
    def generates(self) -> bool:
        """Whether its answers are texts, written token by token."""
        return True

    @property
    def examples_per_row(self) -> int | None:
        """How many examples a whole row gives; None where that depends on the row, 0 where rows are joined."""
        return 1

    @property
    def longest(self) -> int | None:
        """Tokens of the longest source or target, where the task cuts rows itself and nothing else may; None = any."""
        return None

    @property
    def cuts_target(self) -> bool:
        """Whether a target is a sequence beside its source, of which the end may be cut off."""
        return True

    @property
    @abstractmethod
    def main_metric(self) -> str:
        """The score that says how good the task is, 0 to 100, higher is better."""

    @property
    def max_answered(self) -> int | None:
        """How many examples an evaluation answers, for people to read; None = all, as their scores need it."""
        return None

    def learn(self, rows: Iterable[Row]) -> Task:
        """Return the task with what it must know of the training rows, such as the labels; asked before training."""
        return self

    @abstractmethod
    def texts(self, row: Row) -> Iterator[str]:
        """Give the texts of a row from which a tokenizer learns."""

    @abstractmethod
    def examples(self, rows: Sequence[Row], tokenizer: Tokenizer) -> list[Example]:
        """Turn rows into examples; a row may give none, one or several.

        Raises:
            InputError: If a row does not fit, naming its PLACE.
        """

    def questions(self, rows: Sequence[Row], tokenizer: Tokenizer) -> list[Example]:
        """Turn rows that have `source_columns` alone into examples to be answered."""
        return self.examples(rows, tokenizer)

    @abstractmethod
    def head(self, tokenizer: Tokenizer, d_model: int) -> Head:
        """Return the head that learns the task, on states of width `d_model`."""

    def answers(self, found: Sequence[Any], examples: Sequence[Example], tokenizer: Tokenizer) -> list[list[Answer]]:
        """Turn what the head found for each example into answers, best first."""
        texts = iter(tokenizer.decode_batch([hypothesis.tokens for several in found for hypothesis in several]))
        return [[Answer(next(texts), hypothesis.score) for hypothesis in several] for several in found]

    def join(self, parts: Sequence[list[Answer]]) -> list[Answer]:
        """Make one list of answers of those to the parts of a row, where a row is too long to be read at once."""
        (answers,) = parts
        return answers

    def calibrate(self, head: Head, samples: Sequence[Prediction]) -> list[Prediction]:
        """Set what of the head is chosen on validation and not learned, such as a threshold, and answer anew.

        It is asked before the validation of a training is scored.
        """
        return list(samples)

    @abstractmethod
    def score(self, samples: Sequence[Prediction], nll: float, count: int) -> dict[str, float]:
        """Compare answers with references: metric name -> value.

        `nll` is the summed negative log-likelihood of `count` targets in nats.
        """

    def table(self, samples: Sequence[Prediction]) -> str:
        """Return what is to be said beside the scores, such as those of each class, as a table for people."""
        return ""

    def draw(self, samples: Sequence[Prediction], folder: Path) -> list[Path]:
        """Write what pictures there are of the answers into a folder; matplotlib is there."""
        return []

    @abstractmethod
    def signatures(self) -> dict[str, str]:
        """Say how each score is computed, so that others can repeat it: metric name -> signature of the scorer.

        Raises:
            InputError: If a scorer cannot work here, since a package is missing; asked before training starts.
        """


def text_of(row: Row, column: str) -> str:
    """Return a text of a row, "" where it has none.

    Raises:
        InputError: If there is something else than a text.
    """
    value = row.get(column)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{_place(row)}column '{column}': {str(value)[:40]}, expected a text")
    return value or ""


def texts_of(row: Row, column: str) -> list[str]:
    """Return a list of texts of a row, of one where it has a text, empty where it has none.

    Raises:
        InputError: If there is something else.
    """
    value = row.get(column)
    values = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(values, (list, tuple)) or not all(isinstance(text, str) for text in values):
        raise InputError(f"{_place(row)}column '{column}': {str(value)[:40]}, expected a list of texts")
    return list(values)


def metric_name(metric: str, kind: str) -> str:
    """Return the name of a score of one kind of rows alone; slashes keep apart split, task and metric.

    >>> metric_name("f1", "person/group")
    'f1_person_group'
    """
    return f"{metric}_{kind.replace('/', '_')}"


def fault(row: Row, problem: str) -> InputError:
    """Return the complaint of a row: its place, when it has one, and the problem."""
    return InputError(f"{_place(row)}{problem}")


def _place(row: Row) -> str:
    return f"{row[PLACE]}, " if PLACE in row else ""
