"""Describe a model from its run folder, model folder or checkpoint: as data, and as lines for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmtasks.model import Model
from lmtasks.settings import from_plain
from lmtasks.storage.card import architecture, training
from lmtasks.storage.checkpoint import checkpoints, find_model, read_checkpoint, read_metrics, scores_of
from lmtasks.storage.model_folder import find_own, load
from lmtasks.storage.reading import refusing
from lmtasks.story import Story, count


def describe(path: str) -> dict[str, Any]:
    """Return what the model at `path` is, as plain data.

    Raises: InputError if there is no model at `path`.
    """
    found = find_own(path)
    place = Path(path) if found is None else find_model(found)
    model = load(place)
    _, tokenizer = model.built()
    settings = model.describe()["settings"]
    about: dict[str, Any] = {"path": str(place), "tasks": settings["tasks"], "backbone": settings["backbone"]}
    about["architecture"], about["parameters"] = architecture(model), count_parameters(model)
    languages = list(tokenizer.languages)
    about["tokenizer"] = {"kind": tokenizer.kind, "vocab_size": len(tokenizer), "languages": languages}
    if not place.is_file():
        about["scores"] = read_metrics(place).get("scores", {})
    else:
        checkpoint = read_checkpoint(place)
        about["step"], about["epoch"] = checkpoint.get("global_step"), checkpoint.get("epoch")
        with refusing(place):
            monitor, scores = scores_of(checkpoint)
        about["scores"] = {f"{monitor} at step {step}": score for step, score in scores.items()}
    with refusing(place):
        about["training"], about["story"] = training(model), model.story.plain()
    about["checkpoints"] = list(map(str, checkpoints(Path(path))))
    return about


def count_parameters(model: Model) -> dict[str, int]:
    """Count the parameters of each part of a model; parameters that layers share count once."""
    backbone, _ = model.built()
    embedding = sum(own.numel() for name, own in backbone.named_parameters() if name == "embedding.weight")
    inside = sum(parameter.numel() for parameter in backbone.parameters())
    heads = sum(parameter.numel() for parameter in model.heads.parameters())
    return {"total": inside + heads, "embedding": embedding, "backbone": inside - embedding, "heads": heads}


def as_text(about: Mapping[str, Any]) -> str:
    """Return a description as aligned lines for people: what the model does and is, how it was trained, its scores."""
    tasks = from_plain(about["tasks"])
    total, *parts = (f"{number:,} {part}" for part, number in about["parameters"].items())
    tokenizer, files, step = about["tokenizer"], about["checkpoints"], about.get("step")
    story = Story.of(about["story"])
    main = {f"{name}/{task.main_metric}" for name, task in tasks.items()} | {"score"}
    scores = [
        f"{name} {value:.2f}"
        for name, value in about["scores"].items()
        if value is not None and (step is not None or name.partition("/")[2] in main)  # a checkpoint has only its own
    ]
    lines = {
        "model": [about["path"]],
        "tasks": [f"{name}: {task.sentence}" for name, task in tasks.items()],
        "backbone": [about["architecture"]],
        "parameters": [f"{total}: {', '.join(parts)}"],
        "tokenizer": ["  ".join([tokenizer["kind"], f"{tokenizer['vocab_size']:,} tokens", *tokenizer["languages"]])],
        "training": about["training"] or ([count(step, "step")] if step is not None else []),
        "data": [f"{each.task} {each.split}: {each.source}, {count(each.rows, 'row')}" for each in story.data],
        "scores": [", ".join(scores)] if scores else [],
        "checkpoints": [f"{Path(files[0]).parent}: {', '.join(Path(file).name for file in files)}"] if files else [],
    }
    return "\n".join(
        f"{'' if number else label:<13}{text}" for label, texts in lines.items() for number, text in enumerate(texts)
    )
