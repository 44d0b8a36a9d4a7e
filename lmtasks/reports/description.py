"""Describe a model from its run folder, model folder or checkpoint: as data, and as lines for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmtasks.export.exported import describe_export, is_export, size_of
from lmtasks.model import Model
from lmtasks.settings import from_plain
from lmtasks.storage.card import architecture, training
from lmtasks.storage.checkpoint import checkpoints, find_model, read_checkpoint, read_metrics, scores_of
from lmtasks.storage.model_folder import find_own, load
from lmtasks.storage.reading import refusing
from lmtasks.story import Story, count
from lmtasks.tasks.base import Task


def describe(path: str) -> dict[str, Any]:
    """Return what the model at `path` is, as plain data.

    Raises: InputError if there is no model at `path`.
    """
    found = find_own(path)
    if found is not None and is_export(found):
        return _describe_export(found)
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


def _describe_export(folder: Path) -> dict[str, Any]:
    """Return what an export is."""
    export = describe_export(folder)
    facts = {"name": export.engine, "precision": export.precision, "bytes": size_of(folder)}
    return {"path": str(folder), **{name: export.settings[name] for name in ("tasks", "backbone")}, "engine": facts}


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
    lines = {"model": [about["path"]], "tasks": [f"{name}: {task.sentence}" for name, task in tasks.items()]}
    if engine := about.get("engine"):
        lines["engine"] = [f"{engine['name']}, {engine['precision']}, {engine['bytes'] / 1e6:,.1f} MB"]
    else:
        lines |= _lines(about, tasks)
    return "\n".join(
        f"{'' if number else label:<13}{text}" for label, texts in lines.items() for number, text in enumerate(texts)
    )


def _lines(about: Mapping[str, Any], tasks: Mapping[str, Task]) -> dict[str, list[str]]:
    """Return what is known of a model in torch, by label."""
    total, *parts = (f"{number:,} {part}" for part, number in about["parameters"].items())
    tokenizer, files, step = about["tokenizer"], about["checkpoints"], about.get("step")
    story = Story.of(about["story"])
    main = {f"{name}/{task.main_metric}" for name, task in tasks.items()} | {"score"}
    scores = [
        f"{name} {value:.2f}"
        for name, value in about["scores"].items()
        if value is not None and (step is not None or name.partition("/")[2] in main)  # a checkpoint has only its own
    ]
    return {
        "backbone": [about["architecture"]],
        "parameters": [f"{total}: {', '.join(parts)}"],
        "tokenizer": ["  ".join([tokenizer["kind"], f"{tokenizer['vocab_size']:,} tokens", *tokenizer["languages"]])],
        "training": about["training"] or ([count(step, "step")] if step is not None else []),
        "data": [f"{each.task} {each.split}: {each.source}, {count(each.rows, 'row')}" for each in story.data],
        "scores": [", ".join(scores)] if scores else [],
        "checkpoints": [f"{Path(files[0]).parent}: {', '.join(Path(file).name for file in files)}"] if files else [],
    }
