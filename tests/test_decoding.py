"""Search against brute force over all texts, rules against naive loops, samples against the distribution."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lmtasks.backbones.base import Backbone, Memory, State
from lmtasks.backbones.recurrent import RecurrentConfig
from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.decoding import Decoding, Hypothesis, search, stream
from lmtasks.decoding.beam import beam_search
from lmtasks.decoding.rules import Rules, ban_repeated_ngrams
from lmtasks.decoding.search import _prepare
from lmtasks.decoding.walk import draw, keep_min_p, keep_top_k, keep_top_p
from lmtasks.errors import InputError

PAD, START, END = 0, 1, 2
FREE_RATIO = {"max_ratio": 0.0}
quick = settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 10_000)
penalties = st.sampled_from([-0.5, 0.0, 0.6, 1.0, 2.0])


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
        return self.step(target, self.start(memory))

    def start(self, memory: Memory | None) -> TableState:
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

    def output(self) -> tuple[Tensor, Tensor | None]:
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


def real_model(kind: str, seed: int, vocab: int) -> Backbone:
    torch.manual_seed(seed)
    if kind == "recurrent":
        config: RecurrentConfig | TransformerConfig = RecurrentConfig(d_model=6, d_hidden=6, d_attention=4)
    else:
        config = TransformerConfig(d_model=8, n_heads=2, d_ff=8, encoder_layers=1, decoder_layers=2)
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


@torch.no_grad()
def brute_force(model: Backbone, memory: Memory, decoding: Decoding, prefix: tuple[int, ...] = ()) -> list[Hypothesis]:
    """All texts of one source that obey the lengths, scored by whole-target decoding, best first."""
    free = range(END + 1, model.embedding.num_embeddings)
    found = []
    for count in range(max(decoding.min_length - 1, len(prefix)), decoding.max_length):
        texts = [(*prefix, *rest) for rest in itertools.product(free, repeat=count - len(prefix))]
        targets = torch.tensor([[START, *text] for text in texts])
        wide = Memory(*(part.expand(len(texts), *part.shape[1:]) for part in (memory.states, memory.mask)))
        log_p = model.logits(model.decode(targets, wide)).log_softmax(-1)
        following = torch.tensor([[*text, END] for text in texts])
        steps = log_p.gather(2, following[..., None]).squeeze(2)[:, len(prefix) :]
        for text, value in zip(texts, steps.sum(1).tolist(), strict=True):
            found.append(Hypothesis.of(list(text), value, decoding.length_penalty))
    return sorted(found, key=lambda hypothesis: -hypothesis.score)


def run(model: Backbone, memory: Memory, decoding: Decoding, **more) -> list[list[Hypothesis]]:
    return search(model, memory, decoding, START, END, forbidden=(PAD, START), **more)


def assert_same(found: list[Hypothesis], wanted: list[Hypothesis]) -> None:
    assert len(found) == len(wanted)
    for mine, other in zip(found, wanted, strict=True):
        assert mine.score == pytest.approx(other.score, abs=1e-4)
        assert mine.log_probability == pytest.approx(other.log_probability, abs=1e-4) or mine.tokens != other.tokens
    gaps = [abs(a.score - b.score) for a, b in itertools.pairwise(wanted)]
    if min(gaps, default=1) > 1e-3:  # no ties
        assert [mine.tokens for mine in found] == [other.tokens for other in wanted]


# Against brute force


@quick
@given(seeds, penalties, st.sampled_from([1, 3, 7]), st.integers(4, 6), st.integers(0, 3))
def test_a_wide_beam_finds_what_brute_force_finds(seed, penalty, n_best, vocab, min_length):
    model = table_model(seed, sources=3, vocab=vocab)
    decoding = Decoding(100, penalty, n_best, max_length=4, min_length=min_length, **FREE_RATIO)
    memory = table_memory(model, [2, 0, 1])
    for line, found in enumerate(run(model, memory, decoding)):
        assert_same(found, brute_force(model, one(memory, line), decoding)[:n_best])


@pytest.mark.parametrize("kind", ["recurrent", "transformer"])
@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=seeds, penalty=penalties, n_best=st.sampled_from([1, 4]))
def test_a_wide_beam_finds_what_brute_force_finds_with_real_backbones(kind, seed, penalty, n_best):
    model = real_model(kind, seed, vocab=6)
    memory = real_memory(model, seed, [3, 1, 5])
    decoding = Decoding(60, penalty, n_best, max_length=4, **FREE_RATIO)
    for line, found in enumerate(run(model, memory, decoding)):
        assert_same(found, brute_force(model, one(memory, line), decoding)[:n_best])


def test_all_texts_are_found_when_all_are_wanted():
    model = table_model(1, vocab=5)
    decoding = Decoding(200, n_best=200, max_length=4, **FREE_RATIO)
    memory = table_memory(model, [0])
    assert_same(run(model, memory, decoding)[0], brute_force(model, memory, decoding))


@quick
@given(seeds, penalties)
def test_a_prefix_is_kept_and_searched_on_from(seed, penalty):
    model = table_model(seed, sources=3, vocab=5)
    memory = table_memory(model, [0, 1, 2])
    prefix = [[3], [4, 3], [3, 4, 4]]
    decoding = Decoding(60, penalty, n_best=2, max_length=5, **FREE_RATIO)
    for line, found in enumerate(run(model, memory, decoding, prefix=prefix)):
        assert_same(found, brute_force(model, one(memory, line), decoding, tuple(prefix[line]))[:2])


# Beam


@quick
@given(seeds, st.sampled_from([0.0, 0.6, 1.0, 2.0, -1.0]), st.integers(2, 4), st.integers(1, 2))
def test_exact_early_stop_changes_nothing(seed, penalty, beam, n_best):
    model = table_model(seed, sources=4, vocab=7)
    memory = table_memory(model, [0, 1, 2, 3], [1, 2, 3, 4])
    decoding = Decoding(beam, penalty, n_best, max_length=13, max_ratio=1.0)
    with pytest.MonkeyPatch.context() as patch:
        stopped = run(model, memory, decoding)
        steps = len(model.rows_seen)
        patch.setattr("lmtasks.decoding.beam.is_done", lambda d, total, *rest: total == -torch.inf)
        assert run(model, memory, decoding) == stopped
        assert steps <= len(model.rows_seen) - steps


@quick
@given(seeds, st.sampled_from(["exact", "beam"]), st.integers(1, 4))
def test_a_batch_finds_what_each_source_finds_alone(seed, early_stop, beam):
    model = table_model(seed, sources=5, vocab=7)
    memory = table_memory(model, [4, 1, 0, 2, 3], [3, 1, 4, 1, 5])
    prefix: list[list[int]] = [[], [3], [], [4, 5, 3], [6]]
    decoding = Decoding(beam, max_length=18, max_ratio=0.5, early_stop=early_stop)
    together = run(model, memory, decoding, prefix=prefix)
    for line in range(5):
        assert_same(together[line], run(model, one(memory, line), decoding, prefix=[prefix[line]])[0])


@pytest.mark.parametrize("kind", ["recurrent", "transformer"])
@pytest.mark.parametrize("beam", [1, 3])
def test_a_batch_finds_what_each_source_finds_alone_with_real_backbones(kind, beam):
    model = real_model(kind, 3, vocab=12)
    memory = real_memory(model, 3, [2, 7, 1, 4])
    decoding = Decoding(beam, max_length=14, max_ratio=1.0)
    prefix = [[5], [6, 7], [5], [8, 9, 10]]
    together = run(model, memory, decoding, prefix=prefix)
    for line in range(4):
        assert_same(together[line], run(model, one(memory, line), decoding, prefix=[prefix[line]])[0])


@quick
@given(seeds)
def test_beam_search_of_width_1_is_greedy(seed):
    model = table_model(seed, sources=3, vocab=8)
    memory = table_memory(model, [0, 1, 2])
    decoding = Decoding(1, max_length=9, early_stop="beam")
    tokens, rules = _prepare(memory, decoding, START, END, (PAD, START), None, model)
    assert_same(sum(run(model, memory, decoding), []), sum(beam_search(model, model.start(memory), tokens, rules), []))


def test_greedy_takes_the_likeliest_token_each_time():
    model = table_model(5, vocab=8)
    memory = table_memory(model, [0])
    found = run(model, memory, Decoding(1, max_length=12))[0][0]
    text: list[int] = []
    while len(text) < 11:
        logits = model.logits(model.decode(torch.tensor([[START, *text]]), memory))[0, -1]
        logits[[PAD, START]] = -torch.inf
        if (token := int(logits.argmax())) == END:
            break
        text.append(token)
    assert found.tokens == text


@quick
@given(seeds)
def test_a_wider_beam_is_as_good_as_its_brute_force_bound_allows(seed):
    model = table_model(seed, vocab=6)
    memory = table_memory(model, [0])
    decoding = Decoding(3, max_length=4, n_best=3, **FREE_RATIO)
    every = {tuple(text.tokens): text for text in brute_force(model, memory, decoding)}
    found = run(model, memory, decoding)[0]
    assert len({tuple(text.tokens) for text in found}) == len(found) == 3
    assert_same(found, [every[tuple(text.tokens)] for text in found])
    assert [text.score for text in found] == sorted((text.score for text in found), reverse=True)


def test_the_exact_bound_does_not_stop_before_a_long_certain_text():
    # The end is at hand with p = 0.3, but token 3 (p = 0.7) leads to certainty: better only by the mean of many tokens.
    def logits(history: list[int]) -> dict[int, float]:
        return {3: 0.7, END: 0.3} if not history else {3: 1.0} if len(history) < 8 else {END: 1.0}

    model = Scripted(logits, vocab=5)
    memory = table_memory(model, [0])
    late = run(model, memory, Decoding(2, length_penalty=1.0, max_length=12, **FREE_RATIO))[0][0]
    assert late.tokens == [3] * 8
    assert late.score == pytest.approx(math.log(0.7) / 9, abs=1e-4)


class Scripted(Table):
    """A table model whose probabilities are written by hand as a function of the tokens so far."""

    def __init__(self, script, vocab: int) -> None:
        super().__init__(torch.zeros(1, 1, vocab))
        self.script, self.vocab = script, vocab

    def start(self, memory: Memory | None) -> ScriptedState:
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


def test_stopping_when_the_beam_has_ended_is_sooner():
    model = table_model(0, sources=8, vocab=9)
    memory = table_memory(model, list(range(8)))
    run(model, memory, Decoding(4, max_length=30, max_ratio=9.0, early_stop="beam"))
    soon = sum(model.rows_seen)
    model.rows_seen.clear()
    run(model, memory, Decoding(4, max_length=30, max_ratio=9.0, early_stop="exact"))
    assert soon < sum(model.rows_seen)


@pytest.mark.parametrize("beam", [1, 4])
def test_finished_sources_leave_the_batch(beam):
    # Source b ends after b + 1 tokens, with certainty.
    table = torch.full((4, 499, 6), -30.0)
    model = Table(table)
    for source in range(4):
        key = 0
        for step in range(source + 1):
            key = (key * 31 + (START if step == 0 else 3) + 1) % 499
            table[source, key, END if step == source else 3] = 30.0
    found = run(model, table_memory(model, [0, 1, 2, 3]), Decoding(beam, length_penalty=0.0, max_length=9))
    assert [len(lines[0].tokens) for lines in found] == [0, 1, 2, 3]
    first_width = min(beam, 5)
    assert model.rows_seen == [4, 3 * first_width, 2 * beam, 1 * beam]


# Rules


def naive_log_p(model: Table, memory: Memory, history: list[int], decoding: Decoding) -> list[float]:
    """Log probabilities of the next token by loops over lists."""
    logits = model.logits(model.decode(torch.tensor([[START, *history]]), memory))[0, -1].tolist()
    for token in set(history):
        factor = decoding.repetition_penalty
        logits[token] = logits[token] / factor if logits[token] > 0 else logits[token] * factor
    total = math.log(sum(math.exp(value) for value in logits))
    log_p = [value - total for value in logits]
    n = decoding.no_repeat_ngram
    seen = {tuple(history[i : i + n]) for i in range(len(history) - n + 1)} if n else set()
    for token in range(len(log_p)):
        if token in (PAD, START) or (n and (*history[len(history) - n + 1 :], token) in seen):
            log_p[token] = -math.inf
    if len(history) + 1 < decoding.min_length:
        log_p[END] = -math.inf
    if len(history) + 1 >= decoding.max_length:
        log_p = [value if token == END else -math.inf for token, value in enumerate(log_p)]
    return log_p


@quick
@given(seeds, st.sampled_from([1.0, 0.5, 1.7]), st.integers(0, 3), st.integers(0, 4), st.booleans())
def test_rules_agree_with_naive_loops(seed, penalty, ngram, min_length, half):
    model = table_model(seed, vocab=6)
    if half:
        model.table = model.table.bfloat16().float()
    decoding = Decoding(
        1, max_length=6, min_length=min_length, repetition_penalty=penalty, no_repeat_ngram=ngram, **FREE_RATIO
    )
    memory = table_memory(model, [0])
    generator = torch.Generator().manual_seed(seed)
    _, rules = _prepare(memory, decoding, START, END, (PAD, START), None, model)
    for length in range(6):
        history = torch.randint(3, 5, (3, length), generator=generator)
        logits = model.logits(model.decode(torch.cat((torch.full((3, 1), START), history), 1), expand(memory, 3)))[
            :, -1
        ]
        found = rules.log_probabilities(logits, history, torch.tensor([0]))
        for row in range(3):
            wanted = torch.tensor(naive_log_p(model, memory, history[row].tolist(), decoding))
            torch.testing.assert_close(found[row], wanted)


def expand(memory: Memory, copies: int) -> Memory:
    return Memory(memory.states.expand(copies, -1, -1), memory.mask.expand(copies, -1))


@quick
@given(seeds, st.sampled_from([1, 4]), st.integers(1, 3), st.booleans())
def test_no_ngram_is_repeated(seed, beam, n, sample):
    model = table_model(seed, vocab=6, sharpness=4.0)
    model.table[..., END] -= 4
    decoding = Decoding(1 if sample else beam, max_length=30, no_repeat_ngram=n, sample=sample, seed=seed, **FREE_RATIO)
    tokens = run(model, table_memory(model, [0]), decoding)[0][0].tokens
    ngrams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    assert len(set(ngrams)) == len(ngrams)


def test_ngrams_longer_than_the_history_ban_nothing():
    log_p = torch.zeros(2, 6)
    ban_repeated_ngrams(log_p, torch.tensor([[3, 3], [4, 5]]), 3)
    ban_repeated_ngrams(log_p, torch.zeros(2, 0, dtype=torch.long), 1)
    assert (log_p == 0).all()


@pytest.mark.parametrize("how", [{"beam": 1}, {"beam": 3}, {"beam": 1, "sample": True, "seed": 1}])
def test_lengths_stay_within_their_limits(how):
    model = table_model(2, sources=6, vocab=6)
    memory = table_memory(model, list(range(6)), [1, 1, 2, 3, 4, 5])
    for found in run(model, memory, Decoding(**how, max_length=11, min_length=7)):
        assert 7 <= len(found[0].tokens) + 1 <= 11
    model.table[..., END] = -20
    for length, found in zip([1, 1, 2, 3, 4, 5], run(model, memory, Decoding(**how, max_ratio=1.5)), strict=True):
        assert len(found[0].tokens) + 1 == int(1.5 * length) + 10
    assert run(model, memory, Decoding(**how, max_length=1))[0][0].tokens == []


@pytest.mark.parametrize("how", [{"beam": 1}, {"beam": 3}, {"beam": 1, "sample": True, "seed": 1}])
def test_a_text_that_cannot_go_on_ends_before_min_length(how):
    model = table_model(2, vocab=6)
    decoding = Decoding(**how, max_length=20, min_length=15, no_repeat_ngram=1)
    assert sorted(run(model, table_memory(model, [0]), decoding)[0][0].tokens) == [3, 4, 5]


@pytest.mark.parametrize("how", [{"beam": 1}, {"beam": 3}, {"beam": 1, "sample": True, "seed": 1}])
def test_an_impossible_end_still_ends_the_text(how):
    model = table_model(2, vocab=6)
    model.table[..., END] = -torch.inf
    assert len(run(model, table_memory(model, [0]), Decoding(**how, max_length=5))[0][0].tokens) == 4


def test_forbidden_tokens_never_come():
    model = table_model(2, vocab=6)
    model.table[..., [PAD, START, 4]] = 9
    found = search(model, table_memory(model, [0]), Decoding(4, n_best=4), START, END, forbidden=[PAD, START, 4])
    assert {token for text in found[0] for token in text.tokens} <= {3, 5}


# Sampling


def chi_square(counts: Counter, expected: dict[tuple[int, ...], float], draws: int) -> float:
    return sum((counts[key] - draws * p) ** 2 / (draws * p) for key, p in expected.items())


def test_samples_come_as_often_as_the_model_says():
    model = table_model(4, vocab=5, sharpness=0.7)
    memory = table_memory(model, [0])
    draws = 4000
    decoding = Decoding(1, sample=True, n_best=draws, max_length=3, seed=0, **FREE_RATIO)
    found = run(model, memory, decoding)[0]
    expected = {}
    for length in range(3):
        for text in itertools.product([3, 4], repeat=length):
            p = 1.0
            for place in range(length + 1):
                log_p = torch.tensor(naive_log_p(model, memory, list(text[:place]), decoding))
                p *= float(log_p.softmax(-1)[(*text, END)[place]])
            expected[text] = p
    assert sum(expected.values()) == pytest.approx(1)
    counts = Counter(tuple(text.tokens) for text in found)
    assert chi_square(counts, expected, draws) < 25  # 6 degrees of freedom: p < 0.001
    every = {tuple(text.tokens): text for text in brute_force(model, memory, decoding)}
    for text in found[::400]:
        assert text.log_probability == pytest.approx(every[tuple(text.tokens)].log_probability, abs=1e-4)


def test_a_draw_never_takes_what_has_no_probability():
    log_p = torch.tensor([[-torch.inf, 0.3, -torch.inf, -0.2, -torch.inf]])
    noise = torch.tensor([0.0, 0.3, 0.999999, math.nextafter(1, 0)])
    for values in (log_p, log_p + torch.randn(50, 1)):
        for value in noise:
            assert set(draw(values, value.float().expand(len(values)).clamp(max=1 - 2**-24)).tolist()) <= {1, 3}


@quick
@given(seeds, st.integers(1, 8), st.floats(0.05, 0.999), st.floats(0.01, 1.0))
def test_filters_keep_the_sets_that_loops_keep(seed, k, p, share):
    log_p = torch.randn(4, 8, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)
    log_p[:, 2] = -torch.inf
    for row, top_k, top_p, min_p in zip(
        log_p.log_softmax(-1), keep_top_k(log_p, k), keep_top_p(log_p, p), keep_min_p(log_p, share), strict=True
    ):
        chance = row.exp().tolist()
        order = sorted((token for token in range(8) if chance[token]), key=lambda token: -chance[token])
        assert kept(top_k) == set(order[:k])
        nucleus, total = set(), 0.0
        for token in order:
            if total >= p:
                break
            nucleus.add(token)
            total += chance[token]
        assert kept(top_p) == nucleus
        assert kept(min_p) == {token for token in order if chance[token] >= share * max(chance) * (1 - 1e-6)}


def kept(row: Tensor) -> set[int]:
    return set((row > -torch.inf).nonzero().flatten().tolist())


def test_top_k_1_and_low_temperature_and_tiny_nucleus_are_greedy():
    model = table_model(7, sources=3, vocab=9)
    memory = table_memory(model, [0, 1, 2])
    greedy = run(model, memory, Decoding(1, max_length=9))
    for setting in ({"top_k": 1}, {"temperature": 1e-3}, {"top_p": 1e-6}, {"min_p": 1.0}):
        assert run(model, memory, Decoding(1, max_length=9, sample=True, **setting)) == greedy


def test_temperature_changes_the_draw_as_softmax_does():
    model = table_model(3, vocab=6)
    memory = table_memory(model, [0])
    draws = 3000
    decoding = Decoding(1, sample=True, temperature=2.0, n_best=draws, seed=3, max_length=2, **FREE_RATIO)
    log_p = torch.tensor(naive_log_p(model, memory, [], decoding))
    expected = {(token,): float((log_p / 2).softmax(-1)[token]) for token in (3, 4, 5)}
    counts = Counter(tuple(text.tokens) for text in run(model, memory, decoding)[0])
    expected[()] = 1 - sum(expected.values())
    assert chi_square(counts, expected, draws) < 20


def test_a_seed_fixes_the_sample_of_a_row_whatever_its_batch():
    model = table_model(8, sources=4, vocab=9)
    memory = table_memory(model, [0, 1, 2, 3], [4, 2, 5, 3])
    decoding = Decoding(1, sample=True, n_best=3, seed=11, max_length=20, max_ratio=0.5)
    together = run(model, memory, decoding, ids=[10, 11, 12, 13])
    assert run(model, memory, decoding, ids=[10, 11, 12, 13]) == together
    for line in range(4):
        assert run(model, one(memory, line), decoding, ids=[10 + line])[0] == together[line]
    prefix: list[list[int]] = [[3], [], [], []]
    assert run(model, memory, decoding, ids=[10, 11, 12, 13], prefix=prefix)[1:] == together[1:]
    other = dataclasses.replace(decoding, seed=12)
    assert run(model, memory, other, ids=[10, 11, 12, 13]) != together


def test_two_equal_sources_are_sampled_independently():
    model = table_model(8, vocab=9)
    found = run(model, table_memory(model, [0] * 6), Decoding(1, sample=True, seed=1, max_length=20))
    assert len({tuple(lines[0].tokens) for lines in found}) > 1


def test_without_a_seed_samples_follow_the_global_one():
    model = table_model(8, vocab=9)
    memory = table_memory(model, [0] * 6)
    decoding = Decoding(1, sample=True, max_length=20)
    torch.manual_seed(5)
    first, second = run(model, memory, decoding), run(model, memory, decoding)
    torch.manual_seed(5)
    assert run(model, memory, decoding) == first != second


# Prefix, stream, no memory, settings


@pytest.mark.parametrize("how", [{"beam": 1}, {"beam": 3, "n_best": 3}, {"beam": 1, "sample": True, "n_best": 3}])
def test_a_prefix_stands_first_even_if_forbidden(how):
    model = table_model(6, sources=4, vocab=8)
    prefix = [[], [START], [4, 5], [7, 7, 7, 7]]
    found = run(model, table_memory(model, [0, 1, 2, 3]), Decoding(**how, max_length=12), prefix=prefix)
    for first, lines in zip(prefix, found, strict=True):
        assert all(text.tokens[: len(first)] == first for text in lines)


@pytest.mark.parametrize("how", [{}, {"sample": True, "seed": 4}])
@pytest.mark.parametrize("kind", ["table", "transformer", "recurrent"])
def test_a_stream_gives_what_search_gives(how, kind):
    model = table_model(6, vocab=8) if kind == "table" else real_model(kind, 6, 8)
    memory = table_memory(model, [0]) if isinstance(model, Table) else real_memory(model, 6, [4])
    decoding = Decoding(1, max_length=12, **how)
    whole = run(model, memory, decoding, prefix=[[4, 3]])[0][0].tokens
    assert [4, 3, *stream(model, memory, decoding, START, END, (PAD, START), prefix=[4, 3])] == whole


def test_a_stream_gives_each_token_before_the_next_is_computed():
    model = table_model(6, vocab=8)
    model.table[..., END] = -9
    tokens = stream(model, table_memory(model, [0]), Decoding(1, max_length=9), START, END, (PAD, START))
    for count in range(1, 4):
        next(tokens)
        assert len(model.rows_seen) == count


@pytest.mark.parametrize("how", [{"beam": 1}, {"beam": 3}])
def test_a_decoder_only_model_goes_on_from_prefixes_of_any_length(how):
    torch.manual_seed(0)
    config = TransformerConfig(d_model=8, n_heads=2, d_ff=8, encoder_layers=0, decoder_layers=1)
    model = config.build(9).eval()
    prefix = [[4], [5, 6, 7], [8, 3]]
    decoding = Decoding(**how, max_length=10, min_length=6)
    together = search(model, None, decoding, START, END, (PAD, START), prefix)
    for text, found in zip(prefix, together, strict=True):
        assert found[0].tokens[: len(text)] == text
        assert_same(found, search(model, None, decoding, START, END, (PAD, START), [text])[0])


def test_no_sources_give_no_texts():
    model = table_model(0)
    assert run(model, Memory(torch.zeros(0, 3, 1), torch.zeros(0, 3, dtype=torch.bool)), Decoding()) == []


def test_search_leaves_no_gradient_and_takes_half_precision_logits():
    model = real_model("transformer", 1, 8).bfloat16()
    memory = real_memory(model, 1, [3, 2])
    assert memory.states.requires_grad
    for text in sum(run(model, memory, Decoding(3, max_length=8)), []):
        assert math.isfinite(text.score)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"beam": 0}, "decoding.beam is 0"),
        ({"beam": 2, "n_best": 3}, "raise beam to 3"),
        ({"sample": True}, "set beam to 1"),
        ({"temperature": 0.0, "sample": True, "beam": 1}, "decoding.temperature"),
        ({"top_p": 0.0}, "decoding.top_p"),
        ({"min_p": 1.5}, "decoding.min_p"),
        ({"top_k": 5}, "is for sampling"),
        ({"temperature": 0.7}, "is for sampling"),
        ({"max_length": 0}, "decoding.max_length"),
        ({"min_length": 9, "max_length": 8}, "above max_length"),
        ({"repetition_penalty": 0.0}, "decoding.repetition_penalty"),
        ({"length_penalty": math.nan}, "finite"),
        ({"max_ratio": math.nan}, "decoding.max_ratio"),
        ({"early_stop": "never"}, "early_stop"),
        ({"seed": -1}, "decoding.seed"),
    ],
)
def test_contradictory_settings_say_what_to_do(wrong, message):
    with pytest.raises(InputError, match=message):
        Decoding(**wrong)


def test_wrong_calls_say_what_to_do():
    model = table_model(0)
    memory = table_memory(model, [0, 0])
    for more, message in (
        ({"prefix": [[3]]}, "1 lists of tokens for 2 sources"),
        ({"prefix": [[3], [END]]}, "end token"),
        ({"prefix": [[3], [3] * 256]}, "no room"),
    ):
        with pytest.raises(InputError, match=message):
            run(model, memory, Decoding(), **more)
    with pytest.raises(InputError, match="end token"):
        search(model, memory, Decoding(), START, END, forbidden=[END])
    with pytest.raises(InputError, match="give prefix"):
        search(model, None, Decoding(), START, END)
    with pytest.raises(InputError, match="set decoding.beam"):
        stream(model, memory, Decoding(), START, END)


def test_rules_are_plain_data():
    rules = Rules(Decoding(), END, torch.tensor([PAD]), torch.tensor([5]), torch.zeros(1, 0, dtype=torch.long), 5)
    assert (
        rules.log_probabilities(torch.zeros(2, 4), torch.zeros(2, 0, dtype=torch.long), torch.tensor([0]))[0, 0]
        == -torch.inf
    )
