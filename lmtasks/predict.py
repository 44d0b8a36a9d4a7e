"""What a trained model does for its user: plain texts in, plain texts and numbers out, one method for each task.

Each method says what a task is given in the words of that task and calls `solve`, which takes rows of any task.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from torch import Tensor, nn

from lmtasks import solving
from lmtasks.backbones.base import Backbone
from lmtasks.decoding import Decoding
from lmtasks.errors import InputError
from lmtasks.heads.base import Head
from lmtasks.tasks.base import Answer, Row, Span, Task
from lmtasks.text.tokenizer import Tokenizer


class Use(nn.Module):
    """The methods of a model by the names of its tasks.

    Most are given one text and return one answer, or several texts and return a list in their order. `task` names one
    of several tasks of the kind. All raise InputError where the model has not learned such a task.
    """

    tasks: dict[str, Task]
    tokenizer: Tokenizer | None
    backbone: Backbone | None
    heads: nn.ModuleDict
    decoding: Decoding

    def built(self) -> tuple[Backbone, Tokenizer]:
        """Return backbone and tokenizer.

        Raises:
            InputError: If the model has no layers yet.
        """
        if self.backbone is None or self.tokenizer is None:
            raise InputError("the model has no layers yet; fit it, load one, or call build(tokenizer)")
        return self.backbone, self.tokenizer

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Answer without dropout, and go on as before."""
        was_training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(was_training)

    def find_task(self, name: str | None = None, kind: str | None = None) -> tuple[str, Task]:
        """Return a task with its name: the one of that name, the only one that does "translation", or the only one.

        With `kind` it must be one of that kind, such as "translation": without a name the only one, or that named so.

        Raises:
            InputError: If there is no such task, or several.
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
        every written answer begins so.

        Raises:
            InputError: If the model has no such task, a row lacks a column it needs, or could be answered in several
                ways.
        """
        name, chosen = self.find_task(task)
        _check(rows, name, chosen)
        backbone, tokenizer = self.built()
        with self.evaluating():
            head = cast(Head, self.heads[name])
            return solving.solve(backbone, head, chosen, tokenizer, rows, decoding or self.decoding, group, prefix)

    def example_commands(self, folder: str | Path) -> list[str]:
        """Return a command for each task that tries it, with the model in `folder`."""
        names = {name: f" --task {name}" if len(self.tasks) > 1 else "" for name in self.tasks}
        return [f"lmtasks run {folder}{names[name]} {task.example_command}" for name, task in self.tasks.items()]

    def translate(
        self,
        texts: str | Sequence[str],
        target: str | None = None,
        source: str | None = None,
        decoding: Decoding | None = None,
        prefix: str = "",
        task: str | None = None,
    ) -> str | list[str]:
        """Return the best translation of a text, or of each of several; blank texts stay blank.

        `target` and `source` are language codes, needed only where the model knows several directions; with `prefix`
        every translation begins so. `solve` returns all those that a decoding with `n_best` finds.

        Raises:
            InputError: If the model does not translate in that direction.
        """
        name, chosen = self.find_task(task, "translation")
        column, group = chosen.choose(source, target)
        rows = [{column: text} for text in _several(texts)]
        return _like(texts, [best.text for best, *_ in self.solve(rows, name, group, decoding, prefix)])

    def generate(
        self, prompts: str | Sequence[str] = "", decoding: Decoding | None = None, task: str | None = None
    ) -> str | list[str]:
        """Go on from a prompt, or from several; each answer is what comes after the prompt.

        An empty prompt is the beginning of a text. With `Decoding(beam=1, sample=True, ...)` texts are drawn.
        """
        name, _ = self.find_task(task, "generation")
        rows = [{"text": prompt} for prompt in _several(prompts)]
        return _like(prompts, [best.text for best, *_ in self.solve(rows, name, decoding=decoding)])

    def stream(
        self, text: str | Row = "", task: str | None = None, decoding: Decoding | None = None, group: str | None = None
    ) -> Iterator[str]:
        """Give the answer to one text, or one row, piece by piece as it is written.

        The pieces together are the best answer of `solve`. Of a beam, of several answers, and of an answer that is not
        written, it comes as one piece at the end.
        """
        (name, chosen), search = self.find_task(task), decoding or self.decoding
        row = {chosen.source_columns[0]: text} if isinstance(text, str) else text
        _check([row], name, chosen)
        head = cast(Head, self.heads[name])
        if not chosen.generates or search.beam > 1 or search.n_best > 1:
            yield self.solve([row], name, group, search)[0][0].text
            return
        backbone, tokenizer = self.built()
        with self.evaluating():
            yield from solving.stream(backbone, head, chosen, tokenizer, row, search, group)

    def answer(
        self, questions: str | Sequence[str], contexts: str | Sequence[str], task: str | None = None
    ) -> str | list[str]:
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

    def classify(self, texts: str | Sequence[str], task: str | None = None) -> str | list[str]:
        """Return the label of a text, or of each of several, "" if blank; `probabilities` says how sure it is."""
        name, _ = self.find_task(task, "classification")
        return _like(texts, [best.text for best, *_ in self.solve(_texts(texts), name)])

    def probabilities(
        self, texts: str | Sequence[str], task: str | None = None
    ) -> dict[str, float] | list[dict[str, float]]:
        """Return how likely each label is for a text, or for each of several."""
        name, _ = self.find_task(task, "classification")
        found = [dict(best.probabilities) for best, *_ in self.solve(_texts(texts), name)]
        return found[0] if isinstance(texts, str) else found

    def tag(self, texts: str | Sequence[str], task: str | None = None) -> list[Span] | list[list[Span]]:
        """Return the names in a text, or in each of several: label, words, and characters `text[start:stop]`."""
        name, _ = self.find_task(task, "tagging")
        found = [list(best.spans) for best, *_ in self.solve(_texts(texts), name)]
        return found[0] if isinstance(texts, str) else found

    def reply(self, turns: str | Sequence[str], decoding: Decoding | None = None, task: str | None = None) -> str:
        """Return what the model says after these turns of a dialogue, or the only one; the last is its partner's."""
        name, _ = self.find_task(task, "dialogue")
        ((best, *_),) = self.solve([{"turns": _several(turns)}], name, decoding=decoding)
        return best.text

    def summarise(
        self, texts: str | Sequence[str], decoding: Decoding | None = None, task: str | None = None
    ) -> str | list[str]:
        """Return a summary of a text, or of each of several."""
        name, _ = self.find_task(task, "summarisation")
        return _like(texts, [best.text for best, *_ in self.solve(_texts(texts), name, decoding=decoding)])

    def align(
        self, text: str, answer: str | None = None, group: str | None = None, task: str | None = None
    ) -> tuple[list[str], list[str], Tensor]:
        """Return source pieces, target pieces and how much each target piece reads of each source piece, (T, S).

        Without `answer` it is the model's own; `group` is needed where it could answer in several ways.

        Raises:
            InputError: If the task writes no text or reads more than one.
        """
        backbone, tokenizer = self.built()
        name, chosen = self.find_task(task)
        if chosen.context or not chosen.generates:
            raise InputError(f"{name} has no alignment to show: it needs a task that writes a text for a text")
        row = dict.fromkeys(chosen.source_columns, text)
        words = self.solve([row], name, group)[0][0].text if answer is None else answer
        (example,) = solving.task_examples(chosen, tokenizer, [row], group)
        with self.evaluating():
            head = cast(Head, self.heads[name])
            weights = solving.align(backbone, head, tokenizer, example.source, words)
        return tokenizer.pieces(example.source), tokenizer.pieces([*tokenizer.encode(words), tokenizer.eos_id]), weights


def _check(rows: Sequence[Row], name: str, task: Task) -> None:
    """Check that rows have what a task needs: a text, and what it is asked about where it has such a context."""
    readable = ", ".join(dict.fromkeys((task.input_column, *task.source_columns)))
    for number, row in enumerate(rows, start=1):
        if not any(column in row for column in (task.input_column, *task.source_columns)):
            raise InputError(f"row {number} of those asked: {name} reads {readable}, and it has {', '.join(row)}")
        lacking = (
            [column for column in (task.input_column, task.context) if row.get(column) is None] if task.context else []
        )
        if lacking:
            raise InputError(f"row {number} of those asked: {name} reads {readable}, and it has no {lacking[0]!r}")


def _several(texts: str | Iterable[str]) -> list[str]:
    """Return texts as a list, be they in one, in a column of a table, or a single one."""
    several = [texts] if isinstance(texts, str) or not isinstance(texts, Iterable) else list(texts)
    if not all(isinstance(text, str) for text in several):
        raise InputError(f"{reprlib.repr(texts)}: give a text, or a list of texts")
    return several


def _texts(texts: str | Sequence[str]) -> list[Row]:
    return [{"text": text} for text in _several(texts)]


def _like(texts: str | Sequence[str], answers: list[str]) -> str | list[str]:
    """Return one answer to one text, a list to several."""
    return answers[0] if isinstance(texts, str) else answers
