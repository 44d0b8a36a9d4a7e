"""The model card, push, and who may read the files of a model folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import yaml
from test_export import MODELS
from tiny import several_data, several_module, several_rows, write_tasks

from lmtasks.cli.main import main
from lmtasks.errors import InputError
from lmtasks.storage.card import Portion, Story, count, model_card
from lmtasks.storage.model_folder import load, save
from lmtasks.tasks.answering import SpanAnsweringTask
from lmtasks.tasks.base import listed
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.tasks.dialogue import DialogueTask
from lmtasks.tasks.free_answering import FreeAnsweringTask
from lmtasks.tasks.generation import GenerationTask
from lmtasks.tasks.summarisation import SummarisationTask
from lmtasks.tasks.tagging import TaggingTask
from lmtasks.tasks.text_to_text import TextToTextTask
from lmtasks.tasks.translation import TranslationTask

STORY = Story(
    (
        Portion("translation", "train", "en-de.csv", 1, "0123456789ab"),
        Portion("translation", "test", "anna/pairs", 200, "ba9876543210"),
    ),
    settings="Adam at a rate of 0.002.", cost="The training took 3 min on 1 device (cpu).", base="anna/small@1f2e",
    chosen_by=("translation",),
)  # fmt: skip


def test_the_card_tells_what_is_known_in_words():
    scores = {"test/translation/bleu": 12.345, "test/translation/bleu_en-de": 12.345, "test/score": 12.345}
    card = model_card(MODELS["translation"](), "captions", scores, STORY)
    for text in (
        "Translates English into German and French.",
        "Transformer with 2 encoder layers and 2 decoder layers of width 32",
        'model.translate("A sentence.", target="de")',
        "lmtasks run FOLDER",
        "lmtasks export FOLDER --to ct2",
        "It began with the weights of anna/small@1f2e. Adam at a rate of 0.002. The training took 3 min",
        "| train | `en-de.csv` | 1 | 0123456789ab |",
        "| test | bleu | **12.35** |",
        "| test | bleu_en-de | 12.35 | `nrefs:1\\|case:mixed",
        "A text of more than 1,024 tokens is cut.",
        "It learned from 1 row only",
        "so it is too high",
    ):
        assert text in card, text
    for text in ("TranslationTask", "TransformerConfig", "directions", "test/score"):
        assert text not in card


def test_the_header_is_that_of_the_hub():
    card = model_card(MODELS["translation"](), "captions", {"test/translation/bleu": 12.345}, STORY)
    header = yaml.safe_load(card.split("---")[1])
    assert header["library_name"] == "lmtasks"
    assert header["pipeline_tag"] == "translation"
    assert header["language"] == ["en", "de", "fr"]
    assert header["datasets"] == ["anna/pairs"]
    assert header["base_model"] == "anna/small"
    assert header["model-index"][0]["results"][0]["metrics"] == [{"type": "bleu", "value": 12.35}]
    assert "license" not in header


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
        (TaggingTask(labels=("LOC",)), "Finds names in a text, and says of which kind each is: LOC."),
    ],
)
def test_a_task_says_what_it_does(task, sentence):
    assert task.sentence == sentence


def test_numbers_and_lists_read_well():
    assert (count(1, "row"), count(2000, "row")) == ("1 row", "2,000 rows")
    assert listed([]) == ""
    assert listed(["a"]) == "a"
    assert listed([str(i) for i in range(20)], shown=2) == "0, 1 and 18 more"


def test_a_run_tells_its_story_in_the_card_and_in_info(tmp_path, monkeypatch, capsys):
    from lightning.pytorch import Trainer
    from tiny import QUIET

    from lmtasks.cli.after_fit import finish
    from lmtasks.training.callbacks.checkpoints import Checkpoints

    folder = write_tasks(tmp_path / "data")
    module, data = several_module(), several_data(folder, rows=several_rows(folder))
    keep = Checkpoints("validation/score", "max", best=1)
    settings = QUIET | {"enable_checkpointing": True, "callbacks": [keep], "max_steps": 2}
    trainer = Trainer(default_root_dir=str(tmp_path / "run"), **settings)
    trainer.fit(module, data)
    finish(trainer, module, data, tmp_path / "run", None, seconds=61.0)
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "| mood | train | `moods.train.jsonl` | 31 | " in card
    assert "| translation | train | `train.de, train.en, train.fr` | 40 | " in card
    assert "2 steps of 200 padded tokens" in card
    assert "The training took 1 min on 1 device (cpu)" in card
    assert "It has several tasks:" in card
    capsys.readouterr()
    assert main(["info", str(tmp_path / "run")]) == 0
    told = capsys.readouterr().out
    assert "mood: Says which of 2 labels a text has: bad and good." in told
    assert "moods.train.jsonl, 31 rows" in told
    assert "Config" not in told


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_the_umask_decides_who_may_read_a_model(tmp_path, umask):
    before = os.umask(umask)
    try:
        folder = save(MODELS["classification"](), tmp_path / "model")
        load(folder, engine="ct2")
    finally:
        os.umask(before)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"model.safetensors", "heads.safetensors", "model.bin", "README.md"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o666 & ~umask}


class Hub:
    """A hub that keeps what it is given."""

    endpoint = "https://hub.example"

    def __init__(self, **settings):
        assert settings == {"library_name": "lmtasks"}

    def create_repo(self, name, private, exist_ok):
        self.made.append((name, private))

    def create_branch(self, name, branch, exist_ok):
        self.made.append((name, branch))

    def upload_folder(self, repo_id, folder_path, allow_patterns, revision, commit_message):
        self.given[repo_id] = {name: (Path(folder_path) / name).read_bytes() for name in allow_patterns}


@pytest.fixture
def hub(monkeypatch):
    """What a fake hub was given."""
    Hub.made, Hub.given = [], {}
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    return Hub


def test_push_uploads_the_model_and_its_card_and_nothing_else(hub, tmp_path, capsys):
    folder = save(MODELS["classification"](), tmp_path / "run" / "model")
    (folder / "notes.txt").write_text("mine")
    (tmp_path / "run" / "checkpoints").mkdir()
    assert main(["push", str(tmp_path / "run"), "anna/mood", "--private", "--revision", "v2"]) == 0
    assert set(hub.given["anna/mood"]) == {
        "README.md",
        "config.json",
        "metrics.json",
        "model.safetensors",
        "tokenizer.json",
    }
    assert hub.made == [("anna/mood", True), ("anna/mood", "v2")]
    assert capsys.readouterr().out.endswith("https://hub.example/anna/mood\n")


def test_push_takes_an_export(hub, tmp_path):
    from lmtasks.export.export import export_model

    export_model(MODELS["classification"](), "ct2", tmp_path / "out")
    assert main(["push", str(tmp_path / "out"), "anna/mood"]) == 0
    assert {"model.bin", "lmtasks.json", "run.py"} <= set(hub.given["anna/mood"])


def test_what_the_hub_refuses_is_one_line(hub, tmp_path, monkeypatch, capsys):
    def refuse(self, *arguments, **settings):
        raise RuntimeError("401 Client Error:\nUnauthorized")

    folder = save(MODELS["classification"](), tmp_path / "model")
    monkeypatch.setattr(Hub, "create_repo", refuse)
    assert main(["push", str(folder), "anna/mood"]) == 2
    told = capsys.readouterr().err
    assert (
        "anna/mood: the hub did not take it (401 Client Error: Unauthorized); it needs a network, and a token" in told
    )
    assert told.count("\n") == 1
    assert main(["push", str(folder), "mood"]) == 2
    assert "'mood' is no name on the hub" in capsys.readouterr().err


def test_a_model_of_ours_loads_from_the_hub(tmp_path, monkeypatch):
    folder = save(MODELS["classification"](), tmp_path / "model")

    def download(self, file):
        path = folder / file
        return path if path.is_file() else None

    monkeypatch.setattr("lmtasks.pretrained.folder.Folder._download", download)
    found = load("anna/mood")
    assert found.probabilities("Anna") == load(folder).probabilities("Anna")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"a model folder of lmtasks without tokenizer\.json"):
        load("anna/mood")
