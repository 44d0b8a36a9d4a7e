"""Perplexity: how many tokens the model hesitates between, on average.

Jelinek et al., "Perplexity, a measure of the difficulty of speech recognition tasks" (1977). It keeps a sum and a
count, never a mean of means, so batches and ranks of uneven size are weighed right.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class Perplexity(Metric):
    """Raise e to the mean negative log-likelihood of a token.

    >>> perplexity = Perplexity()
    >>> perplexity.update(torch.log(torch.tensor([4.0, 4.0, 4.0])).sum(), 3)
    >>> round(perplexity.compute().item(), 4)
    4.0
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    nll: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Apple's GPUs have no float64, and a module moves its metrics there.
        dtype = torch.float32 if torch.backends.mps.is_available() else torch.float64
        self.add_state("nll", torch.zeros((), dtype=dtype), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, nll_sum: Tensor | float, count: Tensor | int) -> None:
        """Add `count` tokens whose negative log-likelihoods (nats) have the sum `nll_sum`."""
        self.nll += torch.as_tensor(nll_sum).detach().to(self.nll)
        self.count += torch.as_tensor(count).to(self.count)

    def compute(self) -> Tensor:
        """Return the perplexity per token; nan where there are no tokens."""
        return torch.exp(self.nll / self.count).float()
