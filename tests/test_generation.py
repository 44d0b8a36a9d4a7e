"""Text generation: blocks of running text, scores of all of it, and texts that go on."""

from __future__ import annotations

import math
import random

import pytest
import torch
from tiny import fit, tiny_backbone, trainer, write_corpus

from lmtasks import Decoding, Documents, TextDataModule, TokenizerConfig, Village
from lmtasks.batch import Batch, Example
from lmtasks.decoding import Hypothesis
from lmtasks.errors import InputError
from lmtasks.heads.language_model import LanguageModelHead, Rolling
from lmtasks.predict import BROKEN
from lmtasks.tasks.base import Prediction
from lmtasks.tasks.generation import GenerationTask
from lmtasks.text.tokenizer import Tokenizer
from lmtasks.training.modules import TextGenerationModule

TEXTS = ["One two\n three.  ", " Überall 山上 sind\nBäume, 😀 nicht wahr?", "", "  \n", "vier", "山上有樹。"]
ROWS = [{"text": text, "place": f"a.txt, row {number}"} for number, text in enumerate(TEXTS, 1)]
WHOLE = [text for text in TEXTS if text.strip()]
CONFIGS = {
    "byte": TokenizerConfig("byte"),
    "character": TokenizerConfig("character", 275),  # the rare ones in bytes
    "bpe": TokenizerConfig("bpe", 280),
    "unigram": TokenizerConfig("unigram", 280),
}
TOKENIZERS = {kind: Tokenizer.train(TEXTS * 3, config) for kind, config in CONFIGS.items()}
KINDS = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
BYTES = TOKENIZERS["byte"]
END = BYTES.eos_id
SAMPLING = Decoding(beam=1, sample=True, max_length=30, max_ratio=0.0, seed=3)


def running(tokenizer: Tokenizer) -> list[int]:
    return [tokenizer.eos_id, *(token for text in WHOLE for token in (*tokenizer.encode(text), tokenizer.eos_id))]


def samples_of(task: GenerationTask, tokenizer: Tokenizer) -> list[Prediction]:
    return [Prediction(made.text, made.reference, made.references) for made in task.examples(ROWS, tokenizer)]


@KINDS
@pytest.mark.parametrize("overlap", [1, 3, 9])
def test_each_token_is_the_target_of_one_block_and_the_source_stands_before_it(tokenizer, overlap):
    ids, examples = running(tokenizer), GenerationTask(block=5, overlap=overlap).examples(ROWS, tokenizer)
    assert [token for example in examples for token in example.target] == ids[1:]
    assert {len(example.target) for example in examples[:-1]} == {5}
    place = 1
    for example in examples:
        assert example.source == ids[max(0, place - overlap) : place]
        place += len(example.target)
    assert len({(example.row, example.group) for example in examples}) == len(examples)  # none is joined to another
    assert {example.row for example in examples} <= {0, 1, 4, 5}  # the blank ones give none


@KINDS
@pytest.mark.parametrize("block", [1, 2, 5, 64, 1000])
def test_the_references_of_all_blocks_are_the_text_and_its_scores_those_of_the_whole(tokenizer, block):
    task = GenerationTask(block=block)
    samples = samples_of(task, tokenizer)
    assert "".join(sample.reference for sample in samples) == "".join(f"{text}\n" for text in WHOLE)
    scores = task.score(samples, nll=50.0, count=80)
    assert scores["perplexity_word"] == pytest.approx(math.exp(50 / len(" ".join(WHOLE).split())))
    assert scores["bits_per_character"] == pytest.approx(50 / math.log(2) / len("".join(WHOLE)))
    assert scores["perplexity"] == pytest.approx(math.exp(50 / 80))
    assert scores["token_probability"] == pytest.approx(100 / scores["perplexity"])
    assert set(task.signatures()) < set(scores)


def test_a_word_of_chinese_is_a_character():
    task = GenerationTask(block=4, language="zh")
    characters = len("".join("".join(WHOLE).split()))
    assert task.score(samples_of(task, BYTES), 50.0, 80)["perplexity_word"] == pytest.approx(math.exp(50 / characters))


@KINDS
def test_the_characters_that_begin_in_the_pieces_of_a_text_are_its_own(tokenizer):
    draw = random.Random(1)
    begun = [sum(byte & 0xC0 != 0x80 for byte in piece) for piece in tokenizer.byte_pieces()]
    for _ in range(50):
        text = "".join(draw.choice("ab \n.ä山😀") for _ in range(draw.randint(1, 12)))
        surplus = sum(begun[token] for token in tokenizer.encode(text)) - len(text)
        assert surplus in ((0, 1) if tokenizer.kind in ("bpe", "unigram") else (0,))


def test_with_a_prompt_a_block_is_read_in_part_and_the_rest_written():
    ids = running(BYTES)
    examples = GenerationTask(block=8, prompt=3).examples(ROWS, BYTES)
    assert [token for example in examples for token in (*example.source, *example.target)] == ids[
        : len(ids) // 8 * 8
    ] + (ids[len(ids) // 8 * 8 :] if len(ids) % 8 > 3 else [])
    assert {len(example.source) for example in examples} == {3}
    assert all(example.target for example in examples)
    assert examples[0].reference == BYTES.decode(ids[3:8])


@KINDS
def test_an_answer_is_what_comes_behind_the_prompt_wherever_that_ends(tokenizer):
    task, whole = GenerationTask(block=64), "Over  all\nBäume 山😀 of these \n"
    tokens = tokenizer.encode(whole)
    for place in range(len(tokens)):
        before = tokenizer.decode(tokens[:place])
        example = Example([tokenizer.eos_id, *tokens[:place]], [])
        ((answer,),) = task.answers([[Hypothesis(tokens[place:], 0.0, 0.0)]], [example], tokenizer)
        assert whole.endswith(answer.text)
        shared = whole.removesuffix(answer.text)
        assert before.startswith(shared)
        assert not before[len(shared) :].strip(BROKEN)


def test_a_prompt_is_a_document_that_has_begun():
    first, empty = GenerationTask(block=64).questions([{"text": "One"}, {"text": ""}], BYTES)
    assert (first.source, first.text) == ([END, *BYTES.encode("One")], "One")
    assert (empty.source, empty.row) == ([END], 1)


def test_of_a_long_prompt_the_last_tokens_are_read():
    rows = [{"text": "abcdefgh"}, {"text": None}]
    assert [len(made.source) for made in GenerationTask(block=4, overlap=2).questions(rows, BYTES)] == [5, 1]
    long, empty = GenerationTask(block=4, prompt=3).questions(rows, BYTES)
    assert (long.source, empty.source) == (BYTES.encode("fgh"), [END])


@pytest.mark.parametrize(
    ("settings", "problem"),
    [({"block": 0}, "0 or more"), ({"block": 4, "prompt": 4}, "block - 1"), ({"prompt": 2, "overlap": 3}, "alone")],
)
def test_sizes_that_do_not_fit_are_named(settings, problem):
    with pytest.raises(InputError, match=problem):
        GenerationTask(**settings)


def test_a_wrong_row_is_named():
    with pytest.raises(InputError, match=r"a\.jsonl, row 2, column 'text': 7, expected a text"):
        GenerationTask().examples([{"text": 7, "place": "a.jsonl, row 2"}], BYTES)


@pytest.mark.parametrize("decoding", [SAMPLING, Decoding(beam=3, max_length=30, n_best=2)], ids=["sample", "beam"])
def test_a_rolling_model_chooses_each_token_from_the_last_ones_it_reads(decoding):
    """Each text gets the probability that a pass of its own over what is read at once gives to each of its tokens."""
    torch.manual_seed(0)
    backbone, context = tiny_backbone(encoder_layers=0, positions="rotary").build(9).eval(), 7
    head = LanguageModelHead(END, context=context)
    source = torch.tensor([[END, 5, 6], [END, 7, 0]])
    batch = Batch("generation", source, source > 0, source, torch.tensor([0, 1]))
    for prompt, several in zip(([END, 5, 6], [END, 7]), head.predict(backbone, batch, decoding), strict=True):
        for hypothesis in several:
            ids = [*prompt, *hypothesis.tokens, END]
            wanted, first = 0.0, 0
            for place in range(1, len(ids)):
                if place - first > context:
                    first = place - context // 2
                if place >= len(prompt):
                    with torch.no_grad():
                        logits = backbone.logits(backbone.decode(torch.tensor([ids[first:place]]), None)[0, -1])
                    wanted += float(logits.log_softmax(0)[ids[place]])
            assert hypothesis.log_probability == pytest.approx(wanted, abs=1e-3)
    assert max(len(hypothesis.tokens) for hypothesis in several) > context


def test_rolling_changes_nothing_where_all_is_read_at_once():
    torch.manual_seed(0)
    backbone = tiny_backbone(encoder_layers=0).build(9).eval()
    ids = torch.randint(9, (2, 6))
    rolling = Rolling(backbone, 6)
    with torch.no_grad():
        torch.testing.assert_close(rolling.step(ids, rolling.init_state(None)), backbone.decode(ids, None))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> TextGenerationModule:
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("generation")
    module = TextGenerationModule(
        block=32, backbone=tiny_backbone(encoder_layers=0), tokenizer=CONFIGS["bpe"], decoding=SAMPLING,
        validation_decoding=SAMPLING,
    )  # fmt: skip
    data = TextDataModule(Village(train=12, validation=6, test=1), tokens_per_step=320, cache=str(folder / "cache"))
    fitting = trainer(folder, max_steps=2, limit_val_batches=1.0, num_sanity_val_steps=0, val_check_interval=2,
                      check_val_every_n_epoch=None)  # fmt: skip
    fitting.fit(module, datamodule=data)
    module.scored = {name: float(value) for name, value in fitting.callback_metrics.items()}
    return module


def test_a_module_scores_every_token_and_answers_few(trained):
    text = [row["text"] for row in Village(train=12, validation=6, test=1).rows("validation", ["text"])]
    tokens = sum(len(trained.tokenizer.encode(story)) + 1 for story in text)
    nll = trained.scored["validation/generation/loss"] * tokens
    characters = sum(map(len, text))
    assert trained.scored["validation/generation/bits_per_character"] == pytest.approx(nll / math.log(2) / characters)
    answered = [sample for sample in trained.predictions["generation"] if sample.answer is not None]
    assert 1 <= len(answered) <= trained.task.max_answered < len(trained.predictions["generation"])


def test_a_seed_gives_the_same_text_and_several_samples_differ(trained):
    text = trained.generate("One day", SAMPLING)
    assert text
    assert trained.generate("One day", SAMPLING) == text
    assert trained.generate(["One day", ""], SAMPLING)[0] == text
    several = Decoding(beam=1, sample=True, n_best=3, max_length=10, seed=3)
    (answers,) = trained.solve([{"text": ""}], decoding=several)
    assert len({answer.text for answer in answers}) == 3


@pytest.mark.parametrize("prompt", ["", "One day", "a long prompt " * 10])
def test_the_pieces_of_a_stream_are_the_text(trained, prompt):
    pieces = list(trained.stream(prompt))
    assert "".join(pieces) == trained.generate(prompt)
    assert len(pieces) > 3
    assert not any(piece.endswith(BROKEN) for piece in pieces[:-1])


def test_a_beam_comes_as_one_piece(trained):
    beam = Decoding(beam=2, max_length=6)
    assert list(trained.stream("One", decoding=beam)) == [trained.generate("One", beam)]


def test_every_prompt_is_answered_though_an_evaluation_answers_few(trained, tmp_path):
    (tmp_path / "prompts.txt").write_text("".join(f"Anna has {count}\n" for count in range(9)))
    data = TextDataModule(Documents(predict=str(tmp_path / "prompts.txt")), cache=str(tmp_path / "cache"))
    batches = trainer(tmp_path).predict(trained, datamodule=data)
    answers = dict(pair for _, found in batches for pair in found)
    assert sorted(answers) == list(range(9))
    assert all(len(several) == 1 for several in answers.values())


def test_a_translation_streams(tmp_path):
    module, greedy = fit(write_corpus(tmp_path)), Decoding(beam=1, max_length=9)
    assert "".join(module.stream("ab c", decoding=greedy)) == module.translate("ab c", decoding=greedy)
    assert list(module.stream("")) == [""]  # its own search is a beam
    assert list(module.stream(" ", decoding=greedy)) == []


def test_a_module_with_a_prompt_reads_it_with_an_encoder_and_streams_what_it_writes(tmp_path):
    torch.manual_seed(1)
    module = TextGenerationModule(
        block=24, prompt=8, backbone=tiny_backbone(), tokenizer=CONFIGS["byte"], decoding=SAMPLING,
        validation_decoding=SAMPLING,
    )  # fmt: skip
    data = TextDataModule(Village(train=6, validation=2, test=1), tokens_per_step=480, cache=str(tmp_path / "cache"))
    trainer(tmp_path, max_steps=2, limit_val_batches=1.0, num_sanity_val_steps=0).fit(module, datamodule=data)
    assert "".join(module.stream("Anna has")) == module.generate("Anna has")
