"""Shared: the session of an engine, which copies of a module have in common; and on which device it is opened."""

from __future__ import annotations

import re
from typing import Any

from lmtasks.errors import InputError


class Shared:
    """A session of an engine, which cannot be copied; a predictor is a copy of a model, and uses the same."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def __deepcopy__(self, memo: dict[int, Any]) -> Shared:
        return self


def device_of(name: str) -> tuple[str, int]:
    """Return the kind and the number of a device, "cpu", "cuda" or "cuda:1". Raises: InputError for another name."""
    match = re.fullmatch(r"(cpu|cuda)(?::(\d+))?", name)
    if match is None:
        raise InputError(f"an engine has no device {name!r}; give cpu, cuda or cuda:1")
    return match[1], int(match[2] or 0)
