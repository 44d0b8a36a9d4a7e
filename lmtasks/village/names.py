"""Sentences with tagged names: PER persons, LOC places, SHOP inns and shops, ANIMAL animals that have a name.

Written for this project, in the BIO scheme (CoNLL-2003, Tjong Kim Sang and De Meulder 2003): B- begins a name, I-
continues it, O is outside. Only context tells a name: Rose sells a rose on Rose Hill, and The Red Cow is an inn.
"""

from __future__ import annotations

import re
from typing import Any

from lmtasks.village import words
from lmtasks.village.dice import Dice, fill

SLOT = re.compile(r"{(\w+)}")
TOKEN = re.compile(r"'s|\w+|[^\w\s]")
IN_LOWER_CASE = 0.1
"""Share of rows without capitals, as people type them."""

# Rose, Robin, Lily, Hazel, Wood, Lane, Hill, Honey, Snow, ... are also words, and some are names of two kinds
FIRST = (*(noun.en for noun in words.nouns("name")), "Rose", "Robin", "Lily", "Hazel", "Daisy", "Martin", "Olive")
LAST = ("Baker", "Miller", "Wood", "Lane", "Hill", "Fisher", "Field", "Church", "Mayor", "Green")
PERSONS = (*FIRST, *FIRST, *(f"{first} {last}" for first in FIRST for last in LAST[::2]))
STREETS = ("Mill Lane", "Church Street", "Baker Street", "Bridge Street", "Miller Lane", "School Lane", "Goose Lane",
           "Olive Street", "Market Square")  # fmt: skip
REGIONS = ("Rose Hill", "Robin Wood", "Goose Green", "Stonebridge", "Oakfield", "Fox Hill", "Lily Field", "Riverside",
           "Hazel Wood", "Upper Mill")  # fmt: skip
INNS = ("The Red Cow", "The White Horse", "The Golden Goose", "The Black Goat", "The Old Oak", "The Three Hens",
        "The Rose", "The Blue Boat")  # fmt: skip
SHOPS = ("Miller and Sons", "Baker and Daughters", "Wood and Hill", "Fisher and Lane", "Green and Field")
PETS = ("Daisy", "Honey", "Snow", "Clover", "Pepper", "Robin", "Rose", "Lily", "Star", "Ginger", "Lucky", "Old Bess")
GRAZERS = ("cow", "goat", "donkey", "horse")
SMALL = ("cat", "dog", "hen", "goose")
TRADES = tuple(noun.en for noun in words.nouns("trade"))
FLOWERS = ("rose", "lily", "daisy", "clover")
BEASTS = ("red cow", "white horse", "black goat", "old hen", "fat goose")

SLOTS = {
    "p": [f"<PER:{name}>" for name in PERSONS],
    "q": [f"<PER:{name}>" for name in PERSONS],
    "mr": [f"<PER:{name}>" for name in LAST],
    "s": [f"<LOC:{name}>" for name in STREETS],
    "r": [f"<LOC:{name}>" for name in REGIONS],
    "i": [f"<SHOP:{name}>" for name in INNS],
    "shop": [f"<SHOP:{name}>" for name in SHOPS],
    "a": [f"<ANIMAL:{name}>" for name in PETS],
    "grazer": GRAZERS,
    "small": SMALL,
    "trade": TRADES,
    "flower": FLOWERS,
    "beast": BEASTS,
    "kin": ("brother", "sister", "uncle", "aunt"),
}

NAMED = (  # one clause, without its full stop, with at least one name
    "{p} lives in {s}",
    "{p} works for {shop} in {s}",
    "{p} wrote a letter to {q}",
    "{p} bought a {flower} at {shop}",
    "{p} sold the {beast} to {q}",
    "{p} said that the {trade} had gone to {r}",
    "{p} slept at {i}",
    "{p} picked a {flower} on {r}",
    "{p} rose early and walked to {r}",
    "{p} comes from {r}",
    "{p}'s {kin} works with a {trade} from {r}",
    "{p}'s {grazer} {a} ate the hay",
    "{p} milked {a} and fed the hens",
    "{p} rode {a} to {r}",
    "{p} and {q} drank cold beer at {i}",
    "the {trade} talked with {p} about the {beast}",
    "the {trade} milked {a} in the morning",
    "the {trade} read the letter from {p}",
    "the {trade} and {p} ate at {i}",
    "the {trade}'s {small} is called {a}",
    "the {trade} of {r} has a {beast}",
    "the {beast} ran down {s}",
    "the {beast} stood in front of {i}",
    "the soup at {i} was cold",
    "{i} has ten beds and a good cook",
    "{i} in {s} was full of guests",
    "{i} belongs to {p}",
    "{shop} sells honey and pepper",
    "{shop} opened a new shop in {s}",
    "{shop} sold {p} a chair of wood",
    "{a} is the {trade}'s {grazer}",
    "{a} gave no milk today",
    "{a} ate all the clover on the hill",
    "{a} barked at the {beast}",
    "{a} laid two eggs behind the mill",
    "{s} leads to the church",
    "{s} is a long lane with many a {flower}",
    "in {r} there is a mill on a hill",
    "snow fell on {r}",
    "honey from {r} is sweet",
    "Mr {mr} knows the {trade}",
    "Mrs {mr} sings in the church",
    "the {trade} asked Mr {mr} the way to {s}",
)  # fmt: skip
NAMELESS = (
    "the {beast} was hungry",
    "a {flower} grew behind the mill",
    "snow lay on the hill",
    "honey is better than pepper",
    "the {trade} gave a {flower} to the {beast}",
    "a robin sang in the wood",
    "every star shone over the green field",
    "the {beast} stood in the lane",
    "olive oil costs ten coins",
    "the blue boat lay under the old oak",
    "the golden goose is only a story",
    "the {trade} saw a red cow and a white horse",
    "a hazel bush grew in the green field near the church",
    "ginger and clover grew near the bridge",
)
JOINTS = (", and ", " while ", ". ")


def tell_names(dice: Dice) -> dict[str, Any]:
    """Tell one sentence with names, as a row {words, tags}."""
    one, two = dice.several(NAMED, 2)
    three, four = dice.several(NAMELESS, 2)
    clauses = dice.one(((one,), (one, two), (one, two), (one, three), (three, one), (three, four)))
    text, marks = fill(dice.one(JOINTS).join(_filled(dice, clause) for clause in clauses) + ".", {})
    spoken, tags = [], []
    for token in TOKEN.finditer(text):
        spoken.append(token[0])
        tags.append(next((_tag(name, start, token) for name, start, end in marks if start <= token.start() < end), "O"))
    if dice.maybe(IN_LOWER_CASE):
        spoken = [word.lower() for word in spoken]
    return {"words": spoken, "tags": tags}


def _filled(dice: Dice, clause: str) -> str:
    return clause.format_map(dice.cast({slot: SLOTS[slot] for slot in SLOT.findall(clause)}))


def _tag(name: str, start: int, token: re.Match[str]) -> str:
    return ("B-" if token.start() == start else "I-") + name
