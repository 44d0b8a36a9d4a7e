"""Translation: a sentence in one language in, the same in another out.

A row {"en": "A dog runs.", "de": "Ein Hund läuft."} gives, in the direction en-de, the source ids of "A dog runs."
and the target ids of "Ein Hund läuft.", each with the end token. A model of several target languages is told which by
a tag in front of the source, <2de>, as in Johnson et al. 2017, section 3.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lmtasks import metrics
from lmtasks.errors import InputError
from lmtasks.heads.seq2seq import Seq2SeqHead
from lmtasks.tasks.base import Example, Prediction, Row, Task, text_of
from lmtasks.text.tokenizer import Tokenizer

DIRECTION = re.compile(r"(?P<source>[A-Za-z_]+(?:-[A-Z]\w+)?)-(?P<target>[A-Za-z_]+(?:-[A-Z]\w+)?)")

SCORERS: dict[str, Callable[[list[str], list[list[str]], str], metrics.Score]] = {
    "bleu": lambda texts, references, direction: metrics.bleu(texts, references, split_direction(direction)[1]),
    "chrf": lambda texts, references, direction: metrics.chrf(texts, references),
}
"""Metric -> the scorer of a direction."""


@dataclass(frozen=True)
class TranslationTask(Task):
    """Translate in one direction or several.

    Example:
        >>> TranslationTask(("en-de", "en-fr")).direction(source=None, target="fr")
        'en-fr'
    """

    directions: tuple[str, ...] = ("en-de",)
    """Source and target language codes with a hyphen between: en-de, zh-en."""
    label_smoothing: float = 0.1
    """Share of the target's probability spread over the vocabulary (Szegedy et al. 2016, section 7)."""

    def __post_init__(self) -> None:
        if isinstance(self.directions, str):
            raise InputError(f"directions {self.directions!r} is a text; give a list, such as ['{self.directions}']")
        object.__setattr__(self, "directions", tuple(self.directions))
        for direction in self.directions:
            if not DIRECTION.fullmatch(direction):
                raise InputError(
                    f"direction {direction!r}: write source and target language with a hyphen, such as en-de"
                )

    @property
    def kind(self) -> str:
        return "translation"

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(
            dict.fromkeys(language for direction in self.directions for language in split_direction(direction))
        )

    @property
    def source_columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(split_direction(direction)[0] for direction in self.directions))

    @property
    def targets(self) -> tuple[str, ...]:
        """Languages that the task writes."""
        return tuple(dict.fromkeys(split_direction(direction)[1] for direction in self.directions))

    @property
    def languages(self) -> tuple[str, ...]:
        return self.targets if len(self.targets) > 1 else ()

    @property
    def example_command(self) -> str:
        source, target = split_direction(self.directions[0])
        from_one = f" --source {source}" if len(self.source_columns) > 1 else ""
        return f'"A sentence."{from_one}' + (f" --target {target}" if self.languages else "")

    @property
    def examples_per_row(self) -> int:
        return len(self.directions)

    @property
    def main_metric(self) -> str:
        return "bleu"

    def texts(self, row: Row) -> Iterator[str]:
        return (row[language] for language in self.columns if row.get(language))

    def examples(self, rows: Sequence[Row], tokenizer: Tokenizer) -> list[Example]:
        """Give an example for each row and direction that has a source; a missing target is left empty."""
        pairs = [(direction, *split_direction(direction)) for direction in self.directions]
        chosen = [
            (number, direction, text, text_of(row, target))
            for number, row in enumerate(rows)
            for direction, source, target in pairs
            if (text := text_of(row, source)).strip()
        ]
        sources = tokenizer.encode_batch([text for _, _, text, _ in chosen])
        targets = tokenizer.encode_batch([reference for _, _, _, reference in chosen])
        return [
            Example(
                source=[*self.tag(direction, tokenizer), *source, tokenizer.eos_id],
                target=[*target, tokenizer.eos_id] if reference.strip() else [],
                text=text,
                reference=reference,
                group=direction,
                row=number,
            )
            for (number, direction, text, reference), source, target in zip(chosen, sources, targets, strict=True)
        ]

    def tag(self, direction: str, tokenizer: Tokenizer) -> list[int]:
        """Return the token that names the wanted language, none where there is no choice."""
        return [tokenizer.tag(split_direction(direction)[1])] if self.languages else []

    def choose(self, source: str | None, target: str | None) -> tuple[str, str | None]:
        """Return (source language, direction); see `direction`."""
        direction = self.direction(source, target)
        return split_direction(direction)[0], direction

    def direction(self, source: str | None, target: str | None) -> str:
        """Return the direction that a user means who names source, target or neither.

        Raises: InputError where that leaves none or several.
        """
        wanted = [
            d
            for d in self.directions
            if source in (None, split_direction(d)[0]) and target in (None, split_direction(d)[1])
        ]
        if len(wanted) != 1:
            problem = "cannot translate" if not wanted else "must be told how to translate"
            asked = (f" from {source}" if source else "") + (f" to {target}" if target else "")
            raise InputError(
                f"the model {problem}{asked}; it knows {', '.join(self.directions)}: choose source "
                "and target (--source, --target, in Python source=, target=)"
            )
        return wanted[0]

    def head(self, tokenizer: Tokenizer, d_model: int) -> Seq2SeqHead:
        return Seq2SeqHead(tokenizer.bos_id, tokenizer.eos_id, tokenizer.suppress_tokens, self.label_smoothing)

    def score(self, samples: Sequence[Prediction], nll: float, count: int) -> dict[str, float]:
        """Return perplexity, BLEU and chrF, the mean over directions, and those of each where there are several."""
        scores = {"perplexity": metrics.perplexity(nll, count)}
        for metric, scorer in SCORERS.items():
            each = {}
            for direction in dict.fromkeys(sample.group for sample in samples):
                rows = [sample for sample in samples if sample.group == direction]
                texts, references = [sample.prediction for sample in rows], [[sample.reference] for sample in rows]
                each[direction] = scorer(texts, references, direction).values[metric]
            scores[metric] = sum(each.values()) / len(each) if each else math.nan
            if len(each) > 1:
                scores |= {f"{metric}_{direction}": value for direction, value in each.items()}
        return scores

    def signatures(self) -> dict[str, str]:
        """Return sacrebleu's signatures under the names of `score`, of each direction where there are several."""
        signatures = {}
        for metric, scorer in SCORERS.items():
            for direction in self.directions:
                signature = scorer(["a"], [["a"]], direction).signature  # it tells the number of references
                signatures[f"{metric}_{direction}" if len(self.directions) > 1 else metric] = signature
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
