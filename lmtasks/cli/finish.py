"""What `fit` does when training has ended: test the best weights, write the model folder, say what to type next."""

from __future__ import annotations

import csv
import sys
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

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
        print("nothing was saved: enable_checkpointing is off", file=sys.stderr)
        return 0
    weights = average.weights(kept) if average else read_checkpoint(kept.best_model_path)["state_dict"]
    module.load_state_dict(weights)
    scores = _score(trainer, module, data)
    if not trainer.is_global_zero:
        return 0
    save(module, folder / MODEL, scores)
    if scores:
        print(score_table(scores))
    print(f'model: {folder / MODEL}\ntry it: lmtasks run {folder} "A sentence."', file=sys.stderr)
    return 0


def _score(trainer: Trainer, module: TaskModule, data: TextDataModule) -> Mapping[str, float]:
    """Return the scores on the test split, else on the validation split, nothing where there is neither."""
    for split, evaluate in (("test", trainer.test), ("validation", trainer.validate)):
        if data.rows.path(split) is not None:
            (scores,) = evaluate(module, datamodule=data, verbose=False)
            return scores
    return {}


def metrics_loggers(folder: Path) -> list[Logger]:
    """Return the loggers of a run: metrics.csv, and TensorBoard's events where it is installed."""
    loggers: list[Logger] = [_metrics_file(folder)]
    if find_spec("tensorboard"):
        loggers.append(TensorBoardLogger(folder, name="", version="", default_hp_metric=False))
    return loggers


def _metrics_file(folder: Path) -> CSVLogger:
    """Return the logger of metrics.csv. It deletes the file of a run that is resumed: hand it those rows as its own."""
    file = folder / "metrics.csv"
    earlier = list(csv.DictReader(file.open(encoding="utf-8"))) if file.is_file() else []
    logger = CSVLogger(folder, name="", version="")
    if earlier:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logger.experiment.metrics.extend({name: value for name, value in row.items() if value} for row in earlier)
            logger.save()
    return logger
