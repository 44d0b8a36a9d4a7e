"""`lmtasks run` on tasks that read more than a text, or words: what it prints, and what it says of a mistake."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lmtasks.cli.main import main

SIZES = "{d_model: 8, n_heads: 2, d_ff: 8, encoder_layers: 1, decoder_layers: 0}"
CONFIG = f"""model:
  class_path: MODULE
  init_args:
    backbone: {{class_path: TransformerConfig, init_args: {SIZES}}}
    SETTINGS
    tokenizer: {{kind: byte}}
    schedule: {{kind: constant, warmup: 0}}
data:
  rows: {{class_path: Village, init_args: {{train: 8, validation: 2, test: 2}}}}
  max_length: 600
trainer: {{max_steps: 1, accelerator: cpu, enable_progress_bar: false}}
"""
MODULES = {"answering": ("QuestionAnsweringModule", "no_answer: true"), "tagging": ("TaggingModule", "layers: 1")}
QUESTION, CONTEXT = "Who sang?", "Anna sang in the old mill."


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a run for each kind of model."""
    folder = tmp_path_factory.mktemp("work")
    here = Path.cwd()
    os.chdir(folder)
    try:
        for name, (module, settings) in MODULES.items():
            Path(f"{name}.yaml").write_text(CONFIG.replace("MODULE", module).replace("SETTINGS", settings))
            assert main(["fit", "-c", f"{name}.yaml", "--data.cache", "cache"]) == 0
    finally:
        os.chdir(here)
    return folder


@pytest.fixture
def run(work, monkeypatch, capsys):
    """Type `lmtasks run` in that folder: (exit status, stdout, the last line of stderr)."""
    monkeypatch.chdir(work)

    def typed(task: str, *arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["run", f"runs/{task}", *map(str, arguments)])
        out, err = capsys.readouterr()
        return status, out, (err.splitlines() or [""])[-1]

    return typed


def rows_of(work: Path, name: str, *rows: dict) -> str:
    (work / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def test_one_answer_is_printed_and_as_many_as_are_asked_for(run, work):
    one = run("answering", QUESTION, "--context", CONTEXT)[1]
    assert "\t" not in one
    assert one.strip() in CONTEXT
    status, out, _ = run("answering", QUESTION, "--context", CONTEXT, "--n-best", 3)
    assert status == 0
    several = out.rstrip("\n").split("\t")
    assert (len(several), several[0]) == (3, one.rstrip("\n"))
    file = rows_of(work, "questions.jsonl", {"question": QUESTION, "context": CONTEXT})
    assert "n_best" not in json.loads(run("answering", "--input", file)[1])
    assert len(json.loads(run("answering", "--input", file, "--n-best", 2)[1])["n_best"]) == 2


def test_a_context_is_a_text_or_a_file(run, work):
    (work / "story.txt").write_text(CONTEXT + "\n")
    answers = {run("answering", QUESTION, "--context", given)[:2] for given in (CONTEXT, "story.txt", "./story.txt")}
    assert len(answers) == 1
    for text in ("Sang.", "An and/or gate sang.", "安娜/本在唱歌。", "a/" * 300):
        assert run("answering", QUESTION, "--context", text)[0] == 0


@pytest.mark.parametrize("path", ["stroy.txt", "./stroy.txt", "nowhere/story", "STORY.jsonl", "story.txt.gz"])
def test_a_mistyped_path_of_a_context_is_no_text(run, work, path):
    (work / "story.txt").write_text(CONTEXT)
    status, out, line = run("answering", QUESTION, "--context", path)
    assert (status, out) == (2, "")
    assert f"--context {path}: no such file" in line


def test_a_context_beside_rows_and_rows_without_one_are_told_apart(run, work):
    whole = rows_of(work, "whole.jsonl", {"question": QUESTION, "context": CONTEXT})
    bare = rows_of(work, "bare.jsonl", {"question": QUESTION})
    status, _, line = run("answering", "--input", whole, "--context", CONTEXT)
    assert status == 2
    assert "leave --context out, or give the questions as a text file" in line
    status, _, line = run("answering", "--input", bare)
    assert status == 2
    assert "bare.jsonl, row 1: nothing in column 'context'" in line
    assert "--context goes with plain questions" in line
    (work / "plain.txt").write_text(QUESTION + "\n")
    assert run("answering", "--input", "plain.txt", "--context", CONTEXT)[0] == 0


def test_options_of_search_are_named_where_nothing_is_written(run):
    status, _, line = run("tagging", "Anna sang.", "--beam", 3, "--prefix", "x")
    assert status == 2
    assert "tagging writes no text: leave out --prefix, --beam" in line


def test_words_of_a_file_are_found_by_their_own_name(run, work):
    words = ["Anna", "sang", "."]
    file = rows_of(work, "words.jsonl", {"words": words, "tags": ["B-PER", "O", "O"]}, {"words": []})
    status, out, _ = run("tagging", "--input", file)
    first, blank = map(json.loads, out.splitlines())
    assert status == 0
    assert len(first["labels"]) == len(words)
    assert blank["prediction"] == ""
    assert run("tagging", "--input", file, "--column", "words")[1] == out
    named = rows_of(work, "tokens.jsonl", {"tokens": words, "words": ["else"], "text": "else"})
    assert json.loads(run("tagging", "--input", named, "--column", "tokens")[1])["labels"] == first["labels"]
    texts = rows_of(work, "texts.jsonl", {"text": "Anna sang."}, {"text": "Anna sang.", "note": "x"})
    said = [json.loads(line)["labels"] for line in run("tagging", "--input", texts)[1].splitlines()]
    assert len(said[0]) == len(said[1]) == len(words)
    status, _, line = run("tagging", "--input", rows_of(work, "none.jsonl", {"note": "x"}))
    assert status == 2
    assert "nothing in column 'words' or column 'text' (columns: note); --column=NAME" in line


def test_what_run_writes_is_scored_as_it_lies(run, work, capsys):
    file = rows_of(work, "gold.jsonl", {"words": []}, {"words": ["Zzz", "sang"], "tags": ["B-X", "O"]})
    (work / "gold.txt").write_text("\nB-X O\n")
    assert run("tagging", "--input", file, "--output", "predicted.jsonl")[0] == 0
    assert main(["score", "entities", "predicted.jsonl", "gold.txt", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["score"] == 0  # the village has no X, and the copied tags do not count


@pytest.mark.parametrize(
    ("content", "fault"),
    [('{"text": "a"}\n\n{"text": \n', "row 3: invalid JSON at character"), ('{"text": "a"}\n["b"]\n', "row 2: [")],
)
def test_a_broken_row_is_named(run, work, content, fault):
    (work / "broken.jsonl").write_text(content)
    status, _, line = run("tagging", "--input", "broken.jsonl")
    assert status == 2
    assert f"broken.jsonl, {fault}" in line


def test_a_table_is_not_read_as_lines_of_text(run, work):
    (work / "reviews.csv").write_text("text,label\nGood.,yes\n", encoding="utf-8")
    status, _, line = run("tagging", "--input", "reviews.csv")
    assert (status, "reviews.csv is a table" in line, "predict" in line) == (2, True, True)
