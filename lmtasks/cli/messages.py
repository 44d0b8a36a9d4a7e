"""What `fit` and its kin say on stderr: our own lines, and of Lightning's those that help a user."""

from __future__ import annotations

import logging
import sys
import warnings

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lmtasks.training.module import TaskModule

NOISE = (
    "\N{ELECTRIC LIGHT BULB} Tip:",
    "-----",  # a frame around the number of processes
    "GPU available",
    "Initializing distributed",
    "Loaded model weights",
    "Restor",
    "Running in `fast_dev_run`",
    "Seed set",
    "TPU available",
    "Using ",
    "[rank: ",
    "`Trainer(",
)  # how lines begin that Lightning logs and that help nobody
TALKERS = (
    "pytorch.utilities.rank_zero",
    "fabric.utilities.rank_zero",
    "fabric.utilities.seed",
    "fabric.utilities.distributed",
)


@rank_zero_only
def say(line: str) -> None:
    """Print a line, in the first process only."""
    print(line, file=sys.stderr, flush=True)


def quiet() -> None:
    """Let our own log be seen, and drop what Lightning says that is not for this user."""
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    logging.getLogger("lmtasks").setLevel(logging.WARNING if getattr(rank_zero_only, "rank", 0) else logging.INFO)
    for name in TALKERS:
        logging.getLogger(f"lightning.{name}").addFilter(lambda record: not record.getMessage().startswith(NOISE))
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")  # the plan is, by the step number
    warnings.filterwarnings("ignore", message=".*callbacks used to create the checkpoint.*")  # evaluation needs none
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")  # scores are gathered: the same on all processes
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning's own call of a name that torch renamed
    warnings.filterwarnings("ignore", message=".*exists and is not empty.*")  # all share the run folder
    warnings.filterwarnings("ignore", message=".*across ranks is zero.*")  # the plan gives each process its share
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")  # a pass may be a few steps


class Sizes(Callback):
    """Say how large the model is, when it is built."""

    def on_fit_start(self, trainer: Trainer, pl_module: TaskModule) -> None:  # type: ignore[override]
        """Print one line."""
        parameters = sum(parameter.numel() for parameter in pl_module.parameters())
        name, tokens = type(pl_module.backbone).__name__, len(pl_module.tokenizer or ())
        device = pl_module.device.type if trainer.world_size == 1 else f"{trainer.world_size} x {pl_module.device.type}"
        say(f"model: {name}, {parameters:,} parameters, {tokens:,} tokens, on {device}")
