"""Tiny models for the tests of search: a table of logits, a script, real backbones; and all texts by brute force."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from lmtasks.backbones.base import Backbone, BackboneConfig, Memory, State
from lmtasks.backbones.recurrent import RecurrentConfig
from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.decoding import Decoding, Hypothesis, search
from lmtasks.decoding.rules import FLOOR

PAD, START, END = 0, 1, 2
FREE_RATIO = {"max_ratio": 0.0}


class TableState(State):
    """Which source a row belongs to and a number that stands for all its tokens so far."""

    def __init__(self, sources: Tensor) -> None:
        self.sources = sources  # (B,)
        self.keys = torch.zeros(len(sources), dtype=torch.long)  # (N,)

    def select(self, rows: Tensor) -> None:
        width = len(self.keys) // len(self.sources)
        owners = rows // width
        assert (owners == owners[:, :1]).all(), "a line holds rows of one source"
        assert (owners[:, 0].diff() > 0).all(), "sources keep their order"
        self.sources, self.keys = self.sources[owners[:, 0]], self.keys[rows.flatten()]


class Table(Backbone):
    """A model that looks its logits up in a table, by source and by all the tokens so far."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = table  # (sources, M, V)
        self.embedding = nn.Embedding(table.size(2), 1)
        self.rows_seen: list[int] = []

    def encode(self, source: Tensor, mask: Tensor) -> Memory:
        return Memory(source[..., None].float(), mask)

    def decode(self, target: Tensor, memory: Memory | None) -> Tensor:
        return self.step(target, self.init_state(memory))

    def init_state(self, memory: Memory | None) -> TableState:
        assert memory is not None
        return TableState(memory.states[:, 0, 0].long())

    def step(self, target: Tensor, state: State) -> Tensor:
        assert isinstance(state, TableState)
        self.rows_seen.append(len(target))
        assert len(target) == len(state.keys)
        sources = state.sources.repeat_interleave(len(target) // len(state.sources))
        hidden = []
        for token in target.T:
            state.keys = (state.keys * 31 + token + 1) % self.table.size(1)
            hidden.append(self.table[sources, state.keys])
        return torch.stack(hidden, 1)

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden.clone()

    def _output(self) -> tuple[Tensor, Tensor | None]:
        raise NotImplementedError

    def alignment(self, target: Tensor, memory: Memory) -> Tensor:
        raise NotImplementedError


def table_model(seed: int, sources: int = 1, vocab: int = 5, sharpness: float = 1.5) -> Table:
    generator = torch.Generator().manual_seed(seed)
    return Table(torch.randn(sources, 499, vocab, generator=generator) * sharpness)


def table_memory(model: Table, numbers: list[int], lengths: list[int] | None = None) -> Memory:
    lengths = lengths or [3] * len(numbers)
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return model.encode(torch.tensor(numbers)[:, None].expand(-1, max(lengths)), mask)


def real_model(kind: str, seed: int, vocab: int, encoder: bool = True) -> Backbone:
    torch.manual_seed(seed)
    layers = {"encoder_layers": int(encoder)}
    if kind == "recurrent":
        config: BackboneConfig = RecurrentConfig(d_model=6, d_hidden=6, d_attention=4, **layers)
    else:
        config = TransformerConfig(d_model=8, n_heads=2, d_ff=8, decoder_layers=2, **layers)
    model = config.build(vocab).eval()
    with torch.no_grad():
        model.embedding.weight.mul_(3)  # less even distributions
    return model


def real_memory(model: Backbone, seed: int, lengths: list[int]) -> Memory:
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(3, model.embedding.num_embeddings, (len(lengths), max(lengths)), generator=generator)
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return model.encode(source.masked_fill(~mask, PAD), mask)


def one(memory: Memory, line: int) -> Memory:
    """The source `line` alone and without padding."""
    length = int(memory.mask[line].sum())
    return Memory(memory.states[line : line + 1, :length], memory.mask[line : line + 1, :length])


class Scripted(Table):
    """A table model whose probabilities are written by hand as a function of the tokens so far."""

    def __init__(self, script, vocab: int) -> None:
        super().__init__(torch.zeros(1, 1, vocab))
        self.script, self.vocab = script, vocab

    def init_state(self, memory: Memory | None) -> ScriptedState:
        assert memory is not None
        return ScriptedState([[]] * len(memory.mask))

    def step(self, target: Tensor, state: State) -> Tensor:
        assert isinstance(state, ScriptedState)
        self.rows_seen.append(len(target))
        state.texts = [text + row for text, row in zip(state.texts, target.tolist(), strict=True)]
        probabilities = [self.script(text[1:]) for text in state.texts]
        return torch.tensor([[[p.get(v, 1e-9) for v in range(self.vocab)]] for p in probabilities]).log()


class ScriptedState(State):
    def __init__(self, texts: list[list[int]]) -> None:
        self.texts = texts

    def select(self, rows: Tensor) -> None:
        self.texts = [self.texts[row] for row in rows.flatten().tolist()]


def expand(memory: Memory, copies: int) -> Memory:
    return Memory(memory.states.expand(copies, -1, -1), memory.mask.expand(copies, -1))


@torch.no_grad()
def brute_force(
    model: Backbone,
    memory: Memory | None,
    decoding: Decoding,
    prefix: tuple[int, ...] = (),
    prompt: tuple[int, ...] = (START,),
) -> list[Hypothesis]:
    """All texts of one source that obey the lengths, scored by whole-target decoding, best first."""
    free = range(END + 1, model.embedding.num_embeddings)
    found = []
    for count in range(max(decoding.min_length - 1, len(prefix)), decoding.max_length):
        texts = [(*prefix, *rest) for rest in itertools.product(free, repeat=count - len(prefix))]
        targets = torch.tensor([[*prompt, *text] for text in texts])
        wide = None if memory is None else expand(memory, len(texts))
        log_p = model.logits(model.decode(targets, wide)).log_softmax(-1)[:, len(prompt) - 1 :]
        following = torch.tensor([[*text, END] for text in texts])
        steps = log_p.gather(2, following[..., None]).squeeze(2)[:, len(prefix) :]
        for text, value in zip(texts, steps.sum(1).tolist(), strict=True):
            found.append(Hypothesis.of(list(text), value, decoding.length_penalty))
    return sorted(found, key=lambda hypothesis: -hypothesis.score)


def run(model: Backbone, memory: Memory, decoding: Decoding, **more) -> list[list[Hypothesis]]:
    return search(model, memory, decoding, START, END, suppress_tokens=(PAD, START), **more)


def assert_same(found: list[Hypothesis], wanted: list[Hypothesis]) -> None:
    assert len(found) == len(wanted)
    for mine, other in zip(found, wanted, strict=True):
        assert mine.score == pytest.approx(other.score, rel=1e-4, abs=1e-4)
        assert mine.log_probability == pytest.approx(other.log_probability, abs=1e-4) or mine.tokens != other.tokens
    gaps = [abs(a.score - b.score) for a, b in itertools.pairwise(wanted)]
    if min(gaps, default=1) > 1e-3:  # no ties
        assert [mine.tokens for mine in found] == [other.tokens for other in wanted]


def naive_log_p(model: Table, memory: Memory, history: list[int], decoding: Decoding) -> list[float]:
    """Log probabilities of the next token by loops over lists."""
    logits = model.logits(model.decode(torch.tensor([[START, *history]]), memory))[0, -1].tolist()
    for token in set(history):
        factor = decoding.repetition_penalty
        logits[token] = logits[token] / factor if logits[token] > 0 else logits[token] * factor
    highest = max(logits)
    total = highest + math.log(sum(math.exp(value - highest) for value in logits))
    log_p = [value - total for value in logits]
    n = decoding.no_repeat_ngram
    seen = {tuple(history[i : i + n]) for i in range(len(history) - n + 1)} if n else set()
    for token in range(len(log_p)):
        if token in (PAD, START) or (n and (*history[len(history) - n + 1 :], token) in seen):
            log_p[token] = -math.inf
    end = max(log_p[END], FLOOR)
    if len(history) + 1 < decoding.min_length:
        log_p[END] = -math.inf
    if len(history) + 1 >= decoding.max_length:
        log_p = [-math.inf] * len(log_p)
    if max(log_p) == -math.inf:
        log_p[END] = end
    return log_p
