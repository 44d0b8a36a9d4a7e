"""Stories of the village: a hero, a small problem, an ending, with a summary and a question.

Written for this project. A story is one of `PLOTS` with persons and things filled in. Questions follow SQuAD 2.0
(Rajpurkar et al. 2018): an answer is a span of the story, and some questions have none although a span looks like one.
"""

from __future__ import annotations

from typing import Any

from lmtasks.village.cast import MEN, PEOPLE, WOMEN
from lmtasks.village.dice import Dice, fill
from lmtasks.village.plots import PLOTS, Plot

UNANSWERED = 0.2
"""Share of the questions that the story does not answer."""
SHORTEST, LONGEST = 4, 8
"""Sentences of a story."""


def tell_story(dice: Dice) -> dict[str, Any]:
    """Tell one story with one question, as a row with the columns of all story views."""
    plot = dice.one(PLOTS)
    people = PEOPLE if dice.maybe(0.5) else {**PEOPLE, "h": WOMEN, "f": MEN}
    cast = dice.cast({**people, **plot.slots})
    ending = dice.one(plot.endings)
    said: list[str] = []
    while not SHORTEST <= sum(way.count(". ") + 1 for way in said) <= LONGEST:
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


def _ask(dice: Dice, plot: Plot, told: set[str]) -> tuple[str, str]:
    """Pick a question and the mark of its answer, "" if the story has none."""
    traps = [question for question, marks in plot.traps if told.isdisjoint(marks.split())]
    if traps and dice.maybe(UNANSWERED):
        return dice.one(traps), ""
    return dice.one([(question, mark) for question, mark in plot.questions if mark in told])
