"""Greedy search and sampling: each hypothesis grows by one token at a time, independently of all others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from lmtasks.backbones.base import Backbone, State
from lmtasks.decoding.rules import Rules
from lmtasks.decoding.settings import Decoding, Hypothesis, best_first


class Choice(Protocol):
    """A function that chooses the next token."""

    def __call__(self, log_p: Tensor, position: int, sources: Tensor) -> Tensor:
        """Choose one token for each row of `log_p` (N, V), N = B' * K rows of the `sources` (B',): (N,)."""


class Step(NamedTuple):
    """The n hypotheses of each of B' open sources after one more token."""

    sources: Tensor
    """(B',) numbers of the open sources."""
    history: Tensor
    """(B' * n, t) tokens so far, without the very first, padded with the end token."""
    log_p: Tensor
    """(B' * n,) log probability of the tokens after the prefix."""
    done: list[int]
    """Indices into `sources` of those whose n hypotheses have all ended; they leave after this step."""


@torch.no_grad()
def walk(backbone: Backbone, state: State, given: Tensor, rules: Rules, choose: Choice, n: int) -> Iterator[Step]:
    """Yield step after step until all have ended; the hypotheses begin with their tokens in `given` (B, 1 + P).

    Raises: InputError if the model's numbers are not finite.
    """
    sources = torch.arange(len(given), device=given.device)
    hidden = backbone.step(given, state)[:, -1]  # (B, D)
    if n > 1:
        state.select(sources[:, None].expand(-1, n))
        hidden, given = hidden.repeat_interleave(n, 0), given.repeat_interleave(n, 0)
    history = given[:, 1:]  # (B * n, P)
    total = hidden.new_zeros(len(history), dtype=torch.float32)
    ended = torch.zeros_like(total, dtype=torch.bool)
    while True:
        log_p = rules.log_probabilities(backbone.logits(hidden), history, sources)  # (N, V)
        token = choose(log_p, history.size(1), sources).masked_fill_(ended, rules.end)  # (N,)
        total += log_p.gather(1, token[:, None]).squeeze(1).masked_fill_(ended, 0.0)
        history = torch.cat((history, token[:, None]), 1)
        ended |= rules.ends(token.view(-1, n), history.size(1), sources).flatten()
        broken = ~(total.view(-1, n) > -torch.inf).all(1)  # (B',)
        done = (broken | ended.view(-1, n).all(1)).nonzero().squeeze(1).tolist()
        if done:
            rules.check_numbers(total)
        yield Step(sources, history, total, done)
        if len(done) == len(sources):
            return
        if done:
            open_ = ~ended.view(-1, n).all(1)
            rows = torch.arange(len(ended), device=ended.device).view(-1, n)[open_]  # (B', n)
            state.select(rows)
            sources, rows = sources[open_], rows.flatten()
            token, history, total, ended = token[rows], history[rows], total[rows], ended[rows]
        hidden = backbone.step(token[:, None], state)[:, -1]  # (N, D)


def collect(steps: Iterator[Step], sources: int, n: int, rules: Rules) -> list[list[Hypothesis]]:
    """Walk to the end and return the n hypotheses of each source, best first."""
    found: list[list[Hypothesis]] = [[] for _ in range(sources)]
    for step in steps:
        if step.done:
            owners = step.sources[step.done].repeat_interleave(n)
            histories = step.history.unflatten(0, (-1, n))[step.done].flatten(0, 1)
            for source, hypothesis in rules.hypotheses(owners, histories, step.log_p.view(-1, n)[step.done].flatten()):
                found[source].append(hypothesis)
    return [best_first(hypotheses) for hypotheses in found]


def number_of(tokens: Sequence[int]) -> int:
    """Return a number that follows from the tokens of a source, so that its samples do not depend on its place.

    >>> number_of([5, 6]) == number_of((5, 6)) != number_of([6, 5])
    True
    """
    return int.from_bytes(blake2b(np.array(tokens, dtype="<i8").tobytes(), digest_size=8).digest(), "little")


def most_likely(log_p: Tensor, position: int, sources: Tensor) -> Tensor:
    """Choose the most likely token of each row (N, V): (N,)."""
    return log_p.argmax(-1)


class Sampler:
    """Draws tokens with separate noise for each source: a sample does not depend on the rest of the batch."""

    def __init__(self, decoding: Decoding, ids: Sequence[int], limits: Sequence[int], device: torch.device) -> None:
        self.decoding = decoding
        seed = decoding.seed if decoding.seed is not None else int(torch.randint(2**62, ()))
        noise = np.zeros((len(ids), max(limits), decoding.n_best), dtype=np.float32)  # (B, T, n)
        for line, number, limit in zip(noise, ids, limits, strict=True):
            line[:limit] = np.random.default_rng([seed, number]).random((limit, decoding.n_best), dtype=np.float32)
        self.noise = torch.from_numpy(noise).to(device)

    def __call__(self, log_p: Tensor, position: int, sources: Tensor) -> Tensor:
        """Draw one token for each row of `log_p` (N, V): (N,)."""
        log_p = log_p / self.decoding.temperature
        if 0 < self.decoding.top_k < log_p.size(-1):
            log_p = keep_top_k(log_p, self.decoding.top_k)
        if self.decoding.top_p < 1:
            log_p = keep_top_p(log_p, self.decoding.top_p)
        if self.decoding.min_p > 0:
            log_p = keep_min_p(log_p, self.decoding.min_p)
        return draw(log_p, self.noise[sources, position].flatten())


def keep_top_k(log_p: Tensor, k: int) -> Tensor:
    """Mask all but the k most likely tokens of each row (N, V); those as likely as the k-th stay too.

    Source: Fan et al. 2018, "Hierarchical Neural Story Generation", section 5.1.
    """
    least = log_p.topk(k).values[:, -1:]
    return log_p.masked_fill(log_p < least, -torch.inf)


def keep_top_p(log_p: Tensor, p: float) -> Tensor:
    """Mask all but the fewest tokens of each row (N, V) that together have probability p.

    Source: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", section 3.1.
    """
    likely, order = log_p.sort(descending=True)
    share = likely.softmax(-1)
    before = share.cumsum(-1) - share  # probability of all that are likelier
    drop = torch.empty_like(order, dtype=torch.bool).scatter_(1, order, before >= p)
    return log_p.masked_fill(drop, -torch.inf)


def keep_min_p(log_p: Tensor, share: float) -> Tensor:
    """Mask the tokens of each row (N, V) that are less than `share` times as likely as its likeliest.

    Source: Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling", section 3.
    """
    least = log_p.amax(-1, keepdim=True) + np.log(share)
    return log_p.masked_fill(log_p < least, -torch.inf)


def draw(log_p: Tensor, noise: Tensor) -> Tensor:
    """Draw a token of each row (N, V) in proportion to exp(log_p), by inverse transform of the noise (N,) in [0, 1)."""
    # A GPU sums in pieces; in float32, rounding lets a token without mass be drawn. Apple's GPUs have no float64.
    exact = torch.float32 if log_p.device.type == "mps" else torch.float64
    mass = log_p.to(exact).softmax(-1).cumsum(-1)  # (N, V)
    # Noise is at most 1 - 2 ** -24, half a unit of float32 below 1, so the product stays below the total when rounded.
    chosen = torch.searchsorted(mass, noise[:, None].to(exact) * mass[:, -1:], right=True).squeeze(1)
    return chosen.clamp_(max=log_p.size(1) - 1)  # beyond the end if there is NaN
