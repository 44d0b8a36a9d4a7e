"""TokenizedDataset: the examples of a split as token ids in an Arrow file, mapped into memory.

The file is made once for the same rows, task and tokenizer, and found again by a hash of the three. It is mapped, and
a row is a view into it, so the memory of a run does not grow with its texts. Tokenising uses all cores.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lmtasks import __version__
from lmtasks.batch import IGNORE, Example
from lmtasks.data.readers.base import Rows
from lmtasks.tasks.base import Row, Task
from lmtasks.text.base import BaseTokenizer

Make = Callable[[Sequence[Row], BaseTokenizer], list[Example]]
"""A method of a task that makes examples of rows: `examples` or `questions`."""

ROWS_AT_ONCE = 2000
SESSION = uuid4().hex  # stands for code typed into an interpreter, of which there is no file
READ = "rows"  # key in the metadata of an Arrow batch: how many rows were read for its examples
FORMAT = "3"  # part of the hash: count up when the columns or their meaning change
SCHEMA = pa.schema(
    [
        ("source", pa.list_(pa.int32())),
        ("target", pa.list_(pa.int32())),
        ("text", pa.string()),
        ("reference", pa.string()),
        ("references", pa.list_(pa.string())),
        ("offsets", pa.list_(pa.int32())),
        ("group", pa.string()),
        ("row", pa.int64()),
    ]
)


class TokenizedDataset:
    """The examples of one split: `source` and `target` ids, and what scoring needs; `rows` were read to make them.

    A pickle holds the path of the file alone.
    """

    def __init__(self, file: Path) -> None:
        batches = list(pa.ipc.open_stream(pa.memory_map(str(file))).iter_batches_with_custom_metadata())
        self._file, self._table = file, pa.Table.from_batches([batch for batch, _ in batches], SCHEMA)
        self.source, self.target = Tokens(self._table["source"]), Tokens(self._table["target"])
        self.rows = sum(int(metadata[READ]) for _, metadata in batches)

    def __reduce__(self) -> tuple[type[TokenizedDataset], tuple[Path]]:
        """Pickle the path alone: a worker process maps the file itself."""
        return TokenizedDataset, (self._file,)

    def __len__(self) -> int:
        """Return the number of examples."""
        return self._table.num_rows

    def possible(self, examples_per_row: int | None) -> tuple[int, int]:
        """Return how many examples there could be, and how many are missing because their rows have no source."""
        if examples_per_row is None:
            missing = self.rows - pc.count_distinct(self._table["row"]).as_py()
            return len(self) + missing, missing
        possible = self.rows * examples_per_row or len(self)
        return possible, possible - len(self)

    def examples(self, ids: Sequence[int]) -> list[Example]:
        """Return some of the examples; their `row` is its number in the data."""
        return [Example(**values) for values in self._table.take(pa.array(ids, pa.int64())).to_pylist()]


class Tokens:
    """Token ids of all examples: `tokens[i]` is a view of row i, `tokens.lengths` (rows,) counts them."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        chunks = [chunk for chunk in column.chunks if len(chunk)]
        self._values = [chunk.values.to_numpy() for chunk in chunks]
        self._offsets = [chunk.offsets.to_numpy() for chunk in chunks]
        self._firsts = np.cumsum([0, *(len(chunk) for chunk in chunks)])
        self.lengths = np.concatenate([np.zeros(0, np.int64), *map(np.diff, self._offsets)]).astype(np.int64)

    @cached_property
    def counts(self) -> np.ndarray:
        """How many tokens of each example are not IGNORE, (rows,); it reads the whole file."""
        counts = [np.zeros(0, np.int64)]
        for values, offsets in zip(self._values, self._offsets, strict=True):
            before = np.append(0, (values != IGNORE).cumsum())  # (tokens + 1,) of one chunk at a time
            counts.append(np.diff(before[offsets]))
        return np.concatenate(counts)

    def __getitem__(self, row: int) -> np.ndarray:
        """Return the ids of a row, a view into the file."""
        chunk = int(np.searchsorted(self._firsts, row, side="right")) - 1
        offsets, at = self._offsets[chunk], row - self._firsts[chunk]
        return self._values[chunk][offsets[at] : offsets[at + 1]]


def encode(rows: Iterable[Row], make: Make, tokenizer: BaseTokenizer, file: Path) -> TokenizedDataset:
    """Return the examples that `make`, a method of a task, makes of `rows`.

    They come out of the Arrow `file` if it is there, else they are written to it first.
    """
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(f".{uuid4().hex}.tmp")  # machines that share a folder share process ids
        try:
            with pa.OSFile(str(unfinished), "wb") as sink, pa.ipc.new_stream(sink, SCHEMA) as writer:
                for batch, read in _encoded(rows, make, tokenizer):
                    writer.write_batch(batch, custom_metadata={READ: str(read)})
            unfinished.replace(file)
        finally:
            unfinished.unlink(missing_ok=True)
    return TokenizedDataset(file)


def cache_file(folder: Path, rows: Rows, split: str, task: Task, tokenizer: BaseTokenizer) -> Path:
    """Return where the examples lie that a task makes of a split.

    Its name changes with rows, task and tokenizer, with our version, and with the files that other classes come from.
    """
    code = (*_code_of(type(rows)), *_code_of(type(task)))
    parts = "\n".join((FORMAT, __version__, *code, rows.fingerprint(split), repr(task), tokenizer.fingerprint))
    return folder / f"{hashlib.sha256(parts.encode()).hexdigest()[:32]}.arrow"


def _code_of(kind: type) -> Iterator[str]:
    """Give the source of each file that a class, or one above it, comes from, but for our own."""
    for each in kind.__mro__[:-1]:
        if each.__module__.split(".")[0] in ("lmtasks", "abc"):
            continue
        try:
            yield inspect.getsource(sys.modules[each.__module__])
        except (OSError, TypeError):
            yield f"{SESSION} {id(each)}"


def _encoded(rows: Iterable[Row], make: Make, tokenizer: BaseTokenizer) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Yield examples, and the number of rows that they were made of."""
    numbered = enumerate(rows)
    while several := list(islice(numbered, ROWS_AT_ONCE)):
        examples = make([row for _, row in several], tokenizer)
        records = [_record(example, several[0][0]) for example in examples]
        yield pa.RecordBatch.from_pylist(records, SCHEMA), len(several)


def _record(example: Example, first: int) -> dict:
    return {**vars(example), "row": first + example.row}
