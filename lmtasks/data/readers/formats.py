"""File formats: the one place that decides by a name what a file holds, or whether it is a hub id."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

Format = Literal["hub", "jsonl", "json", "csv", "tsv", "parquet", "conll", "text"]

HUB_ID = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(:(?P<config>[^/\[\]]+))?(\[(?P<split>.+)\])?")
FORMATS: dict[str, Format] = {
    ".jsonl": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet",
    ".conll": "conll", ".bmes": "conll",
    ".txt": "text", ".text": "text", ".md": "text", ".html": "text",
}  # fmt: skip


def ending(path: str) -> str:
    """Return the ending of a file's name in lower case, without .gz: ".jsonl" for `Train.JSONL.gz`.

    >>> ending("Train.JSONL.gz"), ending("train.en.gz"), ending("-")
    ('.jsonl', '.en', '')
    """
    return Path(path.lower().removesuffix(".gz")).suffix


def file_format(path: str) -> Format:
    """Return the format of a file, "hub" for the id of a hub set, and "text" for any ending that is not known.

    An id is `owner/name`, `owner/name:config` or `owner/name[split]`, without the ending of a file. If a folder `owner`
    exists, the path is a file.

    >>> [file_format(path) for path in ("a.csv", "stanfordnlp/sst2", "train.en.gz", "a.bmes")]
    ['csv', 'hub', 'text', 'conll']
    """
    if HUB_ID.fullmatch(path) and not has_file_ending(path) and not Path(path.split("/")[0]).is_dir():
        return "hub"
    return FORMATS.get(ending(path), "text")


def has_columns(path: str) -> bool:
    """Return whether the rows of a file have columns with names: tables, JSON and hub sets."""
    return file_format(path) not in ("conll", "text")


def has_file_ending(path: str) -> bool:
    """Return whether a path ends as a file of a known format does, or in .gz."""
    return path.lower().endswith((".gz", *FORMATS))
