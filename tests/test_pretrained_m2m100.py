"""M2M100, NLLB and mBART-50: weights, search, tokenizers and languages against transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
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
from lmtasks.storage.model_folder import load, save
from lmtasks.tasks.translation import TranslationTask

transformers = pytest.importorskip("transformers")
sentencepiece = pytest.importorskip("sentencepiece")

END, PAD = 2, 1
SETTINGS: dict[str, Any] = {
    **SIZES, "attention_dropout": 0.0, "pad_token_id": PAD, "bos_token_id": 0, "eos_token_id": END,
    "decoder_start_token_id": END,
}  # fmt: skip
PIECES = [("▁", -2.0), *((each, -3.0) for each in "abcdefghij"), ("▁ab", -2.5), ("cd", -2.5)]
DICTIONARY = ("<s>", "<pad>", "</s>", "<unk>")


def m2m100(folder: Path, **settings: Any) -> Any:
    """Write a random M2M100 with its pieces and its vocabulary, which lacks the languages."""
    content = sentencepiece_model("bpe")
    processor = sentencepiece.SentencePieceProcessor(model_proto=content)
    names = [*DICTIONARY, *(processor.id_to_piece(i) for i in range(3, processor.get_piece_size()))]
    theirs = written(folder, "M2M100", len(names) + 108, settings)
    (folder / "sentencepiece.bpe.model").write_bytes(content)
    write_json(folder, vocab={name: i for i, name in enumerate(names)})
    tokenizer = transformers.M2M100Tokenizer(str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model"))
    tokenizer.save_pretrained(folder)
    return theirs


def nllb(folder: Path, **settings: Any) -> Any:
    """Write a random NLLB with its tokenizer.json."""
    names = [*DICTIONARY, "▁", "▁a", *"abcdefghij", "▁ab"]
    vocabulary = {name: i for i, name in enumerate(names)}
    tokenizer = transformers.NllbTokenizer(vocab=vocabulary, merges=[("▁", "a"), ("▁a", "b")])
    theirs = written(folder, "M2M100", len(tokenizer), settings)
    tokenizer.save_pretrained(folder)
    return theirs


def mbart(folder: Path, **settings: Any) -> Any:
    """Write a random mBART-50 with its tokenizer.json."""
    vocabulary = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *PIECES]
    tokenizer = transformers.MBart50Tokenizer(vocab=vocabulary, src_lang="en_XX")
    theirs = written(folder, "MBart", len(tokenizer) + 3, settings)
    tokenizer.save_pretrained(folder)
    return theirs


def written(folder: Path, kind: str, size: int, settings: dict[str, Any]) -> Any:
    """Write and return a random model; what `settings` does not name is as in `SETTINGS`."""
    config = getattr(transformers, f"{kind}Config")(vocab_size=size, **(SETTINGS | settings))
    model = redrawn(getattr(transformers, f"{kind}ForConditionalGeneration")(config))
    ending_often(model, model.model.decoder.layer_norm, END, more=8.0)
    write_model(folder, model, max_length=40, min_length=4, bad_words_ids=[[PAD]])
    return model


@pytest.mark.parametrize(("make", "settings"), [
    (m2m100, {"activation_function": "relu", "scale_embedding": True}),
    (m2m100, {"activation_function": "gelu", "scale_embedding": False, "decoder_layers": 2, "encoder_layers": 1}),
    (nllb, {"activation_function": "swish", "scale_embedding": True, "d_model": 10}),
    (mbart, {"activation_function": "gelu", "scale_embedding": True}),
    (mbart, {"activation_function": "relu", "scale_embedding": False, "decoder_layers": 2, "encoder_layers": 1}),
])  # fmt: skip
def test_logits_loss_gradients_and_names_are_those_of_transformers(tmp_path, make, settings):
    theirs = make(tmp_path, **settings)
    tokenizer = family(tmp_path).tokenizer()
    ours = Pretrained(str(tmp_path)).build(len(tokenizer)).eval()
    first, second = tokenizer.languages[:2]
    sources = random_texts(12, 15, 4, END, (tokenizer.tag(first),), seed=1)
    targets = random_texts(12, 15, 4, END, (tokenizer.tag(second),), seed=2)
    assert_same_logits(theirs, ours, sources, targets, PAD)
    assert_same_gradients(theirs, ours, tmp_path)
    assert_names_round_trip(theirs, ours, tmp_path)


@pytest.mark.parametrize("make", [m2m100, mbart])
@pytest.mark.parametrize(("beam", "early_stop"), [(1, "estimate"), *((4, each) for each in EARLY)])
def test_texts_are_those_of_transformers(tmp_path, make, beam, early_stop):
    theirs = make(tmp_path, scale_embedding=True)
    beamed = {"early_stopping": EARLY[early_stop], "length_penalty": 0.3} if beam > 1 else {}
    generation = {"num_beams": beam, **beamed}
    write_model(tmp_path, theirs, **generation)
    model = open_model(str(tmp_path)).eval()
    assert (model.decoding.beam, model.decoding.early_stop) == (beam, early_stop)
    source, target = (model.tokenizer.tag(language) for language in model.task.between[:2])
    sources = random_texts(200, 15, 4, END, (source,))
    assert_same_texts(theirs, model, sources, model.decoding, [target], forced_bos_token_id=target)


@pytest.mark.parametrize(
    ("make", "source", "target"), [(m2m100, "en", "de"), (nllb, "eng_Latn", "deu_Latn"), (mbart, "en_XX", "de_DE")]
)
def test_framing_is_that_of_transformers(tmp_path, make, source, target):
    make(tmp_path)
    kind = {m2m100: "M2M100Tokenizer", nllb: "NllbTokenizer", mbart: "MBart50Tokenizer"}[make]
    theirs = getattr(transformers, kind).from_pretrained(tmp_path, src_lang=source, tgt_lang=target)
    ours = family(tmp_path).tokenizer()
    for text in ("ab cde", " fghi  ab ", "xyz", ""):
        assert (
            ours.frame_source(ours.encode(text), language=target, source_language=source) == theirs(text)["input_ids"]
        )
        (ids,) = ours.encode_targets([text])
        assert ours.frame_target(ids, target) == theirs(text_target=text)["input_ids"]
    assert ours.target_prefix(target) == theirs(text_target="ab")["input_ids"][:1]
    assert ours.decode(theirs(text_target="ab cd")["input_ids"]) == "ab cd"
    assert ours.tag("German") == ours.tag("de") == ours.tag(target)
    assert ours.extended(["de", "gem"], []).languages == (*ours.languages, "gem")


def test_the_languages_of_m2m100_have_the_ids_that_transformers_gives_them(tmp_path):
    m2m100(tmp_path)
    theirs = transformers.M2M100Tokenizer.from_pretrained(tmp_path)
    assert dict(family(tmp_path).tokenizer().framing.languages) == theirs.lang_code_to_id
    write_json(tmp_path, tokenizer_config={"language_codes": "wmt21"})
    theirs = transformers.M2M100Tokenizer.from_pretrained(tmp_path, language_codes="wmt21")
    assert dict(family(tmp_path).tokenizer().framing.languages) == theirs.lang_code_to_id
    write_json(tmp_path, tokenizer_config={"language_codes": "wmt22"})
    with pytest.raises(InputError, match="language_codes 'wmt22'; lmtasks knows m2m100 and wmt21"):
        family(tmp_path).tokenizer()


def test_the_sentencepiece_model_alone_means_the_same_as_tokenizer_json(tmp_path):
    content = sentencepiece_model()
    processor = sentencepiece.SentencePieceProcessor(model_proto=content)
    pieces = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(processor.get_piece_size())]
    theirs = transformers.MBart50Tokenizer(vocab=pieces, src_lang="en_XX", tgt_lang="sl_SI")
    written(tmp_path, "MBart", len(theirs), {})
    (tmp_path / "sentencepiece.bpe.model").write_bytes(content)
    codes = [token for token in theirs.all_special_tokens if "_" in token]
    write_json(tmp_path, special_tokens_map={"additional_special_tokens": codes})
    ours = family(tmp_path).tokenizer()
    assert ours.frame_source(ours.encode("ab abc"), source_language="en_XX") == theirs("ab abc")["input_ids"]
    assert [ours.tag(code) for code in codes] == theirs.convert_tokens_to_ids(codes)
    assert ours.mark("<mask>") == theirs.mask_token_id


def test_any_two_languages_are_chosen_by_code_or_name(tmp_path):
    nllb(tmp_path)
    model = open_model(str(tmp_path)).eval()
    by_code = model.translate("ab cd", source="eng_Latn", target="deu_Latn")
    assert by_code == model.translate("ab cd", "German", "English") == model.translate("ab cd", "de", "en")
    assert "".join(model.stream({"eng_Latn": "ab cd"}, group="eng_Latn-deu_Latn")) == by_code
    sources, targets, weights = model.align("ab cd", group="eng_Latn-deu_Latn")
    assert weights.shape == (len(targets), len(sources))
    assert model.task.example_command == '"A sentence." --source eng_Latn --target fra_Latn'
    for languages, message in (
        ({"source": "Englsh", "target": "German"}, "cannot translate from Englsh to German; did you mean English"),
        ({"source": "English", "target": "Chinese"}, "it knows eng_Latn-zho_Hans, eng_Latn-zho_Hant"),
        ({"source": "English"}, "must be told how to translate from English"),
    ):
        with pytest.raises(InputError, match=message):
            model.translate("ab", **languages)
    with pytest.raises(InputError, match="translates between any of eng_Latn, fra_Latn, ace_Arab"):
        model.solve([{"eng_Latn": "ab"}])


def test_training_may_call_languages_otherwise_than_the_model(tmp_path):
    nllb(tmp_path)
    tokenizer = family(tmp_path).tokenizer()
    (example,) = TranslationTask(("en-de",)).examples([{"en": "ab", "de": "cd"}], tokenizer)
    assert example.source[0] == tokenizer.tag("eng_Latn")
    assert example.target[0] == example.prefix[0] == tokenizer.tag("deu_Latn")
    with pytest.raises(InputError, match="language 'zh' is one of zho_Hans, zho_Hant in the tokenizer"):
        TranslationTask(("en-zh",)).examples([{"en": "ab", "zh": "cd"}], tokenizer)


def test_a_saved_model_translates_without_the_original(tmp_path):
    nllb(tmp_path)
    model = open_model(str(tmp_path)).eval()
    save(model, tmp_path / "ours")
    assert len((tmp_path / "ours/README.md").read_text(encoding="utf-8")) < 10_000
    text = model.translate("ab cd", "German", "English")
    assert load(tmp_path / "ours").translate("ab cd", "German", "English") == text


def test_gradients_do_not_depend_on_checkpointing(tmp_path):
    mbart(tmp_path)
    ids = torch.tensor([[15, 4, 5, 6, END]])
    found = []
    for again in (False, True):
        backbone = Pretrained(str(tmp_path), gradient_checkpointing=again).build(70).train()
        hidden = backbone.decode(ids, backbone.encode(ids, ids > 0))
        backbone.loss(hidden, ids).total.backward()
        found.append(backbone.embedding.weight.grad)
    torch.testing.assert_close(*found)


@pytest.mark.parametrize(("make", "file", "change", "message"), [
    (mbart, "tokenizer_config", {"tokenizer_class": "MBartTokenizer"}, "language codes stand behind the texts"),
    (nllb, "tokenizer_config", {"legacy_behaviour": True}, "language codes stand behind the texts"),
    (mbart, "config", {"normalize_before": False}, "config.json has normalize_before False, and lmtasks reads True"),
    (m2m100, "config", {"static_position_embeddings": False}, "static_position_embeddings False, and lmtasks"),
    (m2m100, "config", {"model_type": "nllb-moe"}, "model_type 'nllb-moe', which lmtasks does not read"),
])  # fmt: skip
def test_what_is_not_read_is_refused_by_name(tmp_path, make, file, change, message):
    make(tmp_path)
    write_json(tmp_path, **{file: Folder(str(tmp_path)).json(f"{file}.json") | change})
    with pytest.raises(InputError, match=message):
        open_model(str(tmp_path))


def family(folder: Path) -> Any:
    """Return the model in a folder as one of its family."""
    return find_family(Folder(str(folder)))
