"""Rolling: a language model that writes texts longer than what it reads at once.

A model trained on blocks of 64 tokens knows nothing of the 200th place. When there are more tokens than it read in
training, the last half of them is read anew, as a block (in place of one token at a time, as nanoGPT's `generate` does,
which reads a whole block for each).
"""

from __future__ import annotations

import torch
from torch import Tensor

from lmtasks.backbones.base import Backbone, Memory, State


class RollingState(State):
    """All tokens so far, and what the decoder remembers of the last of them."""

    def __init__(self, inner: State) -> None:
        self.inner, self.read = inner, 0
        self.history: Tensor | None = None  # (N, T)

    def select(self, rows: Tensor) -> None:
        assert self.history is not None, "step first"
        self.history = self.history[rows.flatten()]
        self.inner.select(rows)


class Rolling(Backbone):
    """A decoder-only backbone that reads at most `context` tokens at once; any number of them may follow each other."""

    def __init__(self, backbone: Backbone, context: int) -> None:
        super().__init__()
        self.backbone, self.context = backbone, context
        self.embedding, self.d_model = backbone.embedding, backbone.d_model

    def encode(self, source: Tensor, mask: Tensor) -> Memory:
        return self.backbone.encode(source, mask)

    def decode(self, target: Tensor, memory: Memory | None) -> Tensor:
        return self.backbone.decode(target, memory)

    def alignment(self, target: Tensor, memory: Memory) -> Tensor:
        return self.backbone.alignment(target, memory)

    def output(self) -> tuple[Tensor, Tensor | None]:
        return self.backbone.output()

    def init_state(self, memory: Memory | None) -> RollingState:
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
