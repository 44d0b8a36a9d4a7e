"""Files as they should not be: each is read right, or told in one line with file, row and column. And random ones."""

from __future__ import annotations

import codecs
import gzip
import json
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from lmtasks.data.readers.base import Rows
from lmtasks.data.readers.documents import Documents
from lmtasks.data.readers.files import read_rows
from lmtasks.data.readers.parallel import ParallelText
from lmtasks.data.readers.squad import NOWHERE, SquadFile
from lmtasks.data.readers.table import Table
from lmtasks.data.readers.tagged import TaggedWords
from lmtasks.errors import InputError

LONG = "word " * 40_000
TWO = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
CSV, JSONL = "text,label\na,x\nb,y\n", '{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n'


def parquet_of(rows: list[dict]) -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


RIGHT: dict[str, tuple[str, bytes | str]] = {
    "UTF-16": ("a.csv", CSV.encode("utf-16")),
    "UTF-16, big end first": ("a.jsonl", codecs.BOM_UTF16_BE + JSONL.encode("utf-16-be")),
    "UTF-32": ("a.csv", CSV.encode("utf-32")),
    "byte-order mark": ("a.csv", b"\xef\xbb\xbf" + CSV.encode()),
    "\\r\\n": ("a.csv", CSV.replace("\n", "\r\n")),
    "\\r alone": ("a.csv", CSV.replace("\n", "\r")),
    "\\r alone, JSON": ("a.jsonl", JSONL.replace("\n", "\r")),
    "\\r alone, TSV": ("a.tsv", CSV.replace("\n", "\r").replace(",", "\t")),
    "\\r alone, compressed": ("a.csv.gz", gzip.compress(CSV.replace("\n", "\r").encode())),
    "two parts of gzip": ("a.csv.gz", gzip.compress(CSV[:15].encode()) + gzip.compress(CSV[15:].encode())),
    "no last line end": ("a.csv", CSV[:-1]),
    "blank lines": ("a.csv", "\n" + CSV.replace("\n", "\n\n")),
    "semicolons": ("a.csv", CSV.replace(",", ";")),
    "tabs in .csv": ("a.csv", CSV.replace(",", "\t")),
    "bars": ("a.csv", CSV.replace(",", "|")),
    "commas in .tsv": ("a.tsv", CSV),
    "what Excel writes": ("a.csv", "sep=;\r\n" + CSV.replace(",", ";")),
    "quotes of pandas": ("a.tsv", '"text"\t"label"\n"a"\t"x"\n"b"\t"y"\n'),
    "an index of pandas": ("a.csv", ",text,label\n0,a,x\n1,b,y\n"),
    "an array": ("a.json", json.dumps(TWO, indent=2)),
    "an array under another name": ("a.jsonl", json.dumps(TWO)),
    "other columns first": ("a.jsonl", '{"id": 1}\n' + JSONL),
    "a column in some rows only": ("a.jsonl", JSONL.replace("}", ', "more": null}', 1)),
    "Parquet": ("a.parquet", parquet_of(TWO)),
    "Parquet, compressed": ("a.parquet.gz", gzip.compress(parquet_of(TWO))),
}


@pytest.mark.parametrize("kind", RIGHT)
def test_a_file_of_a_usual_form_gives_its_rows(tmp_path, kind):
    name, data = RIGHT[kind]
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    rows = [row for row in Table(train=str(path)).rows("train", ("text", "label")) if row["text"] is not None]
    assert [{"text": row["text"], "label": row["label"]} for row in rows] == TWO
    every = [row for _, row in read_rows(str(path)) if "text" in row]
    assert [{"text": row["text"], "label": row["label"]} for row in every] == TWO  # what run and score read


EXACT = [
    "NA",
    "null",
    "nan",
    "007",
    "1.10",
    "1e5",
    "True",
    " a ",
    "a\u2028b",
    "a\x85b",
    "🙂",
    "שלום ab",
    "e\u0301",
    LONG,
]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet"])
def test_texts_stay_as_they_are(tmp_path, name):
    rows = [{"text": text, "label": "x"} for text in EXACT]
    lines = [[row["text"], "x"] for row in rows]
    data = {
        "a.csv": "".join(",".join(line) + "\n" for line in [["text", "label"], *lines]).encode(),
        "a.tsv": "".join("\t".join(line) + "\n" for line in [["text", "label"], *lines]).encode(),
        "a.jsonl": "\n".join(map(json.dumps, rows)).encode(),
        "a.json": json.dumps(rows).encode(),
        "a.parquet": parquet_of(rows),
    }[name]
    (tmp_path / name).write_bytes(data)
    assert [row["text"] for row in Table(train=str(tmp_path / name)).rows("train", ("text", "label"))] == EXACT


WRONG: dict[str, tuple[str, bytes | str, str]] = {
    "Latin-1": ("a.csv", CSV.replace("b,", "ü,").encode("latin-1"), "row 3: byte 1 is not UTF-8; convert the file"),
    "UTF-16 without mark": ("a.csv", CSV.encode("utf-16-le"), "expected text, but it is UTF-16 without its mark"),
    "half of UTF-16": ("a.csv", CSV.encode("utf-16")[:-1], "is not UTF-16"),
    "gzip without .gz": ("a.csv", gzip.compress(CSV.encode()), "it is compressed by gzip; let its name end in .gz"),
    ".gz without gzip": ("a.csv.gz", CSV, "cannot be read (Not a gzipped file"),
    "cut gzip": ("a.csv.gz", gzip.compress(CSV.encode())[:-9], "cannot be read (Compressed file ended"),
    "an .xlsx": ("a.csv", b"PK\x03\x04\x14\x00", "it is a .zip or .xlsx; save the table as CSV in UTF-8"),
    "Parquet under another name": ("a.csv", parquet_of(TWO), "it is Parquet; let its name end in .parquet"),
    "cut Parquet": ("a.parquet", parquet_of(TWO)[:-9], "cannot be read as Parquet"),
    "half of Parquet": ("a.parquet", parquet_of(TWO)[:200], "cannot be read as Parquet"),
    "empty": ("a.csv", "", "the file is empty, and the split 'train' needs rows"),
    "ragged rows": (
        "a.csv", CSV + "c\nd,y\ne,y,z\n",
        "a.csv: 2 faults: row 4: 1 columns, expected 2 (text, label); row 6: 3 columns, expected 2 (text, label); put",
    ),
    "an open quote": ("a.csv", CSV + '"c,x\n', "row 4: unexpected end of data"),
    "a comma at the end": ("a.json", '[{"text": "a", "label": "x"},]', "invalid JSON at character 30"),
    "a comma in a row": ("a.jsonl", JSONL + '{"text": "c",}\n', "row 3: invalid JSON at character 14"),
    "a cut array": ("a.json", json.dumps(TWO)[:-5], "row 1: invalid JSON"),
    "no JSON": ("a.jsonl", "text,label\na,x\n", "a.jsonl: 2 faults: row 1: invalid JSON at character 1"),
    "a name twice": ("a.jsonl", JSONL + '{"text": "c", "text": "d"}', "row 3: invalid JSON (the name 'text' stands"),
    "deep nesting": ("a.jsonl", "[" * 100_000, "row 1: invalid JSON"),
    "a huge number": ("a.jsonl", JSONL + '{"text": ' + "1" * 5000 + "}", "row 3: invalid JSON (Exceeds the limit"),
    "null in a list": ("a.jsonl", '{"text": ["a", null], "label": "x"}', "row 1, column 'text': item 2 of the list"),
    "no such column": ("a.jsonl", '{"txt": "a", "label": "x"}', "row 1: no column 'text' (did you mean txt?)"),
    "a column twice": ("a.csv", "text,label,text\na,x,b\n", "row 1: the header has the column 'text' more than once"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_a_broken_file_is_told_in_one_line(tmp_path, kind):
    name, data, expected = WRONG[kind]
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    with pytest.raises(InputError) as caught:
        list(Table(train=str(path)).rows("train", ("text", "label")))
    assert str(caught.value).startswith(str(path))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_header_alone_has_no_rows(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n")
    assert list(Table(train=str(tmp_path / "a.csv")).rows("train", ("text", "label"))) == []


def test_of_many_faults_the_first_ten_are_placed(tmp_path):
    (tmp_path / "a.csv").write_text(CSV + "c\n" * 5000)
    with pytest.raises(InputError) as caught:
        list(Table(train=str(tmp_path / "a.csv")).rows("train", ("text", "label")))
    message = str(caught.value)
    assert "5,000 faults: row 4: 1 columns" in message
    assert "row 13: 1 columns" in message
    assert "row 14" not in message
    assert "and 4,990 more; put CSV values" in message
    assert len(message) < 1000


def test_faults_of_two_kinds_come_together(tmp_path):
    lines = [
        '{"text": "a", "label": "x"}',
        '{"text": {"b": 1}, "label": null}',
        '{"text": ',
        '{"text": [null], "label": 1}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"2 faults: row 4, column 'text': item 1 of the list is null.*row 3: invalid"):
        list(Table(train=str(tmp_path / "a.jsonl")).rows("train", ("text", "label")))


def test_what_is_guessed_is_said_once(tmp_path, caplog):
    (tmp_path / "a.csv").write_text(CSV.replace(",", ";"))
    (tmp_path / "a.tsv").write_text('text\tlabel\n"say ""a"""\tx\n')
    (tmp_path / "b.tsv").write_text('text\tlabel\n"a, b"\tx\n')
    tables = [Table(train=str(tmp_path / name)) for name in ("a.csv", "a.tsv", "b.tsv")]
    rows = [next(table.rows("train", ("text", "label"))) for table in tables * 2]
    assert [row["text"] for row in rows] == ["a", 'say "a"', '"a, b"'] * 2
    assert len(caplog.messages) == 3
    assert "a.csv: its columns are separated by semicolons, not by commas" in caplog.messages[0]
    assert "a.tsv: has the quotes of CSV, which are taken away" in caplog.messages[1]
    assert "b.tsv: has values in quotes, which stay in the text" in caplog.messages[2]


# Random files: pieces of right ones, cut, repeated, mixed with what breaks readers.

PIECES = [
    "text,label\n", "a,x\n", '"b\nc",y\n', "\n", "\r", "\r\n", "\t", ";", '"', '""', ",", "\ufeff",
    "\x00", "\u2028", "é", "e\u0301", "🙂", "NA", "{", "}", "[", "]", '{"text": "a", "label": 1}\n',
    '{"text": null}\n', '{"text": [1, "b", null]}', '"x": 1.10', "null", "NaN", "\\ud800", "1" * 5000,
    "[" * 200, "Anna B-PER\n", "1\tAnna\tNNP\tB-PER\n", "1-2\tAnna\t_\t_\n", "# id = 7\n",
    "-DOCSTART- -X- O\n", "lives O\n", " ",
    '{"data": [{"paragraphs": [{"context": "Anna has a cat.", "qas": [',
    '{"id": "q", "question": "Who?", "answers": [{"text": "Anna", "answer_start": 0}]}', ']}]}]}',
    ', "is_impossible": "false"', '"answers": {"text": ["a cat"], "answer_start": [', "-1", "1e999",
    "sep=;\n", "words,tags,sentence_id\n", "Anna,B-PER,1\n",
]  # fmt: skip
NESTED = {"data": [{"paragraphs": [{"context": "Anna has a cat.", "qas": [
    {"id": "q", "question": "Who?", "answers": [{"text": "Anna", "answer_start": 0}], "is_impossible": False},
    {"id": "r", "question": "What?", "answers": [{"text": "a  Cat", "answer_start": 8}]},
]}]}]}  # fmt: skip
WORDS = "-DOCSTART- -X- O O\n\n1 Anna NNP B-PER\n2 lives VBZ O\n\n# id = 7\n1 # SYM O\n2 Rome NNP B-LOC\n"
FUZZED: dict[str, tuple[tuple[str, ...], Callable[[str], Rows], tuple[str, ...], bytes]] = {
    "csv": (("a.csv", "a.tsv", "a.csv.gz"), lambda path: Table(train=path), ("text", "label"), CSV.encode()),
    "json": (("a.jsonl", "a.json"), lambda path: Table(train=path), ("text", "label"), JSONL.encode()),
    "conll": (("a.conll", "a.txt", "a.csv"), lambda path: TaggedWords(train=path), ("words", "tags"), WORDS.encode()),
    "squad": (
        ("a.json", "a.jsonl", "a.csv"), lambda path: SquadFile(train=path),
        ("question", "context", "answers", "starts"), json.dumps(NESTED).encode(),
    ),
    "parquet": (("a.parquet",), lambda path: Table(train=path), ("text", "label"), parquet_of(TWO)),
    "text": (
        ("a.en", "a.txt", "a.md.gz"), lambda path: Documents(train=path, unit="line"), ("text",),
        "a\nb\u2028c\n".encode(),
    ),
}  # fmt: skip


def random_file(seed: int, whole: bytes) -> bytes:
    """Return a right file with some bytes or pieces changed, or pieces alone."""
    draw = random.Random(seed)
    if draw.random() < 0.3:
        return "".join(draw.choices(PIECES, k=draw.randint(0, 12))).encode("utf-8", "surrogatepass")
    data = bytearray(whole)
    for _ in range(draw.randint(0, 3)):
        at, length = draw.randrange(len(data) + 1), draw.choice([0, 0, 1, 8])
        piece = draw.choice(PIECES).encode() if draw.random() < 0.6 else draw.randbytes(1)
        data[at : at + length] = piece
    encoding = draw.choice(["", "", "", "", "", "utf-16", "latin-1"])
    if encoding:
        data = bytearray(bytes(data).decode("utf-8", "replace").encode(encoding, "replace"))
    return bytes(data[: draw.randrange(len(data) + 1)] if draw.random() < 0.1 else data)


def read_random(folder: Path, kind: str, seeds: range) -> tuple[int, int]:
    """Read random files; return how many were read and how many refused. Anything else is an error."""
    names, reader, columns, whole = FUZZED[kind]
    read = refused = 0
    for seed in seeds:
        data, name = random_file(seed, whole), names[seed % len(names)]
        path = folder / name
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") and seed % 5 else data)
        message = ""
        try:
            for row in reader(str(path)).rows("train", columns):
                check(row, columns)
        except InputError as error:
            message = str(error)
        except Exception as error:
            raise AssertionError(f"{kind}, seed {seed}: {data!r}") from error
        assert "\n" not in message, seed
        assert not message or str(path) in message, (seed, message)
        read, refused = read + (not message), refused + bool(message)
    return read, refused


def check(row: dict, columns: tuple[str, ...]) -> None:
    """Check the promises of a row."""
    assert {*columns} <= row.keys()
    if "tags" in columns:
        assert len(row["words"]) == len(row["tags"]) > -1
        assert all(isinstance(word, str) for word in row["words"] + row["tags"])
    if "starts" in columns:
        for text, start in zip(row["answers"], row["starts"], strict=True):
            assert start == NOWHERE or row["context"][start : start + len(text)] == text


@pytest.mark.parametrize("kind", FUZZED)
def test_a_random_file_is_read_or_refused(tmp_path, kind):
    read, refused = read_random(tmp_path, kind, range(60))
    assert read > 3
    assert refused > 3


def test_random_line_parallel_files_are_read_or_refused(tmp_path):
    for seed in range(30):
        for lang in ("en", "de"):
            (tmp_path / f"a.{lang}").write_bytes(random_file(seed + 1000 * (lang == "de"), b"a\nb\n"))
        rows = []
        with suppress(InputError):
            rows = list(ParallelText(train=f"{tmp_path}/a.{{lang}}").rows("train", ("en", "de")))
        assert all(isinstance(row[lang], str) for row in rows for lang in ("en", "de"))
