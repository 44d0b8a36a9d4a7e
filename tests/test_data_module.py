"""TextDataModule: what it keeps, says, caches, refuses, and how its batches look."""

from __future__ import annotations

import json
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.trainer.states import TrainerFn
from tiny import ROWS, fit, tiny_backbone, tiny_data, tiny_module, tiny_rows, trainer, write_corpus

import lmtasks.data.readers.parallel
from lmtasks.batch import IGNORE, Batch
from lmtasks.data.readers.parallel import ParallelText
from lmtasks.data.readers.table import Table
from lmtasks.data.tokenized import encode
from lmtasks.errors import InputError
from lmtasks.tasks.translation import TranslationTask
from lmtasks.text.tokenizer import Tokenizer, TokenizerConfig
from lmtasks.training.config import Training
from lmtasks.training.datamodule import TextDataModule
from lmtasks.training.modules import ClassificationModule
from lmtasks.training.optim.schedule import Schedule

TASK = TranslationTask(("en-de",))


@pytest.fixture
def tokenizer():
    return Tokenizer.train([], TokenizerConfig("byte"))


def prepared(corpus, data, stage="fit", module=None):
    """Return the data module as a trainer has it when the stage begins."""
    module = tiny_module() if module is None else module
    own = trainer(corpus / "run", max_steps=1)
    own.strategy._lightning_module = module
    own.state.fn = TrainerFn(stage)
    module.trainer = data.trainer = own
    data.prepare_data()
    data.setup(stage)
    return data


def write(folder, split, pairs):
    for language, texts in zip(("en", "de"), zip(*pairs, strict=True), strict=True):
        (folder / f"{split}.{language}").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")


def logged(caplog, split):
    (line,) = [
        r.getMessage()
        for r in caplog.records
        if r.getMessage().startswith(f"{split}:") and "no text:" in r.getMessage()
    ]
    return line


@pytest.mark.parametrize("too_long", ["drop", "cut"])
def test_the_log_counts_what_is_not_used_as_it_is(corpus, caplog, too_long):
    write(
        corpus, "train", [("a b", "a b"), ("a b c d e f", "a"), ("a", "a b c d e f"), ("c", ""), ("d", "  "), ("", "b")]
    )
    with caplog.at_level(logging.INFO, "lmtasks"):
        data = prepared(corpus, tiny_data(corpus, max_length=8, too_long=too_long))
    dropped, cut = (2, 0) if too_long == "drop" else (0, 2)
    assert f"no label: 2 (row 4, row 5), longer than 8 tokens: dropped {dropped}, cut {cut}" in logged(caplog, "train")
    assert len(data.mixture.plans["translation"].lengths) == 3 - dropped
    assert "dropped 0, " in logged(caplog, "validation")  # whatever it says, evaluation keeps its rows


def test_the_log_counts_the_rows_of_the_file(corpus, caplog):
    write(corpus, "train", [("a", "b"), ("", "c"), ("d", ""), ("e", "f")])
    with caplog.at_level(logging.INFO, "lmtasks"):
        prepared(corpus, tiny_data(corpus))
    assert logged(caplog, "train").startswith("train: 4 rows, 2 examples; no text: 1 (row 2), no label: 1 (row 3)")


def test_blank_sources_count_at_the_end_of_a_file_and_in_each_direction(corpus, caplog):
    write(corpus, "train", [("a", "b")] * 2100 + [("", "b"), (" ", ""), ("c", "")])
    with caplog.at_level(logging.INFO, "lmtasks"):
        prepared(corpus, tiny_data(corpus), module=tiny_module(("en-de", "de-en")))
    assert logged(caplog, "train").startswith(
        "train: 2,103 rows, 4,200 examples; no text: 4 (row 2102, ...), no label: 2 (row 2101, row 2103)"
    )


@pytest.mark.parametrize("split", ["validation", "test"])
def test_rows_that_cannot_be_scored_are_said_aloud(corpus, caplog, split):
    stage = {"validation": "validate", "test": "test"}[split]
    with caplog.at_level(logging.WARNING, "lmtasks"):
        prepared(corpus, tiny_data(corpus), stage)
    assert not caplog.records
    write(corpus, split, [("a", "b"), ("", "c"), ("d", ""), ("e", "f"), ("", "")])
    with caplog.at_level(logging.WARNING, "lmtasks"):
        prepared(corpus, tiny_data(corpus), stage)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{split}: 3 of 5 examples have no text or no label")


def test_what_makes_batches_travels_to_a_worker_light_and_whole(corpus):
    write(corpus, "train", [("a b c", "d e f")] * 3000)
    data = prepared(corpus, tiny_data(corpus))
    assert len(pickle.dumps(data.examples["train"]["translation"].tokenized)) < 500
    steps = data.train_dataloader().dataset
    assert b"lightning" not in pickle.dumps(steps)  # a trainer or a module cannot travel
    (ids, *_) = data.val_dataloader().sampler
    for dataset, key in ((steps, (2, 0)), (data.val_dataloader().dataset, ids)):
        here, there = (
            one if isinstance(one, Batch) else one[0]
            for one in (dataset[key], pickle.loads(pickle.dumps(dataset))[key])
        )
        assert (here.task, here.scale) == (there.task, there.scale)
        for name in ("source", "source_mask", "target", "ids"):
            assert torch.equal(getattr(here, name), getattr(there, name))


def test_data_used_by_another_trainer_and_module_are_planned_anew(corpus):
    data = tiny_data(corpus)
    prepared(corpus, data)
    rows = len(data.mixture.plans["translation"].lengths)
    data.trainer.accumulate_grad_batches = 1
    other = trainer(corpus / "other", max_steps=1, accumulate_grad_batches=2)
    module = tiny_module(("en-de", "de-en"))
    other.strategy._lightning_module = module
    other.state.fn = TrainerFn.FITTING
    module.trainer = data.trainer = other
    data.prepare_data()
    data.setup(TrainerFn.FITTING)
    assert data.mixture.parts == 2
    assert len(data.mixture.plans["translation"].lengths) == 2 * rows


def test_other_accumulation_than_planned_is_refused(corpus):
    with pytest.raises(InputError, match=r"laid for 1 micro-batches a step, now it is 2; .*Scheduler"):
        fit(corpus, callbacks=[GradientAccumulationScheduler({0: 2})])
    with pytest.raises(InputError, match="laid for 1 micro-batches a step, now it is 2"):
        fit(corpus, callbacks=[GradientAccumulationScheduler({1: 2})], max_steps=100)


def test_overfit_batches_is_refused_in_a_line(corpus):
    with pytest.raises(InputError, match="train on a file of few rows"):
        fit(corpus, overfit_batches=2)


@pytest.mark.parametrize("limit", [0.5, 3])
def test_a_part_of_an_epoch_is_refused_in_a_line(corpus, limit):
    with pytest.raises(
        InputError, match="limit_train_batches cannot choose among the steps of the plan; set max_steps"
    ):
        fit(corpus, limit_train_batches=limit)


def test_a_resume_with_as_many_rows_of_other_lengths_is_refused(corpus):
    saved = prepared(corpus, tiny_data(corpus, too_long="cut")).state_dict()
    prepared(corpus, tiny_data(corpus, too_long="cut")).load_state_dict(saved)
    with pytest.raises(InputError, match="lengths of the rows"):
        prepared(corpus, tiny_data(corpus, too_long="cut", max_length=5)).load_state_dict(saved)
    write(corpus, "train", [(f"{i}", f"{i}") for i in range(ROWS["train"])])
    with pytest.raises(InputError, match="lengths of the rows"):
        prepared(corpus, tiny_data(corpus, too_long="cut")).load_state_dict(saved)


def test_texts_longer_than_the_backbone_reads_are_refused_before_they_come(corpus):
    short = tiny_backbone(max_length=12)
    with pytest.raises(InputError, match=r"translation may have texts of 256 tokens, .* set data.max_length to 12"):
        prepared(corpus, tiny_data(corpus), module=tiny_module(backbone=short))
    prepared(corpus, tiny_data(corpus, max_length=12), module=tiny_module(backbone=short))
    prepared(corpus, tiny_data(corpus), module=tiny_module(backbone=tiny_backbone(max_length=12, positions="relative")))


@pytest.mark.parametrize("fault", ["no validation.de", "no column in test", "no scorer"])
def test_faults_show_before_the_tokenizer_is_trained(corpus, monkeypatch, fault):
    rows, expected = tiny_rows(corpus), "needs a package"
    if fault == "no validation.de":
        (corpus / "validation.de").unlink()
        expected = r"validation\.de: no such file"
    elif fault == "no column in test":
        (corpus / "test.csv").write_text("en,nl\na,b\n", encoding="utf-8")
        rows, expected = tiny_rows(corpus, test=str(corpus / "test.csv")), r"test\.csv.*no column 'de'"
    else:

        def missing(self):
            raise InputError("ja-mecab needs a package")

        monkeypatch.setattr(TranslationTask, "signatures", missing)
    module = tiny_module()
    monkeypatch.setattr(module, "train_tokenizer", lambda *_: pytest.fail("the tokenizer was trained"))
    with pytest.raises(InputError, match=expected):
        prepared(corpus, tiny_data(corpus, rows=rows), module=module)


def test_cutting_keeps_the_end_token(corpus):
    write(corpus, "train", [("a b c d e f", "f e d c b a"), ("a", "b")])
    data = prepared(corpus, tiny_data(corpus, max_length=6, too_long="cut"))
    batch = data.examples["train"]["translation"].batch([0, 1])
    tokenizer = data._module().tokenizer
    assert batch.source[0].tolist() == [*tokenizer.encode("a b c d e f")[:5], tokenizer.eos_id]
    assert batch.target[0].tolist() == [*tokenizer.encode("f e d c b a")[:5], tokenizer.eos_id]
    assert batch.source[1, :2].tolist() == [*tokenizer.encode("a"), tokenizer.eos_id][:2]


def test_evaluation_keeps_all_rows_that_have_a_reference(corpus):
    write(corpus, "validation", [("a b c d e f", "f e d c b a"), ("a", "b"), ("c", ""), ("", "d"), ("e", "f")])
    data = prepared(corpus, tiny_data(corpus, max_length=6))
    ids = [int(row) for batch in data.val_dataloader() for row in batch.ids]
    assert sorted(example.row for example in data.examples["validation"]["translation"].tokenized.examples(ids)) == [
        0,
        1,
        4,
    ]


def test_batches_are_padded_on_the_right_and_their_masks_say_where(corpus):
    data = prepared(corpus, tiny_data(corpus))
    encoded = data.examples["train"]["translation"].tokenized
    for (batch,) in data.train_dataloader():
        assert batch.source.shape == batch.source_mask.shape
        assert batch.source.dtype == batch.target.dtype == batch.ids.dtype == torch.int64
        for i, row in enumerate(batch.ids.tolist()):
            source, target = encoded.source[row], encoded.target[row]
            assert batch.source[i][batch.source_mask[i]].tolist() == source.tolist()
            assert batch.source_mask[i].tolist() == [True] * len(source) + [False] * (
                batch.source.size(1) - len(source)
            )
            assert not batch.source[i, len(source) :].any()
            assert batch.target[i].tolist() == [*target, *[IGNORE] * (batch.target.size(1) - len(target))]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_has_each_row_once_and_scales_to_the_mean(corpus, workers):
    data = prepared(corpus, tiny_data(corpus, workers=workers))
    batches = [batch for (batch,) in data.train_dataloader()]
    assert sorted(int(row) for batch in batches for row in batch.ids) == list(range(ROWS["train"]))
    assert len(batches) == len(data.train_dataloader()) == data.mixture.steps_per_epoch
    assert all(batch.scale * int((batch.target != IGNORE).sum()) == pytest.approx(1) for batch in batches)


@pytest.mark.slow
def test_workers_that_are_left_do_not_keep_a_program_from_ending(corpus):
    code = f"""
from pathlib import Path
from test_data_module import prepared, tiny_data
corpus = Path({str(corpus)!r})
loader = prepared(corpus, tiny_data(corpus, workers=1)).train_dataloader()
print(sum(len(batch) for (batch,) in loader))
"""
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (here, here.parent)))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == [str(ROWS["train"])]


def test_prediction_needs_the_source_column_only(corpus):
    (corpus / "lonely.en").write_text("a b\n\nc\n", encoding="utf-8")
    module = tiny_module()
    data = prepared(
        corpus, tiny_data(corpus, rows=tiny_rows(corpus, predict=str(corpus / "lonely.{lang}"))), "predict", module
    )
    (batch,) = data.predict_dataloader()
    assert sorted(
        example.row for example in data.examples["predict"]["translation"].tokenized.examples(batch.ids.tolist())
    ) == [
        0,
        2,
    ]
    assert batch.target.shape == (2, 0)


def test_ids_are_made_once_for_the_same_file_task_and_tokenizer(corpus, tokenizer, monkeypatch):
    first = tiny_data(corpus).encode("train", TASK, tokenizer)
    with monkeypatch.context() as patch:
        patch.setattr(lmtasks.data.readers.parallel, "read_lines", lambda path: pytest.fail("the rows were read again"))
        again = tiny_data(corpus).encode("train", TASK, tokenizer)
    assert [row.tolist() for row in map(first.source.__getitem__, range(40))] == [
        again.source[i].tolist() for i in range(40)
    ]
    assert len(list((corpus / "cache").iterdir())) == 1


def test_another_file_task_or_tokenizer_is_tokenised_anew(corpus, tokenizer):
    data = tiny_data(corpus)
    data.encode("train", TASK, tokenizer)
    data.encode("train", TranslationTask(("de-en",)), tokenizer)
    data.encode("train", TASK, Tokenizer.train([], TokenizerConfig("byte"), ["fr"]))
    data.encode("validation", TASK, tokenizer)
    write(corpus, "train", [("x", "y")])
    assert len(data.encode("train", TASK, tokenizer)) == 1
    assert len(list((corpus / "cache").iterdir())) == 5


def test_a_failed_tokenising_leaves_nothing_behind(corpus, tokenizer):
    (corpus / "train.de").write_text("a\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"train\.en has 40 lines.*train\.de has 1 line"):
        tiny_data(corpus).encode("train", TASK, tokenizer)
    assert list((corpus / "cache").iterdir()) == []


def test_two_that_tokenise_the_same_at_once_do_not_meet(corpus, tokenizer):
    once = tiny_data(corpus).encode("train", TASK, tokenizer)
    file = corpus / "cache" / "other.arrow"

    def rows():
        yield {"en": "a", "de": "b"}
        encode([{"en": "a", "de": "b"}], TASK.examples, tokenizer, file)  # another process, of the same number

    assert len(encode(rows(), TASK.examples, tokenizer, file)) == 1 < len(once)
    assert not list(file.parent.glob("*.tmp"))


def test_more_rows_than_one_arrow_batch_keep_their_numbers(corpus, tokenizer):
    write(corpus, "train", [(f"{i}" if i % 7 else "", f"{i}") for i in range(4100)])
    encoded = tiny_data(corpus).encode("train", TASK, tokenizer)
    examples = encoded.examples(range(len(encoded)))
    assert [example.row for example in examples] == [i for i in range(4100) if i % 7]
    assert [example.text for example in examples] == [f"{i}" for i in range(4100) if i % 7]
    for i in (0, 1999, 2000, len(examples) - 1):
        assert tokenizer.decode(encoded.source[i].tolist()) == examples[i].text


def test_fit_without_a_train_split_says_what_to_set(corpus):
    with pytest.raises(InputError, match="train"):
        fit(corpus, data=tiny_data(corpus, rows=tiny_rows(corpus, train=None)))


def test_a_stage_without_its_split_says_what_to_set(corpus, trained):
    data = tiny_data(corpus, rows=tiny_rows(corpus, test=None))
    with pytest.raises(InputError, match=r"test needs the split 'test'; set data\.rows\.test"):
        trainer(corpus).test(trained, datamodule=data)


def test_a_wrong_column_is_named_with_its_file(corpus):
    table = corpus / "train.csv"
    table.write_text("en,nl\na,b\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"train\.csv.*de"):
        fit(corpus, data=tiny_data(corpus, rows=ParallelText(train=str(table))))


def test_rows_that_are_all_too_long_are_refused(corpus):
    with pytest.raises(InputError, match=r"train\.\{lang\}: all 40 rows have .*longer than 1 tokens"):
        fit(corpus, data=tiny_data(corpus, max_length=1))


def test_a_file_of_blank_rows_is_refused(corpus):
    write(corpus, "train", [("", ""), (" ", "a")])
    with pytest.raises(InputError, match="no row has anything"):
        fit(corpus, data=tiny_data(corpus))


def test_fewer_evaluation_rows_than_processes_are_refused(corpus, monkeypatch):
    data = prepared(corpus, tiny_data(corpus))
    monkeypatch.setattr(Trainer, "world_size", 12)
    with pytest.raises(InputError, match="11 rows with text and label for 12 processes"):
        data.val_dataloader()


@pytest.mark.parametrize("split", ["validation", "test"])
def test_fewer_evaluation_rows_than_processes_are_refused_before_the_training(corpus, monkeypatch, split):
    write(corpus, split, [("a", "b"), ("c", "d"), ("e", ""), ("", "f")])
    monkeypatch.setattr(Trainer, "world_size", 3)
    with pytest.raises(InputError, match=rf"{split}.{{lang}}: 2 rows with text and label for 3 processes; give more"):
        prepared(corpus, tiny_data(corpus))


def test_fewer_training_rows_than_processes_are_refused_in_a_line(corpus, monkeypatch):
    write(corpus, "train", [("a", "b"), ("c", "d")])
    monkeypatch.setattr(Trainer, "world_size", 3)
    with pytest.raises(InputError, match=r"2 training rows cannot be split into 3 micro-batches per step"):
        prepared(corpus, tiny_data(corpus))


NO_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:119] . DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    MemoryError("Unable to allocate 2.00 GiB for an array"),
)


@pytest.mark.parametrize("error", NO_MEMORY)
def test_a_batch_that_does_not_fit_tells_what_would(corpus, monkeypatch, error):
    def full(*given):
        raise error

    module, data = tiny_module(), tiny_data(corpus, max_length=20)
    monkeypatch.setattr(module, "training_step", full)
    with pytest.raises(type(error)) as found:
        fit(corpus, module, data, accumulate_grad_batches=2)
    assert found.value.__notes__[-1] == (
        "memory ran out: a batch of 80 padded tokens (data.tokens_per_step) in 2 micro-batches does not fit; "
        "--trainer.accumulate_grad_batches 4 takes the same steps in half the memory; "
        "or set --data.tokens_per_step 40"
    )
    module = fit(corpus)
    monkeypatch.setattr(module, "test_step", full)
    with pytest.raises(type(error)) as found:
        module.trainer.test(module, datamodule=tiny_data(corpus))
    assert found.value.__notes__[-1] == (
        "memory ran out: a batch of 60 padded tokens (data.tokens_per_batch) does not fit; "
        "set --data.tokens_per_batch 30; or --data.max_length 128"
    )


def test_the_trainer_is_kept_from_dealing_the_rows_out_again(corpus):
    data = prepared(corpus, tiny_data(corpus), "validate")
    assert not data.trainer._accelerator_connector.use_distributed_sampler


def test_the_corpus_is_the_same_each_time(tmp_path):
    one, two = write_corpus(tmp_path / "one"), write_corpus(tmp_path / "two")
    assert (one / "train.en").read_bytes() == (two / "train.en").read_bytes()


@pytest.mark.parametrize("name", ["tokens_per_step", "tokens_per_batch", "max_length"])
def test_a_budget_without_tokens_is_refused(corpus, name):
    with pytest.raises(InputError, match=f"^data.{name} is 0; give a number of tokens above 0"):
        tiny_data(corpus, **{name: 0})


class Counted(Table):
    """A table that counts how often its training rows were read to the end."""

    def rows(self, split, columns):
        yield from super().rows(split, columns)
        READ.append(split)


READ = []


def test_the_rows_of_a_task_that_learns_from_them_are_read_once_for_labels_and_tokenizer(tmp_path):
    for split in ("train", "validation"):
        (tmp_path / f"{split}.csv").write_text("text,label\n" + "a b,x\nc d,y\n" * 6)
    READ.clear()
    module = ClassificationModule(
        backbone=tiny_backbone(decoder_layers=0), training=Training(schedule=Schedule("constant", warmup=0)),
        tokenizer=TokenizerConfig(vocab_size=270),
    )  # fmt: skip
    rows = Counted(str(tmp_path / "train.csv"), str(tmp_path / "validation.csv"))
    fit(tmp_path, module, TextDataModule(rows, cache=str(tmp_path / "cache")))
    assert READ.count("train") == 2  # labels and tokenizer, then the ids
    assert module.tasks["classification"].labels == ("x", "y")
    assert len(module.tokenizer) > 259  # it learned from the texts


def table(folder: Path, name: str, rows: list[dict]) -> str:
    (folder / name).write_text("\n".join(map(json.dumps, rows)))
    return str(folder / name)


def classifier(
    corpus: Path, train: list[dict], validation: list[dict] | None = None, **settings: Any
) -> TextDataModule:
    """Prepare a training on labelled rows."""
    rows = Table(table(corpus, "a.jsonl", train), table(corpus, "b.jsonl", validation) if validation else None)
    module = ClassificationModule(backbone=tiny_backbone(decoder_layers=0), tokenizer=TokenizerConfig("byte"))
    return prepared(corpus, TextDataModule(rows, cache=str(corpus / "cache"), **settings), module=module)


GOOD = [{"text": f"text {number}", "label": label} for number, label in enumerate(["x", "y"] * 5)]


def test_what_people_should_know_of_the_rows_is_said_before_training(corpus, caplog):
    train = [*GOOD, {"text": "text 0", "label": "x"}, {"text": "text 1", "label": "X"}, {"text": "text", "label": "z"}]
    with caplog.at_level(logging.INFO, "lmtasks"):
        classifier(corpus, train, [GOOD[0], {"text": "new", "label": "y"}])
    assert "train: labels: x 6, y 5, X 1 and z 1" in caplog.text
    assert "the labels 'x' and 'X' differ only in their form: are they one?" in caplog.text
    assert "labels of a single row: X and z" in caplog.text
    assert "2 of 13 rows repeat the text of another, such as 'text 0' (2 times)" in caplog.text
    assert "1 texts have different answers, such as 'text 1' (2 times)" in caplog.text
    assert "1 of 2 validation rows have a text that is in the training rows too" in caplog.text


def test_clean_rows_raise_no_doubt(corpus, caplog):
    with caplog.at_level(logging.WARNING, "lmtasks"):
        classifier(corpus, GOOD, [{"text": "new", "label": "y"}])
    assert caplog.messages == []


def test_all_rows_of_a_wrong_form_are_told_together(corpus):
    wrong = [{"text": "a", "label": ["x"]}, {"text": ["b"], "label": "x"}, {"text": {"c": 1}, "label": "x"}]
    with pytest.raises(InputError, match=r"a\.jsonl: 3 faults: row 11, column 'label'.*row 12, column 'text'.*row 13"):
        classifier(corpus, GOOD + wrong, GOOD)
    with pytest.raises(InputError, match=r"b\.jsonl: 2 faults: row 2, column 'label': 'X' .* \(but 'x' is\).* row 3"):
        classifier(corpus, GOOD, [GOOD[0], {"text": "a", "label": "X"}, {"text": "b", "label": "w"}])


def test_rows_without_a_label_are_placed(corpus, caplog):
    with caplog.at_level(logging.INFO, "lmtasks"):
        classifier(corpus, [{"text": "a"}, *GOOD, {"text": "b", "label": None}, {"text": " ", "label": "x"}], GOOD)
    assert "no text: 1 (row 13), no label: 2 (row 1, row 12)" in logged(caplog, "train")


def test_a_share_of_the_training_rows_is_set_aside(corpus, caplog):
    train = [{"text": f"text {number // 2}", "label": "xy"[number // 2 % 2]} for number in range(400)]
    with caplog.at_level(logging.INFO, "lmtasks"):
        data = classifier(corpus, train, validation_share=0.2)
    splits = {split: data.examples[split]["classification"].tokenized for split in ("train", "validation")}
    texts = {split: {*each.column("text").to_pylist()} for split, each in splits.items()}
    assert not texts["train"] & texts["validation"]
    assert len(texts["train"] | texts["validation"]) == 200
    assert 20 < len(texts["validation"]) < 60
    assert "validation rows have a text" not in caplog.text
    own = Table("a.jsonl", "b.jsonl")
    assert TextDataModule(own, validation_share=0.5).rows is own
    with pytest.raises(InputError, match=r"data\.validation_share is 2; give a share"):
        TextDataModule(own, validation_share=2)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_file_does_not_go_with_a_hub_set_of_the_config(corpus, split):
    rows = Table(table(corpus, "a.jsonl", GOOD), **{split: "owner/name"})
    with pytest.raises(InputError, match=rf"give --data\.rows\.{split} a file, or null for none"):
        prepared(corpus, TextDataModule(rows), module=ClassificationModule(backbone=tiny_backbone(decoder_layers=0)))


@pytest.mark.parametrize("too_long", ["drop", "cut"])
def test_texts_of_100_000_characters_bound_the_batches_of_training_and_evaluation(corpus, too_long):
    long = [("ab " * 33_334, "a b")]
    write(corpus, "train", [("a b", "b a")] * 20 + long)
    for split in ("validation", "test"):
        write(corpus, split, [("a b", "b a")] * 3 + long)
    data = tiny_data(corpus, max_length=64, too_long=too_long)
    module = fit(corpus, data=data, limit_val_batches=1.0, val_check_interval=1)
    module.trainer.test(module, datamodule=data)
    assert len(data.examples["train"]["translation"]) == 20 + (too_long == "cut")
    assert len(data.examples["test"]["translation"]) == 4  # an evaluation leaves no row out
    for loader in (data.train_dataloader(), data.test_dataloader()):
        batches = [batch if isinstance(batch, Batch) else batch[0] for batch in loader]
        assert max(batch.source.numel() for batch in batches) <= 80
