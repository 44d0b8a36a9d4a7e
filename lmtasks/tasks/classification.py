"""Classification: a text in, its label out, or as many labels as are right."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from lmtasks import metrics
from lmtasks.batch import Example
from lmtasks.errors import InputError
from lmtasks.heads.classification import LONGEST, SHORTEST, ClassificationHead, Hidden, Ngrams, Pooling
from lmtasks.tasks.base import (
    Answer,
    Answers,
    Prediction,
    Row,
    Task,
    fault,
    listed,
    text_of,
    texts_of,
)
from lmtasks.text.base import BaseTokenizer
from lmtasks.text.forms import alike, listed_texts

THRESHOLD = 0.5  # probability from which on a text has a label, where it may have several
SHOWN = 20  # labels that an error message lists
TRUTH = frozenset(["0", "1", "0.0", "1.0", "true", "false"])  # what stands for each label in a multi-hot row
MULTI_HOT = """a 0 or 1 for each label, expected a list of the labels that are right, as in ["sport", "film"]"""


@dataclass(frozen=True)
class ClassificationTask(Task):
    """Say which label a text has.

    Before: `{"text": "A fine film.", "label": "good"}`.
    After, where each word is one token: source `A fine film . </s>`, target `[1]`, the place of "good" among the
    labels in the order of the alphabet. With `multi_label` a row has a list of labels, and the target is a 0 or 1 for
    each label there is.

    Example:
        >>> rows = [{"text": "A fine film.", "label": "good"}, {"text": "Dull.", "label": "bad"}]
        >>> ClassificationTask().learn(rows).labels
        ('bad', 'good')
    """

    kind = "classification"
    empty = "none of the labels fits, or the text is blank"
    cuts_target = False

    multi_label: bool = False
    """Whether a text may have several labels, or none."""
    pair: bool = False
    """Whether a row has two texts to be read together, "text" and "pair"."""
    balanced: bool = False
    """Weigh each label by rows / (labels * rows that have it), so that rare ones count as much as frequent ones; with
    `multi_label` only for the rows that have it."""
    main: Literal["accuracy", "macro_f1"] = "accuracy"
    """The score that chooses the best checkpoint; with `multi_label` accuracy is the share of rows whose labels are all
    right."""
    pooling: Pooling = "mean"
    """What stands for the text: the mean of its token states, the maximum of each feature, the first state, or a mean
    weighted by attention."""
    dropout: float = 0.3
    """Share of the features of a text dropped."""
    label_smoothing: float = 0.0
    """Share of the probability spread over all labels (Szegedy et al. 2016, section 7)."""
    labels: tuple[str, ...] = ()
    """All labels, found in the training rows."""
    weights: tuple[float, ...] = ()
    """Factor of the loss of each label, computed from the training rows where `balanced` is set."""
    ngrams: int = 0
    """Read sequences of 2 up to so many bytes beside the encoder's states; 0 = none. Helps where there are only some
    thousand rows."""
    hidden: Hidden = "none"
    """Activation of a hidden layer between text and labels, as BERT has one; none = no such layer."""

    def __post_init__(self) -> None:
        if self.ngrams != 0 and not SHORTEST <= self.ngrams <= LONGEST:
            raise InputError(f"ngrams {self.ngrams}; give {SHORTEST} to {LONGEST} bytes, or 0 for none")

    @property
    def columns(self) -> tuple[str, ...]:
        """The texts and the label."""
        return (*self.source_columns, "label")

    @property
    def source_columns(self) -> tuple[str, ...]:
        """The text, or two that are read together."""
        return ("text", "pair") if self.pair else ("text",)

    @property
    def context(self) -> str | None:
        """The second text of a pair."""
        return "pair" if self.pair else None

    @property
    def example_call(self) -> str:
        """The method; a text alone is enough of a row."""
        return 'solve([{"text": "A sentence.", "pair": "Another."}])' if self.pair else 'classify("A sentence.")'

    @property
    def sentence(self) -> str:
        """The labels."""
        what = "two texts have together" if self.pair else "a text has"
        if len(self.labels) == 1:
            return f"Says whether {'two texts have' if self.pair else 'a text has'} the label {self.labels[0]}."
        several = ", one, several or none," if self.multi_label else ""
        return f"Says which of {len(self.labels)} labels{several} {what}: {listed(self.labels)}."

    @property
    def limits(self) -> list[str]:
        """It knows no other labels."""
        if self.multi_label:
            return ["It knows no other labels, and may give a text none."]
        return ["It gives every text one of its labels, also one that none of them fits."]

    @property
    def main_metric(self) -> str:
        """The setting `main` under its name in `score`."""
        return "subset_accuracy" if self.multi_label and self.main == "accuracy" else self.main

    def learn(self, rows: Iterable[Row]) -> ClassificationTask:
        """Return the task with the labels of the rows and their weights; labels that it has already stay.

        Raises: InputError if there are fewer than two labels to choose from, with `multi_label` none.
        """
        counts: Counter[str] = Counter()
        total = 0  # rows that are labelled
        for row in rows:
            given = self._labels(row)
            counts.update(given or [])
            total += given is not None
        if self.multi_label and counts.keys() <= TRUTH and len(counts) > 1 and {*counts.values()} == {total}:
            raise InputError(f"column 'label': each row has {' and '.join(counts)}: {MULTI_HOT}")
        labels = self.labels or tuple(sorted(counts))  # a trained head keeps its classes
        if len(labels) < (1 if self.multi_label else 2):
            found = f"have the label {labels[0]!r}" if labels else "have no label"
            raise InputError(f"column 'label': all {total} training rows {found}; there is nothing to tell apart")
        weights = tuple(total / (len(labels) * max(1, counts[label])) for label in labels)  # a kept label may be absent
        return replace(self, labels=labels, weights=weights if self.balanced else ())

    def check(self, row: Row) -> None:
        """Check the texts and the label."""
        super().check(row)
        self._labels(row)

    def examples(self, rows: Sequence[Row], tokenizer: BaseTokenizer) -> list[Example]:
        """Give an example for each row whose texts are not blank; one without label has no target."""
        kept = []
        for number, row in enumerate(rows):
            labels, texts = self._labels(row), [text_of(row, column) for column in self.source_columns]
            if unknown := [label for label in labels or [] if label not in self.labels]:
                known = ", ".join(self.labels[:SHOWN]) + (", ..." if len(self.labels) > SHOWN else "")
                problem = f"column 'label': {unknown[0]!r} is no label of the training rows"
                if meant := alike([unknown[0], *self.labels]):
                    near = next((group for group in meant if unknown[0] in group), [""])
                    problem += f" (but {near[1]!r} is)" * (len(near) > 1)
                raise fault(row, f"{problem}, which are {known or 'unknown yet'}")
            if all(text.strip() for text in texts):
                kept.append((number, texts, labels))
        ids = iter(tokenizer.encode_batch([text for _, texts, _ in kept for text in texts]))
        examples = []
        for number, texts, labels in kept:
            source = tokenizer.frame_source(*(next(ids) for _ in texts))
            target = [] if labels is None else [self.labels.index(label) for label in labels]
            if self.multi_label and labels is not None:
                target = [int(label in labels) for label in self.labels]
            right = sorted(set(labels or []))
            examples.append(Example(source, target, "\n".join(texts), ", ".join(right), right, row=number))
        return examples

    def questions(self, rows: Sequence[Row], tokenizer: BaseTokenizer) -> list[Example]:
        """Give an example for each row whose texts are not blank, whatever its label."""
        return self.examples([{**row, "label": None} for row in rows], tokenizer)  # an unknown label is no fault here

    def head(self, tokenizer: BaseTokenizer, d_model: int) -> ClassificationHead:
        """Return a head that chooses among the labels."""
        settings = self.pooling, self.dropout, self.weights or None, self.multi_label, self.label_smoothing
        ngrams = Ngrams(tokenizer.byte_pieces(), self.ngrams, dropout=self.dropout) if self.ngrams else None
        return ClassificationHead(d_model, len(self.labels), *settings, ngrams, self.hidden)

    def answers(self, found: list[list[float]], examples: Sequence[Example], tokenizer: BaseTokenizer) -> Answers:
        """Turn the probabilities of the labels into the likeliest, with `multi_label` into all from 0.5 on.

        The score is the probability of the answer, with `multi_label` that of exactly these labels.
        """
        answers = []
        for shares in found:
            probabilities = dict(zip(self.labels, shares, strict=True))
            chosen = self._chosen(probabilities)
            right = [share if label in chosen else 1 - share for label, share in probabilities.items()]
            score = math.prod(right) if self.multi_label else probabilities[chosen[0]]  # as if independent
            falling = dict(sorted(probabilities.items(), key=lambda item: -item[1]))
            labels = tuple(chosen) if self.multi_label else None
            answers.append([Answer(", ".join(chosen), score, falling, labels=labels)])
        return answers

    def score(self, predictions: Sequence[Prediction], nll: float, count: int) -> dict[str, float]:
        """Return accuracy and macro F1, with `multi_label` micro F1, macro F1 and subset accuracy."""
        return self._scored(predictions).values

    def signatures(self) -> dict[str, str]:
        """Return the rules of the scores."""
        if self.multi_label:
            names: tuple[str, ...] = ("micro_f1", "macro_f1", "subset_accuracy")
            return dict.fromkeys(names, f"threshold:{THRESHOLD}|macro:all labels")
        return {"accuracy": "rows right / rows", "macro_f1": "macro:labels that occur"}

    def label_of(self, reference: str) -> str:
        """Return the label itself."""
        return reference

    def table(self, predictions: Sequence[Prediction]) -> str:
        """Return precision, recall, F1 and number of rows of each label."""
        return self._scored(predictions).table

    def draw(self, predictions: Sequence[Prediction], folder: Path) -> list[Path]:
        """Draw the confusion matrix, where a row has one label."""
        if self.multi_label:
            return []
        from lmtasks.reports.confusion import draw_confusion  # imports matplotlib

        picture = folder / "confusion.png"
        draw_confusion(self._confusion(predictions).confusion, self.labels, picture)
        return [picture]

    def _labels(self, row: Row) -> list[str] | None:
        """Return the labels of a row, None where it is not labelled; with `multi_label` a text has commas between."""
        if row.get("label") is None:
            return None
        given = listed_texts(row["label"])
        if not self.multi_label:
            label = text_of({**row, "label": given}, "label").strip()
            return [label] if label else None
        if isinstance(given, str):
            given = given.split(",")
        labels = [label for part in texts_of({**row, "label": given}, "label") if (label := part.strip())]
        if len({*labels}) < len(labels) and TRUTH.issuperset(labels):
            raise fault(row, f"column 'label': {', '.join(labels)[:40]}, {MULTI_HOT}")
        return labels

    def _chosen(self, probabilities: Mapping[str, float]) -> list[str]:
        """Return the likeliest label, with `multi_label` all from the threshold on, in the order of the alphabet."""
        if self.multi_label:
            return sorted(label for label in self.labels if probabilities[label] >= THRESHOLD)
        return [max(probabilities, key=probabilities.__getitem__)]

    def _scored(self, predictions: Sequence[Prediction]) -> metrics.LabelledScore:
        if not self.multi_label:
            return self._confusion(predictions)
        given = [self._chosen(each.answer.probabilities) if each.answer else [] for each in predictions]
        return metrics.multi_label_scores(given, [each.references for each in predictions], self.labels)

    def _confusion(self, predictions: Sequence[Prediction]) -> metrics.ConfusionScore:
        given, right = [each.prediction for each in predictions], [each.reference for each in predictions]
        return metrics.label_scores(given, right, self.labels)
