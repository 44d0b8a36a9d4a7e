"""Questions about a text, in the forms of SQuAD (Rajpurkar et al. 2016; 2018 with questions that have no answer).

Nested JSON as it is published (data, paragraphs, qas), also by DRCD and in both forms of CMRC 2018; or flat, one
question per row, as on the hub. Where an answer and its start differ, both are tried: the start may count bytes, or the
context may spell the answer in another way there (blanks, case, Unicode), or the answer stands elsewhere.
"""

from __future__ import annotations

import ast
import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any

from lmtasks.data.readers.files import exact, logger, read_json
from lmtasks.data.readers.formats import file_format
from lmtasks.data.readers.table import Files
from lmtasks.errors import InputError, collected
from lmtasks.text.forms import listed_texts

COLUMNS = ("id", "question", "context", "answers", "starts")
NOWHERE = -1  # the start of an answer that is not in its context
FORMS = '{"text": ["..."], "answer_start": [0]}, a list of {"text": "...", "answer_start": 0}, or texts alone'
TRUTH = {"true": True, "1": True, "false": False, "0": False}
NEAR = 10  # characters: an answer so near to its start is the one that is meant
PLACES = 10  # rows that a warning names
SPACED = 0x0E00  # letters from here on, Thai the first, mostly make words without blanks between
SAME = {**dict.fromkeys("‘’‚‛`´", "'"), **dict.fromkeys("“”„«»", '"'), **dict.fromkeys("‐‑‒–—―−", "-")}

Span = tuple[int, int]
"""The characters of an answer in its context, [start, stop)."""


@dataclass(frozen=True)
class SquadFile(Files):
    """Questions with their contexts and answers, in the forms of SQuAD.

    Before: a paragraph of `train.json`, `{"context": "Anna has a cat.", "qas": [{"id": "q1", "question": "Who has a
    cat?", "answers": [{"text": "Anna", "answer_start": 0}]}]}`.
    After: `{"id": "q1", "question": "Who has a cat?", "context": "Anna has a cat.", "answers": ["Anna"],
    "starts": [0], "place": "train.json, row 1 (q1)"}`; both lists are empty if there is no answer.
    """

    train: str | None = None
    """Training data: nested JSON as SQuAD 1.1 and 2.0 publish it (.json, also .gz); or one question per row with the
    columns id, question, context and answers {text: [...], answer_start: [...]} (.jsonl .json .parquet or a hub id); or
    with two columns answers and starts, lists of texts and characters, or one of each per row (.csv .tsv). An answer
    without a start gets its first place in the context."""
    columns: dict[str, str] = field(default_factory=dict)
    """Maps our column names to those of a file with one question per row, {ours: theirs}; ours are id, question,
    context, answers, and starts if the file has them in a column of their own."""

    def rows(self, split: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the questions of a split with "question", "context", "place", and "id" if there is one.

        "answers" (texts) and "starts" (characters of the context) are added if they are among `columns`. An answer that
        is not at its start gets its nearest place in the context, as the context spells it, or the start NOWHERE; one
        warning counts them. Answers of a question that is marked as impossible are left out and counted too.

        Raises: InputError if rows are broken, or no answer at all stands in its context.
        """
        for column in columns:
            if column not in COLUMNS:
                fault = f"a SquadFile has no column '{column}', only {', '.join(COLUMNS)}"
                raise InputError(f"{self.path(split)}: {fault}; read a table that has it with Table")
        for path in self.paths(split):
            found = _Found(path)
            records = self._records(path, split, "answers" in columns)
            yield from collected(records, lambda record: _row(*record, columns, found))  # noqa: B023
            found.report()

    def _records(self, path: str, split: str, answered: bool) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield the questions with their places, under the names of the flat form."""
        document, whole = read_json(path) if file_format(path) == "json" else (None, True)
        articles = find_articles(document)
        if articles is not None:
            if not whole:
                raise InputError(f"{path}: there is more behind the questions; expected one JSON object")
            yield from list_questions(path, articles)
            return
        mapped = "starts" in self.columns
        columns = ["id", "question", "context", "is_impossible"] + ["answers", "starts"] * answered
        optional = ["id", "is_impossible"] if mapped else ["id", "is_impossible", "starts"]
        for number, row in self.table(path, split, columns, absent=optional):
            if answered and not mapped and row["starts"] is None:
                del row["starts"]  # the file has none
            yield f"{path}, row {number}", {**row, "is_impossible": row["is_impossible"] or None}  # a blank cell


def find_articles(document: Any) -> list[dict[str, Any]] | None:
    """Return the articles of a nested file, or None if it is a table: an array of rows, or JSON Lines."""
    articles = document.get("data") if isinstance(document, dict) else document
    if not isinstance(articles, list) or not all(isinstance(article, dict) for article in articles):
        return None
    nested = isinstance(document, dict) or any("paragraphs" in article or "qas" in article for article in articles)
    return articles if nested else None


def list_questions(path: str, articles: list[dict[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the place of each question of a nested file, and its id, question, context and answers, unchanged.

    CMRC 2018 has paragraphs without articles, and its own names; some files are {"data": rows}.

    Raises: InputError if paragraphs or questions are not a list of objects.
    """
    paragraphs = chain.from_iterable(_parts(path, article, "paragraphs") for article in articles)
    asked = ((paragraph, question) for paragraph in paragraphs for question in _parts(path, paragraph, "qas"))
    for number, (paragraph, question) in enumerate(asked, 1):
        name = question.get("id", question.get("query_id"))
        yield (
            f"{path}, row {number}" + (f" ({name})" if name is not None else ""),
            {
                "id": name,
                "question": question.get("question", question.get("query_text")),
                "context": paragraph.get("context", paragraph.get("context_text")),
                "answers": question.get("answers"),
                "is_impossible": question.get("is_impossible"),
            },
        )


def is_impossible(place: str, record: Mapping[str, Any]) -> bool:
    """Tell whether a question is marked as one without an answer.

    Raises: InputError if the mark is not a truth value.
    """
    mark = record.get("is_impossible")
    if mark is None:
        return False
    if str(mark).lower() not in TRUTH:
        raise InputError(f"{place}, 'is_impossible': {str(mark)[:40]}, expected true or false")
    return TRUTH[str(mark).lower()]


def list_answers(place: str, value: Any, starts: Any = None) -> list[tuple[str, int | None]]:
    """Return the text and start of each answer, given in any form; a blank text is no answer, an unknown start None.

    Raises: InputError if `value` has none of the forms.
    """
    given, apart = value, starts is not None  # in two columns
    try:
        value, starts = _as_written(value), listed_texts(starts)
        if isinstance(value, dict):
            value, starts = value.get("text"), value.get("answer_start")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            value, starts = [answer.get("text") for answer in value], [answer.get("answer_start") for answer in value]
        value = [value] if isinstance(value, str) else value
        starts = starts if isinstance(starts, list) else [starts] * (1 if starts is not None else len(value))
        return [(text, _number(start)) for text, start in zip(value, starts, strict=True) if text.strip()]
    except (ValueError, TypeError, AttributeError, OverflowError):
        fault = f"expected {FORMS}"
        if apart:
            fault = f"with the starts {str(starts)[:40]}, expected a number for each answer"
        raise InputError(f"{place}: {str(given)[:60]}, {fault}") from None


def _as_written(value: Any) -> Any:
    """Return the object or list that a text of a CSV stands for; a text that only looks so is an error."""
    if not isinstance(value, str) or not value.lstrip().startswith(('{"', "{'", "[{")):
        return listed_texts(value)
    try:
        return json.loads(value)
    except ValueError:
        if re.search(r"""["']\s+["']""", value):  # Python would join two texts without a comma between
            raise
        with suppress(SyntaxError, MemoryError, RecursionError):
            return ast.literal_eval(value)
        raise


def _number(start: Any) -> int | None:
    if start is None or start == "":
        return None
    if isinstance(start, bool) or not float(start).is_integer():
        raise ValueError(f"{start} is no whole number")
    return int(float(start))


def _parts(path: str, whole: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the list called `name`; if a file leaves out that level, it is `whole` itself."""
    parts = whole.get(name, [whole])
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise InputError(f"{path}: '{name}' is {str(parts)[:40]}, expected a list of objects")
    return parts


class _Found:
    """What was found of the answers of a file: how many, and of each kind of fault the first places."""

    def __init__(self, path: str) -> None:
        self.path, self.answers, self.ids = path, 0, set[str]()
        self.counts, self.places = Counter[str](), defaultdict[str, list[str]](list)

    def add(self, kind: str, place: str, count: int = 1) -> None:
        """Count faults of a row."""
        if len(self.places[kind]) < PLACES and count:
            self.places[kind].append(place.removeprefix(f"{self.path}, "))
        self.counts[kind] += count

    def report(self) -> None:
        """Log what is not as the file says.

        Raises: InputError if no answer stands in its context.
        """
        moved, lost = self.counts["moved"] + self.counts["spelled"], self.counts["lost"]
        if lost and lost == self.answers:
            hint = "is it the right context? SquadFile needs answers that are parts of it"
            raise InputError(f"{self.path}, {self.places['lost'][0]}: none of {lost} answers is in its context; {hint}")
        if moved or lost:
            logger.warning(
                "%s: %d of %d answers are not where the file says: %d were moved to their nearest place (%s), %d are "
                "taken as the context spells them (%s), %d are nowhere in their context and not learned from (%s)",
                self.path, moved + lost, self.answers,
                *chain.from_iterable((self.counts[kind], self._first(kind)) for kind in ("moved", "spelled", "lost")),
            )  # fmt: skip
        if count := self.counts["impossible"]:
            fault = "answers of questions that are marked as impossible are left out"
            logger.warning("%s: %d %s (%s)", self.path, count, fault, self._first("impossible"))
        if count := self.counts["twice"]:
            logger.warning("%s: %d ids stand in several rows (%s)", self.path, count, self._first("twice"))

    def _first(self, kind: str) -> str:
        shown = ", ".join(self.places[kind]) or "none"
        return shown + ", ..." * (self.counts[kind] > PLACES)


def _row(place: str, record: Mapping[str, Any], columns: Sequence[str], found: _Found) -> dict[str, Any]:
    """Return a row, and count the faults of its answers."""
    row: dict[str, Any] = {}
    if record["id"] is not None:
        row["id"] = exact(record["id"])
        found.add("twice", place, str(row["id"]) in found.ids)
        found.ids.add(str(row["id"]))
    for name in ("question", "context"):
        if not isinstance(record[name], str):
            raise InputError(f"{place}, '{name}': {str(record[name])[:40]}, expected a text")
        row[name] = record[name]
    impossible = is_impossible(place, record)
    if "answers" in columns:
        missing = record["answers"] is None and (impossible or "starts" in record)  # a table with one answer per row
        answers = list_answers(f"{place}, 'answers'", [] if missing else record["answers"], record.get("starts"))
        if impossible:
            found.add("impossible", place, len(answers))
            answers = []
        row["answers"] = [text for text, _ in answers]
        found.answers += len(answers)
        if "starts" in columns:
            row["answers"], row["starts"] = [], []
            for text, start in answers:
                begin, stop = _place(row["context"], text, start) or (NOWHERE, NOWHERE)
                there = text if begin == NOWHERE else row["context"][begin:stop]
                if begin == NOWHERE or there != text or start not in (None, begin):
                    found.add("lost" if begin == NOWHERE else "moved" if there == text else "spelled", place)
                row["answers"].append(there)
                row["starts"].append(begin)
    return {**row, "place": place}


def _place(context: str, answer: str, start: int | None) -> Span | None:
    """Return where an answer stands: at its start, or else at its nearest place, None if it has none.

    The start is believed where the context there differs from the answer in its spelling only, and a place that is
    near before one that is far.
    """
    if start is not None and start >= 0 and context.startswith(answer, start):
        return start, start + len(answer)
    for at in _starts_otherwise(context, start or 0):
        if context.startswith(answer, at):
            return at, at + len(answer)
    near = max(start or 0, 0)

    def best(spans: Iterable[Span]) -> Span | None:
        """Return the span nearest to the start, but rather no part of a word."""
        return min(spans, key=lambda span: (_cuts_word(context, span), abs(span[0] - near)), default=None)

    same = best(_occurrences(context, answer))
    if start is None and same:
        return same
    spelled = best(_spelled(context, answer))
    if spelled and start == spelled[0]:
        return spelled
    nearby = [span for span in (same, spelled) if span and abs(span[0] - near) <= NEAR]
    return next(iter(nearby), same or spelled)


def _starts_otherwise(context: str, start: int) -> list[int]:
    """Return the characters that a start means if it counts UTF-16 units, or bytes of UTF-8."""
    if start <= 0 or context.isascii():
        return []
    units, octets = context.encode("utf-16-le")[: 2 * start], context.encode()[:start]
    return [len(units.decode("utf-16-le", "ignore")), len(octets.decode("utf-8", "ignore"))]


def _occurrences(text: str, part: str) -> Iterator[Span]:
    at = text.find(part) if part else NOWHERE
    while at != NOWHERE:
        yield at, at + len(part)
        at = text.find(part, at + 1)


def _spelled(context: str, answer: str) -> Iterator[Span]:
    """Yield where the context has the answer but for blanks, case, quotes, dashes and Unicode forms."""
    folded, places = _folded(context)
    for start, stop in _occurrences(folded, _folded(answer.strip())[0]):
        whole = places[start - 1 : start] != places[start : start + 1] and places[stop : stop + 1] != [places[stop - 1]]
        if whole:  # no part of a character that folds to several
            yield places[start], places[stop - 1] + 1


@lru_cache(maxsize=8)  # a context has several questions
def _folded(text: str) -> tuple[str, list[int]]:
    """Return a text in small letters with single blanks, decomposed, and the place of each of its characters."""
    kept, places = list[str](), list[int]()
    for at, character in enumerate(text):
        for part in unicodedata.normalize("NFKD", SAME.get(character, character).casefold()):
            if part.isspace() and kept[-1:] == [" "]:
                continue
            if unicodedata.category(part) != "Cf":  # a soft hyphen, or a space of no width
                kept.append(" " if part.isspace() else part)
                places.append(at)
    return "".join(kept), places


def _cuts_word(context: str, span: Span) -> bool:
    """Tell whether the characters are a part of a word."""

    def letters(at: int) -> bool:
        pair = context[max(at - 1, 0) : at + 1]
        return len(pair) == 2 and all(each.isalnum() and ord(each) < SPACED for each in pair)

    return letters(span[0]) or letters(span[1])
