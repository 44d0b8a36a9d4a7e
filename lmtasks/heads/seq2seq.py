"""Writing a text: the loss of its tokens one by one, and the search for the likeliest text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lmtasks.backbones.base import Backbone
from lmtasks.backbones.loss import Loss
from lmtasks.batch import Batch
from lmtasks.decoding import Decoding, number_of, search, stream
from lmtasks.heads.base import Head, Texts


class Seq2SeqHead(Head):
    """Write the target token by token; no parameters of its own.

    Example:
        >>> from lmtasks import Batch, Seq2SeqHead, TransformerConfig
        >>> backbone = TransformerConfig(d_model=16, n_heads=2, d_ff=32).build(vocab_size=10)
        >>> ids = torch.tensor([[5, 6, 2]])
        >>> batch = Batch("copy", source=ids, source_mask=ids > 0, target=ids, ids=torch.tensor([0]))
        >>> int(Seq2SeqHead(start=1, end=2).loss(backbone, batch).count)
        3
    """

    def __init__(self, start: int, end: int, suppress_tokens: Sequence[int] = (), label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.start, self.end, self.suppress_tokens = start, end, tuple(suppress_tokens)
        self.label_smoothing = label_smoothing

    def loss(self, backbone: Backbone, batch: Batch) -> Loss:
        """Read batch.source and predict each token of batch.target (B, T) from those before it."""
        memory = backbone.encode(batch.source, batch.source_mask)
        hidden = backbone.decode(shift_right(batch.target, self.start), memory)  # (B, T, D)
        return backbone.loss(hidden, batch.target, self.label_smoothing if self.training else 0.0)

    def predict(self, backbone: Backbone, batch: Batch, decoding: Decoding, prefix: Sequence[int] = ()) -> Texts:
        """Return the `n_best` texts found for each source, best first; all begin with prefixes, see `Head.predict`."""
        memory = backbone.encode(batch.source, batch.source_mask)
        own = [example.prefix for example in batch.examples] or [[]] * len(batch)
        begin, ids = [[*each, *prefix] for each in own], None
        if decoding.seed is not None:
            rows = zip(batch.source.tolist(), batch.source_mask.sum(1).tolist(), strict=True)
            ids = [number_of(source[:length]) for source, length in rows]
        return search(backbone, memory, decoding, self.start, self.end, self.suppress_tokens, begin, ids)

    @torch.no_grad()
    def stream(
        self, backbone: Backbone, source: Sequence[int], decoding: Decoding, prefix: Sequence[int] = ()
    ) -> Iterator[int]:
        """Read one source and iterate over the tokens of its text; see `Head.stream`."""
        read = torch.tensor([[*source]], device=backbone.device)  # (1, S)
        memory = backbone.encode(read, torch.ones_like(read, dtype=torch.bool))
        number = number_of(source)
        return stream(backbone, memory, decoding, self.start, self.end, self.suppress_tokens, prefix, number)

    def alignment(self, backbone: Backbone, batch: Batch) -> Tensor:
        """Return how much each token of batch.target (B, T) reads of each of batch.source (B, S): (B, T, S)."""
        memory = backbone.encode(batch.source, batch.source_mask)
        return backbone.alignment(shift_right(batch.target, self.start), memory)

    def begin_with(self, token: int) -> None:
        """Let the decoder begin with `token` instead of the start token."""
        self.start = token


def shift_right(target: Tensor, start: int) -> Tensor:
    """Return what the decoder reads to predict target (B, T): the start token, then the target without its last."""
    before = torch.full_like(target[:, :1], start)
    return torch.cat((before, target[:, :-1].clamp(min=0)), dim=1)  # IGNORE, which is negative, is no token to read
