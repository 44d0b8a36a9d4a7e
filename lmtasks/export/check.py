"""Check an export: what it answers is compared with what the model answers, before anyone relies on it."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lmtasks.cuts import counting_cuts
from lmtasks.decoding import Decoding
from lmtasks.model import Model
from lmtasks.predict import row_of
from lmtasks.tasks.base import Answer, Row, Task
from lmtasks.tasks.translation import TranslationTask
from lmtasks.text.base import BaseTokenizer

SAMPLES, LENGTHS = 16, (4, 24)  # texts to check with where none are given, and how many pieces they have
GREEDY = Decoding(beam=1, max_length=64)
EXACT = 1e-3  # largest difference of a score in float32, as a share of the score where that is above 1
WRITTEN, READ = 0.75, 0.9  # shares of a task's answers that must be the same: many texts are about as good as another


@dataclass(frozen=True)
class Check:
    """How the answers of an export compare with those of the model."""

    same: int
    """Answers with the same text; of transformers, texts with the same token ids."""
    count: int
    """Answers."""
    difference: float
    """Largest difference of a score, among answers with the same text; of transformers, that of a logit."""
    alike: bool
    """Whether in every task most answers are the same."""
    speed: float = 0.0
    """Texts answered a second; 0 = not measured."""
    model_speed: float = 0.0
    """Those of the model."""
    compared: tuple[str, str] = ("answers are the same", "score")
    """What was counted and measured, in words."""

    @property
    def summary(self) -> str:
        """The check in words."""
        same, measured = self.compared
        largest = f", and the largest difference of a {measured} is {self.difference:.1g}" if self.same else ""
        return f"{self.same} of {self.count} {same}{largest}"

    @property
    def fits(self) -> bool:
        """Whether it is what float32 allows."""
        return self.difference <= EXACT and self.alike


def check_export(model: Model, exported: Model, rows: Mapping[str, Sequence[Row]] | None = None) -> Check:
    """Answer the rows of each task with both, and compare.

    Without rows there are texts at random, which are answered greedily: they have many answers that are about as good,
    and engines search otherwise.
    """
    decoding = GREEDY if rows is None or model.decoding.sample else model.decoding
    rows = sample_rows(model) if rows is None else rows
    pairs: list[tuple[Answer, Answer]] = []
    times, alike = [0.0, 0.0], True
    for name, own in rows.items():
        task, found = model.tasks[name], []
        group = group_of(task)
        with counting_cuts(said=False):
            for number, each in enumerate((exported, model)):
                each.solve(own[:1], name, group, decoding)  # what is prepared once counts for neither
                start = time.perf_counter()
                found.append(each.solve(own, name, group, decoding))
                times[number] += time.perf_counter() - start
        answers = [(before[0], after[0]) for after, before in zip(*found, strict=True)]
        share = sum(before.text == after.text for before, after in answers) / len(answers)
        alike &= share >= (WRITTEN if task.generates else READ)
        pairs += answers
    scores = [(before.score, after.score) for before, after in pairs if before.text == after.text]
    difference = max((abs(one - other) / max(1.0, abs(one)) for one, other in scores), default=0.0)
    return Check(len(scores), len(pairs), difference, alike, len(pairs) / times[0], len(pairs) / times[1])


def sample_rows(model: Model) -> dict[str, list[Row]]:
    """Return rows for each task, of words drawn at random from the vocabulary: no data are needed for a check."""
    _, tokenizer = model.built()
    chance = random.Random(0)
    pieces = [i for i, piece in enumerate(tokenizer.byte_pieces()) if _is_word(piece)]
    return {
        name: [_row(task, [_text(tokenizer, pieces, chance) for _ in range(2)]) for _ in range(SAMPLES)]
        for name, task in model.tasks.items()
    }


def group_of(task: Task) -> str | None:
    """Return the group of the rows where one must be chosen: the first direction of a translation."""
    if not isinstance(task, TranslationTask):
        return None
    return task.directions[0] if task.directions else "-".join(task.between[:2])


def _text(tokenizer: BaseTokenizer, pieces: Sequence[int], chance: random.Random) -> str:
    return tokenizer.decode(chance.choices(pieces, k=chance.randint(*LENGTHS))).strip() or "a"


def _row(task: Task, texts: Sequence[str]) -> Row:
    """Return a row of a task with these texts."""
    if task.multi_turn:
        return {task.input_column: [texts[0]]}
    return {**row_of(task, texts[0]), **({task.context: texts[1]} if task.context else {})}


def _is_word(piece: bytes) -> bool:
    """Tell whether a piece has letters or digits, and only whole characters."""
    return piece.decode(errors="ignore").encode() == piece and piece.decode(errors="ignore").strip().isalnum()
