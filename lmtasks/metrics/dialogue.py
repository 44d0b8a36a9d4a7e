"""Distinct-1 and distinct-2: how varied the answers of a dialogue model are.

Li et al., "A Diversity-Promoting Objective Function for Neural Conversation Models" (2016), section 5.2. How near the
answers come to references is `BLEU(order=2)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from itertools import pairwise

import sacrebleu
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lmtasks.metrics.translation import BLEU

STATES = ("words", "pairs")


class Distinct(Metric):
    """Count the different words, and pairs of words side by side in an answer, for each 100 words of all answers.

    Words are what BLEU takes for them in `language` (ISO 639 code), upper and lower case apart. More answers give lower
    numbers: compare only sets of one size. n-grams are kept as 64-bit hashes: the numbers are exact up to a collision.

    Source: Li et al. (2016), section 5.2.

    >>> distinct = Distinct()
    >>> distinct.update(["I do not know", "I do"])
    >>> {name: round(value.item()) for name, value in distinct.compute().items()}
    {'distinct1': 67, 'distinct2': 50}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    words: list[Tensor]
    pairs: list[Tensor]
    total: Tensor

    def __init__(self, language: str = "en", sync_on_compute: bool = True) -> None:
        super().__init__(sync_on_compute=sync_on_compute)
        self.tokenize = BLEU(language).tokenize
        for name in STATES:  # the hashes of those seen, each once in this process
            self.add_state(name, [], dist_reduce_fx="cat")
        self.add_state("total", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.reset()

    @property
    def signature(self) -> str:
        """How the scores came about, so that others can repeat them."""
        return f"words:{self.total.item()}|case:mixed|tok:{self.tokenize}|version:{sacrebleu.__version__}"

    def reset(self) -> None:
        """Forget all answers."""
        super().reset()
        for name in STATES:  # torchmetrics would send floats for a process that has none, others wait for whole numbers
            setattr(self, name, [torch.zeros(0, dtype=torch.int64, device=self.device)])

    def update(self, answers: Sequence[str]) -> None:
        """Add answers."""
        cut = sacrebleu.BLEU(tokenize=self.tokenize).tokenizer
        rows = [cut(answer).split() for answer in answers]
        self.words = self._joined(self.words, {_hash(word) for row in rows for word in row})
        # a token of these tokenisers has no space inside
        self.pairs = self._joined(self.pairs, {_hash(" ".join(pair)) for row in rows for pair in pairwise(row)})
        self.total += sum(map(len, rows))

    def compute(self) -> dict[str, Tensor]:
        """Return distinct1 and distinct2, 0 to 100: different words and pairs in % of all words."""
        different = (("distinct1", self.words), ("distinct2", self.pairs))
        return {name: 100 * len(dim_zero_cat(seen).unique()) / self.total.clamp(min=1) for name, seen in different}

    def _joined(self, seen: list[Tensor], new: set[int]) -> list[Tensor]:
        return [torch.cat([*seen, torch.tensor(list(new), dtype=torch.int64, device=self.device)]).unique()]


def _hash(text: str) -> int:
    """Return 64 bits that are the same in every process, unlike Python's own hash."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), signed=True)
