"""A trained model on disk: write a model folder, and load a model from it or from a checkpoint.

The folder holds config.json (settings), model.safetensors (weights), tokenizer.json, metrics.json and README.md
(model card). Beside the merged weights of a model with an adapter lies adapter.safetensors. Nothing is ever unpickled:
checkpoints are read with weights_only=True.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file

from lmtasks.adapters import save_adapter
from lmtasks.backbones.lora import installed, is_adapter
from lmtasks.errors import InputError
from lmtasks.model import Model, default_dtype
from lmtasks.settings import from_plain, to_plain
from lmtasks.storage import ADAPTER, CARD, CONFIG, METRICS, TOKENIZER, WEIGHTS, is_hub_id
from lmtasks.storage.checkpoint import find_model, read

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FILES = {ADAPTER, CONFIG, WEIGHTS, TOKENIZER, METRICS, CARD}
MAX_LISTED = 12  # items of a list, such as labels, in a line for people
REASON = 300  # characters of PyTorch's message about weights that do not fit
OWN = ("tasks", "backbone", "decoding")  # settings that a model in use needs; the others are those of training


def save(model: Model, folder: str | Path, metrics: Mapping[str, float] | None = None) -> Path:
    """Write a trained model as a model folder and return its path.

    The weights are merged with the adapter in use, if there is one, and that is written beside them. An existing model
    folder is replaced; other files in it stay.

    Raises: InputError if `folder` is something other than a model folder, or the model has no tokenizer yet.
    """
    folder = Path(folder)
    taken = folder.is_file() or (folder.exists() and any(folder.iterdir()))
    if taken and (is_foreign(folder) or not (folder / CONFIG).is_file()):
        raise InputError(f"{folder} is no model folder, and a model would take its place; choose a folder that is new")
    # A new folder replaces the old one only when it is complete: a crash while writing leaves the old model.
    part, old = (folder.with_name(f".{folder.name}.{ending}") for ending in ("part", "old"))
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    described, metrics = model.describe(), dict(metrics or {})
    config = {name: described[name] for name in ("format", "tokenizer_class")} | described["settings"]
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
    if installed(model):
        save_adapter(model, part / ADAPTER)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    part.rename(folder)
    for path in old.iterdir() if old.exists() else ():
        if path.name not in FILES:
            path.rename(folder / path.name)
    shutil.rmtree(old, ignore_errors=True)
    return folder


def load(path: str | Path, device: str = "cpu", dtype: torch.dtype | None = None) -> Model:
    """Load a model folder, a run folder (its model, else its last checkpoint) or a .ckpt, ready for use.

    For a pretrained model it may be its folder, or the id on the Hugging Face hub (OWNER/MODEL). `dtype`
    is that of the weights: with torch.bfloat16 they take half of the memory, also while they are read.

    The model needs no trainer; `TaskModule.of` turns it into a module that a trainer takes.

    Raises: InputError if there is no model at `path`, it is damaged or cannot be used, or there is no such device.
    """
    if is_foreign(path):
        from lmtasks.pretrained.pretrained import open_model  # what loads our own models does without it

        model = open_model(str(path), dtype=dtype)
    else:
        model = _load_own(find_model(path), dtype)
    try:
        present = torch.zeros(0, device=device).device
    except (RuntimeError, AssertionError):  # the latter where PyTorch was built without CUDA
        raise InputError(f"there is no device {device!r} here; give cpu, or cuda, cuda:1, mps where one is") from None
    return model.to(present).eval()  # not above: a device without enough memory raises RuntimeError too


def is_foreign(path: str | Path) -> bool:
    """Tell whether a path means a pretrained model: an id on the hub, or a folder in the layout of its makers.

    Raises: InputError if the folder cannot be read.
    """
    path = Path(path)
    if not path.exists():
        return is_hub_id(str(path))
    try:
        if not (path / CONFIG).exists():
            return any(path.glob("model*.bin"))  # Marian's own format
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); change its permissions") from error
    except (ValueError, RecursionError):
        return False
    return isinstance(config, dict) and "model_type" in config and "tasks" not in config


def _load_own(place: Path, dtype: torch.dtype | None) -> Model:
    """Return the model in a model folder or a checkpoint."""
    saved = read(place)
    try:
        own = {name: from_plain(plain) for name, plain in saved.settings.items() if name in OWN}
        # The settings of training stay plain data: they may name classes that are not installed here.
        model = Model(**own, training={name: plain for name, plain in saved.settings.items() if name not in OWN})
        with default_dtype(dtype):
            model.build(saved.build_tokenizer())
        model.load_weights(saved.weights)
    except InputError as error:
        raise InputError(f"{place}: {error}") from error
    except (TypeError, KeyError, AttributeError, RuntimeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:REASON]
        raise InputError(f"{place}: settings and weights do not fit this version of lmtasks ({reason})") from error
    return model


def settings_line(described: DataclassInstance) -> str:
    """Return settings as "Class  name value  name value", without the fields that have their default."""
    shown = [type(described).__name__]
    for field in fields(described):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        value = to_plain(getattr(described, field.name))
        if value == to_plain(default):
            continue
        if isinstance(value, list):
            more = f" and {len(value) - MAX_LISTED} more" if len(value) > MAX_LISTED else ""
            value = ", ".join(map(str, value[:MAX_LISTED])) + more
        shown.append(f"{field.name} {value}")
    return "  ".join(shown)


def _card(model: Model, folder: Path, metrics: Mapping[str, float]) -> str:
    """Return a model card: what the model does, how to use it, its scores."""
    parameters = sum(p.numel() for name, p in model.named_parameters() if not is_adapter(name))
    tasks = "\n".join(f"- {name}: {settings_line(task)}" for name, task in model.tasks.items())
    scores = "\n".join(f"| {name} | {value:.2f} |" for name, value in metrics.items())
    signatures = "\n".join(f"- {name}: `{text}`" for name, text in model.signatures.items())
    trials = "\n".join(f"    {trial}" for trial in model.example_commands(folder))
    return f"""# {folder.resolve().parent.name}

{tasks}

{settings_line(model.backbone_config)}: {parameters:,} parameters, {len(model.tokenizer or ()):,} tokens.

{trials}

| score | value |
|---|---|
{scores}

{signatures}
"""
