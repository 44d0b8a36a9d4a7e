"""Vectors: initialise an embedding with pretrained word vectors, from GloVe and word2vec text files.

GloVe (Pennington et al. 2014) has lines `word number ... number`. word2vec (Mikolov et al. 2013) and fastText have the
same lines below a header `words numbers`. All may be gzipped.
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lmtasks.errors import InputError
from lmtasks.text.base import BaseTokenizer

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
_HEADER = re.compile(r"(\d+) (\d+)")


@torch.no_grad()
def initialise(embedding: nn.Embedding, tokenizer: BaseTokenizer, path: str | os.PathLike[str]) -> float:
    """Set the row of every piece that is a word of the file, and return the share of rows that were set.

    `tokenizer.words()` decides which pieces are words: " dog" is the word "dog", the "ing" of "going" is not a word. A
    word that is not in the file gets the vector of its lower case; all other rows keep their random numbers. One factor
    scales the vectors to the standard deviation of the embedding: they keep their directions and relative lengths, but
    do not dominate the random rows or, with tied weights, the first softmax. If the embedding has no deviation (zeros),
    the vectors are not scaled.

    Raises: InputError if the file cannot be read, has another dimension than the embedding, or has a broken row.
    """
    ids: dict[str, list[int]] = {}
    for i, word in tokenizer.words():
        ids.setdefault(word, []).append(i)
    lowered = {word.lower() for word in ids}
    found = _read(Path(path), ids.keys() | lowered, embedding.embedding_dim)
    found |= {word: found[word.lower()] for word in ids.keys() - found.keys() if word.lower() in found}
    rows, weight = {i: found[word] for word in ids if word in found for i in ids[word]}, embedding.weight
    if rows:
        vectors = torch.from_numpy(np.stack(list(rows.values()))).to(weight)  # (rows, D)
        own, theirs = weight.std(), vectors.std()
        if own > 0 and theirs > 0:
            vectors *= own / theirs
        weight[torch.tensor(list(rows), device=weight.device)] = vectors
    return len(rows) / len(tokenizer)


def _read(path: Path, wanted: set[str], dimension: int) -> dict[str, np.ndarray]:
    """Return the vectors (D,) of the wanted words that are in the file; of a repeated word the first one."""
    found: dict[str, np.ndarray] = {}
    promised, row = None, 0
    for row, line in enumerate(_lines(path), start=1):
        if row == 1 and (header := _HEADER.fullmatch(line)):
            promised = int(header[1])
            _check_dimension(path, row, int(header[2]), dimension)
            continue
        word, numbers = _split(path, row, line, dimension)
        if word not in wanted or word in found:
            continue  # its numbers are not checked, as most words of a large file are not wanted
        for column, number in enumerate(numbers, start=2):
            if not _NUMBER.fullmatch(number):
                place = f"{path}, row {row}, column {column}"
                raise InputError(f"{place}: {number!r}, expected a number; correct or delete the row")
        found[word] = np.array([float(number) for number in numbers], dtype=np.float32)
    if promised is not None and promised != row - 1:
        raise InputError(f"{path}: {row - 1} words, its header says {promised}; the file is cut off, download it again")
    if row == 0:
        raise InputError(f"{path}: the file is empty, expected a word and {dimension} numbers in each row")
    return found


def _split(path: Path, row: int, line: str, dimension: int) -> tuple[str, list[str]]:
    """Split a line from the right, as a word may have spaces (". . ." in GloVe 840B)."""
    word, *numbers = line.rsplit(" ", dimension)
    parts = word.split(" ")
    more = 0  # numbers left in the word, unless the word is a number itself, "2000"
    while more < len(parts) - 1 and _NUMBER.fullmatch(parts[-1 - more]):
        more += 1
    if len(numbers) < dimension or more:
        _check_dimension(path, row, len(numbers) + more, dimension)
    return word, numbers


def _check_dimension(path: Path, row: int, given: int, dimension: int) -> None:
    if given != dimension:
        hint = f"set d_model={given} or use other vectors" if row == 1 else "the row is broken"
        raise InputError(f"{path}, row {row}: {given} numbers, the embedding has {dimension}; {hint}")


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines without their ends; only \\n ends a line, as words may have other breaks (U+0085 in GloVe)."""
    row = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for line in file:
                row += 1
                # word2vec cuts long words inside a character; such a word matches nothing and is not an error
                yield line.decode(errors="replace").rstrip("\r\n").rstrip(" ")
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}, after row {row}: cannot be read ({error})") from error
