"""What `fit` does when training has ended: score the best weights, write the model folder, say what to type next."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from lmtasks.cli.messages import say
from lmtasks.data.readers.table import Files
from lmtasks.reports.tables import SCORE, score_table
from lmtasks.storage import MODEL
from lmtasks.storage.card import Portion, Story, count
from lmtasks.storage.checkpoint import read_checkpoint
from lmtasks.storage.model_folder import save
from lmtasks.tasks.base import Prediction
from lmtasks.training.callbacks.averaging import CheckpointAverage
from lmtasks.training.datamodule import TextDataModule
from lmtasks.training.module import TaskModule


def finish(
    trainer: Trainer,
    module: TaskModule,
    data: TextDataModule,
    folder: Path,
    average: CheckpointAverage | None,
    seconds: float,
) -> int:
    """Load the best weights or the average of checkpoints, score and save them; every process calls it.

    `seconds` is how long the training took.
    """
    kept: Any = trainer.checkpoint_callback  # Checkpoints, or what the config has instead
    if kept is None:
        say("nothing was saved: enable_checkpointing is off")
        return 0
    weights = average.weights(kept) if average else read_checkpoint(kept.best_model_path)["state_dict"]
    module.load_state_dict(weights)
    used = (
        f"the average of {len(average.paths(kept))} checkpoints, the {average.of} ones"
        if average
        else kept.best_model_path
    )
    say(f"weights: {used}")
    untested = [name for name in module.tasks if data.has("validation", name) and not data.has("test", name)]
    model = "an average of checkpoints" if average else "that of the last checkpoint"
    for line in _missing_splits(list(module.tasks), untested, data, model):
        say(line)
    story = _story(trainer, module, data, untested, seconds)
    scores = _score(trainer, module, data, untested)
    if not trainer.is_global_zero:
        return 0
    save(module, folder / MODEL, scores, replace(story, data=_portions(module, data)))
    if scores:
        print_scores(module, scores)
        _draw_predictions(module, folder)
    say(f"model: {folder / MODEL}")
    for command in module.example_commands(folder):
        say(f"try it: {command}")
    return 0


def _story(trainer: Trainer, module: TaskModule, data: TextDataModule, untested: list[str], seconds: float) -> Story:
    """Return what the model card tells of the training that has ended."""
    training, steps = module.training_config, trainer.global_step
    settings = (
        f"{type(training.optimizer).__name__} at a rate of {training.optimizer.lr:g}, {training.schedule.kind} "
        f"schedule, {count(steps, 'step')} of {count(data.tokens_per_step, 'padded token')}, precision "
        f"{trainer.precision}, seed {data.seed}."
    )
    machine = f"{count(trainer.num_devices * trainer.num_nodes, 'device')} ({module.device.type})"
    if module.device.type == "cpu":
        machine += f" with {count(torch.get_num_threads(), 'thread')} each"
    cost = f"The training took {max(1, round(seconds / 60))} min on {machine}."
    if peak := peak_memory():
        cost += f" The largest memory of a process was {peak / 1e9:.1f} GB."
    base, family = "", getattr(module.origin, "family", None)
    if family is not None:
        revision = module.origin.revision if module.origin else None
        base = family.folder.name + (f"@{revision}" if revision else "")
    return Story((), steps, settings, cost, base, tuple(untested))


def _portions(module: TaskModule, data: TextDataModule) -> tuple[Portion, ...]:
    """Return the rows that the model learned from and was scored on."""
    portions = []
    for name in module.tasks:
        rows = data.rows_of(name)
        for split in ("train", "validation", "test"):
            examples = data.examples.get(split, {}).get(name)
            if examples is not None:
                files = rows.paths(split) if isinstance(rows, Files) else []
                known = bool(files) and all(map(os.path.isfile, files))
                source = ", ".join(Path(file).name for file in files) if known else rows.path(split) or ""
                if not isinstance(rows, Files):
                    source = f"{type(rows).__name__}, {split}"  # such as the built-in corpus
                hashed = digest(files) if known else hashlib.sha256(rows.fingerprint(split).encode()).hexdigest()[:12]
                portions.append(Portion(name, split, source, examples.tokenized.rows, hashed))
    return tuple(portions)


def digest(files: Sequence[str]) -> str:
    """Return the first twelve digits of the SHA-256 of a file, or of the digests of several."""
    parts = []
    for name in files:
        with open(name, "rb") as file:
            parts.append(hashlib.file_digest(file, "sha256").hexdigest())
    whole = parts[0] if len(parts) == 1 else hashlib.sha256("".join(parts).encode()).hexdigest()
    return whole[:12]


def peak_memory() -> int:
    """Return the largest memory of this process so far, in bytes; 0 where it is not known."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def print_scores(module: TaskModule, scores: Mapping[str, float]) -> None:
    """Print the scores, and each task's table, and how the scores were computed."""
    print(score_table(scores, {name: task.main_metric for name, task in module.tasks.items()}))
    for name, predictions in module.predictions.items():
        if table := module.tasks[name].table(predictions):
            print(f"\n{name}\n{table}" if len(module.tasks) > 1 else f"\n{table}")
    for name, signature in module.signatures.items():
        say(f"{name}: {signature}")


def _draw_predictions(module: TaskModule, folder: Path) -> None:
    """Draw the pictures that tasks have of the last evaluation, where matplotlib is installed."""
    for name, predictions in module.predictions.items() if find_spec("matplotlib") else ():
        place = folder if len(module.tasks) == 1 else folder / name
        place.mkdir(exist_ok=True)
        for picture in module.tasks[name].draw(predictions, place):
            say(f"picture: {picture}")
        if not any(place.iterdir()):
            place.rmdir()


def _missing_splits(tasks: list[str], untested: list[str], data: TextDataModule, model: str) -> list[str]:
    """Return a line for each missing split, with what that means for the scores and the model."""
    if not (data.has("validation") or data.has("test")):
        return [f"no validation rows and no test rows: there are no scores, and the model is {model}"]
    lines, biased = [], "by which checkpoints are chosen too"
    if not data.has("validation"):
        lines = [f"no validation rows: no checkpoint counts as the best, and the model is {model}"]
    elif not data.has("test"):
        lines = [f"no test rows: the scores are of the validation rows, {biased}"]
    elif untested:
        lines = [f"no test rows of {', '.join(untested)}: scored on validation rows, {biased}"]
    unscored = ", ".join(name for name in tasks if not (data.has("test", name) or data.has("validation", name)))
    return [*lines, f"no validation rows and no test rows of {unscored}: not scored"] if unscored else lines


def _score(trainer: Trainer, module: TaskModule, data: TextDataModule, untested: list[str]) -> dict[str, float]:
    """Return the scores on the test rows, and on the validation rows those of untested tasks.

    `module.predictions` is set to the predictions of those rows, in the order of the tasks. An evaluation finds nothing
    where `limit_test_batches` or `limit_val_batches` is 0.
    """
    scores: dict[str, float] = {}
    predictions: dict[str, list[Prediction]] = {}
    if data.has("test"):
        scores = dict(*trainer.test(module, datamodule=data, verbose=False))
        predictions = module.predictions
    if untested:
        found: dict[str, float] = dict(*trainer.validate(module, datamodule=data, verbose=False))
        kept = untested if data.has("test") else [*untested, SCORE]
        scores |= {name: value for name, value in found.items() if name.split("/")[1] in kept}
        predictions |= {name: module.predictions[name] for name in untested if name in module.predictions}
    module.predictions = {name: predictions[name] for name in module.tasks if name in predictions}
    return scores
