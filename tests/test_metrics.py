"""BLEU, chrF and TER against sacrebleu's public functions."""

import math
import random
from functools import partial

import pytest
import sacrebleu

from lmtasks.errors import InputError
from lmtasks.metrics import BLEU, TER, Score, bleu, chrf, ter, translation

METRICS = {
    "bleu": bleu,
    "bleu lowercase": partial(bleu, lowercase=True),
    "bleu zh": partial(bleu, language="zh"),
    "bleu char": partial(bleu, tokenize="char"),
    "chrf": chrf,
    "chrf++": partial(chrf, word_order=2),
    "ter": ter,
}
every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
WORDS = ["the", "The", "cat", "sat", "on", "a", "mat", ",", "dog.", "猫在", "垫子上。", "Äpfel"]


def corpus(rows: int, references: int, seed: int = 0) -> tuple[list[str], list[list[str]]]:
    """Return hypotheses and their references: the same words, some of them changed."""
    draw = random.Random(seed)
    truth = [[draw.choice(WORDS) for _ in range(draw.randint(3, 12))] for _ in range(rows)]
    noisy = lambda words: " ".join(draw.choice(WORDS) if draw.random() < 0.2 else word for word in words)  # noqa: E731
    return [noisy(words) for words in truth], [[noisy(words) for _ in range(references)] for words in truth]


def value(score: Score) -> float:
    (number,) = score.values.values()
    return number


@pytest.mark.parametrize("references", [1, 3])
@pytest.mark.parametrize(
    ("metric", "reference"),
    [
        ("bleu", sacrebleu.corpus_bleu),
        ("bleu lowercase", lambda h, r: sacrebleu.corpus_bleu(h, r, lowercase=True)),
        ("bleu zh", lambda h, r: sacrebleu.corpus_bleu(h, r, tokenize="zh")),
        ("bleu char", lambda h, r: sacrebleu.corpus_bleu(h, r, tokenize="char")),
        ("chrf", sacrebleu.corpus_chrf),
        ("chrf++", lambda h, r: sacrebleu.corpus_chrf(h, r, word_order=2)),
        ("ter", sacrebleu.corpus_ter),
    ],
)
def test_the_score_is_that_of_sacrebleu(metric, reference, references):
    hypotheses, rows = corpus(40, references)
    expected = reference(hypotheses, list(zip(*rows, strict=True))).score
    assert 5 < expected < 100
    assert value(METRICS[metric](hypotheses, rows)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("bleu", sacrebleu.BLEU()), ("chrf++", sacrebleu.CHRF(word_order=2)), ("ter", sacrebleu.TER())],
)
def test_the_signature_is_that_of_sacrebleu(ours, theirs):
    hypotheses, rows = corpus(5, 2)
    theirs.corpus_score(hypotheses, list(zip(*rows, strict=True)))
    assert METRICS[ours](hypotheses, rows).signature == str(theirs.get_signature())


@every_metric
def test_no_rows_score_zero(metric):
    score = metric([], [])
    assert value(score) == 0
    assert "nrefs:0" in score.signature


@every_metric
def test_empty_texts_are_scored(metric):
    assert math.isfinite(value(metric(["", "a"], [["a"], [""]])))


@pytest.mark.parametrize(
    ("language", "tokeniser"),
    [("en", "13a"), ("fr", "13a"), ("zh", "zh"), ("zh-CN", "zh"), ("cmn", "zh"), ("yue", "zh"), ("ZH_tw", "zh")],
)
def test_the_language_chooses_the_tokeniser(language, tokeniser):
    assert f"|tok:{tokeniser}|" in bleu([], [], language).signature


@pytest.mark.parametrize("language", ["ja", "ko"])
def test_japanese_and_korean_are_cut_by_mecab_or_say_what_to_install(language):
    try:
        assert value(bleu(["猫 고양이"], [["猫 고양이"]], language)) > 0
    except InputError as error:
        assert f"pip install 'sacrebleu[{language}]'" in str(error)  # noqa: PT017


@pytest.mark.parametrize("language", ["ja", "ko"])
def test_a_missing_mecab_is_one_clear_line(language, monkeypatch):
    module = pytest.importorskip(f"sacrebleu.tokenizers.tokenizer_{language}_mecab")
    monkeypatch.setattr(module, "MeCab", None)
    translation._bleu_scorer.cache_clear()
    with pytest.raises(InputError, match=rf"pip install 'sacrebleu\[{language}\]'"):
        bleu([], [], language)


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        (["a", "b"], [["a"]], "2 hypotheses but 1 rows"),
        (["a"], ["a"], "row 1: 'a', expected a list"),
        (["a"], [[]], r"row 1: \[\], expected a list"),
    ],
)
def test_wrong_rows_are_named(hypotheses, references, message):
    for refusing in (bleu, BLEU().update):
        with pytest.raises(InputError, match=message):
            refusing(hypotheses, references)


def test_rows_may_have_different_numbers_of_references():
    hypotheses = ["a b c d e", "f g h i k", "x"]
    references = [["a b c d e"], ["f g x x x", "f g h i j"], ["y", "z", "x"]]
    score = bleu(hypotheses, references)
    streams = [["a b c d e", "f g x x x", "y"], [None, "f g h i j", "z"], [None, None, "x"]]
    assert score.values["bleu"] == sacrebleu.corpus_bleu(hypotheses, streams).score
    assert "nrefs:var" in score.signature
    assert ter(["a", "b"], [["a"], ["c", "b"]]).values["ter"] == 0
    metric, other = TER(), TER()
    metric.update(["a"], [["a"]])
    metric.update(["a"], [["a", "b"]])
    other.update(["a"] * 2, [["a", "b", "c"]] * 2)
    metric.merge_state(other)
    assert metric.compute() == 0


def test_an_unknown_tokeniser_is_named_with_the_choices():
    for refusing in (BLEU, partial(bleu, [], [])):
        with pytest.raises(InputError, match=r"'14a'.*13a"):
            refusing(tokenize="14a")
