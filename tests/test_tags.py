"""Schemes of tags against conlleval's rules written out anew, and seqeval where it is installed."""

import random

import pytest
from hypothesis import given, settings, strategies as st

from lmtasks.errors import InputError
from lmtasks.text.tags import as_bio, detect_scheme, spans, split_tag

ENTITIES = [("PER", 0, 2), ("PER", 2, 5), ("LOC", 6, 7), ("LOC", 7, 8), ("PER.NAM", 8, 11)]
WRITTEN = {
    "BIO": "B-PER I-PER B-PER I-PER I-PER O B-LOC B-LOC B-PER.NAM I-PER.NAM I-PER.NAM O",
    "IOB1": "I-PER I-PER B-PER I-PER I-PER O I-LOC B-LOC I-PER.NAM I-PER.NAM I-PER.NAM O",
    "BIOES": "B-PER E-PER B-PER I-PER E-PER O S-LOC S-LOC B-PER.NAM I-PER.NAM E-PER.NAM O",
    "BMES": "B-PER E-PER B-PER M-PER E-PER O S-LOC S-LOC B-PER.NAM M-PER.NAM E-PER.NAM O",
    "BILOU": "B-PER L-PER B-PER I-PER L-PER O U-LOC U-LOC B-PER.NAM I-PER.NAM L-PER.NAM O",
}
ANY_TAG = st.one_of(st.just("O"), st.tuples(st.sampled_from("BIES"), st.sampled_from(["A", "B"])).map("-".join))


def conlleval(tags: list[str]) -> list[tuple[str, int, int]]:
    """Restate endOfChunk and startOfChunk of conlleval, case by case."""
    found, start = [], None
    before, old = "O", ""
    for place, tag in enumerate([*tags, "O"]):
        now, _, label = tag.partition("-")
        ends = (
            (before in "BI" and now in "BSO")
            or before in "ES"
            or (before != "O" and old != label)
        )  # fmt: skip
        starts = (
            now in "BS"
            or (before in "ESO" and now in "EI")
            or (now != "O" and old != label)
        )  # fmt: skip
        if start is not None and ends:
            found.append((old, start, place))
            start = None
        if starts:
            start = place
        before, old = now, label
    return found


@pytest.mark.parametrize("scheme", WRITTEN)
def test_every_scheme_is_detected_read_and_rewritten(scheme):
    tags = WRITTEN[scheme].split()
    assert detect_scheme([tags]) == scheme
    assert spans(tags) == ENTITIES
    assert as_bio(ENTITIES, len(tags)) == WRITTEN["BIO"].split()


@given(st.lists(ANY_TAG, max_size=12))
def test_ill_formed_tags_mean_what_conlleval_takes_them_for(tags):
    assert spans(tags) == conlleval(tags)


@settings(deadline=None)  # the first example imports seqeval
@given(st.lists(ANY_TAG, max_size=12))
def test_ill_formed_tags_mean_what_seqeval_takes_them_for(tags):
    seqeval = pytest.importorskip("seqeval.metrics.sequence_labeling")
    assert spans(tags) == [(label, start, last + 1) for label, start, last in seqeval.get_entities(tags)]


@given(st.lists(ANY_TAG, max_size=12))
def test_bio_keeps_the_entities(tags):
    bio = as_bio(spans(tags), len(tags))
    assert spans(bio) == spans(tags)


def test_tags_without_labels_cut_words():
    assert spans(["B", "M", "E", "S"]) == [("", 0, 3), ("", 3, 4)]
    assert as_bio([("", 0, 3), ("", 3, 4)], 4) == ["B", "I", "I", "B"]
    assert split_tag("B-PER-NAM") == ("B", "PER-NAM")


@pytest.mark.parametrize(
    ("rows", "scheme"),
    [
        ([], "BIO"),
        ([["O", "O"]], "BIO"),
        ([["B-A", "I-A"], ["O", "I-A"]], "BIO"),  # ill-formed, but no B of IOB1 follows nothing
        ([["I-A"], ["I-A", "B-A"]], "IOB1"),
        ([["I-A", "I-B", "O"]], "IOB1"),
        ([["S-A"], ["O"]], "BIOES"),
    ],
)
def test_few_tags_are_enough_to_detect_a_scheme(rows, scheme):
    assert detect_scheme(rows) == scheme


@pytest.mark.parametrize("tag", ["NOUN", "", "X-PER", "O-PER", "b-per", "BI-PER"])
def test_what_is_no_tag_is_named(tag):
    for read in (spans, lambda tags: detect_scheme([tags])):
        with pytest.raises(InputError, match=f"tag {tag!r}.*B-PER"):
            read(["O", tag])


def test_mixed_schemes_are_named():
    with pytest.raises(InputError, match="begin with M, U: no one scheme"):
        detect_scheme([["M-A", "U-A"]])


def test_random_entities_survive_every_scheme():
    draw = random.Random(0)
    for _ in range(20):
        cuts = sorted(draw.sample(range(30), 8))
        entities = [(draw.choice("AB"), start, stop) for start, stop in zip(cuts[::2], cuts[1::2], strict=True)]
        assert spans(as_bio(entities, 30)) == entities
