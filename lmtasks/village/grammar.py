"""Phrases and clauses in English and French at once: agreement, word order and spelling of both languages.

Written for this project. A `Phrase` has gender, number and pronouns; `clause` puts subject, verb and object in order;
`spell` comes last and applies the French elisions and contractions (Grevisse, Le Bon Usage: l'école, du moulin, aux
filles, son école, cet arbre).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lmtasks.village.words import Adjective, Noun, Verb

VOWEL = "[aâeéèêiîoôœuyhAEIOU]"
ELISION = rf"(?<!\S)(le|la|de|ne|que|je|me) (?={VOWEL})"
CONTRACTIONS = (
    (rf"(?<!\S)(s|m)a (?={VOWEL})", r"\1on "),
    (rf"(?<!\S)ce (?={VOWEL})", "cet "),
    (r"(?<!\S)de le (?=\S)", "du "),
    (r"(?<!\S)de les (?=\S)", "des "),
    (r"(?<!\S)à le (?=\S)", "au "),
    (r"(?<!\S)à les (?=\S)", "aux "),
)

Tense = Literal["present", "past", "ongoing", "future", "must", "can", "want"]


@dataclass(frozen=True)
class Pair:
    """The same words in English and in French; `+` joins two pairs."""

    en: str
    fr: str

    def __add__(self, other: Pair) -> Pair:
        return Pair(_join(self.en, other.en), _join(self.fr, other.fr))


@dataclass(frozen=True)
class Person:
    """The pronouns of a person, and what verbs and participles agree with."""

    en: str
    en_object: str
    en_possessive: str
    fr: str
    fr_object: str
    fr_dative: str
    fr_possessives: str
    row: int
    """Column in the tables of finite verbs: je, nous, il, ils."""
    feminine: bool = False

    @property
    def plural(self) -> bool:
        """Whether it is we or they."""
        return self.row in (1, 3)


I = Person("I", "me", "my", "je", "me", "me", "mon ma mes", 0)  # noqa: E741
WE = Person("we", "us", "our", "nous", "nous", "nous", "notre notre nos", 1)
HE = Person("he", "him", "his", "il", "le", "lui", "son sa ses", 2)
SHE = Person("she", "her", "her", "elle", "la", "lui", "son sa ses", 2, feminine=True)
IT_M = Person("it", "it", "its", "il", "le", "lui", "son sa ses", 2)
IT_F = Person("it", "it", "its", "elle", "la", "lui", "son sa ses", 2, feminine=True)
THEY_M = Person("they", "them", "their", "ils", "les", "leur", "leur leur leurs", 3)
THEY_F = Person("they", "them", "their", "elles", "les", "leur", "leur leur leurs", 3, feminine=True)


@dataclass(frozen=True)
class Phrase:
    """A noun phrase; `denied` is its French form as the object of a negated verb (pas *de pain*)."""

    en: str
    fr: str
    denied: str
    person: Person

    def __add__(self, other: Pair) -> Phrase:
        return Phrase(f"{self.en} {other.en}", f"{self.fr} {other.fr}", f"{self.denied} {other.fr}", self.person)

    @property
    def pair(self) -> Pair:
        """Both languages, without gender, number and pronouns."""
        return Pair(self.en, self.fr)


@dataclass(frozen=True)
class Determiner:
    """The first word of a noun phrase; the French forms are masculine, feminine, plural."""

    en: str
    fr: tuple[str, str, str]
    denied: bool = False
    """Becomes de as the object of a negated verb."""


THE = Determiner("the", ("le", "la", "les"))
A = Determiner("a", ("un", "une", ""), denied=True)
SOME = Determiner("", ("de le", "de la", "des"), denied=True)
THIS = Determiner("this", ("ce", "cette", ""))
THESE = Determiner("these", ("", "", "ces"))
ALL = Determiner("", ("le", "la", "les"))
"""The whole kind: she likes apples, elle aime les pommes."""


@dataclass(frozen=True)
class Adverb:
    """A word beside the finite verb: souvent, or the second half of a negation."""

    en: str
    fr: str
    ne: bool = False


PLAIN = Adverb("", "")
NOT = Adverb("not", "pas", ne=True)
NEVER = Adverb("never", "jamais", ne=True)
OFTEN = Adverb("often", "souvent")
ALWAYS = Adverb("always", "toujours")

FINITE = {  # je, nous, il, ils
    "avoir": ("ai", "avons", "a", "ont"),
    "être": ("suis", "sommes", "est", "sont"),
    "future": ("vais", "allons", "va", "vont"),
    "must": ("dois", "devons", "doit", "doivent"),
    "can": ("peux", "pouvons", "peut", "peuvent"),
    "want": ("veux", "voulons", "veut", "veulent"),
    "ongoing": ("ais", "ions", "ait", "aient"),  # endings of the imparfait
    "be": ("am", "are", "is", "are"),
    "was": ("was", "were", "was", "were"),
    "do": ("do", "do", "does", "do"),
}


@dataclass(frozen=True)
class Clitic:
    """A pronoun object, before the verb in French; the participle agrees with `agree`."""

    en: str
    fr: str
    agree: Person | None = None


def direct(phrase: Phrase) -> Clitic:
    """Return the pronoun for a direct object: it, la."""
    return Clitic(phrase.person.en_object, phrase.person.fr_object, phrase.person)


def dative(phrase: Phrase) -> Clitic:
    """Return the pronoun for a receiver: her, lui."""
    return Clitic(phrase.person.en_object, phrase.person.fr_dative)


def possessive(owner: Person) -> Determiner:
    """Return his, her, their, ...; the French form agrees with the thing owned."""
    masculine, feminine, plural = owner.fr_possessives.split()
    return Determiner(owner.en_possessive, (masculine, feminine, plural))


def number(words: tuple[str, str]) -> Determiner:
    """Return an English and a French number as a determiner."""
    return Determiner(words[0], (words[1],) * 3)


def noun_phrase(
    noun: Noun, determiner: Determiner, plural: bool = False, adjectives: Sequence[Adjective] = ()
) -> Phrase:
    """Join determiner, adjectives and noun in the order and with the agreement of each language."""
    person = person_of(noun, plural)
    if noun.fits("name"):
        return Phrase(noun.en, noun.fr, noun.fr, person)
    front = [a for a in adjectives if a.before]
    back = [a for a in adjectives if not a.before]
    words = [noun.french(plural), *(a.french(noun.gender, plural) for a in back)]
    for adjective in reversed(front):
        words.insert(0, adjective.french(noun.gender, plural, following=words[0]))
    article = determiner.fr[2 if plural else noun.gender == "f"]
    if article == "des" and front:
        article = "de"
    en = _join(determiner.en, *(a.en for a in (*front, *back)), noun.english(plural))
    denied = "de" if determiner.denied else article
    return Phrase(en, _join(article, *words), _join(denied, *words), person)


def person_of(noun: Noun, plural: bool) -> Person:
    """Return the pronouns of a noun."""
    feminine = noun.gender == "f"
    if plural:
        return THEY_F if feminine else THEY_M
    if noun.fits("person family"):
        return SHE if feminine else HE
    return IT_F if feminine else IT_M


def both(first: Phrase, second: Phrase) -> Phrase:
    """Join two phrases with "and"; the French plural is feminine only if both are."""
    person = THEY_F if first.person.feminine and second.person.feminine else THEY_M
    fr = f"{first.fr} et {second.fr}"
    return Phrase(f"{first.en} and {second.en}", fr, fr, person)


def owned(owner: Phrase, thing: Phrase) -> Phrase:
    """Turn "the dog" into "the miller's dog", le chien du meunier."""
    mark = "'" if owner.person.plural else "'s"
    return Phrase(owner.en + mark + thing.en.removeprefix("the"), *(f"{thing.fr} de {owner.fr}",) * 2, thing.person)


def subject_pronoun(phrase: Phrase) -> Phrase:
    """Return the pronoun that replaces a phrase as subject."""
    person = phrase.person
    return Phrase(person.en, person.fr, person.fr, person)


def clause(
    subject: Phrase,
    verb: Verb,
    tense: Tense,
    object: Phrase | None = None,
    adverb: Adverb = PLAIN,
    *,
    clitic: Clitic | None = None,
    agree: Person | None = None,
    asked: bool = False,
) -> Pair:
    """Return a clause: who does what.

    `agree` is a direct object before the French verb (the bread *that* ...). `asked` gives the English the word order
    of a question; the caller begins the French question with est-ce que.
    """
    group = predicate(subject.person, verb, tense, object, adverb, clitic=clitic, agree=agree)
    if not asked:
        return subject.pair + group
    auxiliary, rest = _english(subject.person, verb, tense, NOT)
    held = " not" if adverb is NOT else ""
    tail = _join(rest, verb.particle, clitic.en if clitic else "", object.en if object else "")
    return Pair(f"{auxiliary} {subject.en}{held} {tail}", f"{subject.fr} {group.fr}")


def predicate(
    person: Person,
    verb: Verb,
    tense: Tense,
    object: Phrase | None = None,
    adverb: Adverb = PLAIN,
    *,
    clitic: Clitic | None = None,
    agree: Person | None = None,
) -> Pair:
    """Return a clause without its subject."""
    auxiliary, rest = _english(person, verb, tense, adverb)
    en = _join(auxiliary, adverb.en, rest, verb.particle, clitic.en if clitic else "", object.en if object else "")
    fr = _french(person, verb, tense, adverb, clitic, person if verb.etre else agree)
    return Pair(en, _join(fr, (object.denied if adverb.ne else object.fr) if object else ""))


def state(subject: Phrase, is_now: bool, complement: Pair, adverb: Adverb = PLAIN, *, verb: str = "être") -> Pair:
    """Return a clause about how someone is or was; with avoir for avoir faim."""
    row = subject.person.row
    en = FINITE["be" if is_now else "was"][row]
    fr = FINITE[verb][row] if is_now else {"être": "ét", "avoir": "av"}[verb] + FINITE["ongoing"][row]
    ne = "ne" if adverb.ne else ""
    return Pair(_join(subject.en, en, adverb.en, complement.en), _join(subject.fr, ne, fr, adverb.fr, complement.fr))


def participle(verb: Verb, person: Person) -> str:
    """Return the French past participle in agreement with a person."""
    return verb.french()[4] + "e" * person.feminine + "s" * person.plural


def spell(pair: Pair, end: Literal[".", "?"]) -> Pair:
    """Write out a sentence: a or an, elisions, contractions, the capital and the final mark."""
    en = re.sub(r"\ba(?= [aeiou])", "an", pair.en).replace("can not", "cannot").replace(" ,", ",")
    fr = re.sub(ELISION, lambda match: match[1][:-1] + "'", pair.fr.replace(" ,", ","))
    for pattern, replacement in CONTRACTIONS:
        fr = re.sub(pattern, replacement, fr)
    return Pair(en[0].upper() + en[1:] + end, fr[0].upper() + fr[1:] + (" ?" if end == "?" else end))


def _english(person: Person, verb: Verb, tense: Tense, adverb: Adverb) -> tuple[str, str]:
    """Return the English verb in two parts, between which the adverb goes."""
    denied = adverb is NOT
    singular = person.row == 2
    if tense == "future":
        return FINITE["be"][person.row], f"going to {verb.base}"
    if tense == "ongoing":
        return FINITE["was"][person.row], verb.ing
    if tense == "must" or tense == "can":
        return tense, verb.base
    if tense == "want":
        return (FINITE["do"][person.row] if denied else ""), (
            "want" if denied or not singular else "wants"
        ) + f" to {verb.base}"
    if denied:
        return ("did" if tense == "past" else FINITE["do"][person.row]), verb.base
    if tense == "past":
        return "", verb.past
    return "", verb.third if singular else verb.base


def _french(
    person: Person, verb: Verb, tense: Tense, adverb: Adverb, clitic: Clitic | None, agree: Person | None
) -> str:
    """Return the French verb with negation and clitic; the clitic goes before the verb that governs it."""
    infinitive, singular, plural, stem, past = verb.french()
    ne, pronoun = "ne" if adverb.ne else "", clitic.fr if clitic else ""
    if tense == "past":
        agree = agree or (clitic.agree if clitic else None)
        done = participle(verb, agree) if agree else past
        return _join(ne, pronoun, FINITE["être" if verb.etre else "avoir"][person.row], adverb.fr, done)
    if tense == "present":
        assert person.row > 1, "the tables hold no first person"
        return _join(ne, pronoun, plural if person.plural else singular, adverb.fr)
    if tense == "ongoing":
        return _join(ne, pronoun, stem + FINITE["ongoing"][person.row], adverb.fr)
    return _join(ne, FINITE[tense][person.row], adverb.fr, pronoun, infinitive)


def _join(*words: str) -> str:
    return " ".join(word for word in words if word)
