"""Tables, the row format of most tasks, and what row formats whose splits are files have in common.

A row of the file is a row of the task; its columns go by our names, or are mapped to them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lmtasks.data.readers.base import Rows
from lmtasks.data.readers.files import fingerprint, numbered_rows
from lmtasks.errors import InputError


@dataclass(frozen=True)
class Files(Rows):
    """Where the splits of a task lie: the base of row formats whose splits are files or sets of the hub."""

    train: str | None = None
    """Training data: a file or a hub id, `owner/name`, `owner/name:config` or `owner/name[split]`."""
    validation: str | None = None
    """Data that choose the best checkpoint, in the same forms."""
    test: str | None = None
    """Data for the final score, in the same forms."""
    predict: str | None = None
    """Data to predict, in the same forms; columns with right answers need not be there."""
    columns: dict[str, str] = field(default_factory=dict)
    """Column of the file where its name is not ours, {ours: theirs}; a field in a column: {ours: column.field}; its
    position from 1 in a table without a header: {ours: "1"}."""

    @property
    def mapping(self) -> str:
        """The option that maps columns, for complaints."""
        return f"--{self.option}.columns"

    def path(self, split: str) -> str | None:
        """Return where the split lies, None if it was not given."""
        return {"train": self.train, "validation": self.validation, "test": self.test, "predict": self.predict}[split]

    def fingerprint(self, split: str) -> str:
        """Return a text that changes when the rows of a split do, for caches.

        Raises:
            InputError: If the split or its file is missing.
        """
        settings = repr(replace(self, train=None, validation=None, test=None, predict=None))
        return "\n".join([split, settings, *(fingerprint(path, split) for path in self.paths(split))])

    def paths(self, split: str) -> list[str]:
        """Return the files or the hub id that a split is read from, in this order.

        Raises:
            InputError: If the split was not given, or its file is empty.
        """
        path = self.path(split)
        if path is None:
            raise InputError(f"no data for the split '{split}'; set {split}= to a file or to a hub id")
        file = Path(path).expanduser()
        if file.is_file() and not file.stat().st_size:
            raise InputError(f"{path}: the file is empty, and the split '{split}' needs rows")
        return [path]

    def table(
        self, path: str, split: str, columns: Sequence[str], absent: Collection[str] = ()
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the rows of a table with their numbers: scalars as exact text, lists as lists of texts, None for a
        value that is null; columns in `absent` need not exist.

        Raises:
            InputError: Naming file, row and column.
        """
        names = {name: self.columns.get(name, name) for name in columns}
        return numbered_rows(path, names, split, optional=columns, nested=columns, absent=absent, option=self.mapping)


@dataclass(frozen=True)
class Table(Files):
    """Where the tables of a task lie: one row of a file for each row of the task.

    Before: line 7 of `train.jsonl`, which is `{"sentence": "A fine film.", "label": 1}`, and columns {text: sentence}.
    After: row 7 of `rows("train", ("text", "label"))` is
    `{"text": "A fine film.", "label": "1", "place": "train.jsonl, row 7"}`.
    """

    train: str | None = None
    """Training data: a table (.jsonl .json .csv .tsv .parquet, also .gz) or a hub id, `owner/name`; labels that a hub
    set has names for come by their names. Other text has one column, each line a row."""

    def rows(self, split: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the rows of a split with our `columns` and their "place", which is the file and the row.

        A number comes as exact text, a list as a list of texts, nested lists and objects as they are, null as None:
        what a row must have, the task says.

        Raises:
            InputError: If the file, a column or the split is missing, or a row is broken.
        """
        for path in self.paths(split):
            for number, row in self.table(path, split, columns):
                yield {**row, "place": f"{path}, row {number}"}
