"""An encoder of the user's own as a backbone: any module that turns token ids into states, under our heads.

It is trained, frozen, saved and loaded as other backbones are. It has no decoder, so it serves the tasks that do not
write: classification, tagging, spans.
"""

from __future__ import annotations

from torch import Tensor, nn

from lmtasks.backbones.base import Backbone, Memory
from lmtasks.errors import InputError


class WrappedEncoder(Backbone):
    """The encoder that a module is.

    Args:
        inner: Turns ids (B, S) and a mask (B, S), True = a real token, into states (B, S, D).
        d_model: D, the width of the states.
        max_length: Longest source in tokens, beyond which texts are cut; None = any.

    Example:
        >>> import torch
        >>> class Lookup(torch.nn.Embedding):
        ...     def forward(self, ids, mask):
        ...         return super().forward(ids)
        >>> ids = torch.tensor([[5, 6, 2]])
        >>> WrappedEncoder(Lookup(10, 16), d_model=16).encode(ids, ids > 0).states.shape
        torch.Size([1, 3, 16])
    """

    def __init__(self, inner: nn.Module, d_model: int, max_length: int | None = None) -> None:
        super().__init__()
        self.inner, self.d_model, self.max_length = inner, d_model, max_length

    @property
    def embedding(self) -> nn.Embedding:  # type: ignore[override]
        """The vectors of the tokens, which only `inner` knows. Raises: InputError, always."""
        raise InputError("a WrappedEncoder has no table of word vectors to set; leave out model.training.vectors")

    def encode(self, source: Tensor, mask: Tensor) -> Memory:
        """Read source ids (B, S) with mask (B, S), True = a real token.

        Raises: InputError if the module returns something else than states (B, S, D).
        """
        states = self.inner(source, mask)  # (B, S, D)
        wanted = (*source.shape, self.d_model)
        if not isinstance(states, Tensor) or states.shape != wanted:
            given = tuple(states.shape) if isinstance(states, Tensor) else type(states).__name__
            raise InputError(f"the module of a WrappedEncoder returned {given}, expected a tensor {wanted} of states")
        return Memory(states, mask)
