"""ROUGE against rouge-score, distinct against sets, BLEU-2 against sacrebleu, perplexity against its definition."""

import math
import random
from itertools import pairwise

import pytest
import sacrebleu
import torch
from torchmetrics.functional.text import perplexity as torchmetrics_perplexity

from lmtasks.errors import InputError
from lmtasks.metrics import (
    ROUGE,
    BitsPerCharacter,
    Perplexity,
    bits_per_character,
    bleu,
    distinct,
    perplexity,
    rouge,
    rouge_f1,
)
from lmtasks.metrics.summary import _common_subsequence, rouge_tokens

WORDS = ["the", "The", "village's", "cat-like", "Äpfel", "42", "running", "_", "sat", ",", "x1"]


def texts(rows: int, seed: int, most: int = 12) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choice(WORDS) for _ in range(draw.randint(0, most))) for _ in range(rows)]


def subsequence(one: list[str], other: list[str]) -> int:
    """Compute the longest common subsequence by the plain recursion."""
    if not one or not other:
        return 0
    if one[0] == other[0]:
        return 1 + subsequence(one[1:], other[1:])
    return max(subsequence(one[1:], other), subsequence(one, other[1:]))


def test_rouge_is_that_of_rouge_score():
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rouge1", "rouge2", "rougeL"])
    draw = random.Random(0)
    predictions = texts(60, 1)
    references = [texts(draw.randint(1, 3), 100 + row) for row in range(60)]
    rows = [scorer.score_multi(row, text) for text, row in zip(predictions, references, strict=True)]
    for name, value in rouge(predictions, references).values.items():
        assert value == pytest.approx(100 * sum(row[name].fmeasure for row in rows) / 60)
        assert 5 < value < 95


def test_the_subsequence_by_bits_is_that_of_the_recursion():
    draw = random.Random(2)
    for _ in range(100):
        one, other = ([draw.choice("abc") for _ in range(draw.randint(0, 7))] for _ in range(2))
        assert _common_subsequence(one, other) == subsequence(one, other)


def test_tokens_depend_on_the_language():
    assert rouge_tokens("The café, x_1!") == ["the", "caf", "x", "1"]
    assert rouge_tokens("Das Café, x_1!", "de") == ["das", "café", "x", "1"]
    assert rouge_tokens("OPPO手机，R9很好。", "zh-CN") == ["oppo", "手", "机", "r9", "很", "好"]


def test_chinese_is_compared_by_the_character():
    assert rouge_f1("小村庄", ["小村"], "zh") == pytest.approx((4 / 5, 2 / 3, 4 / 5))


def test_each_rouge_takes_the_reference_that_suits_it():
    one, two, longest = rouge_f1("a b c", ["c b a x", "a b y z w v"])
    assert one == pytest.approx(6 / 7)
    assert two == pytest.approx(2 / 7)
    assert longest == pytest.approx(4 / 9)


@pytest.mark.parametrize("references", [[[]], ["a"]])
def test_rouge_names_rows_without_a_list_of_references(references):
    for refusing in (rouge, ROUGE().update):
        with pytest.raises(InputError, match="references, row 1"):
            refusing(["a"], references)


def test_signatures_say_how_the_scores_come_about():
    assert rouge([], [], "zh").signature == "rows:0|value:f1|refs:best|stem:no|tok:char"
    assert distinct([], "zh").signature.startswith("words:0|case:mixed|tok:zh|version:")


def test_distinct_counts_different_words_and_pairs_of_all_words():
    answers = ["I do not know", "I do not", "", "not"]
    rows = [answer.split() for answer in answers]
    words = [word for row in rows for word in row]
    pairs = {pair for row in rows for pair in pairwise(row)}
    found = distinct(answers).values
    assert found["distinct1"] == pytest.approx(100 * len(set(words)) / len(words))
    assert found["distinct2"] == pytest.approx(100 * len(pairs) / len(words))


def test_distinct_cuts_words_as_bleu_does():
    assert distinct(["Yes, yes."]).values["distinct1"] == 100  # Yes , yes .
    assert distinct(["好好吃"], "zh").values["distinct1"] == pytest.approx(200 / 3)


def test_bleu_of_order_two_is_that_of_sacrebleu_and_says_so():
    hypotheses, references = texts(30, 7), texts(30, 8)
    score = bleu(hypotheses, [[text] for text in references], order=2)
    expected = sacrebleu.BLEU(max_ngram_order=2).corpus_score(hypotheses, [references]).score
    assert score.values["bleu"] == pytest.approx(expected, rel=1e-12)
    assert score.signature.endswith("|order:2")
    assert "order" not in bleu([], []).signature


def test_perplexity_is_that_of_torchmetrics():
    torch.manual_seed(0)
    logits = torch.randn(2, 7, 11)  # (B, T, V)
    target = torch.randint(0, 11, (2, 7))
    metric = Perplexity()
    for row in range(2):
        nll = torch.nn.functional.cross_entropy(logits[row], target[row], reduction="sum")
        metric.update(nll, 7)
    assert metric.compute().item() == pytest.approx(torchmetrics_perplexity(logits, target).item(), rel=1e-5)
    assert metric.compute().item() == pytest.approx(perplexity(metric.nll.item(), 14))


def test_bits_per_character_of_a_uniform_alphabet_is_its_logarithm():
    metric = BitsPerCharacter()
    metric.update(100 * math.log(32), 100)
    assert metric.compute().item() == pytest.approx(math.log2(32))
    assert bits_per_character(100 * math.log(32), 200) == pytest.approx(math.log2(32) / 2)


def test_hopeless_models_have_an_infinite_perplexity_and_none_has_one():
    assert perplexity(1e6, 1) == math.inf
    assert perplexity(0, 0) == 1
    assert bits_per_character(0, 0) == 0
