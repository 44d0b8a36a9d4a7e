"""Gradient surgery: what is done with the gradients of tasks that conflict, that is, point away from each other.

PCGrad: Yu et al., "Gradient Surgery for Multi-Task Learning" (2020), Algorithm 1. UPGrad: Quinton and Rey, "Jacobian
Descent for Multi-Objective Optimization" (2024). Both need no gradients, only the inner product of each two, and answer
with a weight for each gradient. Where nothing conflicts every weight is 1, the plain sum.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

RIDGE = 1e-12  # added to the cosine of a gradient with itself, so that parallel gradients have one best answer
CONFLICT = 1e-9  # a cosine above -CONFLICT is no conflict but rounding; so large that RIDGE cannot make one
ROUNDS = 3  # most rounds a task of a projection; one is enough unless rounding has spoilt the Gramian


@dataclass(frozen=True)
class Surgery(ABC):
    """Settings of what is done with gradients that conflict."""

    @abstractmethod
    def weights(self, gramian: Tensor, step: int) -> Tensor:
        """Return the weights w (T,) with which the gradients g of T tasks add up to the one that is followed.

        `gramian` (T, T), in float64, has the inner products of g; its row is 0 for a task that has no gradient. A task
        whose gradient is not finite takes no part: the sum, not finite either, is left to the loss scaler. The same
        `gramian` and `step` have the same weights on all processes.
        """


@dataclass(frozen=True)
class PCGrad(Surgery):
    """Take from each gradient, in random order of the others, what points against another; then add up.

    Source: Yu et al. (2020), Algorithm 1.
    """

    def weights(self, gramian: Tensor, step: int) -> Tensor:
        known = _finite(gramian)
        generator = torch.Generator().manual_seed(step)
        parts = torch.eye(len(known), dtype=known.dtype)  # (T, T), row i: what becomes of gradient i, as a sum of all
        for task, part in enumerate(parts):
            for other in torch.randperm(len(known), generator=generator).tolist():
                inner = part @ known[other]
                if other != task and inner < 0 < known[other, other]:
                    part[other] -= inner / known[other, other]
        return parts.sum(0).to(gramian)


@dataclass(frozen=True)
class UPGrad(Surgery):
    """Move each gradient to the nearest direction that points against none, then add up.

    So to first order a step makes no task worse, which PCGrad promises for two tasks only. The paper takes the mean; a
    sum leaves gradients without conflict as they are.

    Source: Quinton and Rey (2024), UPGrad; the programme on the Gramian is their Proposition 1.
    """

    def weights(self, gramian: Tensor, step: int) -> Tensor:
        known = _finite(gramian)
        norms = known.diagonal().sqrt()
        inverse = torch.where(norms > 0, 1 / norms, 0)
        cosines = known * inverse[:, None] * inverse  # which cone it is does not depend on the lengths
        added = torch.stack([norm * _added(cosines, task) for task, norm in enumerate(norms)])  # (T, T), row: gradient
        return (1 + inverse * added.sum(0)).to(gramian)


def _finite(gramian: Tensor) -> Tensor:
    """Return the Gramian on the CPU, where such a small matrix is faster, with zeros for what is not finite."""
    gramian = gramian.cpu()
    finite = gramian.diagonal().isfinite()
    return torch.where(finite[:, None] & finite, gramian, 0)


def _added(cosines: Tensor, task: int) -> Tensor:
    """Return the u >= 0 (T,) for which unit gradient `task` + sum_j u_j (unit gradient j) is shortest.

    That sum is its projection onto the dual cone of all gradients: the directions that point against none.

    Source: Lawson and Hanson, "Solving Least Squares Problems" (1974), chapter 23, on the products of the matrix alone.
    """
    u = torch.zeros_like(cosines[task])
    free = torch.zeros_like(u, dtype=torch.bool)  # (T,) where u may be above 0
    for _ in range(ROUNDS * len(u)):
        best = _best(cosines, task, free)
        if (best[free] <= 0).any():  # go that way until the first u comes to 0, and leave it there
            way = torch.where(free & (best <= 0), u / (u - best).clamp(min=RIDGE), torch.inf)  # (T,) shares of the way
            free[way.argmin()] = False
            u = (u + way.min() * (best - u)).clamp(min=0) * free
        else:
            u = best
            conflict = -(cosines[task] + cosines @ u)  # (T,) how far the sum points against each gradient
            worst = conflict.masked_fill(free, 0).argmax()
            if free[worst] or conflict[worst] <= CONFLICT:
                break
            free[worst] = True
    return u


def _best(cosines: Tensor, task: int, free: Tensor) -> Tensor:
    """Return the best u (T,) if those that are `free` could be negative and the others are 0."""
    best = torch.zeros_like(cosines[task])
    places = free.nonzero()[:, 0]
    products = cosines[places][:, places] + RIDGE * torch.eye(len(places), dtype=cosines.dtype)
    best[places] = torch.linalg.solve(products, -cosines[task, places])
    return best
