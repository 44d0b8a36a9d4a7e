"""Samples: some rows of each validation with their answers, on the terminal and in samples.txt."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lmtasks.evaluation import Sample

FILE = "samples.txt"


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
            print(samples_text(pl_module.samples, self.shown), file=sys.stderr, flush=True)
        with (Path(trainer.default_root_dir) / FILE).open("a", encoding="utf-8") as file:
            print(f"== {title}\n\n{samples_text(pl_module.samples, self.kept)}", file=file)


def samples_text(samples: Mapping[str, Sequence[Sample]], count: int) -> str:
    """Return `count` rows of each task, spread evenly over the data, for people to read."""
    every = {task: max(1, len(rows) // max(1, count)) for task, rows in samples.items()}
    chosen = [(task, row) for task, rows in samples.items() for row in rows[:: every[task]][:count]]
    return "\n".join(
        f"  {task}\n    source      {row.text}\n    reference   {row.reference}\n    prediction  {row.prediction}"
        for task, row in chosen
    )
