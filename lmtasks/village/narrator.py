"""The narrator of the village: picks who, what, where and when, so that the sentences make sense.

Written for this project. A baker bakes, a cow eats hay, and nobody gives a hat to a hat: a sentence does not name the
same noun twice.
"""

from __future__ import annotations

import random

from lmtasks.village import grammar as g, words
from lmtasks.village.dice import Dice
from lmtasks.village.grammar import Pair, Phrase, clause, noun_phrase
from lmtasks.village.words import Action, Noun


class Narrator(Dice):
    """Picks the parts of a sentence at random: someone, something, somewhere, some time."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.told: set[str] = set()  # English nouns of this sentence

    def begin(self) -> None:
        """Begin a new sentence."""
        self.told.clear()

    def noun(self, kinds: str) -> Noun:
        """Pick a noun that this sentence has not named yet."""
        nouns = words.nouns(kinds)
        noun = self.one([noun for noun in nouns if noun.en not in self.told] or nouns)
        self.told.add(noun.en)
        return noun

    def subject(self, kinds: str) -> Phrase:
        """Pick someone: Alice, the old miller, the hens, Paul and Emma, Victor's aunt, this girl."""
        if "person" in kinds.split():
            if self.maybe(0.1):
                return g.both(self.definite("name"), self.definite("name"))
            if self.maybe(0.12):
                return g.owned(self.definite("name trade"), self.definite("family"))
            if self.maybe(0.35):
                return self.definite("name")
            kinds = " ".join("trade" if kind == "person" else kind for kind in kinds.split())
        noun = self.noun(kinds)
        plural = noun.fits("crowd animal") and self.maybe(0.3)
        if self.maybe(0.12):
            return noun_phrase(noun, g.THESE if plural else g.THIS, plural)
        return noun_phrase(noun, g.THE, plural, self.adjectives(noun, 0.25))

    def definite(self, kinds: str) -> Phrase:
        """Pick something known: the well, Alice."""
        return noun_phrase(self.noun(kinds), g.THE)

    def adjectives(self, noun: Noun, share: float) -> list[words.Adjective]:
        """Pick none, one or, for things, two adjectives that suit a noun: one before and one after in French."""
        suited = [a for a in words.ADJECTIVES if noun.fits(a.kinds)]
        if not suited or not self.maybe(share):
            return []
        first = self.one(suited)
        others = [a for a in suited if first.before and not a.before]
        return [first, self.one(others)] if others and self.maybe(0.25) else [first]

    def object(self, kinds: str, owner: g.Person | None = None) -> Phrase:
        """Pick an object; a person may lose *her* key."""
        return self.some(self.noun(kinds), owner)

    def some(self, noun: Noun, owner: g.Person | None = None) -> Phrase:
        """Return a noun as an object: a red chair, three eggs, bread, her key, the miller's cart."""
        if noun.fits("name"):
            return noun_phrase(noun, g.THE)
        if noun.fits("mass"):
            return noun_phrase(noun, g.SOME if self.maybe(0.6) else g.THE, False, self.adjectives(noun, 0.3))
        if owner not in (None, g.IT_M, g.IT_F) and noun.fits("own family"):
            return noun_phrase(noun, g.possessive(owner or g.HE), noun.fits("own") and self.maybe(0.15))
        if noun.fits("family"):
            return g.owned(self.definite("name trade"), noun_phrase(noun, g.THE))
        if noun.fits("trade opening old-work house"):
            plural = noun.fits("crowd opening") and self.maybe(0.3)
            return noun_phrase(noun, g.THE, plural, self.adjectives(noun, 0.3))
        style = self.one(("the", "a", "a", "some", "number", "owned", "this"))
        if style == "owned" and noun.fits("thing animal"):
            return g.owned(self.definite("name trade"), noun_phrase(noun, g.THE))
        plural = style in ("some", "number") or (style != "a" and self.maybe(0.3))
        determiners = {"the": g.THE, "a": g.A, "some": g.SOME, "this": g.THESE if plural else g.THIS}
        determiner = g.number(self.one(words.NUMBERS)) if style == "number" else determiners.get(style, g.THE)
        return noun_phrase(noun, determiner, plural, self.adjectives(noun, 0.4))

    def action(self, lasting: bool = False) -> Action:
        """Pick an action."""
        return self.one([a for a in words.ACTIONS if a.lasting or not lasting])

    def place(self) -> Pair:
        """Pick a place: behind the mill, under the old bridge."""
        en, fr, kinds = self.one(words.PLACES)
        noun = self.noun(kinds)
        phrase = noun_phrase(noun, g.THE, False, self.adjectives(noun, 0.12))
        return Pair(en, fr) + phrase.pair

    def tense(self, *tenses: g.Tense) -> g.Tense:
        """Pick a tense."""
        return self.one(tenses)

    def adverb(self, tense: g.Tense) -> g.Adverb:
        """Pick an adverb, most often none."""
        if self.maybe(0.6):
            return g.PLAIN
        if tense == "present":
            return self.one((g.NOT, g.NOT, g.NEVER, g.OFTEN, g.ALWAYS))
        return self.one((g.NOT, g.NOT, g.NEVER)) if tense == "past" else g.NOT

    def framed(self, body: Pair, tense: g.Tense, adverb: g.Adverb) -> Pair:
        """Add a time in front, at the end, or not at all."""
        if adverb in (g.NEVER, g.OFTEN, g.ALWAYS) or self.maybe(0.4):
            return body
        time = Pair(*self.one(words.TIMES[tense if tense in ("present", "past") else "future"]))
        return Pair(time.en + ",", time.fr + ",") + body if self.maybe(0.4) else body + time

    def framed_end(self, body: Pair, tense: g.Tense) -> Pair:
        """Add a time at the end, or not at all."""
        time = Pair(*self.one(words.TIMES[tense if tense in ("present", "past") else "future"]))
        return body + time if self.maybe(0.5) else body

    def doing(self, tense: g.Tense = "past") -> tuple[Phrase, Action]:
        """Pick a subject and its action."""
        action = self.one([a for a in words.ACTIONS if a.lasting or tense != "ongoing"])
        return self.subject(action.subjects), action

    def shared(self, first: str, second: str) -> tuple[Phrase, Action, Action, Phrase]:
        """Pick someone, two actions (of these English verbs) and one object that suits both."""
        one = self.one([a for a in words.ACTIONS if a.verb.base in first.split() and "person" in a.subjects])
        things = words.nouns(one.objects)
        others = [a for a in words.ACTIONS if a.verb.base in second.split() and "person" in a.subjects]
        two = self.one([a for a in others if any(noun.fits(a.objects) for noun in things)])
        subject = self.subject("person")
        noun = self.one([noun for noun in things if noun.fits(two.objects) and noun.en not in self.told])
        self.told.add(noun.en)
        return subject, one, two, self.some(noun)

    def short(self, tense: g.Tense) -> Pair:
        """Return a clause: someone does something."""
        subject, action = self.doing(tense)
        return clause(subject, action.verb, tense, self.object(action.objects, subject.person))

    def asleep(self, tense: g.Tense) -> Pair:
        """Return a clause: someone sleeps, sings or works somewhere."""
        verb, who = self.one(words.PASTIMES)
        return clause(self.subject(who), verb, tense) + self.place()

    def trip(self) -> tuple[Phrase, words.Verb, Pair]:
        """Pick who moves, the verb, and where to or from."""
        verb, who, en, fr, where = self.one(words.JOURNEYS)
        return self.subject(who), verb, Pair(en, fr) + self.definite(where).pair

    def quality(self, noun: Noun, plural: bool) -> Pair:
        """Pick an adjective to follow is or are."""
        adjective = self.one([a for a in words.ADJECTIVES if noun.fits(a.kinds)])
        return Pair(adjective.en, adjective.french(noun.gender, plural))

    def feeling(self, person: g.Person, en: str = "") -> Pair:
        """Pick how someone feels."""
        adjective = self.one([a for a in words.FEELINGS if en in ("", a.en)])
        return Pair(adjective.en, adjective.french("f" if person.feminine else "m", person.plural))

    def receiver(self) -> Phrase:
        """Pick a receiver: the girls, Paul, the old baker."""
        noun = self.noun("name trade")
        return noun_phrase(noun, g.THE, noun.fits("crowd") and self.maybe(0.3), self.adjectives(noun, 0.15))
