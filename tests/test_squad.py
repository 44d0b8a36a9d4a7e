"""Every form of SQuAD gives the same questions, and an answer stands where its row says."""

from __future__ import annotations

import gzip
import json
import logging
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, strategies as st
from pyarrow import parquet

from lmtasks.data.readers.squad import NOWHERE, SquadFile, _place
from lmtasks.errors import InputError

ALL = ("question", "context", "answers", "starts")
CONTEXT = "Anna has a cat. Ben has a dog, and a cat."
ROWS: list[dict[str, Any]] = [
    {"id": "q1", "question": "Who has a dog?", "context": CONTEXT, "answers": ["Ben"], "starts": [16]},
    {"id": "q2", "question": "Who has a cow?", "context": CONTEXT, "answers": [], "starts": []},
    {"id": "q3", "question": "What has Ben?", "context": CONTEXT, "answers": ["a cat", "a dog"], "starts": [35, 24]},
]
FLAT = [
    {**{key: row[key] for key in ("id", "question", "context")}, "title": "x",
     "answers": {"text": row["answers"], "answer_start": row["starts"]}}
    for row in ROWS
]  # fmt: skip


def answers(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"text": text, "answer_start": start} for text, start in zip(row["answers"], row["starts"], strict=True)]


def nested() -> dict[str, Any]:
    plausible = {"is_impossible": True, "plausible_answers": [{"text": "Anna", "answer_start": 0}]}
    asked = [
        {"id": row["id"], "question": row["question"], "answers": answers(row), **({} if row["answers"] else plausible)}
        for row in ROWS
    ]
    paragraphs = [{"context": CONTEXT, "qas": asked[:2]}, {"context": CONTEXT, "qas": asked[2:]}]
    return {"version": "v2.0", "data": [{"title": "x", "paragraphs": paragraphs}]}


def write(path: Path, content: str | list | dict) -> str:
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


def read(path: str, columns: tuple[str, ...] = ALL, **mapping: str) -> list[dict[str, Any]]:
    return list(SquadFile(train=path, columns=mapping).rows("train", columns))


def without_place(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "place"} for row in rows]


def test_every_form_gives_the_same_questions(tmp_path):
    lines = "\n".join(map(json.dumps, FLAT))
    forms = {
        "nested.json": nested(),
        "pretty.json": json.dumps(nested(), indent=1),
        "zipped.json.gz": nested(),
        "array.json": FLAT,
        "lines.json": lines,
        "lines.jsonl": lines,
        "rows.json": {"data": FLAT},
        "pairs.json": [{**row, "answers": answers(row)} for row in ROWS],
    }
    paths = [write(tmp_path / name, content) for name, content in forms.items()]
    parquet.write_table(pa.Table.from_pylist(FLAT), tmp_path / "flat.parquet")
    for path in [*paths, str(tmp_path / "flat.parquet")]:
        assert without_place(read(path)) == ROWS, path


def test_cmrc_has_names_of_its_own_and_no_starts(tmp_path):
    asked = [{"query_id": row["id"], "query_text": row["question"], "answers": row["answers"]} for row in ROWS]
    path = write(tmp_path / "a.json", [{"context_id": "c", "context_text": CONTEXT, "title": "x", "qas": asked}])
    rows = read(path)
    assert [row["starts"] for row in rows] == [[16], [], [CONTEXT.find("a cat"), 24]]
    assert [row["id"] for row in rows] == ["q1", "q2", "q3"]


def test_a_table_with_an_answer_a_row(tmp_path):
    path = write(tmp_path / "a.csv", f'question,context,answer,at\nWho?,"{CONTEXT}",Ben,16\nWhy?,"{CONTEXT}",,\n')
    rows = without_place(read(path, answers="answer", starts="at"))
    assert [(row["answers"], row["starts"]) for row in rows] == [(["Ben"], [16]), ([], [])]
    assert "id" not in rows[0]
    assert read(path, answers="answer")[0]["starts"] == [16]


def test_starts_in_a_column_of_their_own_are_read(tmp_path):
    flat = [{**row, "title": "x"} for row in ROWS]
    last = [{**ROWS[2], "answers": "a cat", "starts": 35}]
    for rows, expected in ((flat, [[16], [], [35, 24]]), (last, [[35]]), ([{**last[0], "answers": ["a cat"]}], [[35]])):
        path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
        assert [row["starts"] for row in read(path)] == expected
        parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
        assert [row["starts"] for row in read(str(tmp_path / "a.parquet"))] == expected
    path = write(
        tmp_path / "a.csv", f'question,context,answers,starts\nWho?,"{CONTEXT}",a cat,35\nWhy?,"{CONTEXT}",,\n'
    )
    assert [row["starts"] for row in read(path)] == [[35], []]
    path = write(tmp_path / "b.jsonl", "\n".join(json.dumps({**row, "starts": None}) for row in ROWS[2:]))
    assert read(path)[0]["starts"] == [9, 24]  # no start is known: the first place
    path = write(tmp_path / "c.jsonl", json.dumps({**ROWS[2], "starts": [1]}))
    with pytest.raises(InputError, match=r"row 1, 'answers': .* with the starts \['1'\], expected a number for each"):
        read(path)
    with pytest.raises(InputError, match="no column 'at'"):
        read(path, starts="at")


def test_a_row_has_what_is_asked_for_and_its_place(tmp_path):
    for name, content in {"a.json": nested(), "b.json": FLAT}.items():
        path = write(tmp_path / name, content)
        (_, row, _) = read(path, ("question", "context"))
        assert row.keys() == {"id", "question", "context", "place"}
        assert row["place"].startswith(f"{path}, row 2")
    assert "starts" not in read(path, ("question", "context", "answers"))[0]
    unanswered = write(tmp_path / "c.jsonl", '{"question": "a", "context": "b"}')
    assert [row["question"] for row in read(unanswered, ("question", "context"))] == ["a"]


def test_a_wrong_start_is_moved_to_the_nearest_place_and_counted(tmp_path, caplog):
    texts = {"text": ["a cat", "a cat", "Ben", "a cow"], "answer_start": [0, 30, 16, 11]}
    path = write(tmp_path / "a.json", [{**FLAT[1], "id": "q0", "answers": texts}, *FLAT])
    with caplog.at_level(logging.WARNING):
        row = read(path)[0]
    assert row["starts"] == [9, 35, 16, NOWHERE]
    assert row["answers"] == texts["text"]
    assert len(caplog.messages) == 1
    assert (
        "3 of 7 answers are not where the file says: 2 were moved to their nearest place (row 1, row 1)" in caplog.text
    )
    assert (
        "0 are taken as the context spells them (none), 1 are nowhere in their context and not learned" in caplog.text
    )


@given(st.text(".-", max_size=12), st.text(".-", min_size=1, max_size=3), st.integers(-3, 15))
def test_the_nearest_place_is_the_nearest(context, answer, start):
    places = [place for place in range(len(context)) if context[place:].startswith(answer)]
    found = _place(context, answer, start)
    if places:
        assert found is not None
        assert found[0] in places
        assert abs(found[0] - max(start, 0)) == min(abs(place - max(start, 0)) for place in places)
    else:
        assert found is None


@pytest.mark.parametrize(("context", "answer", "start", "expected", "why"), [
    ("anna met Anna", "Anna", 0, "anna", "the start is right, the case is not"),
    ("anna met Anna", "Anna", 8, "Anna", "the start is one too small"),
    ("New\xa0 York is old", "New York", 0, "New\xa0 York", "blanks"),
    ("New\nYork is old", "new york ", 1, "New\nYork", "a line break, case and a start one too large"),
    ("the cafe\u0301 of Ann", "café", 4, "cafe\u0301", "a decomposed accent"),
    ("the café of Ann", "cafe\u0301", 3, "café", "a composed one"),
    ("it’s 5–6 “so”", "it's 5-6 \"so\"", 0, "it’s 5–6 “so”", "quotes and dashes"),
    ("so\u00adcial work", "social", 0, "so\u00adcial", "a soft hyphen"),
    ("ﬁne ﬁre", "fire", 4, "ﬁre", "a ligature"),
    ("🙂🙂 a cat", "a cat", 5, "a cat", "UTF-16 units"),
    ("éééé a cat", "a cat", 9, "a cat", "bytes"),
    ("he said then he left", "he", 3, "he", "no part of a word"),
    ("theme: he", "he", 3, "he", "no part of a word, though it is near"),
    ("x" * 50 + " Anna", "Anna", 3, "Anna", "far, but the only place"),
    ("Straße und STRASSE", "strasse", 0, "Straße", "a letter that folds to two"),
    ("北京是首都", "首都", 1, "首都", "no blanks between words"),
])  # fmt: skip
def test_an_answer_is_placed_where_start_and_text_agree_best(context, answer, start, expected, why):
    found = _place(context, answer, start)
    assert found is not None, why
    assert context[slice(*found)] == expected, why
    if why.startswith("no part of a word"):
        assert found[0] in (0, 13, 7)


@pytest.mark.parametrize(("context", "answer"), [("a cat", "a dog"), ("a cat", "\u200b"), ("", "a"), ("ﬁ", "f")])
def test_an_answer_that_is_nowhere_gets_no_place(context, answer):
    assert _place(context, answer, 0) is None
    assert _place(context, answer, None) is None


def test_answers_that_are_all_elsewhere_are_an_error(tmp_path):
    rows = [{**row, "context": "something else"} for row in FLAT]
    with pytest.raises(InputError, match=r"row 1: none of 3 answers is in its context; is it the right context\?"):
        read(write(tmp_path / "a.json", rows))


def test_ids_that_stand_twice_and_answers_to_the_impossible_are_counted(tmp_path, caplog):
    marked = [{**FLAT[0], "is_impossible": True}, {**FLAT[0], "is_impossible": "false"}, FLAT[2]]
    rows = read(write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, marked))))
    assert [row["answers"] for row in rows] == [[], ["Ben"], ["a cat", "a dog"]]
    assert "1 answers of questions that are marked as impossible are left out (row 1)" in caplog.text
    assert "1 ids stand in several rows (row 2)" in caplog.text


@pytest.mark.parametrize("given", [
    {"text": "Ben", "answer_start": 16}, [{"text": "Ben", "answer_start": "16"}],
    {"text": ["Ben"], "answer_start": 16.0}, '{"text": ["Ben"], "answer_start": [16]}', {"text": "Ben"},
    ["Ben"], "Ben", "['Ben']", "{'text': ['Ben'], 'answer_start': [16]}", {"text": ["Ben", " "]},
])  # fmt: skip
def test_answers_have_many_forms(tmp_path, given):
    row = {**FLAT[0], "answers": given}
    assert read(write(tmp_path / "a.json", [row]))[0]["starts"] == [16]
    assert read(write(tmp_path / "a.json", {"data": [row]}))[0]["answers"] == ["Ben"]


@pytest.mark.parametrize("given", [
    {"text": ["Ben"], "answer_start": [16.5]}, {"text": ["Ben"], "answer_start": [True]}, [{"text": "Ben"}, "Ben"],
    {"text": ["Ben"], "answer_start": ["1e999"]}, "{'text': array(['Ben'])}", "{'text': ['B' 'en']}",
    [["Ben"]], {"text": [["Ben"]]}, True,
])  # fmt: skip
def test_what_is_no_answer_is_an_error(tmp_path, given):
    for data in ([{**FLAT[0], "answers": given}], {"data": [{**FLAT[0], "answers": given}]}):
        if given is True and isinstance(data, list):
            continue  # a truth value of a table is a text
        with pytest.raises(InputError, match=r"a\.json, row 1.*'answers'"):
            read(write(tmp_path / "a.json", data))


def test_what_stands_behind_the_questions_is_an_error(tmp_path):
    with pytest.raises(InputError, match="there is more behind the questions"):
        read(write(tmp_path / "a.json", json.dumps(nested()) + "\n{}"))


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"question": "a", "context": "b", "answers": 7}, "'answers': 7, expected {\"text\""),
        ({"question": "a", "context": "b", "answers": None}, "'answers': None, expected"),
        ({"question": "a", "context": "b", "answers": [{"answer": "c"}]}, "'answers': [{'answer': 'c'}], expected"),
        ({"question": "a", "context": "b", "answers": {"text": ["b"], "answer_start": [0, 1]}}, "row 1, 'answers': "),
        ({"question": "a", "context": "b", "answers": {"text": ["b"], "answer_start": ["x"]}}, "row 1, 'answers': "),
        ({"question": "a", "context": None, "answers": []}, "row 1, 'context': None, expected a text"),
    ],
)
def test_a_broken_row_is_named(tmp_path, row, fault):
    for name, content in {"a.json": {"data": [row]}, "b.jsonl": row}.items():
        if row["answers"] == 7 and name == "b.jsonl":
            continue  # a number in a table is a text
        with pytest.raises(InputError) as caught:
            read(write(tmp_path / name, content))
        assert fault in str(caught.value)
        assert str(caught.value).startswith(f"{tmp_path / name}, row 1")


@pytest.mark.parametrize(("given", "impossible"), [
    (True, True), ("true", True), ("True", True), (1, True), ("1", True),
    (False, False), ("false", False), ("False", False), (0, False), ("0", False), (None, False),
])  # fmt: skip
def test_a_truth_value_may_have_any_form(tmp_path, given, impossible):
    document = nested()
    document["data"][0]["paragraphs"][0]["qas"][0]["is_impossible"] = given
    assert read(write(tmp_path / "a.json", document))[0]["answers"] == ([] if impossible else ["Ben"])


@pytest.mark.parametrize("given", ["no", "", 2, [], {"a": 1}])
def test_what_is_not_a_truth_value_is_an_error(tmp_path, given):
    document = nested()
    document["data"][0]["paragraphs"][0]["qas"][1]["is_impossible"] = given
    path = write(tmp_path / "a.json", document)
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value) == f"{path}, row 2 (q2), 'is_impossible': {given}, expected true or false"


def test_a_broken_nesting_is_named(tmp_path):
    for data in ({"paragraphs": {"qas": []}}, {"paragraphs": ["a"]}, {"paragraphs": [{"context": "a", "qas": None}]}):
        with pytest.raises(InputError, match=r"a\.json: '(paragraphs|qas)' is .*, expected a list of objects"):
            read(write(tmp_path / "a.json", {"data": [data]}))


def test_a_column_that_no_question_has_is_refused(tmp_path):
    path = write(tmp_path / "a.jsonl", json.dumps({**FLAT[0], "task": "qa1"}))
    with pytest.raises(InputError, match=r"a\.jsonl: a SquadFile has no column 'task', only id, .* with Table"):
        read(path, (*ALL, "task"))


def test_a_missing_column_says_how_to_map_it(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"question": "a", "passage": "b", "answers": []}')
    with pytest.raises(InputError, match=r"no column 'context'; it has question, passage, answers; say which: "):
        read(path)
    assert read(path, context="passage")[0]["context"] == "b"


@pytest.mark.skipif("LMTASKS_DATA" not in os.environ, reason="LMTASKS_DATA names no folder with the real data")
def test_real_questions(caplog):
    folder = Path(os.environ.get("LMTASKS_DATA", ""))
    files = [folder / name / "validation.parquet" for name in ("squad_v1_dev", "squad_v2_dev", "drcd", "cmrc2018")]
    files += sorted((folder / "raw_formats").glob("*nested.json"))
    for file in files:
        for row in read(str(file)):
            for text, start in zip(row["answers"], row["starts"], strict=True):
                assert row["context"][start : start + len(text)] == text
    assert not caplog.messages
    by_id = {row["id"]: row for row in read(str(folder / "xquad" / "es.parquet"))}
    for row in read(str(folder / "raw_formats" / "xquad_es_squad_nested.json")):
        assert without_place([row]) == without_place([by_id[row["id"]]])
