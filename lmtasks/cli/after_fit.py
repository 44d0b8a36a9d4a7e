"""What `fit` does when training has ended: test the best weights, write the model folder, say what to type next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    trainer: Trainer, module: TaskModule, data: TextDataModule, folder: Path, average: CheckpointAverage | None
) -> int:
    """Take the best weights (or the average of checkpoints), score and save them; every process calls it."""
    kept: Any = trainer.checkpoint_callback  # Checkpoints, or what the config has instead
    if kept is None:
        say("nothing was saved: enable_checkpointing is off")
        return 0
    weights = average.weights(kept) if average else read_checkpoint(kept.best_model_path)["state_dict"]
    module.load_state_dict(weights)
    _say_what_is_missing(module, data, averaged=average is not None)
    scores = _score(trainer, module, data)
    if not trainer.is_global_zero:
        return 0
    save(module, folder / MODEL, scores)
    if scores:
        print_scores(module, scores)
        draw_scores(module, folder)
    say(f"model: {folder / MODEL}")
    for trial in module.example_commands(folder):
        say(f"try it: {trial}")
    return 0


def print_scores(module: TaskModule, scores: Mapping[str, float]) -> None:
    """Print the scores, what a task has to say beside them, and how they were computed."""
    print(score_table(scores, {name: task.main_metric for name, task in module.tasks.items()}))
    for name, predictions in module.predictions.items():
        if table := module.tasks[name].table(predictions):
            print(f"\n{name}\n{table}" if len(module.tasks) > 1 else f"\n{table}")
    for name, signature in module.signatures.items():
        say(f"{name}: {signature}")


def draw_scores(module: TaskModule, folder: Path) -> None:
    """Let the tasks draw what pictures they have of the last evaluation, where matplotlib is installed."""
    if find_spec("matplotlib"):
        for name, predictions in module.predictions.items():
            place = folder if len(module.tasks) == 1 else folder / name
            place.mkdir(exist_ok=True)
            for picture in module.tasks[name].draw(predictions, place):
                say(f"picture: {picture}")
            if not any(place.iterdir()):
                place.rmdir()


def _say_what_is_missing(module: TaskModule, data: TextDataModule, averaged: bool) -> None:
    """Say what follows from splits that the data do not have."""
    validated, tested = (data.has(split) for split in ("validation", "test"))
    model = "an average of checkpoints" if averaged else "that of the last checkpoint"
    if not (validated or tested):
        say(f"no validation rows and no test rows: there are no scores, and the model is {model}")
    elif not validated:
        say(f"no validation rows: no checkpoint counts as the best, and the model is {model}")
    elif not tested:
        say("no test rows: the scores are of the validation rows, by which checkpoints are chosen too")
    elif untested := _untested(module, data):
        say(f"no test rows of {', '.join(untested)}: scored on validation rows, by which checkpoints are chosen too")
    lacking = [name for name in module.tasks if not (data.has("test", name) or data.has("validation", name))]
    if lacking and (validated or tested):
        say(f"no validation rows and no test rows of {', '.join(lacking)}: not scored")


def _score(trainer: Trainer, module: TaskModule, data: TextDataModule) -> dict[str, float]:
    """Return the scores on the test rows, and on the validation rows those of tasks without test rows.

    `module.predictions` then are those rows, of all tasks in their order.
    """
    scores: dict[str, float] = {}
    predictions: dict[str, list[Prediction]] = {}
    if data.has("test"):
        scores = _scores_of(trainer.test(module, datamodule=data, verbose=False))
        predictions = module.predictions
    if untested := _untested(module, data):
        found = _scores_of(trainer.validate(module, datamodule=data, verbose=False))
        kept = untested if data.has("test") else [*untested, SCORE]
        scores |= {name: value for name, value in found.items() if name.split("/")[1] in kept}
        predictions |= {name: module.predictions[name] for name in untested if name in module.predictions}
    module.predictions = {name: predictions[name] for name in module.tasks if name in predictions}
    return scores


def _scores_of(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return what an evaluation found; nothing where `limit_test_batches` or `limit_val_batches` is 0."""
    return dict(found[0]) if found else {}


def _untested(module: TaskModule, data: TextDataModule) -> list[str]:
    """Return the tasks that have validation rows and no test rows."""
    return [name for name in module.tasks if data.has("validation", name) and not data.has("test", name)]
