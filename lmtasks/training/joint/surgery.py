"""Gradient surgery: combine gradients of tasks that conflict, that is, have a negative inner product.

PCGrad: Yu et al., "Gradient Surgery for Multi-Task Learning" (2020), Algorithm 1. UPGrad: Quinton and Rey, "Jacobian
Descent for Multi-Objective Optimization" (2024). Both need only the inner product of each pair of gradients, and return
a weight for each gradient. Without conflicts every weight is 1, which is the plain sum.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from lmtasks.checked import Checked

RIDGE = 1e-12  # added to the cosine of a gradient with itself, so that parallel gradients have one solution
CONFLICT = 1e-9  # a cosine above -CONFLICT is rounding, not conflict; so large that RIDGE cannot cause one
ROUNDS = 3  # limit of the rounds of a projection, per task; one is enough unless rounding spoils the Gramian


@dataclass(frozen=True)
class Surgery(Checked, ABC):
    """Settings of the combination of conflicting gradients."""

    @abstractmethod
    def weights(self, gramian: Tensor, step: int) -> Tensor:
        """Return the weights (T,) of the gradients of T tasks, whose weighted sum the optimiser follows.

        `gramian` (T, T), in float64, has the inner products of the gradients; the row of a task without gradient is 0.
        A task whose gradient is not finite is left out: the loss scaler handles the sum, which is not finite either.
        The same `gramian` and `step` give the same weights on all processes.
        """


@dataclass(frozen=True)
class PCGrad(Surgery):
    """Remove from each gradient what conflicts with each other gradient, in random order; then add up.

    Source: Yu et al. (2020), Algorithm 1.
    """

    def weights(self, gramian: Tensor, step: int) -> Tensor:
        """Return the weights (T,); `step` seeds the random order."""
        known = _finite(gramian)
        generator = torch.Generator().manual_seed(step)
        parts = torch.eye(len(known), dtype=known.dtype)  # (T, T), row i: new gradient i, as a sum of the old
        for task, part in enumerate(parts):
            for other in torch.randperm(len(known), generator=generator).tolist():
                inner = part @ known[other]
                if other != task and inner < 0 < known[other, other]:
                    part[other] -= inner / known[other, other]
        return parts.sum(0).to(gramian)


@dataclass(frozen=True)
class UPGrad(Surgery):
    """Project each gradient onto the directions that conflict with no gradient, then add up.

    To first order a step then makes no task worse; PCGrad guarantees that for two tasks only. The paper takes the mean;
    a sum leaves gradients without conflict as they are.

    Source: Quinton and Rey (2024), UPGrad; the quadratic programme on the Gramian is their Proposition 1.
    """

    def weights(self, gramian: Tensor, step: int) -> Tensor:
        """Return the weights (T,), which do not depend on `step`."""
        known = _finite(gramian)
        norms = known.diagonal().sqrt()
        inverse = torch.where(norms > 0, 1 / norms, 0)
        cosines = known * inverse[:, None] * inverse  # the cone does not depend on the norms
        added = torch.stack([norm * _added(cosines, task) for task, norm in enumerate(norms)])  # (T, T), row: gradient
        return (1 + inverse * added.sum(0)).to(gramian)


def _finite(gramian: Tensor) -> Tensor:
    """Return the Gramian on the CPU, where small matrices are faster, with 0 for gradients that are not finite."""
    gramian = gramian.cpu()
    finite = gramian.diagonal().isfinite()
    return torch.where(finite[:, None] & finite, gramian, 0)


def _added(cosines: Tensor, task: int) -> Tensor:
    """Return the u >= 0 (T,) that minimises the norm of unit gradient `task` + sum_j u_j (unit gradient j).

    That sum is the projection of the gradient onto the dual cone of all gradients: the directions without conflict.

    Source: Lawson and Hanson, "Solving Least Squares Problems" (1974), chapter 23, here on the products of the matrix.
    """
    u = torch.zeros_like(cosines[task])
    free = torch.zeros_like(u, dtype=torch.bool)  # (T,) where u may be above 0
    for _ in range(ROUNDS * len(u)):
        best = _best(cosines, task, free)
        if (best[free] <= 0).any():  # move towards it until the first u is 0, and fix that u
            way = torch.where(free & (best <= 0), u / (u - best).clamp(min=RIDGE), torch.inf)  # (T,) shares of the way
            free[way.argmin()] = False
            u = (u + way.min() * (best - u)).clamp(min=0) * free
        else:
            u = best
            conflict = -(cosines[task] + cosines @ u)  # (T,) how much the sum conflicts with each gradient
            worst = conflict.masked_fill(free, 0).argmax()
            if free[worst] or conflict[worst] <= CONFLICT:
                break
            free[worst] = True
    return u


def _best(cosines: Tensor, task: int, free: Tensor) -> Tensor:
    """Return the best u (T,) if the `free` entries may be negative and the others are 0."""
    best = torch.zeros_like(cosines[task])
    places = free.nonzero()[:, 0]
    products = cosines[places][:, places] + RIDGE * torch.eye(len(places), dtype=cosines.dtype)
    best[places] = torch.linalg.solve(products, -cosines[task, places])
    return best
