"""Distinct-1 and distinct-2: how varied the answers of a dialogue model are.

Li et al., "A Diversity-Promoting Objective Function for Neural Conversation Models" (2016), section 5.2. The similarity
of the answers to references is `bleu(order=2)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import sacrebleu

from lmtasks.metrics.score import Score
from lmtasks.metrics.translation import bleu_splitter, bleu_tokenizer


def distinct(answers: Sequence[str], language: str = "en") -> Score:
    """Count the different words, and pairs of adjacent words of an answer, per 100 words of all answers.

    The values are `distinct1` and `distinct2`. Words are those of BLEU in `language` (ISO 639 code); upper and lower
    case differ. More answers give lower numbers: compare only sets of one size.

    Source: Li et al. (2016), section 5.2.

    >>> {name: round(value) for name, value in distinct(["I do not know", "I do"]).values.items()}
    {'distinct1': 67, 'distinct2': 50}
    """
    split = bleu_splitter(language)
    rows = [split(answer).split() for answer in answers]
    total = sum(map(len, rows))
    words = {word for row in rows for word in row}
    pairs = {pair for row in rows for pair in pairwise(row)}  # a pair never spans two answers
    signature = f"words:{total}|case:mixed|tok:{bleu_tokenizer(language)}|version:{sacrebleu.__version__}"
    shares = {name: 100 * len(seen) / max(1, total) for name, seen in (("distinct1", words), ("distinct2", pairs))}
    return Score(shares, signature)
