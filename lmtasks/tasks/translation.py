"""Translation: a sentence in one language in, the same in another out.

A model of several target languages gets a tag in front of the source, <2de>, which tells it the one to write, as in
Johnson et al. 2017, section 3.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lmtasks import metrics
from lmtasks.errors import InputError
from lmtasks.tasks.base import Prediction, Row, text_of
from lmtasks.tasks.seq2seq import Pair, Seq2SeqTask

LANGUAGE = r"[A-Za-z_]+(?:-[A-Z]\w+)?"  # zh, or zh-Hans
DIRECTION = re.compile(rf"({LANGUAGE})-({LANGUAGE})")  # zh-Hans-en is zh-Hans to en: only a script has a capital


@dataclass(frozen=True)
class TranslationTask(Seq2SeqTask):
    """Translate in one direction or several.

    Before: `{"en": "A dog runs.", "de": "Ein Hund läuft."}`.
    After, where each word is one token: source `A dog runs . </s>`, target `Ein Hund läuft . </s>`.

    Example:
        >>> TranslationTask(("en-de", "en-fr")).choose(source=None, target="fr")
        ('en', 'en-fr')
    """

    kind = "translation"
    main_metric = "bleu"

    directions: tuple[str, ...] = ("en-de",)
    """Source and target language codes with a hyphen between: en-de, zh-en."""

    def __post_init__(self) -> None:
        if isinstance(self.directions, str):
            raise InputError(f"directions {self.directions!r} is a text; give a list, such as ['{self.directions}']")
        object.__setattr__(self, "directions", tuple(self.directions))  # a list from YAML: the task must hash
        for direction in self.directions:
            if not DIRECTION.fullmatch(direction):
                raise InputError(f"direction {direction!r}: write source and target language with a hyphen: en-de")

    @property
    def columns(self) -> tuple[str, ...]:
        """All languages."""
        return tuple(dict.fromkeys(language for each in self.directions for language in split_direction(each)))

    @property
    def source_columns(self) -> tuple[str, ...]:
        """The languages that the task reads."""
        return tuple(dict.fromkeys(split_direction(direction)[0] for direction in self.directions))

    @property
    def targets(self) -> tuple[str, ...]:
        """The languages that the task writes."""
        return tuple(dict.fromkeys(split_direction(direction)[1] for direction in self.directions))

    @property
    def languages(self) -> tuple[str, ...]:
        """The target languages, where there are several to choose from."""
        return self.targets if len(self.targets) > 1 else ()

    @property
    def example_command(self) -> str:
        """A sentence, and the languages where they must be chosen."""
        source, target = split_direction(self.directions[0])
        from_one = f" --source {source}" if len(self.source_columns) > 1 else ""
        return f'"A sentence."{from_one}' + (f" --target {target}" if self.languages else "")

    @property
    def examples_per_row(self) -> int:
        """One for each direction."""
        return len(self.directions)

    def texts(self, row: Row) -> Iterator[str]:
        """Yield the text of each language once, however many directions use it."""
        return (row[language] for language in self.columns if row.get(language))  # not by pairs: they repeat texts

    def pairs(self, row: Row) -> Iterator[Pair]:
        """Yield source and target of each direction that has a source."""
        for direction in self.directions:
            source, target = split_direction(direction)
            if (text := text_of(row, source)).strip():
                yield Pair((text,), text_of(row, target), (), direction, target, source)

    def choose(self, source: str | None, target: str | None) -> tuple[str, str | None]:
        """Return (source language, direction) of the one direction with these languages; None stands for any.

        Raises: InputError if no direction fits, or several.
        """
        pairs = map(split_direction, self.directions)
        wanted = [(own, other) for own, other in pairs if source in (None, own) and target in (None, other)]
        if len(wanted) != 1:
            problem = "must be told how to translate" if wanted else "cannot translate"
            asked = (f" from {source}" if source else "") + (f" to {target}" if target else "")
            raise InputError(
                f"the model {problem}{asked}; it knows {', '.join(self.directions)}: choose source "
                "and target (--source, --target, in Python source=, target=)"
            )
        return wanted[0][0], "-".join(wanted[0])

    def score(self, predictions: Sequence[Prediction], nll: float, count: int) -> dict[str, float]:
        """Return perplexity, BLEU and chrF: means over directions, and those of each where there are several."""
        directions = dict.fromkeys(row.group for row in predictions)
        each = {own: _scored(own, [row for row in predictions if row.group == own]) for own in directions}
        scores = {"perplexity": metrics.perplexity(nll, count)}
        for metric in ("bleu", "chrf"):
            values = [found[metric].values[metric] for found in each.values()]
            scores[metric] = sum(values) / len(values) if values else math.nan  # no rows: no score, and no 0
            if len(values) > 1:
                scores |= {f"{metric}_{own}": value for own, value in zip(each, values, strict=True)}
        return scores

    def signatures(self) -> dict[str, str]:
        """Return sacrebleu's signatures under the names of `score`, of each direction where there are several."""
        signatures = {}
        for metric in ("bleu", "chrf"):
            for direction in self.directions:
                name = f"{metric}_{direction}" if len(self.directions) > 1 else metric
                # a signature contains the number of references: one
                signatures[name] = _scored(direction, [Prediction("", "a")])[metric].signature
        return signatures


def split_direction(direction: str) -> tuple[str, str]:
    """Return source and target language of a direction.

    >>> split_direction("en-de")
    ('en', 'de')
    """
    match = DIRECTION.fullmatch(direction)
    assert match is not None, direction
    return match[1], match[2]


def _scored(direction: str, rows: Sequence[Prediction]) -> dict[str, metrics.Score]:
    hypotheses, references = [row.prediction for row in rows], [[row.reference] for row in rows]
    bleu = metrics.bleu(hypotheses, references, language=split_direction(direction)[1])
    return {"bleu": bleu, "chrf": metrics.chrf(hypotheses, references)}
