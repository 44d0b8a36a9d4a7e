"""Task: what a text means. Row -> token ids; ids -> answer; which head; which scores. Plain data, no parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from lmtasks.errors import InputError
from lmtasks.text.tokenizer import Tokenizer

Row = Mapping[str, Any]


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
    group: str = ""
    """Rows that are scored together, such as a translation direction."""
    row: int = 0
    """Which of the rows given it comes from."""


@dataclass(frozen=True)
class Answer:
    """What a model says to one row."""

    text: str
    """The answer."""
    score: float
    """How sure the search was of it: log-probability / length ** length_penalty."""


@dataclass(frozen=True)
class Task(ABC):
    """The contract of a task."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Key of the task in module, batches and metric names."""

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """What a row format must give to learn from."""

    @property
    @abstractmethod
    def source_columns(self) -> tuple[str, ...]:
        """The columns among them that a prediction needs."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages that need a tag in the vocabulary."""
        return ()

    def choose(self, source: str | None, target: str | None) -> tuple[str, str | None]:
        """Return (column of the text, group of the examples) that a user means; source and target are languages.

        Raises:
            InputError: If the task has no such choice.
        """
        if source is not None or target is not None:
            raise InputError(f"{self.name} has no languages to choose from; leave out source and target")
        return self.source_columns[0], None

    @property
    def examples_a_row(self) -> int:
        """How many examples a row gives that lacks nothing."""
        return 1

    @property
    @abstractmethod
    def main_metric(self) -> str:
        """The score that says how good the task is, 0 to 100, higher is better."""

    @abstractmethod
    def texts(self, row: Row) -> Iterator[str]:
        """Give the texts of a row from which a tokenizer learns."""

    @abstractmethod
    def examples(self, rows: Sequence[Row], tokenizer: Tokenizer) -> list[Example]:
        """Turn rows into examples; a row may give none, one or several."""

    @abstractmethod
    def head(self, tokenizer: Tokenizer) -> nn.Module:
        """Return the head that learns the task."""

    @abstractmethod
    def score(self, predictions: Sequence[str], references: Sequence[str], groups: Sequence[str]) -> dict[str, float]:
        """Compare answers with references, line by line: metric name -> value."""

    @abstractmethod
    def signatures(self) -> dict[str, str]:
        """Say how each score is computed, so that others can repeat it: metric name -> signature of the scorer.

        Raises:
            InputError: If a scorer cannot work here, since a package is missing; asked before training starts.
        """
