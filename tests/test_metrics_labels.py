"""Labels and entities against torchmetrics, scikit-learn and seqeval; the picture of a confusion matrix."""

import random
import sys
from functools import partial

import pytest
import torch
from torchmetrics.functional import classification

from lmtasks.errors import InputError
from lmtasks.metrics import Entities, Labels, MultiLabels, entity_scores, label_scores, multi_label_scores
from lmtasks.reports.confusion import draw_confusion
from lmtasks.text.tags import spans

CLASSES = ["anger", "joy", "optimism", "sadness", "never"]


def labels(rows: int, seed: int = 0) -> tuple[list[str], list[str]]:
    draw = random.Random(seed)
    actual = [draw.choice(CLASSES[:4]) for _ in range(rows)]
    return [draw.choice(CLASSES[:4]) if draw.random() < 0.4 else label for label in actual], actual


def numbers(names: list[str]) -> torch.Tensor:
    return torch.tensor([CLASSES.index(name) for name in names])


def several(rows: int, seed: int) -> list[list[str]]:
    draw = random.Random(seed)
    return [[name for name in CLASSES[:4] if draw.random() < 0.4] for _ in range(rows)]


def hot(rows: list[list[str]]) -> torch.Tensor:
    return torch.tensor([[int(name in row) for name in CLASSES] for row in rows])


def test_accuracy_and_macro_f1_are_those_of_torchmetrics():
    given, actual = labels(200)
    found = label_scores(given, actual, CLASSES).values
    pair = numbers(given), numbers(actual)
    assert found["accuracy"] == pytest.approx(
        100 * classification.multiclass_accuracy(*pair, 5, average="micro").item()
    )
    assert found["macro_f1"] == pytest.approx(
        100 * classification.multiclass_f1_score(*pair, 5, average="macro").item()
    )


def test_the_confusion_matrix_counts_actual_by_predicted():
    given, actual = labels(50)
    confusion = label_scores(given, actual, CLASSES).confusion
    for row, truth in enumerate(CLASSES):
        for column, guess in enumerate(CLASSES):
            assert confusion[row, column] == sum(pair == (guess, truth) for pair in zip(given, actual, strict=True))


def test_several_labels_are_scored_as_by_torchmetrics():
    given, actual = several(100, 1), several(100, 2)
    found = multi_label_scores(given, actual, CLASSES).values
    for average in ("micro", "macro"):
        expected = classification.multilabel_f1_score(hot(given), hot(actual), 5, average=average)
        assert found[f"{average}_f1"] == pytest.approx(100 * expected.item())
    expected = classification.multilabel_exact_match(hot(given), hot(actual), 5)
    assert found["subset_accuracy"] == pytest.approx(100 * expected.item())


def test_the_scores_are_those_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    given, actual = labels(80, seed=3)
    found = label_scores(given, actual, CLASSES).values
    assert found["macro_f1"] == pytest.approx(100 * sklearn.f1_score(actual, given, average="macro"))
    given, actual = several(80, 4), several(80, 5)
    found = multi_label_scores(given, actual, CLASSES).values
    expected = sklearn.f1_score(hot(actual), hot(given), average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(100 * expected)


def test_the_table_has_a_line_for_each_label():
    score = label_scores(["坏", "good", "good"], ["坏", "good", "坏"], ["坏", "good"])
    head, bad, good = score.table.splitlines()
    assert head.split() == ["precision", "recall", "f1", "support"]
    assert bad.split()[0] == "坏"
    assert [float(cell) for cell in bad.split()[1:]] == pytest.approx([100, 50, 200 / 3, 2], abs=0.01)
    assert good.split()[1:] == ["50.00", "100.00", "66.67", "1"]
    assert len({len(bad) + 1, len(good)}) == 1  # the Chinese character is two columns wide


def test_a_metric_shows_the_table_the_labels_and_the_confusion_matrix_of_its_rows():
    metric, (given, actual) = Labels(CLASSES), labels(50)
    for rows in (slice(20), slice(20, None)):
        metric.update(given[rows], actual[rows])
    score = label_scores(given, actual, CLASSES)
    assert (metric.table(), metric.by_label()) == (score.table, score.by_label)
    assert torch.equal(metric.confusion, score.confusion)


def test_one_class_alone_is_always_right():
    assert label_scores(["only"] * 3, ["only"] * 3, ["only"]).values["accuracy"] == 100


@pytest.mark.parametrize("metric", [Labels, MultiLabels])
def test_unknown_labels_and_inventories_with_faults_are_named(metric):
    rows = [["joy"]], [["fear"]]
    if metric is Labels:
        rows = ["joy"], ["fear"]
    with pytest.raises(InputError, match="row 1: label 'fear', expected one of anger, joy"):
        metric(CLASSES).update(*rows)
    for faulty in ([], ["a", "a"]):
        with pytest.raises(InputError, match="at least one, each once"):
            metric(faulty)


def test_a_text_in_place_of_a_list_of_labels_is_named():
    for refusing in (MultiLabels(CLASSES).update, partial(multi_label_scores, labels=CLASSES)):
        with pytest.raises(InputError, match="row 1: 'joy', expected a list"):
            refusing(["joy"], [["joy"]])


def tagged(rows: int, seed: int) -> list[list[str]]:
    draw = random.Random(seed)
    choices = ["O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC", "S-ORG", "E-PER"]
    return [[draw.choice(choices) for _ in range(10)] for _ in range(rows)]


def test_entities_are_scored_as_by_counting():
    given, actual = tagged(60, 1), tagged(60, 2)
    found = entity_scores(list(map(spans, given)), list(map(spans, actual)), ["PER", "LOC", "ORG"]).values
    sets = [{(row, *entity) for row, tags in enumerate(side) for entity in spans(tags)} for side in (given, actual)]
    right = len(sets[0] & sets[1])
    assert 0 < right < len(sets[0])
    assert found["precision"] == pytest.approx(100 * right / len(sets[0]))
    assert found["recall"] == pytest.approx(100 * right / len(sets[1]))
    assert found["f1"] == pytest.approx(
        2 * found["precision"] * found["recall"] / (found["precision"] + found["recall"])
    )


def test_entities_are_scored_as_by_seqeval():
    seqeval = pytest.importorskip("seqeval.metrics")
    given, actual = tagged(60, 3), tagged(60, 4)
    score = entity_scores(list(map(spans, given)), list(map(spans, actual)), ["PER", "LOC", "ORG"])
    for name in ("precision", "recall", "f1"):
        assert score.values[name] == pytest.approx(100 * getattr(seqeval, f"{name}_score")(actual, given))
    report = seqeval.classification_report(actual, given, output_dict=True)
    for label, row in score.by_label.items():
        assert row["support"] == report[label]["support"]
        assert row["f1"] == pytest.approx(100 * report[label]["f1-score"])
        assert f"{row['f1']:.2f}" in next(line for line in score.table.splitlines() if line.startswith(label))


def test_without_entities_the_scores_are_zero_and_an_entity_twice_counts_once():
    assert entity_scores([[]], [[]], ["PER"]).values["f1"] == 0
    assert entity_scores([[]], [[]], []).values["f1"] == 0
    assert entity_scores([[("PER", 0, 1)] * 2], [[("PER", 0, 1)]], ["PER"]).values["precision"] == 100


def test_entities_with_an_unknown_label_are_named():
    with pytest.raises(InputError, match="row 2: label 'LOC', expected one of PER"):
        Entities(["PER"]).update([[], [("LOC", 0, 1)]], [[], []])
    with pytest.raises(InputError, match="expected each once"):
        Entities(["PER", "PER"])


@pytest.mark.parametrize("size", [1, 5, 26])
def test_the_confusion_matrix_is_drawn_as_a_picture(size, tmp_path):
    pytest.importorskip("matplotlib")
    image = pytest.importorskip("matplotlib.image")
    path = tmp_path / "confusion.png"
    draw_confusion(torch.randint(0, 9, (size, size)), [f"类 {number}" for number in range(size)], path, title="$a_b$")
    height, width = image.imread(path).shape[:2]
    assert 200 < height < 4000
    assert 200 < width < 4000


def test_a_vector_picture_has_labels_and_counts_as_text(tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "confusion.svg"
    draw_confusion(torch.tensor([[1234, 7], [0, 89]]), ["bad", "good"], path, "Reviews")
    picture = path.read_text(encoding="utf-8")
    for text in (">bad<", ">good<", ">1,234<", ">89<", ">Reviews<", ">predicted<", ">actual<"):
        assert text in picture


def test_without_matplotlib_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=r"pip install 'lmtasks\[plot\]'"):
        draw_confusion(torch.ones(2, 2), ["a", "b"], tmp_path / "a.png")
