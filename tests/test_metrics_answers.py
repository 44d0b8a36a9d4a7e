"""Answers against the official rules written out anew, torchmetrics, NLTK's tokens, and every threshold tried."""

import os
import random
import re
import string
from collections import Counter
from pathlib import Path

import pytest
from torchmetrics.functional.text import squad as torchmetrics_squad

from lmtasks.errors import InputError
from lmtasks.metrics.answers import CHINESE_TOKENS, answer_f1, best_threshold, exact_match, is_answerable, squad
from lmtasks.metrics.wrappers import SQuAD

WORDS = ["the", "The", "a", "An", "black", "Black", "death,", "plague.", "in", "1347", "Sea's", "-", "théâtre", "and  "]
CHINESE = ["中", "国", "人", "民", "，", "·", "OPPO", "r9", " 2016", "年", "-", "3.5", "《", "%", "…"]


def texts(words: list[str], joint: str, rows: int, seed: int = 0) -> tuple[list[str], list[list[str]]]:
    """Return answers and lists of right ones, some without any."""
    draw = random.Random(seed)
    some = lambda most: joint.join(draw.choice(words) for _ in range(draw.randint(0, most)))  # noqa: E731
    return [some(5) for _ in range(rows)], [[some(6) for _ in range(draw.randint(0, 3))] for _ in range(rows)]


def official_normal(text: str) -> str:
    """Restate normalize_answer of SQuAD, character by character."""
    text = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def official_pair(prediction: str, references: list[str]) -> tuple[float, float]:
    """Restate exact match and F1 of evaluate-v2.0.py for one row."""
    best_exact, best_f1 = 0.0, 0.0
    for gold in [text for text in references if official_normal(text)] or [""]:
        ours, theirs = official_normal(prediction).split(), official_normal(gold).split()
        best_exact = max(best_exact, float(official_normal(prediction) == official_normal(gold)))
        left, same = list(theirs), 0
        for word in ours:
            if word in left:
                left.remove(word)
                same += 1
        if not ours or not theirs:
            f1 = float(ours == theirs)
        elif same == 0:
            f1 = 0.0
        else:
            precision, recall = same / len(ours), same / len(theirs)
            f1 = 2 * precision * recall / (precision + recall)
        best_f1 = max(best_f1, f1)
    return best_exact, best_f1


def scores(predictions, references, language="en") -> dict[str, float]:
    return squad(predictions, references, language).values


def test_the_scores_are_those_of_the_official_rules():
    predictions, references = texts(WORDS, " ", 300)
    pairs = [official_pair(*row) for row in zip(predictions, references, strict=True)]
    found = scores(predictions, references)
    assert found["exact_match"] == pytest.approx(100 * sum(exact for exact, _ in pairs) / 300)
    assert found["f1"] == pytest.approx(100 * sum(f1 for _, f1 in pairs) / 300)
    assert 10 < found["exact_match"] < found["f1"] < 90


def test_rows_with_and_without_an_answer_are_scored_apart():
    predictions, references = texts(WORDS, " ", 200, seed=1)
    answerable = [is_answerable(row) for row in references]
    assert answerable == [any(map(official_normal, row)) for row in references]
    found = scores(predictions, references)
    parts = {
        kind: [
            official_pair(*row)
            for row, has in zip(zip(predictions, references, strict=True), answerable, strict=True)
            if has is kind
        ]
        for kind in (True, False)
    }
    assert parts[True]
    assert parts[False]
    mean = lambda kind, place: 100 * sum(pair[place] for pair in parts[kind]) / len(parts[kind])  # noqa: E731
    assert found["has_answer_exact_match"] == pytest.approx(mean(True, 0))
    assert found["has_answer_f1"] == pytest.approx(mean(True, 1))
    assert found["no_answer_exact_match"] == pytest.approx(mean(False, 0))
    assert found["no_answer_exact_match"] == pytest.approx(mean(False, 1))


def test_where_all_have_answers_the_scores_are_those_of_torchmetrics_and_have_no_parts():
    predictions, references = texts(WORDS, " ", 100, seed=2)
    rows = [
        (text, row) for text, row in zip(predictions, references, strict=True) if row and all(map(official_normal, row))
    ]
    given = [{"prediction_text": text, "id": str(number)} for number, (text, _) in enumerate(rows)]
    right = [
        {"answers": {"answer_start": [0] * len(row), "text": row}, "id": str(number)}
        for number, (_, row) in enumerate(rows)
    ]
    expected = {name: value.item() for name, value in torchmetrics_squad(given, right).items()}
    assert scores(*zip(*rows, strict=True)) == pytest.approx(expected)


@pytest.mark.parametrize("references", [[], [""], ["the", "."]])
def test_without_an_answer_only_the_empty_one_is_right(references):
    assert not is_answerable(references)
    assert exact_match("", references) == answer_f1("", references) == 1
    assert exact_match("village", references) == answer_f1("village", references) == 0


def official_chinese(prediction: str, references: list[str], tokenise) -> tuple[float, float]:
    """Restate exact match and F1 of the script of CMRC 2018; `tokenise` cuts what is not Chinese."""
    passed_over = [
        "-",
        ":",
        "_",
        "*",
        "^",
        "/",
        "\\",
        "~",
        "`",
        "+",
        "=",
        *"，。：？！“”；’《》",
        "……",
        *"·、「」（）－～『』",
    ]
    bare = lambda text: "".join(letter for letter in text.lower().strip() if letter not in passed_over)  # noqa: E731

    def segments(text):
        parts = re.split("([\u4e00-\u9fa5])", bare(text))
        return [
            token for part in parts for token in ([part] if re.fullmatch("[\u4e00-\u9fa5]", part) else tokenise(part))
        ]

    best = 0.0
    for gold in references:
        ours, theirs = segments(prediction), segments(gold)
        runs = {tuple(ours[a:b]) for a in range(len(ours)) for b in range(a + 1, len(ours) + 1)}
        length = max(
            (b - a for a in range(len(theirs)) for b in range(a + 1, len(theirs) + 1) if tuple(theirs[a:b]) in runs),
            default=0,
        )
        if length:
            precision, recall = length / len(ours), length / len(theirs)
            best = max(best, 2 * precision * recall / (precision + recall))
    return float(any(bare(gold) == bare(prediction) for gold in references)), best


def test_chinese_scores_are_those_of_the_script_of_cmrc():
    tokenise = pytest.importorskip("nltk.tokenize").NLTKWordTokenizer().tokenize
    predictions, references = texts(CHINESE, "", 200)
    known = [[gold for gold in row if is_answerable([gold], "zh")] for row in references]  # the script knows no blanks
    rows = [(text, row) for text, row in zip(predictions, known, strict=True) if row]
    pairs = [official_chinese(text, row, tokenise) for text, row in rows]
    found = scores(*zip(*rows, strict=True), "zh-CN")
    assert found["exact_match"] == pytest.approx(100 * sum(exact for exact, _ in pairs) / len(rows))
    assert found["f1"] == pytest.approx(100 * sum(f1 for _, f1 in pairs) / len(rows))
    assert 10 < found["f1"] < 90


@pytest.mark.skipif("LMTASKS_DATA" not in os.environ, reason="LMTASKS_DATA names no folder with cmrc2018")
def test_answers_of_cmrc_are_cut_as_nltk_cuts_them():
    cut = pytest.importorskip("nltk.tokenize").NLTKWordTokenizer().tokenize
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(Path(os.environ["LMTASKS_DATA"]) / "cmrc2018" / "validation.parquet")
    answers = [text.lower() for row in table.column("answers").to_pylist()[:200] for text in row["text"]]
    different = 0
    for text in answers:
        parts = re.split("([\u4e00-\u9fa5])", text)
        expected = [token for part in parts for token in cut(part)]
        marks = {"``": '"', "''": '"'}  # NLTK renames them
        different += CHINESE_TOKENS.findall(text) != [marks.get(token, token) for token in expected]
    assert different <= len(answers) / 100


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("shift", [0.0, -0.5])
def test_the_best_threshold_is_the_best_of_all(ties, shift):
    predictions, references = texts(WORDS, " ", 80, seed=3)
    draw = random.Random(4)
    unsure = [(draw.randint(1, 9) / 10 if ties else draw.random()) + shift for _ in predictions]
    best = best_threshold(predictions, references, unsure)

    def reached(threshold: float) -> dict[str, float]:
        kept = ["" if score > threshold else text for text, score in zip(predictions, unsure, strict=True)]
        return scores(kept, references)

    tried = [reached(threshold) for threshold in [min(unsure) - 1, *unsure]]
    for name, score, threshold in (
        ("exact_match", best.exact_match, best.exact_match_threshold),
        ("f1", best.f1, best.f1_threshold),
    ):
        assert score == pytest.approx(max(row[name] for row in tried))
        assert score == pytest.approx(reached(threshold)[name])


def test_the_best_threshold_is_that_of_the_official_script():
    predictions, references = texts(WORDS, " ", 120, seed=5)
    draw = random.Random(6)
    unsure = [draw.random() for _ in predictions]
    rows = [
        row for row in range(120) if official_normal(predictions[row]) or not predictions[row]
    ]  # there the script errs
    predictions, references, unsure = ([column[row] for row in rows] for column in (predictions, references, unsure))
    total = best = sum(not is_answerable(row) for row in references)
    threshold = 0.0
    for row in sorted(range(len(rows)), key=unsure.__getitem__):
        if is_answerable(references[row]):
            total += official_pair(predictions[row], references[row])[1]
        elif predictions[row]:
            total -= 1
        if total > best:
            best, threshold = total, unsure[row]
    found = best_threshold(predictions, references, unsure)
    assert threshold > 0
    assert (found.f1, found.f1_threshold) == (pytest.approx(100 * best / len(rows)), threshold)


def test_where_nothing_should_be_answered_the_threshold_is_zero():
    found = best_threshold(["a village"], [[]], [0.5])
    assert (found.exact_match, found.exact_match_threshold) == (100, 0)


@pytest.mark.parametrize("unsure", [[float("nan")], [0.1, 0.2]])
def test_no_answer_scores_must_be_a_number_a_row(unsure):
    with pytest.raises(InputError):
        best_threshold(["a"], [["a"]], unsure)


def test_the_order_of_the_words_counts_in_chinese_only():
    assert answer_f1("b c a1", ["a1 b c"]) == 1
    assert answer_f1("国中", ["中国"], "zh") == 0.5
    assert Counter("国中") == Counter("中国")


def test_right_answers_that_are_a_text_are_named():
    for refusing in (squad, SQuAD().update):
        with pytest.raises(InputError, match="row 2: 'b', expected a list"):
            refusing(["a", "b"], [["a"], "b"])
        with pytest.raises(InputError, match="2 predictions but 1 references"):
            refusing(["a", "b"], [["a"]])


def test_the_signature_says_rows_and_rules():
    assert squad(["", "中"], [[], ["中"]], "zh").signature == "rows:2|unanswerable:1|rules:cmrc2018"
