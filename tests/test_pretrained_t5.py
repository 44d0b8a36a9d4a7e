"""T5 and its kind in our Transformer: the same logits, gradients, texts and token ids as with transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from foreign import (
    WORDS,
    assert_same_names,
    assert_same_texts,
    assert_same_training,
    save_t5,
    sentencepiece_model,
    sources,
    transformers,
)

from lmtasks.backbones.attention import RelativeBias
from lmtasks.backbones.base import Backbone
from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.decoding import Decoding
from lmtasks.errors import InputError
from lmtasks.model import start_marks
from lmtasks.pretrained.folder import Folder
from lmtasks.pretrained.pretrained import Pretrained, find_family, open_model
from lmtasks.pretrained.table import Table

KINDS = {
    "T5": {},
    "T5 1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "gated silu": {"feed_forward_proj": "gated-silu", "num_decoder_layers": 1},
    "exact gelu": {"feed_forward_proj": "gelu", "num_decoder_layers": None},
    "eps": {"layer_norm_epsilon": 0.1, "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20},
    "mT5": {"kind": "mt5", "feed_forward_proj": "gated-gelu"},
}
every = pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
TASKS = {
    "summarization": {"prefix": "the dog : ", "max_length": 200},
    "translation_en_to_de": {"prefix": "translate a to the : "},
    "translation_en_to_fr": {"prefix": "translate a to a : "},
}


def opened(folder: Path, **settings) -> tuple[Backbone, Table]:
    backbone = Pretrained(str(folder), **settings).build(1).eval()
    return backbone, find_family(Folder(str(folder))).table()


def set_config(folder: Path, **settings) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@every
def test_logits_loss_and_gradients_are_those_of_transformers(settings, tmp_path):
    theirs = save_t5(tmp_path, **settings)
    ours, table = opened(tmp_path)
    assert_same_names(ours, theirs, table)
    assert_same_training(ours, theirs, table, start=0)


def test_far_tokens_have_the_same_bias(tmp_path):
    theirs = save_t5(tmp_path, relative_attention_max_distance=40)
    assert_same_training(*opened(tmp_path)[:1], theirs, opened(tmp_path)[1], start=0, longest=150)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "distance"), [(32, 128), (8, 20), (16, 1000), (64, 64), (6, 7)])
def test_buckets_are_those_of_transformers(buckets, distance, bidirectional):
    bias = RelativeBias(
        TransformerConfig(n_heads=1, relative_buckets=buckets, relative_distance=distance), bidirectional
    )
    bias.bias.weight.data = torch.arange(buckets)[:, None].float()
    places = torch.arange(1500)
    between = places[None] - places[::60, None]
    wanted = transformers.models.t5.modeling_t5.T5Attention._relative_position_bucket(
        between, bidirectional, buckets, distance
    )
    assert torch.equal(bias(1500, 1500)[0, 0, ::60].long(), wanted)


SAME_LAYERS = {"num_decoder_layers": 2}  # the cache of transformers has as many as the encoder


@pytest.mark.parametrize("kind", ["T5", "T5 1.1", "mT5"])
def test_greedy_texts_are_those_of_transformers(kind, tmp_path):
    theirs = save_t5(tmp_path, **KINDS[kind], **SAME_LAYERS)
    assert assert_same_texts(opened(tmp_path)[0], theirs, 0, 1, Decoding(1, max_length=15, max_ratio=0.0)) > 80


@pytest.mark.parametrize("early_stop", ["estimate", "beam", "exact"])
@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_beams_find_the_texts_of_transformers(early_stop, penalty, tmp_path):
    theirs = save_t5(tmp_path, **SAME_LAYERS)
    decoding = Decoding(4, penalty, max_length=15, max_ratio=0.0, early_stop=early_stop)
    assert assert_same_texts(opened(tmp_path)[0], theirs, 0, 1, decoding) > 40


def test_settings_of_generation_mean_the_same(tmp_path):
    theirs = save_t5(tmp_path, **SAME_LAYERS)
    given = {"min_length": 4, "num_beams": 3, "no_repeat_ngram_size": 2, "max_length": 16, "length_penalty": 0.5}
    (tmp_path / "generation_config.json").write_text(json.dumps(given))
    decoding = open_model(str(tmp_path)).decoding
    more = {name: given[name] for name in ("min_length", "no_repeat_ngram_size")}
    # theirs counts the first token of the decoder, <pad>, among the n-grams; no real T5 writes it again
    assert assert_same_texts(opened(tmp_path)[0], theirs, 0, 1, decoding, never=[0], **more) > 80
    assert decoding == Decoding(
        3, 0.5, max_length=15, max_ratio=0, min_length=4, early_stop="estimate", no_repeat_ngram=2
    )


def test_texts_are_framed_and_answered_as_by_transformers(tmp_path):
    theirs = save_t5(tmp_path, **SAME_LAYERS)
    set_config(tmp_path, task_specific_params=TASKS)
    model, original = open_model(str(tmp_path)), transformers.AutoTokenizer.from_pretrained(tmp_path)
    texts = [" ".join(WORDS[i : i + 1 + i % 5]) for i in range(15)] + ["a <extra_id_3> cat", "A  dog\nsees"]
    _, tokenizer = model.built()
    ids = tokenizer.encode_batch(texts)
    assert [tokenizer.frame_source(row) for row in ids] == original(texts)["input_ids"]
    assert [tokenizer.frame_target(row) for row in ids] == original(text_target=texts)["input_ids"]
    assert tokenizer.mark("<extra_id_0>") == original.convert_tokens_to_ids("<extra_id_0>")

    def wanted(texts):
        written = theirs.generate(**original(texts, padding=True, return_tensors="pt"), max_length=13, do_sample=False)
        return original.batch_decode(written, skip_special_tokens=True)

    greedy = Decoding(1, max_length=12, max_ratio=0)
    ended = model.generate(texts, greedy)
    assert all(own == other[: len(own)] for own, other in zip(ended, wanted(texts), strict=True))
    for task, words in (("summarisation", "the dog : "), ("translation-en-de", "translate a to the : ")):
        ((found, *_), *_) = model.solve([{"text": texts[4], "en": texts[4]}], task, decoding=greedy)
        assert found.text == model.generate(words + texts[4], greedy)


def test_each_task_of_config_json_has_its_words_and_no_start_token(tmp_path):
    save_t5(tmp_path)
    set_config(tmp_path, task_specific_params=TASKS)
    model = open_model(str(tmp_path))
    assert list(model.tasks) == ["generation", "summarisation", "translation-en-de", "translation-en-fr"]
    assert not start_marks(model.tasks)
    texts = ["a dog runs", ""]
    assert model.translate(texts, "fr") == model.translate(texts, "fr", task="translation-en-fr")
    with pytest.raises(InputError, match=r"translation-en-de, translation-en-fr"):
        model.translate(texts)


def test_an_embedding_and_an_output_that_differ_are_both_read(tmp_path):
    theirs = save_t5(tmp_path, tie_word_embeddings=False)
    theirs.lm_head.weight = torch.nn.Parameter(torch.randn_like(theirs.lm_head.weight))
    theirs.save_pretrained(tmp_path)
    theirs = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path).eval()
    ours, table = opened(tmp_path)
    assert ours.output_weight is not None
    assert_same_names(ours, theirs, table)
    assert_same_training(ours, theirs, table, start=0)


def test_an_encoder_alone_is_read_and_does_nothing_untrained(tmp_path):
    save_t5(tmp_path)
    theirs = transformers.T5EncoderModel.from_pretrained(tmp_path)
    (tmp_path / "encoder").mkdir()
    theirs.save_pretrained(tmp_path / "encoder")
    (tmp_path / "encoder" / "tokenizer.json").write_text((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "encoder" / "tokenizer_config.json").write_text((tmp_path / "tokenizer_config.json").read_text())
    source, mask = sources(theirs.config.vocab_size, 3, 9)
    wanted = theirs(input_ids=source, attention_mask=mask.long()).last_hidden_state
    for folder, settings in ((tmp_path / "encoder", {}), (tmp_path, {"decoder_layers": 0})):
        states = opened(folder, **settings)[0].encode(source, mask).states
        assert torch.allclose(states[mask], wanted[mask], atol=1e-5)
    assert Pretrained(str(tmp_path / "encoder"), decoder_layers=2).build(1).decoder is not None
    with pytest.raises(InputError, match="does nothing before it is trained"):
        open_model(str(tmp_path / "encoder"))


def test_bytes_and_sentencepieces_stand_for_a_missing_tokenizer_json(tmp_path):
    save_t5(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "ByT5Tokenizer"}))
    tokenizer = find_family(Folder(str(tmp_path))).tokenizer()
    assert tokenizer.frame_source(tokenizer.encode("äb")) == transformers.ByT5Tokenizer()("äb")["input_ids"]
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"neither tokenizer.json nor spiece.model"):
        find_family(Folder(str(tmp_path))).tokenizer()
    (tmp_path / "spiece.model").write_bytes(sentencepiece_model(300))
    tokenizer = find_family(Folder(str(tmp_path))).tokenizer()
    original = transformers.T5Tokenizer.from_pretrained(tmp_path)
    for text in ("The old miller has a dog.", "a <extra_id_0> b <extra_id_99>", ""):
        assert tokenizer.frame_source(tokenizer.encode(text)) == original(text)["input_ids"]


def test_dropout_is_everywhere_where_t5_has_it(tmp_path):
    save_t5(tmp_path)
    set_config(tmp_path, dropout_rate=0.2)
    for given, wanted in ((None, 0.2), (0.0, 0.0)):
        config, _ = Pretrained(str(tmp_path), dropout=given, attention_dropout=given).resolve()
        assert (config.dropout, config.attention_dropout, config.activation_dropout) == (wanted,) * 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"feed_forward_proj": "gated-tanh"}, "feed_forward_proj 'gated-tanh'.*relu or"),
        ({"d_kv": None}, "config.json has no d_kv"),
        ({"num_layers": 3}, "lack encoder.block.2"),
        ({"model_type": "umt5"}, "model_type 'umt5', which lmtasks does not read"),
    ],
)
def test_what_ours_cannot_be_is_refused(settings, said, tmp_path):
    save_t5(tmp_path)
    set_config(tmp_path, **settings)
    with pytest.raises(InputError, match=said):
        Pretrained(str(tmp_path)).build(1)
