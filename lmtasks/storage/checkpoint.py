"""Read a model folder or a checkpoint as plain data and tensors, before layers are built.

Nothing is ever unpickled: checkpoints are read with weights_only=True. `training.callbacks.checkpoints` writes them; it
needs a trainer, this file does not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import load_file
from torch import Tensor

from lmtasks.backbones.lora import merged
from lmtasks.errors import InputError
from lmtasks.settings import check_format
from lmtasks.storage import CHECKPOINTS, CONFIG, EXPORT, LAST, METRICS, MODEL, MODELS, TOKENIZER, WEIGHTS
from lmtasks.storage.checksums import check_sums
from lmtasks.storage.reading import (
    MOST_TEXT,
    READ_ERRORS,
    check_archive,
    is_whole,
    read_json,
    read_text,
    refusing,
    unpickle,
)
from lmtasks.storage.writing import interrupted
from lmtasks.story import Story
from lmtasks.text.base import BaseTokenizer

KEPT = "Checkpoints"  # the callback whose state in a checkpoint lists the checkpoints kept so far
MOST_TOKENIZER, MOST_PER_ROW = 4 * 2**20, 1000  # bytes of a tokenizer's text, and more for each row of an embedding


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

    def __post_init__(self) -> None:
        parts = (self.settings, dict), (self.settings.get("tasks"), dict), (self.settings.get("backbone"), dict)
        texts = (self.tokenizer["tokenizer_class"], str), (self.tokenizer["tokenizer"], str)
        if not all(isinstance(part, kind) for part, kind in (*parts, *texts, (self.step, int))):
            raise InputError("settings or tokenizer are missing; it is damaged")

    def build_tokenizer(self) -> BaseTokenizer:
        """Build the tokenizer.

        Raises: InputError if its text is damaged, or far too long for the weights, or its class is not known here.
        """
        text, rows = (
            self.tokenizer["tokenizer"],
            max((len(each) for each in self.weights.values() if each.ndim), default=0),
        )
        if len(text) > MOST_TOKENIZER + MOST_PER_ROW * rows:  # it would take minutes and memory to read
            raise InputError(
                f"its tokenizer has {len(text):,} characters, its weights {rows:,} rows; do not use the model"
            )
        return BaseTokenizer.from_plain(self.tokenizer)


def read(place: Path) -> Saved:
    """Read a model folder or a checkpoint.

    Raises: InputError if it is damaged or not written by lmtasks.
    """
    if not place.is_dir():
        return saved_in(read_checkpoint(place), place)
    settings = read_settings(place)
    if missing := [name for name in (TOKENIZER, WEIGHTS) if not (place / name).is_file()]:
        raise InputError(f"{place}: not a whole model folder, it has no {missing[0]}; save or copy the model again")
    check_sums(place, (TOKENIZER, WEIGHTS))
    story = read_metrics(place).get("story", {})
    with refusing(place, "not a whole model folder"):
        text = read_text(place / TOKENIZER, MOST_TEXT)
        tokenizer = {"tokenizer_class": settings.pop("tokenizer_class", "Tokenizer"), "tokenizer": text}
        return Saved(settings, tokenizer, load_file(place / WEIGHTS), story=Story.of(story))


def saved_in(checkpoint: Any, place: object) -> Saved:
    """Return the model that a checkpoint holds.

    Raises: InputError if it is not written by lmtasks, or in another format; the message names `place`.
    """
    own = checkpoint.get("lmtasks") if isinstance(checkpoint, dict) else None
    if isinstance(own, dict):
        check_format(own.get("format"), place)
    if not isinstance(own, dict) or not {"settings", "tokenizer_class", "tokenizer"} <= own.keys():
        raise InputError(f"{place}: a checkpoint, but not one that lmtasks wrote; give the .ckpt of a `lmtasks fit`")
    with refusing(place, "a damaged checkpoint"):
        weights = checkpoint["state_dict"]
        if not all(map(is_whole, weights.values())):
            raise InputError("its state_dict holds other things than whole tensors; do not use it")
        tokenizer = {name: own[name] for name in ("tokenizer_class", "tokenizer")}
        step, story = checkpoint.get("global_step", 0), Story.of(own.get("story", {}))
        return Saved(own["settings"], tokenizer, merged(weights), step, story)


def read_settings(place: Path) -> dict[str, Any]:
    """Read the settings of a model folder, from its config.json alone, or of a checkpoint, which is read as a whole.

    Raises: InputError if it is damaged or not written by lmtasks.
    """
    if not place.is_dir():
        return read(place).settings
    check_sums(place, [CONFIG])
    settings = read_json(place / CONFIG)
    if "tasks" not in settings:
        raise InputError(f"{place / CONFIG}: not the settings of a model of lmtasks; give the folder of one")
    check_format(settings.pop("format", None), place)
    return settings


def read_metrics(folder: Path) -> dict[str, Any]:
    """Return what metrics.json of a model folder holds: scores, signatures, story; nothing where there is none.

    Raises: InputError if it is damaged.
    """
    file = folder / METRICS
    if not file.is_file():
        return {}
    check_sums(folder, [METRICS])
    found = read_json(file)
    kinds = {"scores": float | int | None, "signatures": str, "story": object}
    for name, kind in kinds.items():
        part = found.get(name, {})
        if not isinstance(part, dict) or not all(isinstance(value, kind) for value in part.values()):
            raise InputError(f"{file}: is damaged: its {name} are of another form; copy the model again")
    return found


def find_model(path: str | Path) -> Path:
    """Return the model folder or the checkpoint file that `path` means: itself, or the one in a run folder.

    Raises: InputError if there is none.
    """
    path = Path(path)
    if path.suffix == Path(WEIGHTS).suffix and path.is_file():
        raise InputError(f"{path}: holds weights alone; give the folder of the model (for an adapter, of its base)")
    if path.is_file():
        return path
    for place in map(interrupted, (path, path / MODEL)):
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

    Raises: InputError if there is no such file, it is damaged, or it holds more than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: there is no such checkpoint; give the path of a .ckpt file")
    check_archive(path)
    try:
        return unpickle(path, map_location)
    except READ_ERRORS as error:
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: cannot be read as a checkpoint of tensors and plain values: {reason}") from error


def checkpoints(run_folder: Path) -> list[Path]:
    """Return the paths of the checkpoints of a run, oldest first."""
    return sorted((run_folder / CHECKPOINTS).glob("*.ckpt"), key=lambda path: path.stat().st_mtime)


def scores_of(checkpoint: Mapping[str, Any]) -> tuple[str | None, dict[int, float | None]]:
    """Return (metric, its value at each step that was kept), which `Checkpoints` wrote into a checkpoint.

    Raises: InputError if they are of another form.
    """
    try:
        kept = checkpoint.get("callbacks", {}).get(KEPT, {})
        monitor, scores = kept.get("monitor"), dict(kept.get("scores", {}))
    except (AttributeError, TypeError, ValueError):
        monitor, scores = None, {None: None}
    numbers = all(isinstance(step, int) and isinstance(score, float | None) for step, score in scores.items())
    if not isinstance(monitor, str | None) or not numbers:
        raise InputError("the scores in the checkpoint are damaged; use another copy of it")
    return monitor, scores


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
