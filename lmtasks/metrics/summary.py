"""ROUGE-1, ROUGE-2 and ROUGE-L of summaries, with the numbers of Google's package rouge-score, without stemming.

Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004), sections 2 and 3.1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from lmtasks.errors import InputError
from lmtasks.metrics.counts import UNIT, check_lengths, units
from lmtasks.metrics.languages import is_english, is_written_without_spaces

NAMES = ("rouge1", "rouge2", "rougeL")
ENGLISH = re.compile(r"[a-z0-9]+")
CHARACTERS = re.compile(r"[a-z0-9]+|[^\W_]")
WORDS = re.compile(r"[^\W_]+")


def rouge_tokens(text: str, language: str = "en") -> list[str]:
    """Return the tokens that ROUGE compares, lower-case and without punctuation.

    English: runs of a to z and 0 to 9, as in rouge-score. Chinese and Japanese: each character, but runs of a to z and
    0 to 9 whole. All other languages: runs of letters and digits of any alphabet.
    """
    pattern = CHARACTERS if is_written_without_spaces(language) else ENGLISH if is_english(language) else WORDS
    return pattern.findall(text.lower())


def rouge(prediction: str, references: Sequence[str], language: str = "en") -> tuple[float, float, float]:
    """Return the F1, 0 to 1, of ROUGE-1, ROUGE-2 and ROUGE-L, each the best over the references.

    Source: rouge-score, RougeScorer.score_multi.
    """
    given = rouge_tokens(prediction, language)
    rows = [_compare(given, rouge_tokens(reference, language)) for reference in references]
    return max(row[0] for row in rows), max(row[1] for row in rows), max(row[2] for row in rows)


class ROUGE(Metric):
    """Measure which words, pairs of words and sequences of words summaries share with the references, as F1.

    `language` (ISO 639 code) says what a word is, see `rouge_tokens`.

    Source: Lin (2004); rouge-score.

    >>> rouge = ROUGE()
    >>> rouge.update(["a small village"], [["a small quiet village", "a hamlet"]])
    >>> {name: round(value.item(), 1) for name, value in rouge.compute().items()}
    {'rouge1': 85.7, 'rouge2': 40.0, 'rougeL': 85.7}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    sums: Tensor
    rows: Tensor

    def __init__(self, language: str = "en", sync_on_compute: bool = True) -> None:
        super().__init__(sync_on_compute=sync_on_compute)
        self.language = language
        self.add_state("sums", torch.zeros(3, dtype=torch.int64), dist_reduce_fx="sum")  # in units of 2^-32
        self.add_state("rows", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    @property
    def signature(self) -> str:
        """How the scores came about, so that others can repeat them."""
        tokens = (
            "char" if is_written_without_spaces(self.language) else "a-z0-9" if is_english(self.language) else "word"
        )
        return f"rows:{self.rows.item()}|value:f1|refs:best|stem:no|tok:{tokens}"

    def update(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        """Add rows: one summary and one list of references each; not every row needs as many.

        Raises:
            InputError: The lengths differ, or a row has no list of at least one reference.
        """
        check_lengths(predictions, references)
        for number, row in enumerate(references, 1):
            if isinstance(row, str) or not row:
                raise InputError(f"references, row {number}: {row!r}, expected a list of at least one text")
        scores = [rouge(text, row, self.language) for text, row in zip(predictions, references, strict=True)]
        if scores:
            self.sums += torch.tensor([units(column) for column in zip(*scores, strict=True)], device=self.device)
            self.rows += len(scores)

    def compute(self) -> dict[str, Tensor]:
        """Return the means over the rows, rouge1, rouge2 and rougeL, 0 to 100."""
        means = [100 * total / UNIT / max(1, self.rows.item()) for total in self.sums.tolist()]
        return {name: torch.tensor(mean, device=self.device) for name, mean in zip(NAMES, means, strict=True)}


def _compare(given: list[str], reference: list[str]) -> tuple[float, float, float]:
    one, two = _n_gram_f1(given, reference, 1), _n_gram_f1(given, reference, 2)
    return one, two, _f1(_common_subsequence(given, reference), len(given), len(reference))


def _n_gram_f1(given: list[str], reference: list[str], n: int) -> float:
    ours, theirs = (Counter(zip(*(tokens[k:] for k in range(n)), strict=False)) for tokens in (given, reference))
    return _f1((ours & theirs).total(), ours.total(), theirs.total())


def _common_subsequence(one: list[str], other: list[str]) -> int:
    """Return the length of the longest common subsequence, whose tokens need not stand side by side.

    The columns of the usual table are the bits of one whole number: a row of it costs one addition.
    Source: Hyyrö, "Bit-parallel LCS-length computation revisited" (2004).
    """
    places: dict[str, int] = {}
    for place, token in enumerate(one):
        places[token] = places.get(token, 0) | 1 << place
    everywhere = row = (1 << len(one)) - 1
    for token in other:
        matches = row & places.get(token, 0)
        row = ((row + matches) | (row - matches)) & everywhere
    return len(one) - row.bit_count()


def _f1(common: int, one: int, other: int) -> float:
    return 2 * common / max(1, one + other)
