"""Rows: the contract of a row format, which gives the rows of a split with the columns that a task asks for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any, Self


class Rows(ABC):
    """Where the rows of a task lie, and in which form."""

    option: str = "data.rows"
    """The setting that they are, for complaints; of one of several tasks, data.rows.NAME. It is no setting itself."""

    def called(self, option: str) -> Self:
        """Return these rows under the name of another setting."""
        named = copy(self)
        object.__setattr__(named, "option", option)  # formats are frozen
        return named

    @abstractmethod
    def path(self, split: str) -> str | None:
        """Return where the split lies, None if there is none."""

    @abstractmethod
    def rows(self, split: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the rows of a split as {column: value}."""

    @abstractmethod
    def fingerprint(self, split: str) -> str:
        """Return a text that changes when the rows of a split do, for caches."""
