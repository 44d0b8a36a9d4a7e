"""Translation: a sentence in one language in, the same in another out.

A model of several target languages gets a tag in front of the source, <2de>, which tells it the one to write, as in
Johnson et al. 2017, section 3.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, permutations, product

from lmtasks import metrics
from lmtasks.batch import Example
from lmtasks.errors import InputError, did_you_mean
from lmtasks.metrics.languages import LOOKED_AT, fitting_language
from lmtasks.tasks.base import Prediction, Row, listed, logger, text_of
from lmtasks.tasks.seq2seq import Pair, Seq2SeqTask
from lmtasks.text.base import BaseTokenizer
from lmtasks.text.languages import language_names, languages_meant

LANGUAGE = r"[A-Za-z_]\w*(?:-[A-Z]\w+)?"  # zh, eng_Latn, or zh-Hans
SHOWN = 20  # languages, or directions, in an error
OPTIONS = "--source, --target, in Python source=, target="
DIRECTION = re.compile(rf"({LANGUAGE})-({LANGUAGE})")  # zh-Hans-en is zh-Hans to en: only a script has a capital


@dataclass(frozen=True)
class TranslationTask(Seq2SeqTask):
    """Translate in one direction or several, or between any two of many languages.

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
    between: tuple[str, ...] = ()
    """Languages between any two of which it translates, where `directions` is empty."""

    def __post_init__(self) -> None:
        for name in ("directions", "between"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # a list from YAML: the task must hash
        if not self.directions and len(self.between) < 2:
            raise InputError("there are no directions; give one, such as ['en-de'], or the languages in between")
        for direction in self.directions:
            if not DIRECTION.fullmatch(direction):
                raise InputError(f"direction {direction!r}: write source and target language with a hyphen: en-de")

    @property
    def columns(self) -> tuple[str, ...]:
        """All languages."""
        named = (language for each in self.directions for language in split_direction(each))
        return tuple(dict.fromkeys(named)) or self.between

    @property
    def source_columns(self) -> tuple[str, ...]:
        """The languages that the task reads."""
        return tuple(dict.fromkeys(split_direction(each)[0] for each in self.directions)) or self.between

    @property
    def targets(self) -> tuple[str, ...]:
        """The languages that the task writes."""
        return tuple(dict.fromkeys(split_direction(each)[1] for each in self.directions)) or self.between

    @property
    def languages(self) -> tuple[str, ...]:
        """The target languages, where there are several to choose from."""
        return self.between or (self.targets if len(self.targets) > 1 else ())

    @property
    def example_command(self) -> str:
        """A sentence, and the languages where they must be chosen."""
        source, target = split_direction(self.directions[0]) if self.directions else self.between[:2]
        from_one = f" --source {source}" if len(self.source_columns) > 1 else ""
        return f'"A sentence."{from_one}' + (f" --target {target}" if self.languages else "")

    @property
    def example_call(self) -> str:
        """The method, and the languages where they must be chosen."""
        source, target = split_direction(self.directions[0]) if self.directions else self.between[:2]
        chosen = f', target="{target}"' if self.languages else ""
        return f'translate("A sentence."{chosen}' + (f', source="{source}")' if len(self.source_columns) > 1 else ")")

    @property
    def sentence(self) -> str:
        """The languages by their names."""
        if not self.directions:
            return f"Translates between any two of {len(self.between)} languages: {listed(_named(self.between))}."
        into: dict[str, list[str]] = {}
        for source, target in map(split_direction, self.directions):
            into.setdefault(_named([source])[0], []).extend(_named([target]))
        return "Translates " + listed([f"{source} into {listed(targets)}" for source, targets in into.items()]) + "."

    @property
    def limits(self) -> list[str]:
        """It knows no other languages, and does not say when it is wrong."""
        return [
            "It knows no other languages, and translates them all the same.",
            "It may leave out or invent parts of a text that is unlike those it learned from, and does not say so.",
        ]

    @property
    def written_in(self) -> tuple[str, ...]:
        """All languages."""
        return self.columns

    @property
    def examples_per_row(self) -> int | None:
        """One for each direction."""
        return len(self.directions) or None

    def learn(self, rows: Iterable[Row]) -> TranslationTask:
        """Return the task itself; doubt languages that are not known, or whose texts have another script."""
        first = list(islice(rows, LOOKED_AT))
        for language in self.targets:
            found, doubt = fitting_language(language, (text_of(row, language) for row in first))
            if doubt:
                mapped = f"""call it {found}, and map the column if need be: columns {{"{found}": "{language}"}}"""
                hint = f"; BLEU splits words as in {language!r}: {mapped}" if found != language else ""
                logger.warning("translation: %s%s", doubt, hint)
        return self

    def texts(self, row: Row) -> Iterator[str]:
        """Yield the text of each language once, however many directions use it."""
        texts = (text_of(row, language) for language in self.columns)  # not by pairs: they repeat texts
        return filter(None, texts)

    def pairs(self, row: Row) -> Iterator[Pair]:
        """Yield source and target of each direction that has a source; between any languages it needs both."""
        has = [language for language in self.between if text_of(row, language).strip()]
        for source, target in map(split_direction, self.directions) if self.directions else permutations(has, 2):
            if (text := text_of(row, source)).strip():
                yield Pair((text,), text_of(row, target), (), f"{source}-{target}", target, source)

    def questions(self, rows: Sequence[Row], tokenizer: BaseTokenizer) -> list[Example]:
        """Turn rows into examples to be answered. Raises: InputError if it could be between any languages."""
        if not self.directions:
            raise InputError(
                f"the model translates between any of {_listed(self.between)}; choose source and target ({OPTIONS})"
            )
        return super().questions(rows, tokenizer)

    def narrowed(self, group: str) -> TranslationTask:
        """Return the task of one direction, which marks languages as the whole task does.

        Raises: InputError if the task does not have the direction.
        """
        match = DIRECTION.fullmatch(group)
        if match is None or not self._translates(*match.groups()):
            raise InputError(
                f"the model cannot translate {group!r}; it knows {_listed(self.directions or self.between)}"
            )
        return replace(self, directions=(group,), between=self.languages)

    def choose(self, source: str | None, target: str | None) -> tuple[str, str | None]:
        """Return (source language, direction) for languages given by code or English name; None stands for any.

        Raises: InputError if no direction fits, or several.
        """
        own = self.source_columns if source is None else languages_meant(source, self.source_columns)
        other = self.targets if target is None else languages_meant(target, self.targets)
        wanted = [f"{one}-{two}" for one, two in product(own, other) if self._translates(one, two)]
        if len(wanted) != 1:
            problem = "must be told how to translate" if wanted else "cannot translate"
            asked = (f" from {source}" if source else "") + (f" to {target}" if target else "")
            known = self.directions or (wanted if 0 < len(wanted) <= SHOWN else self.between)
            hint = f"it knows {_listed(known)}: choose source and target ({OPTIONS})"
            for given, codes in ((source, self.source_columns), (target, self.targets)):
                if given is not None and not languages_meant(given, codes):
                    hint = did_you_mean(given, [*codes, *language_names(codes)], hint)
            raise InputError(f"the model {problem}{asked}; {hint}")
        return split_direction(wanted[0])[0], wanted[0]

    def score(self, predictions: Sequence[Prediction], nll: float, count: int) -> dict[str, float]:
        """Return perplexity, BLEU and chrF: means over directions, and those of each where there are several."""
        directions = dict.fromkeys(row.group for row in predictions)
        by_direction = {own: [row for row in predictions if row.group == own] for own in directions}
        each = {own: _scored(split_direction(own)[1], rows) for own, rows in by_direction.items()}
        scores = {"perplexity": metrics.perplexity(nll, count)}
        for metric in ("bleu", "chrf"):
            values = [found[metric].values[metric] for found in each.values()]
            scores[metric] = sum(values) / len(values) if values else math.nan  # no rows: no score, and no 0
            if len(values) > 1:
                scores |= {f"{metric}_{own}": value for own, value in zip(each, values, strict=True)}
        return scores

    def signatures(self) -> dict[str, str]:
        """Return sacrebleu's signatures under the names of `score`, of each direction where there are several.

        Between any languages it is that of the languages for which sacrebleu has no tokeniser of their own.
        """
        written = {f"_{direction}": split_direction(direction)[1] for direction in self.directions}
        if len(written) < 2:
            written = {"": next(iter(written.values()), "")}
        # a signature contains the number of references: one
        scored = {name: _scored(language, [Prediction("", "a")]) for name, language in written.items()}
        return {f"{metric}{name}": scored[name][metric].signature for metric in ("bleu", "chrf") for name in written}

    def _translates(self, source: str, target: str) -> bool:
        if self.directions:
            return f"{source}-{target}" in self.directions
        return source != target and source in self.between and target in self.between


def split_direction(direction: str) -> tuple[str, str]:
    """Return source and target language of a direction.

    >>> split_direction("en-de")
    ('en', 'de')
    """
    match = DIRECTION.fullmatch(direction)
    assert match is not None, direction
    return match[1], match[2]


def _named(codes: Sequence[str]) -> list[str]:
    """Return the English names of languages, or the codes of those that have none."""
    return [(language_names([code]) or [code])[0] for code in codes]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"


def _scored(language: str, rows: Sequence[Prediction]) -> dict[str, metrics.Score]:
    hypotheses, references = [row.prediction for row in rows], [[row.reference] for row in rows]
    bleu = metrics.bleu(hypotheses, references, language=language)
    return {"bleu": bleu, "chrf": metrics.chrf(hypotheses, references)}
