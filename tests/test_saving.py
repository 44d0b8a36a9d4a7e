"""A model on disk: the same answers after loading, nothing unpickled, one line for what cannot be loaded."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import count

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import fit, tiny_backbone, tiny_module

from lmtasks.errors import InputError
from lmtasks.settings import from_plain, to_plain
from lmtasks.storage import CHECKSUMS, CONFIG, METRICS, TOKENIZER, WEIGHTS, writing
from lmtasks.storage.checkpoint import last_checkpoint, read, read_metrics
from lmtasks.storage.model_folder import find_model, load, save
from lmtasks.storage.writing import save_tensors
from lmtasks.training.callbacks.checkpoints import Checkpoints
from lmtasks.training.module import TaskModule

TEXTS = ["a b", "c", "dd e f"]


def logits(module):
    source = torch.tensor([module.tokenizer.encode("a b c")])
    with torch.no_grad():
        memory = module.backbone.encode(source, source > 0)
        return module.backbone.logits(module.backbone.decode(source, memory))


def same(one, two):
    assert torch.equal(logits(one), logits(two))
    assert one.translate(TEXTS) == two.translate(TEXTS)


@pytest.fixture
def folder(trained, tmp_path):
    return save(trained, tmp_path / "run" / "model", {"test/translation/bleu": 12.5})


@pytest.fixture
def unchecked(folder):
    """A model folder of a version that wrote no checksums, or one whose files somebody changed on purpose."""
    (folder / CHECKSUMS).unlink()
    return folder


@pytest.fixture
def checkpoint(corpus):
    module = fit(corpus, callbacks=[Checkpoints()], enable_checkpointing=True)
    return module.eval(), last_checkpoint(corpus / "run")


def test_a_saved_module_loads_as_it_was(trained, folder):
    loaded = load(folder)
    assert not loaded.training
    same(trained, loaded)
    assert loaded.describe() == trained.describe()
    assert json.loads((folder / METRICS).read_text()) == {
        "scores": {"test/translation/bleu": 12.5},
        "signatures": trained.signatures,
        "story": trained.story.plain(),
    }
    assert "12.50" in (folder / "README.md").read_text()


def test_what_is_no_model_is_not_replaced_and_what_lies_beside_one_stays(trained, folder, tmp_path):
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "README.md").write_text("three years of work")
    for place in (thesis, thesis / "README.md"):
        with pytest.raises(InputError, match=r"is no model folder, and a model would take its place"):
            save(trained, place)
    assert (thesis / "README.md").read_text() == "three years of work"
    (folder / "notes.txt").write_text("the best so far")
    (folder / "pictures").mkdir()
    same(load(save(trained, folder)), trained)
    assert (folder / "notes.txt").read_text() == "the best so far"
    assert (folder / "pictures").is_dir()
    assert not list(folder.parent.glob(".*"))


def test_a_loaded_model_is_saved_as_it_was(folder, tmp_path):
    again = save(load(folder), tmp_path / "run" / "again")
    for name in (CONFIG, TOKENIZER, WEIGHTS):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_settings_of_training_that_this_version_lacks_do_not_keep_a_model_from_use(trained, unchecked, tmp_path):
    settings = json.loads((unchecked / CONFIG).read_text())
    settings["optimizer"] = {"class_path": "no_such_package.Optimizer", "init_args": {}}
    (unchecked / CONFIG).write_text(json.dumps(settings))
    same(trained, load(unchecked))
    assert json.loads((save(load(unchecked), tmp_path / "again") / CONFIG).read_text()) == settings


@pytest.mark.parametrize("content", ["[]", '{"story": {"data": [1]}}', "{"])
def test_damaged_metrics_are_named(unchecked, content):
    (unchecked / METRICS).write_text(content)
    with pytest.raises(InputError, match=r"model.*(damaged|not a whole model folder)"):
        load(unchecked)


def test_a_run_folder_stands_for_its_model(trained, folder):
    assert find_model(folder.parent) == folder
    same(trained, load(folder.parent))


def test_every_kind_of_module_loads_as_it_was(corpus, tmp_path):
    backbone = tiny_backbone(positions="learned", tied_embeddings=False, output_bias=True)
    module = fit(corpus, tiny_module(("en-de", "en-fr"), backbone=backbone)).eval()
    loaded = load(save(module, tmp_path / "model"))
    assert torch.equal(logits(module), logits(loaded))
    assert loaded.translate(TEXTS, target="fr") == module.translate(TEXTS, target="fr")


def test_a_checkpoint_opens_elsewhere_with_no_other_file(checkpoint, corpus, tmp_path):
    module, file = checkpoint
    elsewhere = tmp_path / "elsewhere" / "moved.ckpt"
    elsewhere.parent.mkdir()
    shutil.copy(file, elsewhere)
    answers, numbers = module.translate(TEXTS), logits(module)
    shutil.rmtree(corpus)
    loaded = load(elsewhere)
    assert torch.equal(logits(loaded), numbers)
    assert loaded.translate(TEXTS) == answers


def test_a_run_folder_without_a_model_stands_for_its_last_checkpoint(checkpoint, corpus):
    module, file = checkpoint
    assert find_model(corpus / "run") == file
    same(module, load(corpus / "run"))


def test_load_from_checkpoint_gives_the_module_of_a_checkpoint(checkpoint, trained):
    saved, path = checkpoint
    for kind in (TaskModule, type(trained)):
        module = kind.load_from_checkpoint(path)
        assert isinstance(module, TaskModule)
        assert module.training
        same(saved, module.eval())


def test_load_from_checkpoint_of_a_class_of_the_user_says_what_to_do(checkpoint):
    class Mine(TaskModule):
        pass

    with pytest.raises(InputError, match=r"^Mine\.load_from_checkpoint: .* or use lmtasks\.load$"):
        Mine.load_from_checkpoint(checkpoint[1])


def test_a_checkpoint_holds_plain_values_and_tensors_only(checkpoint):
    _, file = checkpoint
    content = torch.load(file, weights_only=True)
    assert json.loads(json.dumps(content["lmtasks"])) == content["lmtasks"]
    assert "hyper_parameters" not in content


def test_the_config_is_plain_json_from_which_the_settings_come_back(trained, folder):
    settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    assert from_plain(settings)["backbone"] == trained.backbone_config
    assert to_plain(from_plain(settings)) == settings


def test_a_tied_embedding_is_stored_once(trained, folder):
    stored = load_file(folder / WEIGHTS)
    vocabulary = [name for name, tensor in stored.items() if len(tensor) == len(trained.tokenizer)]
    assert vocabulary == ["backbone.embedding.weight"]
    assert sum(tensor.numel() for tensor in stored.values()) == sum(p.numel() for p in trained.parameters())


def refused(path, *words):
    with pytest.raises(InputError) as error:
        load(path)
    line = str(error.value)
    assert "\n" not in line
    assert str(path) in line
    for word in words:
        assert word in line


def test_a_path_without_a_model_is_refused(tmp_path):
    refused(tmp_path / "nowhere", "no such file or folder")
    refused(tmp_path, "neither a model folder", "nor a run folder")


def test_a_foreign_checkpoint_is_refused(tmp_path):
    file = tmp_path / "foreign.ckpt"
    torch.save({"state_dict": {"layer": torch.ones(2)}}, file)
    refused(file, "not one that lmtasks wrote")
    torch.save([1, 2], file)
    refused(file, "not one that lmtasks wrote")


class Trap:
    """Something that must never be unpickled."""

    sprung = False

    def __reduce__(self):
        return setattr, (Trap, "sprung", True)


def test_a_checkpoint_that_holds_code_is_refused_and_the_code_not_run(tmp_path):
    file = tmp_path / "trap.ckpt"
    torch.save({"lmtasks": Trap()}, file)
    refused(file, "cannot be read")
    assert not Trap.sprung


def test_a_damaged_checkpoint_is_refused(checkpoint):
    _, file = checkpoint
    whole = bytearray(file.read_bytes())
    file.unlink()
    file.write_bytes(whole[: len(whole) // 2])
    refused(file, "damaged")
    whole[len(whole) // 3] ^= 1
    file.write_bytes(whole)
    refused(file, "damaged")
    file.write_text("not a checkpoint")
    refused(file, "no checkpoint")


@pytest.mark.parametrize("name", [TOKENIZER, WEIGHTS])
def test_a_model_folder_that_lacks_a_file_is_refused(folder, name):
    (folder / name).unlink()
    refused(folder, "not a whole model folder", name)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_damaged_model_folder_is_refused(unchecked, name):
    (unchecked / name).write_bytes((unchecked / name).read_bytes()[:50])
    refused(unchecked, "copy")


def test_a_damaged_tokenizer_is_refused_in_one_line(unchecked):
    (unchecked / TOKENIZER).write_text("{")
    with pytest.raises(InputError, match=r"^[^\n]*tokenizer[^\n]*$"):
        load(unchecked)


def test_weights_of_other_sizes_are_refused(unchecked):
    stored = load_file(unchecked / WEIGHTS)
    save_file({name: tensor[:1].clone() for name, tensor in stored.items()}, unchecked / WEIGHTS)
    refused(unchecked, "do not fit")


def test_weights_that_no_layer_has_and_weights_that_are_missing_are_refused(unchecked):
    stored = load_file(unchecked / WEIGHTS)
    save_file({**stored, "backbone.more": torch.ones(1)}, unchecked / WEIGHTS)
    refused(unchecked, "do not fit")
    save_file({name: tensor for name, tensor in stored.items() if "embedding" not in name}, unchecked / WEIGHTS)
    refused(unchecked, "do not fit")


@pytest.mark.parametrize(
    "forged", ["os.system", "builtins.print", "pathlib.Path", "no_such_package.Class", "lmtasks.training.module.None"]
)
def test_a_config_that_names_anything_but_settings_is_refused(unchecked, forged):
    settings = json.loads((unchecked / CONFIG).read_text())
    settings["backbone"] = {"class_path": forged, "init_args": {"command": "true"}}
    (unchecked / CONFIG).write_text(json.dumps(settings))
    with pytest.raises(InputError, match=forged):
        load(unchecked)


def test_settings_of_another_version_are_refused(unchecked):
    settings = json.loads((unchecked / CONFIG).read_text())
    settings["backbone"]["init_args"]["wings"] = 2
    (unchecked / CONFIG).write_text(json.dumps(settings))
    refused(unchecked, "lacks", "wings")


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_here_is_refused(folder, device):
    with pytest.raises(InputError, match=f"there is no device '{device}' here"):
        load(folder, device)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, TOKENIZER, METRICS])
def test_a_changed_byte_of_any_file_is_noticed_and_its_file_named(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}: is not as it was saved.*delete .*{CHECKSUMS}$"):
        load(folder)


def test_the_card_may_be_changed_and_without_checksums_all_may(trained, folder):
    (folder / "README.md").write_text("mine")
    same(trained, load(folder))
    (folder / CHECKSUMS).unlink()
    (folder / CONFIG).write_text(json.dumps(json.loads((folder / CONFIG).read_text())))
    same(trained, load(folder))


def test_damaged_checksums_are_one_line(folder):
    (folder / CHECKSUMS).write_text("no checksum\n")
    refused(folder, "delete this file")


def test_the_checksums_are_what_sha256sum_reads(folder):
    subprocess.run(["sha256sum", "--check", "--strict", CHECKSUMS], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("backbone", "encoder_layers", 10_000_000),
        ("backbone", "d_model", 2**20),
        ("backbone", "d_ff", 2**40),
        ("backbone", "max_length", 2**30),
        ("backbone", "embedding_rows", 2**40),
        ("backbone", "n_heads", "2"),
        ("backbone", "dropout", float("nan")),
        ("decoding", "beam", 1_000_000),
        ("decoding", "length_penalty", 1e6),
        ("decoding", "max_length", 2.5),
    ],
)
def test_settings_that_the_weights_do_not_have_are_refused_before_anything_is_built(unchecked, part, name, value):
    settings = json.loads((unchecked / CONFIG).read_text())
    settings[part]["init_args"][name] = value
    (unchecked / CONFIG).write_text(json.dumps(settings))
    began = time.process_time()
    refused(unchecked)
    assert time.process_time() - began < 1


@pytest.mark.parametrize("name", ["Pretrained", "Batch", "EMA", "lmtasks.story.Story", "dataclasses.Field"])
def test_a_file_names_settings_and_no_other_class(unchecked, name):
    settings = json.loads((unchecked / CONFIG).read_text())
    settings["backbone"] = {"class_path": name, "init_args": {"name": "google-bert/bert-base-uncased"}}
    (unchecked / CONFIG).write_text(json.dumps(settings))
    refused(unchecked, f"{name}, which is no settings class")


def test_a_tokenizer_far_too_large_for_the_weights_is_not_read(unchecked):
    text = json.loads((unchecked / TOKENIZER).read_text())
    text["model"]["vocab"] |= {f"piece{n}": n + 1000 for n in range(300_000)}
    (unchecked / TOKENIZER).write_text(json.dumps(text))
    began = time.process_time()
    refused(unchecked, "its tokenizer has")
    assert time.process_time() - began < 1


def test_a_link_to_a_model_folder_stays_one_and_so_does_what_lies_in_its_target(trained, folder, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(folder)
    (folder / "notes.txt").write_text("the best so far")
    same(load(save(trained, link)), trained)
    assert link.is_symlink()
    assert (folder / "notes.txt").read_text() == "the best so far"
    assert [*tmp_path.glob(".*"), *folder.parent.glob(".*")] == []


@pytest.mark.parametrize("exchange", [True, False])
def test_a_kill_at_any_moment_leaves_the_old_model_or_the_new_one(trained, folder, exchange, monkeypatch):
    if not exchange:  # a file system without
        monkeypatch.setattr(writing, "_exchange", lambda one, two: False)
    (folder / "notes.txt").write_text("the best so far")
    scores = [{"test/score": 1.0}, {"test/score": 2.0}]
    save(trained, folder, scores[0])
    for moment in count():
        child = os.fork()
        if not child:
            _killed_at(moment, lambda number=moment: save(trained, folder, scores[number % 2]))
        _, status = os.waitpid(child, 0)
        place = find_model(folder)
        assert read(place).settings == trained.describe()["settings"]
        assert read_metrics(place)["scores"] in scores
        assert (place / "notes.txt").read_text() == "the best so far"
        if os.WIFEXITED(status):
            assert status == 0
            break
    assert moment > 20
    save(trained, folder)
    assert not list(folder.parent.glob(".*"))


def _killed_at(moment, call):
    """Call a function in a process that dies at the n-th of its calls to the file system."""
    left = iter(range(moment))

    def hook(event, arguments):
        watched = event == "open" or event.startswith(("os.", "shutil."))
        if watched and event != "os.kill" and next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    try:
        call()
        os._exit(0)
    finally:
        os._exit(1)


def test_a_folder_with_a_config_of_something_else_is_not_replaced(trained, tmp_path):
    (tmp_path / "config.json").write_text('{"port": 80}')
    with pytest.raises(InputError, match="is no model folder, and a model would take its place"):
        save(trained, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_layer_with_two_names_is_saved_under_both(tmp_path):
    table = torch.arange(6.0).view(2, 3)
    save_tensors({"embedding": table, "output": table, "half": table[:1]}, tmp_path / "weights")
    found = load_file(tmp_path / "weights")
    assert torch.equal(found["embedding"], table)
    assert torch.equal(found["output"], table)
    assert torch.equal(found["half"], table[:1])
