"""Rows that a program has in memory: a list of dicts, a Dataset of `datasets`, or a DataFrame of pandas."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from xxhash import xxh3_128

from lmtasks.data.readers.base import Rows
from lmtasks.data.readers.files import exact, value_of
from lmtasks.data.readers.hub import named_labels
from lmtasks.errors import InputError, collected, did_you_mean


@dataclass(frozen=True, eq=False)
class InMemory(Rows):
    """Rows in memory, for a training from Python.

    Numbers become exact text and lists lists of texts, as in a `Table`; None and NaN are missing values. Label numbers
    of a `Dataset` become label names where it has them.

    Example:
        >>> rows = InMemory(train=[{"text": "A fine film.", "stars": 5}], columns={"label": "stars"})
        >>> list(rows.rows("train", ("text", "label")))
        [{'text': 'A fine film.', 'label': '5', 'place': 'train rows in memory, row 1'}]
    """

    train: Any = None
    """Training rows: a list of dicts, a `datasets.Dataset` or a `pandas.DataFrame`."""
    validation: Any = None
    """Rows that choose the best checkpoint."""
    test: Any = None
    """Rows that are scored at the end."""
    predict: Any = None
    """Rows to be answered."""
    columns: dict[str, str] = field(default_factory=dict)
    """Maps our column names to those of the rows where they differ, {ours: theirs}; or to a field in a column, {ours:
    column.field}."""

    def __post_init__(self) -> None:
        for split in ("train", "validation", "test", "predict"):
            given = self._given(split)
            table = hasattr(given, "itertuples") or hasattr(given, "features")
            rows = isinstance(given, Sequence) and all(isinstance(row, dict) for row in given)
            if not (given is None or table or rows):
                wanted = "a list of dicts, a datasets.Dataset or a pandas.DataFrame"
                raise InputError(f"{split} is {reprlib.repr(given)}; give {wanted}")

    def path(self, split: str) -> str | None:
        """Return what messages call the rows of a split, or None if there are none."""
        return None if self._given(split) is None else f"{split} rows in memory"

    def fingerprint(self, split: str) -> str:
        """Return a text that changes with the rows, or the mapping of their columns."""
        content = xxh3_128()
        for row in self._records(split):
            content.update(repr(sorted(row.items())).encode("utf-8", "surrogatepass"))
        return f"{split}\n{self.columns}\n{content.hexdigest()}"

    def rows(self, split: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the rows of a split with our `columns` and their "place".

        Raises: InputError if no row has a column, or a value is none that a row can have.
        """
        names = {name: self.columns.get(name, name) for name in columns}
        known = dict.fromkeys(key for row in self._records(split) for key in row)
        for name, theirs in names.items():
            if theirs not in known and theirs.split(".")[0] not in known:
                hint = did_you_mean(theirs, known, f"columns={{{name!r}: NAME}} says which")
                raise InputError(f"{self.path(split)}: no column {theirs!r}; they have {', '.join(known)}; {hint}")

        def ours(numbered: tuple[int, dict[str, Any]]) -> dict[str, Any]:
            number, record = numbered
            place, row = f"{self.path(split)}, row {number}", {}
            for name, theirs in names.items():
                try:
                    row[name] = exact(_plain(value_of(record, theirs)))
                except ValueError as error:
                    raise InputError(f"{place}, column {theirs!r}: {error}") from None
            return {**row, "place": place}

        yield from collected(enumerate(self._records(split), start=1), ours)

    def _given(self, split: str) -> Any:
        return {"train": self.train, "validation": self.validation, "test": self.test, "predict": self.predict}[split]

    def _records(self, split: str) -> Iterable[dict[str, Any]]:
        """Return the rows of a split as dicts."""
        given = self._given(split)
        if given is None:
            raise InputError(f"no data for the split '{split}'; give {split}= rows")
        if hasattr(given, "itertuples"):  # of pandas, which need not be installed
            names = list(map(str, given.columns))
            return (dict(zip(names, values, strict=True)) for values in given.itertuples(index=False, name=None))
        if hasattr(given, "features"):  # of datasets
            return named_labels(given, given.features.to_dict())
        return given


def _plain(value: Any) -> Any:
    """Return numbers and arrays of numpy as those of Python."""
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value
