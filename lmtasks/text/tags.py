"""Tag schemes and the entities that tags mark: BIO, IOB1, BIOES, BMES, BILOU.

Ramshaw and Marcus, "Text Chunking using Transformation-Based Learning" (1995); Tjong Kim Sang and Veenstra,
"Representing Text Chunks" (1999). Ill-formed tags are read as by conlleval, the scorer of CoNLL-2000.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Literal, get_args

from lmtasks.errors import InputError

Scheme = Literal["BIO", "IOB1", "BIOES", "BMES", "BILOU"]
PREFIXES: dict[Scheme, str] = {"BIOES": "BIOES", "BMES": "BMESO", "BILOU": "BILOU"}
SAME = {"M": "I", "L": "E", "U": "S"}  # middle, last and unit are other names for inside, end and single
OUTSIDE = "O"


def split_tag(tag: str) -> tuple[str, str]:
    """Return B-PER as ("B", "PER") and O as ("O", ""); a label may have hyphens or be missing.

    Raises: InputError if the tag begins with none of B, I, O, E, S, M, L, U.
    """
    prefix, _, label = tag.partition("-")
    if len(prefix) != 1 or prefix not in "BIOESMLU" or (prefix == OUTSIDE and label):
        raise InputError(f"tag {tag!r}: expected O, or B-, I-, E-, S-, M-, L- or U- and a label, as in B-PER")
    return prefix, label


def spans(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return the entities of a row as (label, start, stop): the words [start, stop), in their order.

    One rule reads all schemes: a word continues an entity only if its tag is I or E with the same label and the tag
    before is B or I; any other tag but O begins an entity. So ill-formed tags have a meaning too: O I-PER is one
    entity, B-PER I-LOC are two, and an entity without its E ends where the next tag does not continue it.

    Raises: InputError if a tag begins with none of the prefixes.
    Source: conlleval, endOfChunk and startOfChunk.

    >>> spans(["B-PER", "I-PER", "O", "S-LOC"])
    [('PER', 0, 2), ('LOC', 3, 4)]
    """
    found: list[tuple[str, int, int]] = []
    before = (OUTSIDE, "")
    for place, tag in enumerate(tags):
        prefix, label = split_tag(tag)
        prefix = SAME.get(prefix, prefix)
        if prefix in "IE" and before in (("B", label), ("I", label)):
            found[-1] = (label, found[-1][1], place + 1)
        elif prefix != OUTSIDE:
            found.append((label, place, place + 1))
        before = (prefix, label)
    return found


def detect_scheme(rows: Iterable[Sequence[str]]) -> Scheme:
    """Return the scheme of rows of tags.

    M means BMES, L or U BILOU, E or S BIOES. B and I alone are IOB1 if every B follows an entity of the same label and
    some entity begins with I, else BIO.

    Raises: InputError if a tag begins with none of the prefixes, or two schemes are mixed.
    """
    rows = [list(row) for row in rows]
    used = {split_tag(tag)[0] for tag in chain.from_iterable(rows)}
    if used <= set("BIO"):
        return "IOB1" if _is_iob1(rows) else "BIO"
    for scheme, prefixes in PREFIXES.items():
        if used <= set(prefixes):
            return scheme
    raise InputError(f"tags begin with {', '.join(sorted(used))}: no one scheme of {', '.join(get_args(Scheme))} fits")


def as_bio(entities: Iterable[tuple[str, int, int]], length: int) -> list[str]:
    """Return the BIO tags of `length` words with these entities (label, start, stop), which do not overlap.

    >>> as_bio([("PER", 0, 2)], 3)
    ['B-PER', 'I-PER', 'O']
    """
    tags = [OUTSIDE] * length
    for label, start, stop in entities:
        end = f"-{label}" if label else ""
        tags[start:stop] = [f"B{end}"] + [f"I{end}"] * (stop - start - 1)
    return tags


def _is_iob1(rows: Iterable[Sequence[str]]) -> bool:
    """Tell whether B only separates entities of one label, and some entity begins with I."""
    begun_with_inside = False
    for row in rows:
        before = (OUTSIDE, "")
        for tag in row:
            prefix, label = split_tag(tag)
            follows = before in (("B", label), ("I", label))
            if prefix == "B" and not follows:
                return False
            begun_with_inside |= prefix == "I" and not follows
            before = (prefix, label)
    return begun_with_inside
