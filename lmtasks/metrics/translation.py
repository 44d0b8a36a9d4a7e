"""BLEU, chrF and TER of a corpus, computed by sacrebleu.

Papineni et al., "BLEU" (2002); Popović, "chrF" (2015, 2017); Snover et al., "A Study of Translation Edit Rate" (2006);
the scorer and its signature: Post, "A Call for Clarity in Reporting BLEU Scores" (2018).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import zip_longest

import sacrebleu

from lmtasks.errors import InputError
from lmtasks.metrics.languages import BY_CHARACTER, CHINESE, is_written_without_spaces, primary_code
from lmtasks.metrics.score import Score, check_references

TOKENIZERS = {**dict.fromkeys(BY_CHARACTER, "char"), **dict.fromkeys(CHINESE, "zh")}
TOKENIZERS |= dict.fromkeys(("ja", "jpn"), "ja-mecab")
TOKENIZERS |= dict.fromkeys(("ko", "kor"), "ko-mecab")
"""ISO 639 code -> the sacrebleu tokeniser of languages that cannot be split like English."""
ORDER = 4  # the longest n-grams of BLEU as published


def bleu(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    language: str = "en",
    lowercase: bool = False,
    tokenize: str | None = None,
    order: int = ORDER,
) -> Score:
    """Score how many word n-grams (n = 1 to `order`) of the hypotheses occur in the references, as `bleu`.

    Args:
        hypotheses: A text for each row.
        references: A list of texts for each row; rows may have different numbers of them.
        language: ISO 639 code of the texts; zh, ja and ko have their own tokenisers, Thai, Lao, Khmer and Burmese are
            compared by characters.
        lowercase: Ignore the case of letters.
        tokenize: A tokeniser of sacrebleu instead of that of the language.
        order: The longest n-grams; 2 gives the BLEU-2 of dialogue.

    Raises: InputError if `check_translations` does, the tokeniser is unknown, or its package is missing.

    Source: Papineni et al. (2002); sacrebleu.

    >>> score = bleu(["The cat sits on the mat."], [["The cat sits on the mat."]])
    >>> round(score.values["bleu"]), score.signature.split("|version")[0]
    (100, 'nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp')
    """
    # sacrebleu's own signature does not distinguish BLEU-2 from BLEU-4
    scorer = _bleu_scorer(tokenize or bleu_tokenizer(language), lowercase, order)
    value, signature = _corpus_score(scorer, hypotheses, references)
    return Score({"bleu": value}, signature + (f"|order:{order}" if order != ORDER else ""))


def chrf(hypotheses: Sequence[str], references: Sequence[Sequence[str]], word_order: int = 0) -> Score:
    """Score how many character n-grams (n = 1 to 6) hypotheses and references share, recall counting double, as `chrf`.

    `word_order` 2 adds word n-grams up to that order: chrF++. Rows and errors are those of `bleu`.

    Source: Popović (2015), (2017); sacrebleu.

    >>> round(chrf(["Le chat dort.", "Il pleut."], [["Le chat dort."], ["Il pleut."]]).values["chrf"])
    100
    """
    value, signature = _corpus_score(sacrebleu.CHRF(word_order=word_order), hypotheses, references)
    return Score({"chrf": value}, signature)


def ter(hypotheses: Sequence[str], references: Sequence[Sequence[str]], language: str = "en") -> Score:
    """Score how many edits (insert, delete, replace, move words) lead to the nearest reference, in % of its words.

    Words are split at spaces, in languages without spaces between words at every character; case is ignored. Lower is
    better, and `ter` may exceed 100. Rows and errors are those of `bleu`.

    Source: Snover et al. (2006); sacrebleu.

    >>> ter(["a quiet village"], [["a small quiet village"]]).values
    {'ter': 25.0}
    """
    characters = is_written_without_spaces(language)
    if characters:
        hypotheses = [" ".join(text) for text in hypotheses]
        references = [row if isinstance(row, str) else [" ".join(text) for text in row] for row in references]
    value, signature = _corpus_score(sacrebleu.TER(), hypotheses, references)
    return Score({"ter": value}, signature + "|split:char" * characters)


def bleu_tokenizer(language: str) -> str:
    """Return the name of sacrebleu's tokeniser for a language: zh, ja-mecab, ko-mecab, char, and 13a for most."""
    return TOKENIZERS.get(primary_code(language), "13a")


def bleu_splitter(language: str) -> Callable[[str], str]:
    """Return the function that puts spaces between the words that BLEU compares."""
    return _bleu_scorer(bleu_tokenizer(language), False, ORDER).tokenizer


def check_translations(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """Check that there is a list of references for each hypothesis.

    Raises: InputError if the lengths differ, or a row has no list of at least one reference.
    """
    rows = len(references)
    if len(hypotheses) != rows:
        raise InputError(f"{len(hypotheses)} hypotheses but {rows} rows of references; give one list for each")
    check_references(hypotheses, references)


@cache  # a MeCab dictionary takes a while to open
def _bleu_scorer(tokenize: str, lowercase: bool, order: int) -> sacrebleu.BLEU:
    if tokenize not in sacrebleu.BLEU.TOKENIZERS:
        choices = ", ".join(sacrebleu.BLEU.TOKENIZERS)
        raise InputError(f"tokenize={tokenize!r}: no tokeniser of sacrebleu; choose {choices}")
    try:
        return sacrebleu.BLEU(tokenize=tokenize, lowercase=lowercase, max_ngram_order=order)
    except RuntimeError as error:
        package = f"sacrebleu[{tokenize.removesuffix('-mecab')}]"
        raise InputError(f"tokenize={tokenize!r} needs a package that is missing: pip install '{package}'") from error


def _corpus_score(
    scorer: sacrebleu.metrics.base.Metric, hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[float, str]:
    """Return sacrebleu's number and signature, 0 if there are no rows."""
    check_translations(hypotheses, references)
    if not hypotheses:
        scorer.num_refs = 0  # part of the signature; sacrebleu sets it when it scores, and it cannot score no rows
        return 0.0, str(scorer.get_signature())
    # sacrebleu takes a list of the first references of all rows, then one of the second ones, with None for no more
    score = scorer.corpus_score(list(hypotheses), list(zip_longest(*references))).score  # type: ignore[arg-type]
    return score, str(scorer.get_signature())
