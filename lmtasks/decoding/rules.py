"""Rules for the next token: from logits and the tokens so far to log probabilities, -inf = never.

Two kinds of rule: a penalty changes the model's distribution before it is normalised. A ban removes tokens afterwards
and leaves the log probabilities of the others unchanged, so that scores stay those of the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lmtasks.decoding.settings import Decoding, Hypothesis
from lmtasks.errors import InputError
from lmtasks.finite import REMEDY, is_finite

FLOOR = -1e4  # log probability of a forced end that the model gives none: finite, so that scores can be compared


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
    """(B,) int64 number of tokens of the history before the text."""
    limits: Tensor
    """(B,) int64 most tokens of the history of that source, counting the end."""
    forced: Tensor
    """(B, P) int64 first tokens of the history of each source, prompt and prefix, -1 where there is none."""
    nearest: int
    """The smallest of `limits`, as a number, so that no step waits for the device."""
    longest: int
    """The largest of `prompts`, as a number."""

    def log_probabilities(self, logits: Tensor, history: Tensor, sources: Tensor) -> Tensor:
        """Return the log probability of each next token, a new float32 (N, V), in each row one that is not -inf.

        `logits` is (N, V), `history` (N, t) the tokens so far, without the very first; `sources` (B',) are the numbers
        of the sources to which the N = B' * K rows belong, K rows each.
        """
        length = history.size(1) + 1  # with the next token
        logits = logits.float()
        if self.decoding.repetition_penalty != 1:
            logits = penalise_repetition(logits, history, self.decoding.repetition_penalty)
        log_p = logits.log_softmax(-1)  # (N, V)
        ends = log_p[:, self.end].clone()  # (N,)
        if len(self.suppress_tokens):
            log_p.index_fill_(1, self.suppress_tokens, -torch.inf)
        if self.decoding.no_repeat_ngram:
            ban_repeated_ngrams(log_p, history, self.decoding.no_repeat_ngram)
        width = len(log_p) // len(sources)
        if length < self.longest + self.decoding.min_length:  # too early for the end
            early = (self.prompts[sources] + self.decoding.min_length > length).repeat_interleave(width)  # (N,)
            log_p[:, self.end].masked_fill_(early, -torch.inf)
        if length >= self.nearest:  # a text at its limit may not go on
            log_p.masked_fill_((self.limits[sources] <= length).repeat_interleave(width)[:, None], -torch.inf)
        stuck = ~(log_p.amax(-1) > -torch.inf)  # (N,) nothing is left: every text can end, so every search does
        log_p[:, self.end] = torch.where(stuck, ends.clamp_(min=FLOOR), log_p[:, self.end])
        if length <= self.forced.size(1):  # inside a prompt or prefix: its token, with probability 1
            tokens = self.forced[sources, length - 1].repeat_interleave(width)  # (N,)
            rows = (tokens >= 0).nonzero().squeeze(1)
            log_p[rows] = -torch.inf
            log_p[rows, tokens[rows]] = 0.0
        return log_p

    def check_numbers(self, log_p: Tensor) -> None:
        """Check the log probabilities of texts, which every rule leaves finite unless the model's logits are not.

        Raises: InputError if one is NaN or -inf.
        """
        if not is_finite(log_p):
            raise InputError(f"the model gives no numbers that are finite for the next token; {REMEDY}")

    def ends(self, tokens: Tensor, length: int, sources: Tensor) -> Tensor:
        """Return which tokens (B', n), at place `length` of the history, end a text: not those in a prompt."""
        return (tokens == self.end) & (self.prompts[sources] < length)[:, None]

    def text_lengths(self, length: int, sources: Tensor) -> Tensor:
        """Return how many of `length` tokens of history are text, at least 1: (B',)."""
        return (length - self.prompts[sources]).clamp(min=1)

    def hypotheses(self, sources: Tensor, history: Tensor, log_p: Tensor) -> Iterator[tuple[int, Hypothesis]]:
        """Yield the source (M,) and the text of each history (M, t) without prompt and end, with its score."""
        columns = (sources, self.prompts[sources], history, log_p)
        for source, prompt, line, value in zip(*(column.tolist() for column in columns), strict=True):
            text = line[prompt:]
            text = text[: text.index(self.end)] if self.end in text else text
            yield source, Hypothesis.of(text, value, self.decoding.length_penalty)


def penalise_repetition(logits: Tensor, history: Tensor, penalty: float) -> Tensor:
    """Return logits (N, V) with the tokens of the history (N, t) made less likely by the factor `penalty`.

    Source: Keskar et al. 2019, "CTRL", section 4.1.
    """
    # the paper divides, which lowers logits above 0; below 0 it takes the product to lower them
    seen = logits.gather(1, history)  # (N, t)
    return logits.scatter(1, history, torch.where(seen > 0, seen / penalty, seen * penalty))


def ban_repeated_ngrams(log_p: Tensor, history: Tensor, n: int) -> None:
    """Ban, in place, each token that would repeat an n-gram of the history (N, t).

    Source: Paulus et al. 2018, "A Deep Reinforced Model for Abstractive Summarization", section 2.5.
    """
    if history.size(1) < n:
        return
    ngrams = history.unfold(1, n, 1)  # (N, t - n + 1, n)
    last = history[:, history.size(1) - n + 1 :]  # (N, n - 1), which the next token would complete
    rows, places = (ngrams[..., :-1] == last[:, None]).all(-1).nonzero(as_tuple=True)
    log_p[rows, ngrams[rows, places, -1]] = -torch.inf
