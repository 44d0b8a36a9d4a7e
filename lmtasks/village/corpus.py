"""The village, a built-in data set: sentences in two languages, stories, questions, reviews, names, dialogues.

Written for this project; seeded narrators make it offline. Each sentence is built in both languages at once, so the
French has its own agreement (articles, adjectives, participles) and word order (adjectives, clitic pronouns, negation).
The other views are in English.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import islice
from typing import Any

from lmtasks.data.readers.base import Rows
from lmtasks.errors import InputError
from lmtasks.village.dialogues import tell_dialogue
from lmtasks.village.names import tell_names
from lmtasks.village.narrator import Narrator
from lmtasks.village.reviews import tell_review
from lmtasks.village.sentences import tell
from lmtasks.village.stories import tell_story

SPLITS = ("test", "validation", "train")
"""The order in which they are told: train is last, so that it can grow without changing the others."""
PATIENCE = 2000
"""After this many repeated rows in succession the village has nothing new to tell."""


@dataclass(frozen=True)
class View:
    """A kind of row that the village can tell."""

    columns: tuple[str, ...]
    tell: Callable[[Narrator], dict[str, Any]]
    """Returns a new row, which may have more columns."""
    once: tuple[str, ...]
    """Columns whose values are unique over all splits."""
    name: str = ""
    """Seeds the dice; views with the same name and narrator show the same rows."""


def tell_sentence(narrator: Narrator) -> dict[str, Any]:
    """Tell one sentence, as a row {en, fr}."""
    pair = tell(narrator)
    return {"en": pair.en, "fr": pair.fr}


VIEWS = (
    View(("en", "fr"), tell_sentence, ("en", "fr")),
    View(("text",), tell_story, ("text",), "stories"),
    View(("text", "summary"), tell_story, ("text",), "stories"),
    View(("question", "context", "answers", "starts"), tell_story, ("text",), "stories"),
    View(("text", "label"), tell_review, ("text",), "reviews"),
    View(("words", "tags"), tell_names, ("words",), "names"),
    View(("turns",), tell_dialogue, ("turns",), "dialogues"),
)


@dataclass(frozen=True)
class Village(Rows):
    """Rows of the village corpus, in the first view that has the requested columns; each also has its "place".

    Sentences, `("en", "fr")`:
        `{"en": "The miller sees a cow.", "fr": "Le meunier voit une vache."}`
    Stories, `("text",)`, and stories with a summary in one sentence, `("text", "summary")`:
        `{"text": "One cold morning, Emma's goat ran away because the gate was open. Emma looked for it ...", "summary":
        "Emma's goat ran away, and Emma found it behind the mill."}`
    Questions about the same stories, `("question", "context", "answers", "starts")`, or fewer of these columns. About a
    fifth of them has no answer: both lists are empty.
        `{"question": "Why did the goat run away?", "context": "One cold morning, Emma's goat ran away because the gate
        was open. ...", "answers": ["the gate was open"], "starts": [47]}`
    Reviews, `("text", "label")`, the label "positive", "negative" or "neutral":
        `{"text": "We went to the inn. The soup was thick but cold.", "label": "negative"}`
    Sentences with names in BIO form, `("words", "tags")`, of the types PER, LOC, SHOP and ANIMAL:
        `{"words": ["Rose", "slept", "at", "The", "Red", "Cow", "."], "tags": ["B-PER", "O", "O", "B-SHOP", "I-SHOP",
        "I-SHOP", "O"]}`
    Dialogues, `("turns",)`, of 3 to 6 turns:
        `{"turns": ["How much is a loaf?", "A loaf costs two coins.", "Then I take three loaves.", "Three loaves make
        six coins."]}`

    No text is in two splits, and the stories of a split are the same in all views that show them.

    Example:
        >>> village = Village(train=10, validation=2, test=2)
        >>> len(list(village.rows("train", ("en", "fr"))))
        10
        >>> [row["place"] for row in village.rows("test", ("text", "label"))]
        ['village/test, row 1', 'village/test, row 2']
    """

    train: int = 6000
    """Training rows of each view; a larger number keeps the rows of a smaller one and adds to them."""
    validation: int | None = 300
    """Rows that choose the best checkpoint; null for no such split."""
    test: int | None = 300
    """Rows for the final score; null for no such split."""
    seed: int = 1
    """Seed of all rows."""

    def path(self, split: str) -> str | None:
        """Return the name of a split, or None if the village does not have it."""
        return f"village/{split}" if split in SPLITS and getattr(self, split) is not None else None

    def source(self, split: str) -> str:
        """Return what people call it, whatever the split."""
        return "the village, a corpus built into lmtasks"

    def rows(self, split: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the rows of a split in the first view that has all `columns`; a row has these and its "place".

        Raises: InputError if the split is unknown, no view has the columns, or there are not that many rows to tell.
        """
        self._check(split)
        view = _view(columns)
        told = _tell(self, view.tell, view.once, view.name)[split]
        return (_row(row, columns, f"{self.path(split)}, row {number}") for number, row in enumerate(told, 1))

    def fingerprint(self, split: str) -> str:
        """Return a text that changes whenever the rows of a split change in any view; caches compare it.

        It holds what determines them: the numbers of rows, the seed, and a hash of the village's source code.

        Raises: InputError if the split is unknown.
        """
        self._check(split)
        before = SPLITS[: SPLITS.index(split) + 1]  # a split leaves out what the splits before it have told
        return f"village {[(name, getattr(self, name)) for name in before]} seed {self.seed} {_source()}"

    def _check(self, split: str) -> None:
        if self.path(split) is None:
            raise InputError(f"the village has no split '{split}'; it has train, validation and test")


def _view(columns: Sequence[str]) -> View:
    found = next((view for view in VIEWS if set(columns) <= set(view.columns)), None)
    if found is None:
        known = [column for view in VIEWS for column in view.columns]
        unknown = next((f"column '{column}'" for column in columns if column not in known), None)
        shown = "; ".join(", ".join(view.columns) for view in VIEWS)
        raise InputError(f"the village has no {unknown or f'view with the columns {list(columns)}'}; it shows {shown}")
    return found


def _row(row: dict[str, Any], columns: Sequence[str], place: str) -> dict[str, Any]:
    """Copy the requested columns, so that the caller may change them."""
    asked = {column: row[column] for column in columns}
    return {column: list(value) if isinstance(value, list) else value for column, value in asked.items()} | {
        "place": place
    }


@lru_cache(maxsize=8)
def _tell(
    village: Village, tell: Callable[[Narrator], dict[str, Any]], once: tuple[str, ...], name: str
) -> dict[str, list[dict[str, Any]]]:
    """Tell all splits; no row is told twice."""
    told: set[str] = set()
    rows = {}
    for split in SPLITS:
        size = getattr(village, split) or 0
        if size < 0:
            raise InputError(f"{split}={size}: the village can tell 0 or more rows")
        narrator = Narrator(random.Random(f"{village.seed} {split} {name}".rstrip()))
        rows[split] = list(islice(_new(narrator, tell, once, told), size))
        if len(rows[split]) < size:
            count = len(rows[split])
            raise InputError(f"{split}={size}: the village has only about {count} rows to tell; ask for fewer")
    return rows


def _new(
    narrator: Narrator, tell: Callable[[Narrator], dict[str, Any]], once: tuple[str, ...], told: set[str]
) -> Iterator[dict[str, Any]]:
    """Yield rows that were not told before, as long as there are any."""
    in_vain = 0
    while in_vain < PATIENCE:
        row = tell(narrator)
        keys = {str(row[column]) for column in once}
        in_vain += 1
        if told.isdisjoint(keys):
            told |= keys
            in_vain = 0
            yield row


@lru_cache(maxsize=1)
def _source() -> str:
    """Return a hash of the village's source code, its narrators and tables."""
    sources = sorted(
        (file.name, file.read_bytes()) for file in files(__package__).iterdir() if file.name.endswith(".py")
    )
    return hashlib.sha256(b"".join(source for _, source in sources)).hexdigest()
