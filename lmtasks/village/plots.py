"""Plots of the village's stories, as tables of sentences: things lost and found, storms, markets, thieves, presents.

Written for this project. How to read them: " | " parts the ways to say a sentence, "-" says nothing; {h} is the hero,
{f} a friend of the other sex, so that he and she are clear, {g} a third one; <when:...> marks the answer to a question.
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
        " gone."
        " | But on the way, {h.he} lost {h.his} {fine} {thing}.",
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
        " <owner:{h}>'s"
        " {a} ran away because <why:it was hungry>.",
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
            " own"
            " {tool} and did the work.",
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
            " with"
            " <arm:a broom>. | {h.he} chased it away with <arm:an old shoe>.")),
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

PLOTS = (LOST, STRAY, STORM, MARKET, THIEF)
