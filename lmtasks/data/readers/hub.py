"""Data sets of the Hugging Face hub: their rows, and the names of their labels.

Without network `datasets` would retry for half a minute, with a warning each time. Here it reads its cache at once, and
the error says that the hub cannot be reached, not that the name is wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, cast

from lmtasks.data.readers.formats import HUB_ID
from lmtasks.errors import InputError, one_line
from lmtasks.hub import why_no_answer


@lru_cache(maxsize=16)  # a set is read several times: for the checks, the labels, the tokenizer and the ids
def hub_table(path: str, split: str) -> Any:
    """Return a split of a hub set as a `datasets.Dataset`; a split in the path, `owner/name[dev]`, replaces `split`.

    Raises: InputError if the hub has no such set or split, or cannot be reached while the set is not in the cache.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    name, config, own_split = cast(re.Match[str], HUB_ID.fullmatch(path)).group("name", "config", "split")
    reason = why_no_answer()
    forms = "write owner/name, owner/name:config or owner/name[split]"
    try:
        with _offline(bool(reason)):
            return load_dataset(name, config, split=own_split or split)
    except Exception as error:  # the errors of the hub have no common base
        told = one_line(error)
        fault = f"and the hub gave no split '{own_split or split}' of it ({told}); {forms}"
        if isinstance(error, ConnectionError):
            hint = "check the network and the proxy, or give a file"
            fault = f"the Hugging Face hub cannot be reached ({reason or told}), and its cache lacks the set; {hint}"
        elif isinstance(error, DatasetNotFoundError):
            fault = f"and the hub has no such set or does not show it without `hf auth login` ({told}); {forms}"
        raise InputError(f"{path}: no such file here, {fault}") from error


def named_labels(rows: Iterable[dict[str, Any]], features: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield rows of a hub set or of a file that `datasets` wrote, with label names for numbers, and None for -1.

    `features` are their columns, as `datasets.Features.to_dict()` describes them.
    """
    labels = {name: feature for name, feature in features.items() if '"ClassLabel"' in json.dumps(feature)}
    for row in rows:
        yield row | {name: _with_names(row[name], labels[name]) for name in labels if name in row}


@contextmanager
def _offline(wanted: bool) -> Iterator[None]:
    """Let `datasets` read only its cache, if that is wanted."""
    from datasets import config

    before = config.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = wanted or before
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE = before


def _with_names(value: Any, feature: Any) -> Any:
    """Return a value with label names, by the shapes that a feature can have."""
    match value, feature:
        case int(), {"_type": "ClassLabel", "names": names}:
            return names[value] if 0 <= value < len(names) else None
        case list(), {"_type": _, "feature": inner} | [inner]:
            return [_with_names(item, inner) for item in value]
        case dict(), {"_type": _, "feature": dict(inner)}:  # `datasets` makes lists of objects objects of lists
            return {key: [_with_names(item, inner.get(key)) for item in items] for key, items in value.items()}
        case dict(), dict():
            return {key: _with_names(item, feature.get(key)) for key, item in value.items()}
    return value
