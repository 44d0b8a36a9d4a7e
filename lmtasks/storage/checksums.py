"""SHA256SUMS: the checksums of the files of a model, in the form that `sha256sum --check` reads.

Folders of older versions have none and are read without.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from pathlib import Path

from lmtasks.errors import InputError
from lmtasks.storage import CARD, CHECKSUMS
from lmtasks.storage.reading import read_text

LINE = re.compile(r"([0-9a-f]{64})  (.+)")  # of a file of checksums
LEAVES = re.compile(r"^/|(^|/)\.\.(/|$)|\0")  # a path that leads out of the folder
FREE = (CARD, "*.py", "Dockerfile")  # what people may change: the card, the programs of an export and their image


def write_sums(folder: Path) -> None:
    """Write the checksums of all files in a folder and below it, but for those that people may change."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not any(map(path.match, FREE)))
    lines = [f"{_sum(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def read_sums(folder: Path) -> dict[str, str]:
    """Return the checksum of each file; nothing where a folder has none. Raises: InputError if they are damaged."""
    path = folder / CHECKSUMS
    if not path.is_file():
        return {}
    found = [LINE.fullmatch(line) for line in read_text(path).splitlines()]
    if not found or None in found or any(LEAVES.search(match[2]) for match in found if match):
        raise InputError(f"{path}: is damaged; copy the model again, or delete this file to read it unchecked")
    return {match[2]: match[1] for match in found if match}


def check_sums(folder: Path, names: Collection[str]) -> None:
    """Check that these files are as they were saved, those that exist, where the folder has checksums.

    Raises: InputError if one is not; the message names it.
    """
    sums = read_sums(folder)
    for name in names if sums else ():
        if (folder / name).is_file() and sums.get(name) != _sum(folder / name):
            raise InputError(
                f"{folder / name}: is not as it was saved: damaged, changed, or of another model; copy the model again."
                f" If you changed it on purpose, delete {folder / CHECKSUMS}"
            )


def _sum(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
