"""The lines of stdin, one at a time as they come, cut as `data.files.read_lines` cuts those of a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from lmtasks.errors import InputError

STDIN = "-"  # stands for it among names of files


def stdin_lines() -> Iterator[str]:
    r"""Yield the lines of stdin without their ends; only \n ends a line, a \r before it goes too.

    Raises:
        InputError: A line is not UTF-8.
    """
    for number, line in enumerate(sys.stdin.buffer, start=1):  # bytes: text would end a line at a lone \r too
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            fault = f"byte {error.start + 1} is not UTF-8; convert the text, for example with iconv"
            raise InputError(f"stdin, line {number}: {fault}") from None
        text = text.removeprefix("\ufeff") if number == 1 else text
        yield text.removesuffix("\n").removesuffix("\r")
