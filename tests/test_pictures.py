"""What all pictures share: the files they are written to, and how wide a text is."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from lmtasks.errors import InputError
from lmtasks.metrics.score import LabelledScore, labelled_scores
from lmtasks.reports.pictures import ENDINGS, check_picture, picture
from lmtasks.text.columns import columns


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_picture_is_written_when_all_is_drawn(tmp_path, ending):
    file = tmp_path / f"a{ending.upper()}"
    check_picture("--picture", file)
    with picture(file, 2, 1) as figure:
        figure.add_subplot()
        assert not file.exists()
    assert file.stat().st_size > 0


@pytest.mark.parametrize(
    ("name", "fault"), [("a.gif", "a picture ends in .png, .svg or .pdf"), ("b/a.png", "no folder")]
)
def test_a_file_that_cannot_be_written_is_refused(tmp_path, name, fault):
    with pytest.raises(InputError, match=f"--output .*{name}: .*{fault}"):
        check_picture("--output", tmp_path / name)


def test_a_missing_matplotlib_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"pip install 'lmtasks\[plot\]'"), picture(tmp_path / "a.png", 2, 1):
        pass


def test_marks_take_no_column_and_tables_stay_straight():
    cafe = unicodedata.normalize("NFD", "café")
    assert (columns(cafe), columns("a北"), columns("")) == (4, 3, 0)
    by_label = labelled_scores(dict.fromkeys([cafe, "tea1", "北京"], (1, 1, 1)))
    table = LabelledScore({}, "", by_label).table.splitlines()
    assert len({columns(line) for line in table}) == 1
