"""Muon over all matrices of a shape at once: what PyTorch's does one by one, and what makes it worth having."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import lmtasks.training.optim.muon
from lmtasks.training.optim.muon import BatchedMuon, orthogonal

SHAPES = [(24, 8), (8, 24), (8, 8), (24, 8), (8, 8)]


def matrices():
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def learn(parameters, optimizer, steps):
    """Move each matrix towards a wanted one."""
    generator = torch.Generator().manual_seed(1)
    wanted = [torch.randn(parameter.shape, generator=generator) for parameter in parameters]
    for _ in range(steps):
        optimizer.zero_grad()
        sum((own - other).square().sum() for own, other in zip(parameters, wanted, strict=True)).backward()
        optimizer.step()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_it_moves_as_that_of_pytorch(weight_decay):
    ours, theirs, first = matrices(), matrices(), matrices()
    learn(ours, BatchedMuon(ours, 0.02, weight_decay), steps=5)
    learn(theirs, torch.optim.Muon(theirs, 0.02, weight_decay), steps=5)
    for own, other, start in zip(ours, theirs, first, strict=True):
        moved = (other - start).norm()
        assert moved > 0.1
        assert (own - other).norm() < 0.02 * moved  # theirs is made in bfloat16, which has three digits


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_singular_vectors_stay_and_singular_values_come_near_one(shape):
    given = torch.randn(3, *shape, generator=torch.Generator().manual_seed(2))
    found = orthogonal(given)
    assert found.shape == given.shape
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.6
    assert values.max() < 1.3
    left, _, right = torch.linalg.svd(given, full_matrices=False)
    between = left.mT @ found @ right.mT  # (n, r, r): diagonal where the vectors stayed
    off = between - torch.diag_embed(between.diagonal(dim1=1, dim2=2))
    assert off.abs().max() < 1e-3


def test_how_many_are_taken_together_changes_nothing(monkeypatch):
    together, apart = matrices(), matrices()
    learn(together, BatchedMuon(together, 0.02), steps=3)
    monkeypatch.setattr(lmtasks.training.optim.muon, "AT_ONCE", 1)
    learn(apart, BatchedMuon(apart, 0.02), steps=3)
    for own, other in zip(together, apart, strict=True):
        torch.testing.assert_close(own, other)


def test_a_matrix_without_gradient_stays_and_a_zero_gradient_moves_nothing():
    with_gradient, without, still = (nn.Parameter(torch.eye(4)) for _ in range(3))
    optimizer = BatchedMuon([with_gradient, without, still], 0.1, weight_decay=0.1)
    with_gradient.grad, still.grad = torch.randn(4, 4), torch.zeros(4, 4)
    optimizer.step()
    assert torch.equal(without, torch.eye(4))
    torch.testing.assert_close(still.data, 0.99 * torch.eye(4))  # weight decay alone
    assert not torch.equal(with_gradient, still)


def test_a_closure_runs_once_and_with_gradients():
    weight = nn.Parameter(torch.ones(2, 2))
    calls = []

    def closure():
        calls.append(torch.is_grad_enabled())
        weight.square().sum().backward()
        return "loss"

    assert BatchedMuon([weight], 0.1).step(closure) == "loss"
    assert calls == [True]
    assert weight.max() < 1
