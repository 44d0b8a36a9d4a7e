"""Stories of the village: a hero, a small problem, an ending, with a summary and questions on what was told.

Written for this project. A story is one of `PLOTS` with persons and things put in. The form of the questions is that
of SQuAD 2.0 (Rajpurkar et al. 2018): an answer is a stretch of the story, and some questions have none, though
something in the story looks like one.
"""

from __future__ import annotations

from typing import Any

from lmtasks.village.cast import MEN, PEOPLE, WOMEN
from lmtasks.village.dice import Dice, fill
from lmtasks.village.more_plots import MORE_PLOTS
from lmtasks.village.plots import PLOTS, Plot

UNANSWERED = 0.2
"""Share of the questions that the story does not answer."""
SHORTEST, LONGEST = 4, 8
"""Sentences of a story."""


def tell_story(dice: Dice) -> dict[str, Any]:
    """Tell one story and ask one question on it, as a row of the columns that the views of the stories have."""
    plot = dice.one((*PLOTS, *MORE_PLOTS))
    cast = dice.cast({**_people(dice), **plot.slots})
    ending = dice.one(plot.endings)
    said: list[str] = []
    while not SHORTEST <= _sentences(said) <= LONGEST:
        said = [way for step in (*plot.steps, *ending.steps) if (way := dice.way(step)) != "-"]
    text, marks = fill(" ".join(said), cast)
    spans = {name: (start, end) for name, start, end in marks}
    question, mark = _ask(dice, plot, set(spans))
    return {
        "text": text,
        "summary": fill(dice.way(ending.summary), cast)[0],
        "question": fill(question, cast)[0],
        "context": text,
        "answers": [text[slice(*spans[mark])]] if mark else [],
        "starts": [spans[mark][0]] if mark else [],
    }


def _people(dice: Dice) -> dict[str, Any]:
    return PEOPLE if dice.maybe(0.5) else {**PEOPLE, "h": WOMEN, "f": MEN}


def _sentences(said: list[str]) -> int:
    return sum(way.count(". ") + 1 for way in said)


def _ask(dice: Dice, plot: Plot, told: set[str]) -> tuple[str, str]:
    """Pick a question and the mark of its answer, "" if the story does not tell it."""
    traps = [question for question, marks in plot.traps if told.isdisjoint(marks.split())]
    if traps and dice.maybe(UNANSWERED):
        return dice.one(traps), ""
    return dice.one([(question, mark) for question, mark in plot.questions if mark in told])
