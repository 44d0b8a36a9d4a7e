"""NaN and infinity: what a training that has diverged leaves in a model, and what nobody should save or ask."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lmtasks.errors import InputError

REMEDY = "its training has diverged: take an earlier checkpoint, or train it again with a lower learning rate"


def check_finite(weights: Mapping[str, Tensor]) -> None:
    """Check that no weight is NaN or infinite; each tensor is read once.

    Raises: InputError if one is; it names the tensor.
    """
    if name := broken_weight(weights):
        raise InputError(f"{name} is not finite, it has NaN or infinity; {REMEDY}")


def broken_weight(weights: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor that has NaN or infinity, None if there is none."""
    return next((name for name, tensor in weights.items() if not is_finite(tensor)), None)


def is_finite(tensor: Tensor) -> bool:
    """Tell whether no number of a tensor is NaN or infinite.

    >>> is_finite(torch.tensor([0.0, torch.inf]))
    False
    """
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    least, most = torch.aminmax(tensor.detach())  # NaN passes through both; a mask of the tensor would cost memory
    return bool(torch.isfinite(torch.stack((least, most))).all())
