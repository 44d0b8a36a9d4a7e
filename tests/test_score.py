"""`lmtasks score` against sacrebleu and the metrics themselves, from every kind of file."""

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
from lmtasks.tasks.base import Answer

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
    assert score.read_texts("-", "text") == score.read_texts(str(file), "text")


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


@pytest.mark.parametrize(
    ("metric", "option"), [("chrf", ["--language", "zh"]), ("chrf", ["--lowercase"]), ("ter", ["--lowercase"])]
)
def test_options_that_change_nothing_are_refused(metric, option, files):
    with pytest.raises(InputError, match=f"{option[0]} changes nothing in {metric}"):
        run(metric, *files[:2], *option)


def test_the_arguments_are_declared_without_torch():
    code = "import argparse, sys; from lmtasks.cli import score; score.add_arguments(argparse.ArgumentParser()); "
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)


def jsonl(path, rows) -> str:
    return write(path, (json.dumps(row, ensure_ascii=False) for row in rows))


def scores_of(capsys) -> dict:
    return json.loads(capsys.readouterr().out)["scores"]


def nested(path, questions: dict[str, list[str]]) -> str:
    """Write a file as SQuAD has them."""
    asked = [{"id": name, "question": "?", "answers": [{"text": text, "answer_start": 0} for text in texts]}
             for name, texts in questions.items()]  # fmt: skip
    data = [{"title": "t", "paragraphs": [{"context": "c", "qas": [one]}]} for one in asked]
    path.write_text(json.dumps({"version": "v2.0", "data": data}, indent=1), encoding="utf-8")
    return str(path)


def cmrc(path, questions: dict[str, list[str]]) -> str:
    """Write a file as CMRC 2018 has them, with a plausible answer to what has none."""
    asked = [{"query_id": name, "query_text": "?", "answers": texts or ["x"], "is_impossible": not texts}
             for name, texts in questions.items()]  # fmt: skip
    path.write_text(json.dumps([{"context_id": "1", "context_text": "c", "qas": asked}]), encoding="utf-8")
    return str(path)


QUESTIONS = {"q1": ["Black Death", "plague"], "q2": [], "q3": ["1347"]}
ANSWERS = {"q3": "in 1347", "q1": "the black death", "q2": "", "q9": "of another file"}


def test_squad_reads_the_official_files_and_rows_alike(tmp_path, capsys):
    official = tmp_path / "answers.json"
    official.write_text(json.dumps(ANSWERS))
    gold = nested(tmp_path / "dev.json", QUESTIONS)
    in_order = [ANSWERS[name] for name in QUESTIONS]
    rows = jsonl(tmp_path / "rows.jsonl", ({"text": text} for text in in_order))
    known = jsonl(tmp_path / "known.jsonl", ({"answers": texts} for texts in QUESTIONS.values()))
    stored = [{"answers": {"text": texts, "answer_start": [0] * len(texts)}} for texts in QUESTIONS.values()]
    flat = [{"answers": [{"text": text, "answer_start": 0} for text in texts]} for texts in QUESTIONS.values()]
    pairs = [
        (str(official), gold),
        (str(official), cmrc(tmp_path / "cmrc.json", QUESTIONS)),
        (rows, jsonl(tmp_path / "objects.jsonl", flat)),
        (rows, gold),
        (write(tmp_path / "rows.txt", in_order), known),
        (rows, jsonl(tmp_path / "stored.jsonl", stored)),
    ]
    outputs = []
    for pair in pairs:
        assert run("squad", *pair) == 0
        outputs.append(capsys.readouterr().out)
    assert len(set(outputs)) == 1
    lines = outputs[0].splitlines()
    assert lines[0] == "88.89 f1 rows:3|unanswerable:1|rules:squad2.0"
    assert set(lines[1:]) == {
        "66.67 exact_match", "50.00 has_answer_exact_match", "83.33 has_answer_f1", "100.00 no_answer_exact_match"
    }  # fmt: skip


def test_squad_in_chinese_follows_cmrc(tmp_path, capsys):
    run(
        "squad",
        write(tmp_path / "a.txt", ["中国人"]),
        write(tmp_path / "b.txt", ["《中国》"]),
        "--language",
        "zh",
        "--json",
    )
    found = json.loads(capsys.readouterr().out)
    assert found["score"] == found["scores"]["f1"] == pytest.approx(80)
    assert "cmrc2018" in found["signature"]


def test_squad_names_questions_without_an_answer(tmp_path):
    official = tmp_path / "answers.json"
    official.write_text(json.dumps({"q1": "a"}))
    with pytest.raises(InputError, match=r"answers\.json: no answer to q2, q3 of .*dev\.json"):
        run("squad", str(official), nested(tmp_path / "dev.json", QUESTIONS))
    official.write_text('{"q1": \n ]')
    with pytest.raises(InputError, match=r"answers\.json, line 2, character 2: invalid JSON"):
        run("squad", str(official), nested(tmp_path / "dev.json", QUESTIONS))
    official.write_text(json.dumps({"q1": ["a"], "q2": "", "q3": ""}))
    with pytest.raises(InputError, match=r"answers\.json, answer q1: a list, expected text"):
        run("squad", str(official), nested(tmp_path / "dev.json", QUESTIONS))
    official.write_text(json.dumps({"data": [{"title": "t"}]}))
    with pytest.raises(InputError, match=r"answers\.json, row 1, 'answers': None, expected"):
        run("squad", str(official), str(official))
    without_id = tmp_path / "rows.json"
    without_id.write_text(json.dumps({"data": [{"question": "?", "context": "c", "answers": ["c"]}]}))
    with pytest.raises(InputError, match=r"rows\.json, row 1: a question without an id; give the answers row for row"):
        run("squad", str(official), str(without_id))


def test_entities_are_read_from_lists_and_lines_in_every_scheme(tmp_path, capsys):
    plain = write(tmp_path / "ours.txt", ["B-PER I-PER O", "O B-LOC O"])
    rows = jsonl(tmp_path / "true.jsonl", [{"tags": ["B-PER", "E-PER", "O"]}, {"tags": ["S-LOC", "O", "O"]}])
    run("entities", plain, rows)
    first, *others = capsys.readouterr().out.splitlines()
    assert first.startswith("50.00 f1 entities:2|match:label+span")
    assert others[:2] == ["50.00 precision", "50.00 recall"]
    assert [line.split()[0] for line in others[3:]] == ["precision", "LOC", "PER"]


def test_entities_name_rows_that_do_not_fit(tmp_path):
    ours, true = write(tmp_path / "ours.txt", ["O", "O O"]), write(tmp_path / "true.txt", ["O", "O O O"])
    with pytest.raises(InputError, match=r"ours\.txt, row 2: 2 tags, .*true\.txt, row 2 has 3"):
        run("entities", ours, true)
    with pytest.raises(InputError, match=r"nouns\.txt, row 1: tag 'NOUN'"):
        run("entities", ours, write(tmp_path / "nouns.txt", ["NOUN", "O O"]))


def test_accuracy_prints_macro_f1_and_the_classes(tmp_path, capsys):
    rows = jsonl(tmp_path / "ours.jsonl", [{"label": "good"}, {"label": "bad"}, {"label": "good"}])
    picture = tmp_path / "confusion.svg"
    run("accuracy", rows, write(tmp_path / "true.txt", ["good", "bad", "bad"]), "--picture", str(picture))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["66.67 accuracy rows:3|classes:2|macro:classes that occur", "66.67 macro_f1"]
    assert lines[-2].split() == ["bad", "100.00", "50.00", "66.67", "2"]
    assert ">good<" in picture.read_text()


def test_accuracy_of_lists_is_that_of_several_labels(tmp_path, capsys):
    ours = jsonl(tmp_path / "ours.jsonl", [{"label": ["a"]}, {"label": []}])
    true = jsonl(tmp_path / "true.jsonl", [{"labels": ["a", "b"]}, {"labels": []}])
    run("accuracy", ours, true, "--reference-column", "labels", "--json")
    found = scores_of(capsys)
    assert found == pytest.approx({"micro_f1": 200 / 3, "macro_f1": 50, "subset_accuracy": 50}, abs=1e-3)
    with pytest.raises(InputError, match="--picture: rows with several labels"):
        run("accuracy", ours, true, "--reference-column", "labels", "--picture", str(tmp_path / "a.png"))


def test_a_text_of_several_labels_is_no_list_of_them(tmp_path, capsys):
    rows = [{"prediction": "a, b", "labels": ["a", "b"], "label": ["a", "b"]}, {"prediction": "", "label": []}]
    path = jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(InputError, match=r"rows\.jsonl, row 1: 'a, b' is a text .* give lists in both"):
        run("accuracy", path, path, "--column", "prediction", "--reference-column", "label")
    texts = write(tmp_path / "texts.txt", ["a, b", "c"])
    with pytest.raises(InputError, match=r"texts\.txt, row 1: 'a, b' is a text .* give lists in both"):
        run("accuracy", path, texts, "--column", "label")
    run("accuracy", path, path, "--column", "labels", "--reference-column", "label", "--json")  # a blank text has none
    assert set(scores_of(capsys).values()) == {100}


def test_what_a_model_tags_is_compared_with_the_tags_of_its_rows(tmp_path, capsys):
    row = {"words": ["Anna", "runs"], "tags": ["B-PER", "O"]}
    answer = Answer("Anna runs", 0.5, labels=("O", "O"))
    predicted = jsonl(tmp_path / "predicted.jsonl", [{**row, **answer.plain()}, {"words": [], "tags": []}])
    run("entities", predicted, predicted, "--column", "labels", "--reference-column", "tags", "--json")
    assert set(scores_of(capsys).values()) == {0}


def test_predictions_are_taken_and_not_the_right_answers_that_run_copied_beside_them(tmp_path, capsys):
    rows = [{"text": "a", "label": "x", "tags": ["B-X"], "answers": ["a"]}]
    gold = jsonl(tmp_path / "gold.jsonl", rows)
    for name, wrong in {"plain": Answer("y", 0.5), "several": Answer("y, z", 0.5, labels=("y", "z"))}.items():
        ours = jsonl(tmp_path / f"{name}.jsonl", [{**row, **wrong.plain()} for row in rows])
        run("bleu", ours, write(tmp_path / "a.txt", ["a"]), "--json")
        assert json.loads(capsys.readouterr().out)["score"] == 0
        run("squad", ours, gold, "--json")
        assert scores_of(capsys)["f1"] == 0
        run("squad", ours, nested(tmp_path / "dev.json", {"q": ["a"]}), "--json")
        assert scores_of(capsys)["f1"] == 0
    run("accuracy", str(tmp_path / "plain.jsonl"), gold, "--json")
    assert scores_of(capsys)["accuracy"] == 0
    lists = jsonl(tmp_path / "lists.jsonl", [{"label": ["x"]}])
    run("accuracy", str(tmp_path / "several.jsonl"), lists, "--json")
    assert scores_of(capsys)["micro_f1"] == 0
    tagged = jsonl(tmp_path / "tagged.jsonl", [{**rows[0], **Answer("a", 0.5, labels=("O",)).plain()}])
    run("entities", tagged, gold, "--json")
    assert scores_of(capsys)["f1"] == 0
    run("accuracy", str(tmp_path / "plain.jsonl"), gold, "--column", "label", "--json")
    assert scores_of(capsys)["accuracy"] == 100  # who asks for it gets it


def test_the_first_row_may_lack_the_column_but_not_all(tmp_path, capsys):
    rows = [{"words": [], "tags": [], "prediction": ""}, {"tags": ["B-X"], "prediction": "x", "labels": ["B-X"]}]
    run("entities", jsonl(tmp_path / "ours.jsonl", rows), jsonl(tmp_path / "true.jsonl", rows), "--json")
    assert scores_of(capsys)["f1"] == 100
    with pytest.raises(InputError, match=r"ours\.jsonl, row 1: no column 'label' .* words, tags, prediction, labels"):
        run("entities", str(tmp_path / "ours.jsonl"), str(tmp_path / "true.jsonl"), "--column", "label")


def test_entities_are_read_from_a_word_a_line(tmp_path, capsys):
    true = write(tmp_path / "true.conll", ["-DOCSTART- O", "", "Anna NNP B-PER", "runs VB O", "", "Rome NNP B-LOC"])
    ours = jsonl(tmp_path / "ours.jsonl", [{"prediction": "", "labels": ["B-PER", "O"]}, {"labels": ["O"]}])
    run("entities", ours, true, "--json")
    found = scores_of(capsys)
    for options in (["--column", "labels"], ["--reference-column", "3"]):
        run("entities", ours, true, "--json", *options)
        assert scores_of(capsys) == found
    run("entities", true, true, "--json")
    assert set(scores_of(capsys).values()) == {100}
    with pytest.raises(
        InputError, match=r"true\.conll: a file with a word a line has no column 'ner'; give the position"
    ):
        run("entities", ours, true, "--reference-column", "ner")
    short = write(tmp_path / "short.bmes", ["Anna S-PER", "", "Rome S-LOC"])
    with pytest.raises(InputError, match=r"short\.bmes, row 1: 1 tags, .*true\.conll, row 3 has 2"):
        run("entities", short, true)


def test_a_blank_label_is_a_wrong_prediction_but_no_reference(tmp_path, capsys):
    blank, full = write(tmp_path / "blank.txt", ["a", ""]), write(tmp_path / "full.txt", ["a", "b"])
    run("accuracy", blank, full)
    assert capsys.readouterr().out.startswith("50.00 accuracy")
    with pytest.raises(InputError, match=r"blank\.txt, row 2: blank, expected a label"):
        run("accuracy", full, blank)


def test_rouge_takes_references_from_lists_and_files_alike(tmp_path, capsys):
    ours = write(tmp_path / "ours.txt", ["a small village", "two dogs"])
    lists = [["a village", "a small hamlet"], ["dogs", "two dogs run"]]
    run("rouge", ours, jsonl(tmp_path / "lists.jsonl", [{"text": row} for row in lists]))
    run("rouge", ours, *(write(tmp_path / f"{k}.txt", column) for k, column in enumerate(zip(*lists, strict=True))))
    first, second = "".join(capsys.readouterr().out).split("rouge2\n")[:2]
    assert first == second
    assert first.splitlines()[0].endswith("rougeL rows:2|value:f1|refs:best|stem:no|tok:a-z0-9")
    with pytest.raises(InputError, match=r"none\.jsonl, row 1, column 'text': an empty list"):
        run("rouge", ours, jsonl(tmp_path / "none.jsonl", [{"text": []}, {"text": ["a"]}]))


@pytest.mark.parametrize("metric", ["squad", "entities", "accuracy"])
def test_more_files_of_references_than_one_are_refused(metric, files):
    with pytest.raises(InputError, match=f"{metric} takes one file of references, not 2"):
        run(metric, *files)


@pytest.mark.parametrize(("name", "message"), [("a.gif", "ends in .png"), ("no/such/a.png", "there is no folder")])
def test_pictures_that_cannot_be_written_are_refused_at_once(name, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run("accuracy", "absent", "absent", "--picture", str(tmp_path / name))


def test_half_a_surrogate_pair_is_named(tmp_path, files):
    path = tmp_path / "half.jsonl"
    path.write_text('{"text": "\\ud83d"}\n')
    with pytest.raises(InputError, match=r"half\.jsonl, row 1, column 'text': .*surrogates"):
        run("chrf", str(path), files[1])


def test_the_language_follows_the_script_unless_it_is_given(tmp_path, capsys):
    ours, theirs = tmp_path / "ours.txt", tmp_path / "theirs.txt"
    ours.write_text("北京是中国首都。\n")
    theirs.write_text("北京是中国的首都。\n")
    for metric in ("bleu", "rouge", "squad", "ter"):
        run(metric, str(ours), str(theirs)) if metric != "squad" else run(
            metric, str(ours), jsonl(tmp_path / "a.jsonl", [{"answers": ["北京是中国的首都。"]}])
        )
        out, err = capsys.readouterr()
        assert float(out.split()[0]) > 0
        assert "the texts look like Chinese, not like 'en'; scored with --language zh" in err
    run("rouge", str(ours), str(theirs), "--language", "en")
    out, err = capsys.readouterr()
    assert float(out.split()[0]) == 0
    assert "not like 'en'; scored as 'en'" in err
    run("bleu", str(ours), str(theirs), "--language", "Chinese")
    assert capsys.readouterr().err == ""


def test_rows_may_have_different_numbers_of_references(tmp_path, capsys):
    ours = jsonl(tmp_path / "ours.jsonl", [{"text": "a b c d e"}, {"text": "f g h i j"}])
    theirs = jsonl(tmp_path / "theirs.jsonl", [{"text": ["a b c d e", "x"]}, {"text": ["f g h i j"]}])
    run("bleu", ours, theirs)
    assert capsys.readouterr().out.startswith("100.00 nrefs:var")


def test_labels_that_differ_only_in_form_are_doubted(tmp_path, capsys):
    ours = jsonl(tmp_path / "ours.jsonl", [{"label": "Positive"}, {"label": 1}])
    theirs = jsonl(tmp_path / "theirs.jsonl", [{"label": "positive"}, {"label": "1.0"}])
    run("accuracy", ours, theirs)
    assert "the labels '1', '1.0' differ only in their form, and count as different" in capsys.readouterr().err
