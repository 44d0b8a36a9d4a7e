"""More plots of the village's stories: presents, rescues, letters, clocks, illness and quarrels; read them as `plots`.

Written for this project.
"""

from __future__ import annotations

from lmtasks.village import cast
from lmtasks.village.plots import Ending, Plot

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
        " came"
        " from {f.his} <from:{kin}>, who lived <lived:by the sea>.",
        "{h} took it to {f.his} house, but nobody was there. | {h} wanted to bring it to {f.him}, but a {beast}"
        " stood in"
        " the way. | {h} knocked <knocks:{n}> times at {f.his} door, but nobody opened.",
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
            " {animals}"
            " were <garden:{spot}>.",
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

MORE_PLOTS = (PRESENT, RESCUE, LETTER, CLOCK, ILLNESS)
