"""The examples in docstrings run as they are written."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import lmtasks

PACKAGE = Path(lmtasks.__file__).parent
WITH_EXAMPLES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of(name):
    result = doctest.testmod(import_module(name), globs=None, optionflags=doctest.ELLIPSIS)
    assert result.attempted
    assert not result.failed
