"""The lines of stdin as they arrive: typed at a prompt, or piped, several at once where several wait."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from io import BufferedReader
from queue import Queue
from threading import Thread
from typing import Any

from lmtasks.errors import InputError

STDIN = "-"  # its name among names of files
AT_ONCE = 256  # texts answered together: enough to sort them by length into full batches
AHEAD = 4 * AT_ONCE  # lines that wait in memory


def stdin_lines() -> Iterator[str]:
    r"""Yield the lines of stdin without their ends, as `read_lines` does for a file; only \n and \r\n end a line.

    Raises: InputError if a line is not UTF-8.
    """
    # Read bytes, because text would end a line at a lone \r too. Read them with a reader of our own, because the
    # interpreter locks that of sys.stdin when it ends, and aborts if a thread still waits for a line there.
    raw: Any = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
    for number, line in enumerate(BufferedReader(raw), start=1):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            fault = f"byte {error.start + 1} is not UTF-8; convert the text, for example with iconv"
            raise InputError(f"stdin, line {number}: {fault}") from None
        text = text.removeprefix("\ufeff") if number == 1 else text
        yield text.removesuffix("\n").removesuffix("\r")


def prompted_lines() -> Iterator[list[str]]:
    """Prompt for one text after the other, until Ctrl-D."""
    print("type a text and press Enter; Ctrl-D ends\n> ", end="", file=sys.stderr, flush=True)
    for line in stdin_lines():
        yield [line]
        print("> ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def waiting_lines() -> Iterator[list[str]]:
    """Yield the lines that wait: at least one, so that a slow writer gets an answer at once, at most AT_ONCE.

    A thread reads them, some ahead. Its error is raised here, after the lines before it have been answered.
    """
    queue: Queue[str | Exception | None] = Queue(AHEAD)

    def read() -> None:
        """Put each line in the queue, then None or the error."""
        try:
            for line in stdin_lines():
                queue.put(line)
            queue.put(None)
        except Exception as error:
            queue.put(error)

    Thread(target=read, daemon=True).start()
    waiting: list[str] = []
    while isinstance(item := queue.get(), str):
        waiting.append(item)
        if len(waiting) == AT_ONCE or queue.empty():
            yield waiting
            waiting = []
    if waiting:
        yield waiting
    if item is not None:
        raise item
