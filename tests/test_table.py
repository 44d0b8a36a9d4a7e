"""Rows of a table come under our names with the place where they stand, whatever the file."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from lmtasks.data.readers.documents import Documents
from lmtasks.data.readers.squad import SquadFile
from lmtasks.data.readers.table import Files, Table
from lmtasks.data.readers.tagged import TaggedWords
from lmtasks.errors import InputError

ROWS = [{"sentence": "NA", "label": 7}, {"sentence": "b", "label": None}]


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)))
    return str(file)


def test_a_row_has_our_names_exact_text_and_its_place(path):
    data = Table(train=path, columns={"text": "sentence"})
    assert list(data.rows("train", ("text", "label"))) == [
        {"text": "NA", "label": "7", "place": f"{path}, row 1"},
        {"text": "b", "label": None, "place": f"{path}, row 2"},
    ]


def test_lists_stay_lists(tmp_path):
    file = tmp_path / "a.json"
    file.write_text('[{"turns": ["a", 7], "tree": [["b"], {"c": 1}]}]')
    (row,) = Table(test=str(file)).rows("test", ("turns", "tree"))
    assert (row["turns"], row["tree"]) == (["a", "7"], [["b"], {"c": 1}])


def test_plain_text_and_a_table_without_header(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("1\ta film\n0\ta fault\n")
    assert [row["text"] for row in Table(predict=str(file)).rows("predict", ("text",))] == ["1\ta film", "0\ta fault"]
    data = Table(train=str(file), columns={"text": "2", "label": "1"})
    assert [row["label"] for row in data.rows("train", ("text", "label"))] == ["1", "0"]


def test_a_missing_column_or_split_says_what_to_set(path):
    data = Table(train=path)
    with pytest.raises(InputError, match=r"no column 'text'; .* --data\.rows\.columns '\{\"text\": \"COLUMN\"\}'$"):
        list(data.rows("train", ("text", "label")))
    with pytest.raises(InputError, match="no data for the split 'test'; set test= to a file or to a hub id"):
        list(data.rows("test", ("text",)))


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "txt", "parquet"])
def test_an_empty_file_is_said_to_be_empty(tmp_path, ending):
    (tmp_path / f"a.{ending}").touch()
    for data in (kind(train=f"{tmp_path}/a.{ending}") for kind in (Table, SquadFile, TaggedWords, Documents)):
        with pytest.raises(InputError, match=rf"a\.{ending}: the file is empty, and the split 'train' needs rows"):
            list(data.rows("train", data_columns(data)))


def data_columns(data: Files) -> tuple[str, ...]:
    return {SquadFile: ("question", "context"), TaggedWords: ("words", "tags")}.get(type(data), ("text",))


def test_the_fingerprint_follows_file_columns_split_and_format(path):
    class Other(Table):
        pass

    data = Table(train=path, validation=path)
    seen = [data.fingerprint("train"), data.fingerprint("validation"), Other(train=path).fingerprint("train")]
    seen += [replace(data, columns={"text": "sentence"}).fingerprint("train")]
    with open(path, "a") as file:
        file.write("\n")
    seen += [data.fingerprint("train")]
    assert len(set(seen)) == len(seen)
    assert Table(train=path, test="other").fingerprint("train") == data.fingerprint("train")
    with pytest.raises(InputError, match="no such file"):
        Table(train=f"{path}.gone").fingerprint("train")


@pytest.mark.skipif("LMTASKS_DATA" not in os.environ, reason="LMTASKS_DATA names no folder with the real data")
def test_real_tables():
    folder = Path(os.environ.get("LMTASKS_DATA", ""))
    sizes = {"sst2/train.jsonl": 6920, "raw_formats/chnsenticorp_dev.tsv": 1161}
    for name, size in sizes.items():
        columns = {"text": "text_a"} if name.endswith("tsv") else {}
        rows = list(Table(train=str(folder / name), columns=columns).rows("train", ("text", "label")))
        assert len(rows) == size
        assert {row["label"] for row in rows} == {"0", "1"}
    dialogues = list(Table(train=str(folder / "dailydialog/validation.jsonl")).rows("train", ("turns",)))
    assert all(len(row["turns"]) > 1 for row in dialogues)
