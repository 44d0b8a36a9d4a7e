"""Dropout on a CPU, and attention where it is written by hand, against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lmtasks.backbones.attention import attend
from lmtasks.backbones.dropout import LEVELS, Dropout

MANY = 400_000


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.9])
def test_the_share_dropped_is_as_asked_and_the_mean_stays(share):
    torch.manual_seed(0)
    y = Dropout(share)(torch.ones(MANY))
    error = 5 * (share * (1 - share) / MANY) ** 0.5  # five standard deviations
    assert abs(float((y == 0).float().mean()) - share) < error
    assert abs(float(y.mean()) - 1) < error / (1 - share)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_what_is_kept_is_scaled_by_the_exact_share(share):
    torch.manual_seed(0)
    y = Dropout(share)(torch.ones(100))
    kept = round((1 - share) * LEVELS) / LEVELS
    assert set(y.tolist()) == {0.0, float(torch.tensor(1 / kept))}
    assert abs(kept - (1 - share)) <= 0.5 / LEVELS


@pytest.mark.parametrize("shape", [(), (1,), (3,), (4,), (5, 7), (2, 3, 5), (0, 4)])
def test_every_size_goes(shape):
    assert Dropout(0.5)(torch.randn(shape)).shape == shape


def test_neighbours_are_dropped_independently():
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(MANY)) > 0).float() - 0.5
    for lag in (1, 2, 3, 4):
        assert abs(float((kept[lag:] * kept[:-lag]).mean())) < 5 * 0.25 / MANY**0.5


def test_it_is_the_identity_in_evaluation_and_with_share_zero():
    x = torch.randn(9)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_share_one_drops_all_and_a_tiny_share_next_to_nothing():
    x = torch.randn(1000)
    assert not Dropout(1.0)(x).any()
    torch.testing.assert_close(Dropout(1e-7)(x), x, rtol=2 / LEVELS, atol=0)


def test_the_type_is_kept_and_the_seed_decides():
    x = torch.randn(33, dtype=torch.bfloat16)
    torch.manual_seed(1)
    first = Dropout(0.5)(x)
    torch.manual_seed(1)
    assert torch.equal(first, Dropout(0.5)(x))
    assert first.dtype == torch.bfloat16
    assert not torch.equal(first, Dropout(0.5)(x))


def test_the_gradient_is_the_mask():
    torch.manual_seed(0)
    x = torch.randn(7, 5).t().requires_grad_()
    y = Dropout(0.4)(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad * x, y)
    assert (x.grad == 0).any()
    assert (x.grad > 1).any()


def some(queries, keys, dtype=torch.bfloat16):
    torch.manual_seed(0)
    sizes = ((2, 3, queries, 8), (2, 3, keys, 8), (2, 3, keys, 8))
    return tuple(torch.randn(size).to(dtype) for size in sizes)


def masks(queries, keys):
    real = torch.ones(2, 1, 1, keys, dtype=torch.bool)
    real[0, ..., keys - 1 :] = False
    return {
        "none": None,
        "bool": real,
        "float": torch.randn(1, 3, queries, keys, generator=torch.Generator().manual_seed(3)),
    }


@pytest.mark.parametrize("mask", ["none", "bool", "float"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("queries", "keys"), [(5, 5), (1, 6), (3, 6)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_attention_equals_the_formula_whatever_path_it_takes(mask, causal, queries, keys, dtype):
    query, key, value = some(queries, keys, dtype)
    chosen = masks(queries, keys)[mask]
    bias = torch.zeros(2, 3, queries, keys)
    if mask == "bool":
        bias = bias.masked_fill(~chosen, -torch.inf)
    elif mask == "float":
        bias = bias + chosen
    if causal:
        later = torch.arange(keys)[None, :] > torch.arange(keys - queries, keys)[:, None]
        bias = bias.masked_fill(later, -torch.inf)
    scores = query.float() @ key.float().transpose(-2, -1) * 0.3 + bias
    expected = scores.softmax(-1) @ value.float()
    got = attend(query, key, value, chosen, causal, 0.0, 0.3)
    assert got.dtype == dtype
    tolerance = 0.03 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(got.float(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("causal", [False, True])
def test_the_hand_written_path_has_the_gradients_of_the_fused_kernel(causal):
    tensors = [tensor.requires_grad_() for tensor in some(5, 5)]
    ours = torch.autograd.grad(attend(*tensors, None, causal, 0.0, 0.3).float().sum(), tensors)
    fused = F.scaled_dot_product_attention(*[tensor.float() for tensor in tensors], is_causal=causal, scale=0.3)
    theirs = torch.autograd.grad(fused.sum(), tensors)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our.float(), their.float(), rtol=0.05, atol=0.05)


def test_a_source_without_any_token_gives_finite_numbers_in_bfloat16_too():
    nothing = torch.zeros(2, 1, 1, 4, dtype=torch.bool)
    assert attend(*some(3, 4), nothing, False, 0.0, 0.3).isfinite().all()


def test_dropped_attention_weights_keep_the_mean_on_both_paths():
    for dtype in (torch.bfloat16, torch.float32):
        query, key, _ = some(5, 6, dtype)
        torch.manual_seed(0)
        value = torch.ones(2, 3, 6, 8, dtype=dtype)
        means = torch.stack([attend(query, key, value, None, False, 0.3, 0.3).float().mean() for _ in range(300)])
        assert abs(float(means.mean()) - 1) < 0.05
