"""`lmtasks score` against sacrebleu, from every kind of file."""

import argparse
import gzip
import io
import json
import subprocess
import sys

import pytest
import sacrebleu

from lmtasks.cli import score
from lmtasks.errors import InputError

HYPOTHESES = ["The cat sat on a mat.", "", "It rains in the village today."]
REFERENCES = [
    ["the cat sat on the mat.", "A dog.", "It rains in the village today."],
    ["A cat sat there.", "Dogs!", "Today it rains in the village."],
]


def run(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    score.add_arguments(parser)
    return score.run(parser.parse_args(argv))


def write(path, lines) -> str:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


@pytest.fixture
def files(tmp_path) -> list[str]:
    """Paths of plain files: hypotheses, first and second references."""
    return [write(tmp_path / f"{number}.txt", lines) for number, lines in enumerate([HYPOTHESES, *REFERENCES])]


@pytest.mark.parametrize("metric", ["bleu", "chrf", "ter"])
@pytest.mark.parametrize("references", [1, 2])
def test_the_line_is_the_score_and_the_signature_of_sacrebleu(metric, references, files, capsys):
    scorer = {"bleu": sacrebleu.BLEU, "chrf": sacrebleu.CHRF, "ter": sacrebleu.TER}[metric]()
    expected = scorer.corpus_score(HYPOTHESES, REFERENCES[:references]).score
    assert run(metric, *files[: 1 + references]) == 0
    assert capsys.readouterr().out == f"{expected:.2f} {scorer.get_signature()}\n"


def test_json_gives_the_same_score(files, capsys):
    run("bleu", *files[:2], "--json", "--lowercase")
    found = json.loads(capsys.readouterr().out)
    expected = sacrebleu.corpus_bleu(HYPOTHESES, REFERENCES[:1], lowercase=True).score
    assert found["metric"] == "bleu"
    assert found["score"] == pytest.approx(expected, abs=1e-4)
    assert "case:lc" in found["signature"]


def test_the_language_chooses_the_tokeniser(files, capsys):
    run("bleu", *files[:2], "--language", "zh")
    assert "tok:zh" in capsys.readouterr().out


def test_json_lines_and_gz_and_stdin_give_the_score_of_plain_lines(files, tmp_path, capsys, monkeypatch):
    run("chrf", *files[:2])
    rows = write(tmp_path / "rows.jsonl", (json.dumps({"prediction": text}) for text in HYPOTHESES))
    run("chrf", rows, files[1], "--column", "prediction")
    both = write(
        tmp_path / "both.jsonl",
        (json.dumps({"ours": ours, "true": true}) for ours, true in zip(HYPOTHESES, REFERENCES[0], strict=True)),
    )
    run("chrf", both, both, "--column", "ours", "--reference-column", "true")
    packed = tmp_path / "references.gz"
    packed.write_bytes(gzip.compress("\n".join(REFERENCES[0]).encode()))
    run("chrf", files[0], str(packed))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\r\n".join(HYPOTHESES).encode())))
    run("chrf", "-", files[1])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert len(set(lines)) == 1


@pytest.mark.parametrize("content", ["", "\n", "a", "a\n", "a\n\n", "a\u2028b\r\nc\n", "a\rb\n", "\ufeffa\n"])
def test_stdin_has_the_lines_of_a_file(content, tmp_path, monkeypatch):
    file = tmp_path / "lines.txt"
    file.write_bytes(content.encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    assert score._texts("-", "text") == score._texts(str(file), "text")


def test_different_numbers_of_rows_name_both_files_and_counts(files, tmp_path):
    short = write(tmp_path / "short.txt", REFERENCES[0][:2])
    with pytest.raises(InputError, match=r"0\.txt has 3 rows and .*short\.txt has 2"):
        run("bleu", files[0], files[1], short)


def test_two_texts_from_stdin_are_refused():
    with pytest.raises(InputError, match="read once only"):
        run("bleu", "-", "-")


def test_empty_files_are_refused(tmp_path):
    empty = write(tmp_path / "empty.txt", [])
    with pytest.raises(InputError, match=r"empty\.txt: no rows"):
        run("bleu", empty, empty)


def test_an_absent_prediction_is_named(tmp_path, files):
    rows = write(tmp_path / "rows.jsonl", ['{"text": "a"}', '{"text": null}', '{"text": ""}'])
    with pytest.raises(InputError, match=r"rows\.jsonl, row 2, column 'text'"):
        run("bleu", rows, files[1])


def test_bytes_that_are_not_utf8_are_named(monkeypatch, files):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"tea\ncaf\xe9\n")))
    with pytest.raises(InputError, match="stdin, line 2: byte 4 is not UTF-8"):
        run("bleu", "-", files[1])


@pytest.mark.parametrize("metric", ["chrf", "ter"])
@pytest.mark.parametrize("option", [["--language", "zh"], ["--lowercase"]])
def test_options_that_change_nothing_are_refused(metric, option, files):
    with pytest.raises(InputError, match=f"{option[0]} changes nothing in {metric}"):
        run(metric, *files[:2], *option)


def test_the_arguments_are_declared_without_torch():
    code = "import argparse, sys; from lmtasks.cli import score; score.add_arguments(argparse.ArgumentParser()); "
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)
