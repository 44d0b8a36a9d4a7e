"""Beam search: follow the most probable hypotheses of each source side by side (Sutskever et al. 2014, section 3.2).

A step ranks the continuations of all open hypotheses of a source. Those of its `beam` best that end are finished, and
the `beam` best that do not end continue: a finished hypothesis never takes the place of an open one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lmtasks.backbones.base import Backbone, State
from lmtasks.decoding.rules import Rules
from lmtasks.decoding.settings import Decoding, Hypothesis, best_first


@torch.no_grad()
def beam_search(backbone: Backbone, state: State, given: Tensor, rules: Rules) -> list[list[Hypothesis]]:
    """Return up to `n_best` hypotheses of each source, best first; all begin with their tokens in `given` (B, 1 + P).

    The beam begins with one hypothesis per source and widens as far as there are different continuations. It ends: at
    the limit of a source its texts may only end, and then none is open.

    Raises: InputError if the model's numbers are not finite.
    """
    decoding, n_best = rules.decoding, rules.decoding.n_best
    kept = decoding.beam if decoding.early_stop == "estimate" else n_best
    found: list[list[Hypothesis]] = [[] for _ in given]
    sources = torch.arange(len(given), device=given.device)  # (B',) those still open
    history = given[:, 1:]  # (B' * K, t)
    totals = torch.zeros(len(given), 1, device=given.device)  # (B', K) log probability of each open hypothesis
    best = totals.new_full((len(given), kept), -torch.inf)  # (B', n) scores of the best finished ones, falling
    ended_count = torch.zeros_like(sources)  # (B',)
    hidden = backbone.step(given, state)[:, -1]  # (B' * K, D)
    while True:
        length = history.size(1) + 1
        log_p = rules.log_probabilities(backbone.logits(hidden), history, sources)
        candidates, rows, tokens = rank(log_p, totals, decoding.beam)  # (B', C) each
        is_end = rules.ends(tokens, length, sources)
        lengths = rules.text_lengths(length, sources)  # (B',)

        ended = candidates.masked_fill(~is_end, -torch.inf)[:, : decoding.beam]
        scores = ended / lengths[:, None] ** decoding.length_penalty  # (B', min(beam, C))
        better = scores > best[:, -1:]
        best = torch.cat((best, scores), 1).topk(kept).values
        ended_count += (ended > -torch.inf).sum(1)

        width = min(decoding.beam, totals.size(1) * (log_p.size(1) - 1))
        totals, places = candidates.masked_fill(is_end, -torch.inf).topk(width)  # (B', K)
        rows, tokens, ended_rows = rows.gather(1, places), tokens.gather(1, places), rows
        limits = rules.limits[sources] - rules.prompts[sources]
        done = is_done(decoding, totals[:, 0], best[:, -1], ended_count, lengths, limits)

        broken = ~(candidates[:, 0] > -torch.inf)  # NaN counts as the largest of all
        # the one wait for the device
        any_better, any_done, any_broken = torch.stack((better.any(), done.any(), broken.any())).tolist()
        if any_broken:
            rules.check_numbers(candidates[:, 0])
        if any_better:
            lines, places = better.nonzero(as_tuple=True)
            texts = history[ended_rows[lines, places]]
            for source, hypothesis in rules.hypotheses(sources[lines], texts, ended[lines, places]):
                found[source].append(hypothesis)
        if any_done:
            open_ = ~done
            sources, rows, tokens, totals = sources[open_], rows[open_], tokens[open_], totals[open_]
            best, ended_count = best[open_], ended_count[open_]
            if not len(sources):
                break
        state.select(rows)
        history = torch.cat((history[rows.flatten()], tokens.view(-1, 1)), 1)
        hidden = backbone.step(tokens.view(-1, 1), state)[:, -1]
    return [best_first(hypotheses)[:n_best] for hypotheses in found]


def rank(log_p: Tensor, totals: Tensor, beam: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the C best continuations of each source, best first: log probability, row continued, token; (B', C) each.

    `log_p` is (B' * K, V), `totals` (B', K). C = beam + K, or fewer if there are no more: at most K of them end, so
    `beam` that do not are among them.
    """
    sources, width = totals.shape
    count = min(beam + width, width * log_p.size(1))
    each = min(count, log_p.size(1))
    values, tokens = log_p.topk(each)  # (B' * K, each): of one row, more than C can never be needed
    values = (values + totals.view(-1, 1)).view(sources, -1)
    values, places = values.topk(count)
    first = torch.arange(0, sources * width, width, device=totals.device)[:, None]
    return values, places // each + first, tokens.view(sources, -1).gather(1, places)


def is_done(
    decoding: Decoding, open_total: Tensor, worst: Tensor, ended_count: Tensor, lengths: Tensor, limits: Tensor
) -> Tensor:
    """Return for which sources the search is over: (B',) bool; it is where no hypothesis is open.

    `open_total` is the log probability of the best open hypothesis, -inf if none is left; `worst` is the score of the
    last of the best finished ones that count, -inf if there are fewer; `lengths` and `limits` count tokens of text, all
    (B',).

    "exact" is safe: a continuation has log p <= open_total <= 0 and a length L with length < L <= limit. Its score
    log p / L^a is at most open_total / L^a, which grows with L if a > 0 and falls if a < 0, so it is at most the value
    at L = limit or at L = length + 1.

    "estimate" takes the present length for L, as transformers does by default: with a > 0 it may miss a better, longer
    text.
    """
    none_open = open_total == -torch.inf
    if decoding.early_stop == "beam":
        return none_open | (ended_count >= decoding.beam)
    longest = limits if decoding.length_penalty > 0 else lengths + 1
    if decoding.early_stop == "estimate":
        longest = lengths
    return none_open | (open_total / longest**decoding.length_penalty <= worst)
