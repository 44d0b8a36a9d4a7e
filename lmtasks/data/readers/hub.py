"""Sets of the Hugging Face hub: which text is the id of one, its rows, and the names of its labels.

The hub is asked for a sign of life first. Without network `datasets` tries for half a minute, with a warning each
time; here it looks into its cache at once, and the error says that the hub cannot be reached, not that a name is wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from lmtasks.errors import InputError

HUB_ID = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(:(?P<config>[^/\[\]]+))?(\[(?P<split>.+)\])?")
ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt", ".gz")
PATIENCE = 10  # seconds that the hub has to answer


def is_hub_id(path: str) -> bool:
    """Tell whether `path` means a set on the hub: like `owner/name`, no file's ending, no folder `owner` here."""
    shaped = HUB_ID.fullmatch(path) is not None and not path.lower().endswith(ENDINGS)
    return shaped and not Path(path.split("/")[0]).is_dir()


@lru_cache(maxsize=16)  # one is read several times: for faults, labels, pieces and ids
def hub_table(path: str, split: str) -> Any:
    """Return a split of a hub set, a `datasets.Dataset`.

    Raises:
        InputError: If the hub has no such set or split, or it cannot be reached and the set is not in the cache.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    name, config, own_split = cast(re.Match[str], HUB_ID.fullmatch(path)).group("name", "config", "split")
    silence = _silence()
    forms = "write owner/name, owner/name:config or owner/name[split]"
    try:
        with _offline(bool(silence)):
            return load_dataset(name, config, split=own_split or split)
    except ConnectionError as error:
        fault = f"the Hugging Face hub cannot be reached ({silence or one_line(error)})"
        hint = "and its cache lacks the set; check the network and the proxy, or give a file"
        raise InputError(f"{path}: no such file here, {fault}, {hint}") from error
    except DatasetNotFoundError as error:
        fault = f"and the hub has no such set or does not show it without `hf auth login` ({one_line(error)})"
        raise InputError(f"{path}: no such file here, {fault}; {forms}") from error
    except Exception as error:  # what the hub raises has no common base
        fault = f"and the hub gave no split '{own_split or split}' of it ({one_line(error)})"
        raise InputError(f"{path}: no such file here, {fault}; {forms}") from error


def named_labels(rows: Iterable[dict[str, Any]], features: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield rows with the numbers of labels replaced by their names, None where a row has no label.

    Args:
        rows: Of a hub set, or of a file that `datasets` wrote.
        features: Their columns in the form of `datasets.Features.to_dict()`.
    """
    labels = {name: feature for name, feature in features.items() if '"ClassLabel"' in json.dumps(feature)}
    for row in rows:
        yield row | {name: _with_names(row[name], labels[name]) for name in labels if name in row}


def one_line(error: BaseException) -> str:
    """Return the message of an error on one line, its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def _silence() -> str:
    """Return why the hub does not answer, "" if it does."""
    from datasets import config
    from huggingface_hub.utils import get_session

    if config.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(config.HF_ENDPOINT, timeout=PATIENCE)
    except Exception as error:  # of requests or of httpx: whichever this version of the client is built upon
        return one_line(error)
    return ""


@contextmanager
def _offline(wanted: bool) -> Iterator[None]:
    from datasets import config

    before = config.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = wanted or before
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE = before


def _with_names(value: Any, feature: Any) -> Any:
    match value, feature:
        case int(), {"_type": "ClassLabel", "names": names}:
            return names[value] if 0 <= value < len(names) else None
        case list(), {"_type": _, "feature": inner} | [inner]:
            return [_with_names(item, inner) for item in value]
        case dict(), {"_type": _, "feature": dict(inner)}:  # a list of objects that was turned into an object of lists
            return {key: [_with_names(item, inner.get(key)) for item in items] for key, items in value.items()}
        case dict(), dict():
            return {key: _with_names(item, feature.get(key)) for key, item in value.items()}
    return value
