"""ROUGE-1, ROUGE-2 and ROUGE-L of summaries, with the numbers of Google's package rouge-score, without stemming.

Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004), sections 2 and 3.1.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache

from lmtasks.metrics.languages import is_english, is_written_without_spaces, marks
from lmtasks.metrics.score import Score, check_references, percent

NAMES = ("rouge1", "rouge2", "rougeL")
ENGLISH = re.compile(r"[a-z0-9]+")


def rouge_tokens(text: str, language: str = "en") -> list[str]:
    """Return the tokens that ROUGE compares, lower-case and without punctuation.

    English: runs of a to z and 0 to 9, as in rouge-score. Languages without blanks between words, such as Chinese,
    Japanese and Thai: such runs, and every other character as a token. All other languages: runs of letters and digits
    of any alphabet. Marks belong to their letters, and composed ones equal decomposed ones.
    """
    if is_english(language):
        return ENGLISH.findall(text.lower())
    return _pattern(is_written_without_spaces(language)).findall(unicodedata.normalize("NFC", text.lower()))


def rouge_f1(prediction: str, references: Sequence[str], language: str = "en") -> tuple[float, float, float]:
    """Return the F1, 0 to 1, of ROUGE-1, ROUGE-2 and ROUGE-L, each the best over the references.

    Source: rouge-score, RougeScorer.score_multi.
    """
    given = rouge_tokens(prediction, language)
    rows = []
    for right in (rouge_tokens(reference, language) for reference in references):
        longest = _f1(_common_subsequence(given, right), len(given), len(right))
        rows.append((_n_gram_f1(given, right, 1), _n_gram_f1(given, right, 2), longest))
    one, two, longest = map(max, zip(*rows, strict=True))
    return one, two, longest


def rouge(predictions: Sequence[str], references: Sequence[Sequence[str]], language: str = "en") -> Score:
    """Score the words, pairs of words and sequences of words that summaries share with the references, as F1.

    The values `rouge1`, `rouge2` and `rougeL` are means over the rows, each the best over its references. Rows may have
    different numbers of references. `language` (ISO 639 code) decides what a word is, see `rouge_tokens`.

    Raises: InputError if the lengths differ, or a row has no list of at least one reference.

    Source: Lin (2004); rouge-score.

    >>> score = rouge(["a small village"], [["a small quiet village", "a hamlet"]])
    >>> {name: round(value, 1) for name, value in score.values.items()}
    {'rouge1': 85.7, 'rouge2': 40.0, 'rougeL': 85.7}
    """
    check_references(predictions, references)
    rows = [rouge_f1(text, row, language) for text, row in zip(predictions, references, strict=True)]
    tokens = "char" if is_written_without_spaces(language) else "a-z0-9" if is_english(language) else "word"
    return Score(
        {name: percent([row[place] for row in rows]) for place, name in enumerate(NAMES)},
        f"rows:{len(rows)}|value:f1|refs:best|stem:no|tok:{tokens}",
    )


@cache
def _pattern(by_character: bool) -> re.Pattern[str]:
    letter = rf"[^\W_][{marks()}]*"
    return re.compile(rf"[a-z0-9]+(?![{marks()}])|{letter}" if by_character else f"(?:{letter})+")


def _n_gram_f1(given: list[str], reference: list[str], n: int) -> float:
    # n copies, each one token later, side by side: the shortest one ends the n-grams
    ours, theirs = (Counter(zip(*(tokens[k:] for k in range(n)), strict=False)) for tokens in (given, reference))
    return _f1((ours & theirs).total(), ours.total(), theirs.total())


def _common_subsequence(one: list[str], other: list[str]) -> int:
    """Return the length of the longest common subsequence, whose tokens need not be adjacent.

    The columns of the usual table are the bits of one integer, so that a row of it costs one addition.
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
    return 2 * common / max(1, one + other)  # two empty texts have no word in common: 0
