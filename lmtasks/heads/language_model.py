"""The language model: a text is continued token by token (Bengio et al. 2003; Radford et al. 2019, section 2).

There is no encoder. The decoder reads the source and what it has written as one sequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lmtasks.backbones.base import Backbone, Memory, State
from lmtasks.backbones.loss import Loss
from lmtasks.batch import Batch
from lmtasks.cuts import note_cut
from lmtasks.decoding import Decoding, number_of, search, stream
from lmtasks.heads.base import Head, Texts


class LanguageModelHead(Head):
    """Continue the source with the target; no parameters of its own.

    A source has at least one token. That of an empty text is `end`, which opens a text as it closes one (the convention
    of GPT-2). With a `context`, the decoder reads at most so many tokens at once, however long its text becomes; see
    `Rolling`.

    Example:
        >>> from lmtasks import Batch, TransformerConfig
        >>> backbone = TransformerConfig(d_model=16, n_heads=2, d_ff=32, encoder_layers=0).build(vocab_size=10)
        >>> source, target = torch.tensor([[2, 5]]), torch.tensor([[6, 7, 2]])
        >>> batch = Batch("generation", source, source > 0, target, ids=torch.tensor([0]))
        >>> int(LanguageModelHead(end=2).loss(backbone, batch).count)
        3
    """

    def __init__(self, end: int, suppress_tokens: Sequence[int] = (), context: int | None = None) -> None:
        super().__init__()
        self.end, self.suppress_tokens, self.context = end, tuple(suppress_tokens), context

    def loss(self, backbone: Backbone, batch: Batch) -> Loss:
        """Predict each token of batch.target (B, T) from batch.source (B, S) and the target before it."""
        read = join(batch.source, batch.source_mask, batch.target)  # (B, S + T - 1)
        hidden = backbone.decode(read, None)  # (B, S + T - 1, D)
        if batch.source.size(1) > 1:  # the last token of the source predicts the first of the target
            last = batch.source_mask.sum(1, keepdim=True) - 1  # (B, 1)
            places = last + torch.arange(batch.target.size(1), device=hidden.device)  # (B, T)
            hidden = hidden.gather(1, places[..., None].expand(-1, -1, hidden.size(2)))  # (B, T, D)
        return backbone.loss(hidden, batch.target)

    def predict(self, backbone: Backbone, batch: Batch, decoding: Decoding, prefix: Sequence[int] = ()) -> Texts:
        """Return the `n_best` continuations of each source, best first; all begin with `prefix`.

        A source that leaves too little room is cut, see `latest`.
        """
        rows = zip(batch.source.tolist(), batch.source_mask.sum(1).tolist(), strict=True)
        numbers = [example.row for example in batch.examples] or range(len(batch))
        backbone, prompts = self._begin(backbone, [source[:length] for source, length in rows], numbers, decoding)
        begin = [prefix] * len(batch) if prefix else None
        ids = None if decoding.seed is None else [number_of(prompt) for prompt in prompts]
        return search(backbone, None, decoding, self.end, self.end, self.suppress_tokens, begin, ids, prompts)

    def stream(
        self, backbone: Backbone, source: Sequence[int], decoding: Decoding, prefix: Sequence[int] = ()
    ) -> Iterator[int]:
        """Iterate over the tokens that continue one source; see `Head.stream`."""
        backbone, (prompt,) = self._begin(backbone, [source], [0], decoding)
        number = number_of(prompt)
        return stream(backbone, None, decoding, self.end, self.end, self.suppress_tokens, prefix, number, prompt)

    def _begin(
        self, backbone: Backbone, sources: Sequence[Sequence[int]], rows: Sequence[int], decoding: Decoding
    ) -> tuple[Backbone, list[Sequence[int]]]:
        """Return the backbone that writes, `Rolling` with a context, and the prompt that it reads of each source."""
        writer = backbone if self.context is None else Rolling(backbone, self.context)
        prompts = [latest(each or [self.end], writer.max_length, decoding.max_length) for each in sources]
        for row, source, prompt in zip(rows, sources, prompts, strict=True):
            if len(prompt) < len(source):
                note_cut(row, len(source), len(prompt))
        return writer, prompts


class RollingState(State):
    """All tokens so far, and the decoder's state, which has read the last of them."""

    def __init__(self, inner: State) -> None:
        self.inner, self.read = inner, 0
        self.history: Tensor | None = None  # (N, T)

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the history and of the inner state."""
        assert self.history is not None, "step first"
        self.history = self.history[rows.flatten()]
        self.inner.select(rows)


class Rolling(Backbone):
    """A decoder-only backbone that writes texts longer than the blocks it was trained on.

    A model trained on blocks of 64 tokens has never seen position 200. When a text exceeds `context` tokens, the last
    half of them is read again from position 0. (nanoGPT's `generate` reads a whole block again for every token.)
    """

    def __init__(self, backbone: Backbone, context: int) -> None:
        super().__init__()
        self.backbone, self.context, self.d_model = backbone, context, backbone.d_model

    @property
    def device(self) -> torch.device:
        """Where the backbone computes."""
        return self.backbone.device

    def logits(self, hidden: Tensor) -> Tensor:
        """Score every token: (..., D) -> (..., V)."""
        return self.backbone.logits(hidden)

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


def join(source: Tensor, mask: Tensor, target: Tensor) -> Tensor:
    """Append each target (B, T), but for its last token, to its source (B, S): (B, S + T - 1), padded on the right."""
    both = torch.cat((source, target[:, :-1].clamp(min=0)), dim=1)  # (B, S + T - 1)
    if source.size(1) == 1:  # no source is padded, as each has a token
        return both
    places = torch.arange(both.size(1), device=both.device)
    lengths = mask.sum(1, keepdim=True)  # (B, 1)
    # the target is moved over the padding of its source; what would come from beyond the end is never scored
    moved = torch.where(places < lengths, places, (places + source.size(1) - lengths).clamp(max=both.size(1) - 1))
    return both.gather(1, moved)


def latest(source: Sequence[int], readable: int | None, max_length: int) -> Sequence[int]:
    """Return the last tokens of a source that leave a backbone room for a text of `max_length` tokens.

    Of the `readable` tokens (None = any number) a source keeps at least half, however long the text may be.

    >>> latest([5, 6, 7, 8, 9], readable=8, max_length=6)
    [6, 7, 8, 9]
    """
    if readable is None:
        return source
    kept = max(readable - max_length + 1, readable // 2, 1)  # the last token of a text need not be read
    return source[-kept:]
