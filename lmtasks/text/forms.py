"""Forms of one value: a list that is written as a text, and labels that differ only in case, blanks or Unicode form."""

from __future__ import annotations

import ast
import json
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

ITEM = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|-?[0-9][0-9.]*"""  # of a list in Python or JSON
LIST = re.compile(rf"\s*\[\s*(?:(?:{ITEM})(?:\s*,\s*(?:{ITEM}))*)?\s*\]\s*", re.DOTALL)


def listed_texts(value: Any) -> Any:
    """Return a list of texts that is written as one text, as pandas writes it to CSV; anything else is left as it is.

    >>> listed_texts("['Anna', 'Bell']"), listed_texts('["07", 7]'), listed_texts("[sic]")
    (['Anna', 'Bell'], ['07', '7'], '[sic]')
    """
    if not isinstance(value, str) or not LIST.fullmatch(value):
        return value
    try:
        return list(map(str, json.loads(value, parse_float=str, parse_int=str)))
    except ValueError:
        items = re.findall(ITEM, value)
        return [str(ast.literal_eval(item)) if item[0] in "'\"" else item for item in items]


def alike(labels: Iterable[str]) -> list[list[str]]:
    """Return the groups of labels that differ only in case, blanks, hyphens or Unicode form, or mean the same number.

    >>> alike(["entity", "Entity", "no_one", "No one", "1", "true", "1.0", "-1"])
    [['entity', 'Entity'], ['no_one', 'No one'], ['1', 'true', '1.0']]
    """
    groups: dict[str, list[str]] = {}
    for label in labels:
        text = re.sub(r"(?<=\w)[\s_-]+(?=\w)", " ", unicodedata.normalize("NFKC", label).casefold().strip())
        text = {"true": "1", "false": "0"}.get(text, text)
        if re.fullmatch(r"[+-]?[0-9]{1,15}(\.[0-9]*)?", text):
            text = str(float(text))
        groups.setdefault(text, []).append(label)
    return [group for group in groups.values() if len(group) > 1]
