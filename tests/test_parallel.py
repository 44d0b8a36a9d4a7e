"""Parallel text comes row by row from line-parallel files, from a table and from a set of the hub."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import datasets
import pytest

from lmtasks.data.readers.parallel import ParallelText
from lmtasks.errors import InputError

EN = ["A dog runs.", "", "NA"]
DE = ["Ein Hund rennt.", "leer", "k.\u2028A."]
ROWS = [{"en": en, "de": de} for en, de in zip(EN, DE, strict=True)]


def read(rows: ParallelText, split: str, columns: tuple[str, ...]) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "place"} for row in rows.rows(split, columns)]


def write_lines(path: Path, lines: list[str]) -> None:
    path.write_bytes("".join(line + "\n" for line in lines).encode())


@pytest.fixture
def folder(tmp_path):
    write_lines(tmp_path / "train.en", EN)
    write_lines(tmp_path / "train.de", DE)
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    return tmp_path


def test_plain_files_and_a_table_give_the_same_rows(folder):
    for name in ("train.{lang}", "train.jsonl"):
        assert read(ParallelText(train=f"{folder}/{name}"), "train", ("en", "de")) == ROWS


def test_the_mapping_names_columns_and_files(folder):
    (folder / "a.csv").write_text("english,german\na,b\n")
    (folder / "b.tsv").write_text("x\tb\ta\n")
    (folder / "train.deu").write_text("a\n")
    columns = {"en": "english", "de": "german"}
    assert read(ParallelText(test=f"{folder}/a.csv", columns=columns), "test", ("de",)) == [{"de": "b"}]
    by_position = ParallelText(test=f"{folder}/b.tsv", columns={"en": "3", "de": "2"})
    assert read(by_position, "test", ("en", "de")) == [{"en": "a", "de": "b"}]
    renamed = ParallelText(train=f"{folder}/train.{{lang}}", columns={"de": "deu"})
    assert read(renamed, "train", ("de",)) == [{"de": "a"}]


def test_prediction_needs_the_source_only(folder):
    for name in ("train.{lang}", "train.en", "train.jsonl"):
        rows = ParallelText(predict=f"{folder}/{name}").rows("predict", ("en",))
        assert [row["en"] for row in rows] == EN


def test_a_gap_is_none_and_an_absent_column_an_error(folder):
    (folder / "a.jsonl").write_text('{"en": "a", "de": "b", "fr": null}\n{"en": "c"}\n{"en": "", "de": "d"}')
    data = ParallelText(train=f"{folder}/a.jsonl")
    assert [row["de"] for row in data.rows("train", ("en", "de"))] == ["b", None, "d"]
    assert [row["en"] for row in data.rows("train", ("en", "fr"))] == ["a", "c", ""]
    with pytest.raises(InputError, match="row 1: no column 'cs'; it has en, de, fr"):
        read(data, "train", ("en", "cs"))


@pytest.mark.parametrize(("short", "lines"), [("de", DE[:1]), ("en", []), ("de", [*DE, "more", "yet more"])])
def test_files_of_different_length_are_refused_with_both_counts(folder, short, lines):
    write_lines(folder / f"train.{short}", lines)
    counts = {"en": len(EN), "de": len(DE), short: len(lines)}
    expected = ", ".join(f"{folder}/train.{lang} has {count} lines" for lang, count in counts.items())
    with pytest.raises(InputError) as caught:
        read(ParallelText(train=f"{folder}/train.{{lang}}"), "train", ("en", "de"))
    assert str(caught.value).startswith(expected)


def test_a_missing_language_or_split_is_named(folder):
    data = ParallelText(train=f"{folder}/train.{{lang}}")
    with pytest.raises(InputError, match=r"train\.fr: no such file; .*\(did you mean"):
        read(data, "train", ("en", "fr"))
    assert data.path("test") is None
    with pytest.raises(InputError, match="no data for the split 'test'"):
        read(data, "test", ("en", "de"))


def test_a_hub_set_with_nested_languages(monkeypatch):
    rows = datasets.Dataset.from_list([{"translation": row} for row in ROWS])
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config, split: {"validation": rows}[split])
    data = ParallelText(validation="wmt/wmt14:de-en", columns={"en": "translation.en", "de": "translation.de"})
    assert read(data, "validation", ("en", "de")) == ROWS
    assert "wmt/wmt14:de-en" in data.fingerprint("validation")


@pytest.mark.parametrize("name", ["train.{lang}", "train.jsonl"])
def test_the_fingerprint_follows_files_and_columns(folder, name):
    data = ParallelText(train=f"{folder}/{name}")
    seen = {data.fingerprint("train"), ParallelText(train=data.train, columns={"en": "x"}).fingerprint("train")}
    assert data.fingerprint("train") in seen
    file = folder / name.replace("{lang}", "de")
    before = file.stat()
    os.utime(file, ns=(0, 1))
    assert data.fingerprint("train") in seen
    file.write_bytes(file.read_bytes().replace(b"k.", b"K."))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # of the same size, and no newer than before
    assert data.fingerprint("train") not in seen
    assert len(seen) == 2
    with pytest.raises(InputError, match="no such file"):
        ParallelText(train=f"{folder}/no.{{lang}}").fingerprint("train")


@pytest.mark.skipif("LMTASKS_DATA" not in os.environ, reason="LMTASKS_DATA names no folder with the real data")
def test_real_line_parallel_files():
    raw = Path(os.environ.get("LMTASKS_DATA", "")) / "raw_formats"
    languages = ("en", "de", "fr", "cs")
    rows = list(ParallelText(validation=f"{raw}/multi30k_val.{{lang}}.gz").rows("validation", languages))
    assert len(rows) == 1014
    for lang in languages:
        text = gzip.decompress((raw / f"multi30k_val.{lang}.gz").read_bytes()).decode()
        assert [row[lang] for row in rows] == text.removesuffix("\n").split("\n")
    chinese = ParallelText(test=f"{raw}/cmn.txt", columns={"en": "1", "zh": "2"})
    assert next(chinese.rows("test", ("en", "zh"))) == {"en": "Hi.", "zh": "嗨。"}
