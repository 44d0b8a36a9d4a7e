"""Where `run` writes: whole lines only, also when it is stopped, its reader goes away or the disk is full."""

from __future__ import annotations

import gzip
import io
import os
import signal
import stat
import sys
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from lmtasks.errors import FULL, InputError


class Sink:
    """A file, gzipped if its name ends in .gz, or stdout. SIGTERM and SIGINT wait for the end of a line, not longer.

    Nothing is buffered: what cannot be written now must not be tried again when the interpreter ends.

    Raises: InputError if the file cannot be opened.
    """

    def __init__(self, path: str | None) -> None:
        self._path, self.name = path, path or "stdout"
        self._opened: Any = None
        self._lines, self._writing, self._signal = 0, False, 0
        self._handlers: dict[int, Any] = {}
        try:
            if path and path.endswith(".gz"):
                self._opened = gzip.GzipFile(path, "wb")
            elif path:
                self._opened = io.FileIO(path, "w")
        except OSError as error:
            raise self._fault(error) from error

    def __enter__(self) -> Self:
        """Take over the signals."""
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            self._handlers = {each: signal.signal(each, self._stop) for each in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Close the file, and say by what the command was stopped."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        try:
            if self._opened:
                self._opened.close()  # a .gz writes its end
        except OSError as fault:
            if error is None:
                raise self._fault(fault) from fault
        if self._signal == signal.SIGTERM:
            print(f"lmtasks: stopped by SIGTERM; {self.name} has {self._lines} whole lines", file=sys.stderr)

    def write(self, text: str) -> None:
        """Write a line, or a piece of one.

        Raises: InputError if it cannot be written; of what a full disk took, whole lines stay.
        """
        self._writing = True
        try:
            if self._opened:
                self._put(self._opened, text.encode())
            else:
                self._put(sys.stdout, text.encode(sys.stdout.encoding, "replace"), text)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise self._fault(error) from error
        finally:
            self._writing = False
        self._lines += text.endswith("\n")
        if self._signal:
            self._leave()

    def _put(self, file: Any, data: bytes, text: str = "") -> None:
        try:
            number = file.fileno()
        except io.UnsupportedOperation:  # a stdout that is none of the system's
            file.write(text)
            return
        if isinstance(file, gzip.GzipFile):
            file.write(data)
            return
        if file is sys.stdout:
            file.flush()
        _write_whole(number, data)

    def _fault(self, error: OSError) -> InputError:
        where = "give another place with --output" if self._path else "send it elsewhere"
        ways = f"free space, or {where}" if error.strerror in FULL else where
        return InputError(f"{self.name}: cannot be written: {error.strerror}; {ways}")

    def _stop(self, number: int, frame: FrameType | None) -> None:
        again, self._signal = bool(self._signal), number
        if again or not self._writing:
            self._leave()

    def _leave(self) -> None:
        if self._signal == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + self._signal)


def _write_whole(number: int, data: bytes) -> None:
    """Write all bytes to a file, or, where the disk is full, of a regular file only the whole lines of them."""
    size = os.fstat(number).st_size
    done = 0
    try:
        while done < len(data):
            done += os.write(number, data[done:])
    except OSError:
        if stat.S_ISREG(os.fstat(number).st_mode) and done:
            os.ftruncate(number, size + data.rfind(b"\n", 0, done) + 1)
        raise
