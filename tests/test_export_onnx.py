"""ONNX files: logits and answers are those of the model, for every layout and head, at any batch and length."""

from __future__ import annotations

import pytest
import torch
from test_export import SIZES, WORDS, reader, tiny
from test_export_ct2 import LAYOUTS, same, texts

from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.batch import Batch, Example
from lmtasks.decoding import Decoding
from lmtasks.errors import InputError
from lmtasks.export.exported import open_export, write_export
from lmtasks.export.onnx import write_onnx
from lmtasks.model import Model
from lmtasks.tasks.answering import SpanAnsweringTask
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.tasks.generation import GenerationTask
from lmtasks.tasks.tagging import TaggingTask
from lmtasks.tasks.translation import TranslationTask
from lmtasks.text.tokenizer import Tokenizer, TokenizerConfig

QANET = {"convolution": 3, "segments": 2, "separator": 2}
TAGS = {"labels": ("X", "Y"), "writing": ("letters",)}
HEADS = {
    "classification": ClassificationTask(labels=("a", "b"), pooling="attention", hidden="tanh"),
    "tagging": TaggingTask(**TAGS),
    "plain tagging": TaggingTask(**TAGS, spelling=False, layers=0, crf=False),
    "answering": SpanAnsweringTask(window=200, stride=100),
    "plain answering": SpanAnsweringTask(window=200, stride=100, attention=False, word_match=False, layers=0),
}


def exported(model, folder, precision="float32"):
    """Return what ONNX Runtime answers in place of a model."""
    folder.mkdir()
    write_export(model, "onnx", folder, precision)
    return open_export(folder)


@torch.no_grad()
def assert_same_steps(model, theirs):
    """Compare the logits of steps of several tokens, and of hypotheses that are kept, doubled and dropped."""
    draw = torch.Generator().manual_seed(1)
    for rows, length in ((1, 1), (1, 200), (8, 1), (8, 37), (8, 200)):
        source = torch.randint(5, 300, (rows, length), generator=draw)
        kept = torch.arange(length) < torch.randint(1, length + 1, (rows, 1), generator=draw)
        states = [each.init_state(each.encode(source, kept)) for each in (model.backbone, theirs.backbone)]
        wide = torch.arange(rows)[:, None].expand(-1, 2)
        for step, select in ((1, None), (4, wide), (1, torch.arange(2 * rows).view(rows, 2)[-1:].flip(1)), (2, None)):
            target = torch.randint(5, 300, (len(states_rows(states)), step), generator=draw)
            backbones = (model.backbone, theirs.backbone)
            ours, others = (
                each.logits(each.step(target, state)) for each, state in zip(backbones, states, strict=True)
            )
            assert (ours - others).abs().max() < 1e-4
            if select is not None:
                for state in states:
                    state.select(select)


def states_rows(states):
    """Return a number for each hypothesis of two states that have equally many."""
    ours, theirs = states
    return range(max(1, len(ours.mask) * ours.beam) if ours.mask is not None else len(theirs.sources))


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_has_the_logits_and_the_answers_of_the_model(name, tmp_path):
    model = tiny({"translation": TranslationTask(("en-de",))}, **LAYOUTS[name])
    theirs = exported(model, tmp_path / "out")
    assert_same_steps(model, theirs)
    rows = [{"en": text} for text in texts(200)]
    same(model, theirs, rows, Decoding(beam=1, max_length=30))
    same(model, theirs, rows, Decoding(beam=4, n_best=2, max_length=30, no_repeat_ngram=3))
    same(model, theirs, rows[:20], Decoding(beam=1, sample=True, top_k=9, seed=3, max_length=30))
    decoding = Decoding(beam=1, max_length=20)
    assert "".join(theirs.stream("the dog", decoding=decoding)) == model.translate("the dog", decoding=decoding)
    assert theirs.translate("the dog", prefix="Rome") == model.translate("the dog", prefix="Rome")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "settings"), [*((name, {}) for name in HEADS), ("answering", QANET)])
def test_every_head_has_the_logits_and_the_answers_of_the_model(name, settings, tmp_path):
    model = reader(HEADS[name], **settings)
    theirs = exported(model, tmp_path / "out")
    draw = torch.Generator().manual_seed(1)
    (kind,) = model.tasks
    for rows, length in ((1, 1), (1, 200), (8, 2), (8, 200)):
        sources = [
            torch.randint(5, 300, (length - row * (length > 8),), generator=draw).tolist() for row in range(rows)
        ]
        examples = [Example([*ids[: len(ids) // 2], 2, *ids[len(ids) // 2 :]], [0] * (len(ids) + 1)) for ids in sources]
        batch = Batch.of(kind, examples, model.tokenizer.pad_id)
        with torch.no_grad():
            ours, others = (each.heads[kind].logits(each.backbone, batch) for each in (model, theirs))
        ours, others = (found if isinstance(found, torch.Tensor) else found[0] for found in (ours, others))
        finite = ours.isfinite()
        assert torch.equal(finite, others.isfinite())
        assert (ours - others)[finite].abs().max() < 1e-3  # of logits up to a hundred
    rows = [{"text": text, "question": text, "context": WORDS} for text in texts(40)]
    for (own, *_), (other, *_) in zip(model.solve(rows), theirs.solve(rows), strict=True):
        assert (other.text, other.spans) == (own.text, own.spans)
        assert other.score == pytest.approx(own.score, abs=1e-3)


@pytest.mark.slow
def test_a_language_model_goes_on_beyond_the_blocks_it_was_trained_on(tmp_path):
    model = tiny({"generation": GenerationTask(block=16)}, encoder_layers=0)
    theirs = exported(model, tmp_path / "out")
    for decoding in (Decoding(beam=1, max_length=60), Decoding(beam=3, max_length=60)):
        for text in ("", "Anna has a cat", " ".join(["the dog of Anna"] * 9)):
            assert theirs.generate(text, decoding) == model.generate(text, decoding)


@pytest.mark.slow
def test_8_bits_take_less_room(tmp_path):
    model = tiny({"translation": TranslationTask(("en-de",))}, d_model=128, d_ff=512)
    sizes = []
    for precision in ("float32", "int8"):
        theirs = exported(model, tmp_path / precision, precision)
        sizes.append(sum(path.stat().st_size for path in (tmp_path / precision).glob("*.onnx")))
        assert theirs.translate("Anna has a cat")
    assert sizes[1] < 0.5 * sizes[0]


@pytest.mark.parametrize(
    ("task", "settings", "problem"),
    [
        (TranslationTask(), {"decoder_mixing": "ssru"}, "model.backbone.decoder_mixing ssru: "),
        (ClassificationTask(labels=("a", "b"), ngrams=3), {"decoder_layers": 0}, "model.tasks.own.ngrams: .*ct2"),
    ],
)
def test_what_it_cannot_express_is_named(task, settings, problem, tmp_path):
    model = Model({"own": task}, TransformerConfig(**(SIZES | settings)))
    model.build(Tokenizer.train([], TokenizerConfig("byte")))
    with pytest.raises(InputError, match=problem):
        write_onnx(model, tmp_path)


def test_the_packages_that_write_are_named_where_they_are_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("lmtasks.export.onnx.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"onnx, onnxscript, onnxruntime; pip install 'lmtasks\[onnx\]'"):
        write_onnx(reader(HEADS["classification"]), tmp_path)
