"""Classification: a text in, its label out, or as many labels as are right.

A row {"text": "A fine film.", "label": "good"} gives as source the ids of the text and the end token, and as target the
number of the label among those of the training rows, in the order of the alphabet. With several labels a row,
{"text": "He won the vote and the cup.", "label": ["politics", "sport"]}, the target is 0 or 1 for each label there is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lmtasks import metrics
from lmtasks.errors import InputError
from lmtasks.heads.classification import ClassificationHead, Pooling
from lmtasks.heads.ngrams import LONGEST, SHORTEST, Ngrams
from lmtasks.reports.confusion import draw_confusion
from lmtasks.tasks.base import Answer, Example, Prediction, Row, Task, fault, text_of, texts_of
from lmtasks.text.tokenizer import Tokenizer

THRESHOLD = 0.5  # probability from which on a text has a label, where it may have several
SHOWN = 20  # labels that a complaint lists


@dataclass(frozen=True)
class ClassificationTask(Task):
    """Say which label a text has.

    Example:
        >>> rows = [{"text": "A fine film.", "label": "good"}, {"text": "Dull.", "label": "bad"}]
        >>> ClassificationTask().learn(rows).labels
        ('bad', 'good')
    """

    several: bool = False
    """Whether a text may have several labels, or none."""
    pair: bool = False
    """Whether a row has two texts to be read together, "text" and "pair"."""
    balanced: bool = False
    """Weigh each label by rows / (labels * rows that have it), so that rare ones count as much as frequent ones; where
    a text may have several, the rows that have it alone are weighed, and not those that lack it."""
    main: Literal["accuracy", "macro_f1"] = "accuracy"
    """The score that chooses the best checkpoint; with several labels a row accuracy is that of all of them at once."""
    pooling: Pooling = "mean"
    """What stands for the text: the mean of its token states, the maximum of each feature, the first one, or a mean
    that attention weighs."""
    dropout: float = 0.3
    """Share of the features of a text dropped."""
    label_smoothing: float = 0.0
    """Share of the probability spread over all labels (Szegedy et al. 2016, section 7)."""
    labels: tuple[str, ...] = ()
    """All labels, learned from the training rows."""
    weights: tuple[float, ...] = ()
    """Factor of the loss of each label, learned from the training rows where they are to be balanced."""
    ngrams: int = 0
    """Read sequences of letters beside the encoder's states, of 2 up to so many bytes; 0: none. Of use where there are
    only some thousand rows."""

    def __post_init__(self) -> None:
        for name in ("labels", "weights"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.ngrams != 0 and not SHORTEST <= self.ngrams <= LONGEST:
            raise InputError(f"ngrams {self.ngrams}; give {SHORTEST} to {LONGEST} bytes, or 0 for none")

    @property
    def kind(self) -> str:
        return "classification"

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.source_columns, "label")

    @property
    def source_columns(self) -> tuple[str, ...]:
        return ("text", "pair") if self.pair else ("text",)

    @property
    def context(self) -> str | None:
        return "pair" if self.pair else None

    @property
    def generates(self) -> bool:
        return False

    @property
    def cuts_target(self) -> bool:
        return False

    @property
    def main_metric(self) -> str:
        return "subset_accuracy" if self.several and self.main == "accuracy" else self.main

    def learn(self, rows: Iterable[Row]) -> ClassificationTask:
        """Return the task with the labels of the rows, and their weights; labels that it has already stay.

        Raises:
            InputError: If there are not two labels at least to choose from.
        """
        counts: Counter[str] = Counter()
        total = 0
        for row in rows:
            given = self._labels(row)
            counts.update(given or [])
            total += given is not None
        labels = self.labels or tuple(sorted(counts))
        if len(labels) < (1 if self.several else 2):
            found = f"have the label {labels[0]!r}" if labels else "have no label"
            raise InputError(f"column 'label': all {total} training rows {found}; there is nothing to tell apart")
        weights = tuple(total / (len(labels) * max(1, counts[label])) for label in labels)
        return replace(self, labels=labels, weights=weights if self.balanced else ())

    def texts(self, row: Row) -> Iterator[str]:
        return (text for column in self.source_columns if (text := text_of(row, column)))

    def examples(self, rows: Sequence[Row], tokenizer: Tokenizer) -> list[Example]:
        """Give an example for each row that has its text, or both; one without label has no target."""
        return self._examples([(row, self._checked(row)) for row in rows], tokenizer)

    def questions(self, rows: Sequence[Row], tokenizer: Tokenizer) -> list[Example]:
        """Give an example for each row that has its text, or both, whatever its label."""
        return self._examples([(row, None) for row in rows], tokenizer)

    def head(self, tokenizer: Tokenizer, d_model: int) -> ClassificationHead:
        ngrams = Ngrams(tokenizer.byte_pieces(), self.ngrams, dropout=self.dropout) if self.ngrams else None
        return ClassificationHead(
            d_model,
            len(self.labels),
            self.pooling,
            self.dropout,
            self.weights or None,
            self.several,
            self.label_smoothing,
            ngrams,
        )

    def answers(self, found: Sequence[Any], examples: Sequence[Example], tokenizer: Tokenizer) -> list[list[Answer]]:
        """Turn the probabilities of the labels into the likeliest, or all labels that are likelier than not.

        The score is the probability of the answer, with several labels a row that of just these.
        """
        return [[self._answer(dict(zip(self.labels, shares, strict=True)))] for shares in found]

    def score(self, samples: Sequence[Prediction], nll: float, count: int) -> dict[str, float]:
        """Return accuracy and macro F1, of several labels a row micro F1, macro F1 and subset accuracy."""
        return self._counted(samples).values

    def table(self, samples: Sequence[Prediction]) -> str:
        """Return precision, recall, F1 and number of rows of each label, for people."""
        return self._counted(samples).table

    def draw(self, samples: Sequence[Prediction], folder: Path) -> list[Path]:
        """Draw which labels were taken for which, where a row has one."""
        if self.several:
            return []
        counted, picture = self._labels_counted(samples), folder / "confusion.png"
        draw_confusion(counted.confusion, self.labels, picture)
        return [picture]

    def signatures(self) -> dict[str, str]:
        if self.several:
            names: tuple[str, ...] = ("micro_f1", "macro_f1", "subset_accuracy")
            return dict.fromkeys(names, f"threshold:{THRESHOLD}|macro:all labels")
        return {"accuracy": "rows right / rows", "macro_f1": "macro:labels that occur"}

    def _counted(self, samples: Sequence[Prediction]) -> metrics.LabelledScore:
        if not self.several:
            return self._labels_counted(samples)
        given, right = [self._given(sample) for sample in samples], [sample.references for sample in samples]
        return metrics.multi_label_scores(given, right, self.labels)

    def _labels_counted(self, samples: Sequence[Prediction]) -> metrics.ConfusionScore:
        given, right = [self._given(sample)[0] for sample in samples], [sample.reference for sample in samples]
        return metrics.label_scores(given, right, self.labels)

    def _given(self, sample: Prediction) -> list[str]:
        return self._chosen(sample.answer.probabilities) if sample.answer else []

    def _chosen(self, probabilities: Mapping[str, float]) -> list[str]:
        """Return the likeliest label, or those likelier than not, in the order of the alphabet."""
        if self.several:
            return [label for label in self.labels if probabilities[label] >= THRESHOLD]
        return [max(probabilities, key=probabilities.__getitem__)]

    def _answer(self, probabilities: dict[str, float]) -> Answer:
        chosen = self._chosen(probabilities)
        right = [share if label in chosen else 1 - share for label, share in probabilities.items()]
        score = math.prod(right) if self.several else probabilities[chosen[0]]
        falling = dict(sorted(probabilities.items(), key=lambda item: -item[1]))
        return Answer(", ".join(chosen), score, falling, labels=tuple(chosen) if self.several else None)

    def _labels(self, row: Row) -> list[str] | None:
        """Return the labels of a row, None where it is not labelled; of a text with several, commas are between."""
        if row.get("label") is None:
            return None
        if not self.several:
            label = text_of(row, "label").strip()
            return [label] if label else None
        given = row["label"].split(",") if isinstance(row["label"], str) else texts_of(row, "label")
        return [label for part in given if (label := part.strip())]

    def _checked(self, row: Row) -> list[str] | None:
        """Return the labels of a row.

        Raises:
            InputError: If one is none of the training rows'.
        """
        labels = self._labels(row)
        for label in labels or []:
            if label not in self.labels:
                known = ", ".join(self.labels[:SHOWN]) + (", ..." if len(self.labels) > SHOWN else "")
                raise fault(
                    row,
                    f"column 'label': {label!r} is no label of the training rows, which are {known or 'unknown yet'}",
                )
        return labels

    def _examples(self, rows: Sequence[tuple[Row, list[str] | None]], tokenizer: Tokenizer) -> list[Example]:
        texts = [[text_of(row, column) for column in self.source_columns] for row, _ in rows]
        kept = [number for number, several in enumerate(texts) if all(text.strip() for text in several)]
        ids = iter(tokenizer.encode_batch([text for number in kept for text in texts[number]]))
        examples = []
        for number in kept:
            labels = rows[number][1]
            source = [token for _ in texts[number] for token in (*next(ids), tokenizer.eos_id)]
            right = sorted(set(labels or []))
            target, text = self._target(labels), "\n".join(texts[number])
            examples.append(Example(source, target, text, ", ".join(right), right, row=number))
        return examples

    def _target(self, labels: list[str] | None) -> list[int]:
        """Return the number of the one label, or 0 or 1 for each label there is; nothing where it is not known."""
        if labels is None:
            return []
        return [int(label in labels) for label in self.labels] if self.several else [self.labels.index(labels[0])]
