"""Rows that a program has in memory are those of a file with the same content."""

import json

import datasets
import numpy as np
import pandas as pd
import pytest
from tiny import tiny_backbone, trainer

from lmtasks import ClassificationModule, InMemory, InputError, Table, TextDataModule

ROWS = [{"text": f"text {number}", "label": "xy"[number % 2], "stars": number} for number in range(12)]
COLUMNS = ("text", "label")
FORMS = {
    "list": list,
    "frame": pd.DataFrame,
    "dataset": datasets.Dataset.from_list,
}


def read(data, columns=COLUMNS):
    return [{name: value for name, value in row.items() if name != "place"} for row in data.rows("train", columns)]


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_those_of_a_file(tmp_path, form):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    columns = {"label": "stars"}
    data, file = InMemory(FORMS[form](ROWS), columns=columns), Table(str(tmp_path / "a.jsonl"), columns=columns)
    assert read(data) == read(file)
    assert [row["place"] for row in data.rows("train", COLUMNS)][1] == "train rows in memory, row 2"
    assert data.path("test") is None


@pytest.mark.parametrize("form", FORMS)
def test_the_fingerprint_follows_the_content(form):
    seen = [
        InMemory(FORMS[form](ROWS)),
        InMemory(FORMS[form](ROWS[:-1])),
        InMemory(FORMS[form](ROWS), columns={"a": "b"}),
    ]
    assert len({data.fingerprint("train") for data in seen}) == 3
    assert InMemory(FORMS[form](ROWS)).fingerprint("train") == seen[0].fingerprint("train")


def test_values_of_other_packages_are_texts():
    frame = pd.DataFrame({"text": ["a", "b", None], "label": [1.5, np.nan, 2.0], "list": [np.array([1, 2])] * 3})
    assert read(InMemory(frame), ("text", "label", "list")) == [
        {"text": "a", "label": "1.5", "list": ["1", "2"]},
        {"text": "b", "label": None, "list": ["1", "2"]},
        {"text": None, "label": "2.0", "list": ["1", "2"]},
    ]
    named = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])})
    assert (
        read(InMemory(datasets.Dataset.from_dict({"text": ["a"], "label": [1]}, features=named)))[0]["label"] == "good"
    )
    nested = [{"text": "a", "answers": {"text": ["b"], "answer_start": [3]}}]
    own = InMemory(nested, columns={"label": "answers.text"})
    assert read(own) == [{"text": "a", "label": ["b"]}]


def test_a_column_that_no_row_has_is_named():
    with pytest.raises(InputError, match="train rows in memory: no column 'label'; they have text, labl; did you mean"):
        read(InMemory([{"text": "a"}, {"text": "b", "labl": "c"}]))
    with pytest.raises(InputError, match=r"train is 'a\.csv'; give a list of dicts"):
        InMemory("a.csv")
    with pytest.raises(InputError, match="no data for the split 'train'"):
        read(InMemory())
    with pytest.raises(InputError, match="train rows in memory, row 2, column 'label': item 1 of the list is null"):
        read(InMemory([{"text": "a", "label": "b"}, {"text": "a", "label": [None]}]))


def test_a_module_learns_from_rows_in_memory(tmp_path):
    data = TextDataModule(InMemory(ROWS, validation=ROWS), tokens_per_step=64, cache=str(tmp_path / "cache"))
    module = ClassificationModule(backbone=tiny_backbone(decoder_layers=0))
    trainer(tmp_path, max_steps=2).fit(module, data)
    assert module.task.labels == ("x", "y")
    assert module.story.data[0].source == "train rows in memory"
