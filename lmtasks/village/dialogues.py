"""Short dialogues of the village, of 3 to 6 turns: asking the way, buying bread, meeting, borrowing, a room at the inn.

Written for this project. A turn can be inferred from the turns before it: prices add up, times and places are repeated,
and the ways through the village never change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lmtasks.village import cast
from lmtasks.village.dice import Dice, fill

FEWEST, MOST = 3, 6
"""Turns of a dialogue."""


@dataclass(frozen=True)
class Way:
    """The way to a place of the village, always the same."""

    place: str
    way: str
    time: str
    sign: str


@dataclass(frozen=True)
class Sum:
    """A purchase in words: count times each is total, and back is the change from the coins paid."""

    count: str
    each: str
    total: str
    paid: str
    back: str


@dataclass(frozen=True)
class Trouble:
    """Something that is wrong, and what helps."""

    what: str
    advice: str
    done: str


@dataclass(frozen=True)
class Neighbour:
    """A trade and where it lives."""

    trade: str
    home: str


@dataclass(frozen=True)
class Good:
    """Something that a baker sells, in the singular and the plural."""

    one: str
    more: str


WAYS = (
    Way("the mill", "over the bridge and then left", "ten minutes", "a big wheel"),
    Way("the church", "up the hill behind the inn", "five minutes", "a high tower"),
    Way("the market", "straight on to the square", "two minutes", "many red tents"),
    Way("the school", "past the well and then right", "three minutes", "a green door"),
    Way("the bakery", "down Mill Lane to the end", "four minutes", "a golden loaf over the door"),
    Way("the river", "through the forest and down the hill", "half an hour", "a lot of water"),
    Way("the inn", "along the river to the old tree", "a quarter of an hour", "a white horse on the sign"),
)
NUMBERS = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
SUMS = tuple(
    Sum(NUMBERS[count], NUMBERS[each], NUMBERS[count * each], NUMBERS[paid], NUMBERS[paid - count * each])
    for count in range(2, 6)
    for each in range(2, 6)
    for paid in (10, 20)
    if paid - count * each > 1 and count * each > paid - 11
)
TROUBLES = (
    Trouble("the dog barked all night", "take the dog into the house", "take it into the house"),
    Trouble("my roof is not tight, and it rained into my bed", "ask the carpenter to repair it", "ask the carpenter"),
    Trouble("my bread is always black", "make a smaller fire", "make a smaller fire"),
    Trouble("the fox takes my hens", "close the hen house at night", "close it at night"),
    Trouble("my cow gives no milk", "give it fresh grass", "give it fresh grass"),
    Trouble("I cannot find my key", "look under the mat", "look there"),
    Trouble("the mice eat my cheese", "get a cat", "get one"),
)
NEIGHBOURS = (
    Neighbour("miller", "at the mill"), Neighbour("baker", "behind the bakery"), Neighbour("fisherman", "by the river"),
    Neighbour("mayor", "on the square"), Neighbour("carpenter", "beside the church"), Neighbour("widow", "on the hill"),
)  # fmt: skip

NAMED = [role for role in cast.ROLES if not role.name.startswith("the ")]
BOUGHT = (Good("loaf", "loaves"), Good("cake", "cakes"), Good("pie", "pies"), Good("roll", "rolls"))
OUTSIDE = (*cast.MEADOWS, "in the garden", "in the barn", "at the market", "at school")
SOON = ("in the evening", "at noon", "before dinner", "after sunset", "tomorrow", "at eight", "in an hour")
COLOURS = ("black", "white", "brown", "grey")
SIGNS = ("a white ear", "a long tail", "a red ribbon", "three legs", "a short tail", "a bell")
REASONS = ("I have to work", "I must bake", "my aunt comes", "I will be in the city", "I must feed the hens")

SCENES = (  # " | " separates the ways to say it, " / " the turns; "-" says nothing
    (
        {"w": WAYS, "b": NAMED},
        (
            "Excuse me, where is {w.place}? | Good morning, {b}. How do I get to {w.place}? | Hello, {b}. I am looking"
            " for {w.place}.",
            "Go {w.way}. | That is easy. Go {w.way}. | {w.place}? You have to go {w.way}.",
            "Is it far? / No, it takes only {w.time}. | How long does it take? / It takes {w.time}. | - | How do I know"
            " {w.place} when I see it? / It has {w.sign}.",
            "So I go {w.way}. Thank you. / Yes, {w.way}. Good luck. | {w.way}. Thank you very much. | Thank you, I will"
            " find it. / Good luck.",
        ),
    ),
    (
        {"s": SUMS, "g": BOUGHT, "b": NAMED},
        (
            "Good morning, {b}. How much is a {g.one}? / A {g.one} costs {s.each} coins. | Hello, {b}. Do you have"
            " {g.more} today? / Yes, {s.each} coins for one.",
            "Then I take {s.count} {g.more}. / {s.count} {g.more} make {s.total} coins. | Please give me {s.count}. /"
            " {s.count} {g.more}, that is {s.total} coins.",
            "Here are {s.paid} coins. / Thank you. You get {s.back} coins back. | Here are {s.total} coins. / Thank"
            " you."
            " Here are your {s.count} {g.more}. | That is too much for me. / Then take only one {g.one} for {s.each}"
            " coins.",
        ),
    ),
    (
        {"s": SUMS, "meal": cast.MEALS, "b": NAMED},
        (
            "Do you have a room, {b}? / Yes. It costs {s.each} coins a night. How many nights? | Good evening, {b}."
            " What does a room cost? / {s.each} coins a night. How many nights will you stay?",
            "{s.count} nights. / {s.count} nights make {s.total} coins. | I stay {s.count} nights. / Then it is"
            " {s.total} coins.",
            "What is there to eat? / Tonight there is {meal}. | Here are {s.paid} coins. / Then I give you {s.back}"
            " coins back. | And what do you cook tonight? / I cook {meal}. | Good, here are {s.total} coins.",
        ),
    ),
    (
        {"a": NAMED, "b": NAMED, "day": cast.DAYS, "day2": cast.DAYS, "spot": cast.MEADOWS, "why": REASONS},
        (
            "Hello, {b}. Shall we meet {spot} on {day}? | {b}, can you meet me {spot} on {day}? | Good morning, {b}."
            " Will you be {spot} on {day}?",
            "Not on {day}, {why}. But I can come on {day2}. | I cannot come on {day} because {why}. What about {day2}?",
            "{day2} is good for me. / Then we meet {spot} on {day2}. | Why not on {day}? / I told you, {why}. / Then"
            " I will see you on {day2}. | Then on {day2}, {b}. / Good, {spot} on {day2}.",
        ),
    ),
    (
        {"a": cast.BEASTS, "b": NAMED, "colour": COLOURS, "sign": SIGNS, "spot": cast.SPOTS, "hour": cast.HOURS},
        (
            "I have lost my {a}. Have you seen it? | {b}, have you seen my {a}? | Did a {a} come this way?",
            "What colour is it? / It is {colour} and has {sign}. | What does your {a} look like? / It is {colour}"
            " and has {sign}.",
            "I saw a {colour} {a} {spot}. / Did it have {sign}? / Yes, it had {sign}. | A {a} with {sign} was {spot} at"
            " {hour}. / Thank you, I will go and look {spot}. | No, I have not seen a {colour} {a}. / If you see it,"
            " think of {sign}.",
        ),
    ),
    (
        {"b": NAMED, "tool": cast.TOOLS, "work": cast.DAMAGED, "day": cast.DAYS, "who": NAMED},
        (
            "{b}, can you lend me your {tool}? | Do you have a {tool} for me, {b}?",
            "What do you need it for? / I want to repair {work}. | Why do you need a {tool}? / Because {work} is"
            " broken.",
            "Take it, but bring it back on {day}. / You will have your {tool} back on {day}. | I am sorry, {who} has"
            " my {tool}."
            " / Then I will ask {who} for it. | Here is the {tool}. Is it hard to repair {work}? / Yes, but with your"
            " {tool} I can do it.",
        ),
    ),
    (
        {"b": NAMED, "spot": OUTSIDE, "later": SOON, "thing": cast.OWN},
        (
            "Is {b} at home? | Good morning, I am looking for {b}.",
            "I think {b.he} is {spot}. | {b} is not here. You will find {b.him} {spot}.",
            "When does {b.he} come back? / I think {later}. / Then I will come again {later}. | What is {b.he} doing"
            " {spot}? / {b.he} has lost {b.his} {thing} there. | Can you give {b.him} this {thing}? / Yes, {b} will get"
            " the {thing} {later}. | Then I will go and see {b.him} {spot}.",
        ),
    ),
    (
        {"a": NAMED, "b": NAMED, "t": TROUBLES, "day": cast.DAYS},
        (
            "Hello, {a}. / Hello, {b}. You look sad. | You look tired, {b}. What is wrong? | How are you, {b}? / Not so"
            " good, {a}. / What is wrong?",
            "You know, {t.what}. | Oh, {t.what}.",
            "Then you should {t.advice}. | Why do you not {t.advice}?",
            "You are right, I will {t.done}. | Thank you, {a}. I will {t.done} on {day}. / Tell me on {day} whether"
            " it helped.",
        ),
    ),
    (
        {"n": NEIGHBOURS, "b": NAMED},
        (
            "Who is that over there? / That is {b}, the {n.trade}'s cousin. | Do you know {b}? / Yes, {b.he}"
            " is the {n.trade}'s cousin.",
            "Then {b.he} lives {n.home}? / Yes, with the {n.trade}. | Where does {b.he} live? / {n.home}, with the"
            " {n.trade}. | And who lives {n.home}? / The {n.trade} and {b}.",
            "- | Thank you. I have a letter for {b.him}. / Then take it to {b.him} {n.home}. | What is {b.his} name? I"
            " forgot it. / {b.his} name is {b}.",
        ),
    ),
)


def tell_dialogue(dice: Dice) -> dict[str, Any]:
    """Tell one dialogue, as a row {turns}."""
    slots, steps = dice.one(SCENES)
    picked = dice.cast(slots)
    turns: list[str] = []
    while not FEWEST <= len(turns) <= MOST:
        said = [dice.way(step) for step in steps]
        turns = [turn for way in said if way != "-" for turn in way.split(" / ")]
    return {"turns": [fill(turn, picked)[0] for turn in turns]}
