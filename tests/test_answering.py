"""Question answering: rows to windows and back to places in the context, no answer, written answers by groups."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings, strategies as st
from tiny import tiny_backbone, trainer

from lmtasks import FreeAnsweringModule, QuestionAnsweringModule
from lmtasks.backbones.recurrent import RecurrentConfig
from lmtasks.batch import IGNORE
from lmtasks.errors import InputError
from lmtasks.metrics.answers import answer_f1
from lmtasks.model import Model
from lmtasks.tasks.answering import SpanAnsweringTask
from lmtasks.tasks.base import Answer, Prediction, Span
from lmtasks.tasks.free_answering import FreeAnsweringTask
from lmtasks.text.tokenizer import Tokenizer, TokenizerConfig
from lmtasks.text.words import whole_words
from lmtasks.training.config import Training
from lmtasks.training.datamodule import TextDataModule
from lmtasks.training.optim.optimizers import Adam
from lmtasks.training.optim.schedule import Schedule
from lmtasks.village import Village

ROW = {"question": "Who has a cat?", "context": "Anna has a cat.", "answers": ["Anna"], "starts": [0]}
SMALL = RecurrentConfig(d_model=8, d_hidden=8, d_attention=8, decoder_layers=0)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train([], TokenizerConfig("byte"))


@pytest.fixture(scope="module")
def words():
    return Tokenizer.train([f"{ROW['question']} {ROW['context']} x"] * 3, TokenizerConfig("bpe", 320))


def target_text(example):
    """Return what the target span of an example is in its text."""
    first, last = example.target
    return example.text[example.offsets[2 * first] : example.offsets[2 * last + 1]]


def is_null(example):
    return example.target == [len(example.source) - 1] * 2


def test_the_row_of_the_docstring(words):
    (example,) = SpanAnsweringTask().examples([ROW], words)
    question, context = words.encode(ROW["question"]), words.encode(ROW["context"])
    assert example.source == [*question, words.eos_id, *context, words.eos_id]
    assert example.text == "Who has a cat?\nAnna has a cat."
    assert target_text(example) == "Anna"
    assert (example.reference, example.references, example.row) == ("Anna", ["Anna"], 0)
    assert len(example.offsets) == 2 * len(example.source)


@settings(max_examples=60, deadline=None)
@given(st.text("ab é中\n", min_size=1, max_size=60), st.data())
def test_an_answer_comes_back_as_it_went_in_whatever_the_window(text, data):
    tokenizer = Tokenizer.train([], TokenizerConfig("byte"))
    start = data.draw(st.integers(0, len(text) - 1))
    answer = text[start : data.draw(st.integers(start + 1, len(text)))]
    if not answer.strip() or answer != answer.strip():
        return
    task = SpanAnsweringTask(window=data.draw(st.integers(8, 90)), stride=data.draw(st.integers(1, 70)))
    examples = task.examples([{"question": "a b", "context": text, "answers": [answer], "starts": [start]}], tokenizer)
    ids = tokenizer.encode(text)
    seen = "".join(f"{i} " for i in ids)
    for example in examples:
        assert len(example.source) <= task.window
        assert "".join(f"{i} " for i in example.source).split(f"{tokenizer.eos_id} ")[1] in seen
        if not is_null(example):
            assert target_text(example) == answer
            ((found,),) = task.answers([[(*example.target, 1.0)]], [example], tokenizer)
            (span,) = found.spans
            begin, stop = whole_words(text, start, start + len(answer))
            assert (found.text, span.start, span.stop) == (text[begin:stop], begin, stop)
    if len(examples) == 1:
        assert not is_null(examples[0])


def test_windows_cover_the_context_and_only_those_that_hold_the_answer_whole_have_it(tokenizer):
    context = "".join(chr(97 + i % 26) for i in range(40))
    row = {"question": "q", "context": context, "answers": ["klmn"], "starts": [10]}
    task = SpanAnsweringTask(window=20, stride=8)
    examples = task.examples([row], tokenizer)
    held = [example.source[len(tokenizer.encode("q")) + 1 : -1] for example in examples]
    begins = [0]
    ids = tokenizer.encode(context)
    room = 20 - len(tokenizer.encode("q")) - 2
    while begins[-1] + room < len(ids):
        begins.append(begins[-1] + 8)
    assert held == [ids[begin : begin + room] for begin in begins]
    first = len(ids) - 40 + 10  # a tokenizer may put a piece for a blank before the text
    assert [not is_null(e) for e in examples] == [b <= first and first + 4 <= b + room for b in begins]
    assert {example.row for example in examples} == {0}
    assert len({example.text for example in examples}) == 1


def test_a_piece_that_goes_beyond_the_answer_is_taken_whole():
    tokenizer = Tokenizer.train(["cats cats cats"], TokenizerConfig("bpe", 270))
    row = {"question": "what?", "context": "two cats", "answers": ["cat"], "starts": [4]}
    (example,) = SpanAnsweringTask().examples([row], tokenizer)
    assert target_text(example) == "cats"
    assert example.references == ["cat"]


def test_the_first_answer_that_stands_somewhere_is_the_target_and_all_are_references(tokenizer):
    row = {**ROW, "answers": ["Hanna", " ", "cat", "Anna"], "starts": [-1, 3, 11, 0]}
    (example,) = SpanAnsweringTask().examples([row], tokenizer)
    assert target_text(example) == "cat"
    assert example.references == ["Hanna", "cat", "Anna"]
    (lost,) = SpanAnsweringTask().examples([{**ROW, "starts": ["-1"]}], tokenizer)
    assert (lost.target, lost.references) == ([IGNORE, IGNORE], ["Anna"])


def test_a_row_without_answer_has_its_end_as_target(tokenizer):
    (example,) = SpanAnsweringTask(no_answer=True).examples([{**ROW, "answers": [], "starts": []}], tokenizer)
    assert is_null(example)
    assert (example.reference, example.references) == ("", [])


def test_places_count_from_the_context_where_a_tokenizer_cuts_the_question_short():
    cats = Tokenizer.train(["cats cats cats"], TokenizerConfig("bpe", 270))
    cut_short = SimpleNamespace(
        frame_source=cats.frame_source,
        encode_with_offsets=lambda text: _without_last(cats, text),
        separator_id=cats.separator_id,
    )
    task = SpanAnsweringTask()
    (example,) = task.questions([{"question": "cats ?", "context": "two cats"}], cut_short)
    last = len(example.source) - 2
    ((found,),) = task.answers([[(last, last, 1.0)]], [example], cats)
    (span,) = found.spans
    assert "two cats"[span.start : span.stop] == span.text == found.text


def _without_last(tokenizer, text):
    """Cut a text as a tokenizer would that takes the last sign for nothing."""
    ids, offsets = tokenizer.encode_with_offsets(text)
    return (ids[:-1], offsets[:-1]) if text.endswith("?") else (ids, offsets)


def test_questions_need_no_answers_and_blank_ones_are_not_asked(tokenizer):
    asked = [
        {"question": " ", "context": "a"},
        {"question": "a", "context": "\n"},
        {"question": "a\n b", "context": "c"},
    ]
    (example,) = SpanAnsweringTask().questions(asked, tokenizer)
    assert (example.text, example.target, example.row) == ("a b\nc", [], 2)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"answers": [], "starts": []}, "column 'answers': there is none; set no_answer to true"),
        ({"starts": [1]}, "column 'starts': at character 1 is 'nna ', not the answer 'Anna'"),
        ({"starts": ["a"]}, "column 'starts': .*expected a number for each answer"),
        ({"starts": []}, "column 'starts': .*expected a number for each answer"),
        ({"answers": [3]}, "column 'answers': .*expected a list of texts"),
        ({"context": 5}, "column 'context': 5, expected a text"),
    ],
)
def test_a_wrong_row_is_named(tokenizer, changes, complaint):
    with pytest.raises(InputError, match=f"^train.json, row 7, {complaint}"):
        SpanAnsweringTask().examples([{**ROW, **changes, "place": "train.json, row 7"}], tokenizer)


def test_windows_too_small_for_a_question_are_refused():
    with pytest.raises(InputError, match="window 7, stride 1"):
        SpanAnsweringTask(window=7, stride=1)


def answer(start, score, text="x"):
    return Answer(text, score, spans=(Span(start, start + 1, text),))


def test_windows_are_joined_by_score_and_each_place_comes_once():
    parts = [[answer(3, 2.0), Answer("", 1.0), answer(5, 0.5)], [answer(3, 4.0), Answer("", 3.0)]]
    assert SpanAnsweringTask().join(parts) == [answer(3, 4.0), answer(5, 0.5)]
    doubtful = SpanAnsweringTask(no_answer=True).join(parts)
    assert doubtful == [answer(3, 4.0), Answer("", 1.0), answer(5, 0.5)]
    assert SpanAnsweringTask().join([[Answer("", 1.0)]]) == [Answer("", 1.0)]


def test_calibration_finds_the_best_f1_and_moves_the_head_alike(tokenizer):
    task = SpanAnsweringTask(no_answer=True)
    draw = torch.Generator().manual_seed(1)
    samples = []
    for place in range(30):
        some, nothing = torch.randn(2, generator=draw).tolist()
        references = ["x"] if place % 3 and some > nothing - 1 else []
        answers = sorted([answer(0, some), Answer("", nothing)], key=lambda found: -found.score)
        samples.append(Prediction("", "", references, answers))
    head = task.head(tokenizer, d_model=8)
    after = task.calibrate(head, samples)
    shift = float(head.threshold)
    best = task.score(after, 0.0, 1)["f1"]
    for place in range(-40, 40):
        moved = [_shifted(sample, place / 10) for sample in samples]
        assert task.score(moved, 0.0, 1)["f1"] <= best + 1e-9
    assert task.score([_shifted(sample, shift) for sample in samples], 0.0, 1)["f1"] == pytest.approx(best)
    again = task.calibrate(head, after)
    assert float(head.threshold) == pytest.approx(shift)  # calibrated already
    assert [_order(sample) for sample in again] == [_order(sample) for sample in after]
    assert SpanAnsweringTask().calibrate(head, samples) == samples


@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_threshold_at_either_end_is_no_tie(tokenizer, answered, dtype):
    task = SpanAnsweringTask(no_answer=True)
    head = task.head(tokenizer, d_model=8)
    scores = (torch.randn(20, 2, dtype=dtype, generator=torch.Generator().manual_seed(2)) / 3).tolist()
    answers = [sorted([answer(0, s), Answer("", n)], key=lambda found: -found.score) for s, n in scores]
    samples = [Prediction("", "", ["x"] if answered else [], each) for each in answers]
    after = task.calibrate(head, samples)
    assert [sample.prediction for sample in after] == ["x" if answered else ""] * len(samples)
    for some, nothing in torch.tensor(scores, dtype=dtype):
        margin = some - (nothing + head.threshold.to(dtype))
        assert margin > 0.5 if answered else margin < -0.5  # far beyond what rounding changes


def _order(sample):
    return [found.text for found in sample.answers]


def _shifted(sample, by):
    answers = [found if found.spans else found._replace(score=found.score + by) for found in sample.answers]
    return Prediction("", "", sample.references, sorted(answers, key=lambda found: -found.score))


def test_a_model_learns_questions_of_the_village_and_answers_from_the_context(tmp_path: Path):
    torch.manual_seed(0)
    module = QuestionAnsweringModule(
        window=48, stride=24, no_answer=True, backbone=SMALL, tokenizer=TokenizerConfig(vocab_size=400),
        training=Training(Adam(0.02), Schedule("constant", warmup=0)),
    )  # fmt: skip
    data = TextDataModule(Village(12, 6, 6), tokens_per_step=300, max_length=48, cache=str(tmp_path / "cache"))
    runner = trainer(tmp_path, max_epochs=1, num_sanity_val_steps=0)
    runner.fit(module, datamodule=data)
    assert len(module.predictions["answering"]) == 6
    scores = runner.callback_metrics
    assert {"validation/answering/f1", "validation/answering/exact_match", "validation/score"} <= set(scores)
    rows = list(data.rows.rows("validation", ("question", "context")))
    for row, (best, *_) in zip(rows, module.solve(rows), strict=True):
        assert [row["context"][span.start : span.stop] for span in best.spans] == [best.text] * len(best.spans)
    assert module.answer(rows[0]["question"], rows[0]["context"]) == module.solve(rows[:1])[0][0].text
    assert module.answer([" "], "a context") == [""]


def test_validation_and_use_agree_on_long_contexts(tmp_path: Path):
    torch.manual_seed(0)
    settings = {"backbone": SMALL, "tokenizer": TokenizerConfig(vocab_size=300)}
    module = QuestionAnsweringModule(window=32, stride=9, no_answer=True, **settings)
    data = TextDataModule(Village(4, 5, 1), tokens_per_step=200, max_length=32, cache=str(tmp_path / "cache"))
    trainer(tmp_path, max_epochs=1, num_sanity_val_steps=0).fit(module, datamodule=data)
    rows = list(data.rows.rows("validation", ("question", "context")))
    evaluated = [sample.prediction for sample in module.predictions["answering"]]
    assert evaluated == [best.text for best, *_ in module.solve(rows)]


def test_a_written_answer_is_learned_from_question_and_context(tokenizer):
    rows = [{"question": "q", "context": "c", "answers": ["x", "y"], "task": "qa1"}, {"question": "q", "context": " "}]
    (example,) = FreeAnsweringTask(group_by="task").examples(rows, tokenizer)
    assert example.source == [*tokenizer.encode("q"), tokenizer.eos_id, *tokenizer.encode("c"), tokenizer.eos_id]
    assert example.target == [*tokenizer.encode("x"), tokenizer.eos_id]
    assert (example.text, example.references, example.group) == ("q\nc", ["x", "y"], "qa1")
    (single,) = FreeAnsweringTask().examples([{**rows[0], "answers": "x"}], tokenizer)
    assert (single.references, single.group) == (["x"], "")
    (asked,) = FreeAnsweringTask(group_by="task").questions([{"question": "q", "context": "c"}], tokenizer)
    assert (asked.target, asked.references) == ([], [])


def test_written_answers_are_scored_by_group_and_as_their_mean():
    task = FreeAnsweringTask(group_by="task")
    given_answers = [
        ("the kitchen", "qa/2"),
        ("garden", "qa/10"),
        ("a red ball", "qa/10"),
    ]  # "/" parts names of metrics
    right = [["kitchen", "x"], ["office"], ["a ball"]]
    samples = [
        Prediction("", "", references, [Answer(text, 0.0)], group)
        for (text, group), references in zip(given_answers, right, strict=True)
    ]
    scores = task.score(samples, nll=4.0, count=8)
    assert scores["exact_match"] == pytest.approx((100 + 0) / 2)
    assert scores["f1"] == pytest.approx(100 * (1 + answer_f1("a red ball", ["a ball"]) / 2) / 2)
    assert scores["perplexity"] == pytest.approx(math.exp(0.5))
    assert [name for name in scores if name.startswith("exact_match_")] == ["exact_match_qa_2", "exact_match_qa_10"]
    assert set(FreeAnsweringTask().score(samples[:1], 1.0, 1)) == {"perplexity", "exact_match", "f1", "rouge_l"}
    assert set(task.signatures()) < set(scores)


def test_written_answers_from_end_to_end(tmp_path: Path):
    torch.manual_seed(0)
    module = FreeAnsweringModule(backbone=tiny_backbone(), tokenizer=TokenizerConfig(vocab_size=300))
    data = TextDataModule(Village(8, 4, 4), tokens_per_step=400, cache=str(tmp_path / "cache"))
    runner = trainer(tmp_path, max_epochs=1, num_sanity_val_steps=0)
    runner.fit(module, datamodule=data)
    assert {"validation/answering/f1", "validation/answering/rouge_l"} <= set(runner.callback_metrics)
    assert isinstance(module.answer("Who?", "A hen."), str)


def test_the_main_score_is_among_the_scores():
    sample = Prediction("", "", ["a cat"], [Answer("cat", 0.0)])
    for task in (SpanAnsweringTask(), FreeAnsweringTask()):
        assert task.score([sample], 1.0, 1)[task.main_metric] == pytest.approx(100)


def test_a_single_start_may_stand_alone_as_in_a_csv(tokenizer):
    task = SpanAnsweringTask()
    for start in ("0", 0):
        single = {**ROW, "answers": "Anna", "starts": start}
        assert task.examples([single], tokenizer) == task.examples([ROW], tokenizer)


def test_an_answer_is_no_part_of_a_word():
    model = Model({"asked": SpanAnsweringTask(window=40)}, tiny_backbone())
    model.build(Tokenizer.train([], TokenizerConfig("byte")))  # whose tokens are letters
    example = model.tasks["asked"].questions([{"question": "a", "context": "The law, adopted"}], model.tokenizer)[0]
    places = {offset: number for number, offset in enumerate(example.offsets[::2]) if number}
    begins = example.text.index("\n") + 1
    found = [(places[begins + 10], places[begins + 12], 1.0), (places[begins + 3], places[begins + 5], 0.5)]
    ((cut, blank),) = model.tasks["asked"].answers([found], [example], model.tokenizer)
    assert (cut.text, blank.text) == ("adopted", "law")
    assert [(span.start, span.stop) for each in (cut, blank) for span in each.spans] == [(9, 16), (4, 7)]
