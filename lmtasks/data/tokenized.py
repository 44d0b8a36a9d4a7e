"""TokenizedDataset: the examples of a split as token ids in an Arrow file, mapped into memory.

The file is made once for the same rows, task and tokenizer, and found again by a hash of the three. It ends with a
checksum, and is made anew where that is wrong. A row is a view into the mapped file, so the memory of a run does not
grow with its texts. Tokenising uses all cores.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from xxhash import xxh3_128_digest

from lmtasks import __version__
from lmtasks.batch import IGNORE, Example
from lmtasks.data.readers.base import Rows
from lmtasks.errors import InputError, collected, writing
from lmtasks.tasks.base import PLACE, Row, Task
from lmtasks.text.base import BaseTokenizer

Make = Callable[[Sequence[Row], BaseTokenizer], list[Example]]
"""A method of a task that makes examples of rows: `examples` or `questions`."""
Metadata = dict[str, str]
"""What is known of the rows of an Arrow batch, by READ, NO_TEXT and NO_LABEL."""

ROWS_AT_ONCE = 2000  # enough for all cores, few enough that their texts do not fill the memory
SESSION = uuid4().hex  # stands for code typed into an interpreter, which has no file
# keys in the metadata of an Arrow batch: how many rows were read for its examples, and the first without text or answer
READ, NO_TEXT, NO_LABEL = "rows", "no text", "no label"
PLACES = 10  # rows that are named
FORMAT = "5"  # part of the hash: count up when the columns or their meaning change
CHECKSUM = 16  # bytes at the end of a file: the XXH3 of those before, which takes 0.05 s for 1 GB
PART = ".part"  # ending of a file that is being written
OPTION = "--data.cache FOLDER"
NUMBERS, TEXT = pa.list_(pa.int32()), pa.string()
SCHEMA = pa.schema({  # the fields of an Example
    "source": NUMBERS, "target": NUMBERS, "text": TEXT, "reference": TEXT, "references": pa.list_(TEXT),
    "offsets": NUMBERS, "prefix": NUMBERS, "group": TEXT, "row": pa.int64(),
})  # fmt: skip
logger = logging.getLogger(__name__)


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
        self.lengths = np.concatenate([np.zeros(0, np.int32), *map(np.diff, self._offsets)])

    @cached_property
    def counts(self) -> np.ndarray:
        """How many tokens of each example are not IGNORE, (rows,); this reads the whole file."""
        counts = [np.zeros(0, np.int32)]
        for values, offsets in zip(self._values, self._offsets, strict=True):
            before = np.append(0, (values != IGNORE).cumsum())  # (tokens + 1,) of one chunk at a time
            counts.append(np.diff(before[offsets]).astype(np.int32))
        return np.concatenate(counts)

    def __getitem__(self, row: int) -> np.ndarray:
        """Return the ids of a row, a view into the file."""
        chunk = int(np.searchsorted(self._firsts, row, side="right")) - 1
        offsets, at = self._offsets[chunk], row - self._firsts[chunk]
        return self._values[chunk][offsets[at] : offsets[at + 1]]


def encode(rows: Iterable[Row], make: Make, tokenizer: BaseTokenizer, file: Path) -> TokenizedDataset:
    """Return the examples that `make` makes of `rows`, from the Arrow `file`; it is written first if it is missing.

    Raises: InputError if it cannot be written.
    """
    if not _is_whole(file):
        with writing(file.parent, OPTION):
            file.parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(file.parent)
            with _part_of(file) as sink:
                try:
                    _write(_batches(rows, make, tokenizer), sink)
                    Path(sink.name).replace(file)  # only a whole file has this name
                finally:
                    Path(sink.name).unlink(missing_ok=True)
    return TokenizedDataset(file)


def _batches(rows: Iterable[Row], make: Make, tokenizer: BaseTokenizer) -> Iterator[tuple[pa.RecordBatch, Metadata]]:
    """Yield the examples of some rows at a time, with how many rows these are and the places of those that lack some.

    Raises: InputError for all rows that are broken, together.
    """
    first = 0
    for several, examples in collected(_portions(rows), lambda part: (part, _made(make, part, tokenizer))):
        records = [{**vars(example), "row": first + example.row} for example in examples]
        read = {example.row for example in examples}
        silent = [row for number, row in enumerate(several) if number not in read]
        unlabelled = [several[example.row] for example in examples if not example.target]
        lacking = {NO_TEXT: silent, NO_LABEL: unlabelled}
        places = {kind: json.dumps([*map(_place, each[:PLACES])]) for kind, each in lacking.items()}
        yield pa.RecordBatch.from_pylist(records, SCHEMA), {READ: str(len(several)), **places}
        first += len(several)


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


def _write(batches: Iterable[tuple[pa.RecordBatch, Metadata]], sink: BinaryIO) -> None:
    """Write batches as an Arrow stream, and the checksum behind it."""
    with pa.ipc.new_stream(sink, SCHEMA) as writer:
        for batch, metadata in batches:
            writer.write_batch(batch, custom_metadata=metadata)
    sink.flush()
    sink.write(xxh3_128_digest(_mapped(Path(sink.name))))
    sink.flush()


def _is_whole(file: Path) -> bool:
    """Tell whether a file is there and has the checksum that stands at its end; log a damaged one."""
    try:
        found = file.stat()
        whole = _has_checksum(file, found.st_ino, found.st_size, found.st_ctime_ns)
    except OSError:  # there is none that can be read
        return False
    if not whole:
        logger.warning("%s: the tokenised rows are damaged (wrong checksum); they are made anew", file)
    return whole


@lru_cache(maxsize=1024)  # a run opens a file several times
def _has_checksum(file: Path, number: int, size: int, changed: int) -> bool:
    """Compare the checksum of the file that has this inode, size and time of its last change."""
    if size <= CHECKSUM:
        return False
    whole = _mapped(file)
    return xxh3_128_digest(whole[:-CHECKSUM]) == whole[-CHECKSUM:].to_pybytes()


def _mapped(file: Path) -> pa.Buffer:
    return pa.memory_map(str(file)).read_buffer()


def _part_of(file: Path) -> BinaryIO:
    """Open a file to be written, locked while its process lives."""
    while True:
        sink = file.with_suffix(f".{uuid4().hex}{PART}").open("wb")  # machines that share a folder share process ids
        with suppress(OSError):  # a file system without locks
            _lock(sink, wait=True)
        if os.fstat(sink.fileno()).st_nlink:
            return sink
        sink.close()  # another process has removed it, before it was locked


def _remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed have begun to write, which nothing locks any more."""
    for part in folder.glob(f"*{PART}"):
        with suppress(OSError), part.open("ab") as opened:
            _lock(opened, wait=False)
            part.unlink()


def _lock(file: BinaryIO, wait: bool) -> None:
    """Lock a file for this process. Raises: OSError if another holds it and `wait` is false."""
    if os.name != "nt":  # there no open file can be removed
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


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
