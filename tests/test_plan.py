"""The plan, by its promises: each row once, the same steps whatever the devices, the exact mean, nothing empty."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

from lmtasks.data.mixing import Mixture
from lmtasks.data.plan import Plan, evaluation_batches, steps_of
from lmtasks.errors import InputError

LENGTHS = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=8, max_size=60).map(np.array)
TOKENS = st.integers(1, 300)
PARTS = st.sampled_from([1, 2, 3, 4, 8])
SEEDS = st.integers(0, 5)


def plan(lengths, tokens=100, parts=1, seed=1):
    return Plan(lengths, lengths[:, 1], tokens, parts, seed)


def realistic(rows):
    """Return lengths as of image captions or news: log-normal, target a noisy multiple of the source."""
    random = np.random.default_rng(0)
    source = np.clip(random.lognormal(2.8, 0.5, rows), 2, 120)
    target = np.clip(source * random.lognormal(0.05, 0.2, rows), 2, 120)
    return np.stack((source, target), axis=1).astype(np.int64)


@settings(max_examples=60, deadline=None)
@given(LENGTHS, TOKENS, PARTS, SEEDS)
def test_an_epoch_has_each_row_once(lengths, tokens, parts, seed):
    made = plan(lengths, tokens, parts, seed)
    for epoch in (0, 3):
        steps = [made.step(epoch * made.steps_per_epoch + k) for k in range(made.steps_per_epoch)]
        rows = np.concatenate([np.concatenate(step) for step in steps])
        assert sorted(rows) == list(range(len(lengths)))


@settings(max_examples=60, deadline=None)
@given(LENGTHS, TOKENS, PARTS, SEEDS)
def test_no_micro_batch_is_empty_and_they_differ_by_a_row_at_most(lengths, tokens, parts, seed):
    made = plan(lengths, tokens, parts, seed)
    for k in range(made.steps_per_epoch):
        sizes = [len(rows) for rows in made.step(k)]
        assert len(sizes) == parts
        assert min(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1


@settings(max_examples=60, deadline=None)
@given(LENGTHS, SEEDS, st.data())
def test_a_step_keeps_to_its_budget_where_rows_fit(lengths, seed, data):
    tokens = data.draw(st.integers(int(lengths.max()), 300))
    made = plan(lengths, tokens, 1, seed)
    for k in range(made.steps_per_epoch):
        (rows,) = made.step(k)
        assert lengths[rows].max() * len(rows) <= tokens


@settings(max_examples=60, deadline=None)
@given(LENGTHS, SEEDS)
def test_the_same_rows_make_a_step_however_many_parts_it_has(lengths, seed):
    tokens = 4 * int(lengths.max())  # so that each step, but the last of an epoch, has four rows
    one, two, four = (plan(lengths, tokens, parts, seed) for parts in (1, 2, 4))
    assume(one.steps_per_epoch == four.steps_per_epoch)  # unless the longest rows are too few for a step of their own
    for k in range(2 * one.steps_per_epoch):
        (rows,) = one.step(k)
        assert np.array_equal(rows, np.concatenate(two.step(k)))
        assert np.array_equal(rows, np.concatenate(four.step(k)))


def test_the_same_rows_make_a_step_however_many_parts_it_has_on_lengths_of_real_texts():
    lengths = realistic(1000)
    one, four = plan(lengths, 1200, 1), plan(lengths, 1200, 4)
    assert one.steps_per_epoch == four.steps_per_epoch
    for k in range(one.steps_per_epoch):
        assert np.array_equal(one.step(k)[0], np.concatenate(four.step(k)))


@settings(max_examples=60, deadline=None)
@given(LENGTHS, TOKENS, PARTS, SEEDS, st.integers(0, 200))
def test_a_step_depends_on_its_number_alone(lengths, tokens, parts, seed, k):
    asked_before = plan(lengths, tokens, parts, seed)
    for earlier in range(k):
        asked_before.step(earlier)
    for ours, theirs in zip(asked_before.step(k), plan(lengths, tokens, parts, seed).step(k), strict=True):
        assert np.array_equal(ours, theirs)


@settings(max_examples=60, deadline=None)
@given(LENGTHS, TOKENS, PARTS)
def test_every_epoch_has_as_many_steps_of_the_same_lengths(lengths, tokens, parts):
    made = plan(lengths, tokens, parts)

    def shapes(epoch):
        first = epoch * made.steps_per_epoch
        steps = [np.concatenate(made.step(first + k)) for k in range(made.steps_per_epoch)]
        return sorted(tuple(map(tuple, lengths[rows])) for rows in steps)

    assert shapes(0) == shapes(1) == shapes(7)


def test_epochs_and_seeds_give_other_orders():
    lengths = realistic(300)
    made = plan(lengths, 500)
    first, second = (
        [rows.tolist() for k in range(made.steps_per_epoch) for rows in made.step(epoch * made.steps_per_epoch + k)]
        for epoch in (0, 1)
    )
    assert first != second
    assert sorted(map(sorted, first)) != sorted(map(sorted, second))  # not only the steps' order: ties are drawn anew
    assert any(not np.array_equal(made.step(k)[0], plan(lengths, 500, seed=2).step(k)[0]) for k in range(5))


@settings(max_examples=60, deadline=None)
@given(LENGTHS, TOKENS, st.sampled_from([(1, 1), (1, 4), (2, 2), (4, 1), (2, 1), (3, 2)]), st.integers(0, 30))
def test_micro_batches_add_up_to_the_mean_over_the_targets_of_the_step(lengths, tokens, devices, k):
    world_size, accumulate = devices
    made = plan(lengths, tokens, world_size * accumulate)
    parts = made.step(k)
    scale = made.scale(parts)
    of_ranks = [
        sum(scale * lengths[parts[i], 1].sum() / accumulate for i in range(rank, len(parts), world_size))
        for rank in range(world_size)
    ]
    assert np.mean(of_ranks) == pytest.approx(1)


def test_padding_is_what_it_says_and_small_on_lengths_of_real_texts():
    lengths = realistic(30_000)
    made = plan(lengths, 4096)
    padded = sum(
        lengths[rows, side].max() * len(rows)
        for k in range(made.steps_per_epoch)
        for rows in made.step(k)
        for side in (0, 1)
    )
    assert made.padding == pytest.approx(1 - lengths.sum() / padded)
    in_file_order = 1 - np.mean(
        [lengths[i : i + 100].mean() / lengths[i : i + 100].max(0).mean() for i in range(0, 30_000, 100)]
    )
    assert made.padding < in_file_order / 4
    assert plan(lengths, 4096, 4).padding <= made.padding


@settings(max_examples=60, deadline=None)
@given(LENGTHS, TOKENS, PARTS)
def test_padding_counts_each_micro_batch_by_itself(lengths, tokens, parts):
    made = plan(lengths, tokens, parts)
    batches = [lengths[rows] for k in range(made.steps_per_epoch) for rows in made.step(k)]
    padded = sum(batch.max(axis=0).sum() * len(batch) for batch in batches)
    assert made.padding == pytest.approx(1 - lengths.sum() / padded)


def test_fewer_rows_than_micro_batches_are_refused():
    with pytest.raises(InputError, match="3 training rows cannot be split into 4"):
        plan(np.ones((3, 2), int), parts=4)


@settings(max_examples=80, deadline=None)
@given(LENGTHS, TOKENS, st.integers(1, 8))
def test_evaluation_deals_every_row_once_and_every_rank_as_many_batches(lengths, tokens, world_size):
    ranks = [evaluation_batches(lengths, tokens, rank, world_size) for rank in range(world_size)]
    rows = np.concatenate([batch for rank in ranks for batch in rank])
    assert sorted(rows) == list(range(len(lengths)))
    assert len({len(rank) for rank in ranks}) == 1
    assert all(len(batch) for rank in ranks for batch in rank)


@settings(max_examples=80, deadline=None)
@given(LENGTHS, TOKENS, st.integers(1, 4))
def test_evaluation_keeps_to_its_budget_or_takes_one_row(lengths, tokens, world_size):
    for rank in range(world_size):
        *batches, last = evaluation_batches(lengths, tokens, rank, world_size)
        for rows in batches:
            assert len(rows) == 1 or lengths[rows].max() * len(rows) <= tokens
        assert len(last) <= 2 or lengths[last].max() * (len(last) - 1) <= tokens


def test_evaluation_of_nothing_has_no_batches():
    assert evaluation_batches(np.zeros((0, 2)), 10) == []


def test_evaluation_begins_with_the_longest_targets():
    lengths = realistic(200)
    tallest = [lengths[rows, 1].max() for rows in evaluation_batches(lengths, 300)]
    assert tallest == sorted(tallest, reverse=True)


def test_the_orders_of_past_epochs_are_forgotten_and_come_back_the_same():
    made = plan(realistic(100))
    first = [rows.tolist() for rows in made.step(0)]
    for epoch in range(5):
        made.step(epoch * made.steps_per_epoch)
    assert list(made._kept) == [3, 4]
    assert [rows.tolist() for rows in made.step(0)] == first


def row_by_row(padded, tokens, parts, ranks):
    """Return what `steps_of` returns, by looking at each row in turn."""
    bounds, longest = [0], 0
    for row, length in enumerate(padded):
        longest, rows = max(longest, length, 1), row - bounds[-1]
        if rows >= parts and longest * -(-(rows + 1) // ranks) > tokens:
            bounds.append(row)
            longest = max(length, 1)
    if len(bounds) > 1 and len(padded) - bounds[-1] < parts:
        bounds.pop()
    return [*bounds, len(padded)]


def test_steps_are_those_of_a_walk_through_the_rows():
    random = np.random.default_rng(1)
    for _ in range(300):
        padded = random.integers(0, random.choice([3, 30, 300]), random.integers(0, 200))
        tokens, parts, ranks = (int(random.integers(1, most)) for most in (400, 7, 4))
        assert steps_of(padded, tokens, parts, ranks).tolist() == row_by_row(padded.tolist(), tokens, parts, ranks)


def test_a_plan_takes_few_bytes_a_row():
    rows = 400_000
    lengths = np.random.default_rng(1).integers(1, 256, (rows, 2), dtype=np.int32)
    tracemalloc.start()
    try:
        made = Mixture({"a": lengths}, {"a": lengths[:, 1]}, 4096)
        made.step(0)
        made.step(made.steps_per_epoch)  # of the next epoch
        assert made.identity
        assert made.report(3)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60 * rows
