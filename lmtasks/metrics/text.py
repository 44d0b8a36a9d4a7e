"""Perplexity and bits for each character of a language model, from summed negative log-likelihoods.

Jelinek et al., "Perplexity: a measure of the difficulty of speech recognition tasks" (1977); bits per character as in
Graves, "Generating Sequences With Recurrent Neural Networks" (2013), section 3.1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchmetrics import Metric


def perplexity(nll: float, count: float) -> float:
    """Return e to the mean of `nll` (nats, summed) over `count` tokens, words or whatever the text is cut into.

    The nll of all tokens over the number of *words* is the perplexity per word, which models of different vocabularies
    share. 1 where there is nothing, infinity where it is too large for a float.
    """
    mean = nll / max(1, count)
    return math.exp(mean) if mean < math.log(torch.finfo(torch.float64).max) else math.inf


def token_probability(nll: float, count: float) -> float:
    """Return 100 / perplexity: the (geometric) mean probability of the right token, in percent."""
    return 100 * math.exp(-nll / max(1, count))


def bits_per_character(nll: float, characters: float) -> float:
    """Return `nll` (nats, summed) over the number of characters, in bits."""
    return nll / max(1, characters) / math.log(2)


class Perplexity(Metric):
    """Measure how many tokens a model hesitates between, on average; counted in words it is the perplexity per word.

    Source: Jelinek et al. (1977).

    >>> metric = Perplexity()
    >>> metric.update(nll=5 * math.log(8), count=5)
    >>> round(metric.compute().item())
    8
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    nll: Tensor
    count: Tensor

    def __init__(self, sync_on_compute: bool = True) -> None:
        super().__init__(sync_on_compute=sync_on_compute)
        self.add_state("nll", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, nll: float | Tensor, count: int | Tensor) -> None:
        """Add a negative log-likelihood in nats, summed, and the number of tokens, words or characters it is of."""
        self.nll += nll
        self.count += count

    def compute(self) -> Tensor:
        """Return the perplexity, from 1 up; 1 where there is nothing."""
        return torch.tensor(perplexity(self.nll.item(), self.count.item()), device=self.device)


class BitsPerCharacter(Perplexity):
    """Measure how many bits a model needs for each character of a text.

    Source: Graves (2013), section 3.1.

    >>> metric = BitsPerCharacter()
    >>> metric.update(nll=10 * math.log(2), count=5)
    >>> round(metric.compute().item())
    2
    """

    def compute(self) -> Tensor:
        """Return the bits, from 0 up; 0 where there is nothing."""
        return torch.tensor(bits_per_character(self.nll.item(), self.count.item()), device=self.device)
