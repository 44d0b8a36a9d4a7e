"""Places that cannot be written: one line names the place and the option that sets it, whatever the command."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from tiny import write_corpus

from lmtasks.cli.main import main
from lmtasks.errors import InputError, writing

CONFIG = """# lmtasks fit -c tiny.yaml
model:
  class_path: TranslationModule
  init_args:
    directions: [en-fr]
    backbone:
      class_path: TransformerConfig
      init_args: {d_model: 8, n_heads: 2, d_ff: 16, encoder_layers: 1, decoder_layers: 1}
    tokenizer: {kind: byte}
    decoding: {beam: 1, max_length: 4}
data:
  rows:
    class_path: Village
    init_args: {train: 40, validation: 4, test: 4}
  tokens_per_step: 256
  cache: cache
trainer: {max_steps: 2, log_every_n_steps: 1, accelerator: cpu}
"""
FIT = "fit -c tiny.yaml --name new"
ROOT = "--trainer.default_root_dir"
NEW = "--data.rows.validation 5"  # rows that are not in the cache yet
CASES = {  # command, where PLACE is a place that cannot be written, and the option that its line names
    "run folder": (f"{FIT} {ROOT} PLACE", ROOT),
    "cache of fit": (f"{FIT} --data.cache PLACE", "--data.cache"),
    "cache of validate": ("validate -c runs/tiny --data.cache PLACE", "--data.cache"),
    "cache of test": ("test -c runs/tiny --data.cache PLACE", "--data.cache"),
    "run --output": ("run runs/tiny hello --output PLACE", "--output"),
    "export --output": ("export runs/tiny --to onnx --output PLACE", "--output"),
    "tokenizer --output": ("tokenizer train.en --output PLACE", "--output"),
    "compare --pictures": ("compare runs/tiny --pictures PLACE", "--pictures"),
    "attend --output": ("attend runs/tiny hello --output PLACE.png", "--output"),
}
PLACES = {"proc": "/proc/nope", "long": "x" * 300, "file": "train.en/nope"}


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory):
    """A folder with a tiny run in it."""
    folder = write_corpus(tmp_path_factory.mktemp("places"))
    (folder / "tiny.yaml").write_text(CONFIG)
    here = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["fit", "-c", "tiny.yaml"]) == 0
    finally:
        os.chdir(here)
    return folder


@pytest.fixture
def told(trained_run, monkeypatch, capsys):
    """Run a command in the folder, check that it ends in one line, and return that."""
    monkeypatch.chdir(trained_run)

    def run(command):
        capsys.readouterr()
        status = main(command.split())
        *_, line = capsys.readouterr().err.splitlines()
        assert (status, line[:16]) == (2, "lmtasks: error: ")
        return line

    yield run
    assert sorted(path.name for path in (trained_run / "runs").iterdir()) == ["tiny"]


@pytest.mark.parametrize(
    ("case", "place"),
    [*((case, "proc") for case in CASES), *product(["run folder", "cache of fit", "run --output"], ["long", "file"])],
)
def test_a_place_that_takes_no_file_is_named_with_its_option(told, case, place):
    command, option = CASES[case]
    line = told(command.replace("PLACE", PLACES[place]))
    assert PLACES[place] in line
    assert option in line or "there is no folder" in line  # seen before anything was done
    assert "Error" not in line


@pytest.mark.parametrize("case", ["run folder", "cache of validate", "export --output", "tokenizer --output"])
def test_a_full_disk_is_named_with_the_option_of_its_place(told, no_space, tmp_path, case):
    command, option = CASES[case]
    with no_space(600):
        line = told(command.replace("PLACE", str(tmp_path / "place")))
    assert f"{tmp_path / 'place'}" in line
    assert f"cannot be written: File too large; free space, or give another place with {option}" in line


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
@pytest.mark.parametrize("case", ["run folder", "cache of fit", "run --output", "export --output", "attend --output"])
def test_a_read_only_place_is_named_with_its_option(told, tmp_path, case):
    command, option = CASES[case]
    place = tmp_path / "place"
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", place], capture_output=True, check=False
    ).returncode:
        pytest.skip("this machine mounts nothing")
    try:
        line = told(command.replace("PLACE", str(place / "inside")))
    finally:
        subprocess.run(["umount", place], check=True)
    assert "cannot be written: Read-only file system; give another place with " + option in line


def test_an_output_that_takes_no_byte_is_named(told):
    line = "lmtasks: error: /dev/full: cannot be written: No space left on device; free space, or give another place"
    assert told("run runs/tiny hello --output /dev/full") == f"{line} with --output"


def test_a_name_that_is_too_long_is_named_with_its_option(told):
    assert "...': expected the name of a folder, of at most 200 bytes" in told(f"fit -c tiny.yaml --name {'n' * 300}")


def test_a_cache_in_a_home_that_takes_no_file_is_named(trained_run):
    elsewhere = {"HOME": "/proc/nope", "HF_HOME": "/proc/nope", "HF_HUB_OFFLINE": "1"}
    code = "from lmtasks.cli.main import main; main('validate -c runs/tiny --data.cache null'.split())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=trained_run, env=os.environ | elsewhere, capture_output=True, text=True
    )
    line = "lmtasks: error: /proc/nope/datasets/lmtasks: cannot be written: No such file or directory; "
    assert done.stderr.splitlines()[-1].startswith(line)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a system without /dev/full")
@pytest.mark.parametrize("command", ["run runs/tiny hello", "info runs/tiny", "test -c runs/tiny", "compare runs/tiny"])
def test_a_full_stdout_is_one_line(trained_run, command):
    code = f"import sys; from lmtasks.cli.main import main; sys.exit(main('{command}'.split()))"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=trained_run, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "lmtasks: error: stdout: cannot be written: No space left on device; free space, or send it elsewhere"
    )


def test_errors_of_other_files_are_not_taken_for_those_of_the_place(tmp_path):
    for error in (FileNotFoundError(2, "No such file or directory", "/elsewhere"), ValueError("not about a file")):
        with pytest.raises(type(error)) as found, writing(tmp_path / "place", "--output"):
            raise error
        assert found.value is error
    line = "place: cannot be written: Permission denied; give another place with --output"
    with pytest.raises(InputError, match=line), writing(tmp_path / "place", "--output"):
        raise PermissionError(13, "Permission denied", str(tmp_path / "place" / "in" / "it"))
