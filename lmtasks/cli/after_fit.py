"""What `fit` does when training has ended: score the best weights, write the model folder, say what to type next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from lmtasks.cli.messages import say
from lmtasks.reports.tables import SCORE, score_table
from lmtasks.storage import MODEL
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
) -> int:
    """Load the best weights or the average of checkpoints, score and save them; every process calls it."""
    kept: Any = trainer.checkpoint_callback  # Checkpoints, or what the config has instead
    if kept is None:
        say("nothing was saved: enable_checkpointing is off")
        return 0
    if average:
        weights, averaged = average.weights(kept), len(average.paths(kept))
        source = f"the average of {averaged} checkpoints, the {average.of} ones"
        module.story = replace(module.story, averaged=averaged)
    else:
        source = kept.best_model_path
        checkpoint = read_checkpoint(source)
        weights = checkpoint["state_dict"]
        module.story = replace(module.story, kept_step=checkpoint["global_step"])
    module.gather()
    module.load_state_dict(weights)
    say(f"weights: {source}")
    untested = [name for name in module.tasks if data.has("validation", name) and not data.has("test", name)]
    kept_model = "an average of checkpoints" if average else "that of the last checkpoint"
    for line in _missing_splits(list(module.tasks), untested, data, kept_model):
        say(line)
    scores = _score(trainer, module, data, untested)
    if not trainer.is_global_zero:
        return 0
    save(module, folder / MODEL, scores)
    if scores:
        print_scores(module, scores)
        _draw_predictions(module, folder)
    say(f"model: {folder / MODEL}")
    for command in module.example_commands(folder):
        say(f"try it: {command}")
    return 0


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
