"""From a memory, or a prompt, to texts.

All that it uses of a backbone is `init_state`, `step` and `logits`; all that it uses of its state is `select`.
"""

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

SLACK = 10  # tokens that a text may have beyond max_ratio times its source, for short sources


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
    """Return 1 to `n_best` hypotheses for each of B sources, best first; the backbone must be in evaluation mode.

    `start` and `end` are token ids; `suppress_tokens` are never produced. `prefix` gives first tokens for each source:
    they have probability 1 and count as text. `ids` are numbers of the sources, which with the seed fix the samples:
    heads give `number_of` their tokens, by default it is the place in the batch.

    `memory` is None for a language model. It continues `prompt`: for each text at least one token, read in place of
    `start`. Prompts are not part of the text: lengths, scores and hypotheses exclude them.

    Raises: InputError if prompt and prefix leave no room for a text, or if a prefix contains the end token.
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
    """Return an iterator over the tokens of one source as they are chosen, without prefix and end.

    They are those of `search` with the same settings and `number` as the source's id. `memory` holds one source.

    Raises: InputError, at once, with a beam, which knows its text only at the end, or with several hypotheses.
    """
    if decoding.beam > 1 or decoding.n_best > 1:
        raise InputError("streaming works with one hypothesis only; set decoding.beam and decoding.n_best to 1")
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
    """Return the tokens to feed first, as many as every source has (B, 1 + P), and the rules."""
    if memory is None and prompt is None:
        raise InputError("a model without an encoder continues a text; give prompt, one list of tokens for each")
    if end in suppress_tokens:
        raise InputError(f"suppress_tokens contains the end token {end}, which every text needs; remove it")
    sources = [None] * len(prompt or ()) if memory is None else memory.mask.sum(1).tolist()
    prompts = [[start]] * len(sources) if prompt is None else [list(text) for text in prompt]
    prefixes = [[]] * len(sources) if prefix is None else [list(text) for text in prefix]
    for name, given in (("prompt", prompts), ("prefix", prefixes)):
        if len(given) != len(sources):
            raise InputError(f"{name} has {len(given)} lists of tokens for {len(sources)} sources; give one for each")
    rows = list(zip(prompts, prefixes, sources, strict=True))
    limits = [length_limit(decoding, backbone.max_length, before, text, end, source) for before, text, source in rows]
    forced = [[*before, *text] for before, text, _ in rows]
    common = min(map(len, forced), default=1)
    histories = pad(forced, -1).to(backbone.device)  # (B, 1 + P)
    columns = ([len(text) - 1 for text in prompts], limits, list(suppress_tokens))
    before, reach, banned = (torch.tensor(column, dtype=torch.long, device=backbone.device) for column in columns)
    nearest, longest = min(limits, default=0), max(columns[0], default=0)
    return histories[:, :common], Rules(decoding, end, banned, before, reach, histories[:, 1:], nearest, longest)


def length_limit(
    decoding: Decoding,
    readable: int | None,
    prompt: Sequence[int],
    prefix: Sequence[int],
    end: int,
    source: int | None,
) -> int:
    """Return how many tokens may follow the first of the prompt, counting the end; `source` is the source's length.

    A backbone can read `readable` tokens, counting the first but not the end.

    Raises: InputError if prompt and prefix leave no room for a text, or if the prefix contains the end token.
    """
    if not prompt:
        raise InputError("a prompt has no token; give it one, such as the token that begins a text")
    if end in prefix:
        raise InputError(f"a prefix contains the end token {end}, which nothing can follow; remove it")
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
