"""Plots of the village's stories, as tables of sentences: things lost and found, storms, markets, presents, ...

Written for this project. How to read them: " | " separates the ways to say a sentence, and "-" says nothing. {h} is the
hero, {f} a friend of the other sex, so that he and she are unambiguous, {g} a third person. <when:...> marks the answer
to a question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmtasks.village import cast


@dataclass(frozen=True)
class Ending:
    """One way in which a story comes out, with the one sentence that sums it up."""

    summary: str
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Plot:
    """What happens, to whom, and what can be asked about it."""

    slots: Mapping[str, Sequence[Any]]
    """Slot -> table from which it is filled."""
    steps: tuple[str, ...]
    endings: tuple[Ending, ...]
    questions: tuple[tuple[str, str], ...]
    """Question, mark of its answer; asked where that mark was told."""
    traps: tuple[tuple[str, str], ...]
    """Question that has no answer as long as none of these marks was told."""


LOST = Plot(
    {"thing": cast.OWN, "fine": cast.FINE, "goal": cast.SHOPS, "goods": cast.GOODS, "spot": cast.SPOTS,
     "other": cast.SPOTS, "third": cast.SPOTS, "kin": cast.KIN, "treat": cast.TREATS, "beast": cast.BEASTS,
     "when": cast.WHEN, "later": cast.LATER, "while": cast.WHILES},
    (
        "<when:{when}>, <hero:{h}> went to <goal:{goal}> to <why:buy {goods}>. | <hero:{h}> walked to <goal:{goal}>"
        " because <why:{h.he} needed {goods}>. | <when:{when}>, <hero:{h}> was on the way to <goal:{goal}>.",
        "Somewhere {h.he} lost {h.his} {fine} {thing}. | On the way home, {h.he} saw that {h.his} {fine} {thing} was"
        " gone. | But on the way, {h.he} lost {h.his} {fine} {thing}.",
        "- | It was a present from <gave:{h.his} {kin}>. | {h.he} was very sad about it. | It was the only {thing}"
        " that {h.he} had.",
        "{h.he} looked for it <tried:{other}>, but it was not there. | {h.he} looked for it for <long:{while}>."
        " | {h.he} looked {other} and {third}, but did not find it.",
    ),
    (
        Ending("{h} lost {h.his} {thing}, and {f} found it {spot}.", (
            "<later:{later}>, <finder:{f}> found the {thing} <found:{spot}>. | At last, <finder:{f}> saw the {thing}"
            " <found:{spot}>.",
            "{f.he} brought it back at once. | {h} thanked {f.him} and gave {f.him} <thanks:{treat}>. | {h} was so"
            " happy that {h.he} gave {f.him} <thanks:{treat}>.")),
        Ending("{h} lost {h.his} {thing} and found it {spot} with {f}'s help.", (
            "Then <helper:{f}> came to help. | <later:{later}>, {h.he} asked <helper:{f}> to help.",
            "Together they found the {thing} <found:{spot}>.",
            "- | {h} was happy again. | {h} never left it anywhere again.")),
        Ending("A {beast} took {h}'s {thing}, but {h} got it back {spot}.", (
            "<later:{later}>, {h.he} met <thief:a {beast}> <found:{spot}> with the {thing} in its mouth.",
            "{h.he} gave it <swap:{beast.lure}> for the {thing}. | {h.he} called it with <swap:{beast.lure}> and took"
            " the {thing}.")),
        Ending("{h} lost {h.his} {thing}, and {f} gave {h.him} a new one.", (
            "But the {thing} was gone for ever. | {h.he} never saw the {thing} again.",
            "<later:{later}>, <giver:{f}> gave {h.him} a new {thing}. | So <giver:{f}> gave {h.him} a new one.",
            "- | It was even better than the old one.")),
    ),
    (
        ("When did {h} go to {goal}?", "when"), ("Where did {h} go?", "goal"), ("Why did {h} go to {goal}?", "why"),
        ("Who went to {goal}?", "hero"), ("Who gave {h} the {fine} {thing}?", "gave"),
        ("Where did {h} look first?", "tried"), ("How long did {h} look for the {thing}?", "long"),
        ("Who found the {thing}?", "finder"), ("Where was the {thing}?", "found"), ("What did {f} get?", "thanks"),
        ("Who helped {h}?", "helper"), ("What had the {thing} in its mouth?", "thief"),
        ("What did {h} give for the {thing}?", "swap"), ("Who gave {h} a new {thing}?", "giver"),
    ),
    (
        ("Where did {f} go to buy {goods}?", ""), ("When did {h} go to {goal}?", "when"),
        ("Why did {h} go to {goal}?", "why"), ("Where was the {thing}?", "found"),
        ("How long did {h} look for the {thing}?", "long"), ("What did {f} lose?", ""),
        ("Who gave {h} the {fine} {thing}?", "gave"), ("Who stole the {thing}?", "thief"),
    ),
)  # fmt: skip

STRAY = Plot(
    {"a": cast.BEASTS, "spot": cast.SPOTS, "other": cast.SPOTS, "when": cast.WHEN, "later": cast.LATER,
     "while": cast.WHILES, "treat": cast.TREATS},
    (
        "<when:{when}>, <owner:{h}>'s {a} ran away because <why:the gate was open>. | <when:{when}>, <owner:{h}>'s {a}"
        " was gone. | <owner:{h}>'s {a} ran away because <why:the thunder frightened it>. | <when:{when}>,"
        " <owner:{h}>'s {a} ran away because <why:it was hungry>.",
        "{h} called it, but it did not come. | {h} looked for it <tried:{other}>, but it was not there. | {h} asked"
        " <asked:{g}>, but {g.he} had not seen it.",
        "- | {h} walked for <long:{while}>. | {h} was afraid that a wolf had caught it.",
    ),
    (
        Ending("{h}'s {a} ran away, and {h} found it {spot}.", (
            "<later:{later}>, {h} found it <found:{spot}>. | At last {h} found it <found:{spot}>.",
            "It was eating <food:{a.food}>. | It was asleep.",
            "{h.he} led it home with <lure:{a.lure}>. | {h.he} gave it <lure:{a.lure}>, and it followed {h.him} home."
            " | {h.he} laughed and took it home.")),
        Ending("{h}'s {a} ran away, and {f} brought it back.", (
            "<later:{later}>, <bringer:{f}> came with the {a}. | Then <bringer:{f}> brought the {a} home.",
            "It had slept <found:{spot}>. | It had eaten <food:{a.food}> <found:{spot}>.",
            "{h} gave {f.him} <thanks:{treat}>. | {h} thanked {f.him} and closed the gate well.")),
        Ending("{h}'s {a} ran away but came home alone.", (
            "<later:{later}>, the {a} came home alone.",
            "It was tired and wet. | It was full, since it had eaten <food:{a.food}>.",
            "{h} was so happy that {h.he} gave it <lure:{a.lure}>. | {h} put a new lock on the gate.")),
    ),
    (
        ("Whose {a} was it?", "owner"), ("Why did the {a} run away?", "why"), ("When did the {a} run away?", "when"),
        ("Where did {h} look first?", "tried"), ("Whom did {h} ask?", "asked"), ("How long did {h} walk?", "long"),
        ("Where was the {a}?", "found"), ("What did the {a} eat?", "food"),
        ("Who brought the {a} back?", "bringer"), ("What did {f} get?", "thanks"),
        ("What did {h} give the {a}?", "lure"), ("When did {h} see the {a} again?", "later"),
    ),
    (
        ("Why did the {a} run away?", "why"), ("When did the {a} run away?", "when"), ("Where was the {a}?", "found"),
        ("Why did {f}'s {a} run away?", ""), ("What did {f} eat?", ""), ("How long did {h} walk?", "long"),
        ("What did {f} lose?", ""), ("Where did {g} sleep?", ""),
    ),
)  # fmt: skip

STORM = Plot(
    {"work": cast.DAMAGED, "tool": cast.TOOLS, "when": cast.WHEN, "later": cast.LATER, "meal": cast.MEALS,
     "n": cast.FEW, "hours": cast.FEW, "spot": cast.SPOTS, "market": cast.MARKETS},
    (
        "<when:{when}>, <cause:a storm> broke {work}. | <when:{when}>, <cause:the wind> broke {work}. | <cause:a tree>"
        " fell and broke {work}.",
        "<hero:{h}> wanted to repair it, but {h.he} had no {tool}. | <hero:{h}> began to repair it, but {h.his} {tool}"
        " was lost. | <hero:{h}> wanted to repair it, but a neighbour had taken {h.his} {tool}.",
        "- | {h.he} looked for one <tried:{spot}>. | {h.he} asked <asked:{g}>, but {g.he} had none. | It was going to"
        " rain soon.",
    ),
    (
        Ending("{h} repaired {work} with {f}'s {tool}.", (
            "Then <lender:{f}> lent {h.him} {f.his} {tool}. | <later:{later}>, <lender:{f}> came and gave {h.him}"
            " {f.his} own {tool}.",
            "The work took <long:{hours} hours>. | {h} worked for <long:{hours} hours>.",
            "After that, {work} was as good as new. | {h} gave the {tool} back and cooked <meal:{meal}> for {f.him}.")),
        Ending("{h} bought a {tool} and repaired {work}.", (
            "So {h.he} bought one <shop:{market}>. | <later:{later}>, {h.he} found one <shop:{market}>.",
            "It cost <price:{n} coins>. | {g} sold it to {h.him} for <price:{n} coins>.",
            "The work took <long:{hours} hours>. | Everybody said that the work was good. | Now {work} is stronger"
            " than before.")),
        Ending("{f} repaired {work} for {h}.", (
            "So <worker:{f}>, who had one, did the work for {h.him}. | <later:{later}>, <worker:{f}> brought {f.his}"
            " own {tool} and did the work.",
            "{f.he} worked for <long:{hours} hours>. | -",
            "Meanwhile, {h} cooked <meal:{meal}>. | {h} thanked {f.him} with <meal:{meal}>.")),
    ),
    (
        ("What broke {work}?", "cause"), ("When did it happen?", "when"), ("Who wanted to repair {work}?", "hero"),
        ("Who began to repair {work}?", "hero"), ("Where did {h} look for a {tool}?", "tried"),
        ("Whom did {h} ask?", "asked"), ("Who gave {h} a {tool}?", "lender"), ("How long did the work take?", "long"),
        ("What did {h} cook?", "meal"), ("Where did {h} buy a {tool}?", "shop"),
        ("How many coins did the {tool} cost?", "price"), ("Who did the work for {h}?", "worker"),
    ),
    (
        ("How many coins did the {tool} cost?", "price"), ("What did {f} cook?", ""), ("When did it happen?", "when"),
        ("How long did the work take?", "long"), ("Where did {h} buy a {tool}?", "shop"),
        ("Who broke the {tool}?", ""), ("Where did {f} lose a {tool}?", ""),
    ),
)  # fmt: skip

MARKET = Plot(
    {"many": cast.MANY, "few": cast.FEW, "wares": cast.WARES, "wish": cast.WISHES, "when": cast.WHEN,
     "market": cast.MARKETS, "kin": cast.KIN},
    (
        "<when:{when}>, <hero:{h}> took <many:{many}> {wares} to the market. | <hero:{h}> wanted to sell"
        " <many:{many}> {wares} <stood:{market}>. | <when:{when}>, <hero:{h}> stood <stood:{market}> and sold {wares}.",
        "{h.he} wanted to buy <wish:{wish}>. | {h.he} needed money for <wish:{wish}>. | {h.he} had promised {h.his}"
        " <kin:{kin}> to buy {wish}.",
        "But nobody came because <why:it rained all day>. | But nobody came because <why:it was too cold>. | But"
        " <rival:{g}> sold better {wares} for less. | But on the way, <lost:{few}> of them fell into the mud.",
    ),
    (
        Ending("{h} sold all {h.his} {wares} and bought {wish}.", (
            "At last, <buyer:{f}> came and bought all that {h.he} had. | Then <buyer:{f}> bought all of the {wares}.",
            "{f.he} needed them for <use:a wedding>. | {f.he} needed them for <use:the feast>. | {f.he} paid <paid:in"
            " silver>.",
            "So {h} went home with {wish}. | In the evening, {h} had {wish}.")),
        Ending("{h} sold too few {wares} and could not buy {wish}.", (
            "In the evening, {h} had sold only <sold:{few}> of {h.his} {wares}. | {h} sold no more than <sold:{few}> of"
            " {h.his} {wares}.",
            "{h.he} gave the others to <given:the poor>. | {h.he} gave the others to <given:{f}>. | {h.he} gave the"
            " others to <given:the children>.",
            "{wish} had to wait until next year. | {h.he} went home without {wish}.")),
        Ending("{h} gave {f} {h.his} {wares} for {wish}.", (
            "Then <swap:{f}> came by, who had {wish} and wanted {wares}. | Then {h} met <swap:{f}>, who did not need"
            " {f.his} own any more.",
            "So {h} gave {f.him} all the {wares}, and the bargain was made. | They made a good bargain and shook"
            " hands.",
            "- | Both were happy with it.")),
    ),
    (
        ("Who sold {wares} at the market?", "hero"), ("Who wanted to sell {wares}?", "hero"),
        ("When did {h} go to the market?", "when"), ("How many {wares} did {h} want to sell?", "many"),
        ("Where did {h} stand?", "stood"), ("What did {h} want to buy?", "wish"), ("Why did nobody come?", "why"),
        ("Who sold better {wares}?", "rival"), ("How many {wares} fell into the mud?", "lost"),
        ("Who bought all of the {wares}?", "buyer"), ("For what did {f} need the {wares}?", "use"),
        ("How many {wares} did {h} sell?", "sold"), ("Who got the other {wares}?", "given"),
        ("Who had {wish}?", "swap"),
    ),
    (
        ("How many {wares} did {f} sell?", ""), ("Why did nobody come?", "why"),
        ("When did {h} go to the market?", "when"), ("How many {wares} did {h} want to sell?", "many"),
        ("Where did {h} stand?", "stood"), ("What did {g} want to buy?", ""), ("Who stole the {wares}?", ""),
    ),
)  # fmt: skip

THIEF = Plot(
    {"food": cast.STORES, "thief": cast.LITTLE, "spot": cast.HIDINGS, "way": cast.HOLES, "n": cast.FEW,
     "when": cast.WHEN, "hour": cast.HOURS},
    (
        "<often:every night>, some of <hero:{h}>'s {food} was gone. | For <nights:{n}> nights, somebody took some of"
        " <hero:{h}>'s {food}. | <when:{when}>, <hero:{h}> saw that half of the {food} was gone.",
        "First {h.he} thought that <suspect:{g}> had eaten it. | {h.he} asked <suspect:{g}>, but {g.he} only laughed."
        " | Nobody in the house had eaten it.",
        "So {h} hid <hid:{spot}> and waited. | In the night, {h} sat <hid:{spot}> with a lamp. | So {h} wanted"
        " to stay awake until <until:{hour}>.",
    ),
    (
        Ending("{h} found out that {thief} ate the {food}.", (
            "Then <thief:{thief}> came in through <way:{way}>. | Then something moved, and {h.he} saw <thief:{thief}>.",
            "It ate the {food} and was not afraid. | It was small and very hungry.",
            "{h.he} laughed and gave it some milk. | {h.he} shut <shut:{way}> the next day. | {h.he} chased it away"
            " with <arm:a broom>. | {h.he} chased it away with <arm:an old shoe>.")),
        Ending("{h} found out that {f} ate the {food}.", (
            "Then <thief:{f}> came in through <way:{way}>. | Then the door opened, and it was <thief:{f}>.",
            "{f.he} took the {food} because <why:{f.he} had nothing to eat at home>. | {f.he} took the {food} because"
            " <why:the smell was so good>.",
            "{h} was not angry and gave {f.him} a plate of soup. | {f} was sorry and promised to pay for it.")),
        Ending("{h} fell asleep and did not see who ate the {food}.", (
            "But {h.he} was tired and fell asleep. | But at <slept:midnight>, {h.his} eyes closed.",
            "In the morning, the {food} was gone. | When {h.he} woke up, there was no {food} left.",
            "- | {h} never knew who the thief was. | {f} laughed when {f.he} heard of it.")),
    ),
    (
        ("Whose {food} was it?", "hero"), ("How many nights did somebody take the {food}?", "nights"),
        ("How often was some of the {food} gone?", "often"), ("When did {h} see that {food} was gone?",
        "when"), ("Whom did {h} ask?", "suspect"),
        ("Where did {h} hide?", "hid"), ("Where did {h} wait?", "hid"), ("Until when did {h} want to stay awake?",
        "until"),
        ("Who was the thief?", "thief"), ("How did the thief come in?", "way"), ("What did {h} shut?", "shut"),
        ("With what did {h} chase the thief away?", "arm"), ("Why did {f} take the {food}?", "why"),
        ("When did {h} fall asleep?", "slept"),
    ),
    (
        ("Who was the thief?", "thief"), ("How did the thief come in?", "way"), ("Where did {h} hide?", "hid"),
        ("How many nights did somebody take the {food}?", "nights often"), ("Where did {g} hide?", ""),
        ("Why did {h} take the {food}?", ""), ("When did {g} fall asleep?", ""),
    ),
)  # fmt: skip

PRESENT = Plot(
    {"p": cast.PRESENTS, "day": cast.DAYS, "spot": cast.MEADOWS, "flowers": cast.FLOWERS, "while": cast.WHILES,
     "beast": cast.LOST_LAMBS},
    (
        "It was <whose:{f}>'s birthday on <day:{day}>. | <whose:{f}> had a birthday, and the whole village knew it."
        " | On <day:{day}>, there was a feast for <whose:{f}>.",
        "<hero:{h}> wanted to <plan:{p.make}> for {f.him}. | <hero:{h}> had promised to <plan:{p.make}> for {f.him}.",
        "But {h.he} had no {p.lack} at home. | But there was no {p.lack} left in the house. | But {g} had used up all"
        " the {p.lack}.",
    ),
    (
        Ending("{h} {p.made} for {f} with {g}'s {p.lack}.", (
            "So {h} went to <giver:{g}> and asked for some. | Then <giver:{g}> gave {h.him} some.",
            "{h} worked for <long:{while}>. | {h} paid for it with <paid:an hour of work>. | {h} paid for it with"
            " <paid:a dozen eggs>.",
            "{f} was so glad that {f.he} danced. | {f} said that it was the best {p} in the village.")),
        Ending("{h} had no {p.lack} and gave {f} {flowers}.", (
            "So {h} went out and picked <instead:{flowers}>. | So {h} gave {f.him} <instead:{flowers}> and a song.",
            "They grew <grew:{spot}>. | {h.he} had found them <grew:{spot}>.",
            "{f} liked them more than any {p}. | {f} put them on the table and smiled.")),
        Ending("{h} {p.made} for {f}, but it went wrong.", (
            "So {h} took <instead:{p.instead}>. | {h} did it without {p.lack}. | {h} thought that <instead:{p.instead}>"
            " would do.",
            "The {p} was so bad that even <beast:{beast}> ran away from it. | Nobody"
            " liked the {p}, not even <beast:{beast}>.",
            "But {f} laughed and thanked {h.him}. | {f} laughed until {f.he} cried.")),
    ),
    (
        ("Whose birthday was it?", "whose"), ("For whom was the {p}?", "whose"), ("On which day was it?", "day"),
        ("Who wanted to {p.make}?", "hero"), ("What did {h} want to do for {f}?", "plan"),
        ("Who gave {h} some {p.lack}?", "giver"), ("How long did {h} work?", "long"),
        ("With what did {h} pay for the {p.lack}?", "paid"), ("What did {h} take instead?", "instead"),
        ("Where did the {flowers} grow?", "grew"), ("What animal disliked the {p}?", "beast"),
    ),
    (
        ("On which day was it?", "day"), ("Who gave {h} some {p.lack}?", "giver"), ("When was {h}'s birthday?", ""),
        ("Where did {f} buy {p.lack}?", ""), ("How long did {f} work?", ""), ("How much did the {p.lack} cost?", ""),
    ),
)  # fmt: skip

RESCUE = Plot(
    {"a": cast.LOST_LAMBS, "depth": cast.DEPTHS, "tool": cast.ROPES, "when": cast.WHEN, "while": cast.WHILES,
     "treat": cast.TREATS, "spot": cast.SPOTS},
    (
        "<when:{when}>, <what:{a}> fell <depth:{depth}>. | <what:{a}> fell <depth:{depth}> because <why:it was dark>."
        " | <when:{when}>, <what:{a}> <why:ran after a fly> and fell <depth:{depth}>.",
        "<hero:{h}> was <stood:{spot}> and heard it cry. | <hero:{h}> heard it and came at once. | <hero:{h}>, who was"
        " on the way to <goal:church>, saw it.",
        "- | It belonged to <owner:{g}>. | It had cried for <long:{while}>. | The sides were too steep to climb.",
    ),
    (
        Ending("{h} saved {a} with {f}'s {tool}.", (
            "{h} ran to <lender:{f}> and borrowed {f.his} <tool:{tool}>. | Then <lender:{f}> came with"
            " <tool:a {tool}>.",
            "With the {tool}, {h} got the poor animal out. | {h} climbed down and came up with it in {h.his} arms.",
            "{f} dried it with <dry:{f.his} coat>. | {f} gave it <milk:some warm milk>. | -")),
        Ending("{a} fell {depth} but got out alone.", (
            "{h} ran home for <tool:a {tool}>. | {h} called <called:{f}> for help.",
            "But when {h.he} came back, the animal stood <out:{spot}>, wet and proud. | But before help came, it was"
            " out and sat <out:{spot}>.",
            "{h} had to laugh. | {h} shook {h.his} head and took it home.")),
        Ending("{h} saved {a} and fell {depth}.", (
            "{h} got it out with {h.his} bare hands, but then {h.he} fell in too. | {h} pushed it out, but slipped"
            " and could not get out again.",
            "<saver:{f}> had to pull {h.him} out with <tool:a {tool}>. | At last <saver:{f}> heard {h.him} and brought"
            " <tool:a {tool}>.",
            "That evening, the two sat by the fire and ate <ate:{treat}>. | After the fright, {f} gave {h.him}"
            " <ate:{treat}>.")),
    ),
    (
        ("What fell {depth}?", "what"), ("When did it happen?", "when"), ("Where did the animal fall?", "depth"),
        ("Why did the animal fall {depth}?", "why"), ("Who heard the animal?", "hero"), ("Where was {h}?", "stood"),
        ("Where did {h} want to go?", "goal"), ("To whom did the animal belong?", "owner"),
        ("How long had the animal cried?", "long"), ("Whose {tool} did {h} borrow?", "lender"),
        ("With what did {f} dry the animal?", "dry"), ("What did {f} give the animal?", "milk"),
        ("Whom did {h} call?", "called"), ("Where was the animal at the end?", "out"),
        ("Who pulled {h} out?", "saver"), ("What did {h} eat?", "ate"),
    ),
    (
        ("When did it happen?", "when"), ("Why did the animal fall {depth}?", "why"),
        ("To whom did the animal belong?", "owner"), ("How long had the animal cried?", "long"),
        ("Who pulled {h} out?", "saver"), ("Why did {f} fall {depth}?", ""), ("Who pushed the animal?", ""),
    ),
)  # fmt: skip

LETTER = Plot(
    {"kin": cast.KIN, "when": cast.WHEN, "later": cast.LATER, "n": cast.FEW, "spot": cast.SPOTS, "hour": cast.HOURS,
     "treat": cast.TREATS, "beast": cast.BEASTS, "place": cast.SPOTS},
    (
        "<when:{when}>, a letter for <for:{f}> came to <hero:{h}>'s house by mistake. | <hero:{h}> found a letter"
        " <lay:{spot}>, and it was for <for:{f}>.",
        "It was from {f.his} <from:{kin}>. | It came from {f.his} <from:{kin}>, who lived <lived:in the city>. | It"
        " came from {f.his} <from:{kin}>, who lived <lived:by the sea>.",
        "{h} took it to {f.his} house, but nobody was there. | {h} wanted to bring it to {f.him}, but a {beast}"
        " stood in the way. | {h} knocked <knocks:{n}> times at {f.his} door, but nobody opened.",
    ),
    (
        Ending("{h} brought {f} a letter from {f.his} {kin}.", (
            "So {h.he} sat down and waited until <until:{hour}>. | {h.he} came again <later:{later}>.",
            "{f} read the letter and laughed. | {f} read it <times:{n}> times. | {f} wept when {f.he} read it.",
            "{f.his} {kin} was coming to visit on Sunday. | {f.his} {kin} was well and had a new house. | {f.he} gave"
            " {h} <thanks:{treat}>.")),
        Ending("{h} lost the letter for {f}, and {g} found it.", (
            "Then the wind took the letter and carried it away. | On the way back, {h.he} lost it.",
            "<later:{later}>, <finder:{g}> found it <caught:in an apple tree>. | Luckily, <finder:{g}> saw it "
            "<caught:in the mill pond>.",
            "It was dirty, but {f} could read it. | Nobody told {f} how it had got so dirty.")),
        Ending("A {beast} ate the letter for {f}.", (
            "While {h.he} waited, {h.he} fell asleep. | {h.he} put it down <put:{place}> for a moment.",
            "When {h.he} turned round, <eater:a {beast}> was eating it. | Before {h.he} could do anything, <eater:a"
            " {beast}> had eaten it.",
            "{h} told {f} all about it. | {h} was ashamed and helped {f} to write a new one.")),
    ),
    (
        ("For whom was the letter?", "for"), ("When did the letter come?", "when"), ("Who had the letter?", "hero"),
        ("Where was the letter first?", "lay"), ("From whom was the letter?", "from"),
        ("Where did {f}'s {kin} live?", "lived"), ("How many times did {h} knock?", "knocks"),
        ("Until when did {h} wait?", "until"), ("How many times did {f} read the letter?", "times"),
        ("What did {f} give {h}?", "thanks"), ("Who found the letter again?", "finder"),
        ("Where did {g} find the letter?", "caught"), ("What ate the letter?", "eater"),
        ("Where did {h} put the letter?", "put"),
    ),
    (
        ("When did the letter come?", "when"), ("Where did {f}'s {kin} live?", "lived"),
        ("How many times did {h} knock?", "knocks"), ("How many times did {g} read the letter?", ""),
        ("Where does {h}'s {kin} live?", ""), ("What ate the letter?", "eater"), ("Until when did {f} wait?", ""),
    ),
)  # fmt: skip

CLOCK = Plot(
    {"hour": cast.HOURS, "when": cast.WHEN, "n": cast.FEW, "goal": cast.GOALS, "tool": cast.CLEANERS,
     "treat": cast.TREATS, "while": cast.WHILES},
    (
        "<when:{when}>, the church clock stopped at <at:{hour}>. | The church clock stopped because <why:it was too"
        " cold>. | <when:{when}>, the church clock stood still.",
        "<late:{g}> came too late to <where:{goal}>. | <late:the children> came <hours:{n} hours> late to school."
        " | Nobody knew when to eat.",
        "So <hero:{h}> climbed up the tower with <tool:{tool}>. | <hero:{h}> wanted to repair it and climbed up the"
        " tower. | The teacher asked <hero:{h}> to look at it.",
    ),
    (
        Ending("The church clock stopped, and {h} repaired it.", (
            "The wheels were full of <dirt:dust>. | A <dirt:dead mouse> lay between the wheels. | The wheels were full"
            " of <dirt:old leaves>.",
            "The work took <long:{while}>, and then the clock went again. | {h.he} cleaned the wheels, and the"
            " clock went again.",
            "{f} clapped {f.his} hands. | {f} gave {h.him} <thanks:{treat}>.")),
        Ending("The church clock stopped because of a nest, and {h} let the birds stay.", (
            "Between the wheels, {h.he} found a nest with <eggs:{n}> eggs. | There was a nest in it with <eggs:{n}>"
            " young birds.",
            "{h.he} did not want to hurt them and came down again. | {h.he} told nobody but <told:{f}>.",
            "So the village had no clock until <until:the autumn>. | So the village had no clock until <until:the birds"
            " could fly>.")),
        Ending("The church clock stopped, and since then {f} rings a bell.", (
            "But the clock was too old, and {h.he} could not repair it. | But {h.he} could do nothing for it.",
            "Since then, <ringer:{f}> rings a bell <rings:{n} times a day>. | Now <ringer:{f}> rings a little bell"
            " <rings:every hour>.",
            "Everybody says that it is better so. | {f.he} is never late.")),
    ),
    (
        ("When did the clock stop?", "when"), ("At what hour did the clock stop?", "at"),
        ("Why did the clock stop?", "why"), ("Who came too late?", "late"), ("Where did {g} come too late?", "where"),
        ("How late were the children?", "hours"), ("Who climbed up the tower?", "hero"),
        ("What did {h} take up the tower?", "tool"), ("What was between the wheels?", "dirt"),
        ("How long did it take to repair the clock?", "long"), ("What did {f} give {h}?", "thanks"),
        ("How many were in the nest?", "eggs"), ("Who knew about the nest?", "told"),
        ("Until when did the village have no clock?", "until"), ("Who rings a bell?", "ringer"),
        ("How often does {f} ring the bell?", "rings"),
    ),
    (
        ("When did the clock stop?", "when"), ("At what hour did the clock stop?", "at"), ("Who came too late?",
        "late"),
        ("How late were the children?", "hours"), ("Why did {f} climb up the tower?", ""),
        ("What did {h} take up the tower?", "tool"), ("How much did the clock cost?", ""),
    ),
)  # fmt: skip

ILLNESS = Plot(
    {"animals": cast.ANIMALS, "n": cast.FEW, "days": cast.FEW, "meal": cast.MEALS, "treat": cast.TREATS,
     "when": cast.WHEN, "spot": cast.SPOTS},
    (
        "<when:{when}>, <ill:{f}> fell ill and could not feed {f.his} <many:{n}> {animals}. | <ill:{f}> had to stay in"
        " bed because <why:{f.he} had a bad cold>. | <ill:{f}> had to stay in bed for <days:{days} days>.",
        "So <hero:{h}> went to feed the {animals}. | <hero:{h}> promised to look after the {animals}.",
        "But the {animals} did not know {h.him} and ran away. | But the {animals} would not eat. | But {h.he} did not"
        " know what they ate.",
    ),
    (
        Ending("{f} was ill, and {h} fed the {animals} with the help of a song.", (
            "Then {h.he} sang <song:the song that {f} always sang>. | Then {h.he} put on <coat:{f}'s old coat> and sang"
            " like {f.him}.",
            "At once they came and ate all that {h.he} had. | They came running and found {h.him} <hid:{spot}>.",
            "When {f} was well again, {f.he} gave {h.him} <thanks:{treat}>. | {f} heard it from {f.his} bed and"
            " laughed.")),
        Ending("{f} was ill, and {g} helped {h} with the {animals}.", (
            "So {h.he} asked <helper:{g}>, who knew all about {animals}. | Luckily, <helper:{g}> came by and showed"
            " {h.him} how to do it.",
            "Together they fed them for <fed:{days} days>. | After that it was easy.",
            "{f} soon got well and cooked <meal:{meal}> for both. | {f} got well and never forgot it.")),
        Ending("{f} was ill, and {h} brought {f.him} soup but lost the {animals}.", (
            "In the evening, all the {animals} were in <garden:the teacher's garden>. | In the evening, all the"
            " {animals} were <garden:{spot}>.",
            "{h} brought {f} a soup and did not say a word about it. | {h} cooked a soup for {f} and kept silent.",
            "But {f} saw it from the window and was well at once. | {f} knew it already and had to laugh.")),
    ),
    (
        ("Who fell ill?", "ill"), ("Who had to stay in bed?", "ill"), ("When did {f} fall ill?", "when"),
        ("How many {animals} did {f} have?", "many"), ("Why did {f} stay in bed?", "why"),
        ("How long did {f} stay in bed?", "days"), ("Who looked after the {animals}?", "hero"),
        ("What did {h} sing?", "song"), ("What did {h} put on?", "coat"), ("Where did the {animals} find {h}?", "hid"),
        ("What did {f} give {h}?", "thanks"), ("Who helped {h}?", "helper"),
        ("How long did they feed the {animals}?", "fed"), ("What did {f} cook?", "meal"),
        ("Where were the {animals} in the evening?", "garden"),
    ),
    (
        ("How many {animals} did {f} have?", "many"), ("When did {f} fall ill?", "when"),
        ("Why did {f} stay in bed?", "why"), ("Who helped {h}?", "helper"), ("How long did {h} stay in bed?", ""),
        ("How many {animals} did {h} have?", ""), ("Why did {g} stay in bed?", ""),
    ),
)  # fmt: skip

PLOTS = (LOST, STRAY, STORM, MARKET, THIEF, PRESENT, RESCUE, LETTER, CLOCK, ILLNESS)
