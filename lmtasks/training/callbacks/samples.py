"""Samples: some rows of each validation with their answers, on the terminal and in samples.txt."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer

from lmtasks.tasks.base import Prediction

if TYPE_CHECKING:
    from lmtasks.training.module import TaskModule

FILE = "samples.txt"
LONGEST = 600  # characters of a text that are shown


class Samples(Callback):
    """Print the same rows at each validation, which shows progress; write more rows to the run folder."""

    def __init__(self, shown: int = 2, kept: int = 20) -> None:
        """Set how many rows of each task are printed to stderr (`shown`) and written to samples.txt (`kept`)."""
        self.shown, self.kept = shown, kept
        self._size: int | None = None  # bytes of samples.txt that a resumed run keeps; None = all

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the answers of the validation or test that has just been scored."""
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        rows = cast("TaskModule", pl_module).predictions
        if self.shown:
            print(samples_text(rows, self.shown), file=sys.stderr, flush=True)
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        title = "test" if trainer.testing else f"validation at step {trainer.global_step}"
        with (folder / FILE).open("a", encoding="utf-8") as file:
            if self._size is not None and self._size < file.tell():
                file.truncate(self._size)
            print(f"== {title}\n\n{samples_text(rows, self.kept)}", file=file, flush=True)
            self._size = file.tell()

    on_test_end = on_validation_end

    def state_dict(self) -> dict[str, Any]:
        """Return the size of samples.txt."""
        return {"size": self._size or 0}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep what was in samples.txt."""
        self._size = state_dict["size"]


def samples_text(samples: Mapping[str, Sequence[Prediction]], count: int) -> str:
    """Return `count` rows of each task that have an answer, spread evenly over the data, for people to read.

    A row of a task with several groups, such as en-de and de-en, names its group.
    """
    lines = []
    for task, rows in samples.items():
        several = len({row.group for row in rows}) > 1
        answered = [row for row in rows if row.answer is not None]
        for row in answered[:: max(1, len(answered) // max(1, count))][:count]:
            lines += [
                f"  {task} {row.group}" if several else f"  {task}",
                f"    source      {_line(row.text)}",
                f"    reference   {_line(row.reference)}",
                f"    prediction  {_line(row.prediction)}",
            ]
    return "\n".join(lines)


def _line(text: str) -> str:
    """Return a text on one line, only the ends of a very long one, and (none) for an empty one."""
    line = text.replace("\n", " ⏎ ") or "(none)"
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"
