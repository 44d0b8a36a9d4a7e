"""`lmtasks run`: ask a model. Texts come from arguments, from stdin (a line in, a line out), or from files.

Lines are answered as they arrive, several at once where several wait; a blank line gets a blank answer. On a terminal
`run` prompts for texts and shows each answer while it is written. Of a file with columns each row is written with its
answer in further columns.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from itertools import chain, count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

from lmtasks.cli.sink import Sink
from lmtasks.cli.stdin import AT_ONCE, prompted_lines, waiting_lines
from lmtasks.cuts import counting_cuts
from lmtasks.data.readers.files import exact, read_json, read_lines, read_rows
from lmtasks.data.readers.formats import file_format, has_columns, has_file_ending
from lmtasks.data.readers.squad import find_articles, list_questions
from lmtasks.data.readers.tagged import TaggedWords
from lmtasks.errors import InputError, collected

if TYPE_CHECKING:
    from lmtasks.model import Model
    from lmtasks.tasks.base import Answer

HELP = "use a model on texts from arguments, stdin or files"

T = TypeVar("T")

PREDICTION = "prediction"  # the column that every answer has
WORDS = "words"  # the column of a sentence that is cut to words already
LONGEST_PATH = 255  # characters; a longer context is a text, whatever it looks like


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command: its own, and one for each field of Decoding."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="run folder, model folder, .ckpt file or hub id")
    add("texts", metavar="TEXT", nargs="*", help="texts to answer; without any, stdin is read")
    input_help = (
        "answer the rows of a .jsonl, .json, .csv, .tsv or .parquet, the questions of a nested SQuAD file, the "
        "sentences of a .conll, or each line of any other file; also .gz"
    )
    add("--input", metavar="FILE", help=input_help)
    output_help = "write there, not to stdout: a .csv or .tsv has a table, .jsonl JSON Lines, as rows have everywhere"
    add("--output", metavar="FILE", help=output_help)
    add("--column", metavar="NAME", help="column of the text; default: that of the task")
    add("--context", metavar="TEXT", help="what a question is about: a text, or the path of a text file")
    add("--prefix", metavar="TEXT", default="", help="let every answer begin with this text")
    add("--scores", action="store_true", help="print the score before each answer, with a tab between")
    add("--engine", metavar="ENGINE", help="what computes: ct2 (CTranslate2) or onnx (ONNX Runtime); default: torch")
    add("--precision", metavar="P", help="numbers of an engine's weights: float32 (default), int8; ct2 also float16")
    add_choice(parser)
    add_decoding(parser.add_argument_group("search (default: as the model was trained to)"))


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Add the options for the task, the languages and the device, which `attend` has too."""
    parser.add_argument("--task", metavar="NAME", help="one of the model's tasks; default: its only one")
    parser.add_argument("--target", metavar="LANG", help="language to translate into, where the model knows several")
    parser.add_argument("--source", metavar="LANG", help="language to translate from, where the model knows several")
    parser.add_argument("--device", default="cpu", help="where to compute: cpu, cuda, cuda:1, mps (default: cpu)")


def add_decoding(group: argparse._ArgumentGroup) -> None:
    """Add an option for each field of Decoding, with its name, type and docstring."""
    from docstring_parser import parse_from_object

    from lmtasks.decoding import Decoding

    types = get_type_hints(Decoding)
    texts = {parameter.arg_name: parameter.description or "" for parameter in parse_from_object(Decoding).params}
    for field in dataclasses.fields(Decoding):
        kinds = get_args(types[field.name]) or (types[field.name],)  # the choices of a Literal, (int, None), (float,)
        kwargs: dict[str, Any] = {"type": kinds[0], "metavar": "N"}
        if kinds[0] is bool:
            kwargs = {"action": argparse.BooleanOptionalAction}
        elif isinstance(kinds[0], str):
            kwargs = {"choices": kinds}
        text = texts.get(field.name, "").replace("%", "%%")
        group.add_argument(f"--{field.name.replace('_', '-')}", help=text, **kwargs)


def run(arguments: argparse.Namespace) -> int:
    """Answer all texts and return the exit status."""
    given, output = arguments.input, arguments.output
    if given and arguments.texts:
        raise InputError("give texts or --input, not both")
    if output and not Path(output).absolute().parent.is_dir():
        raise InputError(f"--output {output}: there is no folder {Path(output).parent}")
    if given and output and Path(given).absolute() == Path(output).absolute():
        raise InputError(f"--output {output} is the input; write to another file")
    has_rows = given and (has_columns(given) or file_format(given) == "conll")
    if has_rows and output and file_format(output) == "parquet":
        raise InputError(f"--output {output}: rows are not written as Parquet; let it end in .jsonl, .csv or .tsv")
    for text in arguments.texts:
        if (has_file_ending(text) or "/" in text) and os.path.isfile(text):
            raise InputError(f"{text} is a file, and a text was wanted; --input {text} answers what it holds")
    from lmtasks.storage.model_folder import load  # loads torch, which the mistakes above need not wait for

    model = load(arguments.model, arguments.device, engine=arguments.engine, precision=arguments.precision)
    session = Session(model, arguments)
    if given and session.has_rows(given):
        session.check_rows(given)
        written = session.answer_rows(given)
    else:
        written = (session.stream if session.streams else session.answer_texts)(_texts(arguments))
    with counting_cuts(), Sink(output) as sink:
        for piece in written:
            sink.write(piece)
    if session.renamed:
        own, new = ", ".join(session.renamed), ", ".join(session.renamed.values())
        print(f"the input has columns called {own}: they stay, and the answers are in {new}", file=sys.stderr)
    if session.empty:
        answers = "1 answer is" if session.empty == 1 else f"{session.empty:,} answers are"
        print(f"{answers} empty: {session.task.empty}", file=sys.stderr)
    return 0


class Session:
    """One task of a model, how it is asked, and what has been said so far in a dialogue.

    `answer_rows`, `answer_texts` and `stream` yield what is to be written, piece by piece.
    """

    def __init__(self, model: Model, arguments: argparse.Namespace) -> None:
        self.model = model
        if arguments.task is None and (arguments.source or arguments.target) and len(model.tasks) > 1:
            self.name, self.column, self.group = model.find_translation(arguments.source, arguments.target)
            self.task = model.tasks[self.name]
        else:
            self.name, self.task = model.find_task(arguments.task)
            self.column, self.group = self.task.choose(arguments.source, arguments.target)
        self.task = self.task if self.group is None else self.task.narrowed(self.group)
        names = (field.name for field in dataclasses.fields(model.decoding))
        given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
        idle = ["prefix"] * bool(arguments.prefix) + [name for name in given if name != "n_best"]
        if idle and not self.task.generates:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in idle)
            raise InputError(f"{self.name} writes no text: leave out {options}")
        if "beam" not in given and given.get("sample", model.decoding.sample):
            given["beam"] = 1
        elif "beam" not in given and "n_best" in given:
            given["beam"] = max(model.decoding.beam, given["n_best"])
        self.decoding = dataclasses.replace(model.decoding, **given)
        self.context = self._context(arguments.context, arguments.input)
        self.prefix, self.scores, self.given_column = arguments.prefix, arguments.scores, arguments.column
        self.one_line = not arguments.texts  # a line in, a line out
        output_format = file_format(arguments.output) if arguments.output else ""
        self.as_rows = output_format in ("jsonl", "csv", "tsv")
        self.delimiter = {"csv": ",", "tsv": "\t"}.get(output_format)  # of a table; None = JSON Lines
        self.names: list[str] = []  # the columns of the table
        self.empty = 0  # texts whose answer is empty
        shown = sys.stdout.isatty() and not (arguments.input or arguments.output or self.prefix or self.scores)
        self.streams = shown and max(self.decoding.beam, self.decoding.n_best) == 1
        self.turns: list[str] = []  # of a dialogue
        self.taken = {self.given_column or self.column}  # columns of the input, which no answer may replace
        self.renamed: dict[str, str] = {}  # column of an answer -> its other name, where it was taken

    def stream(self, portions: Iterable[list[str]]) -> Iterator[str]:
        """Yield each answer as the model writes it."""
        for text in chain.from_iterable(portions):
            said = ""
            for piece in self.model.stream(self._row(text), self.name, self.decoding, self.group):
                yield piece
                said += piece
            yield "\n"
            if self.turns:
                self.turns.append(said)

    def answer_texts(self, portions: Iterable[list[str]]) -> Iterator[str]:
        """Yield a line for each text: the answer, or `n_best` of them with tabs between, or a JSON object."""
        if self.task.multi_turn:  # a reply depends on the replies before it
            portions = ([text] for text in chain.from_iterable(portions))
        for texts in portions:
            answers = self._solve([self._row(text) for text in texts])
            if self.turns:
                self.turns.append(answers[-1][0].text)
            for text, several in zip(texts, answers, strict=True):
                row = {self.given_column or self.column: text}
                yield self._record(row, several) if self.as_rows else self._line(several)

    def has_rows(self, path: str) -> bool:
        """Tell whether a file has rows, and not lines of text."""
        return has_columns(path) or (file_format(path) == "conll" and WORDS in self.task.source_columns)

    def check_rows(self, path: str) -> None:
        """Check all rows of a file before the first is answered, and note the names of its columns.

        Raises: InputError if rows are broken, or lack a column, or there are none.
        """

        def noted(placed: tuple[str, dict[str, Any]]) -> None:
            self._question(*placed)
            self.taken.update(placed[1])

        logging.disable()  # blank lines are reported once, by `answer_rows`
        try:
            if not sum(1 for _ in collected(self._rows(path), noted)):
                raise InputError(f"{path}: there is no row in it; nothing to answer")
        finally:
            logging.disable(logging.NOTSET)

    def answer_rows(self, path: str) -> Iterator[str]:
        """Yield each row of a file as JSON, or as a row of a table, with its answer in columns of their own."""
        for rows in _portions(self._rows(path)):
            answers = self._solve([self._question(*placed) for placed in rows])
            for (_, row), several in zip(rows, answers, strict=True):
                yield self._record(row, several)

    def _rows(self, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the place of each row and the row, of the same files that training reads."""
        if file_format(path) == "json" and (articles := find_articles(read_json(path)[0])) is not None:
            for place, question in list_questions(path, articles):
                yield place, {name: value for name, value in question.items() if value is not None}
        elif WORDS in self.task.source_columns and self._has_words(path):
            for row in TaggedWords(predict=path).rows("predict", [WORDS]):
                yield row.pop("place"), row
        else:
            yield from ((f"{path}, row {number}", row) for number, row in read_rows(path))

    def _has_words(self, path: str) -> bool:
        """Tell whether a file has a word per line or row, or lists of words as texts."""
        if file_format(path) in ("csv", "tsv"):
            return WORDS in next((row for _, row in read_rows(path)), {})
        return file_format(path) == "conll"

    def _context(self, given: str | None, file: str | None) -> dict[str, str]:
        """Return the context of plain texts, {column: text}; rows of a file have their own."""
        column, rows = self.task.context, bool(file) and has_columns(str(file))
        if given and not column:
            raise InputError(f"--context does not go with {self.name}, which has no context; leave it out")
        if given and rows:
            fault = f"--context is for plain questions, and each row of {file} has a column {column!r}"
            raise InputError(f"{fault}; leave --context out, or give the questions as a text file, one a line")
        if not column or rows:
            return {}
        if not given:
            ways = "give --context TEXT, or the path of a text file; or --input of a .jsonl or .csv with the columns"
            raise InputError(f"{self.name} needs a {column}; {ways} {', '.join(self.task.source_columns)}")
        is_path = has_file_ending(given) or ("/" in given and given.isascii())  # Chinese has no blanks either
        if not os.path.exists(given) and not (is_path and len(given.split()) == 1 and len(given) <= LONGEST_PATH):
            return {column: given}
        try:
            return {column: "\n".join(read_lines(given))}
        except InputError as error:  # no such file, or a folder
            raise InputError(f"--context {error}") from None

    def _question(self, place: str, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row of a file as the task reads it: its text under the task's own name, numbers as texts."""
        from lmtasks.tasks.base import PLACE

        own, context = self.task.source_columns, self.task.context
        words = self.column if self.column in own else own[0]  # the column of a text that is cut to words already
        known = [self.given_column] if self.given_column else dict.fromkeys([words, self.column])
        key = next((name for name in known if row.get(name) is not None), None)
        if key is None or (context and row.get(context) is None):
            missing, hint = f"column {context!r}", "each row needs its own; --context goes with plain questions"
            if key is None:
                missing = " or ".join(f"column {name!r}" for name in known)
                hint = "--column=NAME names that of the text"
            raise InputError(f"{place}: nothing in {missing} (columns: {', '.join(row)}); {hint}")
        name = words if isinstance(row[key], list) else self.column
        asked = {other: value for other, value in row.items() if other not in (words, self.column)}
        asked |= {name: row[key], PLACE: place}
        for column in {name, *own} & asked.keys():
            try:
                asked[column] = exact(asked[column])
            except ValueError as error:
                raise InputError(f"{place}, column {key if column == name else column!r}: {error}") from None
        return asked

    def _row(self, text: str) -> dict[str, Any]:
        """Return a text with its context, or after the turns before it; a blank line begins a new dialogue."""
        if not self.task.multi_turn:
            return {**dict.fromkeys(self.task.source_columns), **self.context, self.column: text}
        most = self.task.max_length or len(self.turns)  # a turn has a token at least: those before are never read
        self.turns = [*self.turns, text][-most:] if text.strip() else []
        return {self.column: self.turns}

    def _solve(self, rows: list[dict[str, Any]]) -> list[list[Answer]]:
        found = self.model.solve(rows, self.name, self.group, self.decoding, self.prefix)
        return [several[: self.decoding.n_best] for several in found]  # search finds as many, other heads all they have

    def _line(self, answers: list[Answer]) -> str:
        self.empty += not answers[0].text
        fields = []
        for answer in answers:
            fields += [f"{answer.score:.4f}"] * self.scores
            fields.append(" ".join(answer.text.splitlines()) if self.one_line else answer.text)
        return "\t".join(fields) + "\n"

    def _record(self, row: dict[str, Any], answers: list[Answer]) -> str:
        said = [answer.plain() for answer in answers]
        best = {name: value for name, value in said[0].items() if name != "score" or self.scores}
        best |= {"n_best": said} if len(said) > 1 else {}
        # `lmtasks score` knows the answers by their place: the last columns of a row, the prediction first
        added = {self._free_name(name): value for name, value in best.items()}
        self.empty += not answers[0].text
        if self.delimiter is None:
            return json.dumps({**row, **added}, ensure_ascii=False, default=str) + "\n"  # Parquet has dates
        return self._table_rows({**row, **added})

    def _table_rows(self, record: dict[str, Any]) -> str:
        """Return a record as a row of the table, the first below the names of the columns; lists are JSON in a cell."""
        text = io.StringIO()
        writer = csv.writer(text, delimiter=self.delimiter or ",", lineterminator="\n")
        if not self.names:
            self.names = [*record]
            writer.writerow(self.names)
        if more := [name for name in record if name not in self.names]:
            hint = "let --output end in .jsonl"
            raise InputError(f"a row has a column {more[0]!r}, which the first row lacks; {hint}")
        cells = [record.get(name) for name in self.names]
        nested = (list, tuple, dict)
        writer.writerow(
            [json.dumps(each, ensure_ascii=False, default=str) if isinstance(each, nested) else each for each in cells]
        )
        return text.getvalue()

    def _free_name(self, name: str) -> str:
        """Return a name that no column of the input has: prediction_2 for prediction, predicted_labels for labels."""
        if name in self.taken and name not in self.renamed:
            stem = name if name == PREDICTION else f"predicted_{name}"
            names = chain([stem], (f"{stem}_{number}" for number in count(2)))
            self.renamed[name] = next(free for free in names if free not in self.taken)
        return self.renamed.get(name, name)


def _texts(arguments: argparse.Namespace) -> Iterable[list[str]]:
    """Return the texts in the portions in which to answer them."""
    if arguments.texts:
        return [arguments.texts]
    if arguments.input:
        return _portions(read_lines(arguments.input))
    return prompted_lines() if sys.stdin.isatty() else waiting_lines()


def _portions(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield items in portions; where reading fails, those before come first, as they do from stdin."""
    portion, fault = list[T](), None
    source = iter(items)
    while True:
        try:
            portion.extend(islice(source, AT_ONCE))
        except InputError as error:
            fault = error
        if portion:
            yield portion
        if fault:
            raise fault
        if len(portion) < AT_ONCE:
            return
        portion = []
