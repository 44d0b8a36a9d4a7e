"""Where `run` writes: whole lines, whatever stops it."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lmtasks.cli.main import main
from lmtasks.cli.sink import Sink
from lmtasks.errors import InputError

ROOT = Path(__file__).parent.parent
LINE = "a line that is neither short nor long " * 3 + "\n"
WRITES = f"""
import resource, sys, time
from lmtasks.cli import main as cli
from lmtasks.cli.sink import Sink

def run(arguments):
    if sys.argv[2] == "limited":
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
    with Sink(sys.argv[1] or None) as sink:
        for number in range(10**9):
            sink.write({LINE!r})
            time.sleep(0.001 if sys.argv[2] == "slow" else 0)

cli._dispatch = run
sys.exit(cli.main([]))
"""


def started(path: str, how: str, **streams) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    return subprocess.Popen([sys.executable, "-c", WRITES, path, how], env=environment, **streams)


def assert_whole(text: str) -> None:
    assert text
    assert set(text.splitlines(keepends=True)) == {LINE}


@pytest.mark.parametrize("path", ["", "out.txt", "out.txt.gz"])
@pytest.mark.parametrize(("number", "code", "said"), [("SIGTERM", 143, "stopped by SIGTERM"), ("SIGINT", 130, "inter")])
def test_a_signal_waits_for_the_end_of_a_line(tmp_path, path, number, code, said):
    file = tmp_path / (path or "stdout")
    with file.open("wb") if not path else open(os.devnull, "wb") as stdout:
        ran = started(str(file) if path else "", "slow", stdout=stdout)
        while not (file.exists() and file.stat().st_size) and not path.endswith(".gz"):
            time.sleep(0.01)
        time.sleep(0.5)
        ran.send_signal(getattr(signal, number))
        errors = ran.communicate(timeout=60)[1].decode()
    assert (ran.returncode, errors.count("\n"), said in errors) == (code, 1, True)
    assert_whole(gzip.decompress(file.read_bytes()).decode() if path.endswith(".gz") else file.read_text())


@pytest.mark.parametrize("to_stdout", [True, False])
def test_a_full_disk_keeps_whole_lines_and_gives_one_line(tmp_path, to_stdout):
    file = tmp_path / "out.txt"
    with file.open("wb") if to_stdout else open(os.devnull, "wb") as stdout:
        ran = started("" if to_stdout else str(file), "limited", stdout=stdout)
        errors = ran.communicate(timeout=60)[1].decode()
    assert (ran.returncode, errors.count("\n")) == (2, 1)
    assert f"{'stdout' if to_stdout else file}: cannot be written: File too large; free space" in errors
    assert_whole(file.read_text())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("arguments", [[], ["--version"]])
def test_a_full_device_is_one_line_for_any_command(arguments):
    if arguments:
        code = f"import sys; from lmtasks.cli.main import main; sys.exit(main({arguments}))"
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with open("/dev/full", "wb") as full:
            ran = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, env=environment)
        status, errors = ran.returncode, ran.stderr.decode()
    else:
        process = started("/dev/full", "fast")
        errors = process.communicate(timeout=60)[1].decode()
        status = process.returncode
    assert (status, errors.count("\n")) == (2, 1)
    assert "cannot be written: No space left on device" in errors


def test_a_reader_that_goes_away_ends_the_command_in_silence():
    with started("", "fast") as ran:
        assert ran.stdout.readline().decode() == LINE
        ran.stdout.close()
        assert ran.stderr.read() == b""
        assert ran.wait(60) == 141


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path}: cannot be written"):
        Sink(str(tmp_path))


def test_handlers_of_signals_are_put_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Sink(str(tmp_path / "out")) as sink:
        sink.write(LINE)
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert main(["--version"]) == 0
