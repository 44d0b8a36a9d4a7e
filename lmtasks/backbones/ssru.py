"""The simpler simple recurrent unit (SSRU), which a decoder may have in place of self-attention.

Kim et al. 2019, "From Research to Production and Back: Ludicrously Fast Neural Machine Translation". A step of search
costs the same at any length of the text: the past is one vector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmtasks.backbones.attention import Cache

if TYPE_CHECKING:
    from lmtasks.backbones.transformer import TransformerConfig


class SSRU(nn.Module):
    """A moving average over the positions so far, whose gate sees the present position alone.

    f_t = sigmoid(W_f x_t + b_f),  c_t = f_t * c_{t-1} + (1 - f_t) * W x_t,  h_t = relu(c_t)
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.forget = nn.Linear(config.d_model, config.d_model, bias=config.bias)
        self.candidate = nn.Linear(config.d_model, config.d_model, bias=False)

    def forward(self, x: Tensor, mask: Tensor | None, cache: Cache | None = None) -> Tensor:
        """Mix x (B, T, D) with what stands before it; padding on the right needs no mask."""
        exact = torch.promote_types(x.dtype, torch.float32)  # bfloat16 loses what a long text adds up
        forget = self.forget(x).to(exact).sigmoid()  # (B, T, D)
        new = (1 - forget) * self.candidate(x)  # (B, T, D)
        cell = cache.parts[1] if cache is not None and cache.parts else torch.zeros_like(new[:, 0])  # (B, D)
        cells = []
        for keep, add in zip(forget.unbind(1), new.unbind(1), strict=True):
            cell = torch.addcmul(add, keep, cell)
            cells.append(cell)
        if cache is not None:
            # no numbers, only a size: it tells the tokens seen, as that of keys does
            seen = cell.new_empty(cell.size(0), 1, cache.length + x.size(1), 0)
            cache.parts = (seen, cell)
        return F.relu(torch.stack(cells, 1)).to(x.dtype)
