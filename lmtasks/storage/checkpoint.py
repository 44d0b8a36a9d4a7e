"""Read a model folder or a checkpoint as plain data and tensors, before layers are built.

Nothing is ever unpickled: checkpoints are read with weights_only=True. `training.callbacks.checkpoints` writes them; it
needs a trainer, this file does not.
"""

from __future__ import annotations

import json
import math
import pickle
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lmtasks.backbones.lora import merged
from lmtasks.errors import InputError
from lmtasks.settings import check_format
from lmtasks.storage import CHECKPOINTS, CONFIG, EXPORT, LAST, METRICS, MODEL, MODELS, TOKENIZER, WEIGHTS
from lmtasks.story import Story
from lmtasks.text.base import BaseTokenizer

KEPT = "Checkpoints"  # the callback whose state in a checkpoint lists the checkpoints kept so far
# What zipfile and torch.load raise for files that are damaged or hold something else.
READ_ERRORS = (RuntimeError, ValueError, KeyError, TypeError, AttributeError, EOFError, OSError, pickle.UnpicklingError)


@dataclass(frozen=True)
class Saved:
    """What a model folder or a checkpoint holds, before layers are built."""

    settings: dict[str, Any]
    """The settings of the model and of its training as plain data."""
    tokenizer: dict[str, str]
    """Class and content of the tokenizer as plain data."""
    weights: dict[str, Tensor]
    """The state_dict of the module, with adapters added to the weights that they adapt."""
    step: int = 0
    """Optimiser steps done; 0 for a model folder, which does not store them."""
    story: Story = field(default_factory=Story)
    """What is known of its training."""

    def build_tokenizer(self) -> BaseTokenizer:
        """Build the tokenizer. Raises: InputError if its text is damaged, or its class is not known here."""
        return BaseTokenizer.from_plain(self.tokenizer)


def read(place: Path) -> Saved:
    """Read a model folder or a checkpoint.

    Raises: InputError if it is damaged or not written by lmtasks.
    """
    if place.is_dir():
        settings = read_settings(place)
        with _naming(place):
            text = (place / TOKENIZER).read_text(encoding="utf-8")
            tokenizer = {"tokenizer_class": settings.pop("tokenizer_class", "Tokenizer"), "tokenizer": text}
            story = Story.of(read_metrics(place).get("story", {}))
            return Saved(settings, tokenizer, load_file(place / WEIGHTS), story=story)
    return saved_in(read_checkpoint(place), place)


def saved_in(checkpoint: Any, place: object) -> Saved:
    """Return the model that a checkpoint holds.

    Raises: InputError if it is not written by lmtasks, or in another format; the message names `place`.
    """
    own = checkpoint.get("lmtasks") if isinstance(checkpoint, dict) else None
    if isinstance(own, dict):
        check_format(own.get("format"), place)
    if not isinstance(own, dict) or not {"settings", "tokenizer_class", "tokenizer"} <= own.keys():
        raise InputError(f"{place}: a checkpoint, but not one that lmtasks wrote; give the .ckpt of a `lmtasks fit`")
    tokenizer = {name: own[name] for name in ("tokenizer_class", "tokenizer")}
    story, step = Story.of(own.get("story", {})), checkpoint.get("global_step", 0)
    return Saved(own["settings"], tokenizer, merged(checkpoint["state_dict"]), step, story)


def read_settings(place: Path) -> dict[str, Any]:
    """Read the settings of a model folder, from its config.json alone, or of a checkpoint, which is read as a whole.

    Raises: InputError if it is damaged or not written by lmtasks.
    """
    if not place.is_dir():
        return read(place).settings
    with _naming(place):
        settings = json.loads((place / CONFIG).read_text(encoding="utf-8"))
    if not isinstance(settings, dict) or "tasks" not in settings:
        raise InputError(f"{place / CONFIG}: not the settings of a model of lmtasks; give the folder of one")
    check_format(settings.pop("format", None), place)
    return settings


def read_metrics(folder: Path) -> dict[str, Any]:
    """Return what metrics.json of a model folder holds: scores, signatures, story; nothing where there is none.

    Raises: InputError if it is damaged.
    """
    file = folder / METRICS
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise InputError(f"{file}: not JSON ({error})") from error


def find_model(path: str | Path) -> Path:
    """Return the model folder or the checkpoint file that `path` means: itself, or the one in a run folder.

    Raises: InputError if there is none.
    """
    path = Path(path)
    if path.is_file():
        return path
    for place in (path, path / MODEL):
        if (place / EXPORT).is_file():
            raise InputError(f"{place}: is an export, and not the model that it was made of; give that model")
        if (place / CONFIG).is_file():
            return place
    if last_checkpoint(path).is_file():
        return last_checkpoint(path)
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder; give {MODELS}")
    raise InputError(f"{path}: neither a model folder ({CONFIG}) nor a run folder ({CHECKPOINTS}/{LAST})")


def last_checkpoint(run_folder: str | Path) -> Path:
    """Return the path of the newest checkpoint of a run, whether it exists or not."""
    return Path(run_folder) / CHECKPOINTS / LAST


def read_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint file with its checksums, without running code that it might hold.

    `torch.save` writes a zip archive with a CRC-32 of every record, which `torch.load` ignores; it is checked here. The
    checksums are inside the file, so that copies and checkpoints written by others are checked too.

    Raises: InputError if there is no such file, it is damaged, or it holds more than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: there is no such checkpoint; give the path of a .ckpt file")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, *READ_ERRORS) as error:
        raise InputError(f"{path}: is damaged, cut off or no checkpoint ({error}); use another copy of it") from error
    if damaged is not None:
        raise InputError(f"{path}: is damaged: the checksum of its record {damaged} is wrong; use another copy of it")
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except READ_ERRORS as error:
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: cannot be read as a checkpoint of tensors and plain values: {reason}") from error


def checkpoints(run_folder: Path) -> list[Path]:
    """Return the paths of the checkpoints of a run, oldest first."""
    return sorted((run_folder / CHECKPOINTS).glob("*.ckpt"), key=lambda path: path.stat().st_mtime)


def scores_of(checkpoint: Mapping[str, Any]) -> tuple[str | None, dict[int, float | None]]:
    """Return (metric, its value at each step that was kept), which `Checkpoints` wrote into a checkpoint."""
    kept = checkpoint.get("callbacks", {}).get(KEPT, {})
    return kept.get("monitor"), kept.get("scores", {})


def steps_to_keep(
    scores: Mapping[int, float | None], best: int, last: int, mode: Literal["min", "max"]
) -> tuple[list[int], list[int]]:
    """Choose the `best` steps by score, best first, and the `last` steps, oldest first.

    Steps without a score are never among the best. NaN is worse than any number. Of equal scores the older one wins.
    """
    sign = 1.0 if mode == "min" else -1.0
    rank = {
        step: math.inf if math.isnan(score) else sign * score for step, score in scores.items() if score is not None
    }
    ranked = sorted(rank, key=lambda step: (rank[step], step))
    return ranked[:best], sorted(scores)[max(0, len(scores) - last) :]  # not [-last:], which is all for 0


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Name the model folder in the error if a file of it cannot be read."""
    try:
        yield
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{folder}: not a whole model folder ({reason}); save or copy the model again") from error
