"""The task of docs/add_a_task.md, added from outside of the package exactly as the page says."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import lmtasks
from lmtasks.cli.main import main

PAGE = (Path(__file__).parent.parent / "docs" / "add_a_task.md").read_text(encoding="utf-8")
SMALL = [
    "--trainer.max_steps=2",
    "--trainer.val_check_interval=1",
    "--model.training.schedule.warmup=1",
    "--model.backbone.encoder_layers=1",
    "--model.backbone.decoder_layers=1",
    "--model.decoding.beam=1",
    "--model.decoding.max_length=6",
    "--trainer.accelerator=cpu",
]
OWN = ["--import", "truecasing"]
SCREEN = 80  # lines


def block(language: str) -> str:
    """Return the first code block of the page in this language."""
    match = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert match, f"the page has no {language} block"
    return match[1]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "truecasing.py").write_text(block("python"))
    (tmp_path / "truecasing.yaml").write_text(block("yaml"))
    texts = "".join(f"Anna sees {count} Cows in Rome.\n" for count in range(12))
    for name in ("train.txt", "dev.txt"):
        (tmp_path / name).write_text(texts)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield tmp_path
    sys.path[:] = before  # --import puts the current folder on it
    sys.modules.pop("truecasing", None)


def test_the_task_and_its_config_fit_a_screen():
    assert len((block("python") + block("yaml")).splitlines()) <= SCREEN


def test_the_task_trains_and_answers_from_its_file(folder, capsys):
    assert main(["fit", "-c", "truecasing.yaml", *OWN, *SMALL]) == 0
    table = capsys.readouterr().out
    assert "truecasing" in table
    assert "exact" in table
    model = lmtasks.load("runs/truecasing")
    assert model.task.kind == "truecasing"
    ((answer, *_),) = model.solve([{"text": "anna"}], decoding=lmtasks.Decoding(beam=1, max_length=5))
    assert isinstance(answer.text, str)
    del sys.modules["truecasing"]
    asked = ["run", "runs/truecasing", "anna sees a cow.", "--max-length=6"]
    assert main(asked) == 2
    assert "import truecasing first (in the shell: --import truecasing)" in capsys.readouterr().err
    assert main([*asked, *OWN]) == 0


def test_ids_are_made_anew_when_the_file_of_a_task_changes(folder):
    def files():
        assert main(["fit", "-c", "truecasing.yaml", *OWN, *SMALL, "--data.cache=ids"]) == 0
        return {path.name for path in Path("ids").iterdir()}

    made = files()
    assert files() == made
    file = folder / "truecasing.py"
    changed = file.read_text().replace("Pair((text.lower(),)", "Pair((text.upper(),)")
    file.write_text(changed + "# so that its length is another: Python goes by seconds and bytes\n")
    del sys.modules["truecasing"]
    assert len(files()) == 2 * len(made)
