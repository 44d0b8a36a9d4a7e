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
    path = write(tmp_path / "a.txt", "EU 1 NNP B-ORG\nrejects 2 VBZ O\n")
    assert without_place(read(path)) == [{"words": ["EU", "rejects"], "tags": ["B-ORG", "O"]}]
    path = write(tmp_path / "a.txt", "1 EU NNP B-ORG _\n2 rejects VBZ O _\n")
    by_position = read(path, words="2", tags="4")
    assert without_place(by_position) == [{"words": ["EU", "rejects"], "tags": ["B-ORG", "O"]}]
    assert "row 1: 5 columns, expected 6 or more: tags are in column 6" in fault(path, tags="6")
    assert "'ner' for tags, but columns of a file with one word per line are positions from 1" in fault(
        path, tags="ner"
    )


def test_a_character_is_a_word(tmp_path):
    path = write(tmp_path / "a.bmes", "吴 B-NAME\n重 E-NAME\n\u3000 O\n\n。 O\n")
    assert [row["words"] for row in read(path)] == [["吴", "重", "\u3000"], ["。"]]


def test_a_blank_in_a_word_needs_tabs(tmp_path):
    assert read(write(tmp_path / "a.tsv", "New York\tB-LOC\n"))[0]["words"] == ["New York"]
    path = write(tmp_path / "b.conll", "in O\nNew York B-LOC\n")
    assert fault(path).startswith(f"{path}, row 2: 3 columns, expected 2 as in most lines")


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


DIALECTS = {
    "a number first": "1 Anna NN B-PER\n2 lives VB O\n\n1 # NN O\n2 Rome NN B-LOC\n",
    "a number from 0": "0 Anna NN B-PER\n1 lives VB O\n\n0 # NN O\n1 Rome NN B-LOC\n",
    "CoNLL-U": (
        "# newdoc id = d\n# sent_id = 1\n# text = her type is O\n1-2\tAnnalives\t_\t_\n1\tAnna\tNN\tB-PER\n"
        "2\tlives\tVB\tO\n2.1\tthere\t_\t_\n\n# newpar\n#id=2\n1\t#\tSYM\tO\n2\tRome\tNN\tB-LOC\n\n"
    ),
    "GermEval": "#\thttp://a.b/c [2009]\n1\tAnna\tB-PER\tO\n2\tlives\tO\tO\n\n#\thttp\n1\t#\tO\tO\n2\tRome\tB-LOC\tO\n",
    "a sentence's number first": "".join("7 Anna B-PER\n7 lives O\n8 # O\n8 Rome B-LOC\n" for _ in "abc"),
    "the tag second": "Anna B-PER NN anna\nlives O VB live\n\n# O SYM #\nRome B-LOC NN rome\n",
    "the tag in the middle": "Anna NN B-PER 0\nlives VB O 0\n\n# SYM O 0\nRome NN B-LOC 0\n",
    "chunks before names": "Anna NN B-NP B-PER\nlives VB B-VP O\n\n# SYM O O\nRome NN B-NP B-LOC\n",
    "documents": "-DOCSTART- -X- O\nAnna NN X B-PER\nlives VB X O\n0 -DOCSTART- O O\n# SYM O O\nRome NN B-NP B-LOC",
    "comments before words": "#id=1\nAnna B-PER\nlives O\n\n# text = I am O\n# O\nRome B-LOC\n",
    "lone \\r": "Anna B-PER\rlives O\r\r# O\rRome B-LOC\r",
    "UTF-16": "\ufeffAnna B-PER\nlives O\n\n# O\nRome B-LOC\n",
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_gives_the_sentences(tmp_path, dialect):
    path = tmp_path / "a.conll"
    path.write_bytes(DIALECTS[dialect].encode("utf-16-le" if dialect == "UTF-16" else "utf-8"))
    assert without_place(read(str(path)))[:2] == ROWS
    if dialect not in ("documents", "comments before words"):
        words = [{"words": row["words"]} for row in ROWS]
        assert without_place(read(str(path), ("words",), "predict"))[:2] == words


def test_what_is_guessed_and_left_out_is_said(tmp_path, caplog):
    read(write(tmp_path / "a.conll", DIALECTS["CoNLL-U"]))
    assert "a.conll: the first column counts words, so words are read from column 2" in caplog.text
    assert "a.conll: left out 2 lines of ranges of words (1-2) or empty nodes (8.1)" in caplog.text
    read(write(tmp_path / "b.conll", DIALECTS["chunks before names"]))
    assert "b.conll: columns 3 and 4 of 4 with tags: they are read from column 4" in caplog.text
    read(write(tmp_path / "c.conll", DIALECTS["the tag second"]))
    assert "c.conll: column 2 of 4 with tags: they are read from column 2" in caplog.text
    read(write(tmp_path / "d.conll", "a O\n" * 1001))
    assert "d.conll, row 1: a sentence of 1,001 words; a blank line ends a sentence" in caplog.text


def test_a_first_column_without_words_is_refused(tmp_path):
    text = "".join(f"bc/x 0 {number % 6} w{number} O\n" + "\n" * (number % 6 == 5) for number in range(24))
    path = write(tmp_path / "a.conll", text)
    assert fault(path).startswith(f"{path}, row 1: the first column is always 'bc/x' in a sentence, so it has no words")
    assert read(path, words="4")[1]["words"] == ["w6", "w7", "w8", "w9", "w10", "w11"]


def test_a_row_without_its_number_is_named(tmp_path):
    path = write(tmp_path / "a.conll", "1 Anna NN B-PER\n2 lives VB O\n\n" * 200 + "1 # NN O\nRome NN X B-LOC\n")
    assert fault(path) == f"{path}, row 602: 'Rome' in the first column, expected the number of a word as in other rows"


def test_numbers_may_be_words(tmp_path):
    for text in ("2019 O\n2020 O\n", "7 CD O\n9 CD O\n", "Anna NN B-PER\n1 CD O\n\n1 CD O\n2 CD O\n"):
        first = read(write(tmp_path / "a.conll", text))[0]["words"]
        assert first == [line.split()[0] for line in text.split("\n\n")[0].splitlines()]


WORD_ROWS = "sentence_id,words,tags\n0,Anna,B-PER\n0,lives,O\n1,#,O\n1,Rome,B-LOC\n"


@pytest.mark.parametrize(
    ("name", "text", "mapping"),
    [
        ("a.csv", WORD_ROWS, {}),
        ("a.tsv", WORD_ROWS.replace(",", "\t"), {}),
        ("a.csv", WORD_ROWS.replace(",", ";").replace("sentence_id;words;tags", "at;w;t"),
         {"sentence": "at", "words": "w", "tags": "t"}),
        ("a.csv", "Sentence #,words,P,tags\nSentence: 1,Anna,N,B-PER\n,lives,V,O\nSent. 2,#,S,O\n,Rome,N,B-LOC\n", {}),
        ("a.csv", "words,tags\nAnna lives,B-PER O\n# Rome,O B-LOC\n", {}),
        ("a.csv", """words,tags\n"['Anna', 'lives']","['B-PER', 'O']"\n"[""#"", ""Rome""]","['O', 'B-LOC']"\n""", {}),
    ],
)  # fmt: skip
def test_a_table_of_words_gives_the_sentences(tmp_path, name, text, mapping):
    assert without_place(read(write(tmp_path / name, text), **mapping)) == ROWS


def test_a_table_of_words_needs_a_column_of_sentences(tmp_path):
    path = write(tmp_path / "a.csv", "words,tags\nAnna,B-PER\nlives,O\n")
    assert fault(path).startswith(f"{path}: 2 faults: row 2, column 'words': Anna, expected a list of texts; row 3,")
    assert """name the column that numbers the sentences: --data.rows.columns '{"sentence": "COLUMN"}'""" in fault(path)
    path = write(tmp_path / "b.csv", WORD_ROWS + "0,again,O\n")
    assert f"{path}, row 6: the sentence 0 goes on here after others" in fault(path)
    path = write(tmp_path / "c.csv", WORD_ROWS.replace("lives", "").replace("B-LOC", ""))
    assert fault(path) == f"{path}: 2 faults: row 3: no word in its column; row 5: no tag in its column"


@pytest.mark.skipif("LMTASKS_DATA" not in os.environ, reason="LMTASKS_DATA names no folder with the real data")
def test_real_sentences():
    folder = Path(os.environ.get("LMTASKS_DATA", ""))
    same = {"raw_formats/wnut17_dev.conll": "wnut17", "raw_formats/resume_dev.char.bmes": "resume_zh"}
    for lines, name in same.items():
        table = read(str(folder / name / "validation.jsonl"), words="tokens", tags="ner_tags")
        assert without_place(read(str(folder / lines))) == without_place(table)
