"""`lmtasks run` on tasks that read more than a text, or words: what it prints, and what it says of a mistake."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

from lmtasks.cli.main import main
from lmtasks.cli.score import predicted_column

SIZES = "{d_model: 8, n_heads: 2, d_ff: 8, encoder_layers: 1, decoder_layers: 0}"
CONFIG = f"""model:
  class_path: MODULE
  init_args:
    backbone: {{class_path: TransformerConfig, init_args: {SIZES}}}
    SETTINGS
    tokenizer: {{kind: byte}}
    training: {{schedule: {{kind: constant, warmup: 0}}}}
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


def test_what_run_writes_beside_right_answers_of_the_same_name_is_scored(run, work, capsys):
    gold = [["B-X", "O"], ["O", "B-X"]]
    rows = [{"words": ["Zzz", "sang"], "labels": tags, "score": 5, "prediction": "mine"} for tags in gold]
    file = rows_of(work, "same.jsonl", *rows)
    status, out, note = run("tagging", "--input", file, "--scores")
    written = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [{name: row[name] for name in rows[0]} for row in written] == rows
    added = list(written[0])[len(rows[0]) :]
    assert added[:3] == ["prediction_2", "predicted_score", "predicted_labels"]
    assert f"columns called {', '.join(['prediction', 'score', 'labels'])}: they stay, and the answers are in" in note
    (work / "same.txt").write_text("\n".join(" ".join(tags) for tags in gold) + "\n")
    for given in (file, "once.jsonl"):  # an answer to what has one already is the one that is scored
        output = "once.jsonl" if given == file else "twice.jsonl"
        assert run("tagging", "--input", given, "--output", output)[0] == 0
        assert main(["score", "entities", output, "same.txt", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["score"] == 0  # the village has no X
    assert {"prediction_3", "predicted_labels_2"} < json.loads(
        (work / "twice.jsonl").read_text().splitlines()[0]
    ).keys()


def test_labels_before_a_prediction_are_no_part_of_it(work, monkeypatch):
    monkeypatch.chdir(work)
    gold = {"text": "A", "label": "a", "labels": ["a"]}
    assert (
        predicted_column(rows_of(work, "one.jsonl", gold | {"prediction": "b"}), "label", listed=True) == "prediction"
    )
    answer = {"prediction": "b, c", "predicted_labels": ["b", "c"]}
    assert predicted_column(rows_of(work, "two.jsonl", gold | answer), "label", listed=True) == "predicted_labels"
    assert predicted_column(rows_of(work, "none.jsonl", gold), "label", listed=True) == "label"


TABLES = {
    "a.json": b'[{"id": 1, "text": "Anna sang."},\n {"id": 2, "text": "Ben, too."}]',
    "a.csv": b'id,text\n1,Anna sang.\n2,"Ben, too."\n',
    "a.tsv": b"id\ttext\n1\tAnna sang.\n2\tBen, too.\n",
}


@pytest.mark.parametrize("name", [*TABLES, "a.csv.gz", "a.parquet"])
def test_every_table_that_fit_reads_has_an_answer_a_row(run, work, name):
    file = rows_of(work, "a.jsonl", {"id": 1, "text": "Anna sang."}, {"id": 2, "text": "Ben, too."})
    if name.endswith(".parquet"):
        pyarrow.parquet.write_table(pyarrow.table({"id": [1, 2], "text": ["Anna sang.", "Ben, too."]}), work / name)
    elif name.endswith(".gz"):
        (work / name).write_bytes(gzip.compress(TABLES[name.removesuffix(".gz")]))
    else:
        (work / name).write_bytes(TABLES[name])
    first, second = (
        [json.loads(line, parse_int=str) for line in run("tagging", "--input", given)[1].splitlines()]
        for given in (file, name)
    )
    assert first == second
    assert [row["id"] for row in first] == ["1", "2"]


@pytest.mark.parametrize(("ending", "dialect"), [("csv", "excel"), ("tsv", "excel-tab")])
def test_answers_are_written_as_a_table(run, work, ending, dialect):
    rows = [{"id": "7", "text": 'Anna, "sang"'}, {"id": "8", "text": "no\ttab"}]
    file = rows_of(work, "asked.jsonl", *rows)
    assert run("tagging", "--input", file, "--output", f"out.{ending}")[0] == 0
    with (work / f"out.{ending}").open(newline="") as opened:
        written = list(csv.DictReader(opened, dialect=dialect))
    assert [{name: row[name] for name in rows[0]} for row in written] == rows
    whole = [json.loads(line) for line in run("tagging", "--input", file)[1].splitlines()]
    assert [row["prediction"] for row in written] == [row["prediction"] for row in whole]
    assert [json.loads(row["labels"]) for row in written] == [row["labels"] for row in whole]
    rows_of(work, "ragged.jsonl", {"text": "Anna"}, {"text": "Anna", "more": 1})
    status, _, line = run("tagging", "--input", "ragged.jsonl", "--output", f"out.{ending}")
    assert (status, "a row has a column 'more', which the first row lacks" in line) == (2, True)


def test_a_file_is_no_text_and_a_folder_is_no_context(run, work):
    (work / "kb").mkdir(exist_ok=True)
    for name in ("a.txt", "b.txt"):
        (work / "kb" / name).write_text(CONTEXT)
    status, _, line = run("answering", "--context", "kb", QUESTION)
    assert (status, "a folder, expected a file in it: a.txt, b.txt" in line) == (2, True)
    status, _, line = run("answering", "--context", "kb/a.txt", "kb/b.txt", QUESTION)  # as the shell makes of kb/*.txt
    assert (status, "kb/b.txt is a file, and a text was wanted" in line) == (2, True)
    file = rows_of(work, "asked.jsonl", {"text": "Anna"})
    assert "rows are not written as Parquet" in run("tagging", "--input", file, "--output", "out.parquet")[2]


def test_an_empty_answer_is_explained(run):
    status, out, line = run("answering", " ", "--context", CONTEXT)
    assert (status, out) == (0, "\n")
    assert line == "1 answer is empty: the context has no answer, or a text is blank"


def test_a_command_that_ends_while_stdin_is_open_ends_quietly():
    code = "from lmtasks.cli.stdin import waiting_lines; print(next(waiting_lines()), flush=True)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe, env=environment) as ran:
        ran.stdin.write(b"Anna sang.\n")
        ran.stdin.flush()
        assert ran.stdout.read() == b"['Anna sang.']\n"  # it comes to its end, and nobody closes its stdin
        assert ran.stderr.read() == b""
        assert ran.wait(20) == 0


def test_numbers_are_texts_and_a_mistake_is_told_before_a_row_is_answered(run, work):
    assert run("tagging", "--input", rows_of(work, "year.jsonl", {"text": 1999}))[0] == 0
    rows = [{"text": "Anna sang."}] * 300
    status, out, line = run("tagging", "--input", rows_of(work, "late.jsonl", *rows, {"words": ["a", None]}))
    assert (status, out) == (2, "")
    assert "late.jsonl, row 301, column 'words': item 2 of the list is null" in line


def test_run_reads_the_files_that_training_reads(run, work):
    (work / "a.conll").write_text("-DOCSTART- O\n\n1 Anna NN B-PER\n2 sang VB O\n\n1 Paul NN B-PER\n")
    (work / "a.csv").write_text("sentence_id,words\n1,Anna\n1,sang\n2,Paul\n")
    (work / "b.csv").write_text("words\n\"['Anna', 'sang']\"\n['Paul']\n")
    rows_of(work, "a.jsonl", {"words": ["Anna", "sang"]}, {"words": ["Paul"]})
    outs = {run("tagging", "--input", name)[:2] for name in ("a.conll", "a.csv", "b.csv", "a.jsonl")}
    assert len(outs) == 1
    ((status, out),) = outs
    assert status == 0
    assert [json.loads(line)["words"] for line in out.splitlines()] == [["Anna", "sang"], ["Paul"]]
    asked = [{"id": "q", "question": QUESTION, "answers": []}]
    (work / "a.json").write_text(json.dumps({"data": [{"paragraphs": [{"context": CONTEXT, "qas": asked}]}]}))
    status, out, _ = run("answering", "--input", "a.json")
    assert status == 0
    assert json.loads(out)["id"] == "q"
    assert json.loads(out)["prediction"] in CONTEXT


def test_all_faulty_rows_are_told_and_no_rows_are_an_error(run, work):
    rows = rows_of(work, "faults.jsonl", {"text": "a"}, {"text": None}, {"note": "b"})
    status, out, line = run("tagging", "--input", rows)
    assert (status, out) == (2, "")
    assert "faults.jsonl: 2 faults: row 2: nothing in column" in line
    assert "; row 3: nothing in" in line
    (work / "header.csv").write_text("text,note\n")
    status, _, line = run("tagging", "--input", "header.csv")
    assert status == 2
    assert "header.csv: there is no row in it; nothing to answer" in line
