"""`lmtasks run`: ask a model. Texts come from arguments, from stdin (a line in, a line out), or from files.

Lines are answered as they come, several at once where several wait; blank lines stay blank. On a terminal it prompts.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import IO, TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from lmtasks.cli.stdin import stdin_lines
from lmtasks.errors import InputError

if TYPE_CHECKING:
    from lmtasks.decoding import Decoding
    from lmtasks.model import Model
    from lmtasks.tasks.base import Answer

HELP = "use a model on texts from arguments, stdin or files"

AT_ONCE = 256  # rows answered together: enough to sort them by length into full batches
AHEAD = 4 * AT_ONCE  # lines of stdin that wait in memory
TABLES = (".csv", ".tsv", ".parquet")  # files whose lines are no texts
ROWS = (".jsonl", ".jsonl.gz")  # files with a JSON object a line; all others have a text a line
LONGEST_PATH = 255  # characters that a context may have to be taken for a path
TEXT_FILES = (".txt", ".text", ".md", ".html", ".json", ".jsonl", ".csv", ".tsv", ".gz")  # how paths of contexts end


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command: its own, and a field of Decoding each."""
    parser.add_argument("model", metavar="MODEL", help="run folder, model folder or .ckpt file")
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="texts to answer; without any, stdin is read")
    parser.add_argument("--input", metavar="FILE", help="answer a file: .jsonl, else a text a line; also .gz")
    parser.add_argument("--output", metavar="FILE", help="write there and not to stdout; .jsonl, else an answer a line")
    parser.add_argument("--column", metavar="NAME", help="column of the text in .jsonl; default: that of the task")
    parser.add_argument(
        "--context", metavar="TEXT", help="what a question is about: a text, or the path of a text file"
    )
    parser.add_argument("--prefix", metavar="TEXT", default="", help="let every answer begin with this text")
    parser.add_argument("--scores", action="store_true", help="print the score before each answer, with a tab between")
    add_choice(parser)
    add_decoding(parser.add_argument_group("search (default: as the model was trained to)"))


def run(arguments: argparse.Namespace) -> int:
    """Answer all texts and return the exit status."""
    _check(arguments)
    from lmtasks.storage.model_folder import load

    model = load(arguments.model, arguments.device)
    asked = Question(model, arguments)
    if asked.streams:
        return asked.stream(_texts(arguments))
    if arguments.input and arguments.input.endswith(ROWS):
        from lmtasks.data.readers.files import read_rows

        outcome: Iterator[str] = (line for rows in _chunks(read_rows(arguments.input)) for line in asked.rows(rows))
    else:
        outcome = (line for texts in _texts(arguments) for line in asked.texts(texts))
    with _sink(arguments.output) as sink:
        for line in outcome:
            print(line, file=sink, flush=not arguments.input)
    return 0


class Question:
    """What is asked of each text: the task, its column and direction, and how to search."""

    def __init__(self, model: Model, arguments: argparse.Namespace) -> None:
        self.model = model
        self.name, self.task = model.find_task(arguments.task)
        self.column, self.group = self.task.choose(arguments.source, arguments.target)
        own = self.task.source_columns
        self.listed = self.column if self.column in own else own[0]  # that of a text which is cut to words already
        self.given, self.key = arguments.column, arguments.column or self.column
        self.decoding = chosen_decoding(model.decoding, arguments)
        if not self.task.generates and (idle := _search_options(arguments)):
            raise InputError(f"{self.name} writes no text: leave out {', '.join(idle)}")
        self.scores, self.prefix = arguments.scores, arguments.prefix
        self.as_json = (arguments.output or "").endswith(ROWS)
        self.file = arguments.input
        self.beside = self._beside(arguments)
        self.said: list[str] = []  # in a dialogue
        self.as_lines = not arguments.texts  # one line in, one line out
        shown = sys.stdout.isatty() and not (arguments.input or arguments.output or arguments.prefix or self.scores)
        self.streams = shown and max(self.decoding.beam, self.decoding.n_best) == 1

    def stream(self, portions: Iterable[list[str]]) -> int:
        """Write each answer on the terminal as the model writes it."""
        for text in (text for portion in portions for text in portion):
            said = ""
            for piece in self.model.stream(self._row(text), self.name, self.decoding, self.group):
                print(piece, end="", flush=True)
                said += piece
            print()
            self._remember(said)
        return 0

    def texts(self, texts: list[str]) -> Iterator[str]:
        """Give a line for each text: the answer, or `n_best` of them with tabs between."""
        for text, answers in zip(texts, self._answers(texts), strict=True):
            if self.as_json:
                yield self._json({self.key: text}, answers)
            else:
                yield "\t".join(field for answer in answers for field in self._fields(answer))

    def rows(self, rows: list[tuple[int, dict[str, Any]]]) -> Iterator[str]:
        """Give each row again as JSON, with its answer added."""
        answers = self._solve([self._asked(*numbered) for numbered in rows])
        for (_, row), several in zip(rows, answers, strict=True):
            yield self._json(row, several)

    def _asked(self, number: int, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row of a file with its text under the name that the task has for it."""
        from lmtasks.tasks.base import PLACE

        known = [self.given] if self.given else dict.fromkeys([self.listed, self.column])
        key = next((name for name in known if row.get(name) is not None), None)
        context = self.task.context
        if key is None or (context and row.get(context) is None):
            missing, hint = f"column {context!r}", "each row needs its own; --context goes with plain questions"
            if key is None:
                missing = " or ".join(f"column {name!r}" for name in known)
                hint = "--column=NAME names that of the text"
            columns = f"(columns: {', '.join(row)})"
            raise InputError(f"{self.file}, row {number}: nothing in {missing} {columns}; {hint}")
        others = {name: value for name, value in row.items() if name not in (self.listed, self.column)}
        name = self.listed if isinstance(row[key], list) else self.column
        return {**others, name: row[key], PLACE: f"{self.file}, row {number}"}

    def _answers(self, texts: list[str]) -> Iterable[list[Answer]]:
        """Give the answers to each text, best first."""
        if self.task.multi_turn:
            return map(self._reply, texts)
        return self._solve([self._row(text) for text in texts])

    def _reply(self, text: str) -> list[Answer]:
        (answers,) = self._solve([self._row(text)])
        self._remember(answers[0].text)
        return answers

    def _row(self, text: str) -> dict[str, Any]:
        """Return what to answer: the text, with its context, or after all that was said; a blank line begins anew."""
        if not self.task.multi_turn:
            return {**dict.fromkeys(self.task.source_columns), **self.beside, self.column: text}
        self.said = [*self.said, text] if text.strip() else []
        return {self.column: self.said}

    def _remember(self, answer: str) -> None:
        if self.said:
            self.said.append(answer)

    def _solve(self, rows: list[dict[str, Any]]) -> list[list[Answer]]:
        found = self.model.solve(rows, self.name, self.group, self.decoding, self.prefix)
        return [several[: self.decoding.n_best] for several in found]  # search finds as many, other heads all they have

    def _beside(self, arguments: argparse.Namespace) -> dict[str, str]:
        """Return the context of the texts, if there is one."""
        name, given = self.task.context, arguments.context
        rows = (arguments.input or "").endswith(ROWS)
        if given and not name:
            raise InputError(f"--context does not go with {self.name}, which has no context; leave it out")
        if given and rows:
            raise InputError(
                f"--context is for plain questions, and {arguments.input} has rows with a column {name!r} each: leave "
                "--context out, or give the questions as a text file, one a line"
            )
        if not name or rows:
            return {}
        if not given:
            raise InputError(
                f"{self.name} needs a {name}: --context TEXT, or the path of a text file; or --input of a .jsonl "
                f"with the columns {', '.join(self.task.source_columns)}"
            )
        return {name: _text_or_file(given)}

    def _json(self, row: dict[str, Any], answers: list[Answer]) -> str:
        said = [answer.plain() for answer in answers]
        best = said[0] if self.scores else {name: value for name, value in said[0].items() if name != "score"}
        return json.dumps({**row, **best, **({"n_best": said} if len(said) > 1 else {})}, ensure_ascii=False)

    def _fields(self, answer: Answer) -> list[str]:
        text = " ".join(answer.text.splitlines()) if self.as_lines else answer.text
        return [f"{answer.score:.4f}", text] if self.scores else [text]


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what a model is asked for, and where it computes."""
    parser.add_argument("--task", metavar="NAME", help="one of the model's tasks; default: its only one")
    parser.add_argument("--target", metavar="LANG", help="language to translate into, where the model knows several")
    parser.add_argument("--source", metavar="LANG", help="language to translate from, where the model knows several")
    parser.add_argument("--device", default="cpu", help="where to compute: cpu, cuda, cuda:1, mps (default: cpu)")


def add_decoding(group: argparse._ArgumentGroup) -> None:
    """Add an option for each field of Decoding, named and explained as it is there."""
    from docstring_parser import parse_from_object

    from lmtasks.decoding import Decoding

    types = get_type_hints(Decoding)
    texts = {parameter.arg_name: parameter.description for parameter in parse_from_object(Decoding).params}
    for field in dataclasses.fields(Decoding):
        option, text = f"--{field.name.replace('_', '-')}", (texts.get(field.name) or "").replace("%", "%%")
        kind = types[field.name]
        if kind is bool:
            group.add_argument(option, action=argparse.BooleanOptionalAction, default=None, help=text)
        elif get_origin(kind) is Literal:
            group.add_argument(option, choices=get_args(kind), help=text)
        else:
            number = next(part for part in (kind, *get_args(kind)) if part in (int, float))
            group.add_argument(option, type=number, metavar="N", help=text)


def chosen_decoding(default: Decoding, arguments: argparse.Namespace) -> Decoding:
    """Return the model's own settings of search with those that were given; the beam follows from the others."""
    fields = [field.name for field in dataclasses.fields(default)]
    given = {name: getattr(arguments, name) for name in fields if getattr(arguments, name) is not None}
    if "beam" not in given and given.get("sample", default.sample):
        given["beam"] = 1
    elif "beam" not in given and "n_best" in given:
        given["beam"] = max(default.beam, given["n_best"])
    return dataclasses.replace(default, **given)


def _check(arguments: argparse.Namespace) -> None:
    if arguments.input and arguments.texts:
        raise InputError("give texts or --input, not both")
    if arguments.input and arguments.input.removesuffix(".gz").endswith(TABLES):
        raise InputError(
            f"--input {arguments.input} is a table, and run reads .jsonl or a text a line; use "
            f"`lmtasks predict -c RUN_FOLDER --data.rows.predict {arguments.input}`"
        )
    if arguments.output and not Path(arguments.output).absolute().parent.is_dir():
        raise InputError(f"--output {arguments.output}: there is no folder {Path(arguments.output).parent}")
    if arguments.input and arguments.output and Path(arguments.input).absolute() == Path(arguments.output).absolute():
        raise InputError(f"--output {arguments.output} is the input; write to another file")


def _search_options(arguments: argparse.Namespace) -> list[str]:
    """Return the options given that say how to write a text; how many answers are wanted is not among them."""
    from lmtasks.decoding import Decoding

    names = [field.name for field in dataclasses.fields(Decoding) if field.name != "n_best"]
    given = ["prefix"] * bool(arguments.prefix) + [name for name in names if getattr(arguments, name) is not None]
    return [f"--{name.replace('_', '-')}" for name in given]


def _text_or_file(given: str) -> str:
    """Return a text, or what stands in the file of that path.

    Raises:
        InputError: It looks like a path and there is no such file.
    """
    from lmtasks.data.readers.files import read_lines

    path = given.lower().endswith(TEXT_FILES) or ("/" in given and given.isascii())  # Chinese has no blanks either
    if not os.path.isfile(given) and not (path and len(given.split()) == 1 and len(given) <= LONGEST_PATH):
        return given
    try:
        return "\n".join(read_lines(given))
    except InputError as error:
        raise InputError(f"--context {error}") from None


def _texts(arguments: argparse.Namespace) -> Iterable[list[str]]:
    """Give the texts in the portions in which to answer them."""
    from lmtasks.data.readers.files import read_lines

    if arguments.texts:
        return [arguments.texts]
    if arguments.input:
        return _chunks(read_lines(arguments.input))
    return _prompted() if sys.stdin.isatty() else _waiting(stdin_lines())


def _prompted() -> Iterator[list[str]]:
    """Ask a person for one text after the other, until Ctrl-D."""
    print("type a text and press Enter; Ctrl-D ends\n> ", end="", file=sys.stderr, flush=True)
    for line in stdin_lines():
        yield [line]
        print("> ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def _waiting(lines: Iterable[str]) -> Iterator[list[str]]:
    """Give the lines that wait: at least one, so that a slow writer gets his answer at once.

    A thread reads them, some ahead. What goes wrong there is raised here, when the lines before it are answered.
    """
    queue: Queue[str | Exception | None] = Queue(AHEAD)

    def read() -> None:
        try:
            for line in lines:
                queue.put(line)
        except Exception as error:
            queue.put(error)
        else:
            queue.put(None)

    Thread(target=read, daemon=True).start()
    waiting: list[str] = []
    while isinstance(item := queue.get(), str):
        waiting.append(item)
        if len(waiting) == AT_ONCE or queue.empty():
            yield waiting
            waiting = []
    if waiting:
        yield waiting
    if item is not None:
        raise item


def _chunks(items: Iterable) -> Iterator[list]:
    source = iter(items)
    while chunk := list(islice(source, AT_ONCE)):
        yield chunk


@contextmanager
def _sink(path: str | None) -> Iterator[IO[str]]:
    if path is None:
        yield sys.stdout
    elif path.endswith(".gz"):
        with gzip.open(path, "wt", encoding="utf-8") as file:
            yield file
    else:
        with open(path, "w", encoding="utf-8") as file:
            yield file
