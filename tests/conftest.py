"""What all tests share: one thread a process, and fixtures; what those are made of stands in `tiny.py`."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lmtasks.training.modules import TranslationModule

# The processes of pytest-xdist share the cores: with more threads each would wait for the others. Libraries read these
# variables when they are loaded, so nothing here imports torch before a fixture does. Subprocesses inherit them.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


@pytest.fixture(autouse=True)
def no_hub_sets_of_other_tests() -> None:
    """Forget the sets of the hub that were read: tests put their own in the hub's place."""
    from lmtasks.data.readers.hub import hub_table

    hub_table.cache_clear()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Return a fresh folder with a tiny parallel corpus."""
    from tiny import write_corpus

    return write_corpus(tmp_path / "corpus")


@pytest.fixture
def no_space() -> Callable[[int], AbstractContextManager[None]]:
    """Return a block in which no file grows beyond so many bytes: a stand-in for a full disk."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)

    return limited


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TranslationModule:
    """Return a module that was trained for a few steps; do not change it."""
    from tiny import fit, write_corpus

    return fit(write_corpus(tmp_path_factory.mktemp("trained"))).eval()
