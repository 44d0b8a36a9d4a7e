"""Read the rows of any file or hub set: JSON Lines, JSON, CSV, TSV, Parquet and plain text, each also gzipped.

These are thin readers over csv, json and pyarrow, as text must stay exact: a reader that guesses types turns "NA" into
None and "007" into 7.0. An error names the file, the row and the column. A row number is the line number in the file
(from 1, the header counts); in a JSON array, in Parquet and in hub sets it counts rows.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import logging
import os
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import lru_cache, partial
from io import BufferedIOBase, BytesIO
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from xxhash import xxh3_128

from lmtasks.data.readers.formats import file_format
from lmtasks.data.readers.hub import hub_table, named_labels
from lmtasks.errors import InputError, one_line

Record = tuple[int, dict[str, Any]]  # row number, the row under the file's own column names
Row = TypeVar("Row", str, list[str])
Columns = Mapping[str, str]  # our name -> the column of the file
Check = Callable[[int, list[str]], None]  # given a row number and the columns that are present

FIELD_LIMIT = 1 << 24  # characters of one CSV value: enough for a book, and an unclosed quote cannot fill the memory
MAX_LISTED = 20  # names in one error message

logger = logging.getLogger(__name__)


def read_rows(path: str, split: str = "train") -> Iterator[Record]:
    """Yield the rows of a file or hub set with their numbers, each with all its columns.

    Values of JSON and Parquet keep their types, but fractions in JSON stay text (1.10, not 1.1); all others are text.
    Plain text has one column, "text", and one row per line.

    Raises: InputError that names file and row.
    """
    return _records(path, None, split, lambda n, names: _check_columns(path, {name: name for name in names}, n, names))


def numbered_rows(
    path: str, columns: Columns, split: str, nested: bool = False, absent: Collection[str] = (), option: str = ""
) -> Iterator[Record]:
    """Yield the rows of a file or hub set with their numbers, under our own column names.

    Every value is text: numbers and truth values become text (7 -> "7", true -> "true"), and label numbers become the
    label names of the data set. A value that is null or absent is None; blank text stays as it is. Blank lines between
    the rows of JSON Lines, CSV and TSV are skipped, counted and logged. If all columns are positions from 1, as in
    `{"en": "1", "de": "2"}`, CSV and TSV have no header, and other text is read as TSV. Otherwise other text has one
    column of any name, and one row per line.

    Args:
        columns: Our name -> the file's column; `translation.en` is the field `en` in the column `translation`.
        split: The split of a hub set whose id, `owner/name[split]`, names none.
        nested: Whether a value may also be a list or an object; see `exact`.
        absent: Our names whose column need not exist.
        option: The option that maps columns, for the error about a missing column.

    Raises: InputError that names file, row and column, at the latest when the faulty row is reached.
    """
    check = partial(_check_columns, path, columns, option=option, absent=absent)
    as_value = exact if nested else _text
    for index, (number, record) in enumerate(_records(path, columns.values(), split, check)):
        if index == 0:  # where there is no header, the first row shows which columns there are
            check(number, list(_names(record)))
        row = {}
        for name, column in columns.items():
            try:
                row[name] = as_value(_value(record, column))
            except ValueError as error:
                raise InputError(f"{path}, row {number}, column '{column}': {error}") from None
        yield number, row


def exact(value: Any) -> Any:
    """Return a number, truth value or text as exact text, and a list of them as a list of texts; null is None.

    Objects and lists of lists or objects are returned unchanged.

    Raises: ValueError if a list has null among its texts, or a text cannot be stored.
    """
    if not isinstance(value, dict | list):
        return _text(value)
    if isinstance(value, dict) or any(isinstance(item, dict | list) for item in value):
        return value
    texts = [_text(item) for item in value]
    if None in texts:
        raise ValueError(f"item {texts.index(None) + 1} of the list is null, expected text")
    return texts


def read_json(path: str) -> Any:
    """Return the first JSON value of a file: the whole of a .json file, the first row of JSON Lines.

    Raises: InputError if the file does not exist or has no valid JSON.
    """
    file = _existing(path)
    try:
        return json.JSONDecoder().raw_decode("".join(_lines(file)).lstrip())[0]
    except json.JSONDecodeError as error:
        place = f"{file}, line {error.lineno}, character {error.colno}"
        raise InputError(f"{place}: invalid JSON ({error.msg})") from None


def read_lines(path: str | Path) -> Iterator[str]:
    r"""Yield the lines of a text file without their ends. Only \n and \r\n end a line.

    Raises: InputError if the file does not exist, is not UTF-8, or is a broken .gz.
    """
    for line in _lines(_existing(path)):
        yield line.removesuffix("\n").removesuffix("\r")


def fingerprint(path: str, split: str) -> str:
    """Return a text that changes with the path and the content of a file, or with the split of a hub set.

    Raises: InputError if the file or the split does not exist.
    """
    if file_format(path) == "hub":
        return f"{path}:{hub_table(path, split)._fingerprint}"  # the hash of the rows by which `datasets` caches them
    file = _existing(path).resolve()  # one cache for a file, whatever the current folder
    found = file.stat()
    return f"{file}:{_content(file, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)}"


@lru_cache(maxsize=1024)  # a run asks several times
def _content(file: Path, *state: int) -> str:
    """Return a hash of the bytes of a file in this state: a time can be set back. XXH3 takes 0.1 s for 1 GB."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, xxh3_128).hexdigest()


def file_sha256(path: str) -> str:
    """Return the SHA-256 of a file. Raises: InputError if it does not exist."""
    with _existing(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _records(path: str, wanted: Collection[str] | None, split: str, check: Check) -> Iterator[Record]:
    """Yield the rows with the file's own column names: the wanted columns at least, all of them if `wanted` is None."""
    kind = file_format(path)
    if kind == "hub":
        table = hub_table(path, split)
        table = table.select_columns(_chosen(table.column_names, wanted))  # leave pictures undecoded
        return enumerate(named_labels(table, table.features.to_dict()), 1)
    file = _existing(path)
    by_position = bool(wanted) and all(re.fullmatch("[0-9]+", column) for column in wanted or ())
    if kind in ("jsonl", "json"):
        return _json_records(file)
    if kind == "parquet":
        return _parquet_records(file, wanted)
    if kind == "csv":
        return _table_records(file, _csv_rows(file), by_position, check)
    lines = enumerate(read_lines(file), 1)
    if kind == "tsv" or by_position:
        fields = ((number, line.split("\t") if line else []) for number, line in lines)
        return _table_records(file, fields, by_position, check)
    names = list(wanted or ["text"])
    if len(names) > 1:
        hint = 'for columns with tabs between them give their positions from 1, as text: "1", "2"'
        raise InputError(f"{file}: plain text has one column, {len(names)} are wanted ({_listed(names)}); {hint}")
    return ((number, {names[0]: line}) for number, line in lines)


def _json_records(file: Path) -> Iterator[Record]:
    """Yield the objects of JSON Lines, or of one array."""
    lines = _not_blank(file, enumerate(map(str.strip, _lines(file)), 1))
    head = list(islice(lines, 1))  # the first character tells the two forms apart, whatever the ending
    if head and head[0][1].startswith("["):
        records: Iterable[tuple[int, Any]] = enumerate(_parse_json(file, 1, "".join(_lines(file))), 1)
    else:
        records = ((number, _parse_json(file, number, line)) for number, line in chain(head, lines))
    for number, record in records:
        if not isinstance(record, dict):
            raise InputError(f"{file}, row {number}: {json.dumps(record)[:40]}, expected an object with column names")
        yield number, record


def _parse_json(file: Path, number: int, text: str) -> Any:
    try:
        return json.loads(text, parse_float=str)  # a label 1.10 stays 1.10
    except json.JSONDecodeError as error:
        fault = f"row {number + error.lineno - 1}: invalid JSON at character {error.colno} ({error.msg})"
        raise InputError(f"{file}, {fault}; expected one object per line, or one array of objects") from None


def _parquet_records(file: Path, wanted: Collection[str] | None) -> Iterator[Record]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with _open(file) as raw:
            # Parquet is read from its end, so a gzipped file has to be in memory
            table = ParquetFile(BytesIO(raw.read()) if isinstance(raw, gzip.GzipFile) else raw)
            schema = table.schema_arrow
            batches = table.iter_batches(batch_size=1024, columns=_chosen(schema.names, wanted))
            records = chain.from_iterable(batch.to_pylist() for batch in batches)
            notes = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))  # there if `datasets` wrote the file
            yield from enumerate(named_labels(records, notes.get("info", {}).get("features") or {}), 1)
    except (ArrowException, OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file}: cannot be read as Parquet ({one_line(error)})") from None


def _table_records(
    file: Path, rows: Iterable[tuple[int, list[str]]], by_position: bool, check: Check
) -> Iterator[Record]:
    """Yield the rows of CSV or TSV; without a header the columns are called "1", "2", ..."""
    rows = _not_blank(file, rows)
    header: list[str] = []
    for number, first in islice(rows, 1):
        header = [str(position) for position in range(1, len(first) + 1)] if by_position else first
        check(number, header)
        rows = chain([(number, first)], rows) if by_position else rows  # without a header the first row is data
    for number, fields in rows:
        if len(fields) != len(header):
            hint = "put CSV values with a comma in quotes; in TSV a tab always separates"
            expected = f"expected {len(header)} ({_listed(header)})"
            raise InputError(f"{file}, row {number}: {len(fields)} columns, {expected}; {hint}")
        yield number, dict(zip(header, fields, strict=True))


def _csv_rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(FIELD_LIMIT)  # its default, 131,072 characters, is too short for a document
    reader = csv.reader(_lines(file), strict=True)  # strict: an unclosed quote must not swallow the rest of the file
    start = 1
    try:
        for fields in reader:
            yield start, fields
            start = reader.line_num + 1
    except csv.Error as error:
        hint = 'close every quote, and write a quote inside a quoted value twice ("")'
        raise InputError(f"{file}, row {start}: {error}; {hint}") from None


def _chosen(names: list[str], wanted: Collection[str] | None) -> list[str]:
    """Return the columns of a table to read: the wanted ones; or all if one is missing, as the error lists them."""
    roots = {column if column in names else column.split(".")[0] for column in wanted or ()}
    return sorted(roots) if wanted is not None and roots.issubset(names) else names


def _check_columns(
    path: str, columns: Columns, number: int, present: list[str], option: str = "", absent: Collection[str] = ()
) -> None:
    """Check that each column exists once; the error suggests the mapping to set."""
    close = {  # the missing columns, by our names, with those that may be meant
        name: [known for known in present if known.endswith(f".{column}")] or get_close_matches(column, present)
        for name, column in columns.items()
        if column not in present and name not in absent
    }
    for name, guesses in close.items():
        mapping = {ours: theirs for ours, theirs in columns.items() if ours != theirs and ours not in absent}
        mapping |= {ours: names[0] if names else "COLUMN" for ours, names in close.items()}
        hint = f"; say which: {option} '{json.dumps(mapping, ensure_ascii=False)}'" if option else ""
        fault = f"no column '{columns[name]}'{_guess(guesses)}; it has {_listed(present)}"
        raise InputError(f"{path}, row {number}: {fault}{hint}")
    for column in columns.values():
        if present.count(column) > 1:
            raise InputError(f"{path}, row {number}: the header has the column '{column}' more than once")


def _names(record: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the columns of a row and the fields inside them: translation, translation.en."""
    for key, value in record.items():
        yield prefix + key
        yield from _names(value, f"{prefix}{key}.") if isinstance(value, dict) else ()


def _value(value: Any, column: str) -> Any:
    for key in [column] if column in value else column.split("."):  # a column's own name may have a dot
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _text(value: Any) -> str | None:
    """Return a scalar as text."""
    if isinstance(value, dict):
        raise ValueError(f"an object, expected text; name a field of it after a dot ({_listed(value)})")
    if isinstance(value, list):
        raise ValueError("a list, expected text")
    if value is None or value != value:  # NaN stands for null in a column of numbers
        return None
    text = value.decode() if isinstance(value, bytes) else str(value).lower() if isinstance(value, bool) else str(value)
    text.encode()  # raises for half of a surrogate pair, which JSON can write and no file can hold
    return text


def _not_blank(file: Path, rows: Iterable[tuple[int, Row]]) -> Iterator[tuple[int, Row]]:
    """Yield the rows that are not empty, and log how many are."""
    blank = 0
    for number, row in rows:
        if row:
            yield number, row
        blank += not row
    if blank:
        logger.warning("%s: skipped %d blank lines", file, blank)


def _lines(file: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file with their ends."""
    number = 0
    try:
        with _open(file) as raw:
            for number, line in enumerate(raw, 1):  # bytes end a line at \n only, str also at U+2028 and others
                text = line.decode()
                yield text.removeprefix("\ufeff") if number == 1 else text
    except UnicodeDecodeError as error:
        raise InputError(f"{file}, row {number}: byte {error.start + 1} is not UTF-8; convert the file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file}, after row {number}: cannot be read ({one_line(error)})") from None


def _open(file: Path) -> BufferedIOBase:
    return gzip.GzipFile(file) if file.suffix.lower() == ".gz" else file.open("rb")


def _existing(path: str | Path) -> Path:
    """Return the path of a file that exists; the error names files with similar names."""
    file = missing = Path(path).expanduser()
    if file.is_dir():
        raise InputError(f"{path}: a folder, expected a file in it: {_listed(sorted(os.listdir(file)))}")
    while not missing.parent.is_dir():  # name the first folder on the path that does not exist
        missing = missing.parent
    if not file.exists():
        close = get_close_matches(missing.name, sorted(os.listdir(missing.parent)))
        raise InputError(f"{path}: no such file; the folder {missing.parent} has no '{missing.name}'{_guess(close)}")
    return file


def _guess(close: list[str]) -> str:
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def _listed(names: Collection[str]) -> str:
    shown = ", ".join(islice(names, MAX_LISTED))
    return f"{shown} and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else shown
