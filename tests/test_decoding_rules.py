"""Rules against naive loops over lists, samples against the distribution they are drawn from."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter

import pytest
import torch
from decoding_models import (
    END,
    FREE_RATIO,
    PAD,
    START,
    brute_force,
    expand,
    naive_log_p,
    one,
    run,
    table_memory,
    table_model,
)
from hypothesis import given, settings, strategies as st
from torch import Tensor

from lmtasks.decoding import Decoding, search
from lmtasks.decoding.rules import ban_repeated_ngrams
from lmtasks.decoding.search import _prepare
from lmtasks.decoding.walk import draw, keep_min_p, keep_top_k, keep_top_p

quick = settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 10_000)


# Rules


@quick
@given(seeds, st.sampled_from([1.0, 0.5, 1.7]), st.integers(0, 3), st.integers(0, 4))
def test_rules_agree_with_naive_loops(seed, penalty, ngram, min_length):
    model = table_model(seed, vocab=6)
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
    for found in run(model, memory, Decoding(**how, max_ratio=1.5, min_length=30)):
        assert len(found[0].tokens) + 1 == 30
    assert len(run(model, memory, Decoding(**how, max_ratio=1.0), prefix=[[3] * 20] * 6)[0][0].tokens) == 20
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
    found = search(model, table_memory(model, [0]), Decoding(4, n_best=4), START, END, suppress_tokens=[PAD, START, 4])
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
    log_p = torch.tensor([-torch.inf, 0.3, -torch.inf, -0.2, -torch.inf]) + torch.randn(500, 1)
    for noise in (0.0, 0.3, 1 - 2**-24):
        assert set(draw(log_p, torch.full((500,), noise)).tolist()) <= {1, 3}


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


def test_samples_of_a_source_that_ended_early_wait_for_the_others():
    model = table_model(2, vocab=6)
    decoding = Decoding(1, max_length=20, sample=True, n_best=40, no_repeat_ngram=1, seed=0)
    found = run(model, table_memory(model, [0]), decoding)[0]
    assert {len(text.tokens) for text in found} == {0, 1, 2, 3}
    assert all(math.isfinite(text.score) and END not in text.tokens for text in found)


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
