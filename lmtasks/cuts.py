"""Which texts were longer than a model reads: counted while they are answered, and said once, not once for each batch.

What cuts a text calls `note_cut`, which does nothing in training; what answers texts does so inside `counting_cuts`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)


@dataclass
class Cuts:
    """The texts of one call or command so far."""

    texts: int = 0
    """Texts that were answered, those of the present call excepted."""
    cut: int = 0
    """How many of them were cut."""
    first: tuple[int, int, int] | None = None
    """Number of the first that was cut, from 1, its tokens, and how many of them were read."""
    rows: set[int] = field(default_factory=set)
    """Rows of the present call that were cut."""

    def count(self, texts: int) -> None:
        """End a call that answered so many texts."""
        self.texts, self.cut, self.rows = self.texts + texts, self.cut + len(self.rows), set()

    def say(self) -> None:
        """Log a line if a text was cut."""
        if self.first is None:
            return
        number, tokens, read = self.first
        which = "the text" if self.texts < 2 else f"{self.cut} of {self.texts} texts; the first, text {number},"
        logger.warning("too long and cut: %s has %d tokens, of which the model reads %d", which, tokens, read)


_counted: ContextVar[Cuts | None] = ContextVar("cuts", default=None)


@contextmanager
def counting_cuts(said: bool = True) -> Iterator[Cuts]:
    """Count the texts that are cut in this block, and say it at its end; a block inside another one adds to that."""
    if outer := _counted.get():
        yield outer
        return
    cuts = Cuts()
    token = _counted.set(cuts)
    try:
        yield cuts
    finally:
        _counted.reset(token)
        if said:
            cuts.say()


def note_cut(row: int, tokens: int, read: int) -> None:
    """Note that of a row of this call, which has so many tokens, only some are read."""
    cuts = _counted.get()
    if cuts is not None:
        cuts.rows.add(row)
        here = (cuts.texts + row + 1, tokens, read)
        cuts.first = min(cuts.first or here, here)
