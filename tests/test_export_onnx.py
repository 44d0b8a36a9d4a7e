"""ONNX files: what ONNX Runtime answers is what the model answers, for every layout and every head."""

from __future__ import annotations

import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import lmtasks
from lmtasks.backbones.base import BackboneConfig
from lmtasks.backbones.dropout import Dropout
from lmtasks.backbones.lora import LoRA, adapters, put
from lmtasks.backbones.recurrent import RecurrentConfig
from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.backbones.wrapped import WrappedEncoder
from lmtasks.batch import Batch
from lmtasks.decoding import Decoding
from lmtasks.errors import InputError
from lmtasks.export.exported import open_export, write_export
from lmtasks.export.onnx import write_onnx
from lmtasks.export.onnx_engine import adapt_heads
from lmtasks.model import Model
from lmtasks.tasks.answering import SpanAnsweringTask
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.tasks.generation import GenerationTask
from lmtasks.tasks.tagging import TaggingTask
from lmtasks.tasks.translation import TranslationTask
from lmtasks.text.tokenizer import Tokenizer, TokenizerConfig

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

SIZES = {"d_model": 16, "n_heads": 2, "d_ff": 32, "encoder_layers": 1, "decoder_layers": 1}
MOODS = ("bad", "fair", "good")
LAYOUTS = {
    "post-norm": {"norm_position": "post", "sinusoids": "paper", "output_bias": True, "activation": "silu"},
    "learned": {"positions": "learned", "position_offset": 2, "embedding_norm": True, "norm_position": "post"},
    "rotary": {"positions": "rotary", "norm": "rms", "gated": True, "bias": False},
    "relative": {"positions": "relative", "activation": "gelu", "encoder_layers": 2, "decoder_layers": 2},
    "t5": {
        "positions": "relative", "norm": "rms", "bias": False, "gated": True, "activation": "gelu_tanh", "d_head": 6,
        "scaled_embeddings": False, "scaled_attention": False, "scaled_output": True, "relative_buckets": 8,
        "relative_distance": 20,
    },
    "shared-layers": {"shared_layers": True, "d_head": 12, "encoder_layers": 2, "decoder_layers": 2},
    "convolution": {"convolution": 5, "tied_embeddings": False, "segments": 2, "separator": 2},
    "zero-start": {"zero_start": True, "embedding_rows": 300},
    "ssru": {"decoder_mixing": "ssru", "zero_start": True, "norm_position": "post", "decoder_layers": 2},
    "ssru-language-model": {"decoder_mixing": "ssru", "encoder_layers": 0},
    "language-model": {"encoder_layers": 0, "decoder_layers": 2},
}  # fmt: skip
HEADS = {
    "mean": ClassificationTask(labels=MOODS),
    "maximum": ClassificationTask(labels=MOODS, pooling="max", hidden="tanh"),
    "first": ClassificationTask(labels=MOODS, pooling="first", hidden="relu"),
    "attention": ClassificationTask(labels=MOODS, pooling="attention", multi_label=True),
    "tags": TaggingTask(labels=("X", "Y"), crf=False, spelling=False, layers=0),
    "tags-with-layers": TaggingTask(labels=("X", "Y"), layers=2),
    "spans-without-layers": SpanAnsweringTask(layers=0, attention=False, word_match=False),
    "spans-with-layers": SpanAnsweringTask(layers=2),
}
DECODINGS = {
    "greedy": Decoding(beam=1, max_length=20),
    "beam": Decoding(beam=4, n_best=4, max_length=20),
    "samples": Decoding(beam=1, sample=True, seed=7, n_best=3, max_length=20),
}
SEVERAL = {
    "translation": TranslationTask(("en-de",)),
    "mood": ClassificationTask(labels=MOODS),
    "names": TaggingTask(labels=("X", "Y"), layers=1),
}


class Lookup(torch.nn.Embedding):
    """An encoder of one's own: a vector for each token."""

    def forward(self, ids, mask):
        return super().forward(ids) * mask.unsqueeze(-1)


class Branching(Lookup):
    """One that does what its numbers say, so that nothing can be traced."""

    def forward(self, ids, mask):
        return super().forward(ids, mask) if ids.sum() > 9 else super().forward(ids + 1, mask)


@dataclass(frozen=True)
class Own(BackboneConfig):
    """Settings that tell neither its width nor its longest text."""

    encoder_layers: int = 1
    decoder_layers: int = 0
    branches: bool = False

    def build(self, vocab_size):
        kind = Branching if self.branches else Lookup
        return WrappedEncoder(kind(vocab_size, 8), d_model=8, max_length=20)


def tiny(tasks, **settings):
    """Return a model with random weights that give each text another answer; it is in training mode."""
    torch.manual_seed(0)
    model = Model(tasks, TransformerConfig(**(SIZES | settings)), Decoding(beam=3, max_length=24))
    model.build(Tokenizer.train([], TokenizerConfig("byte")))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        for module in model.modules():
            if getattr(module, "padding_idx", None) is not None:
                module.weight[module.padding_idx] = 0
    return model


def recurrent(tasks, cell):
    """Return an LSTM or GRU with random weights."""
    torch.manual_seed(0)
    writes = any(task.generates for task in tasks.values())
    model = Model(tasks, RecurrentConfig(d_model=16, encoder_layers=2, decoder_layers=int(writes), cell=cell))
    model.build(Tokenizer.train([], TokenizerConfig("byte")))
    return model


def own(config):
    """Return a classifier above an encoder of one's own."""
    torch.manual_seed(0)
    model = Model({"mood": ClassificationTask(labels=MOODS)}, config)
    model.build(Tokenizer.train([], TokenizerConfig("byte")))
    return model


def exported(model, folder, precision="float32"):
    """Return what answers from ONNX files in place of a model."""
    write_export(model, "onnx", folder, precision)
    return open_export(folder)


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A model with three tasks, what ONNX Runtime answers in its place, and the folder of the files."""
    model, folder = tiny(SEVERAL), tmp_path_factory.mktemp("several")
    theirs = exported(model, folder)
    return model.eval(), theirs, folder


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    """A language model with an adapter and a short context, and what ONNX Runtime answers in its place."""
    model = tiny({"generation": GenerationTask(block=12)}, encoder_layers=0, positions="rotary")
    put(model.backbone, adapters(model.backbone, LoRA(rank=2)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora" in name:
                parameter.normal_()
    return model.eval(), exported(model, tmp_path_factory.mktemp("writer"))


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A model that answers questions, what ONNX Runtime answers in its place, and the folder of the file."""
    model, folder = tiny({"answering": SpanAnsweringTask()}, decoder_layers=0), tmp_path_factory.mktemp("reader")
    return model.eval(), exported(model, folder), folder


def rows(count, seed=0):
    """Return rows with texts of one to thirty words, some of which begin with capitals."""
    draw = random.Random(seed)
    words = ["Anna", "and", "Bob", "has", "a", "small", "dog", "in", "Paris", ".", "It", "saw", "last", "Year"]
    texts = [[" ".join(draw.choices(words, k=draw.randint(1, 30))) for _ in range(2)] for _ in range(count)]
    return [{"text": one, "en": one, "question": two[:20], "context": one} for one, two in texts]


def same(ours, theirs):
    """Check that all answers are the same, with scores that differ by rounding."""
    for own, found in zip(ours, theirs, strict=True):
        assert [each.text for each in found] == [each.text for each in own]
        assert [each.score for each in found] == pytest.approx([each.score for each in own], abs=1e-4, rel=1e-4)


@torch.no_grad()
def largest_difference(model, theirs, sources, length):
    """Return that of states and logits while a beam grows, is reordered and loses a source."""
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 200, (sources, length), generator=draw)
    mask = torch.arange(length) < torch.randint(1, length + 1, (sources, 1), generator=draw)
    ours, found, reads = model.backbone, theirs.backbone, model.backbone_config.has_encoder
    memories = [each.encode(ids, mask) if reads else None for each in (ours, found)]
    differences = [(memories[0].states - memories[1].states)[mask].abs().max()] if reads else []
    states = [each.init_state(memory) for each, memory in zip((ours, found), memories, strict=True)]
    rows = torch.arange(sources)[:, None]  # (B, K)
    for target, width in ((1, 3), (2, 2), (1, 2), (1, 1)):
        tokens = torch.randint(5, 200, (rows.numel(), target), generator=draw)
        logits = [ours.logits(ours.step(tokens, states[0])), found.logits(found.step(tokens, states[1]))]
        differences.append((logits[0] - logits[1]).abs().max())
        rows = rows.gather(1, torch.randint(0, rows.size(1), (len(rows), width), generator=draw))
        rows = rows[1:] if len(rows) > 1 else rows
        for state in states:
            state.select(rows)
        rows = torch.arange(rows.numel()).view(rows.shape)
    return max(differences).item()


def test_files_are_named_by_what_they_hold(several, reader):
    names = ["decoder_with_past_model.onnx", "encoder_model.onnx", "mood.onnx", "names.onnx"]
    assert sorted(path.name for path in several[2].glob("*.onnx")) == names
    assert [path.name for path in reader[2].glob("*.onnx")] == ["model.onnx"]


def test_files_do_not_tell_where_they_were_made(several):
    place = str(Path(lmtasks.__file__).parent).encode()
    assert not any(place in path.read_bytes() for path in several[2].glob("*.onnx"))


def test_inputs_and_outputs_are_those_of_optimum(several):
    _, theirs, _ = several
    encoder, decoder = theirs.backbone.encoder, theirs.backbone.decoder
    assert encoder.inputs == {"input_ids": ["batch", "length"], "attention_mask": ["batch", "length"]}
    assert encoder.outputs[:3] == ["last_hidden_state", "present.0.encoder.key", "present.0.encoder.value"]
    assert decoder.inputs["past_key_values.0.decoder.key"] == ["rows", 2, "past", 8]
    assert decoder.inputs["past_key_values.0.encoder.value"] == ["batch", 2, "length", 8]
    assert decoder.outputs[:2] == ["logits", "present.0.decoder.key"]


@pytest.mark.parametrize(("sources", "length"), [(1, 1), (1, 60), (8, 2), (8, 200)])
def test_any_sizes_give_the_logits_of_the_model(several, sources, length):
    model, theirs, _ = several
    assert largest_difference(model, theirs, sources, length) < 1e-4


@pytest.mark.parametrize("name", DECODINGS)
def test_search_finds_the_texts_and_scores_of_the_model(several, name):
    model, theirs, _ = several
    same(*(each.solve(rows(12), "translation", decoding=DECODINGS[name], prefix="Ja") for each in (model, theirs)))


def test_a_stream_is_that_of_the_model(several):
    ours, theirs = (list(each.stream("Anna", "translation", DECODINGS["greedy"])) for each in several[:2])
    assert theirs == ours


@pytest.mark.parametrize("task", ["mood", "names"])
def test_tasks_that_read_have_the_answers_of_the_model(several, task):
    model, theirs, _ = several
    ours, found = (each.solve(rows(20), task) for each in (model, theirs))
    same(ours, found)
    assert [own.spans for own, *_ in ours] == [own.spans for own, *_ in found]


def test_answers_are_found_in_the_places_of_the_model(reader):
    model, theirs, _ = reader
    same(model.solve(rows(20)), theirs.solve(rows(20)))
    short = [{"question": "a", "context": "b"}]
    same(model.solve(short), theirs.solve(short))


@pytest.mark.parametrize("name", DECODINGS)
def test_a_language_model_with_an_adapter_writes_beyond_its_context(writer, name):
    model, theirs = writer
    same(*(each.solve(rows(6), decoding=DECODINGS[name]) for each in (model, theirs)))
    prompt = {"text": "Anna"}
    assert list(theirs.stream(prompt, decoding=DECODINGS["greedy"])) == list(
        model.stream(prompt, decoding=DECODINGS["greedy"])
    )


def test_threads_share_the_sessions(several):
    _, theirs, _ = several
    predictor = theirs.predictor()
    assert predictor.backbone.decoder is theirs.backbone.decoder
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: predictor.solve(rows(4), "translation", decoding=DECODINGS["beam"]), range(8)))
    assert all(each == found[0] for each in found)


def test_writing_leaves_the_model_as_it_was(tmp_path):
    model = tiny({"mood": ClassificationTask(labels=MOODS)}, decoder_layers=0).bfloat16()
    put(model.backbone, adapters(model.backbone, LoRA(rank=2)))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    write_onnx(model, tmp_path)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert all(module.training for module in model.modules() if isinstance(module, Dropout))


def test_weights_of_8_bits_are_smaller_and_answer_almost_the_same(reader, tmp_path):
    model, _, folder = reader
    theirs = exported(model, tmp_path, "int8")
    assert [path.name for path in tmp_path.glob("*.onnx")] == ["model.onnx"]
    assert (tmp_path / "model.onnx").stat().st_size < (folder / "model.onnx").stat().st_size
    pairs = list(zip(model.solve(rows(20)), theirs.solve(rows(20)), strict=True))
    assert sum(own.text == found.text for (own, *_), (found, *_) in pairs) >= 15
    assert all(abs(own.score - found.score) < 1 for (own, *_), (found, *_) in pairs)


def test_an_encoder_of_ones_own_cuts_texts_as_in_the_model(tmp_path):
    model = own(Own()).eval()
    theirs = exported(model, tmp_path)
    assert theirs.backbone.max_length == model.backbone.max_length == 20
    same(model.solve(rows(8)), theirs.solve(rows(8)))


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_has_the_logits_of_the_model(name, tmp_path):
    reads = LAYOUTS[name].get("encoder_layers") != 0
    model = tiny({"task": TranslationTask(("en-de",)) if reads else GenerationTask(block=40)}, **LAYOUTS[name]).eval()
    theirs = exported(model, tmp_path)
    for sources, length in ((1, 1), (8, 3), (1, 200), (8, 200)):
        assert largest_difference(model, theirs, sources, length) < 1e-4
    for decoding in DECODINGS.values():
        same(*(each.solve(rows(6), decoding=decoding) for each in (model, theirs)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mean", "tags-with-layers", "spans-with-layers"])
def test_an_lstm_that_reads_has_the_answers_of_the_model(name, tmp_path):
    model = recurrent({"task": HEADS[name]}, "lstm").eval()
    theirs = exported(model, tmp_path)
    for chosen in (rows(1), rows(30)):
        same(model.solve(chosen), theirs.solve(chosen))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ssru", "rotary"])
def test_the_program_beside_the_files_writes_the_texts_of_the_model(name, tmp_path):
    model = tiny({"task": TranslationTask(("en-de",))}, **LAYOUTS[name]).eval()
    write_export(model, "onnx", tmp_path)
    for text in ("Anna has a small dog", "Paris"):
        ran = subprocess.run([sys.executable, tmp_path / "run.py", text], capture_output=True, text=True, check=True)
        assert ran.stdout.strip() == model.translate(text).strip()


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
def test_every_head_has_the_logits_of_the_model(name, tmp_path):
    model = tiny({"task": HEADS[name]}, decoder_layers=0).eval()
    theirs = exported(model, tmp_path)
    for chosen in (rows(1), rows(8), [{"text": "a", "question": "a", "context": "b"}], rows(30)):
        batch = Batch.of("task", model.task.questions(chosen, model.tokenizer), model.tokenizer.pad_id)
        with torch.no_grad():
            ours, found = (each.heads["task"].logits(each.backbone, batch) for each in (model, theirs))
        if isinstance(ours, tuple):
            assert torch.equal(ours[1], found[1])
            words = slice(None) if name.startswith("spans") else ours[1]
            ours, found = ours[0][words], found[0][words]
        torch.testing.assert_close(found, ours, atol=1e-4, rtol=1e-4)
        same(model.solve(chosen), theirs.solve(chosen))


@pytest.mark.parametrize(
    ("task", "cell", "problem"),
    [
        (TranslationTask(("en-de",)), "lstm", "model.backbone is a Recurrent, and only a Transformer writes in ONNX"),
        (ClassificationTask(labels=MOODS), "gru", "model.backbone.cell gru: ONNX files have the LSTM only"),
        (ClassificationTask(labels=MOODS, ngrams=3), "lstm", "model.tasks.own.ngrams: ONNX files cannot cut texts"),
    ],
)
def test_what_cannot_be_expressed_is_named(task, cell, problem, tmp_path):
    with pytest.raises(InputError, match=problem):
        write_onnx(recurrent({"own": task}, cell), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_head_of_ones_own_is_refused(tmp_path):
    model = tiny({"mood": ClassificationTask(labels=MOODS)}, decoder_layers=0)
    model.heads["mood"] = torch.nn.Linear(2, 2)
    with pytest.raises(InputError, match=r"model\.tasks\.mood: --to onnx knows no Linear"):
        write_onnx(model, tmp_path)


def test_an_encoder_that_cannot_be_traced_is_refused_in_one_line(tmp_path):
    line = r"model\.onnx: PyTorch cannot trace it \(.+\); keep this model in torch"
    with pytest.raises(InputError, match=line) as found:
        write_onnx(own(Own(branches=True)), tmp_path)
    assert "\n" not in str(found.value)


def test_a_task_does_not_take_the_name_of_another_file(tmp_path):
    tasks = {"translation": SEVERAL["translation"], "encoder_model": SEVERAL["mood"]}
    with pytest.raises(InputError, match=r"encoder_model\.onnx is a file of the tasks that write; rename this task"):
        write_onnx(tiny(tasks), tmp_path)


def test_packages_that_are_missing_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("lmtasks.export.onnx.find_spec", lambda name: None)
    model = tiny({"mood": ClassificationTask(labels=MOODS)}, decoder_layers=0)
    with pytest.raises(InputError, match=r"onnx, onnxscript, onnxruntime; pip install 'lmtasks\[onnx\]'"):
        write_onnx(model, tmp_path)


def test_the_package_that_runs_them_is_named(reader, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    model, _, folder = reader
    with pytest.raises(InputError, match="package onnxruntime; pip install onnxruntime"):
        adapt_heads(model, folder, "cpu", 1)


def test_files_that_are_missing_or_damaged_are_named(reader, tmp_path):
    model, _, folder = reader
    with pytest.raises(InputError, match=r"model\.onnx is missing"):
        adapt_heads(model, tmp_path, "cpu", 1)
    (tmp_path / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:1000])
    with pytest.raises(InputError, match=r"model\.onnx is missing or damaged"):
        adapt_heads(model, tmp_path, "cpu", 1)


def test_devices_that_are_not_there_are_named(reader, monkeypatch):
    import onnxruntime

    model, _, folder = reader
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    for device in ("cuda", "mps", "cuda:1"):
        with pytest.raises(InputError, match=f"no device '?{device}"):
            adapt_heads(model, folder, device, 1)


def test_attention_is_not_in_the_files(several):
    _, theirs, _ = several
    with pytest.raises(InputError, match="ONNX files do not give their attention"):
        theirs.align("Anna", "Ja", task="translation")
