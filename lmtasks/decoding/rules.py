"""What a hypothesis may say next: from logits and what was said to log probabilities, -inf = never.

Two kinds of rule: a penalty bends the model's distribution before it is normalised; a ban strikes tokens out afterwards
and leaves the others' log probabilities as the model gave them, so that scores stay those of the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lmtasks.decoding.settings import Decoding

FLOOR = -1e4  # log probability of an end that is due although the model gives it none


@dataclass(frozen=True)
class Rules:
    """The rules of one search over B sources."""

    decoding: Decoding
    """Settings of the search."""
    end: int
    """Id of the token that ends a text."""
    suppress_tokens: Tensor
    """(F,) int64 ids that are never produced."""
    prompts: Tensor
    """(B,) int64 tokens of the history that stand before the text."""
    limits: Tensor
    """(B,) int64 tokens of the history, the end counted, after which a text of that source must be over."""
    forced: Tensor
    """(B, P) int64 first tokens of the history of each source, prompt and prefix, -1 where there is none."""
    nearest: int
    """The smallest of `limits`."""
    longest: int
    """The largest of `prompts`."""

    def log_probabilities(self, logits: Tensor, history: Tensor, sources: Tensor) -> Tensor:
        """Return the log probability of each next token, a new float32 (N, V).

        `logits` is (N, V) and `history` (N, t) the tokens so far, without the very first; `sources` (B',) numbers the
        sources that the N = B' * K rows belong to, K rows each.
        """
        length = history.size(1) + 1  # with the next token
        logits = logits.float()
        if self.decoding.repetition_penalty != 1:
            logits = penalise_repetition(logits, history, self.decoding.repetition_penalty)
        log_p = logits.log_softmax(-1)  # (N, V)
        if len(self.suppress_tokens):
            log_p.index_fill_(1, self.suppress_tokens, -torch.inf)
        if self.decoding.no_repeat_ngram:
            ban_repeated_ngrams(log_p, history, self.decoding.no_repeat_ngram)
        if length < self.longest + self.decoding.min_length:
            ban_end(log_p, self.prompts[sources] + self.decoding.min_length > length, self.end)
        if length >= self.nearest:
            force_end(log_p, self.limits[sources] <= length, self.end)
        if length <= self.forced.size(1):
            force(log_p, self.forced[sources, length - 1])
        return log_p

    def ends(self, tokens: Tensor, length: int, sources: Tensor) -> Tensor:
        """Tell which tokens (B', n), at place `length` of the history, end a text: not those in a prompt."""
        return (tokens == self.end) & (self.prompts[sources] < length)[:, None]

    def text_lengths(self, length: int, sources: Tensor) -> Tensor:
        """Return how many of `length` tokens of history are text, at least 1: (B',)."""
        return (length - self.prompts[sources]).clamp(min=1)


def penalise_repetition(logits: Tensor, history: Tensor, penalty: float) -> Tensor:
    """Return logits (N, V) with the tokens of the history (N, t) made less likely by the factor `penalty`.

    Source: Keskar et al. 2019, "CTRL", section 4.1. The paper divides, for logits above 0; below 0 the same aim needs
    the product.
    """
    seen = logits.gather(1, history)  # (N, t)
    return logits.scatter(1, history, torch.where(seen > 0, seen / penalty, seen * penalty))


def ban_repeated_ngrams(log_p: Tensor, history: Tensor, n: int) -> None:
    """Strike out, in place, each token that would repeat an n-gram of the history (N, t).

    Source: Paulus et al. 2018, "A Deep Reinforced Model for Abstractive Summarization", section 2.5.
    """
    if history.size(1) < n:
        return
    ngrams = history.unfold(1, n, 1)  # (N, t - n + 1, n)
    last = history[:, history.size(1) - n + 1 :]  # (N, n - 1), what the next token would complete
    rows, places = (ngrams[..., :-1] == last[:, None]).all(-1).nonzero(as_tuple=True)
    log_p[rows, ngrams[rows, places, -1]] = -torch.inf


def ban_end(log_p: Tensor, early: Tensor, end: int) -> None:
    """Strike out, in place, the end of the rows (B' * K, V) of the sources for which it is too early (B',).

    Where nothing else is left it stays: a text that cannot go on is over.
    """
    early = early.repeat_interleave(len(log_p) // len(early))  # (N,)
    ends = log_p[:, end].clone()  # (N,)
    log_p[:, end] = -torch.inf
    stuck = log_p.amax(-1) == -torch.inf
    log_p[:, end] = ends.masked_fill_(early & ~stuck, -torch.inf)


def force_end(log_p: Tensor, due: Tensor, end: int) -> None:
    """Leave, in place, only the end to the rows (B' * K, V) of the sources that are due (B',)."""
    rows = due.repeat_interleave(len(log_p) // len(due)).nonzero().squeeze(1)
    if len(rows):
        ends = log_p[rows, end].clamp_(min=FLOOR)
        log_p[rows] = -torch.inf
        log_p[rows, end] = ends


def force(log_p: Tensor, tokens: Tensor) -> None:
    """Leave, in place, only one token (B',) to a source's rows (B' * K, V), with probability 1; -1 changes nothing."""
    tokens = tokens.repeat_interleave(len(log_p) // len(tokens))  # (N,)
    rows = (tokens >= 0).nonzero().squeeze(1)
    log_p[rows] = -torch.inf
    log_p[rows, tokens[rows]] = 0.0
