"""Settings are checked when they are made: names, types and ranges, from Python as from YAML."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass, fields, is_dataclass, replace

import pytest

import lmtasks
from lmtasks import (
    Adam,
    ClassificationModule,
    ClassificationTask,
    Decoding,
    LoRA,
    Mixing,
    RecurrentConfig,
    Schedule,
    Table,
    TaskModule,
    TokenizerConfig,
    Training,
    TransformerConfig,
    TranslationModule,
    Village,
)
from lmtasks.checked import RANGES, Checked
from lmtasks.errors import InputError

SETTINGS = [kind for name in lmtasks.__all__ if isinstance(kind := getattr(lmtasks, name), type) and is_dataclass(kind)]
NO_SETTINGS = {"Batch", "Framing"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TransformerConfig(d_model="64"), "model.backbone.d_model is '64'; give a whole number"),
        (lambda: TransformerConfig(d_model=64.0), "d_model is 64.0; give a whole number"),
        (lambda: TransformerConfig(bias=1), "bias is 1; give True or False"),
        (lambda: TransformerConfig(dropout=True), "dropout is True; give a number"),
        (lambda: TransformerConfig(dropout=float("nan")), "dropout is nan; give a number"),
        (lambda: TransformerConfig(dropout=1.5), "dropout is 1.5; give a number from 0 to 1"),
        (lambda: TransformerConfig(norm="rms_norm"), "norm is 'rms_norm'; give one of 'layer', 'rms'"),
        (lambda: TransformerConfig(d_modle=64), "TransformerConfig has no setting 'd_modle'; did you mean d_model?"),
        (lambda: TransformerConfig(encoder_layers=10**7), "encoder_layers is 10000000; give a number from"),
        (
            lambda: TransformerConfig(64),
            "TransformerConfig: give 64 by the name of its setting: encoder_layers, decoder_layers, d_model, ",
        ),
        (lambda: RecurrentConfig(d_model=2**20), "d_model is 1048576"),
        (lambda: Training(freeze="backbone"), r"model.training.freeze is 'backbone'; .*, such as \['backbone'\]"),
        (lambda: Training(thaw={"backbone": "5"}), "thaw is {.*}; give a mapping of a text to a whole number"),
        (lambda: Training(optimizer="adam"), "optimizer is 'adam'; give OptimizerConfig"),
        (lambda: Training(Schedule()), r"optimizer is Schedule\(...\); give OptimizerConfig"),
        (lambda: Adam(lr="1e-3"), "model.training.optimizer.lr is '1e-3'; give a number"),
        (lambda: Adam(betas=(0.9,)), "betas"),
        (lambda: Schedule(warmup=-1), "warmup is -1; give 0 or more"),
        (lambda: LoRA(layers="qkv"), r"layers is 'qkv'; .* such as \['qkv'\]"),
        (lambda: TokenizerConfig(vocab_size="8k"), "vocab_size is '8k'"),
        (lambda: Mixing(rates=[1, 2]), "rates is .*; give a mapping of a text to a number"),
        (lambda: Table(train=["a.csv"]), r"Table.train is \['a.csv'\]; give a text or None"),
        (lambda: Village(train="8"), "train is '8'"),
        (lambda: ClassificationTask(labels="pos"), "labels is 'pos'"),
        (
            lambda: ClassificationModule(TransformerConfig(d_model=32)),
            r"ClassificationModule: give TransformerConfig\(...\) by the name of its setting: backbone=Transf",
        ),
        (lambda: TranslationModule(["en-fr"], TransformerConfig()), "by the name of its setting: backbone="),
        (lambda: ClassificationModule(backbone="lstm"), "backbone is 'lstm'; give BackboneConfig"),
        (lambda: ClassificationModule(multilabel=True), "has no setting 'multilabel'; did you mean multi_label?"),
        (lambda: TaskModule([ClassificationTask()], TransformerConfig()), "tasks is .*; give a mapping of a text to T"),
    ],
)
def test_a_wrong_setting_is_refused_in_a_line_that_names_it(make, message):
    with pytest.raises(InputError, match=message) as found:
        make()
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("kind", SETTINGS, ids=lambda kind: kind.__name__)
def test_whatever_is_saved_by_name_is_checked(kind):
    wrong = object()
    if kind.__name__ not in NO_SETTINGS:
        for field in (each for each in fields(kind) if each.init):
            with pytest.raises(InputError, match=f"{field.name} is <object"):
                kind(**{field.name: wrong})


def test_right_settings_are_taken_as_before():
    given = TransformerConfig(d_model=64, dropout=0, norm_eps=None)
    assert given == copy.deepcopy(given) == pickle.loads(pickle.dumps(given)) == replace(given)
    assert Training(freeze=["backbone"], thaw={}).freeze == ["backbone"]
    assert Adam(betas=[0.9, 0.99]).betas == [0.9, 0.99]


def test_a_setting_of_a_users_own_class_is_checked_too():
    @dataclass(frozen=True)
    class Own(Checked):
        size: int = 1
        beam: int = 1

    assert Own(2).size == 2
    with pytest.raises(InputError, match=r"Own\.size is '2'; give"):
        Own("2")


def test_every_range_is_of_a_setting_that_exists_and_allows_its_default():
    defaults = {field.name: field.default for kind in SETTINGS for field in fields(kind)}
    assert not RANGES.keys() - defaults.keys()
    for kind in SETTINGS:
        for field in (each for each in fields(kind) if each.name in RANGES and isinstance(each.default, int | float)):
            least, most = RANGES[field.name]
            assert least <= field.default <= most, field.name
    assert Decoding()
