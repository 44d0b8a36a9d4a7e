"""What `fit` does when training has ended: test the best weights, write the model folder, say what to type next."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from lmtasks.cli.messages import say
from lmtasks.data.module import TextDataModule
from lmtasks.module import TaskModule
from lmtasks.saved import MODEL
from lmtasks.saving import save
from lmtasks.training.averaging import CheckpointAverage
from lmtasks.training.checkpoints import read_checkpoint
from lmtasks.training.scores import score_table


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
    _say_what_is_missing(data, averaged=average is not None)
    scores = _score(trainer, module, data)
    if not trainer.is_global_zero:
        return 0
    save(module, folder / MODEL, scores)
    if scores:
        print_scores(module, scores)
        draw_scores(module, folder)
    say(f"model: {folder / MODEL}")
    for trial in module.trials(folder):
        say(f"try it: {trial}")
    return 0


def print_scores(module: TaskModule, scores: Mapping[str, float]) -> None:
    """Print the scores, what a task has to say beside them, and how they were computed."""
    print(score_table(scores, {name: task.main_metric for name, task in module.tasks.items()}))
    for name, samples in module.samples.items():
        if table := module.tasks[name].table(samples):
            print(f"\n{name}\n{table}" if len(module.tasks) > 1 else f"\n{table}")
    for name, signature in module.signatures.items():
        say(f"{name}: {signature}")


def draw_scores(module: TaskModule, folder: Path) -> None:
    """Let the tasks draw what pictures they have of the last evaluation, where matplotlib is installed."""
    if find_spec("matplotlib"):
        for name, samples in module.samples.items():
            place = folder if len(module.tasks) == 1 else folder / name
            place.mkdir(exist_ok=True)
            for picture in module.tasks[name].draw(samples, place):
                say(f"picture: {picture}")


def _say_what_is_missing(data: TextDataModule, averaged: bool) -> None:
    """Say what follows from splits that the data do not have."""
    validated, tested = (data.has(split) for split in ("validation", "test"))
    model = "an average of checkpoints" if averaged else "that of the last checkpoint"
    if not (validated or tested):
        say(f"no validation rows and no test rows: there are no scores, and the model is {model}")
    elif not validated:
        say(f"no validation rows: no checkpoint counts as the best, and the model is {model}")
    elif not tested:
        say("no test rows: the scores are of the validation rows, by which checkpoints are chosen too")


def _score(trainer: Trainer, module: TaskModule, data: TextDataModule) -> Mapping[str, float]:
    """Return the scores on the test split, else on the validation split, nothing where there is neither."""
    for split, evaluate in (("test", trainer.test), ("validation", trainer.validate)):
        if data.has(split):
            (scores,) = evaluate(module, datamodule=data, verbose=False)
            return scores
    return {}
