"""The village's sentences: splits, repeatability, agreement, elision and the kinds of sentence."""

import itertools
import random
import re

import pytest

from lmtasks.errors import InputError
from lmtasks.village import Village, grammar as g, words
from lmtasks.village.narrator import Narrator
from lmtasks.village.sentences import KINDS

VILLAGE = Village(train=3000, validation=200, test=200, seed=3)
SPLITS = ("train", "validation", "test")
VOWELS = "aâeéèêiîoôœuyhAEIOU"


def rows(village=VILLAGE, split="train"):
    return [{"en": row["en"], "fr": row["fr"]} for row in village.rows(split, ("en", "fr"))]


ALL = [row for split in SPLITS for row in rows(split=split)]


@pytest.mark.parametrize("language", ["en", "fr"])
def test_no_sentence_comes_twice_within_or_across_splits(language):
    sentences = [row[language] for row in ALL]
    assert len(sentences) == 3400
    assert len(set(sentences)) == len(sentences)


def test_the_same_seed_tells_the_same_and_another_seed_something_else():
    small = Village(train=50, validation=10, test=10, seed=3)
    again = Village(train=50, validation=10, test=10, seed=3)
    other = Village(train=50, validation=10, test=10, seed=4)
    assert rows(small) == rows(again) != rows(other)
    assert small.fingerprint("train") == again.fingerprint("train") != other.fingerprint("train")
    assert small.fingerprint("train") != small.fingerprint("test")


def test_the_fingerprint_changes_with_what_the_split_follows_from_and_no_more():
    one, larger, shifted = (Village(train, 10, test) for train, test in ((50, 10), (60, 10), (50, 11)))
    assert one.fingerprint("train") != larger.fingerprint("train")
    assert one.fingerprint("test") == larger.fingerprint("test") != shifted.fingerprint("test")
    assert one.fingerprint("validation") != shifted.fingerprint("validation")


def test_a_larger_train_split_begins_with_the_smaller_one_and_leaves_the_others_alone():
    small, large = (Village(train=size, validation=20, test=20) for size in (100, 200))
    assert rows(large)[:100] == rows(small)
    assert rows(large, "test") == rows(small, "test")
    assert rows(large, "validation") == rows(small, "validation")


def test_only_the_columns_asked_for_are_given():
    assert list(next(VILLAGE.rows("test", ("fr",)))) == ["fr", "place"]
    assert list(next(VILLAGE.rows("test", ("fr", "en")))) == ["fr", "en", "place"]


def test_what_the_village_lacks_is_said_in_one_line():
    with pytest.raises(InputError, match="no split 'predict'"):
        VILLAGE.rows("predict", ("en",))
    with pytest.raises(InputError, match="no column 'de'"):
        VILLAGE.rows("train", ("en", "de"))
    with pytest.raises(InputError, match=r"no view with the columns \['text', 'tags'\]; it shows en, fr; text; "):
        VILLAGE.rows("train", ("text", "tags"))
    with pytest.raises(InputError, match="train=-1"):
        Village(train=-1, validation=0, test=0).rows("train", ("en",))
    assert VILLAGE.path("predict") is None


def test_sentences_are_written_out():
    for row in ALL:
        assert re.fullmatch(r"[A-Z][a-z', A-Z]*[a-z][.?]", row["en"]), row
        assert re.fullmatch(r"[A-ZÉ][a-zâéèêîôûœçàù', A-Z-]*[a-zâéèêîôûœçà](\.| \?)", row["fr"]), row
        assert row["en"][-1] == row["fr"][-1], row
        assert "  " not in row["en"] + row["fr"], row
        assert 3 <= len(row["en"].split()) <= 20, row


@pytest.mark.parametrize(
    "wrong",
    [
        rf"\b(le|la|de|ne|je) [{VOWELS}]",
        rf"\bque [{VOWELS}]",
        r"\b(de|à) les?\b",
        rf"\b[ms]a [{VOWELS}]",
        rf"\bce [{VOWELS}]",
        rf"\b(beau|nouveau|vieux) (?!et\b)[{VOWELS}]",
        r"\b[ldnj]'[^aâeéèêiîoôœuyhAEIOU]",
        r"\bdes (petit|grand|vieu|vieil|beau|bel|bon|nouve|jeune)\w*s",
        r"(?<!revient )(?<!reviennent )\b(pas|jamais) (du|des|un|une) ",
    ],
)
def test_french_is_elided_and_contracted(wrong):
    plural = r"\b(les|des|de|ces|ses|leurs|mes|nos|deux|trois|dix|aux|ont|sont|étaient) "
    found = [
        m for row in ALL for m in [re.search(wrong, row["fr"])] if m and not re.search(plural + "vieux", row["fr"])
    ]
    assert not found


def test_a_is_an_before_a_vowel():
    assert not [
        row for row in ALL if re.search(r"\ban? ", row["en"]) and re.search(r"\b(a [aeiou]|an [^aeiou])", row["en"])
    ]


def test_every_adjective_agrees_with_every_noun_it_suits():
    for noun, adjective, plural in itertools.product(words.NOUNS, words.ADJECTIVES, (False, True)):
        if not noun.fits(adjective.kinds):
            continue
        french = g.noun_phrase(noun, g.THE, plural, [adjective]).fr.split()
        forms = adjective.fr.split()
        expected = forms[(noun.gender == "f") + 2 * plural]
        if len(forms) == 5 and noun.gender == "m" and not plural and words.starts_with_vowel(noun.fr):
            expected = forms[4]
        assert french[0] == ("les" if plural else "la" if noun.gender == "f" else "le")
        assert french[1:] == ([expected, noun.french(plural)] if adjective.before else [noun.french(plural), expected])


def test_participles_agree_with_the_object_in_front():
    buy = next(a.verb for a in words.ACTIONS if a.verb.base == "buy")
    paul = g.noun_phrase(words.find("Paul"), g.THE)
    for name, plural, ending in (("hat", False, ""), ("key", False, "e"), ("hat", True, "s"), ("key", True, "es")):
        thing = g.noun_phrase(words.find(name), g.THE, plural)
        told = g.spell(g.clause(paul, buy, "past", clitic=g.direct(thing)), ".").fr
        assert told == f"Paul {'les a' if plural else 'l_a'.replace('_', chr(39))} acheté{ending}."


def test_pronouns_and_negation_stand_where_french_wants_them():
    buy = next(a.verb for a in words.ACTIONS if a.verb.base == "buy")
    emma, key = (g.noun_phrase(words.find(name), g.THE) for name in ("Emma", "key"))

    def told(tense):
        return g.spell(g.clause(emma, buy, tense, None, g.NOT, clitic=g.direct(key)), ".")

    assert told("present") == g.Pair("Emma does not buy it.", "Emma ne l'achète pas.")
    assert told("past") == g.Pair("Emma did not buy it.", "Emma ne l'a pas achetée.")
    assert told("future") == g.Pair("Emma is not going to buy it.", "Emma ne va pas l'acheter.")
    assert told("can") == g.Pair("Emma cannot buy it.", "Emma ne peut pas l'acheter.")


@pytest.mark.parametrize(("kind", "share"), KINDS, ids=[kind.__name__ for kind, _ in KINDS])
def test_every_kind_tells_many_different_sentences(kind, share):
    narrator, told = Narrator(random.Random(0)), set()
    for _ in range(60):
        narrator.begin()
        told.add(kind(narrator).fr)
    assert len(told) > 40
    assert share > 0


@pytest.mark.parametrize(
    "structure",
    [
        r"\bn(e |')\w+ pas\b",
        r"\bn(e |')\w+ jamais\b",
        r"^Est-ce qu",
        r"^Qu'est-ce qu",
        r"^Combien (de |d')",
        r"\best (allé|tombé|entré|monté|revenu)",
        r"\bs?ont (allé|tombé|entré|monté|revenu)e?s\b",
        r"\w+ait\b.* quand ",
        r"\bva \w+",
        r"\bqui (a|ont) ",
        r"\bqu[e'] ?\w+.* (a|ont) \w+ées?\b",
        r"\bplus \w+ que\b",
        r"\bet l'a \w+",
        r"\b(lui|leur) (a|ont) donné",
        r"\bson (école|horloge|œuf|échelle)|\bleurs? \w+",
        r"\bpar (le|la|l')",
        r"\b(du|de l'|de la|aux?|des) ",
        r"\bcet \w+",
        r"\b(vieil|bel|nouvel) ",
        r"^(Hier|Demain|Chaque matin|En hiver), ",
        r"\bparce qu'elles? ",
    ],
)
def test_the_promised_structures_are_there(structure):
    assert sum(bool(re.search(structure, row["fr"])) for row in ALL) >= 5


def test_the_vocabulary_is_small():
    english = {word for row in ALL for word in re.findall(r"[a-z]+", row["en"].lower())}
    assert 150 <= len(english) <= 320


def test_a_split_that_is_null_is_none():
    village = Village(train=4, validation=2, test=None)
    assert village.path("test") is None
    assert len(list(village.rows("train", ("en", "fr")))) == 4
