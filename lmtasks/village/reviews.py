"""Reviews of the inn, the bakery, the mill, the market and the ferry: positive, negative or neutral.

Written for this project. No single word shows the label: cold beer is good and cold soup is not, and reviews deny,
concede ("although"), contrast ("but") and report what was expected. If a review has two sides, the clause after "but"
and the main clause beside "although" decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lmtasks.village.dice import Dice, fill

LABELS = ("positive", "negative", "positive", "negative", "neutral")


@dataclass(frozen=True)
class Side:
    """Something that a place is praised or blamed for."""

    name: str
    good: str
    bad: str
    """Adjectives, separated by commas, each at the position of its contrary among the good ones."""
    plural: bool = False


@dataclass(frozen=True)
class Place:
    """A place that is reviewed."""

    name: str
    facts: str
    """Neutral sentences about it, separated by " | "."""
    sides: tuple[Side, ...]


MANY = True
PLACES = (
    Place("the inn", "The inn stands near the bridge. | The inn has {n} rooms. | The inn belongs to the mayor.", (
        Side("soup", "hot, thick", "cold, thin"),
        Side("beds", "soft, dry, warm", "hard, damp, cold", MANY),
        Side("beer", "cold, dark", "warm, thin"),
        Side("wine", "old, strong", "young, sour"),
        Side("rooms", "dry, warm, quiet", "damp, cold, dark", MANY),
        Side("host", "kind, quick", "rude, slow"),
        Side("meat", "soft, hot, fresh", "hard, cold, dry"))),
    Place("the bakery", "The bakery opens at {n}. | The bakery is beside the church. | The bakery has {n} ovens.", (
        Side("bread", "fresh, soft, warm", "old, hard, cold"),
        Side("cakes", "sweet, light, fresh", "dry, heavy, old", MANY),
        Side("rolls", "warm, crisp", "cold, soft", MANY),
        Side("baker", "kind, quick", "rude, slow"),
        Side("pies", "hot, rich", "cold, thin", MANY),
        Side("biscuits", "dry, crisp, thin", "damp, soft, thick", MANY))),
    Place("the mill", "The mill stands by the river. | The mill has {n} wheels. | The mill works from {n} to {m}.", (
        Side("flour", "fine, white, dry", "coarse, grey, damp"),
        Side("sacks", "heavy, full", "light, half empty", MANY),
        Side("miller", "honest, quick, kind", "greedy, slow, rude"),
        Side("oats", "dry, fresh", "damp, old", MANY),
        Side("prices", "low, fair", "high, unfair", MANY))),
    Place("the market", "The market is on {day}. | The market begins at {n}. | The market has {m} stalls.", (
        Side("apples", "crisp, sweet", "soft, sour", MANY),
        Side("cheese", "old, strong", "young, dry"),
        Side("fish", "fresh, cold", "old, warm"),
        Side("prices", "low, fair", "high, unfair", MANY),
        Side("eggs", "big, fresh", "small, old", MANY),
        Side("honey", "thick, sweet", "thin, sour"))),
    Place("the ferry", "The ferry crosses the river {n} times a day. | The ferry carries {m} people.", (
        Side("seats", "soft, dry", "hard, wet", MANY),
        Side("boat", "quick, dry, light", "slow, wet, heavy"),
        Side("captain", "kind, calm", "rude, slow"),
        Side("ticket", "cheap, pretty", "dear, dirty"),
        Side("crossing", "quick, calm, quiet", "slow, rough, cold"))),
)  # fmt: skip

# ways to say that {the} {was} {right}, as the label wants; {wrong} is the contrary, {odd} another fault or merit
SAID = {
    "plain": "{the} {was} {right}. | {the} {was} really {right}. | {the} {was} {right} again.",
    "denied": "{the} {was} not {wrong}. | {the} {was} never {wrong}. | {the} {was} not {wrong} at all. | I cannot say"
    " that {the} {was} {wrong}.",
    "but": "{the} {was} {odd} but {right}. | {the} {was} {odd} but {right}. | {the} {was} {wrong}, but {the2}"
    " {was2} {right2}. | At first {the}"
    " {was} {wrong}, but then {it} {was} {right}. | {the} {was} not {right}, but {the2} {was2} not {wrong2} at all.",
    "although": "Although {the2} {was2} {wrong2}, {the} {was} {right}. | {the} {was} {right}, although {the2} {was2}"
    " {wrong2}. | Although {the2} {was2} not {right2}, {the} {was} not {wrong}.",
    "hearsay": "They say that {the} {is} {wrong}, but that is not true. | They say that {the} {is} {right}, and that is"
    " true. | I thought that {the} would be {wrong}, but {it} {was} {right}. | I was told that {the} {is} {wrong}."
    " {it} {was} not.",
}  # fmt: skip
FORMS = ("plain", "denied", "denied", "but", "but", "but", "although", "although", "hearsay")

UNDECIDED = (
    "I do not know whether {the} {is} {right}. | {the} {was} neither {right} nor {wrong}. | Sometimes {the} {is}"
    " {right}, sometimes {it} {is} {wrong}. | Some say that {the} {is} {right}, others say that {it} {is} {wrong}."
    " | People ask whether {the} {is} {wrong}, but we did not try {them}. | If {the} {is} {right} today, I will hear it"
    " tomorrow."
)
LAST = {
    "positive": "I will come again. | Do not miss it. | Nobody should miss it. | I am not sorry that I went.",
    "negative": "I will not come again. | You miss nothing if you stay at home. | Nobody should go there. | I am sorry"
    " that I went.",
    "neutral": "I was there on {day}. | We came by chance. | I cannot say more about it.",
}
ARRIVALS = ("We went to", "I was at", "On {day}, we went to", "My uncle took me to", "I have been to", "This is about")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NUMBERS = ("two", "three", "four", "five", "six", "seven")
MORE_NUMBERS = ("eight", "nine", "ten", "twelve", "twenty")


def tell_review(dice: Dice) -> dict[str, Any]:
    """Tell one review, as a row {text, label}."""
    label = dice.one(LABELS)
    place = dice.one(PLACES)
    cast = dice.cast({"n": NUMBERS, "m": MORE_NUMBERS, "day": DAYS})
    said = (
        [dice.way(place.facts)] if label == "neutral" or dice.maybe(0.35) else [f"{dice.one(ARRIVALS)} {place.name}."]
    )
    sides = dice.several(place.sides, 4)
    for first, second in (sides[:2], sides[2:])[: 1 + dice.maybe(0.4)]:
        ways = UNDECIDED if label == "neutral" else SAID[dice.one(FORMS)]
        said.append(dice.way(ways).format_map(_words(dice, first, second, label)))
    if dice.maybe(0.3):
        said.append(dice.way(LAST[label]))
    return {"text": fill(" ".join(said), cast)[0], "label": label}


def _words(dice: Dice, first: Side, second: Side, label: str) -> dict[str, str]:
    """Return the words for two sides: what agrees with the label, and what contradicts it."""
    words: dict[str, str] = {}
    for side, mark in ((first, ""), (second, "2")):
        pairs = list(zip(side.good.split(", "), side.bad.split(", "), strict=True))
        (good, bad), (merit, fault) = dice.several(pairs, 2)
        right, wrong, odd = (bad, good, merit) if label == "negative" else (good, bad, fault)
        words |= {f"the{mark}": f"the {side.name}", f"right{mark}": right, f"wrong{mark}": wrong, f"odd{mark}": odd}
        words |= {f"was{mark}": "were" if side.plural else "was", f"is{mark}": "are" if side.plural else "is"}
    person = first.name in ("host", "baker", "miller", "captain")
    words["it"] = "they" if first.plural else "he" if person else "it"
    words["them"] = "them" if first.plural else "him" if person else "it"
    return words
