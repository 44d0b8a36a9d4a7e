"""The files of tokenised rows: whole or absent, checked when opened, made anew when damaged, safe for two at once."""

from __future__ import annotations

import logging
import os
import signal

import pytest
from tiny import tiny_data

from lmtasks.data.tokenized import encode
from lmtasks.errors import InputError
from lmtasks.tasks.translation import TranslationTask
from lmtasks.text.tokenizer import Tokenizer, TokenizerConfig

TASK = TranslationTask(("en-de",))
ROW = {"en": "a", "de": "b"}


@pytest.fixture
def tokenizer():
    return Tokenizer.train([], TokenizerConfig("byte"))


def texts(dataset):
    return [(example.source, example.target, example.text) for example in dataset.examples(range(len(dataset)))]


def forked(work):
    """Run `work` in a process of its own and return the process id; it never returns here."""
    if child := os.fork():
        return child
    try:
        work()
    finally:
        os._exit(1)


def test_a_file_with_any_damaged_byte_is_made_anew(corpus, tokenizer, caplog):
    right = texts(tiny_data(corpus).encode("train", TASK, tokenizer))
    (file,) = (corpus / "cache").iterdir()
    good = file.read_bytes()
    places = [*range(0, len(good), len(good) // 40), len(good) - 1]
    for place in places:
        file.write_bytes(good[:place] + bytes([good[place] ^ (1 << place % 8)]) + good[place + 1 :])
        assert texts(tiny_data(corpus).encode("train", TASK, tokenizer)) == right
        assert file.read_bytes() == good
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert said == [f"{file}: the tokenised rows are damaged (wrong checksum); they are made anew"] * len(places)


@pytest.mark.parametrize("kept", [0, 1, 16, 0.5, -1])
def test_a_file_that_is_cut_off_is_made_anew(corpus, tokenizer, kept):
    right = texts(tiny_data(corpus).encode("train", TASK, tokenizer))
    (file,) = (corpus / "cache").iterdir()
    good = file.read_bytes()
    file.write_bytes(good[: int(kept * len(good)) if kept == 0.5 else kept])
    assert texts(tiny_data(corpus).encode("train", TASK, tokenizer)) == right
    assert file.read_bytes() == good


def test_a_file_of_rows_that_changed_under_its_old_size_and_time_is_tokenised_anew(corpus, tokenizer):
    before = texts(tiny_data(corpus).encode("train", TASK, tokenizer))
    rows, stat = corpus / "train.de", (corpus / "train.de").stat()
    rows.write_bytes(rows.read_bytes().replace(b"a", b"e"))
    os.utime(rows, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert rows.stat().st_size == stat.st_size
    after = texts(tiny_data(corpus).encode("train", TASK, tokenizer))
    assert [source for source, _, _ in before] == [source for source, _, _ in after]
    assert before != after


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_stays(tmp_path, tokenizer):
    ready, living = os.pipe()

    def dies():
        def rows():
            yield ROW
            os.kill(os.getpid(), signal.SIGKILL)

        encode(rows(), TASK.examples, tokenizer, tmp_path / "a.arrow")

    def lives():
        def rows():
            os.write(living, b"1")
            signal.pause()
            yield ROW

        encode(rows(), TASK.examples, tokenizer, tmp_path / "b.arrow")

    os.waitpid(forked(dies), 0)
    (dead,) = tmp_path.iterdir()
    child = forked(lives)
    try:
        os.read(ready, 1)
        assert not dead.exists()
        (alive,) = tmp_path.iterdir()
        encode([ROW], TASK.examples, tokenizer, tmp_path / "c.arrow")
        assert {path.name for path in tmp_path.iterdir()} == {alive.name, "c.arrow"}
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    encode([ROW], TASK.examples, tokenizer, tmp_path / "d.arrow")
    assert {path.name for path in tmp_path.iterdir()} == {"c.arrow", "d.arrow"}


def test_processes_that_write_the_same_file_at_once_each_read_it_whole(tmp_path, tokenizer):
    file = tmp_path / "a.arrow"

    def work():
        assert len(encode([ROW] * 3000, TASK.examples, tokenizer, file)) == 3000
        os._exit(0)

    for damaged in (False, True):
        if damaged:
            file.write_bytes(file.read_bytes()[:-1])
        children = [forked(work) for _ in range(4)]
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * len(children)
        assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("place", ["/proc/nope", "file/cache", "x" * 300])
def test_a_folder_that_cannot_be_written_is_named_with_its_option(tmp_path, tokenizer, place):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be written: .*; give .* with --data.cache FOLDER$") as found:
        encode([ROW], TASK.examples, tokenizer, tmp_path / place / "a.arrow")
    assert str(found.value).startswith(f"{tmp_path / place}: ")


def test_a_full_disk_is_named_and_leaves_nothing_behind(tmp_path, tokenizer, no_space):
    with no_space(20_000), pytest.raises(InputError, match=r"cannot be written: File too large; .* --data\.cache"):
        encode([ROW] * 3000, TASK.examples, tokenizer, tmp_path / "a.arrow")
    assert list(tmp_path.iterdir()) == []


def test_errors_of_the_rows_are_not_taken_for_those_of_the_folder(tmp_path, tokenizer):
    def rows():
        yield ROW
        raise PermissionError(13, "Permission denied", "/elsewhere/rows.txt")

    with pytest.raises(PermissionError):
        encode(rows(), TASK.examples, tokenizer, tmp_path / "a.arrow")
