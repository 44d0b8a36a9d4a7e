"""Exact match and F1 of short answers, by the rules of the official scripts of SQuAD 1.1, SQuAD 2.0 and CMRC 2018.

Rajpurkar et al., "SQuAD: 100,000+ Questions" (2016), section 6.1, and "Know What You Don't Know" (2018); Cui et al.,
"A Span-Extraction Dataset for Chinese Machine Reading Comprehension" (2019), section 4.1.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor
from torchmetrics import Metric

from lmtasks.errors import InputError
from lmtasks.metrics.counts import UNIT, check_lengths, units
from lmtasks.metrics.languages import is_chinese

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)

# What the script of CMRC 2018 passes over. It lists the ellipsis as two characters, which never equal one: it stays.
CHINESE_PUNCTUATION = str.maketrans("", "", "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
# Each character of this range is a token; the rest is cut as NLTK cuts English: numbers whole, signs apart, the full
# stop apart too where it is the last before a Chinese character or the end.
CHINESE_TOKENS = re.compile(
    r"[\u4e00-\u9fa5]"
    r"|(?:[^\s\u4e00-\u9fa5;@#$%&?!()\[\]{}<>\"“”«»,.—–]|,(?=\d)"
    r"|\.(?!\.|[\])}>\"'»”’ ]*(?:\Z|[\u4e00-\u9fa5])))+"
    r"|\.{2,}|\S"
)


@dataclass(frozen=True)
class Threshold:
    """The scores from 0 to 100 that answers reach when those above a threshold are taken back."""

    exact_match: float
    """Best exact match."""
    exact_match_threshold: float
    """No-answer score above which the answer is '' for the best exact match."""
    f1: float
    """Best F1."""
    f1_threshold: float
    """No-answer score above which the answer is '' for the best F1."""


def is_answerable(references: Sequence[str], language: str = "en") -> bool:
    """Tell whether there is a right answer: not so for [], [''] and answers of articles and punctuation alone."""
    return _known(references, language) != [""]


def exact_match(prediction: str, references: Sequence[str], language: str = "en") -> float:
    """Return 1 where the answer equals a reference after normalisation, else 0; '' is right where none are known.

    Normalised are upper case, punctuation, and for all languages but Chinese articles and white space.

    Source: evaluate-v2.0.py of SQuAD; for Chinese the script of CMRC 2018.
    """
    return float(_normalise(prediction, language) in _known(references, language))


def answer_f1(prediction: str, references: Sequence[str], language: str = "en") -> float:
    """Return the best F1 over the references, 0 to 1: of the words in common, whatever their order.

    For Chinese it is the F1 of the longest run of tokens in common.

    Source: evaluate-v2.0.py of SQuAD; for Chinese the script of CMRC 2018.
    """
    known = _known(references, language)
    if known == [""]:
        return exact_match(prediction, references, language)
    common = _longest_run if is_chinese(language) else _common_words
    given = _tokens(_normalise(prediction, language), language)
    best = 0.0
    for reference in known:
        tokens = _tokens(reference, language)
        best = max(best, 2 * common(given, tokens) / max(1, len(given) + len(tokens)))
    return best


def best_threshold(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    no_answer_scores: Sequence[float],
    language: str = "en",
) -> Threshold:
    """Find above which no-answer score an answer is best replaced by ''.

    Rows of equal score are taken back together, as one threshold must; where it is best to answer nothing the
    threshold is 0, or lower if there are scores of 0 and less.

    Raises:
        InputError: The lengths differ, there are no rows, or a score is NaN.

    Source: evaluate-v2.0.py of SQuAD, find_best_thresh.
    """
    check_lengths(predictions, references)
    check_lengths(predictions, no_answer_scores)
    if not predictions or any(map(math.isnan, no_answer_scores)):
        raise InputError(f"{len(predictions)} rows, no-answer scores must be numbers: no threshold without them")
    empty = [not is_answerable(row, language) for row in references]
    best = []
    for score in (exact_match, answer_f1):
        answered = [score(text, row, language) for text, row in zip(predictions, references, strict=True)]
        gains = [right - blank for right, blank in zip(answered, empty, strict=True)]
        gain, threshold = _best_prefix(gains, no_answer_scores)
        best += [100 * (sum(empty) + gain) / len(empty), threshold]
    return Threshold(*best)


class SQuAD(Metric):
    """Measure exact match and F1 of answers, each the best over the references of its row.

    A row without references, or with [''], has no answer: there '' is right. `language` zh (also zh-TW, cmn) compares
    by the rules of CMRC 2018.

    Source: evaluate-v1.1.py and evaluate-v2.0.py of SQuAD; the script of CMRC 2018.

    >>> squad = SQuAD()
    >>> squad.update(["the Black Death", ""], [["Black Death", "plague"], []])
    >>> {name: round(value.item()) for name, value in squad.compute().items()}["f1"]
    100
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    counts: Tensor

    def __init__(self, language: str = "en", sync_on_compute: bool = True) -> None:
        super().__init__(sync_on_compute=sync_on_compute)
        self.language = language
        # without and with an answer, each: rows, exact matches, F1 in units of 2^-32
        self.add_state("counts", torch.zeros(2, 3, dtype=torch.int64), dist_reduce_fx="sum")

    @property
    def signature(self) -> str:
        """How the scores came about, so that others can repeat them."""
        rows = self.counts[:, 0].tolist()
        return (
            f"rows:{sum(rows)}|unanswerable:{rows[0]}|rules:{'cmrc2018' if is_chinese(self.language) else 'squad2.0'}"
        )

    def update(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        """Add rows: one answer each, '' for none, and the list of right answers.

        Raises:
            InputError: The lengths differ, or the right answers of a row are a text and no list.
        """
        check_lengths(predictions, references)
        for number, (prediction, row) in enumerate(zip(predictions, references, strict=True), 1):
            if isinstance(row, str):
                raise InputError(f"references, row {number}: {row!r}, expected a list of right answers, [] for none")
            right = exact_match(prediction, row, self.language)
            f1 = answer_f1(prediction, row, self.language)
            added = [1, int(right), units([f1])]
            self.counts[int(is_answerable(row, self.language))] += torch.tensor(added, device=self.device)

    def compute(self) -> dict[str, Tensor]:
        """Return exact_match and f1, 0 to 100.

        Where there are rows without an answer also has_answer_exact_match, has_answer_f1 (HasAns of the official
        script) and no_answer_exact_match (NoAns; its F1 is the same number).
        """
        scores = dict(zip(("exact_match", "f1"), _shares(self.counts.sum(0)), strict=True))
        if self.counts[0, 0]:
            answered = _shares(self.counts[1])
            scores |= {"has_answer_exact_match": answered[0], "has_answer_f1": answered[1]}
            scores["no_answer_exact_match"] = _shares(self.counts[0])[0]
        return scores


def _shares(counts: Tensor) -> list[Tensor]:
    rows, right, f1 = counts.tolist()
    return [torch.tensor(100 * value / max(1, rows), device=counts.device) for value in (right, f1 / UNIT)]


def _known(references: Sequence[str], language: str) -> list[str]:
    """Return the normalised references that have anything left, [''] if none has."""
    return [text for text in (_normalise(reference, language) for reference in references) if text] or [""]


def _normalise(text: str, language: str) -> str:
    if is_chinese(language):
        return text.lower().strip().translate(CHINESE_PUNCTUATION)
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def _tokens(normalised: str, language: str) -> list[str]:
    return CHINESE_TOKENS.findall(normalised) if is_chinese(language) else normalised.split()


def _common_words(one: list[str], other: list[str]) -> int:
    return (Counter(one) & Counter(other)).total()


def _longest_run(one: list[str], other: list[str]) -> int:
    """Return the length of the longest run of tokens that both have."""
    best, previous = 0, [0] * (len(other) + 1)
    for token in one:
        lengths = [0]  # of the run that ends at this token and each of the other's
        for column, candidate in enumerate(other):
            lengths.append(previous[column] + 1 if token == candidate else 0)
        best, previous = max(best, *lengths), lengths
    return best


def _best_prefix(gains: Sequence[float], scores: Sequence[float]) -> tuple[float, float]:
    """Return the largest sum of gains over the rows with the lowest scores, and the last of these scores."""
    order = sorted(range(len(scores)), key=scores.__getitem__)
    total, best = 0.0, 0.0
    threshold = min(0.0, math.nextafter(scores[order[0]], -math.inf))  # 0 as in the official script, or below all
    for score, rows in groupby(order, key=scores.__getitem__):
        total += sum(gains[row] for row in rows)
        if total > best:
            best, threshold = total, float(score)
    return best, threshold
