"""Task: what a text means. Row -> token ids; ids -> answer; which head; which scores. Plain data, no parameters.

A task that writes text builds on `tasks.seq2seq`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from lmtasks.batch import Example
from lmtasks.errors import InputError
from lmtasks.heads.base import Head
from lmtasks.text.base import BaseTokenizer

Row = Mapping[str, Any]
"""{column: value}; the row of a file has its PLACE too."""
PLACE = "place"
"""Where a row stands, for error messages: "train.jsonl, row 7"."""


class Span(NamedTuple):
    """A part of a text, `text[start:stop]`, and what it is."""

    start: int
    stop: int
    text: str
    label: str = ""


class Answer(NamedTuple):
    """What a model answers to one row. (A named tuple: Lightning copies predictions, and cannot copy a frozen
    dataclass.)"""

    text: str
    """The answer."""
    score: float
    """How sure the model is; of a written text its log-probability / length ** length_penalty."""
    probabilities: Mapping[str, float] = {}
    """Probability of each label; empty where there are none."""
    spans: tuple[Span, ...] = ()
    """Where in the text the answer stands; empty where it was written."""
    labels: tuple[str, ...] | None = None
    """Labels of a text that may have several, or of each word; None where there are none to choose."""

    def plain(self) -> dict[str, Any]:
        """Return the answer as a row of a file: prediction, score, and what else there is."""
        found = {"probabilities": dict(self.probabilities), "spans": [span._asdict() for span in self.spans]}
        labels = {} if self.labels is None else {"labels": list(self.labels)}
        said = {"prediction": self.text, "score": self.score, **labels}
        return said | {name: value for name, value in found.items() if value}


@dataclass(frozen=True)
class Prediction:
    """A row of an evaluation with its answers, for scorers and for people to read."""

    text: str
    reference: str
    references: list[str] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    """Those of the model, best first; empty where the task answers only a few rows."""
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
    """The contract of a task. A subclass says what is constant by class attributes: `columns = ("text", "label")`."""

    kind: ClassVar[str]
    """What it does; the name of the task where no other is given."""
    generates: ClassVar[bool] = False
    """Whether its answers are texts, written token by token."""
    multi_turn: ClassVar[bool] = False
    """Whether an answer depends on all that was said before, as in a dialogue."""
    cuts_target: ClassVar[bool] = True
    """Whether a target is a sequence beside its source, of which the end may be cut off."""

    # What a subclass states, as a class attribute or a property.

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """The columns that a row needs for training."""

    @property
    @abstractmethod
    def source_columns(self) -> tuple[str, ...]:
        """The columns among them that a prediction needs."""

    @property
    @abstractmethod
    def main_metric(self) -> str:
        """The score that tells how good the task is, 0 to 100, higher is better."""

    @property
    def input_column(self) -> str:
        """The column of the text that a user types."""
        return self.source_columns[0]

    @property
    def context(self) -> str | None:
        """The column of what a text is asked about, such as the context of a question; None where there is none."""
        return None

    @property
    def example_command(self) -> str:
        """What to type after `lmtasks run MODEL` to try the task."""
        return '"A sentence."' + (' --context "Another sentence."' if self.context else "")

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages that need a tag in the vocabulary."""
        return ()

    @property
    def marks(self) -> tuple[str, ...]:
        """Other special tokens that the vocabulary needs, such as "<user>"."""
        return ()

    @property
    def needs_encoder(self) -> bool:
        """Whether an encoder reads the source; if not, the decoder continues it."""
        return True

    @property
    def examples_per_row(self) -> int | None:
        """How many examples a whole row gives; None where that depends on the row, 0 where rows are joined."""
        return 1

    @property
    def max_length(self) -> int | None:
        """Tokens of the longest source or target, where the task itself cuts rows and nothing else may; None = any."""
        return None

    @property
    def max_answered(self) -> int | None:
        """How many examples an evaluation answers, for people to read; None = all, because the scores need them."""
        return None

    # From rows to examples.

    def learn(self, rows: Iterable[Row]) -> Task:
        """Return the task with what it must know of the training rows, such as the labels; called before training."""
        return self

    @abstractmethod
    def texts(self, row: Row) -> Iterator[str]:
        """Yield the texts of a row that a tokenizer is trained on."""

    @abstractmethod
    def examples(self, rows: Sequence[Row], tokenizer: BaseTokenizer) -> list[Example]:
        """Turn rows into examples; a row may give none, one or several.

        Raises:
            InputError: If a row does not fit, naming its PLACE.
        """

    def questions(self, rows: Sequence[Row], tokenizer: BaseTokenizer) -> list[Example]:
        """Turn rows with `source_columns` alone into examples to be answered."""
        return self.examples(rows, tokenizer)

    def choose(self, source: str | None, target: str | None) -> tuple[str, str | None]:
        """Return (column of the text, group of the examples) for the languages that a user names.

        Raises:
            InputError: If the task has no such choice.
        """
        if source is not None or target is not None:
            raise InputError(f"{self.kind} has no languages to choose from; leave out source and target")
        return self.input_column, None

    # From what the head finds to answers and scores.

    @abstractmethod
    def head(self, tokenizer: BaseTokenizer, d_model: int) -> Head:
        """Return the head of the task, on states of width `d_model`."""

    @abstractmethod
    def answers(
        self, found: Sequence[Any], examples: Sequence[Example], tokenizer: BaseTokenizer
    ) -> list[list[Answer]]:
        """Turn what the head found for each example into answers, best first."""

    def join(self, parts: Sequence[list[Answer]]) -> list[Answer]:
        """Return the answers to a row, of those to its parts, where a row is too long to be read at once."""
        (answers,) = parts
        return answers

    def calibrate(self, head: Head, predictions: Sequence[Prediction]) -> list[Prediction]:
        """Set what of the head is chosen on validation and not trained, such as a threshold, and answer again.

        Called before the scores of a validation during training.
        """
        return list(predictions)

    @abstractmethod
    def score(self, predictions: Sequence[Prediction], nll: float, count: int) -> dict[str, float]:
        """Compare answers with references: metric name -> value.

        `nll` is the summed negative log-likelihood of `count` targets in nats.
        """

    @abstractmethod
    def signatures(self) -> dict[str, str]:
        """Return how each score is computed, so that others can repeat it: metric name -> signature of the scorer.

        Raises:
            InputError: If a scorer cannot work here because a package is missing; called before training.
        """

    def table(self, predictions: Sequence[Prediction]) -> str:
        """Return what to print beside the scores, such as those of each class, as a table for people."""
        return ""

    def draw(self, predictions: Sequence[Prediction], folder: Path) -> list[Path]:
        """Draw pictures of the answers into a folder and return their files; matplotlib is installed."""
        return []


def text_of(row: Row, column: str) -> str:
    """Return a text of a row, "" where it has none.

    Raises:
        InputError: If there is something else than a text.
    """
    value = row.get(column)
    if value is not None and not isinstance(value, str):
        raise fault(row, f"column '{column}': {str(value)[:40]}, expected a text")
    return value or ""


def texts_of(row: Row, column: str) -> list[str]:
    """Return a list of texts of a row, of one where it has a text, empty where it has none.

    Raises:
        InputError: If there is something else.
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
