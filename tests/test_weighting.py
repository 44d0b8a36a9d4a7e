"""The weights of the tasks' losses against the papers' formulas and against autograd."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from lmtasks.errors import InputError
from lmtasks.settings import from_plain, to_plain
from lmtasks.training.joint.weighting import LEAST, DynamicAverage, GradNorm, Static, Uncertainty

TASKS = ("translation", "tagging", "summarisation")
ALL = [
    Static({"tagging": 0.5}),
    Uncertainty(),
    DynamicAverage(every=3),
    GradNorm(),
]


def steps(count, seed=0):
    """Return losses and norms of steps, in which a task takes part more often than not."""
    generator = torch.Generator().manual_seed(seed)
    losses = 0.5 + torch.rand(count, len(TASKS), generator=generator)
    norms = 0.1 + torch.rand(count, len(TASKS), generator=generator)
    absent = torch.rand(count, len(TASKS), generator=generator) < 0.3
    return list(zip(losses.masked_fill(absent, torch.nan), norms.masked_fill(absent, torch.nan), strict=True))


def weigh(weights, values):
    """Return the weighted loss of a step with these losses, each task in one piece."""
    return sum(weights.weighted(task, torch.tensor(value), 1.0) for task, value in zip(TASKS, values, strict=True))


def as_list(weights):
    return list(weights.now().values())


@pytest.mark.parametrize("settings", ALL)
def test_weights_begin_with_1_unless_given(settings):
    assert settings.build(TASKS).now() == {"translation": 1, "tagging": 0.5 if settings == ALL[0] else 1} | {
        "summarisation": 1
    }


@pytest.mark.parametrize("settings", ALL)
def test_settings_survive_as_plain_data(settings):
    assert from_plain(to_plain(settings)) == settings


@pytest.mark.parametrize("settings", ALL)
def test_pieces_add_up_to_the_step(settings):
    weights = settings.build(TASKS)
    if settings == Uncertainty():
        torch.nn.init.normal_(weights.log_variance)
    loss, shares = torch.tensor(1.7), (0.25, 0.5, 0.25)
    pieces = sum(weights.weighted("tagging", loss * share, share) for share in shares)
    torch.testing.assert_close(pieces, weights.weighted("tagging", loss, 1.0))


@pytest.mark.parametrize("settings", ALL)
def test_the_gradient_of_a_loss_is_multiplied_by_its_weight(settings):
    weights = settings.build(TASKS)
    for losses, norms in steps(10):
        weights.observe(losses, norms)
    loss = torch.tensor(2.0, requires_grad=True)
    weights.weighted("tagging", loss, 0.5).backward()
    torch.testing.assert_close(loss.grad.item(), weights.now()["tagging"])


@pytest.mark.parametrize("settings", ALL)
def test_a_resume_goes_on_exactly(settings):
    straight = settings.build(TASKS)
    for number, (losses, norms) in enumerate(steps(20)):
        if number == 10:
            resumed = settings.build(TASKS)
            resumed.load_state_dict(copy.deepcopy(straight.state_dict()), strict=True)
        straight.observe(losses, norms)
        if number >= 10:
            resumed.observe(losses, norms)
    assert resumed.now() == straight.now()
    for ours, theirs in zip(resumed.state_dict().values(), straight.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("settings", ALL)
def test_a_step_that_overflowed_leaves_weights_finite_and_no_trace(settings):
    weights, undisturbed = settings.build(TASKS), settings.build(TASKS)
    everyone = torch.full((3,), torch.inf)
    for losses, norms in steps(20):
        weights.observe(losses, norms)
        undisturbed.observe(losses, norms)
        if settings != DynamicAverage(every=3):  # which counts steps
            weights.observe(everyone, everyone)
    assert weights.now() == undisturbed.now()
    for _ in range(10):
        weights.observe(everyone, everyone)
    assert all(0 < weight < math.inf for weight in as_list(weights))


def test_only_gradnorm_asks_for_gradients():
    assert [settings.build(TASKS).needs_gradients for settings in ALL] == [False, False, False, True]


# Static


def test_static_weights_multiply_the_losses():
    weights = Static({"tagging": 3, "summarisation": 0}).build(TASKS)
    assert weigh(weights, [1.0, 10.0, 100.0]) == 31


@pytest.mark.parametrize("weight", [-0.5, math.inf, math.nan])
def test_a_weight_that_is_negative_or_not_finite_is_refused(weight):
    with pytest.raises(
        InputError, match=r"model.training.joint.weighting.weights: tagging has .*; give a finite number, 0 or more"
    ):
        Static({"tagging": weight})


def test_a_weight_for_no_task_is_refused():
    with pytest.raises(
        InputError, match=r"weights: parsing is no task; choose from translation, tagging, summarisation"
    ):
        Static({"parsing": 1.0}).build(TASKS)


def test_weights_of_nothing_but_zeros_are_refused():
    with pytest.raises(InputError, match="all tasks are 0"):
        Static(dict.fromkeys(TASKS, 0.0)).build(TASKS)


def test_a_resume_obeys_static_weights_that_were_changed():
    changed = Static({"tagging": 2.0}).build(TASKS)
    changed.load_state_dict(Static().build(TASKS).state_dict(), strict=True)
    assert changed.now()["tagging"] == 2


# Uncertainty


def test_uncertainty_is_the_formula_with_standard_deviations():
    weights = Uncertainty().build(TASKS)
    deviations, losses = torch.tensor([0.5, 1.0, 3.0]), torch.tensor([1.0, 2.0, 0.3])
    weights.log_variance.data = deviations.square().log()
    torch.testing.assert_close(weigh(weights, losses.tolist()), (losses / deviations.square() + deviations.log()).sum())


def test_uncertainty_learns_the_variance_that_is_best_for_constant_losses():
    weights = Uncertainty().build(TASKS)
    optimizer = torch.optim.Adam(weights.parameters(), lr=0.05)
    losses = [0.5, 1.0, 4.0]
    for _ in range(400):
        optimizer.zero_grad()
        weigh(weights, losses).backward()
        optimizer.step()
    assert as_list(weights) == pytest.approx([1 / (2 * loss) for loss in losses], rel=1e-3)


def test_a_task_without_a_piece_does_not_move_its_variance():
    weights = Uncertainty().build(TASKS)
    weights.weighted("tagging", torch.tensor(2.0), 1.0).backward()
    assert weights.log_variance.grad.nonzero().tolist() == [[1]]


# Dynamic average


def test_dynamic_average_is_the_formula_of_the_paper():
    temperature, every = 1.5, 4
    weights = DynamicAverage(temperature, every).build(TASKS)
    losses = 0.5 + torch.rand(4 * every, 3, generator=torch.Generator().manual_seed(0))
    means = losses.view(4, every, 3).mean(1)
    for number, row in enumerate(losses, start=1):
        weights.observe(row, None)
        over = number // every
        if over < 2:
            assert as_list(weights) == [1, 1, 1]
        else:
            rates = (means[over - 1] / means[over - 2] / temperature).exp()
            assert as_list(weights) == pytest.approx((3 * rates / rates.sum()).tolist(), rel=1e-5)


def test_dynamic_average_takes_means_over_the_steps_of_a_task():
    some, all_steps = (DynamicAverage(every=every).build(TASKS) for every in (4, 2))
    losses = torch.tensor([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0], [2.0, 1.0, 1.0], [2.0, 2.0, 1.5]])
    for row in losses:
        all_steps.observe(row, None)
        first, rest = row.clone(), row.clone()
        first[1:], rest[0] = torch.nan, torch.nan
        some.observe(first, None)
        some.observe(rest, None)
    assert some.now() == all_steps.now()
    assert len(set(as_list(some))) == 3


def test_dynamic_average_takes_a_task_that_was_away_as_one_that_stands_still():
    away, still = (DynamicAverage(every=1).build(TASKS) for _ in range(2))
    first, second = torch.tensor([2.0, 2.0, 2.0]), torch.tensor([1.0, 2.0, 3.0])
    for weights, last in ((still, second), (away, second.masked_fill(second == 2, torch.nan))):
        weights.observe(first, None)
        weights.observe(last, None)
    assert away.now() == still.now()
    away.observe(torch.tensor([1.0, 4.0, 3.0]), None)
    assert as_list(away)[1] > max(as_list(away)[0], as_list(away)[2])  # 4 after 2, seen one interval later


def test_dynamic_average_survives_losses_of_0():
    weights = DynamicAverage(every=1).build(TASKS)
    for losses in ([0.0, 1.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0]):
        weights.observe(torch.tensor(losses), None)
        assert sum(as_list(weights)) == pytest.approx(3)


def test_a_shorter_interval_after_a_resume_ends_it():
    long, short = DynamicAverage(every=10).build(TASKS), DynamicAverage(every=2).build(TASKS)
    for _ in range(5):
        long.observe(torch.ones(3), None)
    short.load_state_dict(long.state_dict())
    short.observe(torch.ones(3), None)
    assert short.steps == 0


@pytest.mark.parametrize(
    "settings", [{"temperature": 0.0}, {"temperature": math.nan}, {"temperature": math.inf}, {"every": 0}]
)
def test_settings_of_the_dynamic_average_out_of_range_are_refused(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        DynamicAverage(**settings)


# GradNorm


def gradnorm(weights, shared, losses, initial, alpha, lr):
    """Take a step of Algorithm 1 of Chen et al. by autograd; `losses` is a function of the shared parameters."""
    weights = weights.clone().requires_grad_()
    values = losses(shared)
    norms = []
    for weight, value in zip(weights, values, strict=True):
        (gradient,) = torch.autograd.grad(weight * value, shared, create_graph=True, retain_graph=True)
        norms.append(gradient.norm())
    norms = torch.stack(norms)
    left = values.detach() / initial
    target = (norms.mean() * (left / left.mean()) ** alpha).detach()
    (gradient,) = torch.autograd.grad((norms - target).abs().sum(), weights)
    moved = weights.detach() - lr * gradient
    return moved * len(weights) / moved.sum(), values.detach(), norms.detach()


def test_gradnorm_is_autograd_on_its_own_loss():
    generator = torch.Generator().manual_seed(0)
    mixes, shared = torch.randn(3, 4, 5, generator=generator), torch.randn(5, generator=generator)
    shared.requires_grad_()

    def losses(shared):
        return (mixes @ shared).square().mean(1)

    settings = GradNorm(alpha=0.7, lr=0.01)
    weights, expected, initial = settings.build(TASKS), torch.ones(3), losses(shared).detach()
    for _ in range(20):
        expected, values, norms = gradnorm(expected, shared, losses, initial, settings.alpha, settings.lr)
        weights.observe(values, norms)
        torch.testing.assert_close(weights.weights, expected)
        (gradient,) = torch.autograd.grad((expected * losses(shared)).sum(), shared)
        shared.data -= 0.01 * gradient
    assert len({round(weight, 3) for weight in as_list(weights)}) == 3


def test_gradnorm_brings_gradients_to_like_norms():
    weights = GradNorm(alpha=0.0, lr=0.01).build(TASKS)
    raw = torch.tensor([1.0, 2.0, 0.5])
    for _ in range(300):
        weights.observe(torch.ones(3), raw * weights.weights)
    weighted = raw * weights.weights
    assert weighted.tolist() == pytest.approx([weighted.mean().item()] * 3, rel=0.1)


def test_gradnorm_raises_a_task_that_lags_behind():
    weights = GradNorm().build(TASKS)
    weights.observe(torch.ones(3), torch.ones(3))
    assert as_list(weights) == [1, 1, 1]
    weights.observe(torch.tensor([1.0, 0.5, 0.5]), torch.ones(3))
    assert as_list(weights)[0] > 1 > as_list(weights)[1]


def test_gradnorm_takes_the_first_loss_of_each_task_as_its_initial_one():
    weights = GradNorm().build(TASKS)
    weights.observe(torch.tensor([2.0, torch.nan, 3.0]), torch.tensor([1.0, torch.nan, 1.0]))
    weights.observe(torch.tensor([1.0, 4.0, torch.nan]), torch.tensor([1.0, 1.0, torch.nan]))
    weights.observe(torch.tensor([0.5, 3.0, 2.0]), torch.ones(3))
    assert weights.initial.tolist() == [2, 4, 3]


def test_a_task_that_takes_no_part_keeps_its_weight():
    weights = GradNorm().build(TASKS)
    for losses, norms in steps(30):
        before = weights.weights.clone()
        weights.observe(losses, norms)
        absent = losses.isnan()
        assert torch.equal(weights.weights[absent], before[absent])
        if absent.sum() == 2:  # one alone has nothing to be compared with
            torch.testing.assert_close(weights.weights, before)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3, 1e9])
def test_gradnorm_weights_stay_above_0_and_keep_their_sum(scale):
    weights = GradNorm(alpha=0.2, lr=1.0).build(TASKS)
    for losses, norms in steps(50):
        weights.observe(losses, scale * norms)
        assert weights.weights.min() >= torch.tensor(LEAST)
        assert sum(as_list(weights)) == pytest.approx(3, abs=3 * LEAST)


@pytest.mark.parametrize("settings", [{"alpha": -1.0}, {"alpha": math.nan}, {"lr": 0.0}, {"lr": math.inf}])
def test_settings_of_gradnorm_out_of_range_are_refused(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        GradNorm(**settings)
