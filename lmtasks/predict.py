"""Predictor: rows of any task in, answers out, with a trained model. What commands, evaluation and Python share.

The path of a row: the task makes examples of it, `data.limits` cuts what the backbone cannot read, examples of like
length form batches, the head predicts, the task turns what was found into answers, and those to the parts of a row are
joined.
"""

from __future__ import annotations

import math
import reprlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from lmtasks.backbones.base import Backbone
from lmtasks.batch import Batch, Example
from lmtasks.cuts import counting_cuts
from lmtasks.data.limits import cut_to_read
from lmtasks.data.plan import evaluation_batches
from lmtasks.decoding import Decoding, Hypothesis
from lmtasks.errors import InputError
from lmtasks.finite import REMEDY
from lmtasks.heads.base import Head
from lmtasks.tasks.base import PLACE, Answer, Row, Span, Task
from lmtasks.text.base import BaseTokenizer

TOKENS_PER_BATCH = 4096  # padded source tokens answered at once
BROKEN = "\N{REPLACEMENT CHARACTER}"  # what part of a character decodes to

Texts = TypeVar("Texts", str, list[str])
"""One text, answered by one, or several, answered by a list in their order."""


class TaskMethods(ABC):
    """A method for each kind of task, in the words of that task; all call `solve`, which takes rows of any task.

    Most take one text and return one answer, or a list and return a list. `task` names one of several tasks of the
    kind. All raise InputError where the model has no such task.
    """

    tasks: dict[str, Task]

    @abstractmethod
    def solve(
        self,
        rows: Sequence[Row],
        task: str | None = None,
        group: str | None = None,
        decoding: Decoding | None = None,
        prefix: str = "",
    ) -> list[list[Answer]]:
        """Return for each row its answers, best first; a row without text has one empty answer."""

    def find_task(self, name: str | None = None, kind: str | None = None) -> tuple[str, Task]:
        """Return a task with its name: the one of that name, the only one of that kind, or the only one.

        With `kind` it must be of that kind, such as "translation"; without a name the only one, or that named so.

        Raises: InputError if there is no such task, or several.
        """
        wanted = name or kind
        found = [own for own, task in self.tasks.items() if wanted in (None, task.kind)]
        if name in self.tasks or (kind in found and name is None):
            found = [name or kind or ""]
        if len(found) != 1:
            several = "the model has several tasks" if wanted is None else f"the model has several tasks of {wanted}"
            problem = several if found else f"the model has no task {wanted!r}"
            choice = ", ".join(found or self.tasks)
            raise InputError(f"{problem}; choose one of {choice} (--task NAME, in Python task=)")
        task = self.tasks[found[0]]
        if kind not in (None, task.kind):
            raise InputError(f"{found[0]} does {task.kind}, not {kind}; choose another task, or another method")
        return found[0], task

    def find_translation(
        self, source: str | None, target: str | None, name: str | None = None
    ) -> tuple[str, str, str | None]:
        """Return (task, column of the text, group of its examples) for a translation; None stands for any language.

        Raises: InputError if no task translates so, or several do.
        """
        others = [own for own, task in self.tasks.items() if task.kind == "translation"]
        if name is not None or len(others) < 2:
            name, task = self.find_task(name, "translation")
            return name, *task.choose(source, target)
        fitting = []
        for own in others:
            with suppress(InputError):
                fitting.append((own, *self.tasks[own].choose(source, target)))
        if len(fitting) != 1:
            problem = "several tasks translate" if fitting else "no task translates"
            asked = (f" from {source}" if source else "") + (f" to {target}" if target else "")
            raise InputError(
                f"{problem}{asked}; choose one of {', '.join(others)} (--task, in Python task=), or source and target"
            )
        return fitting[0]

    def translate(
        self,
        texts: Texts,
        target: str | None = None,
        source: str | None = None,
        decoding: Decoding | None = None,
        prefix: str = "",
        task: str | None = None,
    ) -> Texts:
        """Return the best translation of a text, or of each of several; blank texts stay blank.

        `target` and `source` are languages, needed only where the model knows several directions: their codes, or names
        such as "German". With `prefix` every translation begins so. `solve` returns all those that a decoding with
        `n_best` finds.

        Raises: InputError if the model does not translate in that direction.
        """
        name, column, group = self.find_translation(source, target, task)
        rows = [{column: text} for text in _several(texts)]
        return _like(texts, [best.text for best, *_ in self.solve(rows, name, group, decoding, prefix)])

    def generate(self, prompts: Texts = "", decoding: Decoding | None = None, task: str | None = None) -> Texts:  # type: ignore[assignment]
        """Continue a prompt, or several, or do what it asks for; each answer is what comes after the prompt.

        An empty prompt is the beginning of a text. `Decoding(beam=1, sample=True, ...)` draws texts at random.
        """
        name, _ = self.find_task(task, "generation")
        return _like(prompts, [best.text for best, *_ in self.solve(_texts(prompts), name, decoding=decoding)])

    def answer(self, questions: Texts, contexts: str | Sequence[str], task: str | None = None) -> Texts:
        """Answer a question from a context, or each of several from its own, or all from the same context.

        "" means that the context does not tell. `solve` gives the places in the context and further answers.
        """
        name, _ = self.find_task(task, "answering")
        asked = _several(questions)
        read = [contexts] * len(asked) if isinstance(contexts, str) else _several(contexts)
        if len(read) != len(asked):
            raise InputError(f"{len(asked)} questions and {len(read)} contexts; give a context for each, or one text")
        rows = [{"question": question, "context": context} for question, context in zip(asked, read, strict=True)]
        return _like(questions, [best.text for best, *_ in self.solve(rows, name)])

    def classify(self, texts: Texts, task: str | None = None) -> Texts:
        """Return the label of a text, or of each of several, "" if blank; see `probabilities`."""
        name, _ = self.find_task(task, "classification")
        return _like(texts, [best.text for best, *_ in self.solve(_texts(texts), name)])

    def probabilities(
        self, texts: str | Sequence[str], task: str | None = None
    ) -> dict[str, float] | list[dict[str, float]]:
        """Return the probability of each label of a text, or of each of several."""
        name, _ = self.find_task(task, "classification")
        found = [dict(best.probabilities) for best, *_ in self.solve(_texts(texts), name)]
        return found[0] if isinstance(texts, str) else found

    def tag(self, texts: str | Sequence[str], task: str | None = None) -> list[Span] | list[list[Span]]:
        """Return the names in a text, or in each of several: label, words, and characters `text[start:stop]`."""
        name, _ = self.find_task(task, "tagging")
        found = [list(best.spans) for best, *_ in self.solve(_texts(texts), name)]
        return found[0] if isinstance(texts, str) else found

    def reply(self, turns: str | Sequence[str], decoding: Decoding | None = None, task: str | None = None) -> str:
        """Return the model's next turn in a dialogue; the last of `turns`, or the only one, is its partner's."""
        name, _ = self.find_task(task, "dialogue")
        ((best, *_),) = self.solve([{"turns": _several(turns)}], name, decoding=decoding)
        return best.text

    def summarise(self, texts: Texts, decoding: Decoding | None = None, task: str | None = None) -> Texts:
        """Return a summary of a text, or of each of several."""
        name, _ = self.find_task(task, "summarisation")
        return _like(texts, [best.text for best, *_ in self.solve(_texts(texts), name, decoding=decoding)])


class Predictor(TaskMethods):
    """Answers rows with tasks, tokenizer, backbone and heads that belong together.

    The modules must be in evaluation mode (dropout off) and on one device. A call changes nothing in them, so several
    threads may call one predictor at the same time.

    Args:
        tasks: {name: task}.
        tokenizer: Cuts texts into the ids that the backbone knows.
        backbone: The shared parameters.
        heads: The head of each task, by its name.
        decoding: How texts are searched where a call does not say.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        tokenizer: BaseTokenizer,
        backbone: Backbone,
        heads: nn.ModuleDict,
        decoding: Decoding = Decoding(),
    ) -> None:
        self.tasks, self.tokenizer, self.backbone, self.heads = dict(tasks), tokenizer, backbone, heads
        self.decoding = decoding

    @torch.inference_mode()
    def solve(
        self,
        rows: Sequence[Row],
        task: str | None = None,
        group: str | None = None,
        decoding: Decoding | None = None,
        prefix: str = "",
    ) -> list[list[Answer]]:
        """Return for each row its answers, best first; a row without text has one empty answer.

        `task` names one of several; `group` keeps the examples of one kind, such as the direction en-de; with `prefix`
        every written answer begins so. Rows are sorted by length inside and returned in order. A source longer than
        the backbone can read is cut, and the log says so once.

        Raises: InputError if the model has no such task, a row lacks a column it needs, or could be answered in several
        ways.
        """
        name, chosen = self.find_task(task)
        with counting_cuts() as cuts:
            examples = self._questions(name, chosen, rows, group)
            lengths = np.array([[len(example.source)] * 2 for example in examples]).reshape(-1, 2)
            begin = self.tokenizer.encode_targets([prefix])[0] if prefix else []
            found: dict[int, list[Answer]] = {}
            for picked in evaluation_batches(lengths, TOKENS_PER_BATCH):
                batch = Batch.of(name, [examples[i] for i in picked], self.tokenizer.pad_id, picked)
                found.update(zip(picked.tolist(), self.answer_batch(batch, decoding, begin), strict=True))
            cuts.count(len(rows))
        answers: list[list[Answer]] = [[Answer("", 0.0)] for _ in rows]
        for example, joined in join_rows(chosen, examples, [found[i] for i in range(len(examples))]):
            answers[example.row] = joined
        return answers

    def answer_batch(
        self, batch: Batch, decoding: Decoding | None = None, prefix: Sequence[int] = ()
    ) -> list[list[Answer]]:
        """Return the answers to each example of a batch that carries its examples, best first.

        Raises: InputError if a score is not finite.
        """
        head = cast(Head, self.heads[batch.task])
        found = head.predict(self.backbone, batch.to(self.backbone.device), decoding or self.decoding, prefix)
        answers = self.tasks[batch.task].answers(found, batch.examples, self.tokenizer)
        if not all(math.isfinite(answer.score) for several in answers for answer in several):
            raise InputError(f"the model gives no numbers that are finite for {batch.task}; {REMEDY}")
        return answers

    @torch.no_grad()
    def stream(
        self, text: str | Row = "", task: str | None = None, decoding: Decoding | None = None, group: str | None = None
    ) -> Iterator[str]:
        """Yield the answer to one text, or one row, piece by piece as it is written; characters come whole.

        The pieces together are the best answer of `solve`. An answer that is not written token by token (a beam,
        several answers, a label) comes as one piece at the end. Without `task` it is the only one that writes.
        """
        writers = [name for name, each in self.tasks.items() if each.generates]
        task = writers[0] if task is None and len(writers) == 1 else task
        (name, chosen), search = self.find_task(task), decoding or self.decoding
        chosen = chosen if group is None else chosen.narrowed(group)
        row = row_of(chosen, text) if isinstance(text, str) else text
        if not chosen.generates or search.beam > 1 or search.n_best > 1:
            yield self.solve([row], name, group, search)[0][0].text
            return
        head = cast(Head, self.heads[name])
        with counting_cuts() as cuts:
            examples = self._questions(name, chosen, [row], group)
            streams = [head.stream(self.backbone, each.source, search, each.prefix) for each in examples]
            cuts.count(1)
        for example, stream in zip(examples, streams, strict=True):
            tokens: list[int] = []
            written = shown = ""
            for token in stream:
                tokens.append(token)
                ((best,),) = chosen.answers([[Hypothesis(tokens, 0.0, 0.0)]], [example], self.tokenizer)
                written = best.text
                whole = written.rstrip(BROKEN)
                if len(whole) > len(shown):
                    yield whole[len(shown) :]
                    shown = whole
            if written != shown:
                yield written[len(shown) :]

    @torch.inference_mode()
    def align(
        self, text: str, answer: str | None = None, group: str | None = None, task: str | None = None
    ) -> tuple[list[str], list[str], Tensor]:
        """Return source pieces, target pieces and how much each target piece reads of each source piece, (T, S).

        Without `answer` it is the model's own; `group` is needed where it could answer in several ways.

        Raises: InputError if the task writes no text or reads more than one.
        """
        name, chosen = self.find_task(task)
        if chosen.context or not chosen.generates:
            raise InputError(f"{name} has no alignment to show: it needs a task that writes a text for a text")
        if not text.strip():
            raise InputError("there is no text to align; give one")
        chosen = chosen if group is None else chosen.narrowed(group)
        row = row_of(chosen, text)
        words = self.solve([row], name, group)[0][0].text if answer is None else answer
        (question,) = self._questions(name, chosen, [row], group)
        target = [*question.prefix, *self.tokenizer.encode_targets([words])[0], self.tokenizer.eos_id]
        batch = Batch.of(name, [Example(question.source, target)], self.tokenizer.pad_id).to(self.backbone.device)
        weights = cast(Head, self.heads[name]).alignment(self.backbone, batch)[0].float().cpu()
        return self.tokenizer.pieces(question.source), self.tokenizer.pieces(target), weights

    def _questions(self, name: str, task: Task, rows: Sequence[Row], group: str | None) -> list[Example]:
        """Return the examples of rows, of one group for each row, cut to what the backbone can read.

        Raises: InputError if a row has no text or no context, or several groups.
        """
        task = task if group is None else task.narrowed(group)
        check_readable(rows, name, task)
        found = [each for each in task.questions(rows, self.tokenizer) if group in (None, each.group)]
        kinds = {(example.row, example.group) for example in found}
        if len({row for row, _ in kinds}) < len(kinds):
            groups = ", ".join(dict.fromkeys(example.group for example in found))
            raise InputError(f"{task.kind} could answer a row in several ways; choose one of {groups}")
        return [cut_to_read(example, self.backbone.max_length) for example in found]


def join_rows(
    task: Task, examples: Sequence[Example], answers: Sequence[list[Answer]]
) -> list[tuple[Example, list[Answer]]]:
    """Return the first example of each row and group with the answers to all its examples, joined by the task.

    There are no answers where an example has none, in an evaluation that answers only a few.
    """
    parts: dict[tuple[int, str], list[int]] = {}
    for place, example in enumerate(examples):
        parts.setdefault((example.row, example.group), []).append(place)
    joined = []
    for places in parts.values():
        found = [answers[place] for place in places]
        joined.append((examples[places[0]], task.join(found) if all(found) else []))
    return joined


def check_readable(rows: Sequence[Row], name: str, task: Task) -> None:
    """Check that rows have what a task needs: a text, and its context where there is one. Raises: InputError."""
    readable = ", ".join(dict.fromkeys((task.input_column, *task.source_columns)))
    needed = (task.input_column, task.context) if task.context else ()
    for number, row in enumerate(rows, start=1):
        place = row.get(PLACE, f"row {number} of those asked")
        if not any(column in row for column in (task.input_column, *task.source_columns)):
            own = ", ".join(column for column in row if column != PLACE)
            raise InputError(f"{place}: {name} reads {readable}, and it has {own}")
        if lacking := [column for column in needed if row.get(column) is None]:
            raise InputError(f"{place}: {name} reads {readable}, and it has no {lacking[0]!r}")


def row_of(task: Task, text: str) -> Row:
    """Return a row with this text; the source columns of a task that reads one text, such as languages, all have it."""
    columns = (task.input_column,) if task.context or not task.generates else task.source_columns
    return dict.fromkeys(columns, text)


def _several(texts: str | Iterable[str]) -> list[str]:
    """Return texts as a list: one text, a list, or a column of a table."""
    several = [texts] if isinstance(texts, str) or not isinstance(texts, Iterable) else list(texts)
    if not all(isinstance(text, str) for text in several):
        raise InputError(f"{reprlib.repr(texts)}: give a text, or a list of texts")
    return several


def _texts(texts: str | Iterable[str]) -> list[Row]:
    return [{"text": text} for text in _several(texts)]


def _like(texts: Texts, answers: list[str]) -> Texts:
    """Return one answer to one text, a list to several."""
    return answers[0] if isinstance(texts, str) else answers
