"""Read files of unknown origin: of bounded size, checked, and without running anything that they hold."""

from __future__ import annotations

import json
import os
import pickle
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from lmtasks.errors import InputError, one_line

MOST_JSON = 16 * 2**20  # bytes of a file of settings; as objects they take some 20 times as much
MOST_TEXT = 256 * 2**20  # bytes of the text of a tokenizer
MOST_NODES = 100_000  # of a YAML text
FORCED = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"  # environment variable by which torch.load runs code whatever it is told
REASON = 300  # characters of the message of another package
NOT_FITTING = "settings and weights do not fit this version of lmtasks, or are damaged"
_UNFORCED = threading.Lock()  # the environment is one for all threads
# What zipfile and torch.load raise for files that are damaged or hold something else.
READ_ERRORS = (
    RuntimeError, ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError, EOFError, OSError,
    ArithmeticError, MemoryError, NotImplementedError, pickle.UnpicklingError, struct.error, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip


def read_text(path: Path, most: int = MOST_JSON) -> str:
    """Return the text of a file. Raises: InputError if it cannot be read, is no text, or has more than `most` bytes."""
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
        if len(content) <= most:
            return content.decode()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is damaged, or no text ({error}); copy it again") from error
    raise InputError(f"{path}: has more than {most:,} bytes, too many for what it is; do not use it")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file. Raises: InputError if it cannot be read, or holds anything else."""
    try:
        found = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: is damaged, or no JSON ({one_line(error)}); copy it again") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: is damaged: it holds a {type(found).__name__}, not an object; copy it again")
    return found


def read_yaml(text: str | bytes) -> tuple[yaml.SafeLoader, yaml.Node | None]:
    """Return the tree of a YAML text, and what makes plain values of it.

    Raises: yaml.YAMLError if it is none, or its aliases would repeat settings without measure.
    """
    loader = yaml.SafeLoader(text)
    node = loader.get_single_node()
    if node is not None and _nodes(node, {}) > MOST_NODES:
        raise yaml.YAMLError(f"its aliases repeat settings, more than {MOST_NODES:,} in all; write fewer")
    return loader, node


def _nodes(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the nodes of a tree whose aliases are written out; `yaml` itself refuses one that contains itself."""
    if id(node) not in known:
        known[id(node)] = 0
        pairs = node.value if isinstance(node, yaml.CollectionNode) else ()
        inside = [each for pair in pairs for each in (pair if isinstance(pair, tuple) else [pair])]
        known[id(node)] = 1 + sum(_nodes(each, known) for each in inside)
    return known[id(node)]


def check_archive(path: Path) -> None:
    """Check the zip archive that `torch.save` writes: the checksums, which `torch.load` ignores, and its size.

    Each record has a CRC-32 inside the file, so that copies, and files that others wrote, are checked too.

    Raises: InputError if it is damaged, or would unpack to more than it is.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            packed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
            if packed or sum(record.file_size for record in records) > path.stat().st_size:
                raise InputError(f"{path}: unpacks to more than it is, which no checkpoint does; do not use it")
            damaged = archive.testzip()
    except InputError:
        raise
    except READ_ERRORS as error:
        reason = one_line(error)[:REASON]
        raise InputError(f"{path}: is damaged, cut off or no checkpoint ({reason}); use another copy of it") from error
    if damaged is not None:
        raise InputError(f"{path}: is damaged: the checksum of its record {damaged} is wrong; use another copy of it")


def unpickle(path: Path, map_location: Any = "cpu", mmap: bool = False) -> Any:
    """Return what `torch.save` wrote, if that is tensors and plain values; nothing else is built, and no code runs.

    The variable `FORCED` would turn the check off, which others' programs may need; it does not here.

    Raises: what `torch.load` does, of `READ_ERRORS`.
    """
    import torch  # the commands read configs before it is loaded

    with _UNFORCED:
        forced = os.environ.pop(FORCED, None)
        try:
            return torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
        finally:
            if forced is not None:
                os.environ[FORCED] = forced


def is_whole(value: object) -> bool:
    """Tell whether a value is a tensor that has its numbers in the file, and is not larger than what it has there."""
    import torch

    if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.device.type == "meta":
        return False
    return value.numel() * value.itemsize <= value.untyped_storage().nbytes()


@contextmanager
def refusing(place: object, fault: str = NOT_FITTING) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read, or a model built of it, into one line that names the file.

    What a damaged or forged file makes of settings can fail anywhere, in packages written in Rust by a panic.
    """
    try:
        yield
    except InputError as error:
        if str(error).startswith(str(place)):
            raise
        raise InputError(f"{place}: {error}") from error
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise  # the user's own interruption
        reason = f"{type(error).__name__}: {one_line(error)}"[:REASON]
        raise InputError(f"{place}: {fault} ({reason}); copy or write it again") from error
