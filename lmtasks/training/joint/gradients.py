"""The separate gradients of several tasks over one optimiser step.

Surgery, GradNorm and `watch` need the gradient of each task on the shared parameters, over all micro-batches and
processes of a step. `torch.autograd.grad` computes it without touching `.grad` or the hooks of DistributedDataParallel.
The combined gradient is added to `.grad` at the end of the step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lmtasks.training.joint.surgery import Surgery

AT_ONCE = 1 << 16  # columns that are converted to float64 together


@dataclass(frozen=True)
class Measured:
    """Losses and gradients of the tasks in one optimiser step, the same on all processes."""

    losses: Tensor
    """(T,) mean loss of each task, NaN for a task that took no part."""
    gramian: Tensor | None = None
    """(T, T) float64 inner products of the gradients on the shared parameters; None if they were not separated."""

    @property
    def norms(self) -> Tensor | None:
        """(T,) norms of the gradients, NaN for a task that took no part."""
        if self.gramian is None:
            return None
        norms = self.gramian.diagonal().sqrt().to(self.losses.dtype)
        return torch.where(self.losses.isnan(), self.losses, norms)

    @property
    def cosines(self) -> Tensor | None:
        """(T, T) cosines between the gradients, NaN where one is missing."""
        if self.gramian is None:
            return None
        norms = self.gramian.diagonal().sqrt()
        return self.gramian / (norms[:, None] * norms)


class JointStep:
    """Collect losses and gradients over the micro-batches of a step, and return them at its end."""

    def __init__(
        self, tasks: Sequence[str], parameters: Sequence[nn.Parameter], shared: Sequence[nn.Parameter]
    ) -> None:
        """Begin the first step: `parameters` of the model, and the `shared` ones on which gradients are compared."""
        self.tasks = list(tasks)
        self.shared = [parameter for parameter in shared if parameter.requires_grad]
        ours = set(map(id, self.shared))
        self.others = [parameter for parameter in parameters if parameter.requires_grad and id(parameter) not in ours]
        self._device = [*self.shared, *self.others][0].device
        self._losses: dict[str, Tensor] = {}
        self._gradients: Tensor | None = None  # (T, P)

    def count(self, task: str, loss: Tensor) -> None:
        """Add the loss of a task in a micro-batch; the loss of the step is the mean over micro-batches."""
        self._losses[task] = self._losses.get(task, 0) + loss.detach().float()

    def take(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Separate the gradients of a micro-batch, and return the scalar for `backward`.

        losses: the weighted loss of each task, scalars. `backward` gives parameters that are not shared
        their usual gradients, and shared ones a gradient of 0, to which `finish` adds. A parameter that no task uses
        has no gradient, as usual: an optimiser leaves it alone.
        """
        if self._gradients is None:
            size = sum(parameter.numel() for parameter in self.shared)
            self._gradients = torch.zeros(len(self.tasks), size, device=self._device)
        kept: list[Tensor] = []
        reached: set[int] = set()
        for task, loss in losses.items():
            found = torch.autograd.grad(loss, [*self.shared, *self.others], allow_unused=True)
            shared, others = found[: len(self.shared)], found[len(self.shared) :]
            pairs = zip(shared, self.shared, strict=True)
            parts = [(torch.zeros_like(p) if gradient is None else gradient).flatten() for gradient, p in pairs]
            self._gradients[self.tasks.index(task)] += torch.cat(parts)  # (P,)
            reached.update(place for place, gradient in enumerate(shared) if gradient is not None)
            # the gradient of such a product on p is the gradient found
            pairs = zip(others, self.others, strict=True)
            kept += [(p * gradient).sum() for gradient, p in pairs if gradient is not None]
        # DistributedDataParallel waits for a gradient of each parameter that was used: shared ones get 0
        return torch.stack([*kept, *(self.shared[place].sum() * 0.0 for place in sorted(reached))]).sum()

    def finish(self, parts: int, surgery: Surgery | None, step: int) -> Measured:
        """Return the losses and gradients of the step; if gradients were separated, add their combination to `.grad`.

        parts: micro-batches of the step in this process; step: number of the step, which seeds surgery.
        """
        missing = torch.full((), torch.nan, device=self._device)
        losses = _mean(torch.stack([self._losses.get(task, missing) for task in self.tasks]) / parts)
        gradients, self._losses, self._gradients = self._gradients, {}, None
        if gradients is None:
            return Measured(losses)
        gradients = _mean(gradients / parts)
        gramian = _gramian(gradients)
        whole = gradients.sum(0) if surgery is None else surgery.weights(gramian, step).to(gradients) @ gradients
        for parameter, part in zip(self.shared, whole.split([p.numel() for p in self.shared]), strict=True):
            if parameter.grad is not None:  # `backward` has made it if a task uses the parameter
                parameter.grad += part.view_as(parameter)
        return Measured(losses, gramian)


def _gramian(gradients: Tensor) -> Tensor:
    """Return the inner products (T, T) of rows (T, P), in float64: rounding in float32 would hide small conflicts."""
    device = "cpu" if gradients.device.type == "mps" else gradients.device  # MPS has no float64
    parts = (part.to(device).double() for part in gradients.split(AT_ONCE, dim=1))
    return torch.stack([part @ part.t() for part in parts]).sum(0)


def _mean(value: Tensor) -> Tensor:
    """Return the mean over all processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(value)
        value /= torch.distributed.get_world_size()
    return value
