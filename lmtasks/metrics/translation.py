"""BLEU, chrF and TER of a corpus, with the numbers of sacrebleu.

Papineni et al., "BLEU" (2002); Popović, "chrF" (2015, 2017); Snover et al., "A Study of Translation Edit Rate" (2006);
the scorer and its signature: Post, "A Call for Clarity in Reporting BLEU Scores" (2018). Each metric keeps nothing but
whole numbers that add up, so batches and ranks may be split in any way and the score is the same to the last bit.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cache

import sacrebleu
import torch
from torch import Tensor
from torchmetrics import Metric

from lmtasks.errors import InputError

TOKENIZERS = {
    "zh": "zh",
    "zho": "zh",
    "cmn": "zh",
    "yue": "zh",
    "ja": "ja-mecab",
    "jpn": "ja-mecab",
    "ko": "ko-mecab",
    "kor": "ko-mecab",
}
"""The sacrebleu tokeniser of languages that are not split at spaces like English: ISO 639 code -> name."""
ORDER = 4  # n-grams of BLEU where its order is not said


class _CorpusScore(Metric):
    """A score of sacrebleu that follows from sums over the rows."""

    is_differentiable = False
    full_state_update = False
    statistics: Tensor
    shape: Tensor

    def __init__(self, size: int, sync_on_compute: bool) -> None:
        super().__init__(sync_on_compute=sync_on_compute)
        self.add_state("statistics", torch.zeros(size, dtype=torch.int64), dist_reduce_fx="sum")
        # Sums over the rows of 1, n and n * n for n references: they tell whether every row has the same n.
        self.add_state("shape", torch.zeros(3, dtype=torch.int64), dist_reduce_fx="sum")

    @property
    def signature(self) -> str:
        """What sacrebleu prints beside the number, so that others can repeat it; `nrefs:0` before the first row."""
        scorer = self._scorer()
        return str(scorer._SIGNATURE_TYPE({**vars(scorer), "num_refs": self._references_per_row()}))

    def update(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        """Add rows: one hypothesis and one list of references each, as many references in every row.

        Raises:
            InputError: the lengths differ, or a row has no or more or fewer references than the others.
        """
        counts = _count_references(hypotheses, references)
        if not counts:
            return
        rows = self._row_statistics(list(hypotheses), list(zip(*references, strict=True)))
        self.statistics += torch.tensor(rows).sum(0).to(self.device)  # (rows, size) -> (size,)
        self.shape += torch.tensor([len(counts), sum(counts), sum(n * n for n in counts)], device=self.device)
        self._references_per_row()

    def compute(self) -> Tensor:
        """Return the score, 0 to 100 (TER may be more); 0 where there are no rows."""
        score = self._score(self.statistics.tolist(), self._references_per_row())
        return torch.tensor(score, device=self.device)

    @abstractmethod
    def _scorer(self) -> sacrebleu.metrics.base.Metric:
        """Return sacrebleu's scorer. It is made from settings alone: some tokenisers in it cannot be pickled."""

    def _row_statistics(self, hypotheses: list[str], references: list[tuple[str, ...]]) -> list[list[int]]:
        """Return the statistics of each row; `references` holds n lists as long as `hypotheses`."""
        # sacrebleu shows sums per sentence nowhere else; a test compares the outcome with its public functions.
        return self._scorer()._extract_corpus_statistics(hypotheses, references)

    def _score(self, sums: list[int], references_per_row: int) -> float:
        return self._scorer()._compute_score_from_stats(sums).score

    def _references_per_row(self) -> int:
        rows, total, squares = self.shape.tolist()
        if rows * squares != total * total:  # Cauchy and Schwarz: equal only if all rows have the same number
            raise InputError(
                f"{total} references for {rows} rows, not the same number in each row; give every row equally many"
            )
        return total // max(rows, 1)


class BLEU(_CorpusScore):
    """Measure how many word n-grams (n = 1 to `order`) of the hypotheses occur in the references.

    The tokeniser is `tokenize` (a name of sacrebleu's), or the one for the target language `language` (ISO 639 code):
    zh, ja-mecab, ko-mecab, and 13a for all others. `lowercase` ignores upper and lower case. `order` 2 is the BLEU-2
    of dialogue.

    Raises:
        InputError: an unknown tokeniser, or one whose package is missing.

    Source: Papineni et al. (2002); sacrebleu.

    >>> bleu = BLEU(language="en")
    >>> bleu.update(["The cat sits on the mat."], [["The cat sits on the mat."]])
    >>> round(bleu.compute().item())
    100
    >>> bleu.signature.split("|version")[0]
    'nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp'
    """

    higher_is_better = True

    def __init__(
        self,
        language: str = "en",
        lowercase: bool = False,
        tokenize: str | None = None,
        order: int = ORDER,
        sync_on_compute: bool = True,
    ) -> None:
        super().__init__(2 + 2 * order, sync_on_compute)  # two lengths, then matches and n-grams of each order
        code = language.lower().replace("_", "-").split("-")[0]
        self.tokenize = tokenize or TOKENIZERS.get(code, "13a")
        self.lowercase = lowercase
        self.order = order
        self._scorer()

    @property
    def signature(self) -> str:
        """What sacrebleu prints beside the number; another order than 4, which sacrebleu does not say, stands last."""
        return super().signature + (f"|order:{self.order}" if self.order != ORDER else "")

    def _scorer(self) -> sacrebleu.BLEU:
        return _bleu_scorer(self.tokenize, self.lowercase, self.order)


class CHRF(_CorpusScore):
    """Measure how many character n-grams (n = 1 to 6) hypotheses and references share, recall counting double.

    `word_order` 2 adds word n-grams up to that order: chrF++.

    Source: Popović (2015), (2017); sacrebleu.

    >>> chrf = CHRF()
    >>> chrf.update(["Le chat dort.", "Il pleut."], [["Le chat dort."], ["Il pleut."]])
    >>> round(chrf.compute().item())
    100
    """

    higher_is_better = True

    def __init__(self, word_order: int = 0, sync_on_compute: bool = True) -> None:
        super().__init__(
            3 * (sacrebleu.CHRF.CHAR_ORDER + word_order), sync_on_compute
        )  # n-grams here, there and in both
        self.word_order = word_order

    def _scorer(self) -> sacrebleu.CHRF:
        return sacrebleu.CHRF(word_order=self.word_order)


class TER(_CorpusScore):
    """Measure how many edits (insert, delete, replace, move words) lead to the nearest reference, in % of its words.

    Words stand between spaces, upper and lower case are the same. Lower is better; it may exceed 100.

    Source: Snover et al. (2006); sacrebleu.

    >>> ter = TER()
    >>> ter.update(["a quiet village"], [["a small quiet village"]])
    >>> ter.compute().item()
    25.0
    """

    higher_is_better = False

    def __init__(self, sync_on_compute: bool = True) -> None:
        super().__init__(2, sync_on_compute)  # edits, words of all references

    def _scorer(self) -> sacrebleu.TER:
        return sacrebleu.TER()

    def _row_statistics(self, hypotheses: list[str], references: list[tuple[str, ...]]) -> list[list[int]]:
        # sacrebleu gives the mean length of the references, whose sum would depend on the order of the rows.
        rows = super()._row_statistics(hypotheses, references)
        return [[edits, round(length * len(references))] for edits, length in rows]

    def _score(self, sums: list[int], references_per_row: int) -> float:
        edits, words = sums
        return self._scorer()._compute_score_from_stats([edits, words / max(references_per_row, 1)]).score


@cache  # a MeCab dictionary takes a while to open
def _bleu_scorer(tokenize: str, lowercase: bool, order: int) -> sacrebleu.BLEU:
    if tokenize not in sacrebleu.BLEU.TOKENIZERS:
        raise InputError(
            f"tokenize={tokenize!r}: no tokeniser of sacrebleu; choose {', '.join(sacrebleu.BLEU.TOKENIZERS)}"
        )
    try:
        return sacrebleu.BLEU(tokenize=tokenize, lowercase=lowercase, max_ngram_order=order)
    except RuntimeError as error:
        language = tokenize.removesuffix("-mecab")
        raise InputError(
            f"tokenize={tokenize!r} needs a package that is missing: pip install 'sacrebleu[{language}]'"
        ) from error


def _count_references(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> list[int]:
    if len(hypotheses) != len(references):
        raise InputError(
            f"{len(hypotheses)} hypotheses but {len(references)} rows of references; give one list for each"
        )
    for row, texts in enumerate(references, 1):
        if isinstance(texts, str) or not texts:
            raise InputError(f"references, row {row}: {texts!r}, expected a list of at least one text")
        if len(texts) != len(references[0]):
            raise InputError(
                f"references, row {row}: {len(texts)} texts, row 1 has {len(references[0])}; give each row equally many"
            )
    return [len(texts) for texts in references]
