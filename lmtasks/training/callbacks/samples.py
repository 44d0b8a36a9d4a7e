"""Samples: some rows of each validation with their answers, on the terminal and in samples.txt."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lmtasks.tasks.base import Prediction

FILE = "samples.txt"
LONGEST = 600  # characters of a text that are shown


class Samples(Callback):
    """Print the same rows at each validation, so that one sees the model learn; keep more of them in the run folder."""

    def __init__(self, shown: int = 2, kept: int = 20) -> None:
        """`shown` rows of each task go to stderr, `kept` to samples.txt."""
        self.shown, self.kept = shown, kept

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the answers of the validation that has just been scored."""
        self._show(trainer, pl_module, f"validation at step {trainer.global_step}")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the answers of the test."""
        self._show(trainer, pl_module, "test")

    def _show(self, trainer: Trainer, pl_module: Any, title: str) -> None:
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        if self.shown:
            print(samples_text(pl_module.predictions, self.shown), file=sys.stderr, flush=True)
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / FILE).open("a", encoding="utf-8") as file:
            print(f"== {title}\n\n{samples_text(pl_module.predictions, self.kept)}", file=file)


def samples_text(samples: Mapping[str, Sequence[Prediction]], count: int) -> str:
    """Return `count` rows of each task that have an answer, spread evenly over the data, for people to read."""
    return "\n".join(
        f"  {task}{_direction(rows, row)}\n    source      {_line(row.text)}\n    reference   {_line(row.reference)}\n"
        f"    prediction  {_line(row.prediction)}"
        for task, rows in samples.items()
        for row in _spread([row for row in rows if row.answer is not None], count)
    )


def _direction(rows: Sequence[Prediction], row: Prediction) -> str:
    """Say of which kind a row is, such as en-de, where the task has several."""
    return f" {row.group}" if any(other.group != row.group for other in rows) else ""


def _spread(rows: Sequence[Prediction], count: int) -> Sequence[Prediction]:
    return rows[:: max(1, len(rows) // max(1, count))][:count]


def _line(text: str) -> str:
    """Show a text of several lines on one, of a very long one the ends, and that there is none."""
    line = text.replace("\n", " ⏎ ") or "(none)"
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"
