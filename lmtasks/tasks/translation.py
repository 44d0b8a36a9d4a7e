"""Translation: a sentence in one language in, the same in another out.

A row {"en": "A dog runs.", "de": "Ein Hund läuft."} gives, in the direction en-de, the source ids of "A dog runs."
and the target ids of "Ein Hund läuft.", each with the end token. A model of several target languages is told which by
a tag in front of the source, <2de>, as in Johnson et al. 2017, section 3.
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
DIRECTION = re.compile(rf"(?P<source>{LANGUAGE})-(?P<target>{LANGUAGE})")


@dataclass(frozen=True)
class TranslationTask(Seq2SeqTask):
    """Translate in one direction or several.

    Before: `{"en": "A dog runs.", "de": "Ein Hund läuft."}`.
    After, where each word is one token: source `A dog runs . </s>`, target `Ein Hund läuft . </s>`.

    Example:
        >>> TranslationTask(("en-de", "en-fr")).direction(source=None, target="fr")
        'en-fr'
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
                raise InputError(
                    f"direction {direction!r}: write source and target language with a hyphen, such as en-de"
                )

    @property
    def columns(self) -> tuple[str, ...]:
        """All languages."""
        return tuple(dict.fromkeys(language for each in self.directions for language in split_direction(each)))

    @property
    def source_columns(self) -> tuple[str, ...]:
        """Languages that the task reads."""
        return tuple(dict.fromkeys(split_direction(direction)[0] for direction in self.directions))

    @property
    def targets(self) -> tuple[str, ...]:
        """Languages that the task writes."""
        return tuple(dict.fromkeys(split_direction(direction)[1] for direction in self.directions))

    @property
    def languages(self) -> tuple[str, ...]:
        """Target languages, where there are several to choose from."""
        return self.targets if len(self.targets) > 1 else ()

    @property
    def example_command(self) -> str:
        """A sentence, with the languages where they must be chosen."""
        source, target = split_direction(self.directions[0])
        from_one = f" --source {source}" if len(self.source_columns) > 1 else ""
        return f'"A sentence."{from_one}' + (f" --target {target}" if self.languages else "")

    @property
    def examples_per_row(self) -> int:
        """One for each direction."""
        return len(self.directions)

    def texts(self, row: Row) -> Iterator[str]:
        """Yield the text of each language once."""
        return (row[language] for language in self.columns if row.get(language))

    def pairs(self, row: Row) -> Iterator[Pair]:
        """Yield source and target of each direction that has a source."""
        for direction in self.directions:
            source, target = split_direction(direction)
            if (text := text_of(row, source)).strip():
                language = target if self.languages else None
                yield Pair((text,), text_of(row, target), group=direction, language=language)

    def choose(self, source: str | None, target: str | None) -> tuple[str, str | None]:
        """Return (source language, direction); see `direction`."""
        direction = self.direction(source, target)
        return split_direction(direction)[0], direction

    def direction(self, source: str | None, target: str | None) -> str:
        """Return the direction that a user means who names source, target or neither.

        Raises: InputError where that leaves none or several.
        """
        wanted = []
        for direction in self.directions:
            own_source, own_target = split_direction(direction)
            if source in (None, own_source) and target in (None, own_target):
                wanted.append(direction)
        if len(wanted) != 1:
            problem = "cannot translate" if not wanted else "must be told how to translate"
            asked = (f" from {source}" if source else "") + (f" to {target}" if target else "")
            raise InputError(
                f"the model {problem}{asked}; it knows {', '.join(self.directions)}: choose source "
                "and target (--source, --target, in Python source=, target=)"
            )
        return wanted[0]

    def score(self, predictions: Sequence[Prediction], nll: float, count: int) -> dict[str, float]:
        """Return perplexity, BLEU and chrF: means over directions, and those of each where there are several."""
        groups: dict[str, list[Prediction]] = {}
        for prediction in predictions:
            groups.setdefault(prediction.group, []).append(prediction)
        each = {direction: _scored(direction, rows) for direction, rows in groups.items()}
        scores = {"perplexity": metrics.perplexity(nll, count)}
        for metric in ("bleu", "chrf"):
            values = {direction: found[metric].values[metric] for direction, found in each.items()}
            scores[metric] = sum(values.values()) / len(values) if values else math.nan
            if len(values) > 1:
                scores |= {f"{metric}_{direction}": value for direction, value in values.items()}
        return scores

    def signatures(self) -> dict[str, str]:
        """Return sacrebleu's signatures under the names of `score`, of each direction where there are several."""
        signatures = {}
        example = [Prediction("", "a")]  # the signature contains the number of references
        for metric in ("bleu", "chrf"):
            for direction in self.directions:
                name = f"{metric}_{direction}" if len(self.directions) > 1 else metric
                signatures[name] = _scored(direction, example)[metric].signature
        return signatures


def split_direction(direction: str) -> tuple[str, str]:
    """Return source and target language of a direction.

    Example:
        >>> split_direction("en-de")
        ('en', 'de')
    """
    match = DIRECTION.fullmatch(direction)
    assert match is not None, direction
    return match["source"], match["target"]


def _scored(direction: str, rows: Sequence[Prediction]) -> dict[str, metrics.Score]:
    hypotheses, references = [row.prediction for row in rows], [[row.reference] for row in rows]
    bleu = metrics.bleu(hypotheses, references, language=split_direction(direction)[1])
    return {"bleu": bleu, "chrf": metrics.chrf(hypotheses, references)}
