"""Rolling: let a language model write texts longer than the blocks it was trained on.

A model trained on blocks of 64 tokens has never seen position 200. When a text exceeds the block, the last half block
is read again from position 0. (nanoGPT's `generate` reads a whole block again for every token.)
"""

from __future__ import annotations

import torch
from torch import Tensor

from lmtasks.backbones.base import Backbone, Memory, State


class RollingState(State):
    """All tokens so far, and the decoder's state of the last of them."""

    def __init__(self, inner: State) -> None:
        self.inner, self.read = inner, 0
        self.history: Tensor | None = None  # (N, T)

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the history and of the inner state."""
        assert self.history is not None, "step first"
        self.history = self.history[rows.flatten()]
        self.inner.select(rows)

    def flatten(self) -> tuple[Tensor, ...]:
        """Return the history and the tensors of the inner state."""
        return () if self.history is None else (self.history, *self.inner.flatten())

    def restored(self, tensors: tuple[Tensor, ...]) -> RollingState:
        """Return a state with this history and inner state."""
        state = RollingState(self.inner.restored(tensors[1:]) if tensors else self.inner)
        state.history, state.read = (tensors[0] if tensors else None), self.read
        return state


class Rolling(Backbone):
    """A decoder-only backbone that reads at most `context` tokens at once; any number of them may follow each other."""

    def __init__(self, backbone: Backbone, context: int) -> None:
        super().__init__()
        self.backbone, self.context = backbone, context
        self.embedding, self.d_model = backbone.embedding, backbone.d_model

    def encode(self, source: Tensor, mask: Tensor) -> Memory:
        """Refuse, as the backbone does."""
        return self.backbone.encode(source, mask)

    def decode(self, target: Tensor, memory: Memory | None) -> Tensor:
        """Read the whole target (B, T) at once: (B, T, D)."""
        return self.backbone.decode(target, memory)

    def alignment(self, target: Tensor, memory: Memory) -> Tensor:
        """Refuse, as the backbone does."""
        return self.backbone.alignment(target, memory)

    def _output(self) -> tuple[Tensor, Tensor | None]:
        return self.backbone._output()

    def init_state(self, memory: Memory | None) -> RollingState:
        """Return the state before the first token."""
        return RollingState(self.backbone.init_state(memory))

    def step(self, target: Tensor, state: State) -> Tensor:
        """Append the tokens (N, T): (N, T, D), or fewer of the last states where T is more than is read at once."""
        assert isinstance(state, RollingState)
        state.history = target if state.history is None else torch.cat((state.history, target), 1)  # (N, T')
        new = target
        if state.read + target.size(1) > self.context:
            state.inner, state.read = self.backbone.init_state(None), 0
            new = state.history[:, -max(1, self.context // 2) :]
        state.read += new.size(1)
        return self.backbone.step(new, state.inner)[:, -target.size(1) :]
