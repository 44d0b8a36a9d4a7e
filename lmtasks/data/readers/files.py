"""Rows of any file or hub id: JSON Lines, JSON, CSV, TSV, Parquet, plain text, each also with .gz, and `owner/name`.

Own thin readers over csv, json and pyarrow, for exact text: a reader that guesses types turns "NA" into None and "007"
into 7.0. Here a value is text, whatever it looks like, and a mistake is named with file, row and column. A row number
is the line number in the file (from 1, a header counts); in a JSON array, Parquet and hub sets it counts the rows.
"""

from __future__ import annotations

import csv
import gzip
import json
import logging
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import partial
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from lmtasks.data.readers.hub import hub_table, is_hub_id, named_labels, one_line
from lmtasks.errors import InputError

Record = tuple[int, dict[str, Any]]  # row number, the row under the file's own column names
Row = TypeVar("Row", str, list[str])
Check = Callable[[int, list[str]], None]  # of a row's number and the columns there are

FIELD_LIMIT = 1 << 24  # characters of one CSV value: room for a book, and an unclosed quote cannot fill the memory
SHOWN = 20  # names that an error lists at most

logger = logging.getLogger(__name__)


def numbered_rows(
    path: str,
    columns: Mapping[str, str],
    split: str,
    optional: Collection[str] = (),
    nested: Collection[str] = (),
    absent: Collection[str] = (),
    option: str = "",
) -> Iterator[Record]:
    """Yield the rows of a file or hub set in their order, under our own names, each with its number.

    Every value is text: numbers, and the truth values true and false, become text too (7 -> "7"); the numbers of
    labels that a hub set has names for become those names. Blank lines between the rows of JSON Lines, CSV and TSV are
    skipped, counted and logged. Where all columns are positions from 1, as in `{"en": "1", "de": "2"}`, CSV and TSV
    have no header, and other text is read as TSV; else other text has one column, under any name, each line a row.

    Args:
        path: A file, or `owner/name` or `owner/name:config` of the Hugging Face hub; `owner/name[dev]` names the hub's
            split, in the hub's notation, where it is not `split`.
        columns: Our name -> the file's column; `translation.en` is the field `en` inside of the column `translation`.
        split: The split of a hub set.
        optional: Our names that may lack a value: null or absent gives None, blank text is given as it is.
        nested: Our names whose value may be a list or an object too, as `exact` gives it.
        absent: Our names whose column need not exist; optional too.
        option: The option that maps columns, which the error for a missing column then shows.

    Raises:
        InputError: Naming file, row and column, for whatever does not fit; at the latest when that row is reached.
    """
    check = partial(_check_columns, path, columns, option, absent)
    first = True
    for number, record in _records(path, columns.values(), split, check):
        if first:  # it says which columns there are
            check(number, list(_names(record)))
        first, row = False, {}
        for name, column in columns.items():
            try:
                row[name] = (exact if name in nested else _text)(_value(record, column))
            except ValueError as error:
                raise InputError(f"{path}, row {number}, column '{column}': {error}") from None
            missing = row[name] is None or not str(row[name]).strip()
            if missing and name not in optional and name not in absent:
                raise InputError(f"{path}, row {number}, column '{column}': no value (null, absent or blank)")
        yield number, row


def read_records(path: str) -> Iterator[Record]:
    """Yield the rows of JSON or JSON Lines as they are, each with its number.

    Raises:
        InputError: Naming file and row.
    """
    return _json_records(_existing(path))


def exact(value: Any) -> Any:
    """Return a number, a truth value or text as exact text, null as None, and a list of such as a list of texts; other
    lists, and objects, as they are.

    Raises:
        ValueError: If a list has null beside texts, or a text cannot be stored.
    """
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value)):
        return value
    if not isinstance(value, list):
        return _text(value)
    texts = [_text(item) for item in value]
    if None in texts:
        raise ValueError(f"item {texts.index(None) + 1} of the list is null, expected text")
    return texts


def read_json(path: str) -> Any:
    """Return the first JSON value in a file (also .gz): all of the file, but for JSON Lines.

    Raises:
        InputError: If there is no such file, or no JSON in it.
    """
    file = _existing(path)
    text = "".join(_lines(file)).lstrip()
    try:
        return json.JSONDecoder().raw_decode(text)[0]
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, character {error.colno}"
        raise InputError(f"{file}, {at}: invalid JSON ({error.msg})") from None


def read_lines(path: str | Path) -> Iterator[str]:
    r"""Yield the lines of a text file (also .gz) without their ends; only \n ends a line, a \r before it goes too.

    Raises:
        InputError: If there is no such file, it is not UTF-8, or its compression is broken.
    """
    for line in _lines(_existing(path)):
        yield line.removesuffix("\n").removesuffix("\r")


def fingerprint(path: str, split: str) -> str:
    """Return a text that changes when the file does (absolute path, bytes, mtime in ns), or the split of a hub set.

    Raises:
        InputError: If there is no such file or split.
    """
    if is_hub_id(path):
        return f"{path}:{hub_table(path, split)._fingerprint}"
    file = _existing(path).resolve()
    return f"{file}:{file.stat().st_size}:{file.stat().st_mtime_ns}"


def _records(path: str, wanted: Collection[str], split: str, check: Check) -> Iterator[Record]:
    if is_hub_id(path):
        return _hub_records(path, wanted, split)
    file = _existing(path)
    ending = Path(file.name.lower().removesuffix(".gz")).suffix
    by_position = all(re.fullmatch("[0-9]+", column) for column in wanted)
    if ending in (".jsonl", ".json"):
        return _json_records(file)
    if ending == ".parquet":
        return _parquet_records(file, wanted)
    if ending == ".csv":
        return _table_records(file, _not_blank(file, _csv_rows(file)), by_position, check)
    if ending == ".tsv" or by_position:
        return _table_records(file, _not_blank(file, _tsv_rows(file)), by_position, check)
    return _text_records(file, wanted)


def _json_records(file: Path) -> Iterator[Record]:
    lines = _not_blank(file, enumerate(map(str.strip, _lines(file)), 1))
    head = list(islice(lines, 1))
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
        raise InputError(f"{file}, {fault}; expected one object a line, or one array of objects") from None


def _parquet_records(file: Path, wanted: Collection[str]) -> Iterator[Record]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with _open(file) as raw:
            table = ParquetFile(BytesIO(raw.read()) if file.suffix.lower() == ".gz" else raw)
            schema = table.schema_arrow
            batches = table.iter_batches(batch_size=1024, columns=_chosen(schema.names, wanted))
            records = chain.from_iterable(batch.to_pylist() for batch in batches)
            notes = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))  # there if `datasets` wrote the file
            yield from enumerate(named_labels(records, notes.get("info", {}).get("features") or {}), 1)
    except (ArrowException, OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file}: cannot be read as Parquet ({one_line(error)})") from None


def _table_records(
    file: Path, rows: Iterator[tuple[int, list[str]]], by_position: bool, check: Check
) -> Iterator[Record]:
    header: list[str] = []
    for number, first in islice(rows, 1):
        header = [str(position) for position in range(1, len(first) + 1)] if by_position else first
        check(number, header)
        rows = chain([(number, first)], rows) if by_position else rows
    for number, fields in rows:
        if len(fields) != len(header):
            hint = "a comma inside of a CSV value needs quotes around it, a tab in TSV always separates"
            expected = f"expected {len(header)} ({_listed(header)})"
            raise InputError(f"{file}, row {number}: {len(fields)} columns, {expected}; {hint}")
        yield number, dict(zip(header, fields, strict=True))


def _csv_rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(FIELD_LIMIT)
    reader = csv.reader(_lines(file), strict=True)  # strict: an unclosed quote must not swallow the rest of the file
    start = 1
    try:
        for fields in reader:
            yield start, fields
            start = reader.line_num + 1
    except csv.Error as error:
        hint = 'close every quote, and write a quote inside of a quoted value twice ("")'
        raise InputError(f"{file}, row {start}: {error}; {hint}") from None


def _tsv_rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    return ((number, line.split("\t") if line else []) for number, line in enumerate(read_lines(file), 1))


def _text_records(file: Path, wanted: Collection[str]) -> Iterator[Record]:
    if len(wanted) > 1:
        hint = 'for columns with tabs between them give their positions from 1, as text: "1", "2"'
        raise InputError(f"{file}: plain text has one column, {len(wanted)} are wanted ({_listed(wanted)}); {hint}")
    (column,) = wanted
    return ((number, {column: line}) for number, line in enumerate(read_lines(file), 1))


def _hub_records(path: str, wanted: Collection[str], split: str) -> Iterator[Record]:
    table = hub_table(path, split)
    table = table.select_columns(_chosen(table.column_names, wanted))  # a picture would be decoded
    return enumerate(named_labels(table, table.features.to_dict()), 1)


def _chosen(names: list[str], wanted: Collection[str]) -> list[str]:
    """Return the columns of a table to read, all where one that is wanted is not there: the error lists them."""
    roots = {column if column in names else column.split(".")[0] for column in wanted}
    return sorted(roots) if roots.issubset(names) else names


def _check_columns(
    path: str, columns: Mapping[str, str], option: str, absent: Collection[str], number: int, present: list[str]
) -> None:
    missing = {name: column for name, column in columns.items() if column not in present and name not in absent}
    close = {
        name: [known for known in present if known.endswith(f".{column}")] or get_close_matches(column, present)
        for name, column in missing.items()
    }
    for name, column in missing.items():
        mapping = {ours: theirs for ours, theirs in columns.items() if ours != theirs and ours not in absent}
        mapping |= {ours: names[0] if names else "COLUMN" for ours, names in close.items()}
        hint = f"; say which: {option} '{json.dumps(mapping, ensure_ascii=False)}'" if option else ""
        fault = f"no column '{column}'{_guess(close[name])}; it has {_listed(present)}"
        raise InputError(f"{path}, row {number}: {fault}{hint}")
    for column in columns.values():
        if present.count(column) > 1:
            raise InputError(f"{path}, row {number}: column '{column}' stands in the header more than once")


def _names(record: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in record.items():
        yield prefix + key
        yield from _names(value, f"{prefix}{key}.") if isinstance(value, dict) else ()


def _value(record: Mapping[str, Any], column: str) -> Any:
    if column in record:
        return record[column]
    value: Any = record
    for key in column.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _text(value: Any) -> str | None:
    if value is None or value != value:  # NaN: what a column of numbers has for null
        return None
    if isinstance(value, dict):
        raise ValueError(f"an object, expected text; name a field inside of it after a dot ({_listed(value)})")
    if isinstance(value, list):
        raise ValueError("a list, expected text")
    if isinstance(value, bool):
        return "true" if value else "false"
    text = value.decode() if isinstance(value, bytes) else str(value)
    text.encode()  # refuses half of a surrogate pair, which JSON can write and nothing can store
    return text


def _not_blank(file: Path, rows: Iterable[tuple[int, Row]]) -> Iterator[tuple[int, Row]]:
    blank = 0
    for number, row in rows:
        if row:
            yield number, row
        blank += not row
    if blank:
        logger.warning("%s: skipped %d blank lines", file, blank)


def _lines(file: Path) -> Iterator[str]:
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


def _open(file: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(file)) if file.suffix.lower() == ".gz" else file.open("rb")


def _existing(path: str | Path) -> Path:
    file = missing = Path(path).expanduser()
    if file.is_dir():
        raise InputError(f"{path}: a folder, expected a file in it: {_listed(_inside(file))}")
    while not missing.parent.is_dir():
        missing = missing.parent
    if not file.exists():
        close = get_close_matches(missing.name, _inside(missing.parent))
        raise InputError(f"{path}: no such file; the folder {missing.parent} has no '{missing.name}'{_guess(close)}")
    return file


def _inside(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def _guess(close: list[str]) -> str:
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def _listed(names: Collection[str]) -> str:
    shown = ", ".join(islice(names, SHOWN))
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown
