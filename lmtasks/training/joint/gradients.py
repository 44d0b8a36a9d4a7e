"""The gradients of several tasks, apart from each other, over one optimiser step.

Surgery, GradNorm and whoever wants to see how the tasks get on need the gradient of each task on the shared parameters,
of the whole step: over all micro-batches and processes. They are taken by `torch.autograd.grad`, which leaves
`.grad` and the hooks of DistributedDataParallel alone, and put into `.grad` together when the step is whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lmtasks.training.joint.surgery import Surgery

AT_ONCE = 1 << 16  # numbers of a row that are turned to float64 together


@dataclass(frozen=True)
class Measured:
    """What the tasks brought to one optimiser step, the same on all processes."""

    losses: Tensor
    """(T,) mean loss of each task, NaN where it did not take part."""
    gramian: Tensor | None = None
    """(T, T) float64 inner products of the gradients on the shared parameters; None where they were not taken."""

    @property
    def norms(self) -> Tensor | None:
        """(T,) norms of the gradients, NaN where a task did not take part."""
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
    """Takes in the micro-batches of a step, and tells at its end what each task has brought."""

    def __init__(
        self, tasks: Sequence[str], parameters: Sequence[nn.Parameter], shared: Sequence[nn.Parameter]
    ) -> None:
        """`parameters` are all that is trained, `shared` those among them on which gradients are compared."""
        self.tasks = list(tasks)
        self.shared = [parameter for parameter in shared if parameter.requires_grad]
        ours = set(map(id, self.shared))
        self.others = [parameter for parameter in parameters if parameter.requires_grad and id(parameter) not in ours]
        self._device = [*self.shared, *self.others][0].device
        self._losses: dict[str, Tensor] = {}
        self._gradients: Tensor | None = None  # (T, P)

    def count(self, task: str, loss: Tensor) -> None:
        """Add the loss of a task in a micro-batch, of which the mean over micro-batches is that of the step."""
        self._losses[task] = self._losses.get(task, 0) + loss.detach().float()

    def take(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Take the gradients of a micro-batch apart, and return what to call `backward` on in place of the losses.

        losses: the share of each task in the step's loss, scalars. The gradients of what is not shared come by
        `backward` as ever; those of the shared parameters come out as 0 and are set by `finish`. A parameter that no
        task has use for has no gradient, as ever: an optimiser leaves it alone.
        """
        if self._gradients is None:
            size = sum(parameter.numel() for parameter in self.shared)
            self._gradients = torch.zeros(len(self.tasks), size, device=self._device)
        kept: list[Tensor] = []
        reached: set[int] = set()
        for task, loss in losses.items():
            found = torch.autograd.grad(loss, [*self.shared, *self.others], allow_unused=True)
            shared, others = found[: len(self.shared)], found[len(self.shared) :]
            self._gradients[self.tasks.index(task)] += _flat(shared, self.shared)
            reached.update(place for place, gradient in enumerate(shared) if gradient is not None)
            kept += [
                (p * gradient).sum() for p, gradient in zip(self.others, others, strict=True) if gradient is not None
            ]
        return torch.stack([*kept, *(self.shared[place].sum() * 0.0 for place in sorted(reached))]).sum()

    def finish(self, parts: int, surgery: Surgery | None, step: int) -> Measured:
        """Return what the step has brought; of gradients taken apart, put the sum of all tasks into `.grad`.

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
        _add(whole, self.shared)
        return Measured(losses, gramian)


def _flat(gradients: Sequence[Tensor | None], parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return gradients as one row (P,), 0 where there is none."""
    pairs = zip(gradients, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


def _add(row: Tensor, parameters: Sequence[nn.Parameter]) -> None:
    """Add a row (P,) to the gradients of the parameters, which `backward` has made where a task reached them."""
    for parameter, part in zip(parameters, row.split([p.numel() for p in parameters]), strict=True):
        if parameter.grad is not None:
            parameter.grad += part.view_as(parameter)


def _gramian(gradients: Tensor) -> Tensor:
    """Return the inner products (T, T) of rows (T, P), summed in float64: in float32 conflicts drown in rounding."""
    device = "cpu" if gradients.device.type == "mps" else gradients.device  # Apple's has no float64
    parts = (part.to(device).double() for part in gradients.split(AT_ONCE, dim=1))
    return torch.stack([part @ part.t() for part in parts]).sum(0)


def _mean(value: Tensor) -> Tensor:
    """Return the mean over all processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(value)
        value /= torch.distributed.get_world_size()
    return value
