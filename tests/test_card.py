"""The model card, the story that it tells, and who may read the files of a model folder."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from test_export import MODELS
from tiny import QUIET, several_data, several_module, several_rows, tiny_backbone, write_tasks

from lmtasks.backbones.lora import LoRA
from lmtasks.cli.after_fit import finish
from lmtasks.cli.main import main
from lmtasks.export.export import export_model
from lmtasks.storage.card import model_card, training
from lmtasks.storage.checkpoint import read
from lmtasks.storage.model_folder import load, save
from lmtasks.story import Portion, Story
from lmtasks.tasks.answering import SpanAnsweringTask
from lmtasks.tasks.base import Task, listed
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.tasks.dialogue import DialogueTask
from lmtasks.tasks.free_answering import FreeAnsweringTask
from lmtasks.tasks.generation import GenerationTask
from lmtasks.tasks.summarisation import SummarisationTask
from lmtasks.tasks.tagging import TaggingTask
from lmtasks.tasks.text_to_text import TextToTextTask
from lmtasks.tasks.translation import TranslationTask
from lmtasks.text.tokenizer import Tokenizer, TokenizerConfig
from lmtasks.training.callbacks.checkpoints import Checkpoints, SafeCheckpointIO
from lmtasks.training.config import Training
from lmtasks.training.datamodule import TextDataModule
from lmtasks.training.init_from import adapt
from lmtasks.training.module import TaskModule
from lmtasks.training.optim.optimizers import Adam

STORY = Story(
    (
        Portion("translation", "train", "data/en-de.csv", 1, "0123456789ab", size=70),
        Portion("translation", "validation", "anna/pairs:small", 200, "ba9876543210", hub=True),
        Portion("translation", "test", "data/test.csv", 300, "ab0123456789"),
    ),
    base=f"anna/small@{'1f2e' * 10}", steps=2000, kept_step=1800, tokens_per_step=4096, max_length=256,
    too_long="drop", precision="32-true", seed=1, order_seed=2, seconds=200.0, machine="a CPU with 1 thread",
    memory=10**9,
)  # fmt: skip


def told(scores: dict[str, float], story: Story = STORY) -> str:
    """Return the card of a small translator."""
    module = TaskModule.of(MODELS["translation"](), Training(Adam(0.002)))
    module.story = story
    return model_card(module, "captions", scores)


def test_the_card_tells_what_is_known_in_words():
    scores = {"validation/translation/bleu": 12.345, "validation/translation/bleu_en-de": 12.345, "validation/score": 1}
    card = told(scores)
    for text in (
        "Translates English into German and French.",
        "Transformer, 2 encoder layers and 2 decoder layers of width 32, ",
        'model.translate("A sentence.", target="de")',
        "lmtasks run MODEL",
        "lmtasks export MODEL --to onnx",
        f"It began with the weights of {STORY.base}. Adam at a rate of 0.002, inverse square root schedule, ",
        "2,000 steps of 4,096 tokens, padding counted, precision 32-true, seed 1, seed 2 of the order of the rows. ",
        "The weights are those after step 1,800. The training took 3.3 minutes on a CPU with 1 thread. ",
        "The most memory that a process took was 1.0 GB.",
        "| train | `data/en-de.csv` | 1 | 0.1 kB | 0123456789ab |",
        "| validation | `anna/pairs:small` | 200 |  | ba9876543210 |",
        "| validation | bleu | **12.35** | the mean of bleu_en-de and bleu_en-fr |",
        "| validation | bleu_en-de | 12.35 | `nrefs:1\\|case:mixed",
        "A text of more than 1,024 tokens is cut.",
        "texts of more than 256 tokens were left out.",
        "It learned from 1 row only",
        "Its scores are of the validation rows, by which the best checkpoint was chosen",
        "Choose one that its data and its base model, anna/small, allow",
    ):
        assert text in card, text
    for text in ("TranslationTask", "TransformerConfig", "directions", "validation/score", "data/test.csv", "None"):
        assert text not in card, text


def test_the_card_tells_of_test_rows_once_they_are_scored():
    card = told({"test/translation/bleu": 12.345})
    assert "| test | `data/test.csv` | 300 |" in card
    assert "likely too high" not in card
    assert "No scores of it are known." in told({})


def test_the_card_of_a_model_of_unknown_origin_claims_nothing():
    card = told({}, Story())
    for text in ("## Training", "## Scores", "It began", "base_model", "datasets", "metrics", " 0 "):
        assert text not in card, text


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 second"), (119, "119 seconds"), (120, "2.0 minutes"), (9000, "2.5 hours")]
)
def test_a_time_has_a_fitting_unit(seconds, words):
    assert f"took {words} on" in told({}, replace(STORY, seconds=seconds))


def test_the_header_is_that_of_the_hub():
    header = yaml.safe_load(told({"validation/translation/bleu": 12.345}).split("---")[1])
    assert header["library_name"] == "lmtasks"
    assert header["pipeline_tag"] == "translation"
    assert header["language"] == ["en", "de", "fr"]
    assert header["datasets"] == ["anna/pairs"]  # and not data/en-de.csv, which looks like the id of a set
    assert header["base_model"] == "anna/small"
    assert header["metrics"] == ["bleu"]
    (result,) = header["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "bleu", "value": 12.35}]
    assert result["dataset"] == {"name": "anna/pairs:small", "type": "anna/pairs", "split": "validation"}
    assert "license" not in header


def test_a_path_is_no_base_model_on_the_hub():
    assert "base_model" not in told({}, replace(STORY, base="runs/first"))


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        (TranslationTask(("en-de", "de-en")), "Translates English into German and German into English."),
        (TranslationTask((), ("en", "de", "xx")), "Translates between any two of 3 languages: English, German and xx."),
        (GenerationTask(), "Continues a text, as a language model does."),
        (GenerationTask(prompt=8), "Continues a text, of which it reads the last 8 tokens."),
        (TextToTextTask(), "Writes what a text asks for."),
        (DialogueTask(), "Replies to the last turn of a dialogue."),
        (SummarisationTask(), "Summarises a text."),
        (FreeAnsweringTask(), "Answers a question about a text in words of its own."),
        (SpanAnsweringTask(), "Finds the answer to a question in a text."),
        (SpanAnsweringTask(no_answer=True), "Finds the answer to a question in a text, or that the text has none."),
        (ClassificationTask(labels=("bad", "good")), "Says which of 2 labels a text has: bad and good."),
        (
            ClassificationTask(labels=("a", "b", "c"), multi_label=True, pair=True),
            "Says which of 3 labels, one, several or none, two texts have together: a, b and c.",
        ),
        (ClassificationTask(labels=("toxic",), multi_label=True), "Says whether a text has the label toxic."),
        (TaggingTask(labels=("LOC",)), "Finds names in a text, and says of which kind each is: LOC."),
        (TaggingTask(labels=("",)), "Finds names in a text."),
    ],
)
def test_a_task_says_what_it_does(task, sentence):
    assert task.sentence == sentence


def card_of(tasks: dict[str, Task], training: Training = Training()) -> str:
    """Return the card of a tiny Transformer with these tasks, which has been trained for a step."""
    marks = [f"<task-{name}>" for name in tasks]
    module = TaskModule(tasks, tiny_backbone(), training=training)
    module.build(Tokenizer.train([], TokenizerConfig("byte"), ["de", "fr"], [*marks, "<user>", "<model>"]))
    module.story = Story(steps=1, max_length=256, too_long="drop", precision="32-true", machine="a CPU with 1 thread")
    return model_card(module, "tiny", {})


@pytest.mark.parametrize(
    ("task", "limit"),
    [
        (SpanAnsweringTask(window=64), "It reads a long text in windows of 64 tokens; an answer has 30 at most."),
        (DialogueTask(history=64), "It reads the last turns of a dialogue, 64 tokens at most."),
        (GenerationTask(block=64, prompt=8), "It writes what is likely, and not what is true"),
    ],
)
def test_what_cuts_texts_itself_is_not_said_to_cut_or_drop_long_ones(task, limit):
    alone, beside = card_of({"own": task}), card_of({"own": task, "mood": ClassificationTask(labels=("a", "b"))})
    assert f"- {limit}" in alone
    assert "is cut" not in alone
    assert "left out" not in alone
    assert "- mood: In training, texts of more than 256 tokens were left out." in beside


def test_labels_are_text_and_no_markup():
    card = card_of({"mood": ClassificationTask(labels=("<b>", "__label__a", "a_b", "*"))})
    assert r"has: \<b>, \__label__a, a_b and \*." in card


def test_the_card_says_which_parts_were_not_trained():
    card = card_of({"mood": ClassificationTask(labels=("a", "b"))}, Training(freeze=("backbone.embedding",)))
    assert " backbone.embedding was not trained." in card
    module = TaskModule.of(MODELS["classification"](), Training(lora=LoRA(rank=2)))
    module.story = STORY
    assert "Of the backbone only adapters were trained: LoRA of rank 2." in model_card(module, "tiny", {})


def test_a_story_of_a_later_version_is_read_as_far_as_it_is_known():
    plain = STORY.plain()
    plain["weather"] = plain["data"][0]["smell"] = "fine"
    assert Story.of(plain) == STORY


def test_lists_read_well():
    assert listed([]) == ""
    assert listed(["a"]) == "a"
    assert listed([str(i) for i in range(20)], shown=2) == "0, 1 and 18 more"


def trained(folder: Path, steps: int = 2) -> tuple[Trainer, TaskModule, TextDataModule]:
    """Train several tasks for a few steps."""
    data_folder = write_tasks(folder / "data")
    module, data = several_module(), several_data(data_folder, rows=several_rows(data_folder))
    keep = Checkpoints("validation/score", "max", best=1)
    settings = QUIET | {"enable_checkpointing": True, "callbacks": [keep], "plugins": [SafeCheckpointIO()]}
    return Trainer(default_root_dir=str(folder / "run"), max_steps=steps, **settings), module, data


def test_a_run_tells_its_story_in_the_card_and_in_info(tmp_path, capsys):
    trainer, module, data = trained(tmp_path)
    trainer.fit(module, data)
    finish(trainer, module, data, tmp_path / "run", None)
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    files = [tmp_path / "data" / name for name in ("moods.train.jsonl", "train.en", "train.de")]
    moods, *pair = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    both = hashlib.sha256("".join(pair).encode()).hexdigest()  # and not that of train.fr, which is not read
    sizes = [f"{sum(file.stat().st_size for file in own) / 1000:.1f} kB" for own in (files[:1], files[1:])]
    assert f"| mood | train | `moods.train.jsonl` | 31 | {sizes[0]} | {moods[:12]} |" in card
    assert f"| translation | train | `train.{{lang}}` | 40 | {sizes[1]} | {both[:12]} |" in card
    assert "2 steps of 200 tokens" in card
    assert "The weights are those after step 2." in card
    assert " on a CPU with 1 thread." in card
    assert "It has several tasks:" in card
    (calls,) = re.findall(r'lmtasks.load\("MODEL"\)\n(.*?)\n```', card, re.DOTALL)
    for call in calls.splitlines():
        assert eval(call, {"model": load(tmp_path / "run")}) is not None, call
    assert str(tmp_path) not in card
    capsys.readouterr()
    assert main(["info", str(tmp_path / "run")]) == 0
    told = capsys.readouterr().out
    assert "mood: Says which of 2 labels a text has: bad and good." in told
    assert "moods.train.jsonl, 31 rows" in told
    assert "Config" not in told


def test_the_story_goes_with_a_model_through_checkpoints_and_folders(tmp_path):
    trainer, module, data = trained(tmp_path)
    trainer.fit(module, data)
    story = load(tmp_path / "run").story  # of the last checkpoint
    assert [each.rows for each in story.data if each.split == "train"] == [40, 31, 31]
    assert (story.steps, story.tokens_per_step, story.precision) == (2, 200, "32-true")
    assert 0 < story.seconds <= module.story.seconds < 600
    saved = load(save(load(tmp_path / "run"), tmp_path / "one"))
    assert saved.story == story
    assert load(save(saved, tmp_path / "two")).story == story


def test_a_resumed_run_tells_the_time_and_the_steps_of_both_parts(tmp_path):
    trainer, module, data = trained(tmp_path)
    trainer.fit(module, data)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    first = replace(read(last).story, seconds=5000.0, base="anna/small@1f2e")
    checkpoint = torch.load(last, weights_only=True)
    checkpoint["lmtasks"]["story"] = first.plain()
    torch.save(checkpoint, last)
    trainer, module, data = trained(tmp_path, steps=4)
    trainer.fit(module, data, ckpt_path=last, weights_only=True)
    assert module.story.steps == 4
    assert 5000 < module.story.seconds < 5600
    assert (module.story.base, module.story.data) == (first.base, first.data)


def test_a_model_that_is_trained_further_tells_that_it_had_been_trained(tmp_path):
    trainer, module, data = trained(tmp_path)
    trainer.fit(module, data)
    trainer, _, data = trained(tmp_path / "again")
    further = TaskModule.of(load(tmp_path / "run"))
    trainer.fit(further, data)
    assert (further.story.base, further.story.base_steps) == ("", 2)
    assert "It began with the weights of a model that had been trained for 2 steps." in training(further)


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_the_umask_decides_who_may_read_what_is_written(tmp_path, umask):
    before = os.umask(umask)
    try:
        trainer, module, data = trained(tmp_path)
        trainer.fit(module, data)
        adapt(module.built()[0], LoRA())
        save(module, tmp_path / "run" / "model")
        folder = save(MODELS["classification"](), tmp_path / "model")
        for engine in ("ct2", "onnx"):
            load(folder, engine=engine)
        export_model(MODELS["translation"](), "hf", tmp_path / "export")
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    weights = {"last.ckpt", "model.safetensors", "adapter.safetensors", "heads.safetensors", "model.bin", "model.onnx"}
    assert weights <= {path.name for path in files}
    assert {path.name for path in files if stat.S_IMODE(path.stat().st_mode) != 0o666 & ~umask} == set()
