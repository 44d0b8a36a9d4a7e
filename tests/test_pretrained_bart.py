"""BART: weights, search and tokenizer against transformers."""

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
    write_json,
    write_model,
)
from foreign import EARLY
from safetensors.torch import load_file, save_file

from lmtasks.errors import InputError
from lmtasks.pretrained.folder import Folder
from lmtasks.pretrained.pretrained import Pretrained, find_family, open_model
from lmtasks.text.pieces import BYTE_OF

transformers = pytest.importorskip("transformers")

BEGIN, PAD, END, SIZE = 0, 1, 2, 270


def bart(folder: Path, kind: str = "BartForConditionalGeneration", forced: bool = True, **settings: Any) -> Any:
    """Write a random BART whose pieces are bytes and " a", and return it."""
    model = getattr(transformers, kind)(transformers.BartConfig(vocab_size=SIZE, **(SIZES | settings)))
    redrawn(model)
    if kind == "BartForConditionalGeneration":
        ending_often(model, model.model.decoder.layers[-1].final_layer_norm, END, more=11.0)
        write_model(
            folder, model, forced_bos_token_id=BEGIN if forced else None, min_length=4, max_length=40,
            bad_words_ids=[[PAD]],
        )  # fmt: skip
    model.save_pretrained(folder)
    letters = [letter for _, letter in sorted((byte, letter) for letter, byte in BYTE_OF.items())]
    names = ["<s>", "<pad>", "</s>", "<unk>", *letters, "Ġa", "<mask>"]
    transformers.BartTokenizer({name: i for i, name in enumerate(names)}, [("Ġ", "a")]).save_pretrained(folder)
    return model


@pytest.mark.parametrize("settings", [
    {"activation_function": "gelu", "scale_embedding": False},
    {"activation_function": "relu", "scale_embedding": True, "decoder_layers": 2, "encoder_layers": 1},
    {"activation_function": "gelu_new", "scale_embedding": True, "d_model": 10},
])  # fmt: skip
def test_logits_loss_gradients_and_names_are_those_of_transformers(tmp_path, settings):
    theirs = bart(tmp_path, **settings)
    ours = Pretrained(str(tmp_path)).build(SIZE).eval()
    sources, targets = (random_texts(12, SIZE, 3, END, (BEGIN,), seed=seed) for seed in (1, 2))
    assert_same_logits(theirs, ours, sources, targets, PAD)
    assert_same_gradients(theirs, ours, tmp_path)
    assert_names_round_trip(theirs, ours, tmp_path)


@pytest.mark.parametrize("forced", [True, False])
@pytest.mark.parametrize(("beam", "early_stop"), [(1, "estimate"), *((4, each) for each in EARLY)])
def test_texts_are_those_of_transformers(tmp_path, beam, early_stop, forced):
    theirs = bart(tmp_path, forced=forced, scale_embedding=True)
    beamed = {"early_stopping": EARLY[early_stop], "length_penalty": 0.3} if beam > 1 else {}
    write_model(tmp_path, theirs, num_beams=beam, **beamed)
    write_json(tmp_path, config=Folder(str(tmp_path)).config | {"task_specific_params": {"summarization": {}}})
    model = open_model(str(tmp_path)).eval()
    assert (model.decoding.beam, model.decoding.early_stop) == (beam, early_stop)
    sources = random_texts(200, SIZE, 3, END, (BEGIN,))
    assert_same_texts(theirs, model, sources, model.decoding, model.tokenizer.target_prefix())


def test_framing_is_that_of_transformers(tmp_path):
    bart(tmp_path)
    theirs, ours = transformers.BartTokenizer.from_pretrained(tmp_path), family(tmp_path).tokenizer()
    for text in ("ab a", " a\n a", "ä", ""):
        assert ours.frame_source(ours.encode(text)) == theirs(text)["input_ids"]
        assert ours.frame_target(ours.encode_targets([text])[0]) == theirs(text_target=text)["input_ids"]
    first, second = ours.encode("ab"), ours.encode("a")
    assert ours.frame_source(first, second) == theirs("ab", "a")["input_ids"]
    assert ours.decode(theirs("ab ä")["input_ids"]) == "ab ä"


@pytest.mark.parametrize(("name", "change", "summarises"), [
    ("bart-large-cnn", {}, True), ("distilbart-xsum-12-6", {}, True), ("bart-base", {}, False),
    ("mine", {"task_specific_params": {"summarization": {}}}, True),
    ("bart-large", {"task_specific_params": {"summarization": {}}, "architectures": ["BartModel"]}, False),
])  # fmt: skip
def test_models_that_were_trained_to_summarise_do_so(tmp_path, name, change, summarises):
    folder = tmp_path / name
    bart(folder)
    write_json(folder, config=Folder(str(folder)).config | change | {"prefix": " "})
    tasks = family(folder).tasks()
    assert [task.prompt_text for task in tasks.values()] == ([" "] if summarises else [])
    if summarises:
        assert isinstance(open_model(str(folder)).summarise("ab a"), str)


@pytest.mark.parametrize("kind", ["BartModel", "BartForSequenceClassification"])
def test_models_without_an_output_are_read_too(tmp_path, kind):
    theirs = bart(tmp_path, kind)
    ours = Pretrained(str(tmp_path)).build(SIZE).eval()
    ids = torch.tensor([[BEGIN, 5, 6, END]])
    expected = getattr(theirs, "model", theirs)(input_ids=ids, decoder_input_ids=ids).last_hidden_state
    torch.testing.assert_close(ours.decode(ids, ours.encode(ids, ids >= 0)), expected, rtol=1e-5, atol=1e-5)
    assert ours.output_bias is not None
    assert not ours.output_bias.any()


def test_tied_weights_that_differ_are_refused(tmp_path):
    bart(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    shared = weights["model.shared.weight"]
    save_file(weights | {"lm_head.weight": shared.clone()}, tmp_path / "model.safetensors")
    Pretrained(str(tmp_path)).build(SIZE)
    save_file(weights | {"lm_head.weight": shared + 1}, tmp_path / "model.safetensors")
    with pytest.raises(
        InputError,
        match=r"(lm_head.weight and shared.weight|shared.weight and lm_head.weight) differ, though they are tied",
    ):
        Pretrained(str(tmp_path)).build(SIZE)


def test_bad_words_of_several_tokens_are_refused(tmp_path):
    bart(tmp_path)
    generation = Folder(str(tmp_path)).json("generation_config.json")
    write_json(tmp_path, generation_config=generation | {"bad_words_ids": [[PAD], [5, 6]]})
    with pytest.raises(InputError, match="lmtasks bans single tokens only"):
        family(tmp_path).tokenizer()


def family(folder: Path) -> Any:
    """Return the model in a folder as one of its family."""
    return find_family(Folder(str(folder)))
