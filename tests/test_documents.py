"""Documents are whole files, paragraphs, lines or rows, and none is blank."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from lmtasks.data.readers.documents import Documents
from lmtasks.errors import InputError

TEXT = "\none\r\ntwo\n \n\n  three\nNA\n\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.txt").write_bytes(TEXT.encode())
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"four\n"))
    (tmp_path / "blank.txt").write_text("\n \n")
    (tmp_path / "poems.jsonl").write_text("\n".join(json.dumps({"poem": text}) for text in ("a\nb", "7")))
    return tmp_path


def texts(data: Documents, split: str = "train") -> list[tuple[str, str]]:
    rows = list(data.rows(split, ("text",)))
    assert all(row.keys() == {"text", "place"} for row in rows)
    return [(row["text"], row["place"].rpartition(", ")[2]) for row in rows]


def test_the_unit_is_a_file_a_paragraph_or_a_line(folder):
    path = f"{folder}/a.txt"
    assert texts(Documents(train=path)) == [("\none\ntwo\n \n\n  three\nNA\n", "row 1")]
    assert texts(Documents(train=path, unit="paragraph")) == [("one\ntwo", "row 2"), ("  three\nNA", "row 6")]
    lines = [("one", "row 2"), ("two", "row 3"), ("  three", "row 6"), ("NA", "row 7")]
    assert texts(Documents(train=path, unit="line")) == lines
    assert texts(Documents(predict=path), "predict") == lines


@pytest.mark.parametrize("unit", ["file", "paragraph", "line"])
def test_a_blank_document_is_none(folder, unit):
    assert texts(Documents(train=f"{folder}/blank.txt", unit=unit)) == []


def test_a_pattern_means_its_files_in_the_order_of_their_names(folder):
    data = Documents(train=f"{folder}/*.txt*", unit="paragraph")
    assert [text for text, _ in texts(data)] == ["one\ntwo", "  three\nNA", "four"]
    assert [row["place"].split(",")[0] for row in data.rows("train", ("text",))][-1] == f"{folder}/b.txt.gz"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "b.txt.gz").rename(folder / "deep" / "er" / "b.txt.gz")
    assert texts(Documents(train=f"{folder}/**/b.*")) == [("four", "row 1")]
    with pytest.raises(InputError, match=r"\*\.md: no file matches this pattern"):
        texts(Documents(train=f"{folder}/*.md"))
    (folder / "odd[1].txt").write_text("five")
    assert texts(Documents(train=f"{folder}/odd[1].txt")) == [("five", "row 1")]


def test_a_row_of_a_table_is_a_document(folder):
    path = f"{folder}/poems.jsonl"
    assert texts(Documents(train=path, columns={"text": "poem"})) == [("a\nb", "row 1"), ("7", "row 2")]
    with pytest.raises(InputError, match="no column 'text'"):
        texts(Documents(train=path))


def test_the_fingerprint_follows_the_unit_and_every_file(folder):
    data = Documents(train=f"{folder}/*.txt*")
    seen = {data.fingerprint("train"), Documents(train=data.train, unit="line").fingerprint("train")}
    (folder / "b.txt.gz").write_bytes(gzip.compress(b"other"))
    seen.add(data.fingerprint("train"))
    (folder / "c.txt").write_text("new")
    seen.add(data.fingerprint("train"))
    assert len(seen) == 4


@pytest.mark.skipif("LMTASKS_DATA" not in os.environ, reason="LMTASKS_DATA names no folder with the real data")
def test_a_real_book():
    path = Path(os.environ.get("LMTASKS_DATA", "")) / "tiny_shakespeare" / "validation.txt"
    book = path.read_text()
    ((whole, _),) = texts(Documents(train=str(path)))
    assert whole == book.removesuffix("\n")
    paragraphs = [text for text, _ in texts(Documents(train=str(path), unit="paragraph"))]
    assert "\n\n".join(paragraphs).split() == book.split()
