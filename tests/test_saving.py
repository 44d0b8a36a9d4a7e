"""A model on disk: the same answers after loading, nothing unpickled, one line for what cannot be loaded."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import fit, tiny_backbone, tiny_module

from lmtasks.errors import InputError
from lmtasks.settings import from_plain, to_plain
from lmtasks.storage import CONFIG, METRICS, TOKENIZER, WEIGHTS
from lmtasks.storage.checkpoint import last_checkpoint
from lmtasks.storage.model_folder import find_model, load, save
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


def test_settings_of_training_that_this_version_lacks_do_not_keep_a_model_from_use(trained, folder, tmp_path):
    settings = json.loads((folder / CONFIG).read_text())
    settings["optimizer"] = {"class_path": "no_such_package.Optimizer", "init_args": {}}
    (folder / CONFIG).write_text(json.dumps(settings))
    same(trained, load(folder))
    assert json.loads((save(load(folder), tmp_path / "again") / CONFIG).read_text()) == settings


@pytest.mark.parametrize("content", ["[]", '{"story": {"data": [1]}}', "{"])
def test_damaged_metrics_are_named(folder, content):
    (folder / METRICS).write_text(content)
    with pytest.raises(InputError, match="not a whole model folder"):
        load(folder)


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
def test_a_damaged_model_folder_is_refused(folder, name):
    (folder / name).write_bytes((folder / name).read_bytes()[:50])
    refused(folder, "not a whole model folder")


def test_a_damaged_tokenizer_is_refused_in_one_line(folder):
    (folder / TOKENIZER).write_text("{")
    with pytest.raises(InputError, match=r"^[^\n]*tokenizer[^\n]*$"):
        load(folder)


def test_weights_of_other_sizes_are_refused(folder):
    stored = load_file(folder / WEIGHTS)
    save_file({name: tensor[:1].clone() for name, tensor in stored.items()}, folder / WEIGHTS)
    refused(folder, "do not fit")


def test_weights_that_no_layer_has_and_weights_that_are_missing_are_refused(folder):
    stored = load_file(folder / WEIGHTS)
    save_file({**stored, "backbone.more": torch.ones(1)}, folder / WEIGHTS)
    refused(folder, "do not fit")
    save_file({name: tensor for name, tensor in stored.items() if "embedding" not in name}, folder / WEIGHTS)
    refused(folder, "do not fit")


@pytest.mark.parametrize(
    "forged", ["os.system", "builtins.print", "pathlib.Path", "no_such_package.Class", "lmtasks.training.module.None"]
)
def test_a_config_that_names_anything_but_settings_is_refused(folder, forged):
    settings = json.loads((folder / CONFIG).read_text())
    settings["backbone"] = {"class_path": forged, "init_args": {"command": "true"}}
    (folder / CONFIG).write_text(json.dumps(settings))
    with pytest.raises(InputError, match=forged):
        load(folder)


def test_settings_of_another_version_are_refused(folder):
    settings = json.loads((folder / CONFIG).read_text())
    settings["backbone"]["init_args"]["wings"] = 2
    (folder / CONFIG).write_text(json.dumps(settings))
    refused(folder, "lacks", "wings")


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_here_is_refused(folder, device):
    with pytest.raises(InputError, match=f"there is no device '{device}' here"):
        load(folder, device)
