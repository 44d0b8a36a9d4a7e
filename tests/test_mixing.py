"""The mixture, by its promises: the requested shares, each row once an epoch, the same steps on any devices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from lmtasks.data.mixing import Mixing, Mixture
from lmtasks.data.plan import Plan
from lmtasks.errors import InputError

SIZES = {"big": 600.0, "middle": 300.0, "small": 100.0}
TASKS = st.lists(st.integers(8, 60), min_size=1, max_size=4)  # rows of each task
TOKENS = st.integers(40, 600)
SEEDS = st.integers(0, 5)
BY = st.sampled_from(["tokens", "rows"])


def lengths(rows, seed=0, longest=20):
    return np.random.default_rng(seed).integers(1, longest, (rows, 2))


def mixture(rows, tokens=400, parts=1, seed=1, mixing=Mixing()):
    """Return a mixture of tasks "a", "b", ... of so many rows."""
    tables = {name: lengths(count, number) for number, (name, count) in enumerate(zip("abcd", rows, strict=False))}
    return Mixture(tables, {name: table[:, 1] for name, table in tables.items()}, tokens, parts, seed, mixing)


def uneven(mixing, parts=1, tokens=2000):
    """Return a mixture of a task of long rows, one of short ones and one of few."""
    sizes = {"long": (5000, 60), "short": (3000, 12), "few": (200, 30)}
    tables = {name: lengths(rows, len(name), longest) for name, (rows, longest) in sizes.items()}
    return Mixture(tables, {name: table[:, 1] for name, table in tables.items()}, tokens, parts, 1, mixing)


def rates(tasks):
    """Return a strategy of rates of these tasks, some of them small."""
    return st.lists(st.sampled_from([0.005, 0.1, 0.3, 1.0]), min_size=len(tasks), max_size=len(tasks)).map(
        lambda numbers: dict(zip(tasks, numbers, strict=True))
    )


def units_between(made, first, last):
    """Return the tokens or rows that each task has from step `first` to `last`, counted row by row."""
    found = dict.fromkeys(made.plans, 0.0)
    for k in range(first, last):
        for task, step in made.step(k).items():
            rows = np.concatenate(step)
            found[task] += made.plans[task].lengths[rows].sum() if made.mixing.by == "tokens" else len(rows)
    return found


def as_shares(units):
    return {task: value / sum(units.values()) for task, value in units.items()}


# The shares.


def test_shares_are_in_proportion_to_size():
    assert Mixing().shares(SIZES) == pytest.approx({"big": 0.6, "middle": 0.3, "small": 0.1})


def test_a_temperature_evens_shares_out():
    assert Mixing(temperature=1e9).shares(SIZES) == pytest.approx(dict.fromkeys(SIZES, 1 / 3))
    two = Mixing(temperature=2.0).shares(SIZES)
    assert two["big"] / two["small"] == pytest.approx(6**0.5)
    assert two["middle"] / two["small"] == pytest.approx(3**0.5)


def test_a_low_temperature_leaves_the_largest_task_alone_whatever_the_sizes():
    assert Mixing(temperature=1e-3).shares({"big": 1e12, "small": 1e3}) == {"big": 1.0, "small": 0.0}


def test_a_cap_counts_before_the_temperature():
    assert Mixing(cap=200).shares(SIZES) == pytest.approx({"big": 0.4, "middle": 0.4, "small": 0.2})
    both = Mixing(cap=400, temperature=2.0).shares(SIZES)
    assert both["big"] / both["small"] == pytest.approx(2)


def test_rates_are_in_any_unit_and_take_the_place_of_sizes():
    given = {"small": 3, "big": 1, "middle": 1}
    assert Mixing(rates=given).shares(SIZES) == pytest.approx({"big": 0.2, "middle": 0.2, "small": 0.6})
    assert list(Mixing(rates=given).shares(SIZES)) == list(SIZES)


def test_final_shares_are_the_first_ones_unless_given():
    assert Mixing().final_shares(SIZES) == Mixing().shares(SIZES)
    changing = Mixing(final_rates={"big": 1, "middle": 1, "small": 2}, change=10)
    assert changing.shares(SIZES) == Mixing().shares(SIZES)
    assert changing.final_shares(SIZES) == pytest.approx({"big": 0.25, "middle": 0.25, "small": 0.5})


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(1, 1e9), min_size=1, max_size=6),
    st.floats(1e-3, 1e6),
    st.one_of(st.none(), st.integers(1, 10**9)),
)
def test_shares_add_up_to_one_and_larger_tasks_have_no_less(sizes, temperature, cap):
    named = {str(number): size for number, size in enumerate(sizes)}
    shares = Mixing(temperature=temperature, cap=cap).shares(named)
    assert sum(shares.values()) == pytest.approx(1)
    for one in named:
        assert all(shares[one] >= shares[other] for other in named if named[one] > named[other])


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"rates": {"big": 1, "tiny": 1, "small": 1}}, "rates has big, tiny, small; the tasks are big, middle, small"),
        ({"rates": {"big": 1}}, "rates has big; the tasks are big, middle, small"),
        ({"rates": dict.fromkeys(SIZES, 0)}, "rates: .*not all of them 0"),
        ({"rates": {"big": 2, "middle": 1, "small": -1}}, "rates: .*from 0 on"),
        ({"rates": {"big": float("inf"), "middle": 1, "small": 1}}, "rates: .*give numbers"),
        ({"rates": {"big": float("nan"), "middle": 1, "small": 1}}, "rates: .*give numbers"),
        ({"final_rates": {"big": 1, "other": 1}, "change": 5}, "final_rates has big, other; the tasks are"),
    ],
)
def test_wrong_rates_are_refused_in_a_line_that_names_them(wrong, complaint):
    mixing = Mixing(**wrong)
    ask = mixing.final_shares if "change" in wrong else mixing.shares
    with pytest.raises(InputError, match=f"data.mixing.{complaint}") as raised:
        ask(SIZES)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"temperature": 0}, "temperature is 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"cap": 0}, "cap 0"),
        ({"rates": {"big": 1}, "temperature": 2.0}, "rates replace temperature"),
        ({"rates": {"big": 1}, "cap": 9}, "rates replace temperature and cap"),
        ({"change": 5}, "final_rates and change go together"),
        ({"final_rates": {"big": 1}}, "final_rates and change go together"),
        ({"change": -5}, "change -5"),
    ],
)
def test_wrong_settings_are_refused(wrong, complaint):
    with pytest.raises(InputError, match=complaint):
        Mixing(**wrong)


# The steps.


@settings(max_examples=40, deadline=None)
@given(TASKS, TOKENS, SEEDS, BY, st.data())
def test_every_step_has_a_task_and_no_task_leaves_a_step_of_its_plan_out(rows, tokens, seed, by, data):
    tasks = "abcd"[: len(rows)]
    change = data.draw(st.sampled_from([0, 7]))
    final = data.draw(rates(tasks)) if change else {}
    made = mixture(rows, tokens, 1, seed, Mixing(by, rates=data.draw(rates(tasks)), final_rates=final, change=change))
    for k in range(300):
        before, after = made.done(k), made.done(k + 1)
        assert all(after[task] - before[task] in (0, 1) for task in tasks), k
        assert after != before
    assert all(made.step(k) for k in range(20))


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ({"a": 0.3, "b": 0.05, "c": 0.2}, {"a": 0.6, "b": 0.6, "c": 0.3}),
        ({"a": 0.6, "b": 0.6, "c": 0.2}, {"a": 0.6, "b": 0.3, "c": 0.6}),
    ],
)
def test_no_step_of_a_plan_is_left_out_where_participations_add_up_to_a_whole_number_but_for_rounding(first, last):
    made = mixture([12, 12, 12], 1, mixing=Mixing("rows", rates=first, final_rates=last, change=20))
    done = np.array([list(made.done(k).values()) for k in range(200)])
    assert set(np.diff(done, axis=0).flatten().tolist()) <= {0, 1}


@settings(max_examples=40, deadline=None)
@given(TASKS, TOKENS, st.sampled_from([1, 2, 4]), SEEDS, BY)
def test_every_row_of_a_task_comes_once_a_pass_of_it(rows, tokens, parts, seed, by):
    made = mixture(rows, tokens, parts, seed, Mixing(by))
    seen = {task: [] for task in made.plans}
    k = 0
    while min(made.done(k)[task] / plan.steps_per_epoch for task, plan in made.plans.items()) < 2:
        for task, step in made.step(k).items():
            assert len(step) == parts
            seen[task] += np.concatenate(step).tolist()
        k += 1
    for task, plan in made.plans.items():
        count = len(plan.lengths)
        assert sorted(seen[task][:count]) == sorted(seen[task][count : 2 * count]) == list(range(count))


@settings(max_examples=40, deadline=None)
@given(TASKS, SEEDS, st.integers(0, 60))
def test_a_step_depends_on_its_number_alone(rows, seed, k):
    asked_before, fresh = mixture(rows, seed=seed), mixture(rows, seed=seed)
    for earlier in range(k):
        asked_before.step(earlier)
    ours, theirs = asked_before.step(k), fresh.step(k)
    assert list(ours) == list(theirs)
    assert all(np.array_equal(ours[task][0], theirs[task][0]) for task in ours)


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 60), TOKENS, st.sampled_from([1, 2, 4]), SEEDS, BY, st.sampled_from([1.0, 3.0]))
def test_one_task_alone_takes_exactly_the_steps_of_its_plan(rows, tokens, parts, seed, by, temperature):
    made = mixture([rows], tokens, parts, seed, Mixing(by, temperature))
    plan = Plan(made.plans["a"].lengths, made.plans["a"].targets, tokens, parts, seed)
    assert made.steps_per_epoch == plan.steps_per_epoch
    for k in range(2 * plan.steps_per_epoch + 1):
        step = plan.step(k)
        (ours,) = made.step(k).values()
        assert all(np.array_equal(one, other) for one, other in zip(ours, step, strict=True))
        assert made.weight(k, "a") == 1


def test_an_epoch_of_tasks_in_proportion_has_each_row_about_once():
    made = uneven(Mixing())
    done = made.done(made.steps_per_epoch)
    for task, plan in made.plans.items():
        assert done[task] / plan.steps_per_epoch == pytest.approx(1, abs=0.05), task


def test_a_step_has_no_more_tokens_than_were_asked_for_and_not_many_less():
    for mixing in (Mixing(), Mixing("rows"), Mixing(rates={"long": 1, "short": 1, "few": 0.2})):
        made = uneven(mixing)
        padded = [
            sum(made.plans[task].lengths[rows].max() * len(rows) for task, (rows,) in made.step(k).items())
            for k in range(300)
        ]
        assert max(padded) <= 2000
        assert np.mean(padded) > 0.75 * 2000  # rows do not fill the smaller steps of several tasks to the brim


def test_long_rows_of_one_task_do_not_thin_out_the_others():
    random = np.random.default_rng(1)
    few, many = random.integers(170, 300, (400, 2)), random.integers(8, 24, (6000, 2))
    made = Mixture(
        {"few": few, "many": many},
        {"few": few[:, 1], "many": many[:, 1]},
        2560,
        mixing=Mixing(rates={"few": 12, "many": 88}),
    )
    assert min(made.participation(0).values()) > 0.8
    padded = [
        sum(made.plans[task].lengths[rows].max() * len(rows) for task, (rows,) in made.step(k).items())
        for k in range(300)
    ]
    assert 0.85 * 2560 < np.mean(padded) <= max(padded) <= 1.02 * 2560


def test_tasks_have_other_orders_though_their_rows_are_alike():
    table = lengths(40)
    made = Mixture({"a": table, "b": table}, {"a": table[:, 1], "b": table[:, 1]}, 400)
    assert any(not np.array_equal(*(rows[0] for rows in made.step(k).values())) for k in range(5))


# What comes of the shares.


@pytest.mark.parametrize("by", ["tokens", "rows"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 3.0},
        {"cap": 1000},
        {"rates": {"long": 1, "short": 1, "few": 1}},
        {"rates": {"long": 0.99, "short": 0.005, "few": 0.005}},
        {"rates": {"long": 0.005, "short": 0.9, "few": 0.095}},
    ],
    ids=str,
)
def test_the_share_of_each_task_is_the_one_wanted(by, settings):
    made = uneven(Mixing(by, **settings))
    steps = 600
    report = made.report(steps)
    counted = as_shares(units_between(made, 0, steps))
    for task in made.plans:
        assert report[f"{task}/share"] == pytest.approx(counted[task])
        assert report[f"{task}/share"] == pytest.approx(report[f"{task}/wanted_share"], rel=0.02, abs=0.003), task
        assert report[f"{task}/wanted_share"] == made.wanted(0)[task]


def test_the_report_counts_the_tokens_of_the_steps_done():
    for by in ("tokens", "rows"):
        made = uneven(Mixing(by, rates={"long": 1, "short": 0.01, "few": 1}))
        for steps in (0, 1, 130):
            report = made.report(steps)
            for task, plan in made.plans.items():
                rows = [np.concatenate(made.step(k)[task]) for k in range(steps) if task in made.step(k)]
                assert report[f"{task}/tokens"] == sum(plan.lengths[own].sum() for own in rows)


@pytest.mark.parametrize("by", ["tokens", "rows"])
def test_changing_rates_are_met_on_the_way_and_at_the_end(by):
    first, last = {"long": 0.9, "short": 0.1, "few": 0.0}, {"long": 0.1, "short": 0.4, "few": 0.5}
    made = uneven(Mixing(by, rates=first, final_rates=last, change=600))
    for k, (start, stop) in {300: (200, 400), 1000: (600, 1400)}.items():
        found = as_shares(units_between(made, start, stop))
        assert made.wanted(0) == pytest.approx(first)
        assert made.wanted(1000) == made.wanted(600) == pytest.approx(last)
        for task in found:
            assert found[task] == pytest.approx(made.wanted(k)[task], abs=0.02), (k, task)


def test_wanted_shares_change_in_a_line():
    first, last = {"long": 1, "short": 1, "few": 0}, {"long": 0, "short": 1, "few": 1}
    made = uneven(Mixing(rates=first, final_rates=last, change=4))
    assert [made.wanted(k)["long"] for k in range(7)] == pytest.approx([0.5, 0.375, 0.25, 0.125, 0, 0, 0])
    assert [made.wanted(k)["few"] for k in range(7)] == pytest.approx([0, 0.125, 0.25, 0.375, 0.5, 0.5, 0.5])


@pytest.mark.parametrize("change", [0, 400])
def test_weights_times_participation_add_up_to_the_shares(change):
    rates = {"long": 0.99, "short": 0.005, "few": 0.005}
    final = {"final_rates": {"long": 0.2, "short": 0.795, "few": 0.005}, "change": change} if change else {}
    made = uneven(Mixing(rates=rates, **final))
    found, wanted, steps = dict.fromkeys(rates, 0.0), dict.fromkeys(rates, 0.0), 2000
    for k in range(steps):
        before, after = made.done(k), made.done(k + 1)
        for task, share in made.wanted(k).items():
            found[task] += made.weight(k, task) * (after[task] - before[task]) / steps
            wanted[task] += share / steps
    assert sum(wanted.values()) == pytest.approx(1)
    assert found == pytest.approx(wanted, rel=0.03)


def test_tasks_that_take_part_at_times_take_turns():
    made = uneven(Mixing(rates={"long": 0.99, "short": 0.005, "few": 0.005}))
    rare = [k for k in range(1000) if "few" in made.step(k)]
    assert rare
    gaps = np.diff(rare)
    assert gaps.max() - gaps.min() <= 1
    assert made.participation(0)["few"] == pytest.approx(len(rare) / 1000, abs=0.002)


def test_micro_batches_of_all_tasks_add_up_to_the_weighted_mean_of_a_step():
    for parts in (1, 4):
        made = uneven(Mixing(rates={"long": 3, "short": 2, "few": 1}), parts)
        for k in range(50):
            for task, step in made.step(k).items():
                scale = made.weight(k, task) * made.plans[task].scale(step)
                targets = sum(made.plans[task].targets[rows].sum() for rows in step)
                assert scale * targets / parts == pytest.approx(made.weight(k, task))


def test_a_task_of_rate_0_takes_no_part():
    made = uneven(Mixing(rates={"long": 1, "short": 1, "few": 0}))
    assert not any("few" in made.step(k) for k in range(200))
    assert made.report(200)["few/tokens"] == 0


# What makes a step the same again.


def test_the_identity_tells_all_that_changes_a_step():
    base = {"rows": [40, 30], "tokens": 400, "parts": 1, "seed": 1, "mixing": Mixing()}
    others = [
        {"rows": [40, 31]},
        {"tokens": 401},
        {"parts": 2},
        {"seed": 2},
        {"mixing": Mixing("rows")},
        {"mixing": Mixing(temperature=2.0)},
        {"mixing": Mixing(rates={"a": 1, "b": 3})},
        {"mixing": Mixing(final_rates={"a": 1, "b": 3}, change=9)},
    ]
    identity = mixture(**base).identity
    assert identity == mixture(**base).identity
    for other in others:
        assert mixture(**(base | other)).identity != identity, other


def test_the_identity_tells_the_order_of_the_tasks():
    table = lengths(40)
    both = {"a": table, "b": table}
    turned = dict(reversed(both.items()))
    targets = dict.fromkeys(both, table[:, 1])
    assert Mixture(both, targets, 400).identity != Mixture(turned, targets, 400).identity
