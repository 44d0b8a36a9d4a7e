"""Gradient surgery against the papers' algorithms on the gradients themselves, and against brute force."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from lmtasks.training.joint.surgery import PCGrad, UPGrad

ALL = [PCGrad(), UPGrad()]
SIZES = [(1, 3), (2, 2), (3, 5), (4, 2), (5, 3), (6, 40)]  # tasks and parameters; some have more tasks than parameters


def gradients(tasks, parameters, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tasks, parameters, dtype=torch.float64, generator=generator)


def combined(surgery, rows, step=0):
    return surgery.weights(rows @ rows.T, step) @ rows


def pcgrad(rows, step):
    """Follow Algorithm 1 of Yu et al. on vectors; the orders are the only thing taken from ours."""
    generator = torch.Generator().manual_seed(step)
    total = torch.zeros_like(rows[0])
    for i in range(len(rows)):
        changed = rows[i].clone()
        for j in torch.randperm(len(rows), generator=generator).tolist():
            if j != i and changed.dot(rows[j]) < 0:
                changed -= changed.dot(rows[j]) / rows[j].dot(rows[j]) * rows[j]
        total += changed
    return total


def projection(rows, task):
    """Project a gradient onto the dual cone by trying which constraints are tight: the nearest that keeps them all."""
    found = []
    for size in range(len(rows) + 1):
        for tight in combinations(range(len(rows)), size):
            walls = rows[list(tight)]
            point = rows[task] - torch.linalg.pinv(walls) @ (walls @ rows[task]) if tight else rows[task]
            if (rows @ point >= -1e-9).all():
                found.append(point)
    return min(found, key=lambda point: (point - rows[task]).norm())


@pytest.mark.parametrize("surgery", ALL)
def test_gradients_without_conflict_are_added_up(surgery):
    rows = gradients(4, 6).abs()
    assert torch.equal(surgery.weights(rows @ rows.T, 0), torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("surgery", ALL)
@pytest.mark.parametrize("size", SIZES)
def test_a_task_without_gradient_changes_nothing(surgery, size):
    rows = gradients(*size)
    rows = torch.cat([rows, torch.zeros_like(rows[:1])])
    weights = surgery.weights(rows @ rows.T, 0)
    assert weights[-1] == 1
    assert torch.equal(surgery.weights(torch.zeros(3, 3, dtype=torch.float64), 0), torch.ones(3, dtype=torch.float64))
    if surgery == UPGrad():  # the orders of PCGrad depend on the number of tasks
        torch.testing.assert_close(weights @ rows, combined(surgery, rows[:-1]))


@pytest.mark.parametrize("surgery", ALL)
@pytest.mark.parametrize("overflowed", [torch.inf, torch.nan])
def test_a_gradient_that_overflowed_takes_no_part(surgery, overflowed):
    rows = gradients(3, 2, seed=1)
    spoilt = rows.clone()
    spoilt[1] = overflowed
    absent = rows.clone()
    absent[1] = 0
    assert torch.equal(surgery.weights(spoilt @ spoilt.T, 4), surgery.weights(absent @ absent.T, 4))
    assert not combined(surgery, spoilt).isfinite().any()


@pytest.mark.parametrize("surgery", ALL)
def test_of_two_that_conflict_neither_follows_what_points_against_the_other(surgery):
    first, second = rows = torch.tensor([[2.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    inner = first @ second
    expected = first - inner / second.dot(second) * second + second - inner / first.dot(first) * first
    torch.testing.assert_close(combined(surgery, rows), expected)


@pytest.mark.parametrize("surgery", ALL)
def test_the_global_random_state_is_neither_read_nor_moved(surgery):
    rows = gradients(5, 3)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = combined(surgery, rows, 7)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(combined(surgery, rows, 7), first)


@pytest.mark.parametrize("size", SIZES)
def test_pcgrad_is_the_algorithm_on_vectors(size):
    for step in range(20):
        rows = gradients(*size, seed=step)
        torch.testing.assert_close(combined(PCGrad(), rows, step), pcgrad(rows, step))


def test_pcgrad_takes_another_order_at_another_step():
    rows = gradients(5, 3)
    results = {tuple(combined(PCGrad(), rows, step).tolist()) for step in range(10)}
    assert len(results) > 1


@pytest.mark.parametrize("size", SIZES)
def test_upgrad_is_the_sum_of_projections_found_by_brute_force(size):
    for seed in range(10):
        rows = gradients(*size, seed=seed)
        expected = sum(projection(rows, task) for task in range(len(rows)))
        torch.testing.assert_close(combined(UPGrad(), rows), expected, rtol=1e-7, atol=1e-7)


def nasty():
    """Return gradients whose Gramian is singular or nearly so."""
    rows = gradients(5, 7)
    opposed, equal, scaled = rows.clone(), rows.clone(), rows.clone()
    opposed[3] = -opposed[1]
    equal[4] = equal[0]
    scaled *= 10.0 ** torch.arange(-6, 9, 3)[:, None]
    line = rows[:, :1] * rows[0]
    return {
        "opposed": opposed,
        "equal": equal,
        "of other scales": scaled,
        "in a line": line,
        "almost in a line": line + 1e-5 * rows,
        "all against one": torch.cat([rows, -3 * rows.sum(0, keepdim=True)]),
        "more than parameters": gradients(8, 3),
        "whole numbers": rows.sign(),
        "only in float32": rows.float().double() * (1 + 1e-7 * gradients(5, 7, seed=1)),
    }


@pytest.mark.parametrize("name", nasty())
@pytest.mark.parametrize("seed", range(5))
def test_no_task_loses_by_upgrad(name, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = nasty()[name]
    rows = rows[torch.randperm(len(rows), generator=generator)]
    result = combined(UPGrad(), rows)
    gains = rows @ result / rows.norm(dim=1)  # (T,)
    assert gains.min() >= -1e-8 * rows.norm(dim=1).sum()


@pytest.mark.parametrize("size", SIZES)
def test_no_task_loses_by_upgrad_whatever_the_gradients(size):
    for seed in range(50):
        rows = gradients(*size, seed=seed)
        assert (rows @ combined(UPGrad(), rows)).min() >= -1e-8


def test_two_exactly_opposed_gradients_cancel():
    rows = gradients(1, 4)
    assert combined(UPGrad(), torch.cat([rows, -2 * rows])).abs().max() < 1e-9


def test_upgrad_does_not_depend_on_the_order_of_the_tasks_or_the_scale_of_a_loss():
    rows = gradients(5, 3, seed=2)
    order = torch.tensor([3, 0, 4, 2, 1])
    torch.testing.assert_close(combined(UPGrad(), rows[order]), combined(UPGrad(), rows))
    torch.testing.assert_close(combined(UPGrad(), 1e6 * rows), 1e6 * combined(UPGrad(), rows))


def test_upgrad_survives_a_gramian_that_rounding_has_made_indefinite():
    for seed in range(20):
        rows = gradients(6, 2, seed=seed)
        noise = 1e-7 * gradients(6, 6, seed=seed + 100)
        weights = UPGrad().weights(rows @ rows.T + noise + noise.T, 0)
        assert (weights >= 1).all()
        assert (rows @ (weights @ rows)).min() >= -1e-3


@pytest.mark.parametrize("size", SIZES)
def test_upgrad_agrees_with_torchjd(size):
    """Theirs takes the mean, and keeps its solver from singular matrices by a term that is made small here."""
    torchjd = pytest.importorskip("torchjd.aggregation")
    linalg = pytest.importorskip("torchjd.linalg")
    pytest.importorskip("quadprog")
    theirs = torchjd.UPGrad(projector=linalg.QuadprogProjector(norm_eps=0.0, reg_eps=1e-10))
    for seed in range(10):
        rows = gradients(*size, seed=seed)
        torch.testing.assert_close(combined(UPGrad(), rows), len(rows) * theirs(rows), rtol=1e-5, atol=1e-5)
