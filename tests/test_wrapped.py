"""A module of the user's own under our heads: in plain PyTorch, trained, frozen, saved and loaded; own_encoder.md."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from foreign import transformers
from test_tokenizer_contract import TEXTS, Words
from tiny import fit, several_module, tiny_data, weights
from torch import nn

from lmtasks.backbones.base import BackboneConfig
from lmtasks.backbones.wrapped import WrappedEncoder
from lmtasks.batch import Batch
from lmtasks.cli.main import main
from lmtasks.data.readers.squad import SquadFile
from lmtasks.data.readers.table import Table
from lmtasks.data.readers.tagged import TaggedWords
from lmtasks.errors import InputError
from lmtasks.heads.seq2seq import Seq2SeqHead
from lmtasks.pretrained.folder import Folder
from lmtasks.pretrained.tokenizers import word_pieces
from lmtasks.reports.description import count_parameters
from lmtasks.storage.model_folder import load, save
from lmtasks.tasks.answering import SpanAnsweringTask
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.tasks.tagging import TaggingTask

PAGE = (Path(__file__).parent.parent / "docs/own_encoder.md").read_text(encoding="utf-8")
SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
TASKS = {
    "mood": ClassificationTask(labels=("bad", "good")),
    "answers": SpanAnsweringTask(window=12, stride=3),
    "names": TaggingTask(labels=("PER", "LOC")),
}
ROWS = {
    "mood": [{"text": TEXTS[0], "label": "bad"}, {"text": "anna has the old dog", "label": "good"}] * 3,
    "answers": [{"question": TEXTS[2], "context": TEXTS[1], "answers": {"text": ["anna"], "answer_start": [0]}}] * 6,
    "names": [{"words": ["anna", "has", "rome"], "tags": ["B-PER", "O", "B-LOC"]}] * 6,
}
ROW = ROWS["mood"][0] | ROWS["answers"][0] | ROWS["names"][0] | {"answers": ["anna"], "starts": [0]}


class States(nn.Module):
    """The adapter of the page: an encoder of transformers as a module from ids and mask to states."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids, mask):
        return self.model(ids, attention_mask=mask.long()).last_hidden_state


@dataclass(frozen=True)
class Bert(BackboneConfig):
    encoder_layers: int = 1
    decoder_layers: int = 0

    def build(self, vocab_size):
        torch.manual_seed(1)
        config = transformers.BertConfig(vocab_size=vocab_size, max_position_embeddings=32, **SIZES)
        return WrappedEncoder(States(transformers.BertModel(config, add_pooling_layer=False)), 8, 32)


@pytest.fixture
def rows(tmp_path):
    """Write the rows of each task, and return the readers that read them."""
    for name, rows in ROWS.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    readers = {"mood": Table, "answers": SquadFile, "names": TaggedWords}
    return {name: reader(train=str(tmp_path / f"{name}.jsonl")) for name, reader in readers.items()}


def trained(folder, rows, **settings):
    """Train three steps on the rows of all tasks, with a tokenizer of the user's own."""
    module = several_module(tasks=TASKS, backbone=Bert(), **settings)
    module.tokenizer = Words()
    return fit(folder, module, tiny_data(folder, rows=rows, tokens_per_step=200))


@pytest.mark.parametrize("name", TASKS)
def test_a_frozen_encoder_serves_a_head_in_plain_pytorch(name):
    words = Words()
    backbone = Bert().build(len(words)).requires_grad_(False)
    assert backbone.device.type == "cpu"
    torch.manual_seed(0)
    head = TASKS[name].head(words, backbone.d_model)
    examples = TASKS[name].examples([ROW], words)
    batch = Batch.of(name, examples, words.pad_id)
    optimizer = torch.optim.Adam(head.parameters(), 0.05)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        total = head.eval().loss(backbone.eval(), batch).total
        total.backward()
        optimizer.step()
        losses.append(total.item())
    assert losses[0] > losses[1] > losses[2]
    longer = TASKS[name].questions(
        [{**ROW, "text": " ".join([TEXTS[0]] * 3), "context": " ".join([TEXTS[1]] * 3)}], words
    )
    padded = Batch.of(name, [examples[0], *longer[:1]], words.pad_id).select([0])
    alone = Batch.of(name, examples[:1], words.pad_id)
    torch.testing.assert_close(head.loss(backbone, padded).total, head.loss(backbone, alone).total)


def test_a_module_trains_it_or_its_heads_alone(tmp_path, rows):
    fresh = weights(Bert().build(len(Words())))
    frozen = trained(tmp_path, rows, freeze=("backbone",))
    assert torch.equal(weights(frozen.backbone), fresh)
    whole = trained(tmp_path, rows)
    assert not torch.equal(weights(whole.backbone), fresh)
    assert not torch.equal(weights(frozen.heads), weights(whole.heads))


def test_it_is_saved_and_loaded_with_its_tokenizer(tmp_path, rows):
    model = trained(tmp_path, rows).eval()
    loaded = load(save(model, tmp_path / "model"))
    assert isinstance(loaded.tokenizer, Words)
    for task in TASKS:
        assert loaded.solve([ROW], task) == model.solve([ROW], task)
    parts = count_parameters(loaded)
    assert parts["embedding"] == 0
    assert parts["backbone"] == len(weights(model.backbone))
    assert " --import test_wrapped " in loaded.example_commands("model")[0]


def test_what_it_cannot_do_is_said():
    backbone = Bert().build(20)
    ids = torch.tensor([[5, 6]])
    batch = Batch("text", source=ids, source_mask=ids > 0, target=ids, ids=torch.tensor([0]))
    with pytest.raises(InputError, match="this backbone has no decoder"):
        Seq2SeqHead(start=1, end=2).loss(backbone, batch)
    with pytest.raises(InputError, match=r"no table of word vectors to set; leave out model.training.vectors"):
        _ = backbone.embedding
    with pytest.raises(InputError, match=r"layer_decay"):
        backbone.stacks()
    with pytest.raises(InputError, match=r"returned \(1, 2, 8\), expected a tensor \(1, 2, 9\) of states"):
        WrappedEncoder(backbone.inner, d_model=9).encode(ids, ids > 0)
    with pytest.raises(InputError, match=r"returned tuple, expected a tensor"):
        WrappedEncoder(Pair(), d_model=8).encode(ids, ids > 0)


class Pair(nn.Module):
    def forward(self, ids, mask):
        return ids, mask


# The page


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Write the files of the page, the encoder that they name, and rows for them."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "day", "a"]
    config = transformers.BertConfig(vocab_size=len(names), max_position_embeddings=32, **SIZES)
    transformers.BertModel(config).save_pretrained(tmp_path / "encoder")
    (tmp_path / "encoder/vocab.txt").write_text("\n".join(names))
    pieces = word_pieces(Folder(str(tmp_path / "encoder")))
    (tmp_path / "encoder/tokenizer.json").write_text(pieces.to_json())
    (tmp_path / "own_encoder.py").write_text(blocks("python")[0])
    (tmp_path / "own_encoder.yaml").write_text(blocks("yaml")[0])
    table = "text,label\n" + "a good day,good\na bad day,bad\n" * 4
    (tmp_path / "train.csv").write_text(table), (tmp_path / "dev.csv").write_text(table)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("own_encoder", None)


@pytest.mark.usefixtures("page")
def test_the_files_of_the_page_train_save_and_answer(capsys):
    own = ["--import", "own_encoder"]
    options = ["--trainer.max_steps=2", "--trainer.val_check_interval=1", "--trainer.accelerator=cpu"]
    assert main(["fit", "-c", "own_encoder.yaml", *own, *options]) == 0
    assert main(["info", "runs/own_encoder", *own]) == 0
    capsys.readouterr()
    assert main(["run", "runs/own_encoder", "a good day", *own]) == 0
    assert capsys.readouterr().out.strip() in ("good", "bad")
    before = transformers.BertModel.from_pretrained("encoder").state_dict()
    after = load("runs/own_encoder").backbone.inner.model.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())


@pytest.mark.usefixtures("page")
def test_the_page_runs_in_plain_pytorch():
    exec(blocks("python")[1].replace("768", "8"), {})
