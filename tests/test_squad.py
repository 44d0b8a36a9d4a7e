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

from lmtasks.data.readers.squad import NOWHERE, SquadFile, _nearest
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
    texts = {"text": ["a cat", "a cat", "Ben", "CAT"], "answer_start": [0, 30, 16, 11]}
    path = write(tmp_path / "a.json", [{**FLAT[1], "answers": texts}, *FLAT])
    with caplog.at_level(logging.WARNING):
        row = read(path)[0]
    assert row["starts"] == [9, 35, 16, NOWHERE]
    assert row["answers"] == texts["text"]
    assert len(caplog.messages) == 1
    assert "3 of 7 answers are not where the file says, first in row 1: 2 were moved" in caplog.messages[0]
    assert "1 are nowhere in their context" in caplog.messages[0]


@given(st.text("ab", max_size=12), st.text("ab", min_size=1, max_size=3), st.integers(-3, 15))
def test_the_nearest_place_is_the_nearest(context, answer, start):
    places = [place for place in range(len(context)) if context[place:].startswith(answer)]
    found = _nearest(context, answer, start)
    if places:
        assert found in places
        assert abs(found - max(start, 0)) == min(abs(place - max(start, 0)) for place in places)
    else:
        assert found == NOWHERE


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
