"""Packages whose names are loaded when they are first used (PEP 562), so that importing them takes no time."""

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
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        names[name] = value = getattr(import_module(f"{package}.{homes[name]}"), name)
        return value

    def listed() -> list[str]:
        return sorted({*names, *homes})

    return load, listed
