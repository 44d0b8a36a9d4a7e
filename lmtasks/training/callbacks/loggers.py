"""metrics.csv and TensorBoard: the loggers of a run, and what a resume keeps of the rows before it."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lmtasks.storage import METRICS_FILE


def metrics_loggers(folder: Path) -> list[Logger]:
    """Return the loggers of a run: metrics.csv, and TensorBoard's events where it is installed."""
    loggers: list[Logger] = [CSVLogger(folder, name="", version="")]
    if find_spec("tensorboard"):
        loggers.append(Events(folder, name="", version="", default_hp_metric=False))
    return loggers


class Events(TensorBoardLogger):
    """TensorBoard's events, without the empty hparams.yaml that Lightning writes beside them: see config.yaml."""

    def save(self) -> None:
        """Flush the events."""
        super(TensorBoardLogger, self).save()


@rank_zero_only
def continue_metrics(loggers: Iterable[Logger], step: int) -> None:
    """Let metrics.csv begin with its rows of the first `step` optimiser steps; those after are computed anew.

    CSVLogger deletes the file that it finds: it gets those rows as its own. The other processes write no file.
    """
    for logger in loggers:
        if not isinstance(logger, CSVLogger):
            continue
        file = Path(logger.log_dir) / METRICS_FILE
        if kept := _rows_before(step, file):
            logger.experiment.metrics.extend(kept)
            logger.save()


def _rows_before(step: int, file: Path) -> list[dict]:
    """Return the rows of the steps 0 to `step` - 1; a row that a kill cut off may lack its step."""
    if not file.is_file():
        return []
    with file.open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["step"] and int(row["step"]) < step]
    return [{name: value for name, value in row.items() if value} for row in rows]
