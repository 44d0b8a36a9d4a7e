"""Models of CTranslate2: what it answers is what our own search answers, for every layout that it has."""

from __future__ import annotations

import random

import pytest
import torch
from test_export import MODELS, SIMPLE_SPANS, SIZES, WORDS, reader, tiny

from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.batch import Batch
from lmtasks.decoding import Decoding
from lmtasks.errors import InputError
from lmtasks.export.ct2 import write_ct2
from lmtasks.export.exported import open_export, write_export
from lmtasks.model import Model
from lmtasks.tasks.answering import SpanAnsweringTask
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.tasks.generation import GenerationTask
from lmtasks.tasks.summarisation import SummarisationTask
from lmtasks.tasks.tagging import TaggingTask
from lmtasks.tasks.translation import TranslationTask
from lmtasks.text.tokenizer import Tokenizer, TokenizerConfig

LAYOUTS = {
    "sinusoidal": {},
    "post-norm": {"norm_position": "post", "sinusoids": "paper", "output_bias": True, "activation": "silu"},
    "learned": {"positions": "learned", "position_offset": 2, "embedding_norm": True, "norm_position": "post"},
    "rotary": {"positions": "rotary", "norm": "rms", "gated": True, "activation": "silu", "bias": False},
    "relative": {"positions": "relative", "activation": "gelu"},
    "t5": {
        "positions": "relative", "norm": "rms", "bias": False, "gated": True, "activation": "gelu_tanh", "d_head": 6,
        "scaled_embeddings": False, "scaled_attention": False, "scaled_output": True, "relative_buckets": 8,
        "relative_distance": 20,
    },
    "head-width": {"d_head": 12, "norm_eps": 1e-12},
    "untied": {"tied_embeddings": False, "scaled_embeddings": False, "norm_position": "post", "positions": "rotary"},
    "shared-layers": {"shared_layers": True, "positions": "learned", "embedding_norm": True},
    "zero-start": {"zero_start": True, "norm_position": "post", "embedding_rows": 330},
}  # fmt: skip


def exported(model, folder, precision="float32"):
    """Return what CTranslate2 answers in place of a model."""
    folder.mkdir()
    write_export(model, "ct2", folder, precision)
    return open_export(folder)


def texts(count, seed=0):
    """Return texts of one to twelve words."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS.split(), k=draw.randint(1, 12))) for _ in range(count)]


@pytest.mark.parametrize("name", LAYOUTS)
def test_greedy_search_finds_the_texts_and_scores_of_ours(name, tmp_path):
    model = tiny({"translation": TranslationTask(("en-de",))}, **LAYOUTS[name])
    theirs, rows = exported(model, tmp_path / "out"), [{"en": text} for text in texts(200)]
    same(model, theirs, rows, Decoding(beam=1, max_length=40))


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_beam_search_finds_the_texts_and_scores_of_ours(name, tmp_path):
    model = trained(tiny({"translation": TranslationTask(("en-de",))}, **LAYOUTS[name]))
    theirs, rows = exported(model, tmp_path / "out"), [{"en": text} for text in texts(200)]
    for beam in (1, 4):
        same(model, theirs, rows, Decoding(beam=beam, max_length=60, early_stop="beam", length_penalty=0.8))


def trained(model, steps=250):
    """Return a model that has learned to turn the words round: trained ones have few texts that are about as good."""
    (task,) = model.tasks.values()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    rows = [{"en": text, task.targets[0]: " ".join(reversed(text.split()))} for text in texts(32 * 40, seed=5)]
    examples = task.examples(rows, model.tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter.size(1) ** -0.5)
    for step in range(steps):
        first = 32 * step % len(examples)
        batch = Batch.of("translation", examples[first : first + 32], model.tokenizer.pad_id)
        loss = model.heads["translation"].loss(model.backbone, batch)
        optimizer.zero_grad()
        (loss.total / loss.count).backward()
        optimizer.step()
    return model


def same(model, theirs, rows, decoding):
    pairs = list(zip(model.solve(rows, decoding=decoding), theirs.solve(rows, decoding=decoding), strict=True))
    assert [other.text for _, (other, *_) in pairs] == [own.text for (own, *_), _ in pairs]
    for (own, *_), (other, *_) in pairs:
        assert other.score == pytest.approx(own.score, abs=2e-4, rel=2e-4)


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    """A model that translates into two languages, and what CTranslate2 answers for it."""
    model = trained(MODELS["translation"](), steps=150)
    return model, exported(model, tmp_path_factory.mktemp("ct2") / "out")


@pytest.mark.parametrize(
    "settings",
    [
        {"beam": 3, "n_best": 3},
        {"length_penalty": 0.0, "beam": 3},
        {"max_length": 5, "beam": 1},
        {"max_ratio": 0.2, "beam": 1},
        {"min_length": 8, "beam": 1},
        {"no_repeat_ngram": 2, "beam": 1},
        {"repetition_penalty": 1.5, "beam": 1},
    ],
    ids=str,
)
def test_settings_of_the_search_mean_the_same(writer, settings):
    model, theirs = writer
    decoding = Decoding(**{"max_length": 40, "early_stop": "beam"} | settings)
    rows = [{"en": text} for text in texts(40, seed=1)]
    pairs = zip(*(each.solve(rows, group="en-de", decoding=decoding) for each in (model, theirs)), strict=True)
    for ours, found in pairs:
        assert [each.text for each in found] == [each.text for each in ours]
        assert [each.score for each in found] == pytest.approx([each.score for each in ours], abs=2e-3)


def test_a_prefix_and_a_language_are_kept(writer):
    for target in ("de", "fr"):
        decoding = Decoding(beam=2, max_length=20, early_stop="beam")
        ours, found = (each.translate("Anna has a cat", target, "en", decoding, "The dog") for each in writer)
        assert found == ours
        assert found.startswith("The dog")


def test_a_stream_is_the_text(writer):
    _, theirs = writer
    decoding = Decoding(beam=1, max_length=12)
    whole = theirs.translate("Anna has a cat", "de", decoding=decoding)
    assert "".join(theirs.stream("Anna has a cat", decoding=decoding, group="en-de")) == whole


def test_samples_vary(writer):
    _, theirs = writer
    found = theirs.solve(
        [{"en": "Anna"}], group="en-de", decoding=Decoding(beam=1, sample=True, n_best=20, temperature=2.0)
    )
    assert len({each.text for each in found[0]}) > 1


@pytest.mark.parametrize(
    ("settings", "problem"), [({"min_p": 0.1}, "decoding.min_p 0.1"), ({"seed": 7}, "samples of CTranslate2 cannot be")]
)
def test_what_its_search_lacks_is_refused(writer, settings, problem):
    _, theirs = writer
    with pytest.raises(InputError, match=problem):
        theirs.translate("Anna", "de", decoding=Decoding(beam=1, sample=True, **settings))


def test_a_language_model_goes_on_beyond_the_blocks_it_was_trained_on(tmp_path):
    model = tiny({"generation": GenerationTask(block=16)}, encoder_layers=0)
    theirs = exported(model, tmp_path / "out")
    decoding = Decoding(beam=1, max_length=60)
    for text in ("", "Anna has a cat", " ".join(["the dog of Anna"] * 9)):
        (own, *_), *_ = model.solve([{"text": text}], decoding=decoding)
        (other, *_), *_ = theirs.solve([{"text": text}], decoding=decoding)
        assert other.text == own.text
        assert other.score == pytest.approx(own.score, abs=1e-3)
    with pytest.raises(InputError, match="beyond the 16 tokens"):
        theirs.generate("Anna", Decoding(beam=2, max_length=60))


@pytest.mark.parametrize(
    "others", [{}, {"scaled_embeddings": True}, {"positions": "rotary"}, {"positions": "relative"}]
)
@pytest.mark.parametrize("segments", [0, 1, 2])
def test_an_encoder_tells_two_texts_apart(tmp_path, segments, others):
    bert = {
        "norm_position": "post", "positions": "learned", "embedding_norm": True, "scaled_embeddings": False,
        "segments": segments, "separator": 2,
    }  # fmt: skip
    model = reader(SpanAnsweringTask(**SIMPLE_SPANS), **(bert | others))
    theirs = exported(model, tmp_path / "out")
    rows = [{"question": text, "context": WORDS} for text in texts(20)]
    for (own, *_), (other, *_) in zip(model.solve(rows), theirs.solve(rows), strict=True):
        assert (other.text, other.spans) == (own.text, own.spans)
        assert other.score == pytest.approx(own.score, abs=1e-4)


@pytest.mark.parametrize(
    "task",
    [
        ClassificationTask(labels=("a", "b"), ngrams=4, pooling="attention"),
        TaggingTask(labels=("X",), writing=("letters",)),
        SpanAnsweringTask(window=64, stride=32),
    ],
    ids=lambda task: task.kind,
)
def test_heads_with_layers_of_their_own_read_its_states(tmp_path, task):
    model = reader(task)
    theirs = exported(model, tmp_path / "out")
    rows = [{"text": text, "question": text, "context": WORDS} for text in texts(20)]
    for (own, *_), (other, *_) in zip(model.solve(rows), theirs.solve(rows), strict=True):
        assert (other.text, other.spans) == (own.text, own.spans)
        assert other.score == pytest.approx(own.score, abs=1e-4)
    assert not list((tmp_path / "out").glob("run*.py"))


def test_tasks_that_read_and_tasks_that_write_have_a_model_each(tmp_path):
    tasks = {
        "de": TranslationTask(("en-de",)), "sum": SummarisationTask(), "mood": ClassificationTask(labels=("a", "b")),
    }  # fmt: skip
    model = tiny(tasks, Decoding(beam=1, max_length=20))
    theirs = exported(model, tmp_path / "out")
    assert (tmp_path / "out" / "encoder" / "model.bin").is_file()
    for text in texts(20):
        assert theirs.translate(text) == model.translate(text)
        assert theirs.summarise(text) == model.summarise(text)
        assert theirs.probabilities(text) == pytest.approx(model.probabilities(text), abs=1e-5)


def test_fewer_bits_take_less_room_and_leave_the_model_as_it_is(tmp_path):
    model = tiny({"translation": TranslationTask(("en-de",))}, d_model=128, d_ff=256)
    sizes, before = {}, {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for precision in ("float32", "float16", "bfloat16", "int8"):
        theirs = exported(model, tmp_path / precision, precision)
        sizes[precision] = (tmp_path / precision / "model.bin").stat().st_size
        assert theirs.translate("Anna has a cat")
    assert sizes["float16"] == sizes["bfloat16"] < 0.6 * sizes["float32"]
    assert sizes["int8"] < 0.4 * sizes["float32"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"convolution": 3}, r"model.backbone.convolution 3: .* onnx"),
        ({"decoder_mixing": "ssru"}, "model.backbone.decoder_mixing ssru: "),
        ({"segments": 2}, "model.backbone.segments 2: "),
    ],
)
def test_what_it_cannot_express_is_named(settings, problem, tmp_path):
    model = Model({"translation": TranslationTask()}, TransformerConfig(**(SIZES | settings)))
    model.build(Tokenizer.train([], TokenizerConfig("byte")))
    with pytest.raises(InputError, match=problem):
        write_ct2(model, tmp_path)


def test_threads_share_a_model(writer):
    from concurrent.futures import ThreadPoolExecutor

    _, theirs = writer
    sources = texts(16, seed=2)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda text: theirs.translate(text, "de"), sources))
    assert found == theirs.translate(sources, "de")
