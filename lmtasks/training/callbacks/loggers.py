"""The loggers of a run, metrics.csv and TensorBoard, and the rows of metrics.csv that a resume keeps."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lmtasks.storage import METRICS_FILE


def metrics_loggers(folder: Path) -> list[Logger]:
    """Return the loggers of a run: metrics.csv, and TensorBoard's events if it is installed."""
    loggers: list[Logger] = [CSVLogger(folder, name="", version="")]
    if find_spec("tensorboard"):
        loggers.append(Events(folder, name="", version="", default_hp_metric=False))
    return loggers


class Events(TensorBoardLogger):
    """TensorBoard's events, without the empty hparams.yaml that Lightning writes beside them: see config.yaml."""

    def save(self) -> None:
        """Flush the events."""
        super(TensorBoardLogger, self).save()  # that of Lightning Fabric, which writes no hparams.yaml


@rank_zero_only
def continue_metrics(loggers: Iterable[Logger], step: int) -> None:
    """Keep the rows of the first `step` optimiser steps in metrics.csv; a resumed run computes the later ones again.

    CSVLogger deletes the file that it finds, so it is given those rows as its own. The other processes write no file.
    """
    for logger in loggers:
        if not isinstance(logger, CSVLogger) or not (file := Path(logger.log_dir) / METRICS_FILE).is_file():
            continue
        with file.open(encoding="utf-8", newline="") as lines:
            # a row that a kill cut off may have no step
            rows = [row for row in csv.DictReader(lines) if row["step"] and int(row["step"]) < step]
        if rows:
            logger.experiment.metrics.extend({name: value for name, value in row.items() if value} for row in rows)
            logger.save()
