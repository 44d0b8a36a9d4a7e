"""A trained model on disk: write the model folder, load it or a checkpoint again.

The folder holds config.json (settings), model.safetensors (weights), tokenizer.json, metrics.json and README.md
(model card). Nothing is ever unpickled: checkpoints are read with weights_only=True.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from lmtasks.errors import InputError
from lmtasks.model import Model
from lmtasks.settings import from_plain
from lmtasks.storage import CARD, CONFIG, METRICS, TOKENIZER, WEIGHTS
from lmtasks.storage.checkpoint import Saved, find_model, read
from lmtasks.text.tokenizer import Tokenizer

FILES = {CONFIG, WEIGHTS, TOKENIZER, METRICS, CARD}
REASON = 300  # characters of what PyTorch says of weights that do not fit
OWN = ("tasks", "backbone", "decoding")  # settings that use needs; the others are those of training


def save(model: Model, folder: str | Path, metrics: Mapping[str, float] | None = None) -> Path:
    """Write a trained model as a model folder and return its path.

    An existing model folder is replaced; other files in it stay.

    Raises:
        InputError: If something else than a model folder is there, or the model has no tokenizer yet.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / CONFIG).is_file() and (folder.is_file() or any(folder.iterdir())):
        raise InputError(f"{folder} is no model folder, and a model would take its place; name one that is not there")
    part, old = (folder.with_name(f".{folder.name}.{ending}") for ending in ("part", "old"))
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    described, metrics = model.describe(), dict(metrics or {})
    config = {"format": described["format"], **described["settings"]}
    texts = {
        CONFIG: json.dumps(config, indent=2, ensure_ascii=False) + "\n",
        TOKENIZER: described["tokenizer"],
        METRICS: json.dumps({"scores": metrics, "signatures": model.signatures}, indent=2) + "\n",
        CARD: _card(model, folder, metrics),
    }
    for name, text in texts.items():
        (part / name).write_text(text, encoding="utf-8")
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.weights().items()}
    save_file(weights, part / WEIGHTS, metadata={"format": "pt"})
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    part.rename(folder)
    for path in old.iterdir() if old.exists() else ():
        if path.name not in FILES:
            path.rename(folder / path.name)
    shutil.rmtree(old, ignore_errors=True)
    return folder


def load(path: str | Path, device: str = "cpu") -> Model:
    """Load a model folder, a run folder (its model, else its last checkpoint) or a .ckpt, ready for use.

    It needs no trainer; `TaskModule.of` makes of it a module that a trainer takes.

    Raises:
        InputError: If there is no model at `path`, or it is damaged or someone else's.
    """
    place = find_model(path)
    saved = read(place)
    try:
        model = _rebuilt(saved)
    except InputError as error:
        raise InputError(f"{place}: {error}") from error
    except (TypeError, KeyError, AttributeError, RuntimeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:REASON]
        raise InputError(f"{place}: settings and weights do not fit this version of lmtasks ({reason})") from error
    return model.to(_present(device)).eval()


def _present(name: str) -> torch.device:
    """Return the device of this name, if it is here."""
    try:
        return torch.zeros(0, device=name).device
    except (RuntimeError, AssertionError):  # the latter where PyTorch was built without CUDA
        raise InputError(f"there is no device {name!r} here; give cpu, or cuda, cuda:1, mps where one is") from None


def _card(model: Model, folder: Path, metrics: Mapping[str, float]) -> str:
    """Return a model card: what the model does, how to use it, what it scored."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    scores = "\n".join(f"| {name} | {value:.2f} |" for name, value in metrics.items())
    signatures = "\n".join(f"- {name}: `{text}`" for name, text in model.signatures.items())
    trials = "\n".join(f"    {trial}" for trial in model.example_commands(folder))
    return f"""# {folder.resolve().parent.name}

{"; ".join(repr(task) for task in model.tasks.values())}

{type(model.backbone).__name__} of {parameters:,} parameters, {len(model.tokenizer or ()):,} tokens.

{trials}

| score | value |
|---|---|
{scores}

{signatures}
"""


def _rebuilt(saved: Saved) -> Model:
    """Return the model with its layers and weights."""
    own = {name: from_plain(plain) for name, plain in saved.settings.items() if name in OWN}
    training = {name: plain for name, plain in saved.settings.items() if name not in OWN}
    model = Model(**own, training=training)
    model.build(Tokenizer.from_json(saved.tokenizer))
    model.load_weights(saved.weights)
    return model
