"""Words: split a raw text into words as the training data do, and join words to a text, with the place of each.

Data sets differ in what a word is: single characters in most Chinese ones, "re-imagining" as one word or three, "'s" as
a word of its own (Penn Treebank, Marcus et al. 1993), "@anna" as one word in tweets. So we learn from the data which
signs belong to words.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

LETTERS = "letters"  # letters and digits make up words; without this sign each character is a word
MIN_COUNT = 5  # words that must show a sign before it is learned
RARE = 5000  # a sign in less than one of so many words is an accident
SINGLE = 0.99  # share of one-character words above which each character is a word
LONGEST_ENDING = 3  # characters, as in "n't"
APOSTROPHES = "'’"
UNSPACED = ("CJK", "IDEOGRAPHIC", "FULLWIDTH", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")

Place = tuple[int, int]
"""Start and stop of the characters of a word in a text."""


def learn_writing(rows: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Return the signs of how words are written: none if each character is a word, else LETTERS and

    - signs between two letters or digits of a word, "-" in "re-imagining"
    - signs that begin a word, "@letters" for "@anna", if more words begin with it than consist of it
    - endings that are words of their own, "'s", which a text has without a space before them

    >>> learn_writing([["the", "re-imagining", "of", "Anna", "'s", "dog", "@home"]] * 5)
    ("'s", '-', '@letters', 'letters')
    """
    words = Counter(word for row in rows for word in row)
    single = sum(count for word, count in words.items() if len(word) == 1)
    if single >= SINGLE * words.total():
        return ()
    found: Counter[str] = Counter()
    for word, count in words.items():
        shape = _shape(word)
        if shape[-1:] == "w" and len(word) <= LONGEST_ENDING and any(sign in word for sign in APOSTROPHES):
            found[word.lower()] += count
            continue
        inside = {word[match.start() + 1] for match in re.finditer(r"(?=w[^w c]w)", shape)}  # signs may overlap: a-b-c
        found.update(dict.fromkeys(inside, count))
        if re.match(r"[^w c]w", shape):
            found[word[0] + LETTERS] += count
    enough = max(MIN_COUNT, words.total() // RARE)
    often = {item for item, count in found.items() if count >= enough}
    alone = {item for item in often if item.endswith(LETTERS) and found[item] <= words[item[0]]}
    return tuple(sorted({LETTERS, *often} - alone))


def split_words(text: str, writing: Sequence[str]) -> list[Place]:
    """Return the places of the words of a raw text, by the signs of `learn_writing`.

    >>> text = "Anna's re-imagining, 1980!"
    >>> [text[slice(*place)] for place in split_words(text, ("'s", "-", "letters"))]
    ['Anna', "'s", 're-imagining', ',', '1980', '!']
    """
    shape = _shape(text)
    if LETTERS not in writing:
        return [(at, at + 1) for at, kind in enumerate(shape) if kind != " "]
    endings = [item for item in writing if len(item) > 1 and not item.endswith(LETTERS)]
    inside = {item for item in writing if len(item) == 1} | {*APOSTROPHES}.intersection("".join(endings))
    first = [item[0] for item in writing if item.endswith(LETTERS) and item != LETTERS]
    run = rf"{_one_of(first)}?w+(?:{_one_of(inside)}w+)*|[^ ]"
    return [place for match in re.finditer(run, shape) for place in _without_ending(text, *match.span(), endings)]


def whole_words(text: str, start: int, stop: int) -> Place:
    """Return a place of a text, widened to the words that it begins and ends in.

    >>> whole_words("The adopted law", 5, 8)
    (4, 11)
    """
    while start > 0 and _kind(text[start - 1]) == _kind(text[start]) == "w":
        start -= 1
    while stop < len(text) and _kind(text[stop - 1]) == _kind(text[stop]) == "w":
        stop += 1
    return start, stop


def join_words(words: Sequence[str], writing: Sequence[str]) -> tuple[str, list[Place]]:
    """Return words as one text and the place of each, with spaces between, but not in scripts without spaces.

    >>> join_words(["Anna", "lives"], ("letters",))
    ('Anna lives', [(0, 4), (5, 10)])
    """
    parts: list[str] = []
    places: list[Place] = []
    length, before = 0, " "
    for word in words:
        gap = " " if parts and LETTERS in writing and not _kind(before) == _kind(word[:1]) == "c" else ""
        parts += [gap, word]
        places.append((length + len(gap), length + len(gap) + len(word)))
        length, before = places[-1][1], word[-1:] or before
    return "".join(parts), places


def _without_ending(text: str, start: int, stop: int, endings: Sequence[str]) -> list[Place]:
    """Return the places of a word and of an ending that is a word of its own."""
    word = text[start:stop].lower()
    for ending in endings:
        if word.endswith(ending) and len(word) > len(ending):
            return [(start, stop - len(ending)), (stop - len(ending), stop)]
    return [(start, stop)]


def _one_of(signs: Iterable[str]) -> str:
    """Return a regular expression that matches any of the signs in a shape."""
    return f"(?:{'|'.join(map(re.escape, sorted(signs))) or '(?!)'})"


def _shape(text: str) -> str:
    """Return the kind of each character: "Anna's" is "wwww'w"."""
    return "".join(map(_kind, text))


@lru_cache(maxsize=10_000)  # looking up a name is slow, and texts repeat few characters
def _kind(character: str) -> str:
    """Return "w" for a letter or digit, "c" for a character of a script without spaces, " ", or the sign itself."""
    if not character or character.isspace():
        return " "
    if unicodedata.name(character, "").startswith(UNSPACED):
        return "c"
    return "w" if unicodedata.category(character)[0] in "LMN" else character
