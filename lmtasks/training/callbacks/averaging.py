"""Averages of weights: the mean of checkpoints, and the exponential moving average along the run.

Vaswani et al., "Attention Is All You Need" (2017), section 6.1, take the mean of the last 5 (base) or 20 (big)
checkpoints. The moving average warms up as in TensorFlow's `ExponentialMovingAverage`. Lightning's `WeightAveraging`
is not used: it calls `configure_model` before the module is set up, copies the whole module, and has no warm-up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from lmtasks.checked import Checked
from lmtasks.errors import InputError
from lmtasks.storage.checkpoint import read_checkpoint
from lmtasks.training.callbacks.checkpoints import Checkpoints

TRAINED = "trained_weights"  # key of the weights that the optimiser continues with; "state_dict" has the average


def average_checkpoints(paths: Sequence[str | Path]) -> dict[str, Tensor]:
    """Return the arithmetic mean of the weights of several checkpoints, reading one file at a time.

    The sum is taken in float64 and the mean has the dtype of the last checkpoint. Integers and booleans are those of
    the last checkpoint.

    Raises: InputError if there is no path, a file cannot be read, or the checkpoints belong to different models.
    Source: Vaswani et al. (2017), section 6.1.
    """
    if not paths:
        raise InputError("no checkpoints to average; give at least one, and let Checkpoints keep some (keep_last=10)")
    total: dict[str, Tensor] = {}
    weights: dict[str, Tensor] = {}
    for path in paths:
        checkpoint = read_checkpoint(path)
        if "state_dict" not in checkpoint:
            raise InputError(f"{path}: holds no weights (state_dict); give a checkpoint of a training run")
        weights = checkpoint["state_dict"]
        for name in sorted(total.keys() | weights.keys()) if total else ():
            new, first = (tuple(side[name].shape) if name in side else "missing" for side in (weights, total))
            if new != first:
                raise InputError(f"{path}: is of another model than {paths[0]}: {name} is {new}, expected {first}")
        for name, weight in weights.items():
            total[name] = total[name].add_(weight) if name in total else weight.double()
    return {
        name: (total[name] / len(paths)).to(weight.dtype) if weight.is_floating_point() else weight
        for name, weight in weights.items()
    }


@dataclass(frozen=True)
class CheckpointAverage(Checked):
    """Which checkpoints make up the final weights."""

    of: Literal["last", "best"] = "last"
    """Whether to average the newest checkpoints or those with the best scores."""
    count: int = 10
    """Number of checkpoints; a run that kept fewer averages those it has. `Checkpoints` must keep as many."""

    def paths(self, checkpoints: Checkpoints) -> list[str]:
        """Choose the files among those that `checkpoints` kept.

        Raises: InputError if `checkpoints` is set to keep fewer than `count`.
        """
        setting, kept = ("keep_last", checkpoints.keep_last) if self.of == "last" else ("best", checkpoints.best)
        if kept < self.count:
            raise InputError(
                f"the average of the {self.count} {self.of} checkpoints needs more than Checkpoints keeps:"
                f" set {setting}={self.count} there instead of {kept}"
            )
        if self.of == "last":
            return checkpoints.last_paths[-self.count :]
        # a run that ends before its first validation has no scores, only its last checkpoint
        return (checkpoints.best_paths or [checkpoints.last_model_path])[: self.count]

    def weights(self, checkpoints: Checkpoints) -> dict[str, Tensor]:
        """Return the mean weights, for `module.load_state_dict`."""
        return average_checkpoints(self.paths(checkpoints))


class EMA(Callback):
    """Keep an exponential moving average of the parameters: validate it, save it, leave it in the module at the end.

    After each optimiser step `average += (1 - d) * (parameter - average)` with `d = min(decay, (1 + n) / (10 + n))` for
    n earlier steps, in float32 where parameters have less precision; buffers are not averaged. In a checkpoint,
    "state_dict" has the average, which every reader takes, and "trained_weights" the weights for further training.
    """

    def __init__(self, decay: float = 0.999) -> None:
        """Set how slowly the average moves.

        Args:
            decay: Share of the average that a step keeps, below 1; 0.999 averages over about a thousand steps.
        """
        if not 0 <= decay < 1:
            raise InputError(f"decay={decay} of EMA: choose a number from 0 to below 1, such as 0.999")
        self.decay = decay
        self._updates = 0
        self._steps_done = 0
        self._average: dict[str, Tensor] = {}  # by parameter name; a shared parameter once
        self._trained: dict[str, Tensor] = {}  # parameters for the optimiser, while the module holds the average

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from the parameters as they are, or continue with the average of the checkpoint."""
        self._average = {
            name: _precise(self._average.get(name, parameter)).to(parameter.device, copy=True)
            for name, parameter in pl_module.named_parameters()
        }
        self._trained = {}
        self._steps_done = trainer.global_step

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Move the average towards the parameters if the batch ended with an optimiser step."""
        if trainer.global_step == self._steps_done:
            return
        self._steps_done = trainer.global_step
        decay = min(self.decay, (1 + self._updates) / (10 + self._updates))
        parameters = [_precise(parameter) for parameter in pl_module.parameters()]
        torch._foreach_lerp_(list(self._average.values()), parameters, 1 - decay)
        self._updates += 1

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average into the module, if training has begun."""
        if self._average:
            self._trained = {name: parameter.detach().clone() for name, parameter in pl_module.named_parameters()}
            _set_parameters(pl_module, self._average)

    on_train_end = on_validation_start  # the average is left in the module

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the trained parameters back."""
        if self._average:
            _set_parameters(pl_module, self._trained)
            self._trained = {}

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Free the memory."""
        self._average, self._trained = {}, {}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the average as the weights, and the trained weights beside it."""
        if not self._average:
            return
        weights = checkpoint["state_dict"]
        checkpoint[TRAINED] = {name: self._trained.get(name, weights[name]) for name in self._average}
        average = {id(parameter): self._average[name] for name, parameter in pl_module.named_parameters()}
        # a parameter that layers share, as embedding and output do, has several names in the state dict
        for name, parameter in pl_module.named_parameters(remove_duplicate=False):
            weights[name] = average[id(parameter)]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the average from the weights of `checkpoint` and put the trained weights into the module."""
        if trainer.state.fn == TrainerFn.FITTING and TRAINED in checkpoint:
            self._average = {name: checkpoint["state_dict"][name] for name in checkpoint[TRAINED]}
            _set_parameters(pl_module, checkpoint[TRAINED])

    def state_dict(self) -> dict[str, Any]:
        """Return the number of updates, on which the warm-up depends."""
        return {"updates": self._updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the number of updates."""
        self._updates = state_dict["updates"]


def _precise(tensor: Tensor) -> Tensor:
    """Return the tensor in float32 if it has less: in bfloat16 an average would lose steps of one thousandth."""
    return tensor.detach().float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.detach()


@torch.no_grad()
def _set_parameters(module: LightningModule, values: Mapping[str, Tensor]) -> None:
    for name, parameter in module.named_parameters():
        parameter.copy_(values[name])
