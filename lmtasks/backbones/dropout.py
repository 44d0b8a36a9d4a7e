"""Dropout (Srivastava et al. 2014) that is not the bottleneck of training on a CPU.

There `F.dropout` draws one double for each element, on one core, and takes a tenth of a step. One 64-bit draw decides
four elements here, by 16 bits each, about four times as fast; the share dropped is right to 1 / 65,536 and the scale to
the last bit.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 2**16
PER_DRAW = 4  # 16-bit numbers in a 64-bit draw


class Dropout(nn.Module):
    """Zero a share of the elements in training and scale up the others, so that the mean stays."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Same shape in and out."""
        if not self.training or self.share == 0:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return F.dropout(x, self.share)
        return x * _mask(x, self.share)

    def extra_repr(self) -> str:
        return f"share={self.share}"


def _mask(x: Tensor, share: float) -> Tensor:
    """Return 0 or 1 / (share kept) for each element of x."""
    kept = min(round((1 - share) * LEVELS), LEVELS - 1)  # a higher threshold would not fit into 16 bits
    draws = torch.empty(-(-x.numel() // PER_DRAW), dtype=torch.int64).random_(-(2**63), None)
    keep = draws.view(torch.int16)[: x.numel()] < kept - LEVELS // 2  # int16 runs from -LEVELS / 2
    return (keep.to(x.dtype) * (LEVELS / kept if kept else 0.0)).view(x.shape)
