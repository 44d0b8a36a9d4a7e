"""Read the rows of any file or hub set: JSON Lines, JSON, CSV, TSV, Parquet and plain text, each also gzipped.

These are thin readers over csv, json and pyarrow, as text must stay exact: a reader that guesses types turns "NA" into
None and "007" into 7.0. An error names the file, the row and the column, and of several faulty rows the first ten. A
row number is the line number in the file (from 1, the header counts); in a JSON array, in Parquet and in hub sets it
counts rows.

Text is UTF-8, or UTF-16 or UTF-32 with its mark. A table may be separated by another sign than its ending says, and
TSV may have the quotes of CSV, as pandas writes them; what is guessed is logged.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import hashlib
import json
import logging
import os
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from functools import lru_cache, partial
from io import BufferedReader, BytesIO, FileIO
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from xxhash import xxh3_128

from lmtasks.data.readers.formats import file_format
from lmtasks.data.readers.hub import hub_table, named_labels
from lmtasks.errors import InputError, collected, one_line

Record = tuple[int, dict[str, Any]]  # row number, the row under the file's own column names
Row = TypeVar("Row", str, list[str])
Columns = Mapping[str, str]  # our name -> the column of the file
Check = Callable[[int, list[str]], None]  # given a row number and the columns that are present
Lines = list[str]

FIRST_ROWS = 1000  # rows, and lines, that show which columns a file has, and how they are separated
HEAD = 1 << 16  # bytes that show how a file is encoded, and how its lines end
SAMPLE = 1 << 20  # characters of the first lines
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}  # that of UTF-32 begins as that of UTF-16
NO_TEXT = {b"\x1f\x8b": "compressed by gzip; let its name end in .gz", b"PAR1": "Parquet; let its name end in .parquet",
           b"PK\x03\x04": "a .zip or .xlsx; save the table as CSV in UTF-8", b"%PDF": "a PDF; save its text",
           b"\xd0\xcf\x11\xe0": "an .xls or .doc; save it as CSV or text in UTF-8"}  # fmt: skip
SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
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
    needed = {column for name, column in columns.items() if name not in absent}

    def ours(numbered: Record) -> Record:
        """Return the row under our own names."""
        number, record = numbered
        row = {}
        for name, column in columns.items():
            try:
                row[name] = as_value(value_of(record, column))
            except ValueError as error:
                raise InputError(f"{path}, row {number}, column '{column}': {error}") from None
        return number, row

    records = _records(path, columns.values(), split, check)
    yield from collected(_with_columns(records, needed, check), ours)


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


@lru_cache(maxsize=1024)  # a file is read several times
def say(guess: str) -> None:
    """Log what is guessed about a file, once."""
    logger.warning(guess)


def read_json(path: str) -> tuple[Any, bool]:
    """Return the first JSON value of a file, and whether it is the only one, as it is not in JSON Lines.

    Raises: InputError if the file does not exist or has no valid JSON.
    """
    file = _existing(path)
    text = "".join(_lines(file))
    start = len(text) - len(text.lstrip())
    try:
        value, stop = json.JSONDecoder(object_pairs_hook=_object).raw_decode(text, start)
    except json.JSONDecodeError as error:
        place = f"{file}, line {error.lineno}, character {error.colno}"
        raise InputError(f"{place}: invalid JSON ({error.msg})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: invalid JSON ({one_line(error)})") from None
    return value, not text[stop:].strip()


def read_lines(path: str | Path) -> Iterator[str]:
    r"""Yield the lines of a text file without their ends: \n or \r\n, or \r in a file that has no other.

    Raises: InputError if the file does not exist, is no text in UTF-8 (or UTF-16 with its mark), or is a broken .gz.
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
    if kind in ("csv", "tsv") or by_position:
        least = max(map(int, wanted or ())) if by_position else 0
        fields = _fields(file, "," if kind == "csv" else "\t", frozenset(wanted or ()), least)
        return _table_records(file, fields, by_position, check)
    names = list(wanted or ["text"])
    if len(names) > 1:
        hint = 'for columns with tabs between them give their positions from 1, as text: "1", "2"'
        raise InputError(f"{file}: plain text has one column, {len(names)} are wanted ({_listed(names)}); {hint}")
    return ((number, {names[0]: line}) for number, line in enumerate(read_lines(file), 1))


def _with_columns(records: Iterable[Record], needed: Collection[str], check: Check) -> Iterator[Record]:
    """Yield the rows, of which the first ones must have all needed columns between them.

    JSON has no header, and may leave out what is null.
    """
    records = iter(records)
    first, names = list[Record](), dict[str, None]()
    for record in islice(records, FIRST_ROWS):
        first.append(record)
        names |= dict.fromkeys(_names(record[1]))
        if names.keys() >= {*needed}:
            break
    if first:
        check(first[0][0], list(names))
    yield from chain(first, records)


def _json_records(file: Path) -> Iterator[Record]:
    """Yield the objects of JSON Lines, or of one array."""
    lines = _not_blank(file, enumerate(map(str.strip, _lines(file)), 1))
    head = list(islice(lines, 1))  # the first character tells the two forms apart, whatever the ending
    if head and head[0][1].startswith("["):
        array = enumerate(_parse_json(file, 1, "".join(_lines(file))), 1)
        return collected(array, partial(_json_record, file))
    return collected(chain(head, lines), lambda line: _json_record(file, (line[0], _parse_json(file, *line))))


def _json_record(file: Path, numbered: tuple[int, Any]) -> Record:
    number, record = numbered
    if not isinstance(record, dict):
        raise InputError(f"{file}, row {number}: {json.dumps(record)[:40]}, expected an object with column names")
    return number, record


def _parse_json(file: Path, number: int, text: str) -> Any:
    expected = "expected one object per line, or one array of objects"
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        fault = f"row {number + error.lineno - 1}: invalid JSON at character {error.colno} ({error.msg})"
        raise InputError(f"{file}, {fault}; {expected}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}, row {number}: invalid JSON ({one_line(error)}); {expected}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON; `json` would keep the last of several values of a name without a word."""
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} stands twice in an object")
    return record


_DECODER = json.JSONDecoder(parse_float=str, object_pairs_hook=_object)  # a label 1.10 stays 1.10


def _parquet_records(file: Path, wanted: Collection[str] | None) -> Iterator[Record]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with _open(file) as raw:
            # Parquet is read from its end, so a gzipped file has to be in memory
            table = ParquetFile(BytesIO(raw.read()) if file.suffix.lower() == ".gz" else raw)
            schema = table.schema_arrow
            batches = table.iter_batches(batch_size=1024, columns=_chosen(schema.names, wanted))
            records = chain.from_iterable(batch.to_pylist() for batch in batches)
            notes = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))  # there if `datasets` wrote the file
            yield from enumerate(named_labels(records, notes.get("info", {}).get("features") or {}), 1)
    except (ArrowException, OSError, EOFError, zlib.error, ValueError) as error:  # text that is not UTF-8: ValueError
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

    def record(numbered: tuple[int, list[str]]) -> Record:
        """Return the fields of a row under the names of the header."""
        number, fields = numbered
        if len(fields) != len(header):
            hint = "put CSV values with a comma in quotes; in TSV a tab always separates"
            expected = f"expected {len(header)} ({_listed(header)})"
            raise InputError(f"{file}, row {number}: {len(fields)} columns, {expected}; {hint}")
        return number, dict(zip(header, fields, strict=True))

    yield from collected(rows, record)


def _fields(file: Path, own: str, wanted: Collection[str], least: int) -> Iterator[tuple[int, list[str]]]:
    """Yield the fields of each row of CSV or TSV, `own` being the separator by the ending of the file.

    least: how many columns a row without a header must have; 0 where there is a header.
    """
    csv.field_size_limit(FIELD_LIMIT)  # its default, 131,072 characters, is too short for a document
    lines = _lines(file)
    head = _sample(lines)
    first = next((line for line in head if line.strip()), "")
    separator = _separator(first, own, wanted, least)
    if re.fullmatch(r"sep=.\s*", first):  # written by Excel: no row, but a blank line
        separator = first[4]
        head[head.index(first)] = "\n"
    if separator != own:
        say(f"{file}: its columns are separated by {SEPARATORS.get(separator, separator)}, not by {SEPARATORS[own]}")
    lines = chain(head, lines)
    if separator != "\t" or own != "\t" or _has_quoting(file, head):
        yield from _csv_rows(file, lines, separator)
        return
    for number, line in enumerate(lines, 1):
        line = line.removesuffix("\n").removesuffix("\r")
        yield number, line.split("\t") if line else []


def _sample(lines: Iterator[str]) -> Lines:
    """Take the first lines."""
    head, size = list[str](), 0
    for line in islice(lines, FIRST_ROWS):
        head.append(line)
        size += len(line)
        if size > SAMPLE:
            break
    return head


def _separator(first: str, own: str, wanted: Collection[str], least: int) -> str:
    """Return what separates the columns: `own`, unless it gives too few, or not those that are wanted."""
    headers = {}
    for sign in (own, *SEPARATORS):
        with suppress(csv.Error):  # which the whole row raises too
            headers[sign] = next(csv.reader([first], delimiter=sign), [])
    if least:
        fitting = [sign for sign, header in headers.items() if len(header) >= least]
    else:  # a header of one column is rare, and one that another sign splits is rarer
        most = max(map(len, headers.values()), default=0)
        whole = [sign for sign, header in headers.items() if len(header) > 1 or most == 1]
        fitting = [sign for sign in whole if {*wanted} <= {*headers[sign]}] or whole
    return fitting[0] if fitting else own


def _has_quoting(file: Path, head: Lines) -> bool:
    """Tell whether the fields of TSV have the quotes of CSV, or quotes that are part of the text.

    The first is so if each field with a quote is a whole CSV value, and either a quote inside one is written twice, or
    the whole header has quotes; or if only the quoting gives all rows equally many columns.
    """
    rows = [line.rstrip("\r\n").split("\t") for line in head if line.strip()]
    quoted = list[list[str]]()
    try:
        quoted += filter(None, csv.reader(head, delimiter="\t", strict=True))
    except csv.Error:
        if not quoted or (len(head) < FIRST_ROWS and sum(map(len, head)) <= SAMPLE):  # else the last value is cut
            return False
    marked = [field for row in rows for field in row if '"' in field]
    inside = [field[1:-1] for field in marked if re.fullmatch('"(?:[^"]|"")*"', field)]
    if len({*map(len, rows)}) > 1:
        found = len(quoted) < len(rows) and len({*map(len, quoted)}) == 1
    elif not marked or len(inside) < len(marked):
        return False
    else:
        found = any('"' in field for field in inside) or all(field[:1] == '"' for field in rows[0])
    what = "has the quotes of CSV, which are taken away" if found else "has values in quotes, which stay in the text"
    if found or marked:
        say(f"{file}: {what}")
    return found


def _csv_rows(file: Path, lines: Iterable[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(lines, delimiter=separator, strict=True)  # strict: an unclosed quote must not swallow the rest
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
        for ours, names in close.items():
            mapping[ours] = next((name for name in names if name not in mapping.values()), "COLUMN")
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


def value_of(value: Any, column: str) -> Any:
    """Return the value of a column of a row, or of a field in it after a dot; None where there is none."""
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
    """Yield the lines of a text file with their ends."""
    number = 0
    try:
        with _open(file) as raw:
            head = raw.peek(HEAD)[:HEAD]
            _check_text(file, head)
            encoding = next((name for mark, name in MARKS.items() if head.startswith(mark)), "utf-8")
            if encoding.startswith("utf-8") and (b"\n" in head or b"\r" not in head):
                for number, line in enumerate(raw, 1):  # bytes end a line at \n only, str also at U+2028 and others
                    text = line.decode()
                    yield text.removeprefix("\ufeff") if number == 1 else text
                return
            text = raw.read().decode(encoding)
            end = "\n" if "\n" in text else "\r"  # old Macs end lines by \r alone
            *whole, rest = text.split(end)
            yield from (line + end for line in whole)
            yield from [rest] * bool(rest)
    except UnicodeDecodeError as error:
        place = f"{file}, row {number}: " if number else f"{file}: "
        fault = f"byte {error.start + 1} is not {error.encoding.upper()}"
        hint = "convert the file, for example by iconv -f windows-1252 -t utf-8"
        raise InputError(f"{place}{fault}; {hint}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file}, after row {number}: cannot be read ({one_line(error)})") from None


def _check_text(file: Path, head: bytes) -> None:
    """Check that a file begins as text does."""
    kind = next((kind for mark, kind in NO_TEXT.items() if head.startswith(mark)), "")
    if len(head) > 3 and (not any(head[:64:2]) or not any(head[1:64:2])):
        kind = "UTF-16 without its mark; convert the file, for example by iconv -f utf-16le -t utf-8"
    if kind:
        raise InputError(f"{file}: expected text, but it is {kind}")


def _open(file: Path) -> BufferedReader:
    raw: Any = gzip.GzipFile(file) if file.suffix.lower() == ".gz" else FileIO(file)
    return BufferedReader(raw, HEAD)


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
