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

from lmtasks.errors import InputError
from lmtasks.metrics.languages import is_chinese
from lmtasks.metrics.score import Score, check_lengths, check_references, percent

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


def squad(answers: Sequence[str], references: Sequence[Sequence[str]], language: str = "en") -> Score:
    """Score answers by `exact_match` and `f1`, each the best over the right answers of its row.

    An answer is a text, '' for none. A row without right answers, or with [''], has no answer: there '' is right. Where
    there are such rows, the values `has_answer_exact_match`, `has_answer_f1` (HasAns of the official script) and
    `no_answer_exact_match` (NoAns; its F1 is the same number) count the two kinds apart. `language` zh (also zh-TW,
    cmn) compares by the rules of CMRC 2018.

    Raises:
        InputError: The lengths differ, or the right answers of a row are a text and no list.

    Source: evaluate-v1.1.py and evaluate-v2.0.py of SQuAD; the script of CMRC 2018.

    >>> round(squad(["the Black Death", ""], [["Black Death", "plague"], []]).values["f1"])
    100
    """
    check_references(answers, references, least=0)
    rows: dict[bool, list[tuple[float, float]]] = {True: [], False: []}  # answerable -> exact match and F1 of each row
    for answer, right in zip(answers, references, strict=True):
        scores = exact_match(answer, right, language), answer_f1(answer, right, language)
        rows[is_answerable(right, language)].append(scores)
    values = _means("", rows[True] + rows[False])
    if rows[False]:
        values |= _means("has_answer_", rows[True])
        values["no_answer_exact_match"] = percent([exact for exact, _ in rows[False]])
    rules = "cmrc2018" if is_chinese(language) else "squad2.0"
    return Score(values, f"rows:{len(answers)}|unanswerable:{len(rows[False])}|rules:{rules}")


def _means(prefix: str, rows: Sequence[tuple[float, float]]) -> dict[str, float]:
    names = (f"{prefix}exact_match", f"{prefix}f1")
    return {name: percent([row[place] for row in rows]) for place, name in enumerate(names)}


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
