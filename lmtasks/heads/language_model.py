"""The language model: a text goes on, token by token (Bengio et al. 2003; Radford et al. 2019, section 2).

There is no encoder. What stands before and what is to be predicted are one sequence for the decoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lmtasks.backbones.base import Backbone
from lmtasks.backbones.loss import Loss
from lmtasks.batch import Batch
from lmtasks.decoding import Decoding, Hypothesis, search, stream
from lmtasks.heads.base import Head
from lmtasks.heads.rolling import Rolling


class LanguageModelHead(Head):
    """Loss of each token of the target, given the source before it; no parameters of its own.

    A source has at least one token: where nothing stands before, it is `end`, which opens a text as it closes one
    (the convention of GPT-2). `suppress_tokens` are never written. With a `context`, at most so many tokens are read at
    once while a text is written, however long it becomes, see `Rolling`.

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
        hidden = target_states(backbone.decode(read, None), batch.source_mask, batch.target.size(1))  # (B, T, D)
        return backbone.loss(hidden, batch.target)

    def predict(
        self, backbone: Backbone, batch: Batch, decoding: Decoding, prefix: Sequence[int] = ()
    ) -> list[list[Hypothesis]]:
        """Return the `n_best` texts found that follow each source, best first.

        They hold no token of the source, and all begin with `prefix`. A source that leaves too little room is cut, see
        `latest`.
        """
        backbone = self._rolling(backbone)
        begin, ids = [prefix] * len(batch) if prefix else None, batch.ids.tolist()
        rows = zip(batch.source.tolist(), batch.source_mask.sum(1).tolist(), strict=True)
        prompts = [self._prompt(backbone, source[:length], decoding) for source, length in rows]
        return search(backbone, None, decoding, self.end, self.end, self.suppress_tokens, begin, ids, prompts)

    def stream(self, backbone: Backbone, source: Sequence[int], decoding: Decoding) -> Iterator[int]:
        """Return an iterator over the tokens that follow one source, each as soon as it is chosen, without the end.

        Raises: InputError with a beam, which knows its text only at the end, or with several hypotheses.
        """
        backbone = self._rolling(backbone)
        prompt = self._prompt(backbone, source, decoding)
        return stream(backbone, None, decoding, self.end, self.end, self.suppress_tokens, prompt=prompt)

    def _rolling(self, backbone: Backbone) -> Backbone:
        return backbone if self.context is None else Rolling(backbone, self.context)

    def _prompt(self, backbone: Backbone, source: Sequence[int], decoding: Decoding) -> Sequence[int]:
        return latest(source or [self.end], backbone.max_length, decoding.max_length)


def join(source: Tensor, mask: Tensor, target: Tensor) -> Tensor:
    """Put each target (B, T), but for its last token, behind its source (B, S): (B, S + T - 1), padded on the right."""
    both = torch.cat((source, target[:, :-1].clamp(min=0)), dim=1)  # (B, S + T - 1)
    if source.size(1) == 1:  # no source is padded, as each has a token
        return both
    places = torch.arange(both.size(1), device=both.device)
    lengths = mask.sum(1, keepdim=True)  # (B, 1)
    padding = source.size(1) - lengths
    # what follows the source stands `padding` places further on, and what would be beyond the end is never scored
    moved = torch.where(places < lengths, places, (places + padding).clamp(max=both.size(1) - 1))
    return both.gather(1, moved)


def target_states(hidden: Tensor, mask: Tensor, length: int) -> Tensor:
    """Take from hidden (B, S + T - 1, D) the states that predict the T = `length` tokens of the target: (B, T, D)."""
    if mask.size(1) == 1:
        return hidden
    first = mask.sum(1, keepdim=True) - 1  # (B, 1) the last token of the source predicts the first of the target
    places = first + torch.arange(length, device=hidden.device)  # (B, T)
    return hidden.gather(1, places[..., None].expand(-1, -1, hidden.size(2)))


def latest(source: Sequence[int], readable: int | None, max_length: int) -> Sequence[int]:
    """Return the last tokens of a source that leave a backbone room for a text of `max_length` tokens.

    Of the `readable` tokens (None = any number) a source keeps at least half, however long the text may be.

    Example:
        >>> latest([5, 6, 7, 8, 9], readable=8, max_length=6)
        [6, 7, 8, 9]
    """
    if readable is None:
        return source
    kept = max(readable - max_length + 1, readable // 2, 1)  # the last token of a text need not be read
    return source[-kept:]
