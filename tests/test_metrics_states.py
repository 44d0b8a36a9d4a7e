"""The torchmetrics classes: however rows are split and ordered, the score is the same, and that of the function."""

import pickle
import random
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torchmetrics import MetricCollection

from lmtasks import metrics
from lmtasks.metrics import (
    BLEU,
    CHRF,
    ROUGE,
    TER,
    BitsPerCharacter,
    Distinct,
    Entities,
    Labels,
    MultiLabels,
    Perplexity,
    SQuAD,
)

WORDS = ["the", "cat", "sat", "on", "a", "mat", "dog.", "猫在", "垫子上。"]
ROWS = 12


def columns(kind: str, seed: int = 0) -> tuple[list, ...]:
    """Return the arguments of update, a list each, that suit a metric."""
    draw = random.Random(seed)
    text = lambda: " ".join(draw.choice(WORDS) for _ in range(draw.randint(0, 6)))  # noqa: E731
    several = lambda: [label for label in "abc" if draw.random() < 0.5]  # noqa: E731
    make = {
        "answers": (text, lambda: [text() for _ in range(draw.randint(0, 3))]),
        "references": (text, lambda: [text() for _ in range(draw.randint(1, 3))]),
        "three references": (text, lambda: [text() for _ in range(3)]),
        "labels": (lambda: draw.choice("abc"), lambda: draw.choice("abc")),
        "several": (several, several),
        "entities": (lambda: [(label, 0, 1) for label in several()], lambda: [(label, 0, 1) for label in several()]),
        "texts": (text,),
    }[kind]
    return tuple([draw_one() for _ in range(ROWS)] for draw_one in make)


MAKERS = {
    "bleu": (BLEU, "three references"),
    "bleu lowercase": (lambda: BLEU(lowercase=True), "three references"),
    "bleu zh": (lambda: BLEU("zh"), "three references"),
    "chrf": (CHRF, "three references"),
    "chrf++": (lambda: CHRF(word_order=2), "three references"),
    "ter": (TER, "three references"),
    "squad": (SQuAD, "answers"),
    "squad zh": (lambda: SQuAD("zh"), "answers"),
    "rouge": (ROUGE, "references"),
    "labels": (lambda: Labels("abc"), "labels"),
    "several labels": (lambda: MultiLabels("abc"), "several"),
    "entities": (lambda: Entities("abc"), "entities"),
    "distinct": (Distinct, "texts"),
}
every_metric = pytest.mark.parametrize(("make", "kind"), MAKERS.values(), ids=MAKERS)


def score(metric, data: tuple[list, ...], rows=range(ROWS)) -> torch.Tensor | dict[str, torch.Tensor]:
    metric.update(*([column[row] for row in rows] for column in data))
    return metric.compute()


def assert_same(found, expected) -> None:
    assert isinstance(found, dict) == isinstance(expected, dict)
    found, expected = (scores if isinstance(scores, dict) else {"": scores} for scores in (found, expected))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@every_metric
@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False))
def test_splitting_and_reordering_the_rows_changes_no_bit(make, kind, draw):
    data = columns(kind, draw.randint(0, 99))
    expected = score(make(), data)
    order = draw.sample(range(ROWS), ROWS)
    first, second = sorted(draw.choices(range(ROWS + 1), k=2))
    split = make()
    for part in (order[:first], order[first:second]):
        split.update(*([column[row] for row in part] for column in data))
    assert_same(score(split, data, order[second:]), expected)


@every_metric
@pytest.mark.parametrize("here", [7, ROWS])
def test_two_ranks_give_the_score_of_one_even_if_one_has_no_rows(make, kind, here):
    data = columns(kind)
    ranks = [make(), make()]
    for rank, rows in zip(ranks, (range(here), range(here, ROWS)), strict=True):
        rank.update(*([column[row] for row in rows] for column in data))
    states = [getattr(ranks[1], name) for name in ranks[1]._reductions]  # gathered in this order
    others = iter([torch.cat(state) if isinstance(state, list) else state for state in states])
    ranks[0].distributed_available_fn = lambda: True
    ranks[0].dist_sync_fn = lambda state, group: [state, next(others)]
    assert_same(ranks[0].compute(), score(make(), data))


@every_metric
def test_merge_reset_pickle_and_forward_keep_the_sums(make, kind):
    data = columns(kind, seed=1)
    first, second = make(), make()
    assert_same(first(*(column[:5] for column in data)), score(make(), data, range(5)))
    second.update(*(column[5:] for column in data))
    first.merge_state(pickle.loads(pickle.dumps(second)))
    assert_same(first.compute(), score(make(), data))
    first.reset()
    assert_same(score(first, data), score(make(), data))


@every_metric
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_no_rows_score_zero(make, kind):
    metric = make()
    metric.update(*([] for _ in columns(kind)))
    found = metric.compute()
    assert not any(found.values() if isinstance(found, dict) else [found])
    assert ":0|" in metric.signature


@pytest.mark.parametrize(
    ("metric", "function", "data"),
    [
        (BLEU("zh"), partial(metrics.bleu, language="zh"), "three references"),
        (CHRF(2), partial(metrics.chrf, word_order=2), "three references"),
        (TER(), metrics.ter, "three references"),
        (SQuAD("zh"), partial(metrics.squad, language="zh"), "answers"),
        (ROUGE("de"), partial(metrics.rouge, language="de"), "references"),
        (Distinct("zh"), partial(metrics.distinct, language="zh"), "texts"),
        (Entities("abc"), partial(metrics.entity_scores, labels="abc"), "entities"),
        (Labels("abc"), partial(metrics.label_scores, labels="abc"), "labels"),
        (MultiLabels("abc"), partial(metrics.multi_label_scores, labels="abc"), "several"),
    ],
)
def test_a_wrapper_gives_what_its_function_gives(metric, function, data):
    rows = columns(data, seed=2)
    metric.update(*rows)
    expected = function(*rows)
    assert metric.score() == expected
    assert metric.signature == expected.signature
    found = metric.compute()
    values = found if isinstance(found, dict) else dict.fromkeys(expected.values, found)
    assert {name: value.item() for name, value in values.items()} == pytest.approx(expected.values)


def test_a_collection_lets_metrics_share_their_rows():
    data = columns("three references")
    several = MetricCollection({"bleu": BLEU(), "chrf": CHRF(), "ter": TER()})
    for rows in (slice(5), slice(5, None)):
        several.update(*(column[rows] for column in data))
    assert_same(
        several.compute(), {"bleu": score(BLEU(), data), "chrf": score(CHRF(), data), "ter": score(TER(), data)}
    )


def test_rows_are_kept_whatever_they_are_made_of():
    texts = Distinct()
    texts.update(["a\u2028b \ud83d", 'quotes " and\nlines'])  # half a surrogate pair, and ends of lines
    assert texts.signature.startswith("words:7|")
    spans = Entities(["PER"])
    spans.update([{("PER", np.int64(0), np.int64(2))}], [(("PER", 0, 2),)])
    assert spans.compute()["f1"] == 100


@pytest.mark.parametrize("make", [Perplexity, BitsPerCharacter])
def test_sums_of_log_likelihoods_add_up(make):
    whole, first, second = make(), make(), make()
    whole.update(12.5, 10)
    first.update(torch.tensor(4.5), torch.tensor(3))
    second.update(8.0, 7)
    first.merge_state(pickle.loads(pickle.dumps(second)))
    assert torch.equal(first.compute(), whole.compute())
