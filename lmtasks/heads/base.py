"""The contract of a head: the loss, and the few parameters, of one kind of task.

A head is given the backbone as an argument and never keeps it, so that the parameters of the backbone stand once in the
state_dict. Heads are plain PyTorch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from lmtasks.backbones.base import Backbone
from lmtasks.backbones.loss import Loss
from lmtasks.batch import Batch
from lmtasks.decoding import Decoding, Hypothesis
from lmtasks.errors import InputError

Texts = list[list[Hypothesis]]
"""The texts found for each row, best first."""


class Head(nn.Module, ABC):
    """Turn the states of a backbone into a loss and into answers.

    A head keeps no state between calls, so that several threads may predict with it.
    """

    @abstractmethod
    def loss(self, backbone: Backbone, batch: Batch) -> Loss:
        """Return the summed loss of the targets of a batch."""

    @abstractmethod
    def predict(self, backbone: Backbone, batch: Batch, decoding: Decoding, prefix: Sequence[int] = ()) -> list[Any]:
        """Return what is found for each row, as plain Python that the task turns into answers.

        A head that writes text follows `decoding` and begins each text with the prefix of its example and `prefix`;
        the others ignore both.
        """

    def stream(
        self, backbone: Backbone, source: Sequence[int], decoding: Decoding, prefix: Sequence[int] = ()
    ) -> Iterator[int]:
        """Iterate over the tokens of the text for one source, each as soon as it is chosen, without prefix and end.

        Raises: InputError with a beam, which knows its text only at the end, or with several hypotheses.
        """
        raise NotImplementedError(f"{type(self).__name__} writes no text")

    def alignment(self, backbone: Backbone, batch: Batch) -> Tensor:
        """Return how much each token of batch.target (B, T) reads of each of batch.source (B, S): (B, T, S).

        Raises: InputError if the head does not read a source and write a target.
        """
        raise InputError(f"a {type(self).__name__} has no alignment to show: it does not write a text for a text")

    def begin_with(self, token: int) -> None:
        """Begin every text of the decoder with `token`, which names the task where a decoder has several.

        A head without a start token ignores it.
        """
