"""TokenizedDataset: the examples of a split as token ids in an Arrow file, mapped into memory.

The file is made once for the same rows, task and tokenizer, and found again by a hash of the three. A row is a view
into the mapped file, so the memory of a run does not grow with its texts. Tokenising uses all cores.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lmtasks import __version__
from lmtasks.batch import IGNORE, Example
from lmtasks.data.readers.base import Rows
from lmtasks.errors import InputError, collected
from lmtasks.tasks.base import PLACE, Row, Task
from lmtasks.text.base import BaseTokenizer

Make = Callable[[Sequence[Row], BaseTokenizer], list[Example]]
"""A method of a task that makes examples of rows: `examples` or `questions`."""

ROWS_AT_ONCE = 2000  # enough for all cores, few enough that their texts do not fill the memory
SESSION = uuid4().hex  # stands for code typed into an interpreter, which has no file
# keys in the metadata of an Arrow batch: how many rows were read for its examples, and the first without text or answer
READ, NO_TEXT, NO_LABEL = "rows", "no text", "no label"
PLACES = 10  # rows that are named
FORMAT = "5"  # part of the hash: count up when the columns or their meaning change
NUMBERS, TEXT = pa.list_(pa.int32()), pa.string()
SCHEMA = pa.schema({  # the fields of an Example
    "source": NUMBERS, "target": NUMBERS, "text": TEXT, "reference": TEXT, "references": pa.list_(TEXT),
    "offsets": NUMBERS, "prefix": NUMBERS, "group": TEXT, "row": pa.int64(),
})  # fmt: skip


class TokenizedDataset:
    """The examples of one split: `source` and `target` ids, and what scoring needs; `rows` were read to make them."""

    def __init__(self, file: Path) -> None:
        batches = list(pa.ipc.open_stream(pa.memory_map(str(file))).iter_batches_with_custom_metadata())
        self._file, self._table = file, pa.Table.from_batches([batch for batch, _ in batches], SCHEMA)
        self.source, self.target = Tokens(self._table["source"]), Tokens(self._table["target"])
        self.rows = sum(int(metadata[READ]) for _, metadata in batches)
        named = {kind: [json.loads(metadata[kind]) for _, metadata in batches] for kind in (NO_TEXT, NO_LABEL)}
        self._places = {kind: [*chain.from_iterable(places)][:PLACES] for kind, places in named.items()}

    def __reduce__(self) -> tuple[type[TokenizedDataset], tuple[Path]]:
        """Pickle the path alone: a worker process maps the file itself."""
        return TokenizedDataset, (self._file,)

    def __len__(self) -> int:
        """Return the number of examples."""
        return self._table.num_rows

    def possible(self, examples_per_row: int | None) -> tuple[int, int]:
        """Return how many examples there could be, and how many are missing because their rows have no source."""
        if examples_per_row is None:  # any number: a row without an example counts as one that is missing
            missing = self.rows - pc.count_distinct(self._table["row"]).as_py()
            return len(self) + missing, missing
        possible = self.rows * examples_per_row or len(self)
        return possible, possible - len(self)

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a field of all examples, a view into the file."""
        return self._table[name]

    def first(self, kind: str, count: int) -> str:
        """Return the first of `count` rows that have NO_TEXT, or NO_LABEL, in brackets; "" if there are none."""
        places = self._places[kind] if count else []
        return f" ({', '.join([*places, *['...'] * (count > len(places))])})" if places else ""

    def examples(self, ids: Sequence[int]) -> list[Example]:
        """Return the examples with these numbers; their `row` is the number of the row in the data."""
        return [Example(**values) for values in self._table.take(pa.array(ids, pa.int64())).to_pylist()]


class Tokens:
    """Token ids of all examples: `tokens[i]` is a view of row i, `tokens.lengths` (rows,) are their numbers."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        chunks = [chunk for chunk in column.chunks if len(chunk)]
        self._values = [chunk.values.to_numpy() for chunk in chunks]  # views into the file, no copies
        self._offsets = [chunk.offsets.to_numpy() for chunk in chunks]
        self._firsts = np.cumsum([0, *(len(chunk) for chunk in chunks)])  # number of the first row of each chunk
        self.lengths = np.concatenate([np.zeros(0, np.int64), *map(np.diff, self._offsets)]).astype(np.int64)

    @cached_property
    def counts(self) -> np.ndarray:
        """How many tokens of each example are not IGNORE, (rows,); this reads the whole file."""
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
    """Return the examples that `make` makes of `rows`, from the Arrow `file`; it is written first if it is missing."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(f".{uuid4().hex}.tmp")  # machines that share a folder share process ids
        try:
            with pa.OSFile(str(unfinished), "wb") as sink, pa.ipc.new_stream(sink, SCHEMA) as writer:
                first = 0
                for several, examples in collected(_portions(rows), lambda part: (part, _made(make, part, tokenizer))):
                    records = [{**vars(example), "row": first + example.row} for example in examples]
                    batch = pa.RecordBatch.from_pylist(records, SCHEMA)
                    read = {example.row for example in examples}
                    silent = [row for number, row in enumerate(several) if number not in read]
                    unlabelled = [several[example.row] for example in examples if not example.target]
                    lacking = {NO_TEXT: silent, NO_LABEL: unlabelled}
                    places = {kind: json.dumps([*map(_place, each[:PLACES])]) for kind, each in lacking.items()}
                    writer.write_batch(batch, custom_metadata={READ: str(len(several)), **places})
                    first += len(several)
            unfinished.replace(file)  # only a whole file has this name
        finally:
            unfinished.unlink(missing_ok=True)
    return TokenizedDataset(file)


def _portions(rows: Iterable[Row]) -> Iterator[list[Row]]:
    source = iter(rows)
    return iter(lambda: list(islice(source, ROWS_AT_ONCE)), [])


def _made(make: Make, rows: list[Row], tokenizer: BaseTokenizer) -> list[Example]:
    """Return the examples of rows; where some are broken, the error names all of these."""
    try:
        return make(rows, tokenizer)
    except InputError:
        for _ in collected(rows, lambda row: make([row], tokenizer)):
            pass
        raise


def _place(row: Row) -> str:
    """Return the place of a row in its file, "row 7"."""
    return str(row.get(PLACE, "a row")).rpartition(", ")[2]


def cache_file(folder: Path, rows: Rows, split: str, task: Task, tokenizer: BaseTokenizer) -> Path:
    """Return the file for the examples that a task makes of a split.

    Its name changes with rows, task and tokenizer, with our version, and with the code of classes from outside lmtasks.
    """
    code = (*_code_of(type(rows)), *_code_of(type(task)))
    parts = "\n".join((FORMAT, __version__, *code, rows.fingerprint(split), repr(task), tokenizer.fingerprint))
    return folder / f"{hashlib.sha256(parts.encode()).hexdigest()[:32]}.arrow"


def _code_of(kind: type) -> Iterator[str]:
    """Yield the source of each file that defines a class or one of its bases, except our own."""
    for each in kind.__mro__[:-1]:
        if each.__module__.split(".")[0] in ("lmtasks", "abc"):
            continue
        try:
            yield inspect.getsource(sys.modules[each.__module__])
        except (OSError, TypeError):
            yield f"{SESSION} {id(each)}"
