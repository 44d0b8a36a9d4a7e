"""run.py: it answers as the model does, long texts included, and says in a line what is wrong."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_export import MODELS, ROWS, SENTENCES, WORDS, reader, tiny

from lmtasks.decoding import Decoding
from lmtasks.export.exported import write_export
from lmtasks.pretrained.pretrained import open_model
from lmtasks.tasks.answering import SpanAnsweringTask
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.tasks.translation import TranslationTask

LONG = " ".join(SENTENCES * 60)


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """Return a function that exports one of MODELS to CTranslate2 once, and returns model, folder."""
    made = {}

    def export(name):
        if name not in made:
            made[name] = MODELS[name](), tmp_path_factory.mktemp(name)
            write_export(made[name][0], "ct2", made[name][1])
        return made[name]

    return export


def run(folder, *arguments, options=()):
    """Run the program of an export."""
    command = [sys.executable, *options, folder / "run.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def answer(folder, *arguments):
    """Return what the program prints, but for a score."""
    done = run(folder, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.rstrip("\n").split("\t")[0]


@pytest.mark.parametrize("name", ["classification", "labels", "tagging", "dialogue"])
def test_a_long_text_is_cut_as_in_the_model_and_said(exports, name):
    model, folder = exports(name)
    row = ROWS.get(name, [{"text": ""}])[0]
    first = next(iter(row))
    row = {**row, first: [LONG] if name == "dialogue" else LONG}
    done = run(folder, *(LONG if key == first else value for key, value in row.items()))
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip("\n").split("\t")[0] == model.solve([row])[0][0].text
    assert "was cut to" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_language_model_reads_the_end_of_a_long_text_and_has_room_to_write(exports):
    _, folder = exports("generation")
    done = run(folder, LONG + WORDS)
    assert done.stdout == run(folder, SENTENCES[0] + LONG + WORDS).stdout
    assert done.stdout.strip()
    assert "was cut to 29" in done.stderr  # of a block of 48, with room for a text of 20, whose end is not read


def test_a_long_context_is_read_in_windows(exports):
    model, folder = exports("answering")
    context = " ".join(map(str, range(300)))  # each number once
    expected = [model.answer(question, context) for question in SENTENCES]
    assert [answer(folder, question, context) for question in SENTENCES] == expected
    assert not all(text in context[:64] for text in expected)  # the first window has no more


def test_no_answer_is_found_as_in_the_model(tmp_path):
    settings = {"attention": False, "word_match": False, "layers": 0, "window": 64, "stride": 32, "no_answer": True}
    model = reader(SpanAnsweringTask(**settings, no_answer_at="first"))
    answers = {}
    for threshold in (-50.0, 50.0):
        model.heads["answering"].threshold.fill_(threshold)
        write_export(model, "ct2", folder := tmp_path / str(threshold))
        answers[threshold] = answer(folder, "Anna", LONG)
        assert answers[threshold] == model.answer("Anna", LONG)
    assert answers[50.0] == ""
    assert answers[-50.0]


def test_one_of_several_directions_is_chosen(exports):
    model, folder = exports("translation")
    for target in ("de", "fr"):
        assert answer(folder, "--target", target, SENTENCES[0]) == model.translate(SENTENCES[0], target)
    for wrong in ((), ("--target", "es"), ("--source", "de")):
        done = run(folder, *wrong, SENTENCES[0])
        assert done.returncode == 2
        assert "choose one direction of en-de, en-fr by --source and --target" in done.stderr


@pytest.mark.parametrize("make", ["m2m100", "nllb"])
def test_a_model_between_any_languages_is_told_both(tmp_path, make):
    families = pytest.importorskip("test_pretrained_m2m100")
    for folder in ("theirs", "out"):
        (tmp_path / folder).mkdir()
    getattr(families, make)(tmp_path / "theirs")
    model = open_model(str(tmp_path / "theirs")).eval()
    model.decoding = Decoding(beam=2, max_length=12)
    write_export(model, "ct2", tmp_path / "out")
    source, target, other = model.tasks["translation"].between[:3]
    texts = {each: answer(tmp_path / "out", "--source", source, "--target", each, "ab cde") for each in (target, other)}
    assert texts == {each: model.translate("ab cde", each, source) for each in (target, other)}
    assert "choose one direction of any two of" in run(tmp_path / "out", "--target", target, "ab cde").stderr


def test_a_model_whose_decoding_samples_samples(tmp_path):
    decoding = Decoding(beam=1, sample=True, temperature=3.0, max_length=20)
    write_export(tiny({"translation": TranslationTask()}, decoding), "ct2", tmp_path)
    assert len({answer(tmp_path, SENTENCES[0]) for _ in range(4)}) > 1


def test_a_text_is_as_long_as_the_decoding_asks(tmp_path):
    model = tiny({"translation": TranslationTask()}, Decoding(beam=1, min_length=18, max_length=24))
    write_export(model, "ct2", tmp_path)
    _, tokenizer = model.built()
    assert len(tokenizer.encode(answer(tmp_path, "a"))) >= 16  # pieces that are joined may be cut into fewer


@pytest.mark.parametrize("name", ["model.bin", "heads.safetensors", "lmtasks.json", "tokenizer.json"])
def test_a_damaged_file_is_named_in_a_line(exports, tmp_path, name):
    _, folder = exports("classification")
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    (damaged / name).write_bytes((folder / name).read_bytes()[:100])
    broken = run(damaged, "Anna")
    (damaged / name).unlink()
    missing = run(damaged, "Anna")
    for done, problem in ((broken, "cannot be read"), (missing, "is missing")):
        assert done.returncode == 1
        assert f"{damaged / name} {problem}: export the model again" in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_missing_package_is_named_with_what_installs_it(exports):
    _, folder = exports("classification")
    done = run(folder, "Anna", options=["-S"])  # without site-packages
    assert done.returncode == 1
    assert done.stderr == "No module named 'ctranslate2': pip install ctranslate2 numpy tokenizers\n"


def test_usage_is_printed_when_asked_and_when_the_texts_are_not_as_many(exports):
    _, folder = exports("labels")
    asked = run(folder, "--help")
    assert asked.returncode == 0
    assert "run.py [-h] TEXT PAIR" in asked.stdout
    for wrong in ((), ("a",), ("a", "b", "c"), ("a", b"\xff")):
        done = run(folder, *wrong)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("usage: run.py")


def test_labels_are_no_code(tmp_path):
    labels = ('"""\nraise SystemExit("run")\n"""', "\\N{x}", "{file}")
    model = reader(ClassificationTask(labels=labels))
    write_export(model, "ct2", tmp_path)
    tree = ast.parse((tmp_path / "run.py").read_text(encoding="utf-8"))
    assert all(label in ast.get_docstring(tree) for label in labels)
    assert answer(tmp_path, "Anna") == model.classify("Anna").rstrip("\n")


@pytest.mark.parametrize("name", MODELS)
def test_an_image_has_the_packages_that_its_program_imports(exports, name):
    _, folder = exports(name)
    tree = ast.parse((folder / "run.py").read_text(encoding="utf-8"))
    (tried,) = (node for node in tree.body if isinstance(node, ast.Try))
    wanted = {each.module if isinstance(each, ast.ImportFrom) else each.names[0].name for each in tried.body}
    image = Path(folder / "Dockerfile").read_text(encoding="utf-8")
    assert all(f'"{package}>=' in image for package in wanted)
    assert ("numpy" in wanted) == ("numpy" in image)


def test_a_program_has_no_more_than_it_uses(exports):
    for name in MODELS:
        text = (exports(name)[1] / "run.py").read_text(encoding="utf-8")
        tree = ast.parse(text)
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert {each for each in defined if text.count(each) == 1} == set(), name
        assert json.dumps("run") in text
