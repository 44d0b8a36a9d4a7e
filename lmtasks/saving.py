"""A trained module on disk: write the model folder, load it or a checkpoint again.

The folder holds config.json (settings), model.safetensors (weights), tokenizer.json, metrics.json and README.md (model card).
Nothing is ever unpickled: checkpoints are read with weights_only=True.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lmtasks.errors import InputError
from lmtasks.module import TaskModule
from lmtasks.settings import from_plain
from lmtasks.text.tokenizer import Tokenizer

CONFIG, WEIGHTS, TOKENIZER, METRICS, CARD = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "metrics.json",
    "README.md",
)
CHECKPOINTS = "checkpoints"
LAST = "last.ckpt"
MODEL = "model"


def save(module: TaskModule, folder: str | Path, metrics: Mapping[str, float] | None = None) -> Path:
    """Write a trained module as a model folder and return its path."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    described = module.describe()
    metrics = dict(metrics or {})
    (folder / CONFIG).write_text(json.dumps(described["settings"], indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / TOKENIZER).write_text(described["tokenizer"], encoding="utf-8")
    (folder / METRICS).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    (folder / CARD).write_text(_card(module, folder, metrics), encoding="utf-8")
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def load(path: str | Path, device: str = "cpu") -> TaskModule:
    """Load a model folder, a run folder (its model, else its last checkpoint) or a .ckpt, ready for use.

    Raises:
        InputError: If there is no model at `path`.
    """
    place = find_model(path)
    if place.is_dir():
        settings = json.loads((place / CONFIG).read_text(encoding="utf-8"))
        module = rebuild(settings, (place / TOKENIZER).read_text(encoding="utf-8"), load_file(place / WEIGHTS))
    else:
        checkpoint = read_checkpoint(place)
        module = rebuild(**checkpoint["lmtasks"], weights=checkpoint["state_dict"])
    return module.to(device).eval()


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
    if (path / CHECKPOINTS / LAST).is_file():
        return path / CHECKPOINTS / LAST
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder; give a run folder, a model folder or a .ckpt file")
    raise InputError(f"{path}: neither a model folder ({CONFIG}) nor a run folder ({CHECKPOINTS}/{LAST})")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the contents of a checkpoint that lmtasks wrote.

    Raises:
        InputError: If it is damaged or someone else's.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler meets; the user needs the file's name
        raise InputError(f"{path}: not a readable checkpoint ({str(error).splitlines()[0]})") from error
    if not isinstance(checkpoint, dict) or "lmtasks" not in checkpoint:
        raise InputError(f"{path}: a checkpoint, but not one that lmtasks wrote; give the .ckpt of a `lmtasks fit`")
    return checkpoint


def rebuild(settings: dict[str, Any], tokenizer: str, weights: Mapping[str, Tensor]) -> TaskModule:
    """Return the module that these settings describe, with these weights."""
    module = TaskModule(**from_plain(settings))
    module.tokenizer = Tokenizer.from_json(tokenizer)
    module.configure_model()
    module.load_state_dict(dict(weights))
    return module


def _card(module: TaskModule, folder: Path, metrics: Mapping[str, float]) -> str:
    """Return a model card: what the model does, how to use it, what it scored."""
    parameters = sum(parameter.numel() for parameter in module.parameters())
    scores = "\n".join(f"| {name} | {value:.2f} |" for name, value in metrics.items())
    return f"""# {folder.resolve().parent.name}

{"; ".join(repr(task) for task in module.tasks.values())}

{type(module.backbone).__name__} of {parameters:,} parameters, {len(module.tokenizer or ()):,} tokens.

    lmtasks run {folder} "..."

| score | value |
|---|---|
{scores}
"""
