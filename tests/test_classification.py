"""Classification: labels to numbers and back, one a text or several, and what scores them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tiny import tiny_backbone, trainer

from lmtasks import ClassificationModule, SentimentModule, TextDataModule, TokenizerConfig, Village
from lmtasks.errors import InputError
from lmtasks.storage.model_folder import load, save
from lmtasks.tasks.base import Answer, Prediction
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.text.tokenizer import Tokenizer
from lmtasks.training.config import Training
from lmtasks.training.optim.optimizers import Adam
from lmtasks.training.optim.schedule import Schedule

ROWS = [
    {"text": "A fine film.", "label": "good"},
    {"text": "Dull.", "label": "bad"},
    {"text": "Fine!", "label": "good"},
]
TOPICS = [
    {"text": "vote", "label": ["politics"]},
    {"text": "cup", "label": "sport, politics"},
    {"text": "tea", "label": []},
]
TOKENIZER = Tokenizer.train([], TokenizerConfig("byte"))
ONE = ClassificationTask().learn(ROWS)
SEVERAL = ClassificationTask(multi_label=True).learn(TOPICS)


def test_a_row_becomes_the_ids_of_its_text_and_the_number_of_its_label():
    example, *_ = ONE.examples(ROWS, TOKENIZER)
    assert example.source == [*TOKENIZER.encode("A fine film."), TOKENIZER.eos_id]
    assert example.target == [ONE.labels.index("good")] == [1]
    assert (example.text, example.reference, example.references) == ("A fine film.", "good", ["good"])


def test_a_text_with_several_labels_has_a_yes_or_no_for_each():
    examples = SEVERAL.examples(TOPICS, TOKENIZER)
    assert SEVERAL.labels == ("politics", "sport")
    assert [example.target for example in examples] == [[1, 0], [1, 1], [0, 0]]
    assert [example.reference for example in examples] == ["politics", "politics, sport", ""]
    assert examples[1].references == ["politics", "sport"]


def test_two_texts_are_read_together():
    task = ClassificationTask(pair=True, labels=("no", "yes"))
    (example,) = task.examples([{"text": "a", "pair": "b", "label": "yes"}, {"text": "a", "pair": " "}], TOKENIZER)
    assert example.source == [*TOKENIZER.encode("a"), TOKENIZER.eos_id, *TOKENIZER.encode("b"), TOKENIZER.eos_id]
    assert example.text == "a\nb"
    assert task.columns == ("text", "pair", "label")
    assert task.source_columns == ("text", "pair")
    assert list(task.texts({"text": "a", "pair": "b"})) == ["a", "b"]


def test_a_row_gives_what_it_can():
    rows = [{"text": " ", "label": "good"}, {"text": "x", "label": None}, {"text": "x"}, {"text": "x", "label": " "}]
    assert [(example.row, example.target) for example in ONE.examples(rows, TOKENIZER)] == [(1, []), (2, []), (3, [])]
    assert [example.row for example in ONE.questions([{"text": ""}, {"text": "x", "label": "new"}], TOKENIZER)] == [1]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (
            {"text": "x", "label": "fine"},
            "column 'label': 'fine' is no label of the training rows, which are bad, good",
        ),
        ({"text": "x", "label": 3}, "column 'label': 3, expected a text"),
        ({"text": ["x"], "label": "good"}, r"column 'text': \['x'\], expected a text"),
    ],
)
def test_a_wrong_row_is_named(row, complaint):
    with pytest.raises(InputError, match=rf"test\.csv, row 4, {complaint}"):
        ONE.examples([*ROWS, {**row, "place": "test.csv, row 4"}], TOKENIZER)


def test_rows_that_teach_nothing_are_refused():
    with pytest.raises(InputError, match="all 2 training rows have the label 'good'; there is nothing to tell apart"):
        ClassificationTask().learn([ROWS[0], ROWS[2]])
    with pytest.raises(InputError, match="all 0 training rows have no label"):
        ClassificationTask(multi_label=True).learn([{"text": "x", "label": None}])


def test_labels_that_a_head_has_stay_in_their_places():
    assert ONE.learn([{"text": "x", "label": "good"}]).labels == ONE.labels


def test_balanced_labels_weigh_one_on_the_mean_over_the_rows():
    task = ClassificationTask(balanced=True).learn(ROWS)
    assert task.weights == pytest.approx((3 / (2 * 1), 3 / (2 * 2)))
    assert sum(task.weights[task.labels.index(row["label"])] for row in ROWS) == pytest.approx(len(ROWS))
    assert task.head(TOKENIZER, 8).class_weights is not None
    assert ONE.weights == ()
    assert ONE.head(TOKENIZER, 8).class_weights is None


def test_the_answer_is_the_likeliest_label_and_all_are_told_by_falling_probability():
    ((answer,),) = ONE.answers([[0.3, 0.7]], [], TOKENIZER)
    assert (answer.text, answer.score) == ("good", 0.7)
    assert list(answer.probabilities.items()) == [("good", 0.7), ("bad", 0.3)]
    assert "labels" not in answer.plain()


def test_of_several_labels_those_are_answered_that_are_likelier_than_not():
    ((both,),), ((none,),) = (SEVERAL.answers([shares], [], TOKENIZER) for shares in ([0.6, 0.9], [0.2, 0.4]))
    assert (both.text, none.text) == ("politics, sport", "")
    assert (both.labels, none.labels) == (("politics", "sport"), ())
    assert both.plain()["labels"] == ["politics", "sport"]
    assert none.plain()["labels"] == []  # and not absent: that no label fits is an answer
    assert both.score == pytest.approx(0.6 * 0.9)
    assert none.score == pytest.approx(0.8 * 0.6)


def sample(task: ClassificationTask, shares: list[float], labels: list[str]) -> Prediction:
    ((answer,),) = task.answers([shares], [], TOKENIZER)
    return Prediction("", ", ".join(labels), labels, [answer])


def test_scores_count_labels():
    samples = [sample(ONE, [0.9, 0.1], ["bad"]), sample(ONE, [0.8, 0.2], ["good"]), sample(ONE, [0.1, 0.9], ["good"])]
    assert ONE.score(samples, 1.0, 3) == pytest.approx({"accuracy": 200 / 3, "macro_f1": 200 / 3})
    assert "good" in ONE.table(samples)
    several = [sample(SEVERAL, [0.9, 0.1], ["politics"]), sample(SEVERAL, [0.9, 0.1], ["politics", "sport"])]
    assert SEVERAL.score(several, 1.0, 4) == pytest.approx({"micro_f1": 80, "macro_f1": 50, "subset_accuracy": 50})


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("main", ["accuracy", "macro_f1"])
def test_scores_signatures_and_the_main_score_go_by_the_same_names(several, main):
    task = ClassificationTask(several, main=main, labels=("a", "b"))
    scores = task.score([Prediction("", "a", ["a"], [Answer("a", 0.9, {"a": 0.9, "b": 0.1})])], 1.0, 1)
    assert task.main_metric in scores
    assert set(task.signatures()) == set(scores)


@pytest.mark.parametrize("several", [False, True])
def test_a_module_learns_is_saved_and_answers_again(tmp_path, several):
    module = ClassificationModule(
        multi_label=several,
        dropout=0.0,
        backbone=tiny_backbone(decoder_layers=0),
        tokenizer=TokenizerConfig("bpe", 400),
        training=Training(Adam(0.02), Schedule("constant", warmup=0)),
    )
    data = TextDataModule(Village(train=60, validation=8, test=8), tokens_per_step=400, cache=str(tmp_path / "cache"))
    torch.manual_seed(0)
    one = trainer(tmp_path, max_steps=20, limit_val_batches=0, num_sanity_val_steps=0)
    one.fit(module, datamodule=data)
    (scores,) = one.test(module, datamodule=data, verbose=False)
    assert scores["test/classification/loss"] < math.log(2 if several else 3)
    loaded = load(save(module, tmp_path / "model"))
    assert loaded.task == module.task
    texts = ["The soup was cold.", " ", "A good inn."]
    assert loaded.probabilities(texts) == module.probabilities(texts)
    assert loaded.classify(texts)[1] == ""
    assert loaded.classify(np.array(texts)) == loaded.classify(texts)
    for wrong in (5, None, ["Good.", None]):
        with pytest.raises(InputError, match="give a text, or a list of texts"):
            loaded.classify(wrong)
    assert set(module.probabilities(texts[0])) == set(module.task.labels)


def test_sentiment_is_classification():
    assert issubclass(SentimentModule, ClassificationModule)


@pytest.mark.parametrize("label", [["1", "0", "0"], ["true", "false", "false"], "[1, 0, 0]", "1,0,1"])
def test_a_multi_hot_row_is_no_list_of_labels(label):
    task = ClassificationTask(multi_label=True)
    with pytest.raises(InputError, match=r"a\.jsonl, row 1, column 'label': .* a 0 or 1 for each label, expected"):
        task.check({"text": "a", "label": label, "place": "a.jsonl, row 1"})
    with pytest.raises(InputError, match="each row has 1 and 0: a 0 or 1 for each label"):
        task.learn([{"text": "a", "label": ["1", "0"]}, {"text": "a", "label": ["0", "1"]}])


def test_a_list_of_labels_may_be_written_as_a_text():
    task = ClassificationTask(multi_label=True)
    rows = [{"text": "a", "label": text} for text in ("['x', 'y']", '["x"]', "x, y", "[]")]
    assert task.learn(rows).labels == ("x", "y")
    with pytest.raises(InputError, match=r"column 'label': .* expected a text"):
        ClassificationTask().check({"text": "a", "label": "['x']"})
