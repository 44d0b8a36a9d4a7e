"""The binary model file (.bin) of Marian (Junczys-Dowmunt et al. 2018), in float32 or quantised to int8.

Numbers are little endian. First the version and the number of items, 8 bytes each; four such numbers for each item
(length of its name, type, dimensions, bytes of data); the names, which end with a zero byte; the shapes, 4 bytes a
dimension; how many bytes to skip, and these bytes; the data of each item. After the numbers of an int8 item stands a
float32, the multiplier: weight = int8 / multiplier.

Source: Marian, src/common/binary.cpp and src/common/types.h; the fork browsermt, which Bergamot and Firefox use.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lmtasks.errors import InputError, one_line
from lmtasks.storage.reading import read_yaml

SETTINGS = "special:model.yml"
_VERSION = 1
_FLOAT32 = 0x404
_INT8 = (0x4101, 0x10001)  # intgemm8 of browsermt, and of Marian itself: not yet packed for one processor


def read(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the items as float32 arrays by Marian's names, and the settings of the model (model.yml).

    Matrices are (inputs, outputs), embeddings (tokens, width), vectors (1, width), as Marian computes with them.

    Raises: InputError if the file is cut off, is not of this format, or has items of another type.
    """
    file = _File(Path(path))
    version, count = file.take(2, "<u8").tolist()
    if version != _VERSION:
        raise file.error(
            f"version {version} of Marian's binary format, expected {_VERSION}; give a model.bin of Marian"
        )
    headers = file.take(4 * count, "<u8").reshape(count, 4).tolist()
    names = [file.take(length, "u1").tobytes().rstrip(b"\0").decode(errors="replace") for length, *_ in headers]
    shapes = [file.take(dimensions, "<i4").tolist() for _, _, dimensions, _ in headers]
    file.take(file.take(1, "<u8").item(), "u1")
    arrays, settings = {}, None
    for name, shape, (_, kind, _, size) in zip(names, shapes, headers, strict=True):
        data = file.take(size, "u1")
        if name == SETTINGS:
            settings = data.tobytes().rstrip(b"\0")
        elif kind == _FLOAT32:
            arrays[name] = file.item(name, data, "<f4", shape).astype(np.float32)
        elif kind in _INT8:
            arrays[name] = _dequantised(file, name, data, shape)
        else:
            raise file.error(f"{name} has type {kind:#x}, expected float32 or intgemm8; convert it with marian-conv")
    if settings is None:
        raise file.error(f"no {SETTINGS}; give the model.bin that Marian or marian-conv wrote")
    return arrays, _parsed(file, settings)


class _File:
    """A mapped file that is read from its beginning to its end."""

    def __init__(self, path: Path) -> None:
        self.path, self.place = path, 0
        try:
            self.bytes = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}; give a model.bin of Marian") from error

    def error(self, message: str) -> InputError:
        """Return an error that names the file."""
        return InputError(f"{self.path}: {message}")

    def take(self, count: int, kind: str) -> np.ndarray:
        """Return a view of the next `count` numbers; none that the file does not have, whatever it claims."""
        end = self.place + count * np.dtype(kind).itemsize
        if end > len(self.bytes):
            raise self.error(
                f"cut off, or no model of Marian: {len(self.bytes):,} bytes, expected {end:,}; copy it anew"
            )
        found = self.bytes[self.place : end].view(kind)
        self.place = end
        return found

    def item(self, name: str, data: np.ndarray, kind: str, shape: list[int]) -> np.ndarray:
        """Return a view of an item's data as numbers of `shape`; data may be longer, for alignment."""
        size = math.prod(shape) * np.dtype(kind).itemsize
        if min(shape, default=0) < 0 or size > len(data):
            raise self.error(f"{name} has shape {tuple(shape)}, but {len(data):,} bytes of data; copy it anew")
        return data[:size].view(kind).reshape(shape)


def _dequantised(file: _File, name: str, data: np.ndarray, shape: list[int]) -> np.ndarray:
    """Return int8 weights in float32. All but the embeddings are stored transposed, as the int8 product wants them."""
    transposed = "Wemb" not in name
    weights = file.item(name, data, "i1", shape[::-1] if transposed else shape)
    multiplier = file.item(name, data[weights.size :], "<f4", [1]).item()
    if not (math.isfinite(multiplier) and multiplier):
        raise file.error(f"{name} has the multiplier {multiplier}, expected a number other than 0; copy it anew")
    found = weights.astype(np.float32)
    found /= np.float32(multiplier)
    return found.T if transposed else found


def _parsed(file: _File, text: bytes) -> dict[str, Any]:
    try:
        loader, node = read_yaml(text)
        settings = node and loader.construct_document(node)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise file.error(f"{SETTINGS} is not YAML: {one_line(error)}") from error
    if not isinstance(settings, dict):
        raise file.error(f"{SETTINGS} has no settings; give the model.bin that Marian or marian-conv wrote")
    return settings
