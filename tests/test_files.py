"""Every file format gives the same exact text, and every fault is named with file, row and column."""

from __future__ import annotations

import csv
import gzip
import json
import logging
import os
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from huggingface_hub import constants
from hypothesis import HealthCheck, given, settings, strategies as st
from pyarrow import parquet

from lmtasks.data.readers import hub
from lmtasks.data.readers.files import FIELD_LIMIT, exact, fingerprint, numbered_rows, read_json, read_lines, read_rows
from lmtasks.data.readers.formats import file_format, has_columns, has_file_ending
from lmtasks.errors import InputError

TRICKY = [
    "NA",
    "null",
    "nan",
    "007",
    "1e5",
    "True",
    "a b",
    "a\u2028b\x0bc\x0cd\x85e",
    "ñ 中文 🙂",
    "\"quoted\" 'q'",
    "-",
]
COLUMNS = {"en": "english", "de": "de"}
ENDINGS = [".jsonl", ".json", ".csv", ".tsv", ".parquet"]


@pytest.fixture(autouse=True)
def a_hub_that_answers(monkeypatch):
    """Tests that look at the hub patch its answer; none of them may ask the network."""
    monkeypatch.setattr(hub, "why_no_answer", lambda: "")


def write(path: Path, text: str | bytes) -> str:
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def write_table(path: Path, rows: list[dict[str, Any]]) -> str:
    """Write rows in the format of the ending, by code that shares nothing with the readers."""
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        buffer = pa.BufferOutputStream()
        parquet.write_table(pa.Table.from_pylist(rows), buffer)
        return write(path, buffer.getvalue().to_pybytes())
    if kind == "csv":
        with open(path.with_suffix(".plain"), "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), quoting=csv.QUOTE_ALL)
            writer.writeheader()
            writer.writerows(rows)
        return write(path, path.with_suffix(".plain").read_bytes())
    if kind == "tsv":
        lines = [list(rows[0]), *([row[name] for name in rows[0]] for row in rows)]
        return write(path, "".join("\t".join(line) + "\n" for line in lines))
    objects = [json.dumps(row, ensure_ascii=False) for row in rows]
    return write(path, "[" + ",\n".join(objects) + "]" if kind == "json" else "\n".join(objects))


def rows_of(path: str, columns: dict[str, str] | None = None, split: str = "train", **kinds: Any) -> list[dict]:
    return [row for _, row in numbered_rows(path, columns or COLUMNS, split, **kinds)]


def fault(path: str, columns: dict[str, str] | None = None, **kinds: Any) -> str:
    with pytest.raises(InputError) as caught:
        rows_of(path, columns, **kinds)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_gives_the_exact_text(tmp_path, ending, gz):
    rows = [{"id": "0", "english": text, "de": text[::-1] + "x"} for text in TRICKY]
    path = write_table(tmp_path / f"rows{ending}{gz}", rows)
    assert rows_of(path) == [{"en": row["english"], "de": row["de"]} for row in rows]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
WITHOUT_TAB = TEXT.map(lambda text: "x" + text.translate(dict.fromkeys(map(ord, "\t\n\r"), " ")))


@pytest.mark.parametrize("ending", ENDINGS)
@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_survives(tmp_path, ending, data):
    text = WITHOUT_TAB if ending == ".tsv" else TEXT
    rows = data.draw(st.lists(st.fixed_dictionaries({"english": text, "de": text}), min_size=1, max_size=4))
    path = write_table(tmp_path / f"rows{ending}", rows)
    assert rows_of(path) == [{"en": row["english"], "de": row["de"]} for row in rows]


def test_csv_values_hold_line_ends_commas_and_quotes(tmp_path):
    path = write(tmp_path / "a.csv", 'english,de\r\n"one\r\ntwo, ""three""\n",x\r\ny,z\r\n')
    assert rows_of(path) == [{"en": 'one\r\ntwo, "three"\n', "de": "x"}, {"en": "y", "de": "z"}]


def test_tsv_knows_no_quotes(tmp_path):
    path = write(tmp_path / "a.tsv", 'english\tde\n"half\t"whole"\r\n')
    assert rows_of(path) == [{"en": '"half', "de": '"whole"'}]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt", "a.whatever"])
def test_positions_read_a_table_without_header(tmp_path, name):
    separator = "," if name == "a.csv" else "\t"
    path = write(tmp_path / name, f"Hi.{separator}嗨。{separator}CC\nRun.{separator}跑{separator}CC\n")
    assert rows_of(path, {"zh": "2", "en": "1"}) == [{"zh": "嗨。", "en": "Hi."}, {"zh": "跑", "en": "Run."}]
    assert "no column '4'" in fault(path, {"en": "1", "zh": "4"})
    assert "no column '0'" in fault(path, {"en": "0"})


def test_other_text_has_one_column_of_any_name(tmp_path):
    path = write(tmp_path / "poem.txt", "one, two\n\nthree\tfour\n")
    lines = [{"text": "one, two"}, {"text": ""}, {"text": "three\tfour"}]
    assert rows_of(path, {"text": "text"}) == lines
    assert "one column, 2 are wanted (english, de)" in fault(path)


def test_lines_end_at_newline_only(tmp_path):
    path = write(tmp_path / "a.en.gz", "\ufeffa\u2028b\x0bc\x0c\x1cd\x85\r\n\r\ne\rf")
    assert list(read_lines(path)) == ["a\u2028b\x0bc\x0c\x1cd\x85", "", "e\rf"]


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv", ".tsv"])
def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path, ending):
    path = Path(write_table(tmp_path / f"a{ending}", [{"english": "a", "de": "b"}]))
    write(path, b"\xef\xbb\xbf" + path.read_bytes())
    assert rows_of(str(path)) == [{"en": "a", "de": "b"}]


def test_blank_lines_between_rows_are_skipped_and_counted(tmp_path, caplog):
    table = {".jsonl": '\n{"de": "1"}\n \n{"de": "2"}\n\n', ".csv": "\nde\n1\n\n2\n\n", ".tsv": "de\n\n1\n\r\n2\n\n"}
    for ending, text in table.items():
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert rows_of(write(tmp_path / f"a{ending}", text), {"de": "de"}) == [{"de": "1"}, {"de": "2"}]
        assert "skipped 3 blank lines" in caplog.text


def test_numbers_and_truth_values_become_text(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"a": 7, "b": 0.5, "c": true, "d": "007"}')
    assert rows_of(path, {name: name for name in "abcd"}) == [{"a": "7", "b": "0.5", "c": "true", "d": "007"}]
    buffer = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"a": [7], "b": [0.5], "c": [True], "d": [b"007"]}), buffer)
    assert rows_of(str(buffer), {name: name for name in "abcd"}) == [{"a": "7", "b": "0.5", "c": "true", "d": "007"}]


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".parquet"])
def test_a_dot_walks_into_a_column(tmp_path, ending):
    path = write_table(tmp_path / f"a{ending}", [{"translation": {"en": "a", "de": "b"}, "x.y": "c"}])
    columns = {"en": "translation.en", "de": "translation.de", "literal": "x.y"}
    assert rows_of(path, columns) == [{"en": "a", "de": "b", "literal": "c"}]
    assert "no column 'en' (did you mean translation.en?)" in fault(path, {"en": "en"})
    assert "no column 'translation.fr'" in fault(path, {"fr": "translation.fr"})
    assert "an object, expected text; name a field of it after a dot" in fault(path, {"en": "translation"})


def test_lists_and_objects_are_given_only_where_asked_for(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"de": ["a", "b"], "answers": {"start": [3]}}')
    columns = {"de": "de", "answers": "answers"}
    assert rows_of(path, columns, nested=True) == [{"de": ["a", "b"], "answers": {"start": [3]}}]
    assert "row 1, column 'de': a list, expected text" in fault(path, columns)


def test_a_list_of_scalars_becomes_a_list_of_exact_texts(tmp_path):
    assert exact([7, 0.5, True, "007", b"NA"]) == ["7", "0.5", "true", "007", "NA"]
    assert [exact(value) for value in (7, None, float("nan"), [], "")] == ["7", None, None, [], ""]
    assert exact([[1], 2]) == [[1], 2]
    path = write(tmp_path / "a.jsonl", '{"de": ["a"]}\n{"de": ["a", null]}')
    assert "row 2, column 'de': item 2 of the list is null" in fault(path, {"de": "de"}, nested=True)


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_every_table_can_be_read_with_all_its_columns(tmp_path, ending, gz):
    rows = [{"en": text, "7": "x"} for text in TRICKY]
    assert list(read_rows(write_table(tmp_path / f"a{ending}{gz}", rows))) == [
        (number + (ending in (".csv", ".tsv")), row) for number, row in enumerate(rows, 1)
    ]


def test_a_row_with_all_its_columns_is_left_as_it_is(tmp_path, monkeypatch):
    row = {"a": 7, "b": "1.10", "c": True, "d": None, "e": [{"f": "g"}]}
    path = write(tmp_path / "a.jsonl", json.dumps(row).replace('"1.10"', "1.10"))
    assert list(read_rows(path)) == [(1, row)]
    assert list(read_rows(write(tmp_path / "a.txt", "one\n\n"))) == [(1, {"text": "one"}), (2, {"text": ""})]
    with pytest.raises(InputError, match="row 1: the header has the column 'a' more than once"):
        list(read_rows(write(tmp_path / "a.csv", "a,b,a\n1,2,3\n")))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, split: {"dev": datasets.Dataset.from_list([row])}[split])
    assert list(read_rows("owner/name", "dev")) == [(1, row)]


def test_rows_come_with_their_numbers(tmp_path):
    path = write(tmp_path / "a.csv", 'de\n"one\ntwo"\n\nthree\n')
    assert list(numbered_rows(path, {"de": "de"}, "train")) == [(2, {"de": "one\ntwo"}), (5, {"de": "three"})]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_column_may_be_absent_where_it_is_said(tmp_path, ending):
    path = write_table(tmp_path / f"a{ending}", [{"de": "a"}])
    rows = numbered_rows(path, {"de": "de", "id": "id"}, "train", absent=["id"])
    assert [row for _, row in rows] == [{"de": "a", "id": None}]


def test_a_missing_column_says_how_to_map_it(tmp_path):
    path = write(tmp_path / "a.csv", "sentence,labels,x\na,b,c\n")
    with pytest.raises(InputError) as caught:
        list(numbered_rows(path, {"text": "sentence", "label": "label", "y": "y"}, "train", option="--columns"))
    mapping = '{"text": "sentence", "label": "labels", "y": "COLUMN"}'
    assert str(caught.value).endswith(f"it has sentence, labels, x; say which: --columns '{mapping}'")


def test_one_column_is_not_proposed_for_two(tmp_path):
    path = write(tmp_path / "a.csv", "labels,x\na,b\n")
    with pytest.raises(InputError) as caught:
        list(numbered_rows(path, {"label": "label", "label2": "label2"}, "train", option="--columns"))
    assert str(caught.value).endswith("""say which: --columns '{"label": "labels", "label2": "COLUMN"}'""")


def test_the_first_json_value_of_a_file(tmp_path):
    assert read_json(write(tmp_path / "a.json.gz", ' {\n"data": [1]}\n')) == ({"data": [1]}, True)
    assert read_json(write(tmp_path / "b.json", '{"a": 1}\n{"a": 2}')) == ({"a": 1}, False)
    with pytest.raises(InputError, match=r"c\.json, line 2, character 9: invalid JSON"):
        read_json(write(tmp_path / "c.json", '{\n"data": }'))


def test_a_missing_value_is_none_and_blank_text_stays(tmp_path):
    lines = ['{"de": "a", "english": "b"}', '{"de": null, "english": "b"}', '{"english": ""}', '{"de": NaN}']
    path = write(tmp_path / "a.jsonl", "\n".join(lines))
    assert [row["de"] for row in rows_of(path)] == ["a", None, None, None]
    assert [row["en"] for row in rows_of(path)] == ["b", "b", "", None]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_missing_column_is_named_beside_those_present(tmp_path, ending):
    path = write_table(tmp_path / f"a{ending}", [{"englich": "a", "de": "b"}])
    message = fault(path)
    assert message.startswith(f"{path}, row 1: no column 'english' (did you mean englich?)")
    assert message.endswith("englich, de")


def test_broken_rows_are_named(tmp_path):
    table: dict[str, tuple[str | bytes, str]] = {
        "wide.csv": ("english,de\na,b\n\na,b,c\n", "row 4: 3 columns, expected 2 (english, de)"),
        "narrow.tsv": ("english\tde\na\tb\na\n", "row 3: 1 columns, expected 2 (english, de)"),
        "open.csv": ('english,de\n"a\nb",c\nd,"e\nf,g\n', "row 4: unexpected end of data"),
        "stray.csv": ('english,de\n"a"b,c\n', "row 2: ',' expected after '\"'"),
        "twice.csv": ("english,de,de\na,b,c\n", "row 1: the header has the column 'de' more than once"),
        "half.jsonl": ('{"english": "a", "de": "b"}\n\n{"english": "a"\n', "row 3: invalid JSON at character 16"),
        "pretty.json": ('[\n\n{"english": "a",\n "de": }]', "row 4: invalid JSON at character 8"),
        "object.json": ('{\n"data": []}', "row 1: invalid JSON"),
        "list.jsonl": ('{"english": "a", "de": "b"}\n["a", "b"]', 'row 2: ["a", "b"], expected an object'),
        "latin.csv": (b"english,de\na,b\nc,d\xfc\n", "row 3: byte 4 is not UTF-8"),
        "utf16.jsonl": ('{"english": "a"}'.encode("utf-16-be"), "it is UTF-16 without its mark; convert the file"),
        "surrogate.jsonl": ('{"english": "\\ud83d", "de": "b"}', "row 1, column 'english': 'utf-8' codec can't encode"),
        "not.parquet": ("english,de", "cannot be read as Parquet"),
    }
    for name, (text, expected) in table.items():
        path = write(tmp_path / name, text)
        assert fault(path).startswith(path)
        assert expected in fault(path)


def test_broken_compression_is_named(tmp_path):
    path = tmp_path / "a.tsv.gz"
    path.write_bytes(gzip.compress(os.urandom(3000).hex().encode())[:-1500])
    assert f"{path}, after row 0: cannot be read" in fault(str(path))
    path.write_bytes(b"english\tde\n")
    assert "Not a gzipped file" in fault(str(path))


def test_a_long_document_fits_in_one_csv_value(tmp_path):
    document = "word " * 100_000
    assert len(document) < FIELD_LIMIT
    assert rows_of(write(tmp_path / "a.csv", f"de\n{document}\n"), {"de": "de"}) == [{"de": document}]


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".tsv", ".txt"])
def test_large_files_stream(tmp_path, ending):
    path = Path(
        write_table(tmp_path / f"a{ending}", [{"de": "a"}]) if ending != ".txt" else write(tmp_path / "a.txt", "a\n")
    )
    with path.open("ab") as file:
        file.write(b"\n" * (not path.read_bytes().endswith(b"\n")) + b'{"de": "b"}\n' * 100_000 + b"\xff\n")
    rows = (row for _, row in numbered_rows(str(path), {"de": "de"}, "train"))
    assert next(rows) == {"de": "a"}  # the fault at the far end has not been seen


def test_a_missing_file_names_its_neighbours(tmp_path):
    write(tmp_path / "train.jsonl", "{}")
    near = str(tmp_path / "trian.jsonl")
    assert (
        fault(near) == f"{near}: no such file; the folder {tmp_path} has no 'trian.jsonl' (did you mean train.jsonl?)"
    )
    assert f"the folder {tmp_path} has no 'deep'" in fault(str(tmp_path / "deep" / "er" / "a.csv"))
    assert "a folder, expected a file in it: train.jsonl" in fault(str(tmp_path))
    with pytest.raises(InputError, match="did you mean train"):
        fingerprint(near, "train")
    with pytest.raises(InputError, match="did you mean train"):
        list(read_lines(near))


def test_what_is_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    ids = ["owner/name", "wmt/wmt14:de-en", "owner/name[dev]", "o/n:c[train[:10%]]", "o/n-1.5_b"]
    assert {file_format(path) for path in ids} == {"hub"}
    no_hub = ["data/name", "name", "owner/a.jsonl", "owner/a.csv.gz", "/a/b", "a/b/c", "../a", "o/train.{lang}", "./a"]
    assert "hub" not in {file_format(path) for path in [*no_hub, "owner/a.conll", "owner/a.de.gz"]}
    assert has_file_ending("a.MD")
    assert has_file_ending("a.de.gz")
    assert not has_file_ending("a.de")


def test_the_ending_decides_the_format_whatever_its_case_and_compression():
    formats = {
        "jsonl": ["a.jsonl", "A.JSONL.GZ"], "json": ["a.json.gz"], "csv": ["a.b.Csv"], "tsv": ["./a.tsv"],
        "parquet": ["/a/b.parquet"], "conll": ["a.conll", "a.bmes.gz"], "text": ["a.txt", "train.de", "a.gz", "-", ""],
    }  # fmt: skip
    for expected, paths in formats.items():
        assert {file_format(path) for path in paths} == {expected}
    tables = {kind for kind, (path, *_) in formats.items() if has_columns(path)}
    assert tables == formats.keys() - {"conll", "text"}
    assert has_columns("owner/name")


def test_a_hub_set_is_read_by_its_splits(tmp_path, monkeypatch):
    rows = [{"translation": {"en": "a", "de": "b"}, "label": 1}, {"translation": {"en": "NA", "de": "007"}, "label": 0}]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    asked = []

    def load_dataset(name, config, split):
        asked.append((name, config, split))
        if split == "test":
            raise ValueError('Unknown split "test".\nShould be one of train, dev.')
        return datasets.load_from_disk(str(tmp_path / "saved"))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    columns = {"en": "translation.en", "label": "label"}
    expected = [{"en": "a", "label": "1"}, {"en": "NA", "label": "0"}]
    assert rows_of("owner/name", columns) == expected
    assert rows_of("owner/name:de-en", columns, "validation") == expected
    assert rows_of("owner/name:de-en[train[90%:]]", columns, "validation") == expected
    assert asked == [
        ("owner/name", None, "train"),
        ("owner/name", "de-en", "validation"),
        ("owner/name", "de-en", "train[90%:]"),
    ]
    with pytest.raises(InputError, match=r"owner/name: no such file here, .* 'test' .* one of train, dev"):
        rows_of("owner/name", columns, "test")
    assert "owner/name, row 1: no column 'de' (did you mean translation.de?)" in fault("owner/name", {"de": "de"})


def test_the_fingerprint_of_a_hub_set_follows_its_rows(monkeypatch):
    def fingerprint_of(rows):
        hub.hub_table.cache_clear()
        monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_list(rows))
        return fingerprint("owner/name:de-en", "train")

    one, two = [{"en": "a"}], [{"en": "b"}]
    assert fingerprint_of(one) != fingerprint_of(two)


LABELS = {
    "label": datasets.ClassLabel(names=["negative", "positive"]),
    "tags": datasets.Sequence(datasets.ClassLabel(names=["O", "B-PER"])),
    "inner": {"label": datasets.ClassLabel(names=["a", "b"])},
    "spans": datasets.Sequence({"kind": datasets.ClassLabel(names=["x", "y"]), "at": datasets.Value("int64")}),
    "number": datasets.Value("int64"),
}
NUMBERED = [
    {"label": 1, "tags": [0, 1], "inner": {"label": 0}, "spans": {"kind": [1, 0], "at": [3, 4]}, "number": 1},
    {"label": -1, "tags": [], "inner": {"label": 1}, "spans": {"kind": [], "at": []}, "number": 0},
]
NAMED = [
    {"label": "positive", "tags": ["O", "B-PER"], "kind": "a", "spans": {"kind": ["y", "x"], "at": [3, 4]}, "n": "1"},
    {"label": None, "tags": [], "kind": "b", "spans": {"kind": [], "at": []}, "n": "0"},
]


@pytest.mark.parametrize("source", ["hub", "file"])
def test_labels_come_by_their_names(tmp_path, monkeypatch, source):
    table = datasets.Dataset.from_list(NUMBERED, datasets.Features(LABELS))
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config, split: table)
    table.to_parquet(tmp_path / "a.parquet")
    path = "owner/name" if source == "hub" else str(tmp_path / "a.parquet")
    columns = {"label": "label", "tags": "tags", "kind": "inner.label", "spans": "spans", "n": "number"}
    assert rows_of(path, columns, nested=True) == NAMED


def test_a_hub_that_is_silent_is_not_a_wrong_name(monkeypatch):
    def load_dataset(name, config, split):
        seen.append(datasets.config.HF_HUB_OFFLINE)
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(hub, "why_no_answer", lambda: "no route")
    seen: list[bool] = []
    error: Exception = ConnectionError("Couldn't reach it")
    assert "owner/name: no such file here, the Hugging Face hub cannot be reached (no route)" in fault("owner/name")
    monkeypatch.setattr(hub, "why_no_answer", lambda: "")
    error = datasets.exceptions.DatasetNotFoundError("Dataset 'owner/name' doesn't exist")
    assert "the hub has no such set or does not show it without `hf auth login`" in fault("owner/name")
    assert seen == [True, False]  # without network it is asked for what it has in its cache
    assert not datasets.config.HF_HUB_OFFLINE


def test_the_hub_is_asked_once_for_a_sign_of_life(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    assert "refused" in hub.why_no_answer().lower()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.why_no_answer() == "HF_HUB_OFFLINE is set"


def test_the_pictures_of_a_hub_set_are_not_looked_at(monkeypatch):
    rows = [{"caption": {"en": "a"}, "picture": {"bytes": b"no picture", "path": None}}]
    features = datasets.Features({"caption": {"en": datasets.Value("string")}, "picture": datasets.Image()})
    table = datasets.Dataset.from_list(rows, features)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config, split: table)
    assert rows_of("owner/name", {"en": "caption.en"}) == [{"en": "a"}]


def test_the_fingerprint_follows_the_file(tmp_path, monkeypatch):
    path = Path(write(tmp_path / "a.txt", "one"))
    before = fingerprint(str(path), "train")
    monkeypatch.chdir(tmp_path)
    assert fingerprint("a.txt", "train") == before
    state = path.stat()
    path.write_text("two")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))  # a file of the same size and time
    assert fingerprint("a.txt", "train") != before
    path.write_text("one")
    assert fingerprint("a.txt", "train") == before


@pytest.mark.skipif("LMTASKS_DATA" not in os.environ, reason="LMTASKS_DATA names no folder with the real data")
def test_raw_files_as_users_have_them():
    raw = Path(os.environ.get("LMTASKS_DATA", "")) / "raw_formats"
    chinese = rows_of(str(raw / "cmn.txt"), {"en": "1", "zh": "2"})
    assert len(chinese) == 200
    assert chinese[0] == {"en": "Hi.", "zh": "嗨。"}
    reviews = rows_of(str(raw / "chnsenticorp_dev.tsv"), {"text": "text_a", "label": "label"})
    assert {row["label"] for row in reviews} == {"0", "1"}
    questions = rows_of(str(raw / "subjqa_restaurants_dev.csv"), {"span": "human_ans_indices", "text": "review"})
    with open(raw / "subjqa_restaurants_dev.csv", newline="", encoding="utf-8") as file:
        assert [row["text"] for row in questions] == [row["review"] for row in csv.DictReader(file)]
    assert questions[0]["span"] == "(21, 39)"
