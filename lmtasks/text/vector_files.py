"""Files of word vectors: read the vectors of the wanted words, and no others.

GloVe (Pennington et al. 2014) has lines `word number ... number`. The text format of word2vec (Mikolov et al. 2013) and
fastText has the same lines below a header `words numbers`. The binary format of word2vec has the header, then each
word, a space and its numbers in float32. All of these may be gzipped. An array (.npy) has its list of words beside it.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from io import BufferedIOBase
from pathlib import Path
from tokenize import TokenError
from typing import cast

import numpy as np

from lmtasks.errors import InputError, one_line

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
_HEADER = re.compile(r"(\d{1,12}) (\d{1,5})")  # a forged header cannot fill the memory
_HEADER_BYTES = 32  # more than any header has


def read_vectors(path: str | os.PathLike[str], wanted: set[str]) -> dict[str, np.ndarray]:
    """Return the vectors (W,), in float32, of the wanted words that are in a file; of a repeated word the first one.

    The ending tells the format: .npy, .bin or .bin.gz; anything else is text. The words of `a.npy` are in
    `a.txt` (one per line), `a.json` (a list) or `a.parquet` (the column `word` or `words`, else the first of text); if
    there is none of that name, in the only file of these kinds in the folder.

    Raises: InputError that names file, row and column, if the file cannot be read or a row is broken.
    """
    file = Path(path).expanduser()
    readers = {".npy": _read_array, ".bin": _read_binary}
    try:
        return readers.get(Path(file.name.lower().removesuffix(".gz")).suffix, _read_text)(file, wanted)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file}: cannot be read ({one_line(error)})") from error


# Text.


def _read_text(path: Path, wanted: set[str]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    promised, width, row = None, 0, 0
    for row, line in enumerate(_lines(path), start=1):
        if row == 1:
            header = _HEADER.fullmatch(line)
            promised, width = (int(header[1]), int(header[2])) if header else (None, line.count(" "))
            if width == 0:
                raise InputError(f"{path}, row 1: no numbers, expected a word and its numbers with blanks between them")
            if header:
                continue
        word, numbers = _split(path, row, line, width)
        if (word not in wanted or word in found) and row > 1:
            continue  # its numbers are not checked, as most words of a large file are not wanted
        for column, number in enumerate(numbers, start=2):
            if not _NUMBER.fullmatch(number):
                place = f"{path}, row {row}, column {column}"
                raise InputError(f"{place}: {number!r}, expected a number; correct or delete the row")
        if word in wanted:
            found[word] = _finite(path, row, np.array([float(number) for number in numbers]), first_column=2)
    if promised is not None and promised != row - 1:
        raise InputError(f"{path}: {row - 1} words, its header says {promised}; the file is cut off, download it again")
    if row == 0:
        raise InputError(f"{path}: the file is empty, expected a word and its numbers in each row")
    return found


def _split(path: Path, row: int, line: str, width: int) -> tuple[str, list[str]]:
    """Split a line from the right, as a word may have spaces (". . ." in GloVe 840B)."""
    word, *numbers = line.rsplit(" ", width)
    parts = word.split(" ")
    more = 0  # numbers left in the word, unless the word is a number itself, "2000"
    while more < len(parts) - 1 and _NUMBER.fullmatch(parts[-1 - more]):
        more += 1
    if len(numbers) < width or more:
        place, given = f"{path}, row {row}", len(numbers) + more
        raise InputError(f"{place}: {given} numbers, expected {width} as row 1 says; correct or delete the row")
    return word, numbers


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines without their ends; only \\n ends a line, as words may have other breaks (U+0085 in GloVe)."""
    row = 0
    try:
        with _open(path) as file:
            for line in file:
                row += 1
                # word2vec cuts long words inside a character; such a word matches nothing and is not an error
                yield line.decode(errors="replace").rstrip("\r\n").rstrip(" ")
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}, after row {row}: cannot be read ({one_line(error)})") from error


# The binary format of word2vec.


def _read_binary(path: Path, wanted: set[str]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    with _open(path) as file:
        header = _HEADER.fullmatch(file.readline(_HEADER_BYTES).decode(errors="replace").rstrip())
        if not header or int(header[2]) == 0:
            hint = "of a fastText model give the .vec file"
            raise InputError(f"{path}: no header `words numbers`, expected the binary format of word2vec; {hint}")
        words, width = int(header[1]), int(header[2])
        for row in range(1, words + 1):
            word, numbers = _word(file), file.read(4 * width)
            if len(numbers) < 4 * width:
                says = f"its header says {words} words of {width} numbers"
                raise InputError(f"{path}, row {row}: the file ends here, {says}; it is cut off, download it again")
            if word in wanted and word not in found:
                found[word] = _finite(path, row, np.frombuffer(numbers, dtype="<f4"), first_column=2)
        if file.read(2).strip():
            raise InputError(f"{path}: more than the {words} words of {width} numbers that its header says")
    return found


def _word(file: BufferedIOBase) -> str:
    """Return the word before the next space; some writers end a vector with a line break, which is no part of it."""
    letters = bytearray()
    while (letter := file.read(1)) not in (b" ", b""):
        letters += letter
    return letters.decode(errors="replace").lstrip("\n")


# An array and the list of its words.


def _read_array(path: Path, wanted: set[str]) -> dict[str, np.ndarray]:
    try:
        array = np.lib.format.open_memmap(path, mode="r")  # never unpickles  # (words, W)
    except (ValueError, SyntaxError, TokenError) as error:
        raise InputError(f"{path}: cannot be read as .npy ({one_line(error)})") from error
    if array.ndim != 2 or array.dtype.kind != "f" or array.shape[1] == 0:
        given = f"an array of {array.dtype} and shape {array.shape}"
        raise InputError(f"{path}: {given}, expected floating-point numbers and shape (words, width)")
    words_file = _words_file(path)
    words = _WORD_LISTS[words_file.suffix](words_file)
    if len(words) != len(array):
        hint = f"give the words of {path.name}, one for each row"
        raise InputError(f"{words_file}: {len(words)} words, {path.name} has {len(array)} rows; {hint}")
    rows: dict[str, int] = {}
    for row, word in enumerate(words):
        if word in wanted:
            rows.setdefault(word, row)
    return {word: _finite(path, row + 1, array[row], first_column=1) for word, row in rows.items()}


def _words_file(path: Path) -> Path:
    """Return the list of words of an array."""
    beside = [file for file in path.parent.iterdir() if file.suffix in _WORD_LISTS]
    named = [file for file in beside if file.stem == path.stem] or beside
    if len(named) != 1:
        hint = f"name its list of words {path.stem}.txt, .json or .parquet"
        raise InputError(f"{path}: {len(named) or 'no'} lists of words beside it, expected one; {hint}")
    return named[0]


def _text_words(path: Path) -> list[str]:
    lines = path.read_bytes().decode(errors="replace").removesuffix("\n").split("\n")
    return [line.removesuffix("\r") for line in lines]


def _json_words(path: Path) -> list[str]:
    try:
        words = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({one_line(error)})") from None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise InputError(f"{path}: expected a list of words, as text")
    return words


def _parquet_words(path: Path) -> list[str]:
    from pyarrow import ArrowException, types
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as table:
            schema = table.schema_arrow
            texts = [field.name for field in schema if types.is_string(field.type) or types.is_large_string(field.type)]
            names = [name for name in ("word", "words") if name in texts] or texts
            if not names:
                raise InputError(f"{path}: no column of text, expected a column `word`; it has {schema.names}")
            return cast(list[str], table.read([names[0]]).column(0).to_pylist())
    except (ArrowException, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({one_line(error)})") from None


_WORD_LISTS: dict[str, Callable[[Path], Sequence[str]]] = {
    ".txt": _text_words,
    ".json": _json_words,
    ".parquet": _parquet_words,
}


def _finite(path: Path, row: int, vector: np.ndarray, first_column: int) -> np.ndarray:
    """Return a vector in float32, all of whose numbers are finite; the error counts columns from `first_column`."""
    with np.errstate(over="ignore"):
        vector = vector.astype(np.float32)
    for i in np.flatnonzero(~np.isfinite(vector))[:1]:
        place = f"{path}, row {row}, column {first_column + i}"
        raise InputError(f"{place}: {vector[i]}, expected a finite float32 number; correct or delete the row")
    return vector


def _open(path: Path) -> BufferedIOBase:
    return gzip.GzipFile(path) if path.suffix.lower() == ".gz" else path.open("rb")
