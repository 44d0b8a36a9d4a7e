"""A sentence has a tag for each word, from columns of text and from tables alike."""

from __future__ import annotations

import json
import os
from pathlib import Path

import datasets
import pytest

from lmtasks.data.readers import hub
from lmtasks.data.readers.tagged import TaggedWords
from lmtasks.errors import InputError

BOTH = ("words", "tags")
ROWS = [
    {"words": ["Anna", "lives"], "tags": ["B-PER", "O"]},
    {"words": ["#", "Rome"], "tags": ["O", "B-LOC"]},
]


def write(path: Path, text: str) -> str:
    path.write_bytes(text.encode())
    return str(path)


def read(path: str, columns: tuple[str, ...] = BOTH, split: str = "train", **mapping: str) -> list[dict]:
    return list(TaggedWords(**{split: path}, columns=mapping).rows(split, columns))  # type: ignore[arg-type]


def without_place(rows: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "place"} for row in rows]


def fault(path: str, **mapping: str) -> str:
    with pytest.raises(InputError) as caught:
        read(path, **mapping)
    return str(caught.value)


@pytest.mark.parametrize("between", ["\t", " ", "  "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_columns_of_text_give_sentences(tmp_path, between, end):
    lines = [
        "-DOCSTART- -X- O",
        "",
        "Anna|B-PER",
        "lives|O",
        "",
        " ",
        "-DOCSTART- -X- O",
        "",
        "# id = 7",
        "#|O",
        "Rome|B-LOC",
    ]
    path = write(tmp_path / "a.conll", end.join(lines).replace("|", between))
    rows = read(path)
    assert without_place(rows) == ROWS
    assert [row["place"] for row in rows] == [f"{path}, row 3", f"{path}, row 10"]


def test_the_word_is_first_and_the_tag_last_unless_positions_say_so(tmp_path):
    path = write(tmp_path / "a.txt", "1 EU NNP B-ORG _\n2 rejects VBZ O _\n")
    assert without_place(read(path)) == [{"words": ["1", "2"], "tags": ["_", "_"]}]
    by_position = read(path, words="2", tags="4")
    assert without_place(by_position) == [{"words": ["EU", "rejects"], "tags": ["B-ORG", "O"]}]
    assert "row 1: 5 columns, expected 6 or more: tags are mapped to column 6" in fault(path, tags="6")
    assert "'ner' for tags, but columns of a file with one word per line are positions from 1" in fault(
        path, tags="ner"
    )


def test_a_character_is_a_word(tmp_path):
    path = write(tmp_path / "a.bmes", "吴 B-NAME\n重 E-NAME\n\u3000 O\n\n。 O\n")
    assert [row["words"] for row in read(path)] == [["吴", "重", "\u3000"], ["。"]]


def test_a_blank_in_a_word_needs_tabs(tmp_path):
    assert read(write(tmp_path / "a.tsv", "New York\tB-LOC\n"))[0]["words"] == ["New York"]
    path = write(tmp_path / "b.conll", "in O\nNew York B-LOC\n")
    assert fault(path).startswith(f"{path}, row 2: 3 columns, expected 2 as in the first line")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a O\nb\n", "row 2: 1 column, expected a word and its tag"),
        ("a\tO\n\tO\n", "row 2: no word in its column"),
        ("a\tO\nb\t\n", "row 2: no tag in its column"),
    ],
)
def test_a_broken_line_is_named(tmp_path, text, expected):
    path = write(tmp_path / "a.conll", text)
    assert fault(path).startswith(f"{path}, {expected}")


def test_lists_in_a_table(tmp_path):
    lines = [json.dumps({"tokens": row["words"], "ner_tags": row["tags"]}) for row in ROWS]
    path = write(tmp_path / "a.jsonl", "\n".join(lines))
    rows = read(path, words="tokens", tags="ner_tags")
    assert without_place(rows) == ROWS
    assert rows[1]["place"] == f"{path}, row 2"
    assert """--data.rows.columns '{"words": "COLUMN", "tags": "ner_tags"}'""" in fault(path)


def test_words_without_a_tag_are_an_error(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"words": ["a"], "tags": ["O"]}\n{"words": ["a", "b"], "tags": ["O"]}')
    assert fault(path) == f"{path}, row 2: 2 words and 1 tags, expected a tag for each word"
    path = write(tmp_path / "b.jsonl", '{"words": "a b", "tags": ["O", "O"]}')
    assert fault(path) == f"{path}, row 1, column 'words': a b, expected a list of texts"
    path = write(tmp_path / "c.jsonl", '{"words": [], "tags": null}')
    assert "row 1, column 'tags': None, expected a list of texts" in fault(path)


def test_tags_of_a_hub_set_come_by_their_names(monkeypatch):
    monkeypatch.setattr(hub, "why_no_answer", lambda: "")
    names = ["O", "B-PER", "B-LOC"]
    features = datasets.Features(
        {
            "words": datasets.Sequence(datasets.Value("string")),
            "tags": datasets.Sequence(datasets.ClassLabel(names=names)),
        }
    )
    table = datasets.Dataset.from_list([{**row, "tags": list(map(names.index, row["tags"]))} for row in ROWS], features)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config, split: table)
    assert without_place(read("owner/name")) == ROWS


def test_what_is_to_be_tagged_has_words_or_text(tmp_path):
    words = ("words",)
    path = write(tmp_path / "a.txt", "Anna lives.\n\nIn Rome.\n")
    plain = read(path, words, "predict")
    assert [row["text"] for row in plain] == ["Anna lives.", "", "In Rome."]
    assert plain[2]["place"] == f"{path}, row 3"
    lines = write(tmp_path / "a.conll", "Anna\nlives\n\nRome\n")
    assert without_place(read(lines, words, "predict")) == [{"words": ["Anna", "lives"]}, {"words": ["Rome"]}]
    table = write(tmp_path / "a.jsonl", '{"text": "Anna lives."}\n{"words": ["Rome"]}')
    assert without_place(read(table, words, "predict")) == [{"text": "Anna lives."}, {"words": ["Rome"]}]
    neither = write(tmp_path / "b.jsonl", '{"sentence": "Anna lives."}')
    with pytest.raises(InputError, match=r"row 1: neither words nor a text; name the column of one: --data\.rows"):
        read(neither, words, "predict")


def test_a_document_start_ends_a_sentence_without_a_blank_line(tmp_path):
    text = "-DOCSTART- -X- O\nAnna B-PER\nlives O\n-DOCSTART- -X- O\n-DOCSTART- O\n# O\nRome B-LOC\n"
    path = write(tmp_path / "a.conll", text)
    assert without_place(read(path)) == ROWS
    assert [row["place"] for row in read(path)] == [f"{path}, row 2", f"{path}, row 6"]


@pytest.mark.parametrize("between", ["\t", " "])
def test_comments_of_conll_u_are_no_words(tmp_path, between):
    lines = [
        "# newdoc",
        "",
        "# newpar",
        "# text = I am O",
        "Anna|B-PER",
        "lives|O",
        "",
        "# id = X-1",
        "#|O",
        "Rome|B-LOC",
    ]
    path = write(tmp_path / "a.conll", "\n".join(lines).replace("|", between))
    assert without_place(read(path)) == ROWS
    tabbed = write(tmp_path / "b.conll", "#text=a\n# a word\n#\tO\n#a\tO\n# after the words\n")
    assert without_place(read(tabbed)) == [{"words": ["#", "#a"], "tags": ["O", "O"]}]


@pytest.mark.skipif("LMTASKS_DATA" not in os.environ, reason="LMTASKS_DATA names no folder with the real data")
def test_real_sentences():
    folder = Path(os.environ.get("LMTASKS_DATA", ""))
    same = {"raw_formats/wnut17_dev.conll": "wnut17", "raw_formats/resume_dev.char.bmes": "resume_zh"}
    for lines, name in same.items():
        table = read(str(folder / name / "validation.jsonl"), words="tokens", tags="ner_tags")
        assert without_place(read(str(folder / lines))) == without_place(table)
