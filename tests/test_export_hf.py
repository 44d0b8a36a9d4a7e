"""A model written for transformers has our logits, token ids and texts there, and is ours again when read."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseqs import sentencepiece_model as sentencepiece_words
from foreign import save_t5, sentencepiece_model, sources
from safetensors.torch import load_file
from test_pretrained_bart import bart
from test_pretrained_heads import BIO, NLI, TEXTS, asked, write as write_encoder
from test_pretrained_m2m100 import m2m100, mbart, nllb
from test_pretrained_marian import marian

from lmtasks.backbones.lora import LoRA, adapters, put
from lmtasks.backbones.recurrent import RecurrentConfig
from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.batch import Batch, pad
from lmtasks.decoding import Decoding
from lmtasks.errors import InputError
from lmtasks.export.export import export_model
from lmtasks.export.hf import write_hf
from lmtasks.export.hf_check import compare_hf
from lmtasks.export.hf_tokenizer import write_tokenizer
from lmtasks.model import Model
from lmtasks.pretrained.family import decoding_of
from lmtasks.pretrained.pretrained import open_model
from lmtasks.tasks.answering import SpanAnsweringTask
from lmtasks.tasks.base import Task
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.tasks.generation import GenerationTask
from lmtasks.tasks.summarisation import SummarisationTask
from lmtasks.tasks.tagging import TaggingTask
from lmtasks.tasks.translation import TranslationTask
from lmtasks.text.pretrained import Framing, PretrainedTokenizer
from lmtasks.text.pretrained_pieces import SentencePieces, sentence_pieces
from lmtasks.text.tokenizer import Tokenizer, TokenizerConfig

transformers = pytest.importorskip("transformers")

CLASSES = ClassificationTask(labels=("bad", "good"), pooling="first", hidden="tanh")
ODD = ("ab cde", " fghi  ab ", "xyz", "ñ漢\n<pad>x</s> ab", "ab\ncd")
WORDS = Tokenizer.train(["the dog runs", "a cat sleeps unter dem Haus", "12 mice"] * 10, TokenizerConfig("bpe", 290))
FAMILIES = {"bart": bart, "marian": marian, "m2m100": m2m100, "nllb": nllb, "mbart": mbart, "t5": save_t5,
            "mt5": partial(save_t5, kind="mt5", feed_forward_proj="gated-gelu")}  # fmt: skip
T5: dict[str, Any] = {"positions": "relative", "norm": "rms", "bias": False}
LLAMA: dict[str, Any] = {"positions": "rotary", "norm": "rms", "gated": True, "activation": "silu", "bias": False}


def model(task: Task | None = None, tokenizer: Tokenizer = WORDS, **settings: Any) -> Model:
    """Return a random model of our own."""
    sizes = {"d_model": 16, "n_heads": 2, "d_ff": 24, "encoder_layers": 2, "decoder_layers": 1, "max_length": 40}
    config = TransformerConfig(**(sizes | {"dropout": 0.0} | settings))
    made = Model({"own": task or TranslationTask(("en-de",))}, config, Decoding(beam=1, max_length=12, max_ratio=0))
    made.build(tokenizer)
    return redrawn(made)


def redrawn(made: Model) -> Model:
    """Draw all weights anew, norms around 1."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            parameter.normal_(float("norm" in name and name.endswith("weight")), 0.3)
    return made.eval()


def written(ours: Model, folder: Path, kind: str, task: str | None = None) -> tuple[Any, Any]:
    """Write a model, and return it and its tokenizer as transformers loads them."""
    folder.mkdir(exist_ok=True)
    write_hf(ours, folder, task=task)
    loaded, report = getattr(transformers, f"AutoModelFor{kind}").from_pretrained(folder, output_loading_info=True)
    wrong = {name for name in report["missing_keys"] if "final_logits_bias" not in name} | {*report["unexpected_keys"]}
    assert not wrong
    return loaded.eval(), transformers.AutoTokenizer.from_pretrained(folder)


@torch.no_grad()
def assert_same_logits(ours: Model, theirs: Any, first: int = 5) -> None:
    """Compare logits of padded sources and targets."""
    backbone, tokenizer = ours.built()
    source, mask = sources(len(tokenizer), 6, 9, first)
    source = source.masked_fill(~mask, tokenizer.pad_id)
    target, _ = sources(len(tokenizer), 6, 7, first)
    target = target.clamp(min=first)
    found = theirs(input_ids=source, attention_mask=mask.long(), decoder_input_ids=target).logits
    wanted = backbone.logits(backbone.decode(target, backbone.encode(source, mask)))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_was_read_is_written_as_it_was(tmp_path, family):
    folder, copy = tmp_path / "cnn", tmp_path / "copy-cnn"  # a BART that summarises, by its name
    folder.mkdir()
    original = FAMILIES[family](folder)
    ours = open_model(str(folder)).eval()
    theirs, tokenizer = written(ours, copy, "Seq2SeqLM")
    assert type(theirs) is type(original) or family == "mt5"  # which is a T5 by what it computes
    state = theirs.state_dict()
    assert not [name for name, tensor in original.state_dict().items() if not torch.equal(tensor, state[name])]
    assert_same_logits(ours, theirs)
    assert theirs.generate(torch.tensor([[6, 7, 8]]), max_new_tokens=3, max_length=None).size(1) > 1
    again = open_model(str(copy))
    assert (again.decoding, again.backbone_config, again.tasks) == (ours.decoding, ours.backbone_config, ours.tasks)
    assert again.tokenizer.framing == ours.tokenizer.framing
    own = ours.tokenizer
    languages = own.languages[:2] if own.names_languages else (None, None)
    if own.names_languages:
        tokenizer.src_lang = languages[0]
    for text in ODD:
        framed = own.frame_source(own.encode(text), language=languages[1], source_language=languages[0])
        assert tokenizer(text)["input_ids"] == framed
        assert again.tokenizer.encode(text) == own.encode(text)


def test_several_languages_of_a_marian_are_named_in_front(tmp_path):
    marian(tmp_path, languages=(">>fra<<", ">>pt_br<<"))
    ours = open_model(str(tmp_path))
    _, tokenizer = written(ours, tmp_path / "out", "Seq2SeqLM")
    assert tokenizer(">>fra<< ab cde")["input_ids"][0] == ours.tokenizer.tag("fra")


@pytest.mark.parametrize("make", [m2m100, nllb, mbart])
def test_a_model_of_many_languages_that_was_trained_for_one_direction_needs_no_codes(tmp_path, make):
    (tmp_path / "theirs").mkdir()
    make(tmp_path / "theirs")
    ours = open_model(str(tmp_path / "theirs")).eval()
    ours.tasks = {"translation": TranslationTask(("fr-de",))}
    ours.decoding = Decoding(beam=1, max_length=9, max_ratio=0)
    theirs, tokenizer = written(ours, tmp_path / "out", "Seq2SeqLM")
    read = tokenizer(list(ODD), return_tensors="pt", padding=True)
    texts = tokenizer.batch_decode(theirs.generate(**read), skip_special_tokens=True)
    assert [text.strip() for text in texts] == [text.strip() for text in ours.translate(list(ODD))]
    assert max(compare_hf(ours, tmp_path / "out", ours.task.questions([{"fr": "ab cd"}], ours.tokenizer))) < 1e-5


ENCODER_DECODERS = {
    "default": ({}, "Blenderbot"),
    "learned, without biases": ({"positions": "learned", "position_offset": 3, "bias": False}, "Blenderbot"),
    "untied": ({"tied_embeddings": False, "output_bias": True, "scaled_embeddings": False}, "Blenderbot"),
    "shared layers": ({"shared_layers": True, "decoder_layers": 2}, "Blenderbot"),
    "behind padding": ({"position_offset": 1, "scaled_attention": False}, "M2M100"),
    "post": ({"norm_position": "post"}, "Marian"),
    "post, paper": ({"norm_position": "post", "sinusoids": "paper", "output_bias": True}, "Marian"),
    "post, untied": ({"norm_position": "post", "tied_embeddings": False}, "Marian"),
    "post, normed": ({"norm_position": "post", "embedding_norm": True}, "Bart"),
    "pre, normed": ({"embedding_norm": True, "activation": "gelu_tanh"}, "MBart"),
    "relative": (T5 | {"gated": True, "activation": "gelu_tanh", "d_head": 5}, "T5"),
    "relative, as in the first T5": (
        T5 | {"scaled_attention": False, "scaled_embeddings": False, "scaled_output": True}, "T5"),
    "relative, tied": (T5 | {"scaled_embeddings": False}, "T5"),
    "relative, untied": (T5 | {"tied_embeddings": False, "scaled_output": True, "shared_layers": True}, "T5"),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "name"), ENCODER_DECODERS.values(), ids=ENCODER_DECODERS)
def test_a_model_of_our_own_has_the_same_logits_ids_and_texts(tmp_path, settings, name):
    ours = model(**settings)
    theirs, tokenizer = written(ours, tmp_path, "Seq2SeqLM")
    assert type(theirs).__name__.startswith(name)
    assert_same_logits(ours, theirs)
    own = [WORDS.frame_source(WORDS.encode(text)) for text in (*ODD, "")]
    assert tokenizer([*ODD, ""])["input_ids"] == own
    assert all(tokenizer.decode(ids, skip_special_tokens=True) == text for ids, text in zip(own, ODD, strict=False))
    read = tokenizer(list(ODD), return_tensors="pt", padding=True)
    assert set(read) == {"input_ids", "attention_mask"}
    texts = tokenizer.batch_decode(theirs.generate(**read), skip_special_tokens=True)
    assert texts == ours.translate(list(ODD))


@pytest.mark.parametrize("case", [case for case in ENCODER_DECODERS if case.startswith("relative")])
def test_a_t5_has_an_output_layer_in_the_file_unless_its_embedding_is_divided(tmp_path, case):
    write_hf(model(**ENCODER_DECODERS[case][0]), tmp_path)  # transformers 4 ties and divides, or does neither
    ties = json.loads((tmp_path / "config.json").read_text())["tie_word_embeddings"]
    assert ties == (case == "relative, as in the first T5")
    assert ties != ("lm_head.weight" in load_file(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("case", ["default", "post", "post, paper", "relative", "relative, untied"])
def test_a_model_of_our_own_answers_alike_when_it_is_read_again(tmp_path, case):
    ours, texts = model(**ENCODER_DECODERS[case][0]), ["ab cde", " fghi  ab ", "xyz", ""]
    write_hf(ours, tmp_path)
    rows = [{"en": text, "text": text, "source": text} for text in texts]
    for found, wanted in zip(open_model(str(tmp_path)).eval().solve(rows), ours.solve(rows), strict=True):
        assert [answer.text for answer in found] == [answer.text for answer in wanted]
        assert [answer.score for answer in found] == pytest.approx([answer.score for answer in wanted], abs=1e-5)


@pytest.mark.parametrize("settings", [
    {}, {"norm_position": "post"}, {"positions": "learned", "scaled_embeddings": False}, LLAMA,
    LLAMA | {"bias": True, "d_head": 6, "scaled_embeddings": False},
])  # fmt: skip
def test_a_language_model_of_our_own_has_the_same_logits_ids_and_texts(tmp_path, settings):
    ours = model(GenerationTask(block=32), encoder_layers=0, decoder_layers=2, **settings)
    theirs, tokenizer = written(ours, tmp_path, "CausalLM")
    ids, _ = sources(len(WORDS), 5, 9)
    backbone, _ = ours.built()
    with torch.no_grad():
        torch.testing.assert_close(
            theirs(ids).logits, backbone.logits(backbone.decode(ids, None)), atol=1e-5, rtol=1e-5
        )
    examples = ours.task.questions([{"text": text} for text in ODD], WORDS)
    assert tokenizer(list(ODD))["input_ids"] == [example.source for example in examples]
    read = tokenizer(list(ODD), return_tensors="pt", padding=True)
    texts = tokenizer.batch_decode(theirs.generate(**read), skip_special_tokens=True)
    assert texts == [text + ours.generate(text) for text in ODD]


HEADS = {
    "QuestionAnswering": (), "TokenClassification": BIO, "SequenceClassification": NLI
}  # fmt: skip


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "distilbert"])
@pytest.mark.parametrize("head", HEADS)
def test_an_encoder_that_was_read_is_written_with_its_head(tmp_path, kind, head):
    original, original_tokenizer = write_encoder(tmp_path / "theirs", kind, head, HEADS[head])
    ours = open_model(str(tmp_path / "theirs")).eval()
    theirs, tokenizer = written(ours, tmp_path / "out", head)
    splits = head == "TokenClassification"  # which reads single words
    for text in TEXTS:
        texts = (text.split(),) if splits else (TEXTS[2], text)
        own, each = (
            read(*texts, return_tensors="pt", is_split_into_words=splits) for read in (tokenizer, original_tokenizer)
        )
        assert ("token_type_ids" in own) == (kind == "bert")
        assert all(torch.equal(own[name], each[name]) for name in own)
        found, wanted = theirs(**own), original(**each)
        order = [original.config.label2id.get(label) for label in theirs.config.id2label.values()]
        for name in ("logits", "start_logits", "end_logits"):
            if name in found:
                logits = wanted[name][..., order] if head == "TokenClassification" else wanted[name]
                torch.testing.assert_close(found[name], logits, atol=1e-5, rtol=1e-5)
    again = open_model(str(tmp_path / "out")).eval()
    assert again.backbone_config == ours.backbone_config
    rows = [{"words": row["context"].split(), "pair": "a dog", "text": row["question"], **row} for row in asked(5)]
    for one, other in zip(again.solve(rows), ours.solve(rows), strict=True):
        assert [answer.text for answer in one] == [answer.text for answer in other]


ENCODERS = {
    "pre": ({}, "XLMRobertaXL"),
    "pre, normed": ({"embedding_norm": True, "segments": 2, "separator": 2}, "RobertaPreLayerNorm"),
    "post, sinusoidal": ({"norm_position": "post", "embedding_norm": True}, "Bert"),
    "post, behind padding": ({"norm_position": "post", "embedding_norm": True, "position_offset": 1}, "Roberta"),
}
TASKS = {
    "SequenceClassification": ClassificationTask(pair=True, pooling="first", hidden="tanh", labels=("a", "b", "c")),
    "TokenClassification": TaggingTask(
        crf=False, spelling=False, layers=0, labels=("PER", "LOC"), writing=("letters",)
    ),
    "QuestionAnswering": SpanAnsweringTask(window=40, stride=20, attention=False, word_match=False, layers=0),
}


@torch.no_grad()
@pytest.mark.parametrize(("settings", "name"), ENCODERS.values(), ids=ENCODERS)
@pytest.mark.parametrize("head", TASKS)
def test_an_encoder_of_our_own_has_the_same_logits(tmp_path, settings, name, head):
    ours = model(TASKS[head], decoder_layers=0, **settings)
    theirs, tokenizer = written(ours, tmp_path, head)
    assert type(theirs).__name__ == f"{name}For{head}"
    pairs = list(ODD), ["the dog", "", "a", "12 mice <pad>", "Haus"]
    read = tokenizer(*pairs, return_tensors="pt", padding=True)
    sources = [WORDS.frame_source(WORDS.encode(one), WORDS.encode(two)) for one, two in zip(*pairs, strict=True)]
    assert torch.equal(read["input_ids"], pad(sources, WORDS.pad_id))
    backbone, _ = ours.built()
    mask = read["attention_mask"].bool()
    batch = Batch("own", read["input_ids"], mask, torch.zeros_like(read["input_ids"]), torch.arange(5))
    found, logits = theirs(**read), ours.heads["own"].logits(backbone, batch)
    if head == "QuestionAnswering":
        logits, possible = logits
        torch.testing.assert_close(found.start_logits[possible], logits[..., 0][possible], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found.end_logits[possible], logits[..., 1][possible], atol=1e-5, rtol=1e-5)
    elif head == "TokenClassification":
        torch.testing.assert_close(found.logits[mask], logits[0][mask], atol=1e-5, rtol=1e-5)
        assert list(theirs.config.id2label.values()) == ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    else:
        torch.testing.assert_close(found.logits, logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"scaled_attention": False},
        T5,
        LLAMA | {"encoder_layers": 0},
        {"shared_layers": True},
        {"decoder_layers": 0},
    ],
    ids=["blenderbot", "scaled", "t5", "llama", "shared", "bert"],
)
@torch.no_grad()
def test_an_adapter_that_is_kept_beside_the_weights_is_the_same_in_peft(tmp_path, settings):
    peft = pytest.importorskip("peft")
    reads = settings.get("decoder_layers") == 0
    ours = model(CLASSES if reads else None, **settings)
    backbone, _ = ours.built()
    plain = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    put(backbone, adapters(backbone, LoRA(rank=3, alpha=5.0)))
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if "lora" in name:
                parameter.normal_(0, 0.3)
    check = export_model(ours, "hf", tmp_path / "both", keep_adapter=True)
    assert check.fits
    assert check.count == check.same
    kind = "SequenceClassification" if reads else "CausalLM" if "encoder_layers" in settings else "Seq2SeqLM"
    base = getattr(transformers, f"AutoModelFor{kind}").from_pretrained(tmp_path / "both").eval()
    batch = {"input_ids": torch.tensor([[5, 9, 11, 7]])}
    batch |= {"decoder_input_ids": batch["input_ids"]} if kind == "Seq2SeqLM" else {}
    before = base(**batch).logits
    adapted = peft.PeftModel.from_pretrained(base, tmp_path / "both" / "adapter").eval()
    merged = model(CLASSES if reads else None, **settings)
    merged.load_weights(ours.weights())
    unmerged = model(CLASSES if reads else None, **settings)
    unmerged.load_state_dict(plain)
    for each, name, found in ((unmerged, "base", before), (merged, "merged", adapted(**batch).logits)):
        theirs, _ = written(each, tmp_path / name, kind)
        torch.testing.assert_close(found, theirs(**batch).logits, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(before, adapted(**batch).logits, atol=1e-2)


@pytest.mark.parametrize(("task", "settings", "said"), [
    (None, {"positions": "rotary"}, "model.backbone.positions is rotary, wanted sinusoidal or learned"),
    (None, {"norm": "rms"}, "model.backbone.norm is rms, wanted layer"),
    (None, {"gated": True}, "model.backbone.gated is True, wanted False"),
    (None, {"convolution": 3}, "model.backbone.convolution is 3, wanted 0"),
    (None, {"decoder_mixing": "ssru", "norm_position": "post"}, "decoder_mixing is ssru, wanted attention"),
    (None, {"d_head": 5}, "model.backbone.d_head is 5, wanted d_model / n_heads"),
    (None, {"norm_eps": 1e-3}, "model.backbone.norm_eps is 0.001, wanted 1e-05"),
    (None, T5 | {"bias": True}, "model.backbone.bias is True, wanted False"),
    (None, T5 | {"gated": True, "activation": "gelu"}, "activation is gelu, wanted relu or gelu_tanh or silu"),
    (ClassificationTask(labels=("a", "b"), pooling="first"), {"decoder_layers": 0},
     "model.tasks.own.hidden is none, wanted tanh"),
    (ClassificationTask(labels=("a", "b"), hidden="tanh"), {"decoder_layers": 0},
     "model.tasks.own.pooling is mean, wanted first"),
    (ClassificationTask(labels=("a", "b")), {}, "is classification above a backbone with a decoder"),
    (TaggingTask(labels=("X",), writing=("letters",), spelling=False, layers=0), {"decoder_layers": 0},
     "model.tasks.own.crf is True, wanted False"),
    (SpanAnsweringTask(window=40, stride=20, attention=False, word_match=False, layers=0, no_answer=True),
     {"decoder_layers": 0}, "model.tasks.own.no_answer_at is last, wanted first"),
])  # fmt: skip
def test_what_transformers_does_not_have_is_refused_by_name(tmp_path, task, settings, said):
    ours = model(task, **settings)
    with pytest.raises(InputError, match=said) as caught:
        write_hf(ours, tmp_path)
    assert "\n" not in str(caught.value)
    assert "--to onnx" in str(caught.value)
    assert not [*tmp_path.iterdir()]


def test_sentencepieces_are_written_as_the_files_of_their_family(tmp_path):
    model_of_t5, model_of_nllb = sentencepiece_model(300), sentencepiece_words("bpe")
    names = sentence_pieces(model_of_t5) + [f"<extra_id_{n}>" for n in reversed(range(100))]
    t5 = SentencePieces(
        model_of_t5, {name: i for i, name in enumerate(names)}, ("<pad>", "</s>", "<unk>", *names[300:])
    )
    codes = ["eng_Latn", "fra_Latn", "deu_Latn"]
    names = ["<s>", "<pad>", "</s>", "<unk>", *sentence_pieces(model_of_nllb)[3:], *codes, "<mask>"]
    nllb = SentencePieces(model_of_nllb, {name: i for i, name in enumerate(names)}, (*names[:4], *codes, "<mask>"))
    ids = [nllb.marks[code] for code in codes]
    framing = Framing(1, 2, 0, 2, 2, languages=tuple(zip(codes, ids, strict=True)), language_at="both-first")
    own = {"t5": PretrainedTokenizer(t5, Framing(0, 1, 0, 0, 1)), "m2m_100": PretrainedTokenizer(nllb, framing)}
    for kind, tokenizer in own.items():
        folder = tmp_path / kind
        folder.mkdir()
        write_tokenizer(tokenizer, folder, TranslationTask(("eng_Latn-deu_Latn",)), kind, None, segments=False)
        (folder / "config.json").write_text(json.dumps({"model_type": kind}))
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
        language = "eng_Latn" if kind == "m2m_100" else None
        for text in ("the old miller", "ab  cd  ef", "ñ漢", ""):
            wanted = tokenizer.frame_source(tokenizer.encode(text), language=language, source_language=language)
            assert theirs(text)["input_ids"] == wanted
        with pytest.raises(InputError, match="tokens were added to a sentencepiece model"):
            write_tokenizer(tokenizer.extended(["gem"], []), folder, TranslationTask(), kind, None, segments=False)


def test_added_tokens_keep_their_ids(tmp_path):
    save_t5(tmp_path / "t5")
    ours = open_model(str(tmp_path / "t5"))
    ours.tokenizer = ours.tokenizer.extended(["de", "fr"], [])
    ours.backbone_config = replace(ours.backbone_config, embedding_rows=len(ours.tokenizer))
    ours.build(ours.tokenizer)
    _, tokenizer = written(redrawn(ours), tmp_path / "out", "Seq2SeqLM")
    assert tokenizer("<2fr>the dog")["input_ids"] == ours.tokenizer.frame_source(
        ours.tokenizer.encode("the dog"), language="fr"
    )


@pytest.mark.parametrize("kind", ["bpe", "unigram", "character", "byte"])
def test_every_kind_of_pieces_is_written(tmp_path, kind):
    own = Tokenizer.train(["the dog runs ünter"] * 9, TokenizerConfig(kind, 300), languages=("de", "fr"))
    _, tokenizer = written(model(TranslationTask(("en-de", "en-fr")), own), tmp_path, "Seq2SeqLM")
    for text in ("the dog", " ñ漢", "dog  runs\n", ""):
        assert tokenizer(f"<2fr>{text}")["input_ids"] == own.frame_source(own.encode(text), language="fr")
        assert tokenizer.decode(own.encode(text)) == text


@pytest.mark.parametrize("decoding", [
    Decoding(beam=3, length_penalty=0.4, max_length=12, max_ratio=0, early_stop="exact"),
    Decoding(beam=3, n_best=2, max_length=12, max_ratio=0, early_stop="beam"),
    Decoding(beam=2, max_length=12, max_ratio=0, early_stop="estimate", min_length=4, no_repeat_ngram=3),
    Decoding(beam=1, early_stop="estimate", sample=True, top_k=3, temperature=0.7, max_length=30, max_ratio=0,
             repetition_penalty=1.2),
])  # fmt: skip
def test_settings_of_a_search_are_those_of_transformers(tmp_path, decoding):
    ours = model()
    ours.decoding = decoding
    theirs, tokenizer = written(ours, tmp_path, "Seq2SeqLM")
    assert decoding_of(theirs.generation_config.to_dict()) == replace(decoding, n_best=1)
    read = tokenizer(list(ODD), return_tensors="pt", padding=True)
    texts = tokenizer.batch_decode(theirs.generate(**read), skip_special_tokens=True)
    assert len(texts) == decoding.n_best * len(ODD)
    if not decoding.sample:
        assert texts[:: decoding.n_best] == ours.translate(list(ODD))


def test_one_of_several_tasks_is_written_with_the_token_that_names_it(tmp_path):
    tasks = {
        "own": TranslationTask(("en-de",)),
        "short": SummarisationTask(),
        "mood": ClassificationTask(labels=("a", "b")),
    }
    ours = Model(tasks, model().backbone_config, Decoding(beam=1, max_length=12))
    ours.build(Tokenizer.train([], TokenizerConfig("byte"), marks=ours.token_names[1]))
    theirs, _ = written(redrawn(ours), tmp_path / "short", "Seq2SeqLM", "short")
    assert (
        theirs.generation_config.decoder_start_token_id
        == ours.heads["short"].start
        == ours.tokenizer.mark("<task-short>")
    )
    for task, said in ((None, "the model has own, short, mood; choose one by --task"), ("x", "has no task x"),
                       ("mood", "model.tasks.mood is classification above a backbone with a decoder")):  # fmt: skip
        with pytest.raises(InputError, match=said):
            write_hf(ours, tmp_path, task=task)


def test_prompts_stand_in_config_json(tmp_path):
    save_t5(tmp_path / "t5")
    config = json.loads((tmp_path / "t5/config.json").read_text())
    prompts = {"summarization": {"prefix": "summarize: "}, "translation_en_to_de": {"prefix": "translate: "}}
    (tmp_path / "t5/config.json").write_text(json.dumps(config | {"task_specific_params": prompts}))
    ours = open_model(str(tmp_path / "t5"))
    written(ours, tmp_path / "out", "Seq2SeqLM", "summarisation")
    assert open_model(str(tmp_path / "out")).tasks == ours.tasks


def test_an_adapter_is_merged_and_the_model_stays_as_it_is(tmp_path):
    ours = model()
    put(ours.backbone, adapters(ours.backbone, LoRA(rank=2)))
    redrawn(ours)
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    theirs, _ = written(ours, tmp_path, "Seq2SeqLM")
    assert_same_logits(ours, theirs)
    assert all(torch.equal(tensor, before[name]) for name, tensor in ours.state_dict().items())
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o644


def test_weights_are_written_in_half_precision(tmp_path):
    write_hf(model(), tmp_path, torch.bfloat16)
    assert transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path).dtype == torch.bfloat16


def test_a_recurrent_backbone_is_refused(tmp_path):
    ours = Model({"own": TranslationTask(("en-de",))}, RecurrentConfig(d_model=8))
    ours.build(WORDS)
    with pytest.raises(InputError, match=r"model\.backbone is a RecurrentConfig, which transformers does not have"):
        write_hf(ours, tmp_path)


CHECKED = {
    "translation": (None, {}),
    "generation": (GenerationTask(block=32), {"encoder_layers": 0, "decoder_layers": 2}),
    **{
        head: (task, {"decoder_layers": 0, "embedding_norm": True, "segments": 2, "separator": 2})
        for head, task in TASKS.items()
    },
}


@pytest.mark.parametrize(("task", "settings"), CHECKED.values(), ids=CHECKED)
def test_a_comparison_finds_the_same_logits_and_what_was_changed(tmp_path, task, settings):
    ours = model(task, **settings)
    write_hf(ours, tmp_path)
    texts = {"context": "a dog", "question": "12 mice?", "pair": "Haus"}
    rows = [{"en": text, "text": text, "words": text.split(), **texts} for text in ODD]
    examples = ours.task.questions(rows, WORDS)
    differences = compare_hf(ours, tmp_path, examples)
    assert len(differences) == len(examples) >= 4
    assert max(differences) < 1e-5
    with torch.no_grad():
        ours.backbone.embedding.weight[:] += torch.randn(ours.backbone.embedding.weight.shape) * 0.1
    assert min(compare_hf(ours, tmp_path, examples)) > 1e-4


@pytest.mark.parametrize("case", ["translation", "SequenceClassification", "TokenClassification"])
def test_a_comparison_cuts_texts_that_are_too_long_to_be_read(tmp_path, case):
    task, settings = CHECKED[case]
    ours = model(task, **settings)
    write_hf(ours, tmp_path)
    long = "the dog runs " * 9  # more than 40 tokens
    examples = ours.task.questions([{"en": long, "text": long, "pair": long, "words": long.split()}], WORDS)
    assert len(examples[0].source) > 40
    assert max(compare_hf(ours, tmp_path, examples)) < 1e-5
