"""A resumed run continues the random numbers of the saved run, so that dropout is the same."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_warn


class RandomState(Callback):
    """Keep the random state of every process in the checkpoint, so that a resumed run draws the same dropout.

    The state is restored if the number of processes is the same. Validation does not change it, so training does not
    depend on when and how a run is validated. A data loader draws its seed from the global state whenever it starts;
    give it a `generator` of its own if a resume at the end of an epoch has to be exact too.
    """

    def __init__(self) -> None:
        self._to_restore: dict[str, Any] | None = None
        self._before_validation: dict[str, Any] | None = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the state of each process into `checkpoint`; Lightning calls this on all of them."""
        # a checkpoint that is saved during validation holds the state of training
        own = self._before_validation or _random_state(pl_module.device)
        states = [own] * trainer.world_size
        if trainer.world_size > 1:
            dist.all_gather_object(states, own)
        checkpoint["random_state"] = states

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the state of this process out of `checkpoint`; training starts with it."""
        states = checkpoint.get("random_state", [])
        if len(states) == trainer.world_size:
            self._to_restore = states[trainer.global_rank]
        elif states:
            rank_zero_warn(
                f"The checkpoint has the random state of {len(states)} processes and this run has {trainer.world_size}:"
                " dropout will differ from that of an uninterrupted run."
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the state of the saved run."""
        # on_load_checkpoint is too early: numbers may be drawn between it and the start of training
        if self._to_restore is not None:
            _set_random_state(self._to_restore, pl_module.device)
            self._to_restore = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the state of training."""
        self._before_validation = _random_state(pl_module.device)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the state of training."""
        if self._before_validation is not None:
            _set_random_state(self._before_validation, pl_module.device)
            self._before_validation = None


def _random_state(device: torch.device) -> dict[str, Any]:
    """Return the state of torch, Python and numpy as tensors and plain values."""
    version, internal, gauss = random.getstate()
    numpy_state: Any = np.random.get_state()
    # lists, not tuples and arrays: a checkpoint is loaded with weights_only=True
    state = {
        "torch": torch.get_rng_state(),
        "python": [version, list(internal), gauss],
        "numpy": [numpy_state[0], numpy_state[1].tolist(), *numpy_state[2:]],
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_random_state(state: dict[str, Any], device: torch.device) -> None:
    version, internal, gauss = state["python"]
    name, key, *rest = state["numpy"]
    torch.set_rng_state(state["torch"].cpu())
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state((name, np.array(key, dtype=np.uint32), *rest))
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
