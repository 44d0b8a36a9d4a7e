"""The metrics against sacrebleu's public functions, and against themselves under every way of splitting the rows."""

import copy
import math
import pickle
import random

import pytest
import sacrebleu
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmtasks.errors import InputError
from lmtasks.metrics import BLEU, CHRF, TER, translation

MAKERS = [BLEU, lambda: BLEU(lowercase=True), lambda: BLEU("zh"), CHRF, lambda: CHRF(word_order=2), TER]
WORDS = ["the", "The", "cat", "sat", "on", "a", "mat", ",", "dog.", "猫在", "垫子上。", "Äpfel"]


def corpus(rows: int, references: int, seed: int = 0) -> tuple[list[str], list[list[str]]]:
    """Return hypotheses and their references: the same words, some of them changed."""
    draw = random.Random(seed)
    truth = [[draw.choice(WORDS) for _ in range(draw.randint(3, 12))] for _ in range(rows)]
    noisy = lambda words: " ".join(draw.choice(WORDS) if draw.random() < 0.2 else word for word in words)  # noqa: E731
    return [noisy(words) for words in truth], [[noisy(words) for _ in range(references)] for words in truth]


def score(metric, hypotheses, references) -> torch.Tensor:
    metric.update(hypotheses, references)
    return metric.compute()


@pytest.mark.parametrize("references", [1, 3])
@pytest.mark.parametrize(
    ("metric", "reference"),
    [
        (BLEU(), sacrebleu.corpus_bleu),
        (BLEU(lowercase=True), lambda h, r: sacrebleu.corpus_bleu(h, r, lowercase=True)),
        (BLEU(language="zh"), lambda h, r: sacrebleu.corpus_bleu(h, r, tokenize="zh")),
        (BLEU(tokenize="char"), lambda h, r: sacrebleu.corpus_bleu(h, r, tokenize="char")),
        (CHRF(), sacrebleu.corpus_chrf),
        (CHRF(word_order=2), lambda h, r: sacrebleu.corpus_chrf(h, r, word_order=2)),
        (TER(), sacrebleu.corpus_ter),
    ],
)
def test_the_score_is_that_of_sacrebleu(metric, reference, references):
    metric = copy.deepcopy(metric)
    hypotheses, rows = corpus(40, references)
    expected = reference(hypotheses, list(zip(*rows, strict=True))).score
    assert 5 < expected < 100
    assert score(metric, hypotheses, rows).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(BLEU(), sacrebleu.BLEU()), (CHRF(2), sacrebleu.CHRF(word_order=2)), (TER(), sacrebleu.TER())]
)
def test_the_signature_is_that_of_sacrebleu(ours, theirs):
    hypotheses, rows = corpus(5, 2)
    ours.update(hypotheses, rows)
    theirs.corpus_score(hypotheses, list(zip(*rows, strict=True)))
    assert ours.signature == str(theirs.get_signature())


@pytest.mark.parametrize("make", MAKERS)
@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 3))
def test_splitting_and_reordering_the_rows_changes_no_bit(make, draw, references):
    hypotheses, rows = corpus(12, references, seed=draw.randint(0, 99))
    expected = score(make(), hypotheses, rows)
    order = draw.sample(range(12), 12)
    split = make()
    first, second = sorted(draw.choices(range(13), k=2))
    for part in (order[:first], order[first:second], order[second:]):
        split.update([hypotheses[k] for k in part], [rows[k] for k in part])
    assert torch.equal(split.compute(), expected)


@pytest.mark.parametrize("make", MAKERS)
def test_two_ranks_of_uneven_size_give_the_score_of_one(make):
    hypotheses, rows = corpus(10, 3)
    ranks = [make(), make()]
    ranks[0].update(hypotheses[:7], rows[:7])
    ranks[1].update(hypotheses[7:], rows[7:])
    others = iter([ranks[1].statistics, ranks[1].shape])  # gathered in the order in which the states were added
    ranks[0].distributed_available_fn = lambda: True
    ranks[0].dist_sync_fn = lambda state, group: [state, next(others)]
    assert torch.equal(ranks[0].compute(), score(make(), hypotheses, rows))


@pytest.mark.parametrize("make", MAKERS)
def test_forward_scores_the_batch_and_still_sums(make):
    hypotheses, rows = corpus(8, 2)
    metric = make()
    assert torch.equal(metric(hypotheses[:3], rows[:3]), score(make(), hypotheses[:3], rows[:3]))
    metric(hypotheses[3:], rows[3:])
    assert torch.equal(metric.compute(), score(make(), hypotheses, rows))


@pytest.mark.parametrize("make", MAKERS)
def test_merge_reset_and_pickle_keep_the_sums(make):
    hypotheses, rows = corpus(8, 2)
    first, second = make(), make()
    first.update(hypotheses[:3], rows[:3])
    second.update(hypotheses[3:], rows[3:])
    first.merge_state(pickle.loads(pickle.dumps(second)))
    assert torch.equal(first.compute(), score(make(), hypotheses, rows))
    first.reset()
    assert torch.equal(score(first, hypotheses[:3], rows[:3]), score(make(), hypotheses[:3], rows[:3]))


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_no_rows_score_zero(make):
    metric = make()
    assert metric.compute().item() == 0
    assert "nrefs:0" in metric.signature
    metric.update([], [])
    assert metric.compute().item() == 0


@pytest.mark.parametrize("make", MAKERS)
def test_empty_texts_are_scored(make):
    metric = make()
    assert math.isfinite(score(metric, ["", "a"], [["a"], [""]]).item())


@pytest.mark.parametrize(
    ("language", "tokeniser"),
    [("en", "13a"), ("fr", "13a"), ("zh", "zh"), ("zh-CN", "zh"), ("cmn", "zh"), ("yue", "zh"), ("ZH_tw", "zh")],
)
def test_the_language_chooses_the_tokeniser(language, tokeniser):
    assert BLEU(language).tokenize == tokeniser


@pytest.mark.parametrize("language", ["ja", "ko"])
def test_japanese_and_korean_are_cut_by_mecab_or_say_what_to_install(language):
    try:
        assert score(BLEU(language), ["猫 고양이"], [["猫 고양이"]]).item() > 0
    except InputError as error:
        assert f"pip install 'sacrebleu[{language}]'" in str(error)  # noqa: PT017


@pytest.mark.parametrize("language", ["ja", "ko"])
def test_a_missing_mecab_is_one_clear_line(language, monkeypatch):
    module = pytest.importorskip(f"sacrebleu.tokenizers.tokenizer_{language}_mecab")
    monkeypatch.setattr(module, "MeCab", None)
    translation._bleu_scorer.cache_clear()
    with pytest.raises(InputError, match=rf"pip install 'sacrebleu\[{language}\]'"):
        BLEU(language)


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        (["a", "b"], [["a"]], "2 hypotheses but 1 rows"),
        (["a"], ["a"], "row 1: 'a', expected a list"),
        (["a"], [[]], r"row 1: \[\], expected a list"),
        (["a", "b"], [["a"], ["b", "c"]], "row 2: 2 texts, row 1 has 1"),
    ],
)
def test_wrong_rows_are_named(hypotheses, references, message):
    with pytest.raises(InputError, match=message):
        BLEU().update(hypotheses, references)


def test_unequal_numbers_of_references_are_found_between_batches_and_ranks():
    metric, other = TER(), TER()
    metric.update(["a"], [["a"]])
    with pytest.raises(InputError, match="not the same number"):
        metric.update(["a"], [["a", "b"]])
    metric.reset()
    metric.update(["a"] * 2, [["a"]] * 2)
    other.update(["a"] * 2, [["a", "b", "c"]] * 2)
    metric.merge_state(other)
    with pytest.raises(InputError, match="8 references for 4 rows"):
        metric.compute()


def test_an_unknown_tokeniser_is_named_with_the_choices():
    with pytest.raises(InputError, match=r"'14a'.*13a"):
        BLEU(tokenize="14a")
