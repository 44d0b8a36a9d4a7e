"""Fixtures that several files of tests share; what they are made of stands in `tiny.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import fit, write_corpus

from lmtasks.data.readers.hub import hub_table
from lmtasks.training.modules import TranslationModule


@pytest.fixture(autouse=True)
def no_hub_sets_of_other_tests() -> None:
    """Forget the sets of the hub that were read: tests put their own in the hub's place."""
    hub_table.cache_clear()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Return a fresh folder with a tiny parallel corpus."""
    return write_corpus(tmp_path / "corpus")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TranslationModule:
    """Return a module that was trained for a few steps; do not change it."""
    return fit(write_corpus(tmp_path_factory.mktemp("trained"))).eval()
