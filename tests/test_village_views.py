"""The views of the village beside its sentences: stories, summaries, questions, reviews, names, dialogues."""

import math
import random
import re
import string
from collections import Counter, defaultdict

import pytest

from lmtasks.village import Village, dialogues, names, plots, reviews
from lmtasks.village.dice import Dice, fill

VILLAGE = Village(train=2000, validation=200, test=200, seed=3)
SPLITS = ("train", "validation", "test")
STORIES, SUMMARIES, REVIEWS, NAMES, DIALOGUES = (
    ("text",),
    ("text", "summary"),
    ("text", "label"),
    ("words", "tags"),
    ("turns",),
)
QUESTIONS = ("question", "context", "answers", "starts")
VIEWS = (STORIES, SUMMARIES, QUESTIONS, REVIEWS, NAMES, DIALOGUES)
PLOTS = plots.PLOTS


def rows(columns, split="train", village=VILLAGE):
    return list(village.rows(split, columns))


def body(row):
    return str(next(row[column] for column in ("context", "text", "words", "turns") if column in row))


@pytest.mark.parametrize("columns", VIEWS)
def test_no_text_comes_twice_within_or_across_splits(columns):
    texts = [body(row) for split in SPLITS for row in rows(columns, split)]
    assert len(set(texts)) == len(texts) == 2400


@pytest.mark.parametrize("columns", VIEWS)
def test_a_larger_train_split_begins_with_the_smaller_one_and_leaves_the_others_alone(columns):
    small, large = (Village(train=size, validation=20, test=20) for size in (50, 100))
    assert rows(columns, village=large)[:50] == rows(columns, village=small)
    for split in ("validation", "test"):
        assert rows(columns, split, large) == rows(columns, split, small)


@pytest.mark.parametrize("columns", VIEWS)
def test_rows_have_the_columns_asked_for_and_their_place(columns):
    for number, row in enumerate(rows(columns, "test"), 1):
        assert row == {**{column: row[column] for column in columns}, "place": f"village/test, row {number}"}


def test_a_view_is_found_by_some_of_its_columns_too():
    whole = rows(QUESTIONS, "test")
    for columns in (("question", "context", "answers"), ("question", "context")):
        assert rows(columns, "test") == [{column: row[column] for column in (*columns, "place")} for row in whole]


def test_stories_summaries_and_questions_are_about_the_same_stories():
    for split in SPLITS:
        told = [row["text"] for row in rows(STORIES, split)]
        assert told == [row["text"] for row in rows(SUMMARIES, split)]
        assert told == [row["context"] for row in rows(QUESTIONS, split)]


def test_a_row_may_be_changed_without_changing_the_village():
    first = next(VILLAGE.rows("test", DIALOGUES))
    first["turns"].clear()
    assert next(VILLAGE.rows("test", DIALOGUES))["turns"]


@pytest.mark.parametrize("columns", [STORIES, SUMMARIES, QUESTIONS, REVIEWS, DIALOGUES])
def test_texts_are_written_out(columns):
    for row in rows(columns):
        values = (row[column] for column in columns if column not in ("answers", "starts", "label"))
        for text in (text for value in values for text in (value if isinstance(value, list) else [value])):
            assert re.fullmatch(r"[A-Z][A-Za-z', ?.]*[.?]", text), text
            assert not re.search(r"  |[.?] [a-z]| [.,?]|\b[Aa] [aeiou]|\b[Aa]n (?!hour)[^aeiou]", text), text
            assert not re.search(r"\b(\w+) \1\b", text), text


def test_stories_have_four_to_eight_sentences_and_a_short_summary():
    for row in rows(SUMMARIES):
        assert 4 <= row["text"].count(".") <= 8
        assert row["summary"].count(".") == 1
        assert len(row["summary"]) < 0.6 * len(row["text"])


def test_who_a_summary_names_is_in_the_story():
    for row in rows(SUMMARIES):
        for name in re.findall(r"\b[A-Z][a-z]+\b", row["summary"])[1:]:
            assert name in row["text"]


def test_answers_stand_in_the_context_where_starts_says():
    for row in rows(QUESTIONS):
        assert len(row["answers"]) == len(row["starts"]) <= 1
        for answer, start in zip(row["answers"], row["starts"], strict=True):
            assert answer
            assert row["context"][start : start + len(answer)] == answer


def test_about_a_fifth_of_the_questions_has_no_answer():
    open_questions = sum(not row["answers"] for row in rows(QUESTIONS))
    assert 0.15 < open_questions / 2000 < 0.25


@pytest.mark.parametrize("word", ["Who", "What", "Where", "When", "Why", "How many", "How long"])
def test_every_kind_of_question_is_asked_with_and_without_an_answer(word):
    asked = [bool(row["answers"]) for row in rows(QUESTIONS) if row["question"].startswith(word)]
    assert sum(asked) > 20
    assert asked.count(False) > 5


def test_the_same_question_has_an_answer_in_one_story_and_none_in_another():
    answered = defaultdict(set)
    for row in rows(QUESTIONS):
        form = re.sub(r"\b([A-Z][a-z]+|the \w+)", "X", row["question"][1:])
        answered[form].add(bool(row["answers"]))
    both = {form for form, found in answered.items() if len(found) == 2}
    unanswered = [form for form, found in answered.items() if False in found]
    assert len(both) > 0.4 * len(unanswered)


@pytest.mark.parametrize("plot", PLOTS)
def test_every_mark_of_a_plot_is_asked_for_and_every_question_can_be_answered(plot):
    ways = " ".join((*plot.steps, *(step for ending in plot.endings for step in ending.steps)))
    marks = set(re.findall(r"<(\w+):", ways))
    assert {mark for _, mark in plot.questions} <= marks
    assert {mark for _, told in plot.traps for mark in told.split()} <= marks


@pytest.mark.parametrize("plot", PLOTS)
def test_every_slot_of_a_plot_is_used(plot):
    texts = [*plot.steps, *(text for ending in plot.endings for text in (ending.summary, *ending.steps))]
    used = {name.split(".")[0] for text in texts for _, name, _, _ in string.Formatter().parse(text) if name}
    assert set(plot.slots) <= used <= {*plot.slots, "h", "f", "g"}


def test_reviews_are_positive_negative_or_neutral():
    counts = Counter(row["label"] for row in rows(REVIEWS))
    assert counts.keys() == {"positive", "negative", "neutral"}
    assert min(counts.values()) > 300


def test_no_bag_of_words_tells_positive_from_negative_reviews():
    """Naive Bayes, the classifier by keywords, errs on at least a quarter of them."""
    counts = {"positive": Counter(), "negative": Counter()}
    for row in (row for row in rows(REVIEWS) if row["label"] in counts):
        counts[row["label"]].update(re.findall(r"\w+", row["text"].lower()))
    right = []
    for row in (row for row in rows(REVIEWS, "test") if row["label"] in counts):
        words = re.findall(r"\w+", row["text"].lower())
        odds = sum(math.log((counts["positive"][word] + 1) / (counts["negative"][word] + 1)) for word in words)
        right.append((odds > 0) == (row["label"] == "positive"))
    assert 0.4 < sum(right) / len(right) < 0.75


def test_in_reviews_the_clause_after_but_and_the_main_clause_decide():
    found = Counter()
    for row in rows(REVIEWS):
        if match := re.search(r"The (soup|bread|fish) was (\w+) but (\w+)\.", row["text"]):
            side = next(side for place in reviews.PLACES for side in place.sides if side.name == match[1])
            assert match[3] in (side.good if row["label"] == "positive" else side.bad)
            assert match[2] in (side.bad if row["label"] == "positive" else side.good)
            found[row["label"]] += 1
    assert min(found["positive"], found["negative"]) > 0


@pytest.mark.parametrize("place", reviews.PLACES)
def test_every_adjective_of_a_review_has_its_contrary(place):
    for side in place.sides:
        assert len(side.good.split(", ")) == len(side.bad.split(", ")) >= 2


def test_adjectives_praise_one_thing_and_blame_another():
    sides = [side for place in reviews.PLACES for side in place.sides]
    good, bad = ({word for side in sides for word in getattr(side, kind).split(", ")} for kind in ("good", "bad"))
    assert {"cold", "old", "soft", "dry", "warm", "light", "heavy", "thin", "thick"} <= good & bad


def test_tags_are_bio_and_names_are_marked_whole():
    known = {
        "PER": {*names.PERSONS, *names.LAST},
        "LOC": {*names.STREETS, *names.REGIONS},
        "SHOP": {*names.INNS, *names.SHOPS},
        "ANIMAL": set(names.PETS),
    }
    lower = {kind: {name.lower() for name in found} for kind, found in known.items()}
    for row in rows(NAMES):
        assert len(row["words"]) == len(row["tags"])
        spans, previous = [], "O"
        for word, tag in zip(row["words"], row["tags"], strict=True):
            if tag.startswith("B-"):
                spans.append((tag[2:], [word]))
            if tag.startswith("I-"):
                assert previous[2:] == tag[2:]
                spans[-1][1].append(word)
            previous = tag
        assert all(" ".join(name).lower() in lower[kind] for kind, name in spans)


def test_words_of_names_are_no_names_elsewhere():
    tags = defaultdict(Counter)
    for row in rows(NAMES):
        for word, tag in zip(row["words"], row["tags"], strict=True):
            tags[word.lower()][tag] += 1
    for word in ("rose", "honey", "snow", "robin", "miller", "mill", "lane", "hill", "wood", "church", "red", "cow"):
        assert tags[word]["O"] > 5, word
        assert tags[word].total() > tags[word]["O"] + 5, word
    assert len(set(tags["rose"]) - {"O"}) >= 4
    assert {"B-PER", "B-ANIMAL", "B-LOC", "O"} <= set(tags["robin"])


def test_some_rows_with_names_have_no_capitals_and_capitals_are_no_sign_of_a_name():
    told = rows(NAMES)
    assert 100 < sum(row["words"] == [word.lower() for word in row["words"]] for row in told) < 400
    assert sum(row["words"][0][0].isupper() and row["tags"][0] == "O" for row in told) > 500


def test_dialogues_have_three_to_six_turns():
    assert {len(row["turns"]) for row in rows(DIALOGUES)} == {3, 4, 5, 6}


def test_prices_add_up():
    checked = 0
    for turns in (row["turns"] for row in rows(DIALOGUES)):
        told = " ".join(turns)
        each, count, total, paid, back = (
            re.search(pattern, told)
            for pattern in (
                r"(?:costs |Yes, |coins\? |\? )(\w+) coins (?:a night|for one)|costs (\w+) coins\.",
                r"(\w+) (?:loaves|cakes|pies|rolls|nights)(?: make|, that is|\.)",
                r"(?:make|that is|Then it is) (\w+) coins",
                r"Here are (\w+) coins",
                r"(?:get|give you) (\w+) coins",
            )
        )
        number = {word: value for value, word in enumerate(dialogues.NUMBERS)}
        if each and count and total:
            once = number[(each[1] or each[2]).lower()]
            assert number[count[1].lower()] * once == number[total[1]], turns
            checked += 1
        if paid and total and back:
            assert number[paid[1]] - number[total[1]] == number[back[1]], turns
    assert checked > 200


def test_the_way_to_a_place_is_always_the_same():
    for way in dialogues.WAYS:
        for told in (" ".join(row["turns"]) for row in rows(DIALOGUES)):
            if re.match(rf".*(where is|get to|looking for) {way.place}[.?]", told):
                assert way.way in told


def test_fill_finds_its_marks_after_capitals_and_articles():
    text, marks = fill("<who:{h}> saw a <what:{thing}>. <when:{when}>, {h} ran.", {
        "h": "the miller", "thing": "old hat", "when": "at noon"
    })  # fmt: skip
    assert text == "The miller saw an old hat. At noon, the miller ran."
    assert [(name, text[start:end]) for name, start, end in marks] == [
        ("who", "The miller"),
        ("what", "old hat"),
        ("when", "At noon"),
    ]


def test_dice_give_slots_of_one_table_different_things():
    dice = Dice(random.Random(0))
    for _ in range(50):
        assert sorted(dice.cast(dict.fromkeys("abc", (1, 2, 3))).values()) == [1, 2, 3]
        assert sorted(dice.several((1, 2, 3), 3)) == [1, 2, 3]


def test_reviews_say_of_a_thing_only_what_suits_it():
    for row in rows(REVIEWS):
        for name, adjective in re.findall(
            r"[Tt]he (\w+) (?:is|are|was|were|would be)(?: not| never)? (\w+)", row["text"]
        ):
            sides = [side for place in reviews.PLACES for side in place.sides if side.name == name]
            suited = {word.split()[0] for side in sides for word in f"{side.good}, {side.bad}".split(", ")}
            assert not sides or adjective in suited | {"really", "neither"}, row
