"""What is known of the training of a model, beside its settings: for its card, and for whoever trains it further.

A module in training keeps its `Story` up to date; checkpoints and metrics.json of a model folder hold it as plain data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from lmtasks.settings import build


@dataclass(frozen=True)
class Portion:
    """The rows of one task in one split."""

    task: str
    """The name of the task."""
    split: str
    """train, validation or test."""
    source: str
    """The file or the set on the hub, as it was given; of an absolute path the name alone."""
    rows: int
    """Rows in it."""
    digest: str
    """The first twelve digits of the SHA-256 of its files, or of what tells the version of other rows."""
    hub: bool = False
    """Whether it is a set on the Hugging Face hub."""
    size: int = 0
    """Bytes of its files; 0 = it has none here."""


@dataclass(frozen=True)
class Story:
    """How a model came to be; what is empty or 0 is not known."""

    data: tuple[Portion, ...] = ()
    """The rows that it learned from and was scored on."""
    base: str = ""
    """The model that it began with; of one on the hub `OWNER/NAME@COMMIT`."""
    base_steps: int = 0
    """Steps that the model which it began with had been trained for here."""
    steps: int = 0
    """Optimiser steps of the whole training."""
    kept_step: int = 0
    """The step whose weights it has."""
    averaged: int = 0
    """The checkpoints whose mean its weights are; 0 = they are those of one step."""
    tokens_per_step: int = 0
    """Padded tokens in a step."""
    max_length: int = 0
    """Tokens of the longest text that it learned from."""
    too_long: str = ""
    """What was done with longer ones: drop or cut."""
    precision: str = ""
    """The trainer's precision."""
    seed: int | None = None
    """The seed of weights and dropout."""
    order_seed: int | None = None
    """The seed of the order of the rows."""
    seconds: float = 0.0
    """How long the training took, with its validations."""
    machine: str = ""
    """What it ran on, in words."""
    memory: int = 0
    """The largest memory of a process, in bytes; on a GPU that of its tensors there."""

    def plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self) | {"data": [asdict(each) for each in self.data]}  # a list, as JSON gives it back

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Story:
        """Return what `plain` gave; what this version does not know is left out.

        Raises: InputError if a value is of another type.
        """
        data = tuple(build(Portion, _known(Portion, each)) for each in plain.get("data", ()))
        return build(cls, _known(cls, plain) | {"data": data})


def _known(kind: type[Portion | Story], plain: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: plain[field.name] for field in fields(kind) if field.name in plain}


def count(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> count(1, "row"), count(2000, "row")
    ('1 row', '2,000 rows')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
