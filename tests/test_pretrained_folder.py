"""Folders of others that are damaged, malicious or not complete: refused by one line, and nothing of them is run."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import struct
import time

import pytest
import tokenizers
import torch
import yaml
from foreign import save_t5, transformers
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.cli.main import main
from lmtasks.decoding import Decoding
from lmtasks.errors import InputError
from lmtasks.pretrained import folder
from lmtasks.pretrained.pretrained import Pretrained
from lmtasks.storage.model_folder import load

FIT = """
model:
  class_path: SummarisationModule
  init_args: {backbone: {class_path: Pretrained, init_args: {name: NAME}}}
data:
  rows: {class_path: Village, init_args: {train: 8, validation: 2, test: 2}}
"""
WEIGHTS, INDEX, OLD = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"
MOST_ROWS = 10_000  # of an embedding that may be drawn here


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    save_t5(folder)
    return folder


@pytest.fixture
def t5(good, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(good, tmp_path / "t5")


@pytest.fixture
def bert(tmp_path):
    config = transformers.BertConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    (tmp_path / "bert/vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc")
    return tmp_path / "bert"


def config(**settings):
    """Return what changes config.json; ... takes a setting away."""

    def change(folder, file="config.json"):
        path = folder / file
        now = (json.loads(path.read_text()) if path.exists() else {}) | settings
        path.write_text(json.dumps({name: value for name, value in now.items() if value is not ...}))

    return change


def generation(**settings):
    return lambda folder: config(**settings)(folder, "generation_config.json")


def text(file, content):
    return lambda folder: (folder / file).write_text(content)


def without(*files):
    def change(folder):
        for file in files:
            (folder / file).unlink(missing_ok=True)

    return change


def tensors(**others):
    """Return what changes tensors, whose dots are written __; ... takes one away."""

    def change(folder):
        weights = load_file(folder / WEIGHTS) | {name.replace("__", "."): made for name, made in others.items()}
        save_file({name: tensor for name, tensor in weights.items() if tensor is not ...}, folder / WEIGHTS)

    return change


def header(change, length=None):
    """Return what changes the header of the safetensors file."""

    def changed(folder):
        data = (folder / WEIGHTS).read_bytes()
        end = 8 + struct.unpack("<Q", data[:8])[0]
        made = change(data[8:end])
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", length or len(made)) + made + data[end:])

    return changed


def beyond(text):
    """Let a tensor of a header end where the file does not."""
    described = json.loads(text)
    described["shared.weight"]["data_offsets"][1] += 10**6
    return json.dumps(described).encode()


def index(found):
    """Return what puts an index of parts in the place of the weights."""

    def change(folder):
        names = list(load_file(folder / WEIGHTS))
        (folder / WEIGHTS).rename(folder / "a.safetensors")
        (folder / INDEX).write_text(json.dumps(found(names)))

    return change


def parts(*others):
    """Return an index of one part, in which the first tensors lie in other files."""
    last = len(others)
    return index(
        lambda names: {"weight_map": dict(zip(names, [*others, *["a.safetensors"] * len(names[last:])], strict=True))}
    )


def old(save):
    """Return what writes a .bin in the place of the weights."""

    def change(folder):
        weights = load_file(folder / WEIGHTS)
        (folder / WEIGHTS).unlink()
        save(weights, folder / OLD)

    return change


class Runs:
    """What runs code when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


def with_code(weights, path):
    torch.save(weights | {"shared.weight": Runs()}, path)


def as_pickle(weights, path):
    path.write_bytes(pickle.dumps({"shared.weight": Runs()}))


def cut(weights, path):
    torch.save(weights, path)
    path.write_bytes(path.read_bytes()[:-200])


def stretched(weights, path):
    torch.save(weights | {"shared.weight": torch.zeros(1).expand(weights["shared.weight"].shape)}, path)


def listed(weights, path):
    torch.save([*weights.values()], path)


def more_words(folder):
    plain = json.loads((folder / "tokenizer.json").read_text())
    plain["model"]["vocab"] += [[f"word{n}", -9.0] for n in range(9)]
    (folder / "tokenizer.json").write_text(json.dumps(plain))


def without_unknown(folder):
    plain = json.loads((folder / "tokenizer.json").read_text())
    plain["model"]["unk_id"] = None
    (folder / "tokenizer.json").write_text(json.dumps(plain))


FAULTS = {
    "no config": (without("config.json"), "neither a model folder"),
    "an empty config": (text("config.json", ""), "is damaged, or no JSON"),
    "no JSON": (text("config.json", "{"), "is damaged, or no JSON"),
    "a list": (text("config.json", "[]"), "it holds a list, not an object"),
    "nested too deeply": (text("config.json", "[" * 100_000), "is damaged, or no JSON"),
    "no model_type": (config(model_type=...), "not the settings of a model"),
    "another model_type": (config(model_type="gpt2"), "'gpt2', which lmtasks does not read; it reads bert, roberta"),
    "code of its own": (config(auto_map={"AutoModel": "code.Model"}), "auto_map"),
    "a text for a number": (config(d_model="16"), r"d_model '16', expected a number from 1"),
    "null for a number": (config(num_layers=None), "config.json has no num_layers, which a t5 needs"),
    "minus one": (config(d_ff=-1), "d_ff -1, expected a number from 1"),
    "zero": (config(num_heads=0), "num_heads 0, expected a number from 1"),
    "not the width of the weights": (config(d_model=10**9), "d_model is 1000000000; give a number"),
    "not the words of the weights": (config(vocab_size=10**9), "embedding_rows is 1000000000; give a number"),
    "not the heads of the weights": (config(num_heads=3), r"query_key_value.weight .*, expected \(18, 16\)"),
    "not the layers of the weights": (config(num_layers=3), "its weights lack encoder.block.2"),
    "far too many layers": (config(num_layers=10**6), "encoder_layers is 1000000; give a number"),
    "no buckets": (config(relative_attention_num_buckets=0), "relative_buckets is 0; give a number"),
    "no distance": (config(relative_attention_max_distance=0), "relative_distance is 0; give a number"),
    "all is dropped": (config(dropout_rate=1.0), r"dropout 1.0, expected a number from 0, below 1"),
    "dropout in words": (config(dropout_rate="much"), "dropout is 'much'; give a number"),
    "not a number": (config(layer_norm_epsilon=float("nan")), "norm_eps is nan; give a number"),
    "another activation": (config(feed_forward_proj=["relu"]), "cannot be read"),
    "a start that is no token": (config(decoder_start_token_id=10**9), "a special token has the id 1000000000"),
    "tasks in a list": (config(task_specific_params=[1]), "cannot be read"),
    "a prompt that is no text": (config(task_specific_params={"summarization": {"prefix": 5}}), "prefix 5, expected"),
    "a beam below 0": (generation(num_beams=-1), "generation.*decoding.beam is -1"),
    "a beam in words": (generation(num_beams="a"), "generation.*'a'"),
    "temperature 0": (generation(do_sample=True, temperature=0), "generation.*decoding.temperature is 0"),
    "generation in a list": (text("generation_config.json", "[]"), "generation_config.json holds no settings"),
    "no weights": (without(WEIGHTS), "there are no weights in it"),
    "cut off weights": (lambda folder: os.truncate(folder / WEIGHTS, 5000), "cannot be read"),
    "empty weights": (text(WEIGHTS, ""), "cannot be read"),
    "a header of 2**63": (header(bytes, 2**63), "cannot be read"),
    "a header of 200 MB": (header(bytes, 200 * 2**20), "cannot be read"),
    "a header that is no JSON": (header(lambda text: b"x" * len(text)), "cannot be read"),
    "offsets beyond the end": (header(beyond), "cannot be read"),
    "whole numbers": (tensors(shared__weight=torch.zeros(74, 16, dtype=torch.int8)), "torch.int8, expected"),
    "a number for a matrix": (tensors(shared__weight=torch.zeros(())), r"embedding.weight is \(\)"),
    "a tensor too few": (tensors(encoder__final_layer_norm__weight=...), "its weights lack encoder.final_layer_norm"),
    "a tensor too many": (tensors(spy__weight=torch.zeros(2)), "its weights have spy.weight, which has no place"),
    "a part outside": (parts("../../etc/passwd"), r"index of its weights names '../../etc/passwd'"),
    "a part at the root": (parts("/etc/passwd"), "index of its weights names '/etc/passwd'"),
    "a part that is a folder": (parts(".."), r"index of its weights names '\.\.'"),
    "a part that is missing": (parts("b.safetensors"), "index of its weights names 'b.safetensors', which it does not"),
    "a part that is a number": (parts(5), "cannot be read"),
    "a part without its tensor": (
        index(lambda names: {"weight_map": dict.fromkeys((*names, "spy.weight"), "a.safetensors")}),
        "spy.weight, which has no place",
    ),
    "an index without parts": (index(lambda names: {}), "cannot be read"),
    "an index in a list": (index(lambda names: names), "holds no settings"),
    "a pickle with code": (old(with_code), "lmtasks runs nothing that a file holds; get model.safetensors"),
    "a plain pickle with code": (old(as_pickle), "lmtasks runs nothing that a file holds; get model.safetensors"),
    "a cut off .bin": (old(cut), "cannot be read|runs nothing"),
    "tensors in a list": (old(listed), "holds other things than tensors"),
    "one number in place of all": (old(stretched), "holds other things than tensors"),
    "no tokenizer": (without("tokenizer.json"), "there is no tokenizer in it"),
    "a damaged tokenizer": (text("tokenizer.json", "{}"), "this is no tokenizer.json"),
    "an empty tokenizer": (text("tokenizer.json", ""), "this is no tokenizer.json"),
    "more words than the model": (more_words, "its tokenizer has .* tokens, but its embedding .* rows"),
    "nothing for unknown words": (without_unknown, "cannot be read"),
    "special tokens that are missing": (
        lambda folder: config(pad_token="<none>")(folder, "tokenizer_config.json"),
        "its tokenizer has no token <none>",
    ),
    "a damaged sentencepiece model": (
        lambda folder: (without("tokenizer.json")(folder), text("spiece.model", "x")(folder)),
        "this is no sentencepiece model",
    ),
    "far too many marks": (
        lambda folder: config(tokenizer_class="ByT5Tokenizer", extra_ids=10**9)(folder, "tokenizer_config.json"),
        "extra_ids 1000000000",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "line"), FAULTS.values(), ids=FAULTS.keys())
def test_a_folder_that_cannot_be_used_is_refused_by_one_line(t5, tmp_path, capsys, monkeypatch, change, line):
    def build(self, vocab_size):
        made = built(self, vocab_size)
        assert made.embedding.weight.is_meta or made.embedding.weight.numel() < 16 * MOST_ROWS
        return made

    built = TransformerConfig.build
    monkeypatch.setattr(TransformerConfig, "build", build)
    change(t5)
    before = {*tmp_path.rglob("*")}
    capsys.readouterr()
    for command, wanted in ((["run", str(t5), "a"], line), (["import", str(t5), "--output", "model"], "")):
        assert main(command) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert re.search(f"^lmtasks: error: {t5}.*({wanted})", err)
    assert {*tmp_path.rglob("*")} == before
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("fault", ["a pickle with code", "not the words of the weights", "no JSON", "a part outside"])
def test_nothing_is_trained_from_such_a_folder(t5, tmp_path, capsys, fault):
    (tmp_path / "own.yaml").write_text(FIT.replace("NAME", str(t5)))
    FAULTS[fault][0](t5)
    with pytest.raises(InputError, match=str(t5)):
        Pretrained(str(t5)).build(100)
    before = {*tmp_path.rglob("*")}
    capsys.readouterr()
    assert main(["fit", "-c", "own.yaml"]) == 2
    assert capsys.readouterr().err.startswith(f"lmtasks: error: {t5}: ")
    assert {*tmp_path.rglob("*")} == before


BERT_FAULTS = {
    "heads that do not divide": (config(num_attention_heads=3), "d_model 8 is not a multiple of n_heads 3"),
    "no positions": (config(max_position_embeddings=10**9), "max_length is 1000000000; give a number"),
    "no dropout": (config(hidden_dropout_prob=None), "dropout is None; give a number"),
    "segments below 0": (config(type_vocab_size=-1), "segments is -1; give a number from 0"),
    "an empty vocabulary": (text("vocab.txt", ""), r"its tokenizer has no token \[PAD\] \(pad\)"),
    "no [SEP]": (text("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[MASK]\na"), r"its tokenizer has no token \[SEP\]"),
    "no [UNK]": (text("vocab.txt", "[PAD]\n[CLS]\n[SEP]\n[MASK]\na"), r"cannot be read"),
    "far too many words": (text("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\nd"), "9 tokens.* 8 rows"),
}


@pytest.mark.parametrize(("change", "line"), BERT_FAULTS.values(), ids=BERT_FAULTS.keys())
def test_a_bert_that_cannot_be_used_is_refused_before_a_model_begins_with_it(bert, change, line):
    change(bert)
    with pytest.raises(InputError, match=line) as caught:
        Pretrained(str(bert)).resolve()
    assert str(caught.value).startswith(f"{bert}: ")


@pytest.mark.parametrize("number", [-1, 10**9])
def test_ids_that_do_not_number_the_pieces_are_refused_at_once(bert, number):
    config(model_type="roberta", pad_token_id=1)(bert)
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "b"]
    (bert / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)} | {"ab": number}))
    (bert / "merges.txt").write_text("a b\n")
    with pytest.raises(InputError, match=f"^{bert}: (the vocabulary has ids|cannot be read)"):
        Pretrained(str(bert)).resolve()


def test_a_file_and_an_empty_folder_are_no_models(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("{}")
    for name in ("empty", "file"):
        for use in (load, lambda path: Pretrained(str(path)).resolve()):
            with pytest.raises(InputError, match=str(tmp_path / name)):
                use(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("file", ["", "config.json", WEIGHTS, "tokenizer.json", "generation_config.json"])
def test_what_may_not_be_read_is_named(t5, file):
    (t5 / file).chmod(0)
    try:
        with pytest.raises(InputError, match=f"{t5}.* cannot be read .*Permission denied"):
            load(t5)
    finally:
        (t5 / file).chmod(0o700)


def test_weights_that_are_no_numbers_are_read(t5):
    tensors(encoder__final_layer_norm__weight=torch.full((16,), float("nan")))(t5)
    assert load(t5).backbone.encoder.final_norm.weight.isnan().all()


@pytest.mark.parametrize("zipped", [True, False])
def test_weights_of_old_versions_of_pytorch_are_read(t5, zipped):
    whole = load(t5).backbone.state_dict()
    old(lambda weights, path: torch.save(weights, path, _use_new_zipfile_serialization=zipped))(t5)
    for name, tensor in load(t5).backbone.state_dict().items():
        assert torch.equal(tensor, whole[name])


def test_a_special_token_that_the_model_has_no_embedding_for_gets_the_mean_of_the_others(t5):
    plain = json.loads((t5 / "tokenizer.json").read_text())
    rows = json.loads((t5 / "config.json").read_text())["vocab_size"]
    known = tokenizers.Tokenizer.from_str(json.dumps(plain)).get_vocab_size()
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    plain["added_tokens"] += [{"id": i, "content": f"<{i}>", "special": True} | flags for i in range(known, rows + 1)]
    (t5 / "tokenizer.json").write_text(json.dumps(plain))
    table = load(t5).backbone.embedding.weight
    torch.testing.assert_close(table[-1], table[:-1].mean(0))


def test_settings_of_generation_are_numbers_of_their_kind(t5):
    generation(do_sample=True, top_k=5.0, top_p=1, temperature=1, max_new_tokens=7.0)(t5)
    wanted = Decoding(beam=1, sample=True, top_k=5, max_length=7, max_ratio=0.0, early_stop="estimate")
    assert load(t5).decoding == wanted
    assert type(load(t5).decoding.top_k) is int


# The hub, from its cache

COMMIT = "1f2e3d4c5b6a79808f7e6d5c4b3a29181f2e3d4c"


@pytest.fixture
def cache(good, tmp_path, monkeypatch):
    """Lay out what the hub's client keeps of "owner/tiny", and let nothing ask the network."""
    model = tmp_path / "hub/models--owner--tiny"
    shutil.copytree(good, model / "snapshots" / COMMIT)
    (model / "refs").mkdir()
    (model / "refs/main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return model


@pytest.mark.usefixtures("cache")
def test_a_model_in_the_cache_of_the_hub_needs_no_network(good):
    short = Decoding(beam=1, max_length=5, max_ratio=0.0)
    assert load("owner/tiny").generate("the old dog", short) == load(good).generate("the old dog", short)
    for revision in (None, "main", COMMIT):
        assert Pretrained("owner/tiny", revision).resolve()[1].revision == COMMIT


@pytest.mark.usefixtures("cache")
def test_a_run_names_the_commit_that_it_began_with(tmp_path):
    (tmp_path / "own.yaml").write_text(FIT.replace("NAME", "owner/tiny"))
    options = ["--trainer.max_steps=1", "--trainer.accelerator=cpu", "--data.max_length=512", "--model.decoding.beam=1"]
    options += [f"--model.{each}.max_length=3" for each in ("decoding", "validation_decoding")]
    assert main(["fit", "-c", "own.yaml", *options]) == 0
    config = yaml.safe_load((tmp_path / "runs/own/config.yaml").read_text())
    assert config["model"]["init_args"]["backbone"]["init_args"]["revision"] == COMMIT


def test_what_the_cache_lacks_is_said_without_a_wait(cache, monkeypatch, capsys):
    lacks = "there is no such folder here, the Hugging Face hub cannot be reached"
    with pytest.raises(
        InputError, match=rf"^owner/tyni: {lacks} \(HF_HUB_OFFLINE is set\), and its cache lacks the model$"
    ):
        load("owner/tyni")
    (cache / "snapshots" / COMMIT / WEIGHTS).unlink()
    with pytest.raises(InputError, match=r"^owner/tiny: there are no weights in its copy in the cache, and the hub"):
        load("owner/tiny")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    asked = []
    monkeypatch.setattr(folder, "why_no_answer", lambda: asked.append(1) or "no route")
    began = time.monotonic()
    assert main(["run", "owner/tyni", "a"]) == 2
    assert time.monotonic() - began < 5
    assert f"owner/tyni: {lacks} (no route)" in capsys.readouterr().err
    assert asked == [1]
