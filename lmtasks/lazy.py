"""Load the names of a package when they are first used (PEP 562), so that importing the package takes no time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def exports(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package.

    homes: exported name -> the file of the package that defines it.
    """
    names = vars(sys.modules[package])

    def load(name: str) -> object:
        """Import an exported name and keep it, so that Python asks once."""
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        names[name] = value = getattr(import_module(f"{package}.{homes[name]}"), name)
        return value

    def listed() -> list[str]:
        """List what the package exports, for completion."""
        return sorted(homes)

    return load, listed
