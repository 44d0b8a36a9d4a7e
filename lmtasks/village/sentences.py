"""The sentences of the village: some thirty kinds, each a short function from the narrator to a pair.

Written for this project. The English has one correct French translation: there is no "you", and "it" and "they" refer
to something in the same sentence. Each docstring is an example of its sentences.
"""

from __future__ import annotations

from collections.abc import Callable

from lmtasks.village import grammar as g, words
from lmtasks.village.grammar import Pair, Phrase, clause, noun_phrase, predicate, spell, state
from lmtasks.village.narrator import Narrator

PLAIN_TENSES: tuple[g.Tense, ...] = ("present",) * 2 + ("past",) * 3 + ("future",) * 2 + ("must", "can", "want")


def tell(n: Narrator) -> Pair:
    """Tell one sentence of any kind."""
    n.begin()
    return n.rng.choices([kind for kind, _ in KINDS], [weight for _, weight in KINDS])[0](n)


def deed(n: Narrator) -> Pair:
    """The old widow never sells her hats. Demain, Paul va peindre une petite chaise."""
    tense = n.tense(*PLAIN_TENSES)
    subject, action = n.doing(tense)
    adverb = n.adverb(tense)
    body = clause(subject, action.verb, tense, n.object(action.objects, subject.person), adverb)
    if n.maybe(0.25):
        body += n.place()
    return spell(n.framed(body, tense, adverb), ".")


def journey(n: Narrator) -> Pair:
    """Last week, Marie went to the mill. La semaine dernière, Marie est allée au moulin."""
    subject, verb, goal = n.trip()
    tense = n.tense("present", "past", "past", "past", "future", "want")
    adverb = n.adverb(tense)
    return spell(n.framed(clause(subject, verb, tense, None, adverb) + goal, tense, adverb), ".")


def pastime(n: Narrator) -> Pair:
    """The geese always sleep under the bridge. Les oies dorment toujours sous le pont."""
    verb, who = n.one(words.PASTIMES)
    tense = n.tense("present", "past", "future")
    adverb = n.adverb(tense)
    return spell(n.framed(clause(n.subject(who), verb, tense, None, adverb) + n.place(), tense, adverb), ".")


def two_deeds(n: Narrator) -> Pair:
    """Paul bought a chair and painted it. Paul a acheté une chaise et l'a peinte."""
    subject, one, two, thing = n.shared("buy find catch steal bake", "paint sell repair hide eat wash feed")
    tense = n.tense("past", "past", "present")
    second = predicate(subject.person, two.verb, tense, clitic=g.direct(thing))
    return spell(n.framed(clause(subject, one.verb, tense, thing) + Pair("and", "et") + second, tense, g.PLAIN), ".")


def bargain(n: Narrator) -> Pair:
    """Emma wants to buy the cart but the mayor does not want to sell it."""
    subject, one, two, thing = n.shared("buy find wash feed hide open look", "sell repair paint close find hide")
    other = n.subject("name trade")
    tense = n.tense("want", "must", "can")
    second = clause(other, two.verb, n.tense("can", "want"), adverb=g.NOT, clitic=g.direct(thing))
    return spell(clause(subject, one.verb, tense, thing) + Pair("but", "mais") + second, ".")


def hidden(n: Narrator) -> Pair:
    """Paul did not find his key because it was under the bridge. Paul n'a pas trouvé sa clé parce qu'elle était ..."""
    verb = n.one([a.verb for a in words.ACTIONS if a.verb.base in ("see", "find")])
    subject = n.subject("person")
    noun = n.noun("animal small")
    mine = noun.fits("own") and n.maybe(0.5)
    plural = not subject.person.plural and n.maybe(0.4)  # "they" must not mean the seekers
    thing = noun_phrase(noun, g.possessive(subject.person) if mine else g.THE, plural, n.adjectives(noun, 0.2))
    where = state(g.subject_pronoun(thing), False, n.place())
    return spell(clause(subject, verb, "past", thing, g.NOT) + Pair("because", "parce que") + where, ".")


def reason(n: Narrator) -> Pair:
    """The girls are tired because they fed the cows. Les filles sont fatiguées parce qu'elles ont nourri les vaches."""
    action = n.one([a for a in words.ACTIONS if a.result])
    subject = n.subject(action.subjects)
    feels = state(subject, True, n.feeling(subject.person, action.result))
    why = clause(g.subject_pronoun(subject), action.verb, "past", n.object(action.objects, subject.person))
    return spell(feels + Pair("because", "parce que") + why, ".")


def look(n: Narrator) -> Pair:
    """The miller's cart was not heavy. La charrette du meunier n'était pas lourde."""
    noun = n.noun("thing animal house-like opening food")
    plural = not noun.fits("mass house-like") and n.maybe(0.35)
    phrase = noun_phrase(noun, g.THE, plural)
    if noun.fits("thing animal house") and n.maybe(0.5):
        phrase = g.owned(n.definite("name trade"), phrase)
    adverb = n.one((g.PLAIN, g.PLAIN, g.NOT))
    return spell(state(phrase, n.maybe(0.5), n.quality(noun, plural), adverb), ".")


def mood(n: Narrator) -> Pair:
    """Alice and Marie are often hungry. Alice et Marie ont souvent faim."""
    subject = n.subject("person animal" if n.maybe(0.4) else "person")
    now = n.maybe(0.6)
    adverb = n.one((g.PLAIN, g.NOT, g.OFTEN, g.ALWAYS, g.NEVER))
    if n.maybe(0.5):
        return spell(state(subject, now, Pair(*n.one(words.NEEDS)), adverb, verb="avoir"), ".")
    return spell(state(subject, now, n.feeling(subject.person), adverb), ".")


def fear(n: Narrator) -> Pair:
    """The hens are afraid of the miller's dog. Les poules ont peur du chien du meunier."""
    subject = n.subject("person animal")
    thing = noun_phrase(n.noun("animal"), g.THE, n.maybe(0.4))
    if n.maybe(0.3):
        thing = g.owned(n.definite("name trade"), thing)
    adverb = n.one((g.PLAIN, g.PLAIN, g.NOT))
    return spell(state(subject, n.maybe(0.7), Pair("afraid of", "peur de") + thing.pair, adverb, verb="avoir"), ".")


def comparison(n: Narrator) -> Pair:
    """The school is older than the mill. L'école est plus vieille que le moulin."""
    kinds = n.one(("animal", "built", "house-like", "person"))
    noun = n.noun(kinds)
    people = kinds == "person"
    suited = words.FEELINGS if people else words.ADJECTIVES
    adjective = n.one([a for a in suited if a.comparative and (people or noun.fits(a.kinds))])
    plural = kinds == "animal" and n.maybe(0.4)
    first, second = noun_phrase(noun, g.THE, plural), noun_phrase(n.noun(kinds), g.THE, plural)
    fr = adjective.french(noun.gender, plural)
    more = Pair(f"{adjective.comparative} than", f"plus {fr} que")
    equal = Pair(f"as {adjective.en} as", f"aussi {fr} que")
    adverb = n.one((g.PLAIN, g.PLAIN, g.NOT))
    return spell(state(first, n.maybe(0.6), n.one((more, equal)) + second.pair, adverb), ".")


def summit(n: Narrator) -> Pair:
    """Paul painted the oldest house in the village. Paul a peint la plus vieille maison du village."""
    action = n.one([a for a in words.ACTIONS if a.verb.base in ("paint", "repair", "buy", "see", "sell", "find")])
    subject = n.subject("person")
    suited = [a for a in words.ADJECTIVES if a.before and a.comparative]
    noun = n.one([x for x in words.nouns(action.objects) if x.fits("thing animal house") and x.en not in n.told])
    adjective = n.one([a for a in suited if noun.fits(a.kinds)])
    fr = noun.french(False)
    fr = f"{'la' if noun.gender == 'f' else 'le'} plus {adjective.french(noun.gender, False, fr)} {fr} de le village"
    en = f"the {adjective.comparative.removesuffix('r')}st {noun.en} in the village"
    thing = Phrase(en, fr, fr, g.person_of(noun, False))
    tense = n.tense("past", "past", "future", "want", "must")
    return spell(n.framed(clause(subject, action.verb, tense, thing), tense, g.PLAIN), ".")


def who(n: Narrator) -> Pair:
    """Emma saw the girl who sells eggs at the market. Emma a vu la fille qui vend des œufs au marché."""
    action = n.one([a for a in words.ACTIONS if "person" in a.subjects])
    noun = n.noun("trade")
    person = noun_phrase(noun, g.THE, noun.fits("crowd") and n.maybe(0.3), n.adjectives(noun, 0.2))
    tense = n.tense("present", "past", "past")
    does = predicate(person.person, action.verb, tense, n.object(action.objects, person.person))
    person += Pair("who", "qui") + does
    if n.maybe(0.5):
        return spell(state(person, True, n.feeling(person.person)), ".")
    verb = n.one([a.verb for a in words.ACTIONS if a.verb.base in ("see", "help", "wait", "look")])
    return spell(clause(n.subject("person"), verb, n.tense("past", "future", "want"), person), ".")


def that(n: Narrator) -> Pair:
    """The chair that the carpenter painted is red. La chaise que le menuisier a peinte est rouge."""
    verbs = "bake buy sell eat paint repair find hide wash catch feed steal lose open see"
    action = n.one([a for a in words.ACTIONS if a.verb.base in verbs.split()])
    subject = n.subject(action.subjects)
    things = [
        x for x in words.nouns(action.objects) if x.fits("thing food animal opening house") and x.en not in n.told
    ]
    noun = n.one(things or [words.find("apple")])
    n.told.add(noun.en)
    plural = not noun.fits("mass house") and n.maybe(0.35)
    thing = noun_phrase(noun, g.THE, plural)
    tense = n.tense("present", "past", "past", "past")
    does = clause(subject, action.verb, tense, agree=thing.person)
    return spell(state(thing + (Pair("that", "que") + does), True, n.quality(noun, plural)), ".")


def there(n: Narrator) -> Pair:
    """There is no milk in the kitchen. Il n'y a pas de lait dans la cuisine."""
    noun = n.noun("animal built small food drink")
    plural = not noun.fits("mass") and n.maybe(0.5)
    few = g.number(n.one(words.NUMBERS))
    determiner = n.one((few, g.SOME)) if plural else g.SOME if noun.fits("mass") else g.A
    thing = noun_phrase(noun, determiner, plural, n.adjectives(noun, 0.4))
    if determiner is not few and n.maybe(0.4):
        bare = thing.en.removeprefix("a ")
        return spell(
            Pair(f"there {'are' if plural else 'is'} no {bare}", f"il ne y a pas {thing.denied}") + n.place(), "."
        )
    return spell(Pair(f"there {'are' if plural else 'is'} {thing.en}", f"il y a {thing.fr}") + n.place(), ".")


def whether(n: Narrator) -> Pair:
    """Did Arthur repair the roof? Est-ce qu'Arthur a réparé le toit ? And with where, when, why in front."""
    subject, action = n.doing()
    opening = n.one((Pair("", ""), Pair("", ""), Pair("where", "où"), Pair("when", "quand"), Pair("why", "pourquoi")))
    tense = n.tense("past", "past", "future", "future") if opening.en else n.tense("present", "past", "want", "can")
    body = clause(subject, action.verb, tense, n.object(action.objects, subject.person), asked=True)
    return spell(opening + Pair("", "est-ce que") + body, "?")


def what(n: Narrator) -> Pair:
    """What is the miller going to sell? Qu'est-ce que le meunier va vendre ?"""
    verbs = "bake buy sell eat drink paint repair lose hide write wash find look"
    action = n.one([a for a in words.ACTIONS if a.verb.base in verbs.split()])
    tense = n.tense("present", "past", "past", "future", "want", "can")
    body = Pair("what", "qu'est-ce que") + clause(n.subject(action.subjects), action.verb, tense, asked=True)
    if tense != "can" and n.maybe(0.5):
        body += Pair(*n.one(words.TIMES["future" if tense == "want" else tense]))
    return spell(body, "?")


def whoever(n: Narrator) -> Pair:
    """Who stole the cheese? Qui a volé le fromage ?"""
    action = n.one(words.ACTIONS)
    tense = n.tense("present", "past", "past", "future", "want", "can", "must")
    thing = n.object(action.objects)
    return spell(n.framed_end(clause(Phrase("who", "qui", "qui", g.HE), action.verb, tense, thing), tense), "?")


def count(n: Narrator) -> Pair:
    """How many apples did Alice eat? Combien de pommes est-ce qu'Alice a mangées ?"""
    verbs = "buy sell eat find catch feed see paint wash lose"
    action = n.one([a for a in words.ACTIONS if a.verb.base in verbs.split()])
    subject = n.subject(action.subjects)
    noun = n.one(
        [x for x in words.nouns(action.objects) if x.fits("animal thing food washable") and not x.fits("mass")]
    )
    person = g.person_of(noun, True)
    tense = n.tense("past", "past", "past", "future", "want")
    body = clause(subject, action.verb, tense, agree=person, asked=True)
    return spell(Pair(f"how many {noun.english(True)}", f"combien de {noun.french(True)} est-ce que") + body, "?")


def meanwhile(n: Narrator) -> Pair:
    """The widow was sleeping when the goat ate her hat. La veuve dormait quand la chèvre a mangé ..."""
    background = n.short("ongoing") if n.maybe(0.5) else n.asleep("ongoing")
    event = n.short("past")
    if n.maybe(0.5):
        return spell(background + Pair("when", "quand") + event, ".")
    return spell(Pair("while", "pendant que") + background + Pair(",", ",") + event, ".")


def ours(n: Narrator) -> Pair:
    """I cannot find my umbrella. Je ne peux pas trouver mon parapluie."""
    belongings = "own" if n.maybe(0.4) else "person"
    action = n.one([a for a in words.ACTIONS if "person" in a.subjects and belongings in a.subjects + a.objects])
    speaker = n.one((g.I, g.WE))
    subject = Phrase(speaker.en, speaker.fr, speaker.fr, speaker)
    tense = n.tense("past", "past", "future", "must", "can", "want")
    adverb = n.adverb(tense)
    return spell(
        n.framed(clause(subject, action.verb, tense, n.object(action.objects, speaker), adverb), tense, adverb), "."
    )


def rumour(n: Narrator) -> Pair:
    """The widow says that the mayor lost his hat. La veuve dit que le maire a perdu son chapeau."""
    verb = n.one((words.SAY, words.THINK))
    opening = clause(n.subject("person"), verb, "present") + Pair("that", "que")
    if n.maybe(0.3):
        opening = n.one((Pair("I think that", "je crois que"), Pair("we think that", "nous croyons que")))
    return spell(opening + n.short(n.tense("present", "past", "past", "future")), ".")


def suffered(n: Narrator) -> Pair:
    """The windows were closed by the fisherman. Les fenêtres ont été fermées par le pêcheur."""
    verbs = "bake buy sell eat paint repair find hide wash close open steal"
    action = n.one([a for a in words.ACTIONS if a.verb.base in verbs.split()])
    noun = n.noun(action.objects)
    thing = noun_phrase(noun, g.THE, noun.fits("thing animal opening") and n.maybe(0.35), n.adjectives(noun, 0.2))
    row = thing.person.row
    en = f"{g.FINITE['was'][row]} {action.verb.participle} by"
    fr = f"{g.FINITE['avoir'][row]} été {g.participle(action.verb, thing.person)} par"
    body = thing.pair + Pair(en, fr) + n.subject(action.subjects).pair
    return spell(n.framed(body, "past", g.PLAIN), ".")


def gift(n: Narrator) -> Pair:
    """Paul is going to give an egg to the boy. Paul va donner un œuf au garçon."""
    subject, tense = n.subject("person"), n.tense(*PLAIN_TENSES)
    adverb = g.NOT if n.maybe(0.2) else g.PLAIN
    body = clause(subject, words.GIVE, tense, n.object("small food own milk", subject.person), adverb)
    return spell(n.framed(body + Pair("to", "à") + n.receiver().pair, tense, adverb), ".")


def kindness(n: Narrator) -> Pair:
    """Victor bakes a cake and gives it to the widow; Alice saw the girls and gave them eggs (leur a donné)."""
    tense = n.tense("present", "past", "past")
    if n.maybe(0.5):
        subject, one, _, thing = n.shared("bake buy find", "hide eat")
        second = (
            predicate(subject.person, words.GIVE, tense, clitic=g.direct(thing)) + Pair("to", "à") + n.receiver().pair
        )
        return spell(clause(subject, one.verb, tense, thing) + Pair("and", "et") + second, ".")
    action = n.one([a for a in words.ACTIONS if a.verb.base in ("see", "help", "wait", "listen")])
    subject, friend = n.subject("person"), n.receiver()
    second = predicate(subject.person, words.GIVE, tense, n.object("small food milk"), clitic=g.dative(friend))
    return spell(clause(subject, action.verb, tense, friend) + Pair("and", "et") + second, ".")


def owner(n: Narrator) -> Pair:
    """The widow has three cows but does not have a horse. La veuve a trois vaches mais n'a pas de cheval."""
    subject = n.subject("person")
    things = [noun_phrase(n.noun("animal small built"), g.A) for _ in range(3)]
    kind = n.noun("animal small built")
    first = noun_phrase(kind, g.number(n.one(words.NUMBERS)), True, n.adjectives(kind, 0.4))
    if n.maybe(0.4):
        return spell(clause(subject, words.HAVE, "present", g.both(first, things[0])), ".")
    lacks = predicate(subject.person, words.HAVE, "present", things[1], g.NOT)
    return spell(clause(subject, words.HAVE, "present", first) + Pair("but", "mais") + lacks, ".")


def taste(n: Narrator) -> Pair:
    """Marie likes apples but she does not like honey. Marie aime les pommes mais elle n'aime pas le miel."""
    subject = n.subject("person animal" if n.maybe(0.3) else "person")
    one, two = (
        noun_phrase(noun, g.ALL, not noun.fits("mass"))
        for noun in (n.noun("food dish drink"), n.noun("food dish drink"))
    )
    adverb = n.one((g.PLAIN, g.NOT))
    other = g.NOT if adverb is g.PLAIN else g.PLAIN
    body = clause(subject, words.LIKE, "present", one, adverb) + Pair("but", "mais")
    return spell(body + clause(g.subject_pronoun(subject), words.LIKE, "present", two, other), ".")


def weather(n: Narrator) -> Pair:
    """When it rains, the hens sleep in the barn. Quand il pleut, les poules dorment dans la grange."""
    opening = Pair(*n.one(words.WEATHER))
    return spell(opening + (n.asleep("present") if n.maybe(0.5) else n.short("present")), ".")


# fmt: off
KINDS: tuple[tuple[Callable[[Narrator], Pair], int], ...] = (
    (deed, 14),    (journey, 6),  (pastime, 4),  (two_deeds, 6),  (bargain, 4),   (hidden, 4),  (reason, 4),
    (look, 4),     (mood, 3),     (fear, 2),     (comparison, 3), (summit, 2),    (who, 4),     (that, 4),
    (there, 3),    (whether, 8),  (what, 3),       (whoever, 2),   (count, 3),   (meanwhile, 4),
    (ours, 5),     (rumour, 4),   (suffered, 3), (gift, 4),       (kindness, 4),  (owner, 2),   (taste, 2),
    (weather, 2),
)
"""Each kind of sentence with its share."""
# fmt: on
