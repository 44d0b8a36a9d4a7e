"""Dialogue: histories and replies, what is left out of a long history, and a talk with a model."""

from __future__ import annotations

import io
import sys

import pytest
import torch
from tiny import tiny_backbone, trainer

from lmtasks import Decoding, DialogueModule, DialogueTask, TextDataModule, TokenizerConfig, Village
from lmtasks.cli.main import main
from lmtasks.errors import InputError
from lmtasks.storage.model_folder import save
from lmtasks.tasks.base import Answer, Prediction
from lmtasks.text.tokenizer import Tokenizer

TURNS = ["Hi.", "Hello, who is it?", "Anna.", "Come in."]
TOKENIZER = Tokenizer.train([], TokenizerConfig("byte"), marks=DialogueTask().marks)
USER, MODEL = (TOKENIZER.mark(mark) for mark in DialogueTask().marks)


def test_each_turn_but_the_first_replies_to_all_before_it():
    examples = DialogueTask().examples([{"turns": TURNS}], TOKENIZER)
    assert [example.reference for example in examples] == TURNS[1:]
    assert [example.text for example in examples] == ["\n".join(TURNS[:count]) for count in (1, 2, 3)]
    last = examples[-1]
    turns = [TOKENIZER.encode(turn) for turn in TURNS]
    assert last.source == [USER, *turns[0], MODEL, *turns[1], USER, *turns[2], TOKENIZER.eos_id]
    assert last.target == [*turns[3], TOKENIZER.eos_id]
    assert len({(example.row, example.group) for example in examples}) == len(examples)  # each is answered


@pytest.mark.parametrize("history", [3, 4, 8, 9, 20, 26, 27, 99])
def test_a_long_history_keeps_its_last_turns(history):
    task = DialogueTask(history=history)
    (example,) = task.questions([{"turns": TURNS[:3]}], TOKENIZER)
    source, whole = example.source, DialogueTask(history=99).questions([{"turns": TURNS[:3]}], TOKENIZER)[0].source
    assert len(source) <= history
    assert source[0] in (USER, MODEL)
    assert source[-1] == TOKENIZER.eos_id
    kept = source[1:] if source.count(USER) + source.count(MODEL) == 1 else source
    assert whole[len(whole) - len(kept) :] == kept
    turns = [TOKENIZER.encode(turn) for turn in TURNS[:3]]
    marks = source.count(USER) + source.count(MODEL)
    assert source == whole or len(source) + len(turns[-1 - marks]) + 1 > history  # no room for the next older turn


def test_a_row_of_one_turn_teaches_nothing_and_can_be_replied_to():
    assert DialogueTask().examples([{"turns": ["Hi."]}, {"turns": []}, {"turns": None}], TOKENIZER) == []
    examples = DialogueTask().questions([{"turns": []}, {"turns": ["Hi."]}, {"turns": "Hi."}], TOKENIZER)
    assert [example.row for example in examples] == [1, 2]


def test_a_row_without_a_list_of_turns_is_named():
    with pytest.raises(InputError, match=r"talk\.jsonl, row 3, column 'turns': 7, expected a list of texts"):
        DialogueTask().examples([{"turns": 7, "place": "talk.jsonl, row 3"}], TOKENIZER)
    for learn in (lambda row: DialogueTask().examples([row], TOKENIZER), DialogueTask().texts):
        with pytest.raises(
            InputError, match=r"talk\.txt, row 1, column 'turns': the text 'Hi\.', expected a list of texts"
        ):
            learn({"turns": "Hi.", "place": "talk.txt, row 1"})
    with pytest.raises(InputError, match="history is 2 tokens"):
        DialogueTask(history=2)


def test_data_that_would_cut_the_last_turn_off_are_refused(tmp_path):
    module = DialogueModule(history=64, backbone=tiny_backbone(), tokenizer=TokenizerConfig("byte"))
    data = TextDataModule(Village(train=2, validation=1, test=1), max_length=32, cache=str(tmp_path))
    with pytest.raises(InputError, match=r"dialogue reads 64 tokens at once, which data\.max_length 32 would cut"):
        trainer(tmp_path, max_steps=1).fit(module, datamodule=data)


def test_scores_and_signatures_go_by_the_same_names():
    task = DialogueTask()
    samples = [Prediction("Hi.", "Hello there you", answers=[Answer("Hello there you", 0.0)]), Prediction("a", "b")]
    scores = task.score(samples, nll=0.0, count=9)
    assert scores["token_probability"] == 100
    assert scores["perplexity"] == 1
    assert 0 < scores["bleu2"] <= 100
    assert set(task.signatures()) < set(scores)
    assert task.main_metric in scores


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dialogue")
    torch.manual_seed(1)
    module = DialogueModule(
        backbone=tiny_backbone(),
        tokenizer=TokenizerConfig(vocab_size=300),
        validation_decoding=Decoding(beam=1, max_length=4),
    )
    data = TextDataModule(Village(train=20, validation=3, test=1), tokens_per_step=500, cache=str(folder / "cache"))
    fitting = trainer(folder, max_steps=3, limit_val_batches=1.0, num_sanity_val_steps=0, val_check_interval=3,
                      check_val_every_n_epoch=None)  # fmt: skip
    fitting.fit(module, datamodule=data)
    assert "validation/dialogue/bleu2" in fitting.callback_metrics
    return save(module, folder / "model"), module


def test_a_model_replies_in_python(trained):
    _, module = trained
    reply = module.reply(["Good morning.", "Good morning!", "How are you?"], Decoding(beam=1, max_length=5))
    assert isinstance(reply, str)


def test_one_text_is_one_turn_and_not_a_turn_for_each_letter(trained):
    _, module = trained
    short = Decoding(beam=1, max_length=5)
    assert module.reply("Good morning.", short) == module.reply(["Good morning."], short)


def test_a_talk_on_stdin_remembers_what_was_said(trained, monkeypatch, capsys):
    folder, module = trained
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Hi.\nWho is it?\n\nHi.\n")))
    assert main(["run", str(folder), "--beam=1", "--max-length=5"]) == 0
    first, second, blank, again = capsys.readouterr().out.split("\n")[:4]
    decoding = Decoding(beam=1, max_length=5)
    assert first == again == " ".join(module.reply(["Hi."], decoding).splitlines())
    assert blank == ""
    said = module.reply(["Hi."], decoding)
    assert second == " ".join(module.reply(["Hi.", said, "Who is it?"], decoding).splitlines())


def test_a_dialogue_may_be_one_text_with_a_sign_behind_each_turn():
    row = {"turns": "Hello . __eou__ Hello , Anna . __eou__ Bye . __eou__"}
    assert [[*pair.sources, pair.target] for pair in DialogueTask().pairs(row)] == [
        ["Hello .", "Hello , Anna ."], ["Hello .", "Hello , Anna .", "Bye ."],
    ]  # fmt: skip
    other = DialogueTask(turn_end="<s>")
    assert [pair.target for pair in other.pairs({"turns": "a<s>b<s>c"})] == ["b", "c"]
    with pytest.raises(InputError, match="a text needs <s> behind each turn; turn_end sets that sign"):
        list(other.pairs(row))
    assert [pair.target for pair in other.pairs({"turns": "['a', 'b']"})] == ["b"]
