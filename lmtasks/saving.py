"""A trained module on disk: write the model folder, load it or a checkpoint again.

The folder holds config.json (settings), model.safetensors (weights), tokenizer.json, metrics.json and README.md
(model card). Nothing is ever unpickled: checkpoints are read with weights_only=True.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file

from lmtasks.errors import InputError
from lmtasks.module import TaskModule
from lmtasks.saved import CONFIG, METRICS, TOKENIZER, WEIGHTS, Saved, find_model, read
from lmtasks.settings import from_plain
from lmtasks.text.tokenizer import Tokenizer

CARD = "README.md"


def save(module: TaskModule, folder: str | Path, metrics: Mapping[str, float] | None = None) -> Path:
    """Write a trained module as a model folder and return its path; a folder that is there is replaced as a whole."""
    folder = Path(folder)
    part, old = (folder.with_name(f".{folder.name}.{ending}") for ending in ("part", "old"))
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    described, metrics = module.describe(), dict(metrics or {})
    texts = {
        CONFIG: json.dumps(described["settings"], indent=2, ensure_ascii=False) + "\n",
        TOKENIZER: described["tokenizer"],
        METRICS: json.dumps({"scores": metrics, "signatures": module.signatures}, indent=2) + "\n",
        CARD: _card(module, folder, metrics),
    }
    for name, text in texts.items():
        (part / name).write_text(text, encoding="utf-8")
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    save_file(weights, part / WEIGHTS, metadata={"format": "pt"})
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return folder


def load(path: str | Path, device: str = "cpu") -> TaskModule:
    """Load a model folder, a run folder (its model, else its last checkpoint) or a .ckpt, ready for use.

    Raises:
        InputError: If there is no model at `path`, or it is damaged or someone else's.
    """
    place = find_model(path)
    saved = read(place)
    try:
        module = rebuild(saved)
    except (TypeError, KeyError, AttributeError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{place}: settings and weights do not fit this version of lmtasks ({reason})") from error
    return module.to(device).eval()


def rebuild(saved: Saved) -> TaskModule:
    """Return the module with its layers and weights."""
    module = TaskModule(**from_plain(saved.settings))
    module.tokenizer = Tokenizer.from_json(saved.tokenizer)
    module.configure_model()
    module.load_state_dict(saved.weights)
    return module


def _card(module: TaskModule, folder: Path, metrics: Mapping[str, float]) -> str:
    """Return a model card: what the model does, how to use it, what it scored."""
    parameters = sum(parameter.numel() for parameter in module.parameters())
    scores = "\n".join(f"| {name} | {value:.2f} |" for name, value in metrics.items())
    signatures = "\n".join(f"- {name}: `{text}`" for name, text in module.signatures.items())
    trials = "\n".join(f"    {trial}" for trial in module.trials(folder))
    return f"""# {folder.resolve().parent.name}

{"; ".join(repr(task) for task in module.tasks.values())}

{type(module.backbone).__name__} of {parameters:,} parameters, {len(module.tokenizer or ()):,} tokens.

{trials}

| score | value |
|---|---|
{scores}

{signatures}
"""
