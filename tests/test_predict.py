"""Predictor and `Model.predictor`: rows in, answers out, from several threads and while the model trains."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import torch
from tiny import several_tasks, tiny_backbone

from lmtasks.backbones.recurrent import RecurrentConfig
from lmtasks.batch import Batch, Example
from lmtasks.decoding import Decoding
from lmtasks.errors import InputError
from lmtasks.model import Model, start_marks
from lmtasks.predict import Predictor
from lmtasks.tasks.answering import SpanAnsweringTask
from lmtasks.tasks.base import Answer
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.tasks.generation import GenerationTask
from lmtasks.tasks.tagging import TaggingTask
from lmtasks.text.tokenizer import Tokenizer, TokenizerConfig

BACKBONES = {
    "transformer": tiny_backbone(dropout=0.5, attention_dropout=0.5),
    "lstm": RecurrentConfig(d_model=8, d_hidden=8, d_attention=8, encoder_layers=2, dropout=0.5),
}
EVERY = pytest.mark.parametrize("model", BACKBONES, indirect=True)
SHORT = Decoding(beam=1, max_length=6)
SAMPLE = Decoding(beam=1, sample=True, seed=5, max_length=8)
LONG = {"question": "Who has a cat?", "context": "Anna has a cat and Ben has a dog. " * 3}


@pytest.fixture
def model(request: pytest.FixtureRequest) -> Model:
    """Return a model of five tasks with the weights that it is drawn with, and much dropout."""
    tasks = several_tasks(
        mood=ClassificationTask(labels=("bad", "good"), dropout=0.5),
        names=TaggingTask(labels=("X", "Y"), dropout=0.5),
        answers=SpanAnsweringTask(window=48, stride=8),
        texts=GenerationTask(prompt=4),
    )
    torch.manual_seed(0)
    model = Model(tasks, BACKBONES[getattr(request, "param", "transformer")], Decoding(beam=3, max_length=6))
    marks = tuple(start_marks(tasks).values())
    model.build(Tokenizer.train([], TokenizerConfig("byte"), ("de", "en"), marks))
    return model.eval()


def calls(predictor: Predictor) -> list[Callable[[], Any]]:
    """Return one call for each way to ask."""
    texts = ["a b c d", "", "a", "E f a"]
    return [
        lambda: predictor.solve([{"en": text} for text in texts], "translation"),
        lambda: predictor.translate(texts, prefix="zz"),
        lambda: predictor.solve([{"text": text} for text in texts], "mood"),
        lambda: predictor.probabilities("a b"),
        lambda: predictor.tag(texts),
        lambda: predictor.solve([LONG, LONG | {"context": "Anna."}], "answers"),
        lambda: predictor.generate(["ab", "c"], SAMPLE),
        lambda: list(predictor.stream("a b", "translation", SHORT)),
        lambda: list(predictor.stream("ab", "texts", SAMPLE)),
        lambda: predictor.align("a b", task="translation")[2].tolist(),
    ]


def attributes(model: Model) -> dict[str, dict[str, Any]]:
    """Return what every part of a model holds, one level deep."""
    return {
        name: {key: dict(value) if isinstance(value, dict) else value for key, value in vars(part).items()}
        for name, part in model.named_modules()
    }


# Several threads.


@EVERY
@pytest.mark.parametrize("training", [False, True])
def test_eight_threads_get_the_answers_of_one_and_change_nothing(model, training):
    model.train(training)
    predictor = model.predictor()
    expected = [call() for call in calls(predictor)]
    before, weights = attributes(model), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    together = Barrier(8)

    def ask(thread: int) -> list[tuple[int, Any]]:
        order = list(range(len(expected)))
        random.Random(thread).shuffle(order)
        together.wait()
        return [(i, calls(predictor)[i]()) for i in order]

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(ask, range(8)))
    assert all(answer == expected[i] for answers in found for i, answer in answers)
    assert model.training == training
    assert attributes(model) == before
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


# A model that trains.


@EVERY
def test_a_model_that_trains_answers_without_dropout_and_goes_on_training(model):
    expected = [call() for call in calls(model.predictor())]
    model.train()
    model.heads["mood"].eval()  # one that is not trained stays so
    modes = [part.training for part in model.modules()]
    predictor = model.predictor()
    assert [call() for call in calls(predictor)] == expected
    assert [part.training for part in model.modules()] == modes
    assert not any(part.training for part in (*predictor.backbone.modules(), *predictor.heads.modules()))


@EVERY
def test_a_predictor_made_in_evaluation_mode_keeps_it(model):
    predictor = model.eval().predictor()
    expected = [call() for call in calls(predictor)]
    model.train()
    assert [call() for call in calls(predictor)] == expected


@EVERY
def test_an_optimiser_step_changes_the_answers_of_a_predictor_made_before(model):
    model.train()
    predictor = model.predictor()
    for own, shared in ((model.backbone, predictor.backbone), (model.heads, predictor.heads)):
        assert [id(tensor) for tensor in own.parameters()] == [id(tensor) for tensor in shared.parameters()]
        assert [id(tensor) for tensor in own.buffers()] == [id(tensor) for tensor in shared.buffers()]
    before = predictor.solve([{"en": "a b"}], "translation")
    batch = Batch.of("translation", [Example([5, 6, 2], [7, 2])], model.tokenizer.pad_id)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.heads["translation"].loss(model.backbone, batch).total.backward()
    optimizer.step()
    after = predictor.solve([{"en": "a b"}], "translation")
    assert after != before
    assert after == model.eval().predictor().solve([{"en": "a b"}], "translation")


def test_compiled_functions_of_training_are_not_those_of_the_predictor(model):
    expected = model.translate("a b")
    model.train()
    model.backbone.encode = model.backbone.decode = None  # as torch.compile sets them: bound to what trains
    assert model.translate("a b") == expected


# Rows.


@EVERY
@pytest.mark.parametrize(
    ("task", "row"),
    [
        ("translation", lambda text: {"en": text}),
        ("mood", lambda text: {"text": text}),
        ("names", lambda text: {"text": text}),
        ("answers", lambda text: {"question": text, "context": LONG["context"][len(text) :]}),
        ("texts", lambda text: {"text": text}),
    ],
    ids=["translation", "mood", "names", "answers", "texts"],
)
def test_rows_are_answered_in_their_order_whatever_their_lengths(model, task, row, monkeypatch):
    monkeypatch.setattr("lmtasks.predict.TOKENS_PER_BATCH", 60)
    draw = random.Random(3)
    texts = ["".join(draw.choice("ab cdE") for _ in range(draw.randint(1, 20))).strip() or "a" for _ in range(12)]
    predictor = model.predictor()
    together = predictor.solve([row(text) for text in texts], task)
    for text, answers in zip(texts, together, strict=True):
        (alone,) = predictor.solve([row(text)], task)
        assert [answer.text for answer in answers] == [answer.text for answer in alone]
        assert [answer.spans for answer in answers] == [answer.spans for answer in alone]
        assert [answer.score for answer in answers] == pytest.approx([answer.score for answer in alone], abs=1e-5)


@pytest.mark.parametrize(("task", "column"), [("translation", "en"), ("mood", "text"), ("names", "text")])
def test_a_row_without_text_has_one_empty_answer(model, task, column):
    blank, full, spaces = model.solve([{column: text} for text in ("", "a b", "  ")], task)
    assert blank == spaces == [Answer("", 0.0)]
    assert full != blank
    assert model.solve([], task) == []


def test_the_windows_of_a_context_are_joined_to_the_answers_of_its_row(model):
    predictor, task = model.predictor(), model.tasks["answers"]
    found = predictor.solve([{"question": "Who?", "context": "Ben."}, LONG], "answers")
    windows = task.questions([LONG], model.tokenizer)
    assert len(windows) > 3
    batches = [Batch.of("answers", [window], model.tokenizer.pad_id) for window in windows]
    apart = [predictor.answer_batch(batch)[0] for batch in batches]
    best = max((answer for answers in apart for answer in answers), key=lambda answer: answer.score)
    assert found[1][0].text == best.text
    assert found[1][0].spans == best.spans
    assert [answer.text for answer in found[1]] == [answer.text for answer in task.join(apart)]


def test_a_seed_fixes_the_sample_of_a_text_whatever_stands_beside_it(trained):
    drawn = Decoding(beam=1, sample=True, seed=5)
    beside = trained.translate(["a b", "c", "a b c d"], decoding=drawn)
    assert beside[:2] == trained.translate(["a b", "c"], decoding=drawn)


def test_translations_keep_their_order_and_blank_stays_blank(trained):
    texts = ["a b c d", "", "a", "  ", "f e", "a b c d"]
    together = trained.translate(texts)
    assert together == [trained.translate(text) for text in texts]
    assert together[1] == together[3] == ""
    assert trained.translate([]) == []
    assert isinstance(trained.translate("a"), str)


def test_translating_in_small_batches_changes_nothing(trained, monkeypatch):
    texts = ["a b c d", "a", "f e", "b", "c d e"]
    at_once = trained.translate(texts)
    monkeypatch.setattr("lmtasks.predict.TOKENS_PER_BATCH", 1)
    assert trained.translate(texts) == at_once


def test_answers_are_as_many_as_asked_for_best_first(trained):
    decoding = Decoding(beam=3, n_best=3, max_length=5)
    (answers, blank) = trained.solve([{"en": "a b"}, {"en": ""}], decoding=decoding)
    assert len(answers) == 3
    assert [answer.score for answer in answers] == sorted((answer.score for answer in answers), reverse=True)
    assert [answer.text for answer in blank] == [""]


def test_a_task_that_the_model_does_not_have_is_refused(trained):
    with pytest.raises(InputError, match="no task 'sentiment'; choose one of translation"):
        trained.solve([{"en": "a"}], task="sentiment")


def test_alignment_names_the_pieces_and_sums_to_one(trained):
    source, target, matrix = trained.align("a b", answer="b")
    assert matrix.shape == (len(target), len(source))
    torch.testing.assert_close(matrix.sum(1), torch.ones(len(target)))
    assert trained.align("a b")[2].size(1) == len(source)


def test_answers_begin_with_the_prefix(trained):
    texts = ["a b", "c", ""]
    assert [text[:2] for text in trained.translate(texts, prefix="zz")] == ["zz", "zz", ""]
    assert trained.translate(texts, prefix="") == trained.translate(texts)
