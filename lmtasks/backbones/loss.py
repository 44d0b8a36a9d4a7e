"""Cross-entropy of a large vocabulary without ever holding all its logits.

The usual way writes logits, log-softmax and gradient of N positions and V tokens to memory, 130 MB each for 4,096
positions of 8,000 tokens. Here one block of positions at a time gets its logits, loss and gradients while it is in
cache. Source: Wijmans et al. 2024, "Cut Your Losses in Large-Vocabulary Language Models"; Hsu et al. 2024, Liger
Kernel's fused linear cross-entropy. Label smoothing: Szegedy et al. 2016, section 7.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lmtasks.batch import IGNORE

BLOCK = {"cpu": 2**21, "cuda": 2**26}  # logits held at once: half an 8-core share of last-level cache; 256 MB on a GPU
SMALL = 2.0**-8  # float16 only: without it a sum over a block may overflow, whatever the scale of the loss


@dataclass(frozen=True)
class Loss:
    """The loss of a batch, as sums, which add up over batches and ranks."""

    total: Tensor
    """() summed training loss of the targets, label smoothing included."""
    nll: Tensor
    """() summed negative log-likelihood of the targets in nats, without gradient."""
    count: Tensor
    """() number of targets."""


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, label_smoothing: float = 0.0
) -> Loss:
    """Return the loss of `hidden @ weight.T + bias` against `target`.

    hidden: (..., D); weight: (V, D); bias: (V,) or None; target: (...), IGNORE where there is none. With label
    smoothing e the target distribution is 1 - e on the target plus e / V on every token, as in `F.cross_entropy`.
    """
    # inside `apply` the grad mode is always off, so it is read here
    inputs = (hidden.flatten(0, -2), weight, bias, target.flatten(), label_smoothing, torch.is_grad_enabled())
    total, nll = _LinearCrossEntropy.apply(*inputs)
    return Loss(total, nll, (target != IGNORE).sum())


class _LinearCrossEntropy(torch.autograd.Function):
    """The gradients are made in the forward pass, where the logits are; backward only scales them."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, target, smoothing, with_gradients):
        """Return the summed loss and nll, and keep the gradients that are needed."""
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        needed = [with_gradients and needs for needs in ctx.needs_input_grad[:3]]
        with torch.autocast(kind, enabled=False):
            total, nll, *gradients = _blocks(hidden, weight, bias, target, smoothing, dtype, needed)
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(nll)
        return total, nll

    @staticmethod
    @once_differentiable
    def backward(ctx, scale, _):
        """Scale the gradients that forward has kept."""
        gradients = [None if gradient is None else gradient * scale for gradient in ctx.saved_tensors]
        return *gradients, None, None, None


def _blocks(hidden, weight, bias, target, smoothing, dtype, needed):
    """Return the summed loss and nll, and the gradients of hidden, weight and bias, None where not `needed`."""
    rows = max(1, BLOCK.get(hidden.device.type, 2**26) // len(weight))
    exact = torch.promote_types(dtype, torch.float32)  # what sums are kept in
    total = torch.zeros((), dtype=exact, device=hidden.device)
    nll = torch.zeros_like(total)
    d_hidden = torch.empty_like(hidden) if needed[0] else None
    d_weight = torch.zeros_like(weight, dtype=exact) if needed[1] else None
    d_bias = torch.zeros_like(bias, dtype=exact) if needed[2] else None
    matrix = weight.to(dtype)  # (V, D)
    hidden = hidden.to(dtype)
    for first in range(0, len(hidden), rows):
        states, wanted = hidden[first : first + rows], target[first : first + rows]  # (n, D), (n,)
        real = (wanted != IGNORE)[:, None].to(exact)  # (n, 1) 1, or 0 where there is no target
        wanted = wanted.clamp(min=0)[:, None]  # (n, 1)
        logits = torch.mm(states, matrix.t()).to(exact)  # (n, V)
        if bias is not None:
            logits += bias
        chosen, mean = logits.gather(1, wanted), logits.mean(1, keepdim=True)  # (n, 1)
        highest = logits.amax(1, keepdim=True)  # (n, 1)
        shares = logits.sub_(highest).exp_()  # (n, V) softmax times `sums`, in the logits' own memory
        sums = shares.sum(1, keepdim=True)  # (n, 1)
        normaliser = highest + sums.log()
        nll = nll + ((normaliser - chosen) * real).sum()
        total = total + (((1 - smoothing) * (normaliser - chosen) + smoothing * (normaliser - mean)) * real).sum()
        if not any(needed):
            continue
        # d loss / d logits = softmax - smoothed target
        d_logits = shares.mul_(real / sums).sub_(real * (smoothing / len(weight)))
        d_logits.scatter_add_(1, wanted, real * (smoothing - 1))
        if d_bias is not None:
            d_bias += d_logits.sum(0)
        d_logits = d_logits.to(dtype)
        if d_hidden is not None:
            d_hidden[first : first + rows] = d_logits @ matrix
        if d_weight is not None:
            d_weight += d_logits.t() @ (states * SMALL if dtype == torch.float16 else states)
    if d_weight is not None and dtype == torch.float16:
        d_weight /= SMALL
    return total, nll, d_hidden, d_weight, d_bias
