"""Evaluation and samples: each row counts once, in the order of the data, however it came."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from lmtasks.backbones.loss import Loss
from lmtasks.batch import Batch
from lmtasks.data.tokenized import encode
from lmtasks.tasks.base import Answer, Prediction
from lmtasks.tasks.translation import TranslationTask
from lmtasks.text.tokenizer import Tokenizer, TokenizerConfig
from lmtasks.training.callbacks.samples import Samples, samples_text
from lmtasks.training.evaluation import Evaluation

PAIRS = [("a dog", "un chien"), ("a cat", "un chat"), ("the old man", "le vieil homme"), ("two cows", "deux vaches")]
TASK = TranslationTask(("en-fr",))


@pytest.fixture
def rows(tmp_path):
    tokenizer = Tokenizer.train(["bytes need no learning"], TokenizerConfig(kind="byte"))
    records = [{"en": en, "fr": fr} for en, fr in PAIRS]
    return encode(records, TASK.examples, tokenizer, tmp_path / "rows.arrow")


def add(evaluation, rows, ids, answers, nll=1.0, count=2):
    batch = Batch.of("translation", rows.examples(ids), 0, ids)
    loss = Loss(torch.tensor(nll), torch.tensor(nll), torch.tensor(count))
    evaluation.add(batch, [[Answer(text, 0.0)] for text in answers], loss)


def scores(evaluation):
    return evaluation.scores(TASK, evaluation.predictions(TASK))


def test_the_order_of_batches_changes_nothing(rows):
    answers = [fr for _, fr in PAIRS[:3]] + ["deux chats"]
    one, other = Evaluation(), Evaluation()
    add(one, rows, [0, 1, 2, 3], answers, nll=4.0, count=8)
    for ids in ([3, 1], [2], [0]):
        add(other, rows, ids, [answers[i] for i in ids], nll=len(ids), count=2 * len(ids))
    assert one.predictions(TASK) == other.predictions(TASK)
    assert scores(one) == scores(other)


def test_a_row_that_two_processes_answered_counts_once(rows):
    evaluation = Evaluation()
    add(evaluation, rows, [0, 1], ["un chien", "un chat"])
    add(evaluation, rows, [1], ["un chat"])
    assert [row.text for row in evaluation.predictions(TASK)] == ["a dog", "a cat"]


def test_right_answers_score_100_and_perplexity_is_that_of_the_mean_loss(rows):
    evaluation = Evaluation()
    add(evaluation, rows, [0, 1, 2, 3], [fr for _, fr in PAIRS], nll=3.0, count=6)
    found = scores(evaluation)
    assert found["chrf"] == pytest.approx(100)
    assert found["loss"] == pytest.approx(0.5)
    assert found["perplexity"] == pytest.approx(math.exp(0.5))


def test_no_samples_may_be_asked_for(tmp_path, capsys):
    rows = {"translation": [Prediction("source", "reference", answers=[Answer("answer", 0.0)])]}
    assert samples_text(rows, 0) == ""
    trainer = SimpleNamespace(
        is_global_zero=True, sanity_checking=False, testing=True, default_root_dir=tmp_path / "new"
    )
    Samples(shown=0, kept=1).on_test_end(trainer, SimpleNamespace(predictions=rows))
    assert capsys.readouterr().err == ""
    assert "answer" in (tmp_path / "new" / "samples.txt").read_text()


def test_samples_are_spread_over_the_data():
    rows = [Prediction(f"source {i}", f"reference {i}", answers=[Answer(f"answer {i}", 0.0)]) for i in range(10)]
    text = samples_text({"translation": rows}, 2)
    assert [line.split()[-1] for line in text.splitlines() if "source" in line] == ["0", "5"]
    assert "answer 5" in text


def test_samples_of_several_directions_name_theirs():
    def heads(groups):
        rows = [Prediction("a", "b", answers=[Answer("c", 0.0)], group=group) for group in groups]
        return [line.strip() for line in samples_text({"translation": rows}, 2).splitlines()[::4]]

    assert heads(["en-de", "en-fr"]) == ["translation en-de", "translation en-fr"]
    assert heads(["en-de", "en-de"]) == heads(["", ""]) == ["translation", "translation"]
