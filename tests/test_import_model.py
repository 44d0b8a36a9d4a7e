"""Models of others in use: load, run and import them, train from them, and go on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from foreign import save_t5, transformers
from tiny import several_module, several_tasks, tiny_backbone

from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.cli.main import main
from lmtasks.decoding import Decoding
from lmtasks.errors import InputError
from lmtasks.pretrained.folder import Folder
from lmtasks.pretrained.pretrained import Pretrained, PretrainedOrigin
from lmtasks.storage.model_folder import load, save
from lmtasks.tasks.answering import SpanAnsweringTask
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.tasks.tagging import TaggingTask
from lmtasks.text.tokenizer import Tokenizer, TokenizerConfig
from lmtasks.training.checks import check_precision

ROOT = Path(__file__).parent.parent
SHORT = Decoding(beam=1, max_length=5, max_ratio=0)
CONFIG = """
model:
  class_path: SummarisationModule
  init_args:
    backbone: {class_path: Pretrained, init_args: {name: NAME}}
    decoding: {beam: 1, max_length: 4}
    validation_decoding: {beam: 1, max_length: 4}
data:
  rows: {class_path: Village, init_args: {train: 8, validation: 2, test: 2}}
  max_length: 512
trainer: {max_steps: 1, log_every_n_steps: 1, accelerator: cpu}
"""


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    folder = tmp_path_factory.mktemp("t5")
    save_t5(folder)
    return folder


@pytest.fixture
def hub(t5, monkeypatch, tmp_path):
    """Let a hub that has one model, "owner/tiny" with the commit 1f2e3d, answer without a network."""
    snapshot = shutil.copytree(t5, tmp_path / "snapshots/1f2e3d")

    def download(self, file):
        if self.name != "owner/tiny":
            raise InputError(f"{self.name}: there is no such folder here, and the hub gave no such model")
        return snapshot / file if (snapshot / file).is_file() else None

    monkeypatch.setattr(Folder, "_download", download)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("hub")
def test_load_takes_a_folder_or_an_id_on_the_hub(t5):
    by_folder, by_id = load(t5), load("owner/tiny")
    assert not by_id.training
    assert by_folder.generate("the old dog", SHORT) == by_id.generate("the old dog", SHORT) != ""


@pytest.mark.usefixtures("hub")
def test_a_misspelt_name_is_a_path_unless_it_can_only_be_an_id(tmp_path):
    (tmp_path / "runs").mkdir()
    for name in ("runs/tny", "tny", "owner/tiny.ckpt"):
        with pytest.raises(InputError, match=f"^{name}: there is no such file or folder; give a run folder"):
            load(name)
    with pytest.raises(InputError, match=r"^owner/tny: there is no such folder here, and the hub gave no such model$"):
        load("owner/tny")


def test_a_language_chooses_among_the_tasks_of_translation(t5, tmp_path, capsys):
    folder = shutil.copytree(t5, tmp_path / "t5")
    config = json.loads((folder / "config.json").read_text())
    words = {"de": "translate to a : ", "fr": "translate to the : "}
    config["task_specific_params"] = {f"translation_en_to_{own}": {"prefix": words[own]} for own in words}
    (folder / "config.json").write_text(json.dumps(config))
    capsys.readouterr()
    run = ["run", str(folder), "the old dog", "--beam", "1", "--max-length", "5"]
    for own, prompt in words.items():
        assert main([*run, "--target", own]) == 0
        assert capsys.readouterr().out.strip() == load(t5).generate(f"{prompt}the old dog", SHORT)
    assert main([*run, "--target", "cs"]) == 2
    assert "no task translates to cs; choose one of translation-en-de" in capsys.readouterr().err


@pytest.mark.usefixtures("hub")
def test_the_commands_take_an_id(capsys):
    assert main(["run", "owner/tiny", "the old dog", "--beam", "1", "--max-length", "5"]) == 0
    assert capsys.readouterr().out.strip() == load("owner/tiny").generate("the old dog", SHORT)
    assert main(["info", "owner/tiny"]) == 0
    assert "Writes what a text asks for." in capsys.readouterr().out


def test_an_imported_model_needs_neither_the_original_nor_the_code_that_reads_it(t5, tmp_path, capsys):
    original = shutil.copytree(t5, tmp_path / "original")
    assert main(["import", str(original), "--output", str(tmp_path / "model")]) == 0
    assert capsys.readouterr().out.startswith(f"lmtasks run {tmp_path / 'model'} ")
    wanted = load(original).generate("the old dog", SHORT)
    shutil.rmtree(original)
    code = f"""
import sys
sys.modules["lmtasks.pretrained"] = sys.modules["transformers"] = None
import lmtasks
print(lmtasks.load({str(tmp_path / "model")!r}).generate("the old dog", lmtasks.Decoding(1, max_length=5, max_ratio=0)))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == wanted


def test_an_encoder_is_not_imported_because_it_does_nothing(tmp_path, capsys):
    config = transformers.BertConfig(vocab_size=8, hidden_size=8, num_attention_heads=2, intermediate_size=8)
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    (tmp_path / "bert/vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc")
    capsys.readouterr()
    assert main(["import", str(tmp_path / "bert"), "--output", str(tmp_path / "model")]) == 2
    assert "a bert does nothing before it is trained for a task" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


# Weights in bfloat16


def test_a_model_of_others_is_built_in_bfloat16(t5, monkeypatch):
    whole = load(t5)
    seen = []
    monkeypatch.setattr(TransformerConfig, "build", _spied(TransformerConfig.build, seen))
    half = load(t5, dtype=torch.bfloat16)
    assert seen == [torch.bfloat16]
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    assert torch.get_default_dtype() == torch.float32
    for own, other in zip(half.parameters(), whole.parameters(), strict=True):
        assert torch.equal(own, other.bfloat16())
    assert half.generate("the old dog", SHORT)
    with pytest.raises(InputError, match=r"largest number of float16; give torch.bfloat16"):
        load(t5, dtype=torch.float16)
    with pytest.raises(InputError, match=r"torch.int8 holds no floating-point numbers"):
        load(t5, dtype=torch.int8)


def _spied(build, seen):
    def spied(self, vocab_size):
        backbone = build(self, vocab_size)
        if not backbone.embedding.weight.is_meta:  # which only checks the shapes
            seen.append(backbone.embedding.weight.dtype)
        return backbone

    return spied


@pytest.mark.parametrize("positions", ["sinusoidal", "learned", "rotary", "relative"])
def test_every_task_answers_in_bfloat16(positions, tmp_path):
    tasks = several_tasks(
        mood=ClassificationTask(labels=("bad", "good")), names=TaggingTask(labels=("X",)), answering=SpanAnsweringTask()
    )
    module = several_module(tasks=tasks, backbone=tiny_backbone(positions=positions))
    module.build(Tokenizer.train([], TokenizerConfig("byte")))
    save(module, tmp_path / "model")
    model = load(tmp_path / "model", dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    model.translate("a b", decoding=SHORT), model.classify("a b"), model.tag("a b"), model.answer("a?", "b b")
    backbone, _ = model.built()
    places = {name: buffer.dtype for name, buffer in backbone.named_buffers()}
    assert set(places.values()) <= {torch.float32}


# Training


@pytest.mark.usefixtures("hub")
def test_a_run_keeps_the_commit_and_goes_on_without_the_weights(monkeypatch, tmp_path):
    (tmp_path / "own.yaml").write_text(CONFIG.replace("NAME", "owner/tiny"))
    assert main(["fit", "-c", "own.yaml"]) == 0
    config = yaml.safe_load((tmp_path / "runs/own/config.yaml").read_text())
    assert config["model"]["init_args"]["backbone"]["init_args"]["revision"] == "1f2e3d"

    def never(*arguments):
        raise AssertionError("the weights are those of the checkpoint")

    monkeypatch.setattr(PretrainedOrigin, "initialise", never)
    assert main(["fit", "-c", "runs/own", "--ckpt_path", "last", "--trainer.max_steps", "2"]) == 0
    assert main(["test", "-c", "runs/own", "--ckpt_path", "last"]) == 0
    changed = ["fit", "-c", "runs/own", "--ckpt_path", "last", "--model.backbone.dropout", "0.5"]
    assert main(changed) == 2


def test_a_t5_is_not_trained_in_float16(t5):
    config, _ = Pretrained(str(t5)).resolve()
    with pytest.raises(InputError, match=r"precision is 16-mixed, but .* set bf16-mixed or 32-true"):
        check_precision(SimpleNamespace(precision="16-mixed"), config)
    check_precision(SimpleNamespace(precision="bf16-mixed"), config)
    check_precision(SimpleNamespace(precision="16-mixed"), tiny_backbone())
