"""What `fit` does when training has ended: test the best weights, write the model folder, say what to type next."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from lmtasks.cli.messages import say
from lmtasks.data.module import TextDataModule
from lmtasks.module import TaskModule
from lmtasks.saving import MODEL, save
from lmtasks.training.averaging import CheckpointAverage
from lmtasks.training.checkpoints import read_checkpoint
from lmtasks.training.progress import score_table


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
    scores = _score(trainer, module, data)
    if not trainer.is_global_zero:
        return 0
    save(module, folder / MODEL, scores)
    if scores:
        print(score_table(scores))
        print_signatures(module)
    say(f'model: {folder / MODEL}\ntry it: lmtasks run {folder} "A sentence."')
    return 0


def print_signatures(module: TaskModule) -> None:
    """Say how the scores were computed."""
    for name, signature in module.signatures.items():
        say(f"{name}: {signature}")


def _score(trainer: Trainer, module: TaskModule, data: TextDataModule) -> Mapping[str, float]:
    """Return the scores on the test split, else on the validation split, nothing where there is neither."""
    for split, evaluate in (("test", trainer.test), ("validation", trainer.validate)):
        if data.rows.path(split) is not None:
            (scores,) = evaluate(module, datamodule=data, verbose=False)
            return scores
    return {}
