"""The loggers of a run: metrics.csv, which a resumed run goes on with, and TensorBoard's events."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import _DummyExperiment, rank_zero_experiment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lmtasks.errors import InputError
from lmtasks.storage import METRICS_FILE
from lmtasks.training.callbacks.checkpoints import replacing

Line = dict[str, str]


class MetricsFile(Logger, Callback):
    """Write metrics.csv; a resumed run keeps the rows that were in it when its checkpoint was saved.

    It is logger and callback: as a callback it keeps in checkpoints how many rows there were. A kill loses no row:
    Lightning's CSVLogger deletes the file of a resumed run, and rewrites it in place when a column comes.
    """

    def __init__(self, folder: Path) -> None:
        """Set the folder of metrics.csv. Nothing is written, nor are rows dropped, before the first new row."""
        super().__init__()
        self.file = folder / METRICS_FILE
        self._rows = 0  # in the file, or those of it that are to be kept
        self._columns: list[str] | None = None  # None = this process has not written yet

    @property
    def name(self) -> str:
        """Return no name: the run folder has it."""
        return ""

    @property
    def version(self) -> str:
        """Return no version."""
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Write nothing: see config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add a row.

        Raises: InputError if it cannot be written.
        """
        row = {name: str(value) for name, value in {**metrics, "step": step}.items()}
        if self._columns is None or not row.keys() <= set(self._columns):
            kept = self._kept()
            self._rewrite([*kept, row])
            self._rows = len(kept)  # a checkpoint of another run may count other rows
        else:
            try:
                with self.file.open("a", encoding="utf-8", newline="") as lines:
                    csv.DictWriter(lines, self._columns).writerow(row)
            except OSError as error:
                raise InputError(f"{self.file}: cannot be written: {error.strerror}; free space, or mend it") from error
        self._rows += 1

    def state_dict(self) -> dict[str, Any]:
        """Return the number of rows."""
        return {"rows": self._rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep as many rows as there were."""
        self._rows = state_dict["rows"]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the rows of the steps done, where a checkpoint of an earlier version does not tell their number."""
        if self.state_key not in checkpoint["callbacks"]:
            step = checkpoint["global_step"]
            self._rows = sum(int(row.get("step") or step) < step for row in self._read())

    def _kept(self) -> list[Line]:
        """Return the rows of the file that are kept, without their empty cells."""
        rows = self._read()[: self._rows] if self._rows else []
        return [{name: value for name, value in row.items() if name and value} for row in rows]

    def _read(self) -> list[Line]:
        if not self.file.is_file():
            return []
        with self.file.open(encoding="utf-8", newline="") as lines:
            return list(csv.DictReader(lines))

    def _rewrite(self, rows: list[Line]) -> None:
        self._columns = sorted(set().union(*rows))
        text = io.StringIO(newline="")
        lines = csv.DictWriter(text, self._columns)
        lines.writeheader()
        lines.writerows(rows)
        with replacing(self.file) as file:
            file.write(text.getvalue().encode())


def metrics_loggers(folder: Path) -> list[Logger]:
    """Return the loggers of a run: metrics.csv, and TensorBoard's events if it is installed."""
    loggers: list[Logger] = [MetricsFile(folder)]
    if find_spec("tensorboard"):
        loggers.append(Events(folder, name="", version="", default_hp_metric=False))
    return loggers


class Events(TensorBoardLogger):
    """TensorBoard's events, without the empty hparams.yaml that Lightning writes beside them: see config.yaml."""

    _begun = False

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """Return the writer of the events, from the first metrics on: a resume that is refused makes no file."""
        return super().experiment if self._begun else _DummyExperiment()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write metrics as events."""
        self._begun = True
        super().log_metrics(metrics, step)

    def save(self) -> None:
        """Flush the events."""
        super(TensorBoardLogger, self).save()  # that of Lightning Fabric, which writes no hparams.yaml
