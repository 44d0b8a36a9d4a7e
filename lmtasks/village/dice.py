"""The dice of the village's narrators, and the slots that they fill.

Written for this project. A narrator throws dice to pick from tables of phrases. `fill` puts the picked phrases into a
template, corrects a to an, sets capitals, and returns the positions of the marked parts.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

T = TypeVar("T")
Mark = tuple[str, int, int]  # name, first character, end

MARKED = re.compile(r"<(\w+):([^<>]*)>")
SENTENCE_START = re.compile(r"(^|[.?!] )((?:<\w+:)?)([a-z])")
A_BEFORE_VOWEL = re.compile(r"\b([Aa])(?= (?:<\w+:)?[aeiou])")


class Dice:
    """Picks at random; uses only `random()`, whose numbers are the same in all versions of Python."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def maybe(self, share: float) -> bool:
        """Return True with this probability."""
        return self.rng.random() < share

    def one(self, choices: Sequence[T]) -> T:
        """Pick one of the choices."""
        return choices[int(self.rng.random() * len(choices))]

    def several(self, choices: Sequence[T], count: int) -> list[T]:
        """Pick `count` different choices."""
        rest = list(choices)
        return [rest.pop(int(self.rng.random() * len(rest))) for _ in range(count)]

    def cast(self, slots: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """Pick for each slot from its table; slots whose tables overlap get different things."""
        picked: dict[str, Any] = {}
        for slot, table in slots.items():
            while (choice := self.one(table)) in picked.values():
                pass
            picked[slot] = choice
        return picked

    def way(self, ways: str) -> str:
        """Pick one of the ways to say it, which are separated by " | "."""
        return self.one(_split(ways))


@lru_cache(maxsize=1024)
def _split(ways: str) -> list[str]:
    return ways.split(" | ")


def fill(template: str, cast: Mapping[str, Any]) -> tuple[str, list[Mark]]:
    """Fill the slots and return the text, and the name, first character and end of each marked part.

    Before: "{h} saw <what:a {thing}>.", {"h": "the miller", "thing": "old hat"}
    After: "The miller saw an old hat.", [("what", 15, 25)]
    """
    text = A_BEFORE_VOWEL.sub(r"\1n", template.format_map(cast))
    text = SENTENCE_START.sub(lambda found: found[1] + found[2] + found[3].upper(), text)
    parts, marks, end, length = [], [], 0, 0
    for found in MARKED.finditer(text):
        parts += [text[end : found.start()], found[2]]
        length += found.start() - end
        marks.append((found[1], length, length + len(found[2])))
        length += len(found[2])
        end = found.end()
    return "".join(parts) + text[end:], marks
