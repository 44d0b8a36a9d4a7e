"""Marian models: weights, search and tokenizer against transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fairseqs import (
    SIZES,
    assert_names_round_trip,
    assert_same_gradients,
    assert_same_logits,
    assert_same_texts,
    ending_often,
    random_texts,
    redrawn,
    sentencepiece_model,
    write_json,
    write_model,
)
from foreign import EARLY

from lmtasks.errors import InputError
from lmtasks.pretrained.folder import Folder
from lmtasks.pretrained.pretrained import Pretrained, find_family, open_model
from lmtasks.text.pretrained import PretrainedTokenizer

transformers = pytest.importorskip("transformers")
sentencepiece = pytest.importorskip("sentencepiece")

SIZE, END = 100, 0


def marian(
    folder: Path, generation: dict[str, Any] | None = None, languages: tuple[str, ...] = (), **settings: Any
) -> Any:
    """Write a random Marian with its tokenizer and return it; the last id is padding, as in all of OPUS-MT's."""
    config = transformers.MarianConfig(
        vocab_size=SIZE, pad_token_id=SIZE - 1, decoder_start_token_id=SIZE - 1, eos_token_id=END,
        forced_eos_token_id=END, **(SIZES | settings),
    )  # fmt: skip
    model = redrawn(transformers.MarianMTModel(config))
    ending_often(model, model.model.decoder.layers[-1].final_layer_norm, END)
    write_model(folder, model, bad_words_ids=[[SIZE - 1]], min_length=4, max_length=40, **(generation or {}))
    source, target = sentencepiece_model(), sentencepiece_model(seed=1)
    (folder / "source.spm").write_bytes(source)
    (folder / "target.spm").write_bytes(target)
    processors = [sentencepiece.SentencePieceProcessor(model_proto=each) for each in (source, target)]
    pieces = dict.fromkeys(each.id_to_piece(i) for each in processors for i in range(3, each.get_piece_size()))
    names = ["</s>", "<unk>", *languages, *list(pieces)[: SIZE - 3 - len(languages)]]
    write_json(folder, vocab={name: i for i, name in enumerate(names)} | {"<pad>": SIZE - 1})
    write_json(folder, tokenizer_config={"source_lang": "en", "target_lang": "ROMANCE" if languages else "de"})
    return model


@pytest.mark.parametrize("settings", [
    {"activation_function": "swish", "scale_embedding": True},
    {"activation_function": "gelu", "scale_embedding": False, "decoder_layers": 2, "encoder_layers": 1},
    {"activation_function": "relu", "scale_embedding": True, "d_model": 10},
])  # fmt: skip
def test_logits_loss_gradients_and_names_are_those_of_transformers(tmp_path, settings):
    theirs = marian(tmp_path, **settings)
    ours = Pretrained(str(tmp_path)).build(SIZE).eval()
    sources, targets = (random_texts(12, SIZE - 1, 1, END, seed=seed) for seed in (1, 2))
    assert_same_logits(theirs, ours, sources, targets, SIZE - 1)
    assert_same_gradients(theirs, ours, tmp_path, but_row=SIZE - 1)
    assert_names_round_trip(theirs, ours, tmp_path)


@pytest.mark.parametrize(("beam", "early_stop"), [(1, "estimate"), *((4, each) for each in EARLY)])
def test_texts_are_those_of_transformers(tmp_path, beam, early_stop):
    generation = {"num_beams": beam, "early_stopping": EARLY[early_stop] if beam > 1 else False}
    theirs = marian(tmp_path, generation, scale_embedding=True)
    model = open_model(str(tmp_path)).eval()
    assert (model.decoding.beam, model.decoding.early_stop, model.decoding.max_length) == (beam, early_stop, 39)
    assert_same_texts(theirs, model, random_texts(200, SIZE - 1, 1, END), model.decoding, [])


def test_framing_is_that_of_transformers(tmp_path):
    marian(tmp_path)
    theirs, ours = transformers.MarianTokenizer.from_pretrained(tmp_path), family(tmp_path).tokenizer()
    for text in ("ab cde", " fghi  ab ", "xyz", ""):
        assert ours.frame_source(ours.encode(text)) == theirs(text)["input_ids"]
        assert ours.frame_target(ours.encode_targets([text])[0]) == theirs(text_target=text)["input_ids"]
    ids = theirs(text_target="abc de")["input_ids"]
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    copied = PretrainedTokenizer.from_json(ours.to_json())
    assert copied.frame_target(copied.encode_targets(["ab"])[0]) == theirs(text_target="ab")["input_ids"]


def test_several_languages_are_named_before_the_source(tmp_path):
    marian(tmp_path, languages=(">>fra<<", ">>pt_br<<"))
    theirs, model = transformers.MarianTokenizer.from_pretrained(tmp_path), open_model(str(tmp_path))
    task, tokenizer = model.task, model.tokenizer
    assert task.directions == ("en-fra", "en-pt_br")
    (example,) = task.narrowed("en-fra").examples([{"en": "ab cde", "fra": "ab"}], tokenizer)
    assert example.source == theirs(">>fra<< ab cde")["input_ids"]
    assert example.target == theirs(text_target="ab")["input_ids"]
    assert model.translate("ab", target="French") == model.translate("ab", source="en", target="fra")
    with pytest.raises(InputError, match="did you mean French"):
        model.translate("ab", target="Frensh")


def test_the_direction_comes_from_the_tokenizer_or_the_name(tmp_path):
    marian(tmp_path)
    assert family(tmp_path).tasks()["translation"].directions == ("en-de",)
    write_json(tmp_path, tokenizer_config={})
    assert family(tmp_path).tasks()["translation"].directions == ("source-target",)
    renamed = tmp_path.rename(tmp_path.parent / "opus-mt-tc-big-gem-cat_oci")
    assert family(renamed).tasks()["translation"].directions == ("gem-cat_oci",)


@pytest.mark.parametrize(("setting", "value"), [
    ("share_encoder_decoder_embeddings", False), ("normalize_before", True), ("decoder_ffn_dim", 25),
    ("decoder_attention_heads", 1), ("activation_function", "tanh"), ("tie_word_embeddings", False),
])  # fmt: skip
def test_what_our_transformer_does_not_do_is_refused_by_name(tmp_path, setting, value):
    marian(tmp_path)
    config = Folder(str(tmp_path)).config
    write_json(tmp_path, config=config | {setting: value})
    with pytest.raises(InputError, match=f"config.json has {setting} '?{value}'?, and lmtasks reads"):
        Pretrained(str(tmp_path)).resolve()


def family(folder: Path) -> Any:
    """Return the model in a folder as one of its family."""
    return find_family(Folder(str(folder)))
