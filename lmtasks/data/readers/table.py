"""Tables, the row format of most tasks: a row of the file is a row of the task; and the base of all file formats."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from lmtasks.data.readers.base import DIGITS, Rows
from lmtasks.data.readers.files import file_sha256, fingerprint, numbered_rows
from lmtasks.data.readers.formats import file_format
from lmtasks.errors import InputError


@dataclass(frozen=True)
class Files(Rows):
    """The base of row formats whose splits are files or hub sets."""

    train: str | None = None
    """Training data: a file or a hub id, `owner/name`, `owner/name:config` or `owner/name[split]`."""
    validation: str | None = None
    """Data that choose the best checkpoint, in the same forms."""
    test: str | None = None
    """Data for the final score, in the same forms."""
    predict: str | None = None
    """Data to predict, in the same forms; the columns of the right answers may be missing."""
    columns: dict[str, str] = field(default_factory=dict)
    """Maps our column names to those of the file where they differ, {ours: theirs}; to a field in a column, {ours:
    column.field}; or to the position from 1 in a table without a header, {ours: "1"}."""

    @property
    def columns_option(self) -> str:
        """The option that maps columns, for error messages."""
        return f"--{self.option}.columns"

    def path(self, split: str) -> str | None:
        """Return the path of a split, or None if it was not given."""
        return {"train": self.train, "validation": self.validation, "test": self.test, "predict": self.predict}[split]

    def fingerprint(self, split: str) -> str:
        """Return a text of the split, the settings, and the path and content of each file."""
        settings = repr(
            replace(self, train=None, validation=None, test=None, predict=None)
        )  # other splits do not count
        return "\n".join([split, settings, *(fingerprint(path, split) for path in self.paths(split))])

    def on_hub(self, split: str) -> bool:
        """Tell whether a split is a set on the Hugging Face hub."""
        return file_format(self.path(split) or "") == "hub"

    def digest(self, split: str, columns: Sequence[str]) -> str:
        """Return the beginning of the SHA-256 of a file, as `sha256sum` gives it, or of those of several in order."""
        if self.on_hub(split):
            return super().digest(split, columns)
        whole = [file_sha256(path) for path in self.files(split, columns)]
        return (whole[0] if len(whole) == 1 else sha256("".join(whole).encode()).hexdigest())[:DIGITS]

    def size(self, split: str, columns: Sequence[str]) -> int:
        """Return how many bytes the files have that are read, compressed ones as they are; 0 for a set on the hub."""
        paths = [] if self.on_hub(split) else self.files(split, columns)
        return sum(Path(path).expanduser().stat().st_size for path in paths)

    def files(self, split: str, columns: Sequence[str]) -> list[str]:
        """Return the files of a split that have the columns; see `paths`."""
        return self.paths(split)

    def paths(self, split: str) -> list[str]:
        """Return the files of a split in the order in which they are read, or its hub id.

        Raises: InputError if the split was not given, its file is empty, or no file matches a pattern.
        """
        path = self.path(split)
        if path is None:
            raise InputError(f"no data for the split '{split}'; set {split}= to a file or to a hub id")
        file = Path(path).expanduser()
        if file.is_file() and not file.stat().st_size:
            raise InputError(f"{path}: the file is empty, and the split '{split}' needs rows")
        return [path]

    def table(
        self, path: str, split: str, columns: Sequence[str], absent: Collection[str] = (), nested: bool = True
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the rows of a table with their numbers and our `columns`; those in `absent` need not exist.

        Scalars become exact text and lists lists of texts (if `nested`); null is None.
        """
        names = {name: self.columns.get(name, name) for name in columns}
        return numbered_rows(path, names, split, nested, absent, self.columns_option)


@dataclass(frozen=True)
class Table(Files):
    """Tables: each row of the file is a row of the task.

    Before: line 7 of `train.jsonl`, `{"sentence": "A fine film.", "label": 1}`, with the columns {text: sentence}.
    After: row 7 of `rows("train", ("text", "label"))`,
    `{"text": "A fine film.", "label": "1", "place": "train.jsonl, row 7"}`.
    """

    train: str | None = None
    """Training data: a table (.jsonl .json .csv .tsv .parquet, also .gz) or a hub id, `owner/name`; label numbers
    become label names where a hub set has them. Any other file is text with one column, a row per line."""

    def rows(self, split: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the rows of a split with our `columns` and their "place", the file and the row.

        Numbers become exact text and lists lists of texts; nested lists and objects stay as they are. Null is None: the
        task decides whether it allows that.
        """
        for path in self.paths(split):
            for number, row in self.table(path, split, columns):
                yield {**row, "place": f"{path}, row {number}"}
