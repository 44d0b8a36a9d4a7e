"""Texts that are longer than a model reads are said once, and samples do not depend on the place of a text."""

from __future__ import annotations

import itertools

import pytest
import torch

from lmtasks.backbones.base import BackboneConfig
from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.cli.main import main
from lmtasks.cli.stdin import AT_ONCE
from lmtasks.cuts import counting_cuts
from lmtasks.decoding import Decoding
from lmtasks.model import Model
from lmtasks.storage.model_folder import save
from lmtasks.tasks.answering import SpanAnsweringTask
from lmtasks.tasks.base import Task
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.tasks.dialogue import DialogueTask
from lmtasks.tasks.generation import GenerationTask
from lmtasks.tasks.translation import TranslationTask
from lmtasks.text.tokenizer import Tokenizer, TokenizerConfig

SHORT = Decoding(beam=1, max_length=4)
SAMPLED = Decoding(beam=1, sample=True, seed=7, max_length=8)


def model_of(task: Task, encoder: int = 1, decoder: int = 1, decoding: Decoding = SHORT, **sizes: int) -> Model:
    """Return a model that has not been trained."""
    torch.manual_seed(0)
    config: BackboneConfig = TransformerConfig(
        encoder_layers=encoder, decoder_layers=decoder, d_model=8, n_heads=2, d_ff=8, **sizes
    )
    model = Model({task.kind: task}, config, decoding)
    model.build(Tokenizer.train([], TokenizerConfig("byte"), *model.token_names))
    return model.eval()


def said(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_prompt_that_is_cut_is_said(caplog):
    model = model_of(GenerationTask(block=8), encoder=0)
    model.generate(["abc", "abcdefghijk", "abcdefghijklmno"])
    assert said(caplog) == [
        "too long and cut: 2 of 3 texts; the first, text 2, has 12 tokens, of which the model reads 8"
    ]


def test_a_language_model_without_blocks_says_what_it_leaves_out(caplog):
    model = model_of(GenerationTask(block=64), encoder=0, max_length=64)
    model.heads["generation"].context = None
    model.generate("a" * 63, Decoding(beam=1, max_length=9))
    assert "has 64 tokens, of which the model reads 56" in said(caplog)[0]


@pytest.mark.parametrize(
    ("turns", "read"),
    [(["abcdef"], None), (["a" * 20], "22 tokens, of which the model reads 12"), (["abcd"] * 5, "26")],
)
def test_a_dialogue_that_is_cut_is_said(caplog, turns, read):
    model_of(DialogueTask(history=12)).reply(turns)
    assert len(said(caplog)) == (read is not None)
    assert read is None or read in said(caplog)[0]


def test_a_question_longer_than_half_a_window_is_said(caplog):
    model = model_of(SpanAnsweringTask(window=16, stride=4), decoder=0)
    model.answer("who sang in the old mill", "Anna sang in the old mill. " * 4)
    assert said(caplog) == ["too long and cut: the text has 24 tokens, of which the model reads 8"]


def test_a_source_longer_than_the_backbone_reads_is_said_and_a_stream_says_it_too(caplog):
    model = model_of(TranslationTask(("en-de",)), max_length=9)
    model.translate(["abc", "abcdefghijk"])
    model.translate("abc")
    "".join(model.stream("abcdefghijk"))
    assert [line.split(" has ")[1] for line in said(caplog)] == ["12 tokens, of which the model reads 9"] * 2


def test_a_command_says_it_once_whatever_its_portions(tmp_path, monkeypatch, capsys, caplog):
    save(model_of(ClassificationTask(labels=("bad", "good")), decoder=0, max_length=9), tmp_path / "model")
    lines = ["short"] * (AT_ONCE + 3) + ["a text that is too long"] * AT_ONCE
    (tmp_path / "texts.txt").write_text("".join(f"{line}\n" for line in lines))
    assert main(["run", str(tmp_path / "model"), "--input", str(tmp_path / "texts.txt")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(lines)
    assert said(caplog) == [
        f"too long and cut: {AT_ONCE} of {len(lines)} texts; "
        f"the first, text {AT_ONCE + 4}, has 24 tokens, of which the model reads 9"
    ]


def test_blocks_inside_others_count_together(caplog):
    model = model_of(GenerationTask(block=8), encoder=0)
    with counting_cuts():
        model.generate(["abc", "abcdefghijk"])
        model.generate("abcdefghijk")
        assert said(caplog) == []
    assert "2 of 3 texts; the first, text 2," in said(caplog)[0]


@pytest.mark.parametrize("name", ["generation", "translation"])
@pytest.mark.parametrize("n_best", [1, 2])
def test_a_seeded_sample_depends_on_its_text_and_not_on_its_place(name, n_best):
    writes, continues = TranslationTask(("en-de",)), GenerationTask(block=32)
    model = model_of(writes) if name == "translation" else model_of(continues, encoder=0)
    column = "en" if name == "translation" else "text"
    decoding = Decoding(beam=1, sample=True, seed=7, max_length=8, n_best=n_best)
    texts = ["abc", "a", "abcdefgh", "xyz", "q w", "abc"]

    def answered(several: list[str]) -> list[list[str]]:
        found = model.solve([{column: text} for text in several], decoding=decoding)
        return [[answer.text for answer in answers] for answers in found]

    wanted = dict(zip(texts, answered(texts), strict=True))
    assert answered(texts[::-1]) == [wanted[text] for text in texts[::-1]]
    assert [answered([text])[0] for text in texts] == [wanted[text] for text in texts]
    assert len(set(map(tuple, wanted.values()))) == len(wanted)  # but texts that differ have different noise
    if n_best == 1:
        assert "".join(model.stream({column: "q w"}, decoding=decoding)) == wanted["q w"][0]


def test_without_a_seed_equal_texts_have_samples_of_their_own():
    model = model_of(GenerationTask(block=32), encoder=0)
    assert len(set(model.generate(["abc"] * 8, Decoding(beam=1, sample=True, max_length=8)))) > 1


def test_stdin_and_a_file_have_the_same_samples_and_the_same_answers_before_a_bad_line(tmp_path, monkeypatch, capsys):
    save(model_of(GenerationTask(block=32), encoder=0, decoding=SAMPLED), tmp_path / "model")
    file = tmp_path / "texts.txt"
    lines = [f"{first}{second}" for first, second in itertools.product("abcdefghijklmnopqrst", repeat=2)][:301]
    file.write_bytes("\n".join(lines[:300]).encode() + b"\n\xff\n" + lines[300].encode() + b"\n")
    outputs = []
    for arguments in (["--input", str(file)], []):
        with file.open() as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            assert main(["run", str(tmp_path / "model"), *arguments]) == 2
        out, err = capsys.readouterr()
        outputs.append(out)
        assert "301: byte 1 is not UTF-8" in err
    assert outputs[0] == outputs[1]
    assert len(outputs[0].splitlines()) == 300


def test_a_long_dialogue_keeps_only_the_turns_that_can_be_read(tmp_path, monkeypatch, capsys):
    save(model_of(DialogueTask(history=12)), tmp_path / "model")
    (tmp_path / "talk.txt").write_text("ab\n" * 20)
    turns, solve = [], Model.solve

    def counted(self, rows, *more):
        turns.append(len(rows[0]["turns"]))
        return solve(self, rows, *more)

    monkeypatch.setattr(Model, "solve", counted)
    assert main(["run", str(tmp_path / "model"), "--input", str(tmp_path / "talk.txt")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 20
    assert max(turns) == 12
