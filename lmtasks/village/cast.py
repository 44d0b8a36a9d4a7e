"""The cast of the village's stories: persons with their pronouns, animals, and tables of phrases.

Written for this project; the persons are those of `words`.
"""

from __future__ import annotations

from dataclasses import dataclass

from lmtasks.village import words
from lmtasks.village.grammar import person_of


@dataclass(frozen=True)
class Role:
    """A person with pronouns, as stories name them: Emma, the miller."""

    name: str
    he: str
    him: str
    his: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Beast:
    """An animal that can run away, the food that it steals, and what lures it home."""

    name: str
    food: str
    lure: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Present:
    """Something made for somebody: bake a cake, which needs flour and goes wrong with sawdust instead."""

    make: str
    made: str
    name: str
    lack: str
    instead: str

    def __str__(self) -> str:
        return self.name


def _role(noun: words.Noun) -> Role:
    person = person_of(noun, plural=False)
    name = noun.en if noun.fits("name") else f"the {noun.en}"
    return Role(name, person.en, person.en_object, person.en_possessive)


ROLES = tuple(_role(noun) for noun in words.nouns("name trade"))
MEN = tuple(role for role in ROLES if role.he == "he")
WOMEN = tuple(role for role in ROLES if role.he == "she")

BEASTS = (
    Beast("cow", "the hay", "a bucket of oats"),
    Beast("goat", "a neighbour's cabbages", "a handful of salt"),
    Beast("donkey", "the roses of the inn", "an old carrot"),
    Beast("horse", "the grass", "a sweet apple"),
    Beast("goose", "the corn", "a piece of bread"),
    Beast("dog", "a stolen sausage", "a big bone"),
    Beast("cat", "a fish", "a cup of milk"),
)

PRESENTS = (
    Present("bake a cake", "baked a cake", "cake", "flour", "sawdust"),
    Present("cook a soup", "cooked a soup", "soup", "salt", "sugar"),
    Present("make a lamp", "made a lamp", "lamp", "oil", "honey"),
    Present("paint a chair", "painted a chair", "chair", "paint", "jam"),
    Present("sew a coat", "sewed a coat", "coat", "thread", "glue"),
    Present("build a small boat", "built a small boat", "boat", "wood", "paper"),
)

OWN = ("hat", "key", "umbrella", "book", "scarf", "knife", "basket", "lamp")
TOOLS = ("hammer", "ladder", "saw", "drill", "plane")
ROPES = ("rope", "ladder", "net", "long pole")
CLEANERS = ("a broom", "a lamp", "a can of oil", "a box of tools")
KIN = ("brother", "sister", "uncle", "aunt", "mother", "grandfather")
FINE = ("old", "red", "brown", "green", "small", "black")
GOODS = ("milk", "eggs", "honey", "hay", "salt", "candles", "cheese")
WARES = ("eggs", "apples", "cheeses", "cakes", "hats", "baskets", "candles")
WISHES = ("a pair of boots", "a small boat", "a new clock", "a warm coat", "a young goat", "a second cow")
TREATS = ("a pot of honey", "a bag of nuts", "a piece of cheese", "a warm cake", "a jar of jam", "a bottle of wine")
STORES = ("cheese", "honey", "cake", "bread", "ham", "butter")
ANIMALS = ("cows", "goats", "geese", "hens", "horses", "donkeys")
DAMAGED = ("the roof of the barn", "the old bridge", "the door of the mill", "the window of the church", "the big cart")
MEALS = ("a hot soup", "a big fish", "ham and eggs", "an apple cake", "roast chicken")
LITTLE = ("a mouse", "a fox", "a crow", "a rat", "a hedgehog")
LOST_LAMBS = ("a hen", "a lamb", "a small dog", "a young goat", "a kitten")
FLOWERS = ("roses", "daisies", "tulips", "poppies")

GOALS = ("the market", "the mill", "the church", "the school", "the inn", "the forest", "the river")
SHOPS = ("the market", "the mill", "the inn", "the farm", "the shop", "the village", "the town")
SPOTS = (
    "under the bridge", "behind the mill", "near the well", "in the barn", "under the old tree", "behind the church",
    "on the river bank", "in the garden", "in front of the school", "behind the inn", "near the kitchen door",
    "under the cart",
)  # fmt: skip
MEADOWS = (
    "behind the mill", "near the well", "under the old tree", "on the river bank", "behind the church",
)  # fmt: skip
MARKETS = ("on the square", "near the church", "under the big tree", "beside the well")
HIDINGS = ("behind the door", "under the table", "on the ladder", "behind a barrel", "in a big basket")
HOLES = ("the window", "a hole in the wall", "the chimney", "the open door", "the roof")
DEPTHS = ("into the well", "into the river", "into a deep hole", "into the mill pond")

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
WHEN = (
    *(f"on {day}" for day in DAYS), "one cold morning", "one evening in winter", "last week", "last summer",
    "one day in spring", "after the feast", "early in the morning", "one rainy day",
)  # fmt: skip
LATER = ("in the evening", "at noon", "before dinner", "at night", "after sunset", "the next day", "two days later")
WHILES = ("an hour", "two hours", "three hours", "half the day", "the whole night", "two days")
HOURS = ("six", "seven", "eight", "nine", "ten", "eleven")
FEW = ("two", "three", "four", "five")
MANY = ("ten", "twelve", "fifteen", "twenty", "thirty")
PEOPLE = {"h": MEN, "f": WOMEN, "g": ROLES}
"""Hero, friend and a third person; in half of the stories the hero is a woman and the friend a man."""
