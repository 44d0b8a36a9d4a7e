"""Joint training: the loss of a micro-batch, and the gradient of a step, of one task or of several.

Losses of several tasks are weighted, conflicting gradients are combined by a rule, and both can be logged. A rule that
needs the gradient of each task takes them apart here, for one task too: this is where another gradient rule belongs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import torch
from torch import Tensor, nn

from lmtasks.errors import InputError
from lmtasks.training.joint.gradients import JointStep, Measured
from lmtasks.training.joint.surgery import Surgery
from lmtasks.training.joint.weighting import Static, Weighting


@dataclass(frozen=True)
class JointConfig:
    """How several tasks are trained together."""

    weighting: Weighting = field(default_factory=Static)
    """Weight of each task's loss, beside its share of the step."""
    surgery: Surgery | None = None
    """How conflicting gradients are combined; by default they are added."""
    watch: bool = False
    """Log norms and cosines of the tasks' gradients whenever a step is logged (trainer.log_every_n_steps)."""

    def build(self, tasks: Sequence[str]) -> JointLearning:
        """Return what trains these tasks together."""
        return JointLearning(tasks, self)


class JointLearning(nn.Module):
    """Makes the loss of a micro-batch, and the gradient of the whole step.

    Raises: InputError for a weighting where there is one task, which has nothing to be weighted against.
    """

    def __init__(self, tasks: Sequence[str], config: JointConfig) -> None:
        super().__init__()
        self.tasks, self.config = list(tasks), config
        if len(self.tasks) == 1 and config.weighting != Static():
            raise InputError(
                f"model.training.joint.weighting is for several tasks, the model has only {self.tasks[0]}; leave it out"
            )
        self.weights = config.weighting.build(self.tasks)
        self._step: JointStep | None = None

    def begin(self, parameters: Sequence[nn.Parameter], shared: Sequence[nn.Parameter], scaled: bool) -> None:
        """Prepare to train `parameters`, of which the tasks have `shared` in common.

        Raises:
            InputError: If gradients must be taken apart, but are `scaled` by the trainer, or nothing that is shared
                is trained.
        """
        apart = self._apart_always or self.config.watch
        if len(self.tasks) == 1 and not apart:
            return
        if scaled and apart:
            raise InputError(
                "model.training.joint: surgery, GradNorm and watch need unscaled gradients; set trainer.precision to "
                "32-true or bf16-mixed"
            )
        if apart and not any(parameter.requires_grad for parameter in shared):
            raise InputError(
                "model.training.joint: surgery, GradNorm and watch compare gradients on the backbone, which freeze "
                "excludes from training; leave them out"
            )
        self._step = JointStep(self.tasks, parameters, shared)

    def loss(self, losses: Mapping[str, Tensor], shares: Mapping[str, float], logged: bool) -> Tensor:
        """Return what to call `backward` on for a micro-batch.

        losses: the mean loss of each task that takes part in the step, times its share of it, scalars. `logged`: the
        step will be written to the logs.

        Raises:
            InputError: If all that a task uses is frozen.
        """
        for task, loss in losses.items():
            if not loss.requires_grad:
                raise InputError(f"model.training.freeze: nothing that {task} uses is left to train; freeze less")
        if self._step is None:
            (loss,) = losses.values()
            return loss
        for task, loss in losses.items():
            self._step.count(task, loss / shares[task])
        weighted = {task: self.weights.weighted(task, loss, shares[task]) for task, loss in losses.items()}
        if self._apart_always or (logged and self.config.watch):
            return self._step.take(weighted)
        return torch.stack(list(weighted.values())).sum()

    def finish(self, parts: int, step: int, logged: bool) -> dict[str, Tensor | float]:
        """End step number `step`, of `parts` micro-batches in this process; return what is to be logged, task/value."""
        if self._step is None:
            return {}
        weights = self.weights.now() if logged and len(self.tasks) > 1 else {}
        found = self._step.finish(parts, self.config.surgery, step)
        self.weights.observe(found.losses, found.norms if self.weights.needs_gradients else None)
        logs: dict[str, Tensor | float] = {f"{task}/weight": weight for task, weight in weights.items()}
        return logs | (self._compared(found) if logged and self.config.watch else {})

    def check(self, names: Iterable[str]) -> None:
        """Refuse a checkpoint that does not hold what the weighting remembers; names: what it holds of ours."""
        if set(names) != set(self.state_dict()):
            raise InputError(
                "the checkpoint was trained with another model.training.joint.weighting than this run has; "
                "set it back, or start a new run with init_from"
            )

    @property
    def _apart_always(self) -> bool:
        """Whether every step needs the gradient of each task."""
        return self.config.surgery is not None or self.weights.needs_gradients

    def _compared(self, found: Measured) -> dict[str, Tensor]:
        """Return the norm of each task's gradient on what is shared, and the cosine of each two; NaN where one is
        missing."""
        assert found.norms is not None
        assert found.cosines is not None
        norms = {f"{task}/gradient_norm": norm for task, norm in zip(self.tasks, found.norms, strict=True)}
        places = {task: place for place, task in enumerate(self.tasks)}
        pairs = combinations(self.tasks, 2)
        return norms | {f"{a}/cosine_{b}": found.cosines[places[a], places[b]].float() for a, b in pairs}
