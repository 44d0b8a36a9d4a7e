"""`lmtasks info`: what a run folder, a model folder or a checkpoint is."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmtasks.model import Model

HELP = "say what a run, model folder or checkpoint is"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="run folder, model folder or .ckpt file")
    parser.add_argument("--json", action="store_true", help="print a JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Print what is known and return the exit status."""
    about = describe(arguments.model)
    print(json.dumps(about, indent=2, ensure_ascii=False) if arguments.json else as_text(about))
    return 0


def describe(path: str) -> dict[str, Any]:
    """Return what the model at `path` is, as plain data.

    Raises:
        InputError: If there is no model at `path`.
    """
    from lmtasks.storage.checkpoint import METRICS, checkpoints, find_model, read_checkpoint, scores_of
    from lmtasks.storage.model_folder import load

    place = find_model(path)
    model = load(place)
    about: dict[str, Any] = {"path": str(place), "tasks": model.describe()["settings"]["tasks"]}
    about["backbone"] = model.describe()["settings"]["backbone"]
    about["parameters"] = parameters(model)
    about["tokenizer"] = tokenizer(model)
    if place.is_dir():
        metrics = place / METRICS
        about["scores"] = json.loads(metrics.read_text(encoding="utf-8"))["scores"] if metrics.is_file() else {}
    else:
        checkpoint = read_checkpoint(place)
        about["step"], about["epoch"] = checkpoint.get("global_step"), checkpoint.get("epoch")
        monitor, scores = scores_of(checkpoint)
        about["scores"] = {f"{monitor} at step {step}": score for step, score in scores.items()}
    about["checkpoints"] = list(map(str, checkpoints(Path(path))))
    return about


def parameters(model: Model) -> dict[str, int]:
    """Count the parameters of each part, shared ones once."""
    assert model.backbone is not None
    embedding = model.backbone.embedding.weight.numel()
    backbone = sum(parameter.numel() for parameter in model.backbone.parameters())
    heads = sum(parameter.numel() for parameter in model.heads.parameters())
    return {"total": backbone + heads, "embedding": embedding, "backbone": backbone - embedding, "heads": heads}


def tokenizer(model: Model) -> dict[str, Any]:
    """Return kind, size and languages of the tokenizer."""
    assert model.tokenizer is not None
    return {
        "kind": model.tokenizer.kind,
        "vocab_size": len(model.tokenizer),
        "languages": list(model.tokenizer.languages),
    }


def as_text(about: Mapping[str, Any]) -> str:
    """Return the description as aligned lines."""
    lines = [("model", about["path"])]
    lines += [("task", f"{name}: {_settings(task)}") for name, task in about["tasks"].items()]
    lines.append(("backbone", _settings(about["backbone"])))
    lines += [("parameters", f"{count:>12,}  {part}") for part, count in about["parameters"].items()]
    lines.append(
        ("tokenizer", "  ".join(f"{key} {_plain(value)}" for key, value in about["tokenizer"].items() if value))
    )
    if about.get("step") is not None:
        lines.append(("trained", f"{about['step']:,} steps"))
    lines += [("score", f"{value:>12.4f}  {name}") for name, value in about["scores"].items() if value is not None]
    lines += [("checkpoint", file) for file in about["checkpoints"]]
    return "\n".join(_label(lines, number) for number in range(len(lines)))


def _settings(described: Mapping[str, Any]) -> str:
    """Return {"class_path": ..., "init_args": ...} as "Class  name value  name value", without what is empty."""
    name = described["class_path"].rpartition(".")[2]
    given = {key: value for key, value in described["init_args"].items() if value not in (None, "", [], {})}
    return "  ".join([name, *(f"{key} {_plain(value)}" for key, value in given.items())])


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _label(lines: list[tuple[str, str]], number: int) -> str:
    """Return one line; a label is written once for the lines that share it."""
    label, text = lines[number]
    repeated = number > 0 and lines[number - 1][0] == label
    return f"{'' if repeated else label:<12}{text}"
