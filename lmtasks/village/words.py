"""The vocabulary of the village in English and French: who lives there, what they own, do and eat, and when.

Written for this project. All views of the village draw from these tables. Every French h is mute (l'horloge), so the
first letter alone decides about an elision.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Gender = Literal["m", "f"]


@dataclass(frozen=True)
class Noun:
    """A person, an animal, a thing or a place; actions select it by its `kinds`."""

    en: str
    fr: str
    gender: Gender
    kinds: str
    en_plural: str = ""
    fr_plural: str = ""

    def english(self, plural: bool) -> str:
        """Return the English form."""
        return (self.en_plural or self.en + "s") if plural else self.en

    def french(self, plural: bool) -> str:
        """Return the French form."""
        return (self.fr_plural or self.fr + "s") if plural else self.fr

    def fits(self, kinds: str) -> bool:
        """Return whether the noun or one of its kinds is among the words of `kinds`."""
        return not {self.en, *self.kinds.split()}.isdisjoint(kinds.split())


@dataclass(frozen=True)
class Adjective:
    """An adjective with its four French forms and the kinds of noun that it suits."""

    en: str
    fr: str
    """Masculine, feminine, masculine plural, feminine plural and, for some, masculine before a vowel."""
    kinds: str
    before: bool = False
    """Stands before the French noun."""
    comparative: str = ""
    """English comparative, empty if it is not used."""

    def french(self, gender: Gender, plural: bool, following: str = "") -> str:
        """Return the form that agrees; the word after it matters for vieil, bel, nouvel."""
        forms = self.fr.split()
        if len(forms) > 4 and gender == "m" and not plural and starts_with_vowel(following):
            return forms[4]
        return forms[(gender == "f") + 2 * plural]


@dataclass(frozen=True)
class Verb:
    """A verb; regular forms are derived, irregular ones are listed."""

    en: str
    """Base, past, past participle."""
    fr: str
    """Infinitive, il, ils, stem of the imparfait, past participle."""
    particle: str = ""
    """What follows the English verb: look *for*, come *back*."""
    etre: bool = False
    """Takes être in the passé composé."""

    @property
    def base(self) -> str:
        """The English infinitive."""
        return self.en.split()[0]

    @property
    def third(self) -> str:
        """The English form after he, she or it."""
        if self.base == "have":
            return "has"
        if self.base.endswith("ry"):
            return self.base[:-1] + "ies"
        return self.base + ("es" if self.base.endswith(("sh", "ch", "o")) else "s")

    @property
    def past(self) -> str:
        """The English simple past."""
        return self.en.split()[1] if " " in self.en else self.base + ("d" if self.base.endswith("e") else "ed")

    @property
    def participle(self) -> str:
        """The English past participle."""
        return self.en.split()[2] if self.en.count(" ") == 2 else self.past

    @property
    def ing(self) -> str:
        """The English present participle."""
        return self.base.removesuffix("e") + "ing"

    def french(self) -> tuple[str, str, str, str, str]:
        """Return infinitive, il, ils, stem of the imparfait and past participle."""
        forms = self.fr.split()
        if len(forms) == 1:
            stem = forms[0].removesuffix("er")
            forms = [forms[0], stem + "e", stem + "ent", stem, stem + "é"]
        infinitive, singular, plural, imperfect, participle = forms
        return infinitive, singular, plural, imperfect, participle


@dataclass(frozen=True)
class Action:
    """Who does what to what: a verb with the kinds of its subject and object."""

    verb: Verb
    subjects: str
    objects: str
    lasting: bool = False
    """Takes time, so that it can have a continuous form: was baking."""
    result: str = ""
    """How one feels afterwards: the English adjective."""


def starts_with_vowel(word: str) -> bool:
    """Return whether the word before this French word is elided."""
    return word[:1].lower() in tuple("aâeéèêiîoôœuyh")


def find(en: str) -> Noun:
    """Return the noun with this English word."""
    return next(noun for noun in NOUNS if noun.en == en)


@lru_cache(maxsize=256)
def nouns(kinds: str) -> tuple[Noun, ...]:
    """Return the nouns that fit one of the words of `kinds`."""
    return tuple(noun for noun in NOUNS if noun.fits(kinds))


NOUNS = (
    Noun("Arthur", "Arthur", "m", "name person"),
    Noun("Louis", "Louis", "m", "name person"),
    Noun("Paul", "Paul", "m", "name person"),
    Noun("Victor", "Victor", "m", "name person"),
    Noun("Alice", "Alice", "f", "name person"),
    Noun("Claire", "Claire", "f", "name person"),
    Noun("Emma", "Emma", "f", "name person"),
    Noun("Marie", "Marie", "f", "name person"),
    Noun("baker", "boulanger", "m", "adult trade person"),
    Noun("carpenter", "menuisier", "m", "adult trade person"),
    Noun("fisherman", "pêcheur", "m", "adult trade person crowd", "fishermen"),
    Noun("mayor", "maire", "m", "adult trade person"),
    Noun("miller", "meunier", "m", "adult trade person"),
    Noun("boy", "garçon", "m", "trade person crowd"),
    Noun("girl", "fille", "f", "trade person crowd"),
    Noun("shepherdess", "bergère", "f", "adult trade person", "shepherdesses"),
    Noun("widow", "veuve", "f", "adult trade person"),
    Noun("brother", "frère", "m", "family"),
    Noun("sister", "sœur", "f", "family"),
    Noun("uncle", "oncle", "m", "family"),
    Noun("cat", "chat", "m", "animal hunter thief"),
    Noun("cow", "vache", "f", "animal grazer large"),
    Noun("dog", "chien", "m", "animal thief"),
    Noun("donkey", "âne", "m", "animal grazer porter large"),
    Noun("goat", "chèvre", "f", "animal grazer thief"),
    Noun("goose", "oie", "f", "animal bird", "geese"),
    Noun("hen", "poule", "f", "animal bird"),
    Noun("horse", "cheval", "m", "animal grazer porter large", "horses", "chevaux"),
    Noun("mouse", "souris", "f", "animal thief prey", "mice", "souris"),
    Noun("boat", "bateau", "m", "thing built", "boats", "bateaux"),
    Noun("cart", "charrette", "f", "thing built washable"),
    Noun("chair", "chaise", "f", "thing built"),
    Noun("clock", "horloge", "f", "thing built"),
    Noun("ladder", "échelle", "f", "thing built"),
    Noun("book", "livre", "m", "thing small"),
    Noun("hat", "chapeau", "m", "thing small washable own", "hats", "chapeaux"),
    Noun("key", "clé", "f", "thing small own"),
    Noun("letter", "lettre", "f", "page"),
    Noun("umbrella", "parapluie", "m", "thing small own"),
    Noun("apple", "pomme", "f", "food"),
    Noun("cake", "gâteau", "m", "food baked", "cakes", "gâteaux"),
    Noun("egg", "œuf", "m", "food"),
    Noun("bread", "pain", "m", "mass food baked"),
    Noun("cheese", "fromage", "m", "mass food"),
    Noun("soup", "soupe", "f", "mass dish"),
    Noun("honey", "miel", "m", "mass food"),
    Noun("milk", "lait", "m", "mass drink goods"),
    Noun("water", "eau", "f", "mass drink"),
    Noun("hay", "foin", "m", "mass fodder goods"),
    Noun("door", "porte", "f", "opening"),
    Noun("window", "fenêtre", "f", "opening washable"),
    Noun("barn", "grange", "f", "place house-like in"),
    Noun("bridge", "pont", "m", "place old-work under"),
    Noun("church", "église", "f", "place house-like in goal", "churches"),
    Noun("forest", "forêt", "f", "place in"),
    Noun("garden", "jardin", "m", "place in"),
    Noun("house", "maison", "f", "place house-like in"),
    Noun("inn", "auberge", "f", "place house-like in goal"),
    Noun("kitchen", "cuisine", "f", "place in"),
    Noun("market", "marché", "m", "place goal"),
    Noun("mill", "moulin", "m", "place house-like goal in"),
    Noun("river", "rivière", "f", "place goal"),
    Noun("roof", "toit", "m", "old-work on"),
    Noun("school", "école", "f", "place house-like goal in"),
    Noun("tree", "arbre", "m", "place under on"),
    Noun("well", "puits", "m", "place", "wells", "puits"),
)

ADJECTIVES = (
    Adjective("beautiful", "beau belle beaux belles bel", "thing animal place", before=True),
    Adjective("big", "grand grande grands grandes", "thing large dog place", before=True, comparative="bigger"),
    Adjective("good", "bon bonne bons bonnes", "food dish milk", before=True),
    Adjective("new", "nouveau nouvelle nouveaux nouvelles nouvel", "thing house-like", before=True),
    Adjective(
        "old", "vieux vieille vieux vieilles vieil", "thing adult house-like bridge tree animal well", True, "older"
    ),
    Adjective("small", "petit petite petits petites", "thing animal place", before=True, comparative="smaller"),
    Adjective("young", "jeune jeune jeunes jeunes", "adult", before=True, comparative="younger"),
    Adjective("black", "noir noire noirs noires", "thing animal"),
    Adjective("fresh", "frais fraîche frais fraîches", "bread cheese egg milk"),
    Adjective("green", "vert verte verts vertes", "thing opening"),
    Adjective("heavy", "lourd lourde lourds lourdes", "thing", comparative="heavier"),
    Adjective("red", "rouge rouge rouges rouges", "thing opening apple"),
    Adjective("white", "blanc blanche blancs blanches", "thing animal house-like opening"),
)

FEELINGS = (
    Adjective("happy", "heureux heureuse heureux heureuses", "person", comparative="happier"),
    Adjective("sad", "triste triste tristes tristes", "person", comparative="sadder"),
    Adjective("tired", "fatigué fatiguée fatigués fatiguées", "person"),
)

NEEDS = (("hungry", "faim"), ("cold", "froid"))
"""English: is hungry; French: a faim."""

ACTIONS = (
    Action(Verb("bake", "cuire cuit cuisent cuis cuit"), "baker girl name widow", "baked", result="tired"),
    Action(Verb("buy bought", "acheter achète achètent achet acheté"), "person", "thing food goods", result="happy"),
    Action(Verb("sell sold", "vendre vend vendent vend vendu"), "person", "thing food goods", result="happy"),
    Action(
        Verb("eat ate eaten", "manger mange mangent mange mangé"),
        "person thief",
        "food dish",
        lasting=True,
        result="happy",
    ),
    Action(Verb("eat ate eaten", "manger mange mangent mange mangé"), "grazer", "hay apple hat", result="happy"),
    Action(Verb("drink drank drunk", "boire boit boivent buv bu"), "person", "drink"),
    Action(Verb("drink drank drunk", "boire boit boivent buv bu"), "animal", "water"),
    Action(
        Verb("paint", "peindre peint peignent peign peint"),
        "person",
        "built house opening",
        lasting=True,
        result="tired",
    ),
    Action(Verb("repair", "réparer"), "person", "built old-work opening", result="tired"),
    Action(Verb("lose lost", "perdre perd perdent perd perdu"), "person", "own", result="sad"),
    Action(Verb("find found", "trouver"), "person", "own book animal", result="happy"),
    Action(Verb("hide hid hidden", "cacher"), "person thief", "small food page"),
    Action(Verb("see saw seen", "voir voit voient voy vu"), "person animal", "person animal thing"),
    Action(Verb("catch caught", "attraper"), "person", "bird mouse", result="happy"),
    Action(Verb("catch caught", "attraper"), "hunter", "mouse", result="happy"),
    Action(
        Verb("feed fed", "nourrir nourrit nourrissent nourriss nourri"),
        "person",
        "animal",
        lasting=True,
        result="tired",
    ),
    Action(Verb("wash", "laver"), "person", "washable dog horse donkey cow", result="tired"),
    Action(Verb("write wrote written", "écrire écrit écrivent écriv écrit"), "person", "page"),
    Action(Verb("open", "ouvrir ouvre ouvrent ouvr ouvert"), "person", "opening"),
    Action(Verb("close", "fermer"), "person", "opening"),
    Action(Verb("look", "chercher", "for"), "person", "own book animal family", lasting=True),
    Action(
        Verb("wait", "attendre attend attendent attend attendu", "for"), "person dog", "person family", lasting=True
    ),
    Action(Verb("listen", "écouter", "to"), "person", "person family"),
    Action(Verb("help", "aider"), "person", "person family", result="tired"),
    Action(Verb("steal stole stolen", "voler"), "thief", "food hat", result="happy"),
)

PASTIMES = (
    (Verb("sleep slept", "dormir dort dorment dorm dormi"), "person animal"),
    (Verb("sing sang sung", "chanter"), "person"),
    (Verb("work", "travailler"), "person porter"),
)

JOURNEYS = (  # verb, who, English and French preposition, where
    (Verb("go went gone", "aller va vont all allé", etre=True), "person", "to", "à", "goal"),
    (Verb("come came come", "revenir revient reviennent reven revenu", "back", True), "person", "from", "de", "goal"),
    (Verb("fall fell fallen", "tomber", etre=True), "person animal", "into", "dans", "river well"),
    (Verb("enter", "entrer", etre=True), "person animal", "", "dans", "in"),
    (Verb("climb", "monter", etre=True), "person cat hen goat goose", "onto", "sur", "cart roof bridge ladder"),
)

GIVE = Verb("give gave given", "donner")
HAVE = Verb("have had", "avoir a ont av eu")
LIKE = Verb("like", "aimer")
SAY = Verb("say said", "dire dit disent dis dit")
THINK = Verb("think thought", "croire croit croient croy cru")

WEATHER = (("when it rains,", "quand il pleut,"), ("when it snows,", "quand il neige,"))

PLACES = (  # English and French preposition, where
    ("in", "dans", "in"),
    ("near", "près de", "place"),
    ("behind", "derrière", "house-like tree"),
    ("in front of", "devant", "house-like"),
    ("under", "sous", "under"),
)

TIMES = {
    "present": (
        ("every morning", "chaque matin"),
        ("every evening", "chaque soir"),
        ("on Sundays", "le dimanche"),
        ("in winter", "en hiver"),
    ),
    "past": (
        ("yesterday", "hier"),
        ("this morning", "ce matin"),
        ("last week", "la semaine dernière"),
        ("last winter", "l'hiver dernier"),
    ),
    "future": (
        ("tomorrow", "demain"),
        ("this evening", "ce soir"),
        ("next week", "la semaine prochaine"),
        ("next winter", "l'hiver prochain"),
    ),
}

NUMBERS = (("two", "deux"), ("three", "trois"), ("ten", "dix"))
