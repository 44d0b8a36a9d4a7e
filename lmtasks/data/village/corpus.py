"""A small village in English and French, told by a seeded grammar: the embedded data set, made offline.

Written for this project. Each sentence is built in both languages at once, so the French agrees (articles, adjectives,
participles) and reorders (adjectives, clitic pronouns, negation) as a French reader expects.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from lmtasks.data.rows import Rows
from lmtasks.data.village.grammar import Pair
from lmtasks.data.village.narrator import Narrator
from lmtasks.data.village.sentences import tell
from lmtasks.errors import InputError

PATIENCE = 2000
"""So many sentences in a row that were told before mean that the village has nothing more to say."""


@dataclass(frozen=True)
class Village(Rows):
    """Rows of the village corpus.

    A row of `rows("train", ("en", "fr"))` is
    `{"en": "The miller sees a cow.", "fr": "Le meunier voit une vache."}`.

    Example:
        >>> len(list(Village(train=10, validation=2, test=2).rows("train", ("en", "fr"))))
        10
    """

    train: int = 6000
    """Sentences to learn from; a larger number keeps the smaller one's sentences and adds to them."""
    validation: int = 300
    """Sentences that choose the best checkpoint."""
    test: int = 300
    """Sentences for the final score."""
    seed: int = 1
    """Which sentences are told."""

    def path(self, split: str) -> str | None:
        """Return a name for a split that the village has, None for another one."""
        return f"village/{split}" if split in ("train", "validation", "test") else None

    def rows(self, split: str, columns: Sequence[str]) -> Iterator[dict[str, str]]:
        """Yield the rows of a split as {language: text} for the languages in `columns`, "en" and "fr".

        Raises:
            InputError: If the split or a language is unknown, or more sentences are wanted than can be told.
        """
        self._check(split, columns)
        return ({language: getattr(pair, language) for language in columns} for pair in _tell(self)[split])

    def fingerprint(self, split: str) -> str:
        """Return a text that changes when the rows of a split do, for caches.

        Raises:
            InputError: If the split is unknown.
        """
        self._check(split, ())
        told = "\n".join(f"{pair.en}\t{pair.fr}" for pair in _tell(self)[split])
        return f"village/{split} {hashlib.sha256(told.encode()).hexdigest()}"

    def _check(self, split: str, columns: Sequence[str]) -> None:
        if self.path(split) is None:
            raise InputError(f"the village has no split '{split}'; it has train, validation and test")
        for column in columns:
            if column not in ("en", "fr"):
                raise InputError(f"the village has no column '{column}'; it speaks en and fr")


@lru_cache(maxsize=4)
def _tell(village: Village) -> dict[str, tuple[Pair, ...]]:
    """Tell test and validation first, so that train can grow without touching them; no sentence comes twice."""
    told: set[str] = set()
    sizes = {"test": village.test, "validation": village.validation, "train": village.train}
    return {split: tuple(_new(village.seed, split, size, told)) for split, size in sizes.items()}


def _new(seed: int, split: str, size: int, told: set[str]) -> Iterator[Pair]:
    if size < 0:
        raise InputError(f"{split}={size}: the village can tell 0 or more sentences")
    narrator = Narrator(random.Random(f"{seed} {split}"))
    for count in range(size):
        pairs = (tell(narrator) for _ in range(PATIENCE))
        pair = next((pair for pair in pairs if pair.en not in told and pair.fr not in told), None)
        if pair is None:
            raise InputError(f"{split}={size}: the village has only about {count} sentences to tell; ask for fewer")
        told.update((pair.en, pair.fr))
        yield pair
