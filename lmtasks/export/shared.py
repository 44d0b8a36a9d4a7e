"""Shared: what copies of a module have in common."""

from __future__ import annotations

from typing import Any


class Shared:
    """A session of an engine, which cannot be copied; a predictor is a copy of a model, and uses the same."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def __deepcopy__(self, memo: dict[int, Any]) -> Shared:
        return self
