"""Settings as plain data: by public names, with tuples as tuples, and never a module imported by a file."""

from __future__ import annotations

import json
import sys
import types
from dataclasses import dataclass, field

import pytest
import torch

import lmtasks
from lmtasks import (
    AdamW,
    ClassificationTask,
    Decoding,
    GradNorm,
    JointConfig,
    PCGrad,
    RecurrentConfig,
    Schedule,
    SpanAnsweringTask,
    Static,
    TaggingTask,
    Training,
    TransformerConfig,
    TranslationTask,
)
from lmtasks.errors import InputError
from lmtasks.settings import FORMAT, Settings, check_format, find_class, first_difference, from_plain, to_plain
from lmtasks.storage.checkpoint import saved_in

SETTINGS = [
    TranslationTask(("en-de", "de-en"), label_smoothing=0.2),
    ClassificationTask(labels=("bad", "good"), weights=(0.5, 1.5)),
    TaggingTask(labels=("PER",), writing=("-", "letters")),
    SpanAnsweringTask(window=64),
    TransformerConfig(d_head=8, norm_eps=1e-12),
    RecurrentConfig(cell="gru"),
    Decoding(beam=1, sample=True, seed=3),
    Training(AdamW(betas=(0.8, 0.9)), Schedule("linear"), freeze=("backbone.encoder",)),
    Training(joint=JointConfig(GradNorm(alpha=0.5), PCGrad(), watch=True)),
    Training(joint=JointConfig(Static({"a": 2.0}))),
]


@dataclass(frozen=True)
class Own(Settings):
    """Settings of a user's own class."""

    pair: tuple[int, tuple[str, ...]] = (1, ("a",))
    lists: list[int] = field(default_factory=list)
    maybe: tuple[int, ...] | None = None


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda each: type(each).__name__)
def test_settings_come_back_from_json_as_they_were(settings):
    assert from_plain(json.loads(json.dumps(to_plain(settings)))) == settings


def test_tuples_are_told_from_lists_by_the_type_of_the_field():
    own = Own((2, ("b", "c")), [1, 2], (3, 4))
    found = from_plain(json.loads(json.dumps(to_plain(own))))
    assert found == own
    assert (type(found.pair[1]), type(found.lists), type(found.maybe)) == (tuple, list, tuple)


def test_a_class_goes_by_its_public_name_wherever_it_is_defined():
    plain = to_plain({"optimizer": AdamW(), "task": TranslationTask()})
    assert {name: each["class_path"] for name, each in plain.items()} == {
        "optimizer": "AdamW",
        "task": "TranslationTask",
    }


def test_every_settings_class_of_the_library_is_exported_by_its_name():
    assert all(find_class(to_plain(each)["class_path"]) is type(each) for each in SETTINGS)


def test_a_file_never_imports_a_module(tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("evil.D", "lmtasks.cli.main.main", "os.system"):
        with pytest.raises(InputError, match=r"not imported here|no settings class"):
            from_plain({"class_path": name, "init_args": {}})
    assert "evil" not in sys.modules
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["load", "Tokenizer", "TranslationModule", "os.path.join"])
def test_a_name_that_is_no_settings_class_is_refused(name):
    with pytest.raises(InputError, match="no settings class"):
        from_plain({"class_path": name, "init_args": {}})


def test_a_class_or_setting_that_this_version_lacks_is_named():
    with pytest.raises(InputError, match=r"made with Wings, which lmtasks .* does not have"):
        from_plain({"class_path": "Wings", "init_args": {}})
    with pytest.raises(InputError, match=r"sets Schedule.wings, which lmtasks .* lacks"):
        from_plain({"class_path": "Schedule", "init_args": {"wings": 2}})


@pytest.mark.parametrize(("version", "age"), [(None, "an older"), (FORMAT - 1, "an older"), (FORMAT + 1, "a newer")])
def test_another_format_is_one_clear_line(version, age):
    with pytest.raises(InputError, match=f"model: written by {age} version of lmtasks .*; use that version, or train"):
        check_format(version, "model")
    check_format(FORMAT, "model")


def test_the_first_difference_is_named_by_its_setting():
    before = {"a": Training(AdamW(0.5)), "b": TranslationTask(("en-de",))}
    assert first_difference(before, before, "all") == ""
    assert first_difference(before, before | {"a": Training(AdamW(0.25))}, "all") == (
        "all.a.optimizer.lr = 0.5, not 0.25"
    )
    assert first_difference(Training(AdamW()), Training(), "training") == "training.optimizer = AdamW, not Adam"
    assert first_difference({"a": 1}, {"a": 1, "b": 2}, "rates") == "rates = {'a': 1}, not {'a': 1, 'b': 2}"
    learned = ClassificationTask(labels=("bad", "good"))
    assert first_difference(learned, ClassificationTask(), "task") == ""  # found in the training rows


def test_the_table_of_exported_names_holds():
    assert all(getattr(lmtasks, name) is not None for name in lmtasks.__all__)


def test_files_of_another_format_are_refused_before_they_are_read(trained, tmp_path):
    folder = lmtasks.save(trained, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    assert config["format"] == FORMAT
    del config["format"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"model: written by an older version of lmtasks"):
        lmtasks.load(folder)
    described = trained.describe() | {"format": FORMAT + 1}
    torch.save({"lmtasks": described, "state_dict": {}}, tmp_path / "new.ckpt")
    with pytest.raises(InputError, match=r"new.ckpt: written by a newer version of lmtasks"):
        lmtasks.load(tmp_path / "new.ckpt")


def test_a_folder_of_another_library_is_said_to_be_one(tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["Other"]}')
    with pytest.raises(InputError, match=r"config.json: not the settings of a model of lmtasks"):
        lmtasks.load(tmp_path)


def test_a_tuple_of_another_length_is_refused():
    plain = to_plain(AdamW()) | {"init_args": {"betas": [0.9, 0.98, 0.5]}}
    with pytest.raises(InputError, match=r"expected 2 values"):
        from_plain(plain)


def test_a_name_never_makes_a_loaded_module_load_more(monkeypatch):
    asked = []
    lazy = types.ModuleType("lazy_package")
    lazy.__getattr__ = asked.append
    monkeypatch.setitem(sys.modules, "lazy_package", lazy)
    with pytest.raises(InputError, match="not imported here"):
        find_class("lazy_package.Client")
    assert not asked


def test_a_checkpoint_of_another_kind_is_one_clear_line():
    for own in (None, "text", {"format": FORMAT, "settings": {}}):
        with pytest.raises(InputError, match=r"last.ckpt: a checkpoint, but not one that lmtasks wrote"):
            saved_in({"lmtasks": own}, "last.ckpt")
    with pytest.raises(InputError, match=r"last.ckpt: written by an older version"):
        saved_in({"lmtasks": {"settings": {}, "tokenizer": ""}}, "last.ckpt")
