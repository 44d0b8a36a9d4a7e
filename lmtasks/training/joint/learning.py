"""Joint training: the loss of a micro-batch, and the gradient of a step, of one or several tasks.

Losses of several tasks are weighted, conflicting gradients are combined by a rule, and both can be logged. A rule that
needs the gradient of each task gets it separately, even if there is only one task. Add other gradient rules here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import torch
from torch import Tensor, nn

from lmtasks.checked import Checked
from lmtasks.errors import InputError
from lmtasks.training.joint.gradients import JointStep
from lmtasks.training.joint.surgery import Surgery
from lmtasks.training.joint.weighting import Static, Weighting


@dataclass(frozen=True)
class JointConfig(Checked):
    """How several tasks are trained together."""

    setting = "model.training.joint"

    weighting: Weighting = field(default_factory=Static)
    """Weight of the loss of each task, multiplied with its share of the step."""
    surgery: Surgery | None = None
    """How conflicting gradients are combined; by default they are added."""
    watch: bool = False
    """Log norms and cosines of the tasks' gradients whenever a step is logged (trainer.log_every_n_steps)."""

    def build(self, tasks: Sequence[str]) -> JointLearning:
        """Return the joint training of these tasks."""
        return JointLearning(tasks, self)


class JointLearning(nn.Module):
    """Compute the loss of a micro-batch, and the gradient of the whole step.

    Raises: InputError if there is a weighting but only one task.
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

        Raises: InputError if gradients must be separated, but are `scaled` by the trainer or no shared one is trained.
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
        """Return the scalar for `backward` of a micro-batch.

        losses: the mean loss of each task that takes part in the step, times its share of the step, scalars; logged:
        whether the step will be written to the logs.

        Raises: InputError if all parameters that a task uses are frozen.
        """
        for task, loss in losses.items():
            if not loss.requires_grad:
                raise InputError(f"model.training.freeze: nothing that {task} uses is left to train; freeze less")
        if self._step is None:
            (loss,) = losses.values()  # of the only task
            return loss
        for task, loss in losses.items():
            self._step.count(task, loss / shares[task])
        weighted = {task: self.weights.weighted(task, loss, shares[task]) for task, loss in losses.items()}
        if self._apart_always or (logged and self.config.watch):
            return self._step.take(weighted)
        return torch.stack(list(weighted.values())).sum()

    def finish(self, parts: int, step: int, logged: bool) -> dict[str, Tensor | float]:
        """End step number `step`, of `parts` micro-batches in this process; return values to log, by task/name."""
        if self._step is None:
            return {}
        logs: dict[str, Tensor | float] = {}
        if logged and len(self.tasks) > 1:  # the weights of this step, before `observe` changes them
            logs = {f"{task}/weight": weight for task, weight in self.weights.now().items()}
        found = self._step.finish(parts, self.config.surgery, step)
        norms, cosines = found.norms, found.cosines
        self.weights.observe(found.losses, norms if self.weights.needs_gradients else None)
        if logged and self.config.watch and norms is not None and cosines is not None:  # NaN where a task took no part
            logs |= {f"{task}/gradient_norm": norm for task, norm in zip(self.tasks, norms, strict=True)}
            for (i, a), (j, b) in combinations(enumerate(self.tasks), 2):
                logs[f"{a}/cosine_{b}"] = cosines[i, j].float()
        return logs

    def check(self, names: Iterable[str]) -> None:
        """Check that a checkpoint with these names of joint parameters has the weighting of this run.

        Raises: InputError if it has another one.
        """
        if set(names) != set(self.state_dict()):
            raise InputError(
                "the checkpoint was trained with another model.training.joint.weighting than this run has; "
                "set it back, or start a new run with init_from"
            )

    @property
    def _apart_always(self) -> bool:
        """Whether every step needs the gradient of each task."""
        return self.config.surgery is not None or self.weights.needs_gradients
