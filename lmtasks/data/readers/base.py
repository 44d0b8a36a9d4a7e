"""Rows: the contract of a row format, which reads the rows of a split with the columns that a task asks for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Self
from zlib import crc32

from lmtasks.checked import CheckedArguments

DIGITS = 12  # of a digest, which is for people to compare


class Rows(CheckedArguments, ABC):
    """The data of a task: where each split is stored, and in which format."""

    option: str = "data.rows"
    """The option that sets these rows, for error messages: data.rows, or data.rows.NAME for one of several tasks."""

    def called(self, option: str) -> Self:
        """Return a copy whose error messages name another option."""
        named = copy(self)
        object.__setattr__(
            named, "option", option
        )  # the formats are frozen dataclasses, and this is not one of their fields
        return named

    @abstractmethod
    def path(self, split: str) -> str | None:
        """Return the path of a split, or None if there is no such split."""

    def source(self, split: str) -> str:
        """Return what people call the data of a split: its path as given, or the name alone where that is absolute."""
        path = self.path(split) or ""
        return Path(path).name if Path(path).is_absolute() else path

    def on_hub(self, split: str) -> bool:
        """Tell whether a split is a set on the Hugging Face hub."""
        return False

    def digest(self, split: str, columns: Sequence[str]) -> str:
        """Return twelve digits that differ for other rows: the beginning of a SHA-256."""
        return sha256(self.fingerprint(split).encode()).hexdigest()[:DIGITS]

    def size(self, split: str, columns: Sequence[str]) -> int:
        """Return how many bytes the files with the columns of a split have; 0 where there are none."""
        return 0

    @abstractmethod
    def rows(self, split: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the rows of a split as {column: value}.

        Raises: InputError if the split, a file or a column is missing, or a row is broken; it names the place.
        """

    @abstractmethod
    def fingerprint(self, split: str) -> str:
        """Return a text that changes with the rows of a split, for the names of caches.

        Raises: InputError if the split or its file is missing.
        """


@dataclass(frozen=True)
class SetAside(Rows):
    """Rows of which a share of the training split is the validation split.

    Which part a row belongs to follows from its text alone, so that equal rows are in one part.
    """

    inner: Rows
    """All the rows."""
    share: float
    """Share of the training rows, above 0 and below 1."""

    @classmethod
    def of(cls, rows: Rows, share: float) -> Rows:
        """Return the rows with a validation split; they themselves if they have one, or the share is 0."""
        needed = share and rows.path("validation") is None and rows.path("train") is not None
        return cls(rows, share).called(rows.option) if needed else rows

    def path(self, split: str) -> str | None:
        """Return the path of a split, for validation that of the training rows."""
        return self.inner.path(_origin(split))

    def source(self, split: str) -> str:
        """Return what people call the data, and which part of it."""
        part = {"train": f"{1 - self.share:.0%} of ", "validation": f"{self.share:.0%} of "}.get(split, "")
        return part + self.inner.source(_origin(split))

    def on_hub(self, split: str) -> bool:
        """Tell whether a split is a set on the Hugging Face hub."""
        return self.inner.on_hub(_origin(split))

    def digest(self, split: str, columns: Sequence[str]) -> str:
        """Return the digest of the whole."""
        return self.inner.digest(_origin(split), columns)

    def size(self, split: str, columns: Sequence[str]) -> int:
        """Return the size of the whole."""
        return self.inner.size(_origin(split), columns)

    def fingerprint(self, split: str) -> str:
        """Return a text of the whole, the share and the split."""
        return f"{self.inner.fingerprint(_origin(split))}\n{self.share} {split}"

    def rows(self, split: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the rows of a split."""
        rows = self.inner.rows(_origin(split), columns)
        if split not in ("train", "validation"):
            return rows
        return (row for row in rows if self._is_aside(row, columns) == (split == "validation"))

    def _is_aside(self, row: dict[str, Any], columns: Sequence[str]) -> bool:
        text = repr([row.get(column) for column in columns])
        return crc32(text.encode("utf-8", "surrogatepass")) < self.share * 2**32


def _origin(split: str) -> str:
    return "train" if split == "validation" else split
