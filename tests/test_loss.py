"""The loss against PyTorch's own, which holds all logits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import lmtasks.backbones.loss
from lmtasks.backbones.loss import linear_cross_entropy
from lmtasks.batch import IGNORE

N, D, V = 13, 5, 17


def inputs(dtype=torch.float32, with_bias=True):
    torch.manual_seed(0)
    hidden = torch.randn(N, D, dtype=dtype, requires_grad=True)
    weight = torch.randn(V, D, dtype=dtype, requires_grad=True)
    bias = torch.randn(V, dtype=dtype, requires_grad=True) if with_bias else None
    target = torch.randint(V, (N,))
    target[::4] = IGNORE
    return hidden, weight, bias, target


def reference(hidden, weight, bias, target, smoothing=0.0):
    logits = F.linear(hidden, weight, bias)
    return F.cross_entropy(logits, target, reduction="sum", ignore_index=IGNORE, label_smoothing=smoothing)


@pytest.mark.parametrize("block", [1, V, 4 * V, 5 * V - 1, N * V, 2**20])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("with_bias", [True, False])
def test_value_and_gradients_are_those_of_cross_entropy(monkeypatch, block, smoothing, with_bias):
    monkeypatch.setitem(lmtasks.backbones.loss.BLOCK, "cpu", block)
    *learned, target = inputs(with_bias=with_bias)
    loss = linear_cross_entropy(*learned, target, smoothing)
    expected = reference(*learned, target, smoothing)
    torch.testing.assert_close(loss.total, expected)
    torch.testing.assert_close(loss.nll, reference(*learned, target))
    assert int(loss.count) == int((target != IGNORE).sum())
    learned = [tensor for tensor in learned if tensor is not None]
    ours, theirs = torch.autograd.grad(3 * loss.total, learned), torch.autograd.grad(3 * expected, learned)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their)


def test_rows_of_several_dimensions_are_those_of_one():
    hidden, weight, bias, target = inputs()
    folded = linear_cross_entropy(hidden[:12].view(3, 4, D), weight, bias, target[:12].view(3, 4))
    torch.testing.assert_close(folded.total, reference(hidden[:12], weight, bias, target[:12]))


def test_a_batch_without_targets_has_loss_and_gradient_zero():
    hidden, weight, bias, target = inputs()
    loss = linear_cross_entropy(hidden, weight, bias, torch.full_like(target, IGNORE), 0.1)
    loss.total.backward()
    assert float(loss.total.detach()) == float(loss.nll) == int(loss.count) == 0
    assert not any(tensor.grad.any() for tensor in (hidden, weight, bias))


def test_ignored_rows_get_no_gradient():
    hidden, weight, bias, target = inputs()
    linear_cross_entropy(hidden, weight, bias, target, 0.1).total.backward()
    assert torch.equal(hidden.grad.any(1), target != IGNORE)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_gradients_are_right_to_the_precision_of_float64(monkeypatch, smoothing):
    monkeypatch.setitem(lmtasks.backbones.loss.BLOCK, "cpu", 4 * V)
    *learned, target = inputs(torch.float64)
    assert torch.autograd.gradcheck(lambda h, w, b: linear_cross_entropy(h, w, b, target, smoothing).total, learned)


def test_bfloat16_autocast_stays_near_and_keeps_the_gradients_in_float32():
    *learned, target = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(*learned, target, 0.1)
    assert loss.total.dtype == torch.float32
    expected = reference(*learned, target, 0.1)
    torch.testing.assert_close(loss.total, expected, rtol=0.02, atol=0)
    ours, theirs = torch.autograd.grad(loss.total, learned), torch.autograd.grad(expected, learned)
    for our, their in zip(ours, theirs, strict=True):
        assert our.dtype == torch.float32
        assert float((our - their).norm() / their.norm()) < 0.02


def test_float16_sums_of_a_block_do_not_overflow():
    hidden, target = torch.full((4000, 4), 20.0), torch.zeros(4000, dtype=torch.long)
    weight = torch.zeros(50, 4, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.float16):
        (linear_cross_entropy(hidden, weight, None, target).total * 1e-4).backward()
    exact = weight.detach().clone().requires_grad_()
    (F.cross_entropy(hidden @ exact.t(), target, reduction="sum") * 1e-4).backward()
    torch.testing.assert_close(weight.grad, exact.grad, rtol=1e-2, atol=1e-3)


def test_an_empty_batch_has_loss_and_gradient_zero():
    hidden, weight = torch.zeros(0, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    loss = linear_cross_entropy(hidden, weight, None, torch.zeros(0, dtype=torch.long))
    loss.total.backward()
    assert loss.total == loss.nll == loss.count == 0
    assert torch.equal(weight.grad, torch.zeros(5, 4))


def test_bfloat16_states_under_autocast_get_bfloat16_gradients():
    hidden, weight, bias, target = inputs()
    half = hidden.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        linear_cross_entropy(half, weight, bias, target).total.backward()
    assert half.grad.dtype == torch.bfloat16
    assert weight.grad.dtype == torch.float32


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_asked_for_there_are_no_buffers_of_them(monkeypatch, mode):
    given = []
    blocks = lmtasks.backbones.loss._blocks
    monkeypatch.setattr(
        lmtasks.backbones.loss, "_blocks", lambda *arguments: given.append(arguments[-1]) or blocks(*arguments)
    )
    *learned, target = inputs()
    with mode():
        silent = linear_cross_entropy(*learned, target)
    frozen = linear_cross_entropy(*[tensor.detach() for tensor in learned], target)
    assert given == [[False] * 3] * 2
    torch.testing.assert_close(silent.total, frozen.total)
    assert not frozen.total.requires_grad
    linear_cross_entropy(*learned, target)
    assert given[-1] == [True] * 3


@pytest.mark.parametrize("frozen", [(0,), (1,), (2,), (1, 2)])
def test_a_frozen_part_costs_no_gradient_and_leaves_those_of_the_others(frozen):
    *learned, target = inputs()
    for part in frozen:
        learned[part].requires_grad_(False)
    loss = linear_cross_entropy(*learned, target).total
    kept = loss.grad_fn.saved_tensors
    assert [gradient is None for gradient in kept] == [part in frozen for part in range(3)]
    others = [tensor for tensor in learned if tensor.requires_grad]
    expected = torch.autograd.grad(reference(*learned, target), others)
    torch.testing.assert_close(torch.autograd.grad(loss, others), expected)


def test_the_likelihood_has_no_gradient():
    *learned, target = inputs()
    assert not linear_cross_entropy(*learned, target).nll.requires_grad
