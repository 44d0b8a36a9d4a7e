"""Perplexity and bits per character of a language model, from summed negative log-likelihoods.

Jelinek et al., "Perplexity: a measure of the difficulty of speech recognition tasks" (1977); bits per character as in
Graves, "Generating Sequences With Recurrent Neural Networks" (2013), section 3.1.
"""

from __future__ import annotations

import math
import sys


def perplexity(nll: float, count: float) -> float:
    """Return the perplexity: e to the power of `nll` (nats, summed) / `count`.

    With the number of words as `count` it is the perplexity per word, which can be compared between vocabularies. It is
    1 for a count of 0, and infinity if it is too large for a float.
    """
    mean = nll / max(1, count)
    return math.exp(mean) if mean < math.log(sys.float_info.max) else math.inf  # math.exp would raise OverflowError


def token_probability(nll: float, count: float) -> float:
    """Return 100 / perplexity: the geometric mean of the probability of the right token, in percent."""
    return 100 * math.exp(-nll / max(1, count))


def bits_per_character(nll: float, characters: float) -> float:
    """Return `nll` (nats, summed) per character, in bits."""
    return nll / max(1, characters) / math.log(2)
