"""Distinct-1 and distinct-2: how varied the answers of a dialogue model are.

Li et al., "A Diversity-Promoting Objective Function for Neural Conversation Models" (2016), section 5.2. How near the
answers come to references is `bleu(order=2)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import sacrebleu

from lmtasks.metrics.score import Score
from lmtasks.metrics.translation import bleu_splitter, bleu_tokenizer


def distinct(answers: Sequence[str], language: str = "en") -> Score:
    """Count the different words, and pairs of words side by side in an answer, for each 100 words of all answers.

    The values are `distinct1` and `distinct2`. Words are what BLEU takes for them in `language` (ISO 639 code), upper
    and lower case apart. More answers give lower numbers: compare only sets of one size.

    Source: Li et al. (2016), section 5.2.

    >>> {name: round(value) for name, value in distinct(["I do not know", "I do"]).values.items()}
    {'distinct1': 67, 'distinct2': 50}
    """
    split = bleu_splitter(language)
    rows = [split(answer).split() for answer in answers]
    # upper and lower case apart, as BLEU compares them; a pair never spans two answers
    different = {word for row in rows for word in row}, {pair for row in rows for pair in pairwise(row)}
    total = sum(map(len, rows))
    shares = [100 * len(seen) / max(1, total) for seen in different]
    return Score(
        dict(zip(("distinct1", "distinct2"), shares, strict=True)),
        f"words:{total}|case:mixed|tok:{bleu_tokenizer(language)}|version:{sacrebleu.__version__}",
    )
