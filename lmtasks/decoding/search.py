"""From a memory to texts. Knows of a backbone only start, step and logits, and of its state only select."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lmtasks.backbones.base import Backbone, Memory
from lmtasks.decoding.beam import beam_search
from lmtasks.decoding.rules import Rules
from lmtasks.decoding.settings import Decoding, Hypothesis
from lmtasks.decoding.walk import Choice, Sampler, collect, most_likely, walk
from lmtasks.errors import InputError

SLACK = 10  # tokens that a text may have beyond max_ratio times its source: short sources need some


def search(
    backbone: Backbone,
    memory: Memory | None,
    decoding: Decoding,
    start: int,
    end: int,
    forbidden: Sequence[int] = (),
    prefix: Sequence[Sequence[int]] | None = None,
    ids: Sequence[int] | None = None,
) -> list[list[Hypothesis]]:
    """Return up to `n_best` hypotheses for each of B sources, best first, at least one.

    `start` and `end` are token ids; ids in `forbidden` are never produced. `prefix` gives first tokens for each source:
    they have probability 1 and count as text. `memory` is None for a decoder-only model: B is then the number of
    prefixes. `ids` are row numbers, which together with the seed fix the samples (the place in the batch if not given).
    Call it on a backbone in evaluation mode.

    Raises: InputError if a prefix leaves no room below max_length, or holds the end token.
    """
    given, rules = _prepare(memory, decoding, start, end, forbidden, prefix, backbone)
    if not len(given):
        return []
    state = backbone.start(memory)
    if decoding.beam > 1:
        return beam_search(backbone, state, given, rules)
    steps = walk(backbone, state, given, rules, _choice(rules, ids), decoding.n_best)
    return collect(steps, len(given), decoding.n_best, rules)


def stream(
    backbone: Backbone,
    memory: Memory | None,
    decoding: Decoding,
    start: int,
    end: int,
    forbidden: Sequence[int] = (),
    prefix: Sequence[int] = (),
    number: int = 0,
) -> Iterator[int]:
    """Return an iterator over the tokens of one source as they are chosen, those after the prefix, without the end.

    They are those of `search` with the same settings, `number` as the source's id. `memory` holds one source.

    Raises: InputError with a beam, which knows its text only at the end, or with several hypotheses.
    """
    if decoding.beam > 1 or decoding.n_best > 1:
        raise InputError("token by token goes with one hypothesis only; set decoding.beam and decoding.n_best to 1")
    given, rules = _prepare(memory, decoding, start, end, forbidden, [prefix], backbone)
    steps = walk(backbone, backbone.start(memory), given, rules, _choice(rules, [number]), 1)
    chosen = (int(step.history[0, -1]) for step in steps)
    return (token for token in chosen if token != end)


def _prepare(
    memory: Memory | None,
    decoding: Decoding,
    start: int,
    end: int,
    forbidden: Sequence[int],
    prefix: Sequence[Sequence[int]] | None,
    backbone: Backbone,
) -> tuple[Tensor, Rules]:
    """Return what to feed first, start and common prefix (B, 1 + P), and the rules."""
    device = backbone.embedding.weight.device
    if memory is None and prefix is None:
        raise InputError("a model without an encoder goes on from a text; give prefix, one list of tokens for each")
    if end in forbidden:
        raise InputError(f"the end token {end} is among the forbidden ones; every text needs its end")
    lengths = None if memory is None else memory.mask.sum(1).tolist()
    texts = [[] for _ in lengths or ()] if prefix is None else [list(text) for text in prefix]
    if lengths is not None and len(texts) != len(lengths):
        raise InputError(f"prefix has {len(texts)} lists of tokens for {len(lengths)} sources; give one for each")
    limits = [
        _limit(decoding, backbone.max_length, text, end, length)
        for text, length in zip(texts, lengths or [None] * len(texts), strict=True)
    ]
    longest = max(map(len, texts), default=0)
    common = min(map(len, texts), default=0)
    forced = torch.tensor([text + [-1] * (longest - len(text)) for text in texts], dtype=torch.long, device=device)
    forced = forced.view(len(texts), longest)
    given = torch.cat((forced.new_full((len(texts), 1), start), forced[:, :common]), 1)
    banned = torch.tensor(list(forbidden), dtype=torch.long, device=device)
    reach = torch.tensor(limits, dtype=torch.long, device=device)
    return given, Rules(decoding, end, banned, reach, forced, min(limits, default=0))


def _limit(decoding: Decoding, readable: int | None, prefix: list[int], end: int, source_length: int | None) -> int:
    """Return how many tokens a text of this source may have, prefix and end counted; a backbone can read `readable`."""
    longest = decoding.max_length if readable is None else min(decoding.max_length, readable)
    if len(prefix) >= longest:
        raise InputError(f"a prefix of {len(prefix)} tokens leaves no room below max_length {longest}; shorten it")
    if end in prefix:
        raise InputError(f"a prefix holds the end token {end}, after which nothing can follow; remove it")
    if source_length is None or not decoding.max_ratio:
        return longest
    wanted = int(decoding.max_ratio * source_length) + SLACK
    return min(longest, max(wanted, decoding.min_length, len(prefix) + 1))


def _choice(rules: Rules, ids: Sequence[int] | None) -> Choice:
    if not rules.decoding.sample:
        return most_likely
    limits = rules.limits.tolist()
    return Sampler(rules.decoding, range(len(limits)) if ids is None else ids, limits, rules.limits.device)
