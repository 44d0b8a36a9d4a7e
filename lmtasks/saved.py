"""What a trained module leaves on disk, read back as plain data and tensors, before layers are built of it.

Nothing is ever unpickled: checkpoints are read with weights_only=True.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lmtasks.errors import InputError
from lmtasks.training.checkpoints import FOLDER, LAST, last_checkpoint, read_checkpoint

CONFIG, WEIGHTS, TOKENIZER, METRICS = "config.json", "model.safetensors", "tokenizer.json", "metrics.json"
MODEL = "model"  # the model folder in a run folder


@dataclass(frozen=True)
class Saved:
    """What a model folder or a checkpoint holds, before layers are built of it."""

    settings: dict[str, Any]
    """Arguments of TaskModule as plain data."""
    tokenizer: str
    """The tokenizer.json as text."""
    weights: dict[str, Tensor]
    """The state_dict of the module."""
    step: int = 0
    """Optimiser steps done; 0 in a model folder, which has no use for it."""


def read(place: Path) -> Saved:
    """Read a model folder or a checkpoint.

    Raises:
        InputError: If it is damaged or someone else's.
    """
    return _read_folder(place) if place.is_dir() else _read_checkpoint(place)


def read_settings(place: Path) -> dict[str, Any]:
    """Read the settings of a model folder, from its config.json alone, or of a checkpoint, which is read whole.

    Raises:
        InputError: If it is damaged or someone else's.
    """
    if not place.is_dir():
        return _read_checkpoint(place).settings
    with _naming(place):
        return json.loads((place / CONFIG).read_text(encoding="utf-8"))


def find_model(path: str | Path) -> Path:
    """Return the model folder or the checkpoint file that `path` means.

    Raises:
        InputError: If there is none.
    """
    path = Path(path)
    if path.is_file():
        return path
    for place in (path, path / MODEL):
        if (place / CONFIG).is_file():
            return place
    if last_checkpoint(path).is_file():
        return last_checkpoint(path)
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder; give a run folder, a model folder or a .ckpt file")
    raise InputError(f"{path}: neither a model folder ({CONFIG}) nor a run folder ({FOLDER}/{LAST})")


def _read_folder(folder: Path) -> Saved:
    settings = read_settings(folder)
    with _naming(folder):
        return Saved(settings, (folder / TOKENIZER).read_text(encoding="utf-8"), load_file(folder / WEIGHTS))


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Name the model folder of which something cannot be read."""
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{folder}: not a whole model folder ({reason}); save or copy the model again") from error


def _read_checkpoint(path: Path) -> Saved:
    checkpoint = read_checkpoint(path)
    if not isinstance(checkpoint, dict) or "lmtasks" not in checkpoint:
        raise InputError(f"{path}: a checkpoint, but not one that lmtasks wrote; give the .ckpt of a `lmtasks fit`")
    described = checkpoint["lmtasks"]
    return Saved(
        described["settings"], described["tokenizer"], checkpoint["state_dict"], checkpoint.get("global_step", 0)
    )
