"""Summarisation: several references, texts in sentences, and the first sentence to be compared with."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_backbone, trainer

from lmtasks import Decoding, SummarisationModule, SummarisationTask, TextDataModule, TokenizerConfig, Village
from lmtasks.errors import InputError
from lmtasks.tasks.base import Answer, Prediction
from lmtasks.tasks.summarisation import first_sentence
from lmtasks.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.train([], TokenizerConfig("byte"))


def test_the_first_summary_is_learned_and_all_are_references():
    rows = [
        {"text": "a b", "summary": ["a", "b"]},
        {"text": " ", "summary": "c"},
        {"text": ["A b.", "C d."], "summary": "d"},
        {"text": "e", "summary": None},
    ]
    first, listed, unanswered = SummarisationTask().examples(rows, TOKENIZER)
    assert first.source == [*TOKENIZER.encode("a b"), TOKENIZER.eos_id]
    assert first.target == [*TOKENIZER.encode("a"), TOKENIZER.eos_id]
    assert (first.reference, first.references, first.row) == ("a", ["a", "b"], 0)
    assert (listed.text, listed.references, listed.row) == ("A b. C d.", ["d"], 2)
    assert (unanswered.target, unanswered.references) == ([], [])


def test_a_wrong_row_is_named():
    with pytest.raises(InputError, match=r"a\.csv, row 2, column 'summary': 7, expected a list of texts"):
        SummarisationTask().examples([{"text": "a", "summary": 7, "place": "a.csv, row 2"}], TOKENIZER)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("One two. Three.", "One two."),
        ("It costs 2.5 pounds! Really.", "It costs 2.5 pounds!"),
        ("no stop", "no stop"),
        ("天气好。天气坏。", "天气好。"),
        ("Over\ntwo lines. Next.", "Over\ntwo lines."),
        ("", ""),
    ],
)
def test_the_first_sentence_ends_with_the_first_full_stop(text, first):
    assert first_sentence(text) == first


def test_a_summary_that_is_the_first_sentence_scores_like_it():
    task = SummarisationTask()
    text = "Paul found the key. He was glad."
    samples = [Prediction(text, "Paul found it", ["Paul found it", "A key"], [Answer(first_sentence(text), 0.0)])]
    scores = task.score(samples, nll=1.0, count=1)
    assert scores["rougeL"] == scores["rougeL_lead"] > 0
    assert task.main_metric in scores
    assert set(task.signatures()) < set(scores)


def test_a_module_trains_and_summarises(tmp_path):
    torch.manual_seed(1)
    decoding = Decoding(beam=1, max_length=5)
    module = SummarisationModule(
        backbone=tiny_backbone(), tokenizer=TokenizerConfig(vocab_size=300), validation_decoding=decoding
    )
    data = TextDataModule(Village(train=12, validation=3, test=1), tokens_per_step=900, cache=str(tmp_path / "cache"))
    fitting = trainer(tmp_path, max_steps=2, limit_val_batches=1.0, num_sanity_val_steps=0, val_check_interval=2,
                      check_val_every_n_epoch=None)  # fmt: skip
    fitting.fit(module, datamodule=data)
    assert fitting.callback_metrics["validation/summarisation/rougeL_lead"] > 0
    assert isinstance(module.summarise("A long story. It has an end.", decoding), str)
    assert len(module.summarise(["a", "b"], decoding)) == 2
