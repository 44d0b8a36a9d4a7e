"""What the commands of `fit` write to stderr: our own lines, and those of Lightning's that help a user."""

from __future__ import annotations

import logging
import re
import sys
import warnings

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lmtasks.training.module import TaskModule

NOISE = re.compile(  # lines of Lightning's log that help nobody begin so; ----- frames the number of processes
    "\N{ELECTRIC LIGHT BULB} Tip:|-----|GPU available|Initializing distributed|Loaded model weights|Restor|Seed set|"
    r"Running in `fast_dev_run`|TPU available|Using |\[rank: |`Trainer\("
)
LOGS = ("pytorch.utilities.rank_zero", *(f"fabric.utilities.{log}" for log in ("rank_zero", "seed", "distributed")))
WARNINGS = (
    "does not have many workers",
    "your dataloader is not resumable",  # the plan is, by the step number
    "callbacks used to create the checkpoint",  # evaluation needs none
    "sync_dist=True",  # scores are gathered: they are the same on all processes
    "LeafSpec",  # Lightning itself calls a name that torch renamed
    "exists and is not empty",  # all processes and commands share the run folder
    "across ranks is zero",  # the plan gives each process its share
    "smaller than the logging interval",  # an epoch may be a few steps
)


@rank_zero_only
def say(line: str) -> None:
    """Print a line, in the first process only."""
    print(line, file=sys.stderr, flush=True)


def quiet() -> None:
    """Show our own log, and drop the lines and warnings of Lightning's that are not for a user of the commands."""
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    logging.getLogger("lmtasks").setLevel(logging.WARNING if getattr(rank_zero_only, "rank", 0) else logging.INFO)
    for name in LOGS:
        logging.getLogger(f"lightning.{name}").addFilter(lambda record: not NOISE.match(record.getMessage()))
    for part in WARNINGS:
        warnings.filterwarnings("ignore", message=f".*{part}.*")


class Sizes(Callback):
    """Print the size of the model when training starts."""

    def on_fit_start(self, trainer: Trainer, pl_module: TaskModule) -> None:  # type: ignore[override]
        """Print one line: backbone, parameters, vocabulary and device."""
        parameters = sum(parameter.numel() for parameter in pl_module.parameters())
        name, tokens = type(pl_module.backbone).__name__.removeprefix("FSDP"), len(pl_module.tokenizer or ())
        device = pl_module.device.type if trainer.world_size == 1 else f"{trainer.world_size} x {pl_module.device.type}"
        say(f"model: {name}, {parameters:,} parameters, {tokens:,} tokens, on {device}")
