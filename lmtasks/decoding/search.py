"""From a memory, or a prompt, to texts. Knows of a backbone only start, step and logits, of its state only select."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lmtasks.backbones.base import Backbone, Memory
from lmtasks.batch import pad
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
    suppress_tokens: Sequence[int] = (),
    prefix: Sequence[Sequence[int]] | None = None,
    ids: Sequence[int] | None = None,
    prompt: Sequence[Sequence[int]] | None = None,
) -> list[list[Hypothesis]]:
    """Return up to `n_best` hypotheses for each of B sources, best first, at least one.

    `start` and `end` are token ids; `suppress_tokens` are never produced. `prefix` gives first tokens for each source:
    they have probability 1 and count as text. `ids` are row numbers, which together with the seed fix the samples (the
    place in the batch if not given). Call it on a backbone in evaluation mode.

    `memory` is None for a language model. It goes on from `prompt`, which gives the tokens that it reads in place of
    `start`, at least one for each text. They are no part of the text: neither lengths nor scores count them, and no
    hypothesis holds them.

    Raises: InputError if prompt and prefix leave no room for a text, or if a prefix holds the end token.
    """
    given, rules = _prepare(memory, decoding, start, end, suppress_tokens, prefix, backbone, prompt)
    if not len(given):
        return []
    state = backbone.init_state(memory)
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
    suppress_tokens: Sequence[int] = (),
    prefix: Sequence[int] = (),
    number: int = 0,
    prompt: Sequence[int] | None = None,
) -> Iterator[int]:
    """Return an iterator over the tokens of one source as they are chosen, those after the prefix, without the end.

    They are those of `search` with the same settings, `number` as the source's id. `memory` holds one source.

    Raises: InputError with a beam, which knows its text only at the end, or with several hypotheses.
    """
    if decoding.beam > 1 or decoding.n_best > 1:
        raise InputError("token by token goes with one hypothesis only; set decoding.beam and decoding.n_best to 1")
    prompts = None if prompt is None else [prompt]
    given, rules = _prepare(memory, decoding, start, end, suppress_tokens, [prefix], backbone, prompts)
    steps = walk(backbone, backbone.init_state(memory), given, rules, _choice(rules, [number]), 1)
    chosen = (int(step.history[0, -1]) for step in steps)
    return (token for token in chosen if token != end)


def _prepare(
    memory: Memory | None,
    decoding: Decoding,
    start: int,
    end: int,
    suppress_tokens: Sequence[int],
    prefix: Sequence[Sequence[int]] | None,
    backbone: Backbone,
    prompt: Sequence[Sequence[int]] | None = None,
) -> tuple[Tensor, Rules]:
    """Return what to feed first, all that prompts and prefixes have in common (B, 1 + P), and the rules."""
    if memory is None and prompt is None:
        raise InputError("a model without an encoder goes on from a text; give prompt, one list of tokens for each")
    if end in suppress_tokens:
        raise InputError(f"the end token {end} is among the suppress_tokens ones; every text needs its end")
    sources = [None] * len(prompt or ()) if memory is None else memory.mask.sum(1).tolist()
    prompts = [[start]] * len(sources) if prompt is None else [list(text) for text in prompt]
    prefixes = [[]] * len(sources) if prefix is None else [list(text) for text in prefix]
    for name, given in (("prompt", prompts), ("prefix", prefixes)):
        if len(given) != len(sources):
            raise InputError(f"{name} has {len(given)} lists of tokens for {len(sources)} sources; give one for each")
    limits = [
        _limit(decoding, backbone.max_length, before, text, end, source)
        for before, text, source in zip(prompts, prefixes, sources, strict=True)
    ]
    forced = [[*before, *text] for before, text in zip(prompts, prefixes, strict=True)]
    common = min(map(len, forced), default=1)
    device = backbone.device
    histories = pad(forced, -1).to(device)  # (B, 1 + P)
    before, reach, banned = (
        torch.tensor(numbers, dtype=torch.long, device=device)
        for numbers in ([len(text) - 1 for text in prompts], limits, list(suppress_tokens))
    )
    longest = max(map(len, prompts), default=1) - 1
    rules = Rules(decoding, end, banned, before, reach, histories[:, 1:], min(limits, default=0), longest)
    return histories[:, :common], rules


def _limit(
    decoding: Decoding, readable: int | None, prompt: list[int], prefix: list[int], end: int, source: int | None
) -> int:
    """Return how many tokens may follow the first of the prompt, the end counted.

    A backbone can read `readable` of them, the first counted and the end not. `source` is the length of the source.
    """
    if not prompt:
        raise InputError("a prompt has no token; give it one, such as that which opens a text")
    if end in prefix:
        raise InputError(f"a prefix holds the end token {end}, after which nothing can follow; remove it")
    before = len(prompt) - 1
    longest = decoding.max_length if readable is None else min(decoding.max_length, readable - before)
    if len(prefix) >= longest:
        asked = f"a prefix of {len(prefix)} tokens" if prefix else f"a prompt of {len(prompt)} tokens"
        raise InputError(f"{asked} leaves no room for a text of max_length {decoding.max_length}; shorten it")
    if source is not None and decoding.max_ratio:
        longest = min(longest, max(int(decoding.max_ratio * source) + SLACK, decoding.min_length, len(prefix) + 1))
    return before + longest


def _choice(rules: Rules, ids: Sequence[int] | None) -> Choice:
    if not rules.decoding.sample:
        return most_likely
    limits = rules.limits.tolist()
    return Sampler(rules.decoding, range(len(limits)) if ids is None else ids, limits, rules.limits.device)
