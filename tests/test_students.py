"""Marian's binary files, and its models as our Transformer."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tokenizers
import torch
from marian_files import FLOAT32, INT8, SETTINGS, TEXT, items, write, write_rows

from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.cli.main import main
from lmtasks.errors import InputError
from lmtasks.pretrained.folder import Folder
from lmtasks.pretrained.marian_binary import read
from lmtasks.pretrained.students import Student
from lmtasks.storage.model_folder import load

YML = ("special:model.yml", TEXT, (4,), b"a: 1")


def student(path):
    """Return the settings of the student in a file, and the weights of our backbone after it was loaded."""
    family = Student(Folder(str(path.parent)))
    config = family.settings()
    backbone = config.build(0)
    with family.tensors() as tensors:
        family.table().load(backbone, tensors, family.rename)
    return config, backbone.state_dict()


# The file


def test_a_float32_file_gives_back_its_items_and_settings(tmp_path):
    wanted = items()
    found, settings = read(write(tmp_path / "model.bin", wanted))
    assert settings == SETTINGS
    assert list(found) == list(wanted)
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_an_int8_file_gives_back_its_items_up_to_half_a_step(tmp_path):
    wanted = items()
    found, _ = read(write(tmp_path / "model.bin", wanted, int8=True))
    for name, array in wanted.items():
        step = np.abs(array).max() / 127 if min(array.shape) > 1 else 0
        assert found[name].dtype == np.float32
        assert found[name].shape == array.shape
        np.testing.assert_allclose(found[name], array, atol=step / 2 + 1e-6, rtol=0)


def test_both_kinds_of_int8_are_read_alike(tmp_path):
    data = np.arange(6, dtype=np.int8).tobytes() + np.float32(2).tobytes()
    for kind in (INT8, 0x10001):
        found, _ = read(write_rows(tmp_path / "model.bin", [("W", kind, (2, 3), data), YML]))
        assert found["W"].tolist() == [[0, 1, 2], [0.5, 1.5, 2.5]]


def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path):
    path = write(tmp_path / "model.bin", items(), int8=True)
    whole = path.read_bytes()
    for size in (0, 7, 16, 100, 3000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"model\.bin: cut off, or no model of Marian: .* bytes, expected"):
            read(path)


@pytest.mark.parametrize(("rows", "version", "message"), [
    ([YML], 2, "version 2 of Marian's binary format, expected 1"),
    ([("W", 0x404 + 4, (1,), bytes(8)), YML], 1, "W has type 0x408, expected float32 or intgemm8"),
    ([("W", FLOAT32, (2**30, 2**30), bytes(8)), YML], 1, "W has shape .1073741824, 1073741824., but 256 bytes"),
    ([("W", FLOAT32, (-1, 2), bytes(8)), YML], 1, "W has shape .-1, 2., but 256 bytes"),
    ([("W", INT8, (16, 16), bytes(256)), YML], 1, "W has shape .1,., but 0 bytes"),
    ([("W", INT8, (1, 1), bytes(8)), YML], 1, "W has the multiplier 0.0, expected a number other than 0"),
    ([("W", FLOAT32, (1, 1), bytes(8))], 1, "no special:model.yml; give the model.bin"),
    ([("special:model.yml", TEXT, (4,), b"a: [")], 1, "special:model.yml is not YAML"),
    ([("special:model.yml", TEXT, (4,), b"text")], 1, "special:model.yml has no settings"),
])  # fmt: skip
def test_what_is_wrong_with_a_file_is_said_in_one_line(tmp_path, rows, version, message):
    with pytest.raises(InputError, match=message) as raised:
        read(write_rows(tmp_path / "model.bin", rows, version))
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.bin: No such file"):
        read(tmp_path / "nowhere.bin")


# The model


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize(("autoreg", "mixing"), [("rnn", "ssru"), ("self-attention", "attention")])
def test_a_model_of_marian_loads_into_our_transformer(tmp_path, int8, autoreg, mixing):
    choices = {"transformer-decoder-autoreg": autoreg}
    config, weights = student(write(tmp_path / "model.bin", items(**choices), int8, **choices))
    assert config == TransformerConfig(
        d_model=8, n_heads=2, d_ff=12, encoder_layers=2, decoder_layers=1, norm_position="post", norm_eps=1e-6,
        output_bias=True, decoder_mixing=mixing, zero_start=True, embedding_rows=11, dropout=0.0,
    )  # fmt: skip
    backbone = config.build(11)
    backbone.load_state_dict(weights)  # strict
    source = torch.tensor([[3, 4, 0]])
    logits = backbone.logits(backbone.decode(torch.tensor([[0, 5]]), backbone.encode(source, source >= 0)))
    assert logits.isfinite().all()


def test_matrices_are_turned_and_the_parts_of_an_attention_joined(tmp_path):
    theirs = items()
    _, ours = student(write(tmp_path / "model.bin", theirs))
    x = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)

    def linear(name: str) -> torch.Tensor:
        bias = ours.get(f"{name}.bias")
        return torch.nn.functional.linear(torch.from_numpy(x), ours[f"{name}.weight"], bias)

    forget = x @ theirs["decoder_l1_rnn_Wf"] + theirs["decoder_l1_rnn_bf"]
    expected = {"decoder.layers.0.self_attention.forget": forget}
    expected["decoder.layers.0.self_attention.candidate"] = x @ theirs["decoder_l1_rnn_W"]
    parts = [x @ theirs[f"encoder_l2_self_W{part}"] + theirs[f"encoder_l2_self_b{part}"] for part in "qkv"]
    expected["encoder.layers.1.self_attention.query_key_value"] = np.concatenate(parts, axis=1)
    for name, numbers in expected.items():
        torch.testing.assert_close(linear(name), torch.from_numpy(numbers))
    assert np.array_equal(ours["embedding.weight"], theirs["Wemb"])


def test_multipliers_of_activations_are_left_out(tmp_path):
    theirs = items()
    _, ours = student(write(tmp_path / "model.bin", theirs | {"none_QuantMultA": np.ones((1, 1), np.float32)}))
    assert ours.keys() == student(write(tmp_path / "model.bin", theirs))[1].keys()


@pytest.mark.parametrize(("change", "message"), [
    ({"decoder_l1_rnn_Wf": None}, "its weights lack decoder_l0_rnn_Wf, our decoder.layers.0"),
    ({"Wpos": np.ones((4, 8))}, "its weights have Wpos, a name that is not known here"),
    ({"decoder_l1_rnn_W": np.ones((8, 6))}, r"candidate.+ is \(6, 8\) torch.+, expected \(8, 8\)"),
    ({"encoder_l1_self_Wk": np.ones((4, 8))}, r"key_value.+ is \(8, 4\) torch.+, expected \(8, 8\)"),
    ({"Wemb": np.ones((11, 4))}, r"embedding.weight is \(11, 4\) torch.+, expected \(11, 8\)"),
])  # fmt: skip
def test_weights_that_do_not_fit_the_settings_are_refused(tmp_path, change, message):
    changed = {name: array for name, array in (items() | change).items() if array is not None}
    with pytest.raises(InputError, match=message):
        student(write(tmp_path / "model.bin", changed))


@pytest.mark.parametrize(("key", "value", "expected"), [
    ("type", "s2s", "'transformer'"),
    ("transformer-preprocess", "n", "''"),
    ("transformer-postprocess", "da", "'dan' or 'an'"),
    ("transformer-decoder-autoreg", "average-attention", "'self-attention' or 'rnn'"),
    ("dec-cell", "gru", "'ssru'"),
    ("transformer-ffn-activation", "gelu", "'relu' or 'swish'"),
    ("transformer-tied-layers", [1, 1], r"\[\]"),
    ("transformer-train-position-embeddings", True, "False"),
    ("tied-embeddings-all", False, "True"),
    ("dim-emb", 0, "a number from 1"),
    ("enc-depth", "six", "a number from 1"),
])  # fmt: skip
def test_what_our_transformer_cannot_express_is_refused_by_its_key(tmp_path, key, value, expected):
    with pytest.raises(InputError, match=f"{key} .*, and lmtasks reads {expected} only"):
        student(write(tmp_path / "model.bin", items(), **{key: value}))


def test_the_config_for_students_tunes_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "model.pten.bin", items())
    pieces = ["</s>", "<unk>", *"▁abcdefgh"]
    inner = tokenizers.Tokenizer(tokenizers.models.Unigram([(piece, -1.0) for piece in pieces], unk_id=1))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    inner.decoder = tokenizers.decoders.Metaspace()
    inner.save(str(tmp_path / "tokenizer.json"))
    lines = [json.dumps({"pt": "a b c", "en": "d e f"}), json.dumps({"pt": "a b", "en": "d e"})]
    for name in ("pairs.jsonl", "dev.jsonl"):
        (tmp_path / name).write_text("\n".join(lines))
    small = ["--trainer.max_steps=2", "--trainer.val_check_interval=1", "--model.training.schedule.warmup=1"]
    assert main(["fit", "-c", "student-tuning", f"--model.backbone.name={tmp_path}", *small]) == 0
    before, after = (load(folder).backbone.state_dict() for folder in (tmp_path, "runs/student-tuning"))
    changed = {name for name, weight in before.items() if not torch.equal(weight, after[name])}
    assert "decoder.layers.0.self_attention.forget.weight" in changed
    assert not changed & {"embedding.weight", "output_bias"}
