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
from lmtasks.metrics.languages import is_chinese, is_written_without_spaces
from lmtasks.metrics.score import Score, check_lengths, check_references, percent

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)

# What the script of CMRC 2018 ignores. It lists the ellipsis as two characters, which never equal one: it stays.
CHINESE_PUNCTUATION = str.maketrans("", "", "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
# Each character of this range is a token; the rest is split as NLTK splits English: numbers stay whole, signs are
# tokens, and so is a full stop before a Chinese character or at the end.
CHINESE_TOKENS = re.compile(
    r"[\u4e00-\u9fa5]"
    r"|(?:[^\s\u4e00-\u9fa5;@#$%&?!()\[\]{}<>\"“”«»,.—–]|,(?=\d)"
    r"|\.(?!\.|[\])}>\"'»”’ ]*(?:\Z|[\u4e00-\u9fa5])))+"
    r"|\.{2,}|\S"
)


@dataclass(frozen=True)
class Threshold:
    """The best scores, 0 to 100, if answers with a no-answer score above a threshold are replaced by ''."""

    exact_match: float
    """Best exact match."""
    exact_match_threshold: float
    """The threshold that gives the best exact match."""
    f1: float
    """Best F1."""
    f1_threshold: float
    """The threshold that gives the best F1."""


def is_answerable(references: Sequence[str], language: str = "en") -> bool:
    """Tell whether there is a right answer; there is none in [], [''] and answers of only articles and punctuation."""
    return _known(references, language) != [""]


def exact_match(prediction: str, references: Sequence[str], language: str = "en") -> float:
    """Return 1 if the answer equals a reference, else 0; '' is right if there is no reference.

    Case and punctuation are ignored, and for all languages but Chinese articles and white space, too.

    Source: evaluate-v2.0.py of SQuAD; for Chinese the script of CMRC 2018.
    """
    return float(_normalise(prediction, language) in _known(references, language))


def answer_f1(prediction: str, references: Sequence[str], language: str = "en") -> float:
    """Return the best F1 over the references, 0 to 1, of the words in common, in any order.

    For Chinese it is the F1 of the longest run of tokens in common. In other languages without blanks between words,
    such as Japanese and Thai, every character is a word.

    Source: evaluate-v2.0.py of SQuAD; for Chinese the script of CMRC 2018.
    """
    known = _known(references, language)
    if known == [""]:
        return exact_match(prediction, references, language)
    chinese, characters = is_chinese(language), is_written_without_spaces(language)
    cut = CHINESE_TOKENS.findall if chinese else _characters if characters else str.split
    given = cut(_normalise(prediction, language))
    best = 0.0
    for tokens in map(cut, known):
        common = _longest_run(given, tokens) if chinese else (Counter(given) & Counter(tokens)).total()
        best = max(best, 2 * common / max(1, len(given) + len(tokens)))
    return best


def best_threshold(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    no_answer_scores: Sequence[float],
    language: str = "en",
) -> Threshold:
    """Find the no-answer score above which it is best to replace an answer by ''.

    Rows of equal score are on the same side of a threshold. If it is best to answer nothing, the threshold is 0, or
    less if there are scores of 0 or less.

    Raises: InputError if the lengths differ, there are no rows, or a score is NaN.

    Source: evaluate-v2.0.py of SQuAD, find_best_thresh.
    """
    check_lengths(predictions, references)
    check_lengths(predictions, no_answer_scores)
    if not predictions or any(map(math.isnan, no_answer_scores)):
        raise InputError(f"{len(predictions)} rows: a threshold needs at least one, and numbers as no-answer scores")
    empty = [not is_answerable(row, language) for row in references]
    order = sorted(range(len(empty)), key=no_answer_scores.__getitem__)
    found = []
    for score in (exact_match, answer_f1):
        answered = [score(text, row, language) for text, row in zip(predictions, references, strict=True)]
        total = best = 0.0  # what the answers of the rows with the lowest scores gain over ''
        # 0 as in the official script, or below all scores: then no row is answered
        threshold = min(0.0, math.nextafter(no_answer_scores[order[0]], -math.inf))
        for limit, rows in groupby(order, key=no_answer_scores.__getitem__):
            total += sum(answered[row] - empty[row] for row in rows)
            if total > best:
                best, threshold = total, float(limit)
        found += [100 * (sum(empty) + best) / len(empty), threshold]
    return Threshold(*found)


def squad(answers: Sequence[str], references: Sequence[Sequence[str]], language: str = "en") -> Score:
    """Score answers by `exact_match` and `f1`, each the best over the right answers of its row.

    An answer is a text, '' for none. A row without right answers, or with [''], has no answer: there '' is right. If
    there are such rows, the values `has_answer_exact_match`, `has_answer_f1` (HasAns of the official script) and
    `no_answer_exact_match` (NoAns; its F1 is the same number) score the two kinds separately. `language` zh (also
    zh-TW, cmn) follows the rules of CMRC 2018.

    Raises: InputError if the lengths differ, or the right answers of a row are a text instead of a list.

    Source: evaluate-v1.1.py and evaluate-v2.0.py of SQuAD; the script of CMRC 2018.

    >>> round(squad(["the Black Death", ""], [["Black Death", "plague"], []]).values["f1"])
    100
    """
    check_references(answers, references, least=0)
    rows: dict[bool, list[tuple[float, float]]] = {True: [], False: []}  # answerable -> exact match and F1 of each row
    for answer, right in zip(answers, references, strict=True):
        scores = exact_match(answer, right, language), answer_f1(answer, right, language)
        rows[is_answerable(right, language)].append(scores)
    values = {}
    for prefix, several in (("", rows[True] + rows[False]), ("has_answer_", rows[True])):
        if rows[False] or not prefix:
            values[f"{prefix}exact_match"] = percent([exact for exact, _ in several])
            values[f"{prefix}f1"] = percent([f1 for _, f1 in several])
    if rows[False]:
        values["no_answer_exact_match"] = percent([exact for exact, _ in rows[False]])
    rules = "cmrc2018" if is_chinese(language) else "squad2.0"
    rules += ",words:char" * (is_written_without_spaces(language) and not is_chinese(language))
    return Score(values, f"rows:{len(answers)}|unanswerable:{len(rows[False])}|rules:{rules}")


def _known(references: Sequence[str], language: str) -> list[str]:
    """Return the normalised references that are not empty, [''] if all are."""
    return [text for text in (_normalise(reference, language) for reference in references) if text] or [""]


def _normalise(text: str, language: str) -> str:
    if is_chinese(language):
        return text.lower().strip().translate(CHINESE_PUNCTUATION)
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def _characters(text: str) -> list[str]:
    return [character for character in text if not character.isspace()]


def _longest_run(one: list[str], other: list[str]) -> int:
    """Return the length of the longest run of tokens that both have."""
    best, previous = 0, [0] * (len(other) + 1)
    for token in one:
        lengths = [0]  # of the run that ends at this token and each of the other's
        for column, candidate in enumerate(other):
            lengths.append(previous[column] + 1 if token == candidate else 0)
        best, previous = max(best, *lengths), lengths
    return best
