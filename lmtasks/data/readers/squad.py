"""Questions about a text, in the forms of SQuAD (Rajpurkar et al. 2016; 2018 with questions that have no answer).

Nested JSON as it is published (data, paragraphs, qas), also by DRCD and in both forms of CMRC 2018; or flat, one
question per row, as on the hub. Wrong starts of answers are corrected.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from lmtasks.data.readers.files import exact, read_json
from lmtasks.data.readers.formats import file_format
from lmtasks.data.readers.table import Files
from lmtasks.errors import InputError

COLUMNS = ("id", "question", "context", "answers", "starts")
NOWHERE = -1  # the start of an answer that is not in its context
FORMS = '{"text": ["..."], "answer_start": [0]}, a list of {"text": "...", "answer_start": 0}, or texts alone'
TRUTH = {"true": True, "1": True, "false": False, "0": False}

logger = logging.getLogger(__name__)


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
        is not at its start gets the start of its nearest place in the context, or NOWHERE; one warning counts both.
        """
        for column in columns:
            if column not in COLUMNS:
                fault = f"a SquadFile has no column '{column}', only {', '.join(COLUMNS)}"
                raise InputError(f"{self.path(split)}: {fault}; read a table that has it with Table")
        for path in self.paths(split):
            counts, first = Counter[str](), ""
            for place, record in self._records(path, split, "answers" in columns):
                row, faults = _row(place, record, columns)
                yield row
                first = first or (place if faults.total() else "")  # one warning per file, not one per answer
                counts += faults + Counter(answers=len(row.get("answers", ())))
            if first:
                moved, lost = counts["moved"], counts["lost"]
                logger.warning(
                    "%s: %d of %d answers are not where the file says, first in %s: %d were moved to their nearest "
                    "place, %d are nowhere in their context",
                    path, moved + lost, counts["answers"], first.removeprefix(f"{path}, "), moved, lost,
                )  # fmt: skip

    def _records(self, path: str, split: str, answered: bool) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield the questions with their places, under the names of the flat form."""
        articles = find_articles(read_json(path)[0]) if file_format(path) == "json" else None
        if articles is not None:
            yield from list_questions(path, articles)
            return
        mapped = "starts" in self.columns
        columns = ["id", "question", "context"] + ["answers", "starts"] * answered
        for number, row in self.table(path, split, columns, absent=["id"] if mapped else ["id", "starts"]):
            if answered and not mapped and row["starts"] is None:
                del row["starts"]  # the file has none
            yield f"{path}, row {number}", row


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

    Raises: InputError if paragraphs or questions are not a list of objects, or is_impossible is not a truth value.
    """
    paragraphs = chain.from_iterable(_parts(path, article, "paragraphs") for article in articles)
    asked = ((paragraph, question) for paragraph in paragraphs for question in _parts(path, paragraph, "qas"))
    for number, (paragraph, question) in enumerate(asked, 1):
        name, impossible = question.get("id", question.get("query_id")), question.get("is_impossible")
        place = f"{path}, row {number}" + (f" ({name})" if name is not None else "")
        if impossible is not None and str(impossible).lower() not in TRUTH:
            raise InputError(f"{place}, 'is_impossible': {str(impossible)[:40]}, expected true or false")
        record: dict[str, Any] = {
            "id": name,
            "question": question.get("question", question.get("query_text")),
            "context": paragraph.get("context", paragraph.get("context_text")),
            "answers": [] if TRUTH.get(str(impossible).lower()) else question.get("answers"),
        }
        yield place, record


def list_answers(place: str, value: Any, starts: Any = None) -> list[tuple[str, int | None]]:
    """Return the text and start of each answer, given in any form; a blank text is no answer, an unknown start None.

    Raises: InputError if `value` has none of the forms.
    """
    given = value
    if isinstance(value, dict):
        value, starts = value.get("text"), value.get("answer_start")
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        value, starts = [answer.get("text") for answer in value], [answer.get("answer_start") for answer in value]
    elif isinstance(value, str):
        value, starts = [value], starts if isinstance(starts, list) else [starts]
    starts = [starts] if isinstance(starts, str) else starts  # one answer in a list, its start alone
    try:
        pairs = zip(value, [None] * len(value) if starts is None else starts, strict=True)
        return [(text, None if start is None else int(float(start))) for text, start in pairs if text.strip()]
    except (ValueError, TypeError, AttributeError):
        fault = f"expected {FORMS}"
        if given is value and starts is not None:  # in two columns
            fault = f"with the starts {str(starts)[:40]}, expected a number for each answer"
        raise InputError(f"{place}: {str(given)[:60]}, {fault}") from None


def _parts(path: str, whole: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the list called `name`; if a file leaves out that level, it is `whole` itself."""
    parts = whole.get(name, [whole])
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise InputError(f"{path}: '{name}' is {str(parts)[:40]}, expected a list of objects")
    return parts


def _row(place: str, record: Mapping[str, Any], columns: Sequence[str]) -> tuple[dict[str, Any], Counter[str]]:
    """Return a row, and how many of its answers were moved and how many are lost."""
    row, faults = {} if record["id"] is None else {"id": exact(record["id"])}, Counter[str]()
    for name in ("question", "context"):
        if not isinstance(record[name], str):
            raise InputError(f"{place}, '{name}': {str(record[name])[:40]}, expected a text")
        row[name] = record[name]
    if "answers" in columns:
        unanswered = record["answers"] is None and "starts" in record  # a table with one answer per row
        value = "" if unanswered else record["answers"]
        answers = list_answers(f"{place}, 'answers'", value, record.get("starts"))
        row["answers"] = [text for text, _ in answers]
        if "starts" in columns:
            row["starts"] = [_nearest(row["context"], text, start) for text, start in answers]
            for (_, start), found in zip(answers, row["starts"], strict=True):
                faults["lost" if found == NOWHERE else "moved"] += found == NOWHERE or start not in (None, found)
    return {**row, "place": place}, faults


def _nearest(context: str, answer: str, start: int | None) -> int:
    """Return the place of `answer` in `context` that is nearest to `start`, or NOWHERE."""
    start = max(start or 0, 0)
    before, after = context.rfind(answer, 0, start + len(answer)), context.find(answer, start)  # both may be at start
    found = [place for place in (before, after) if place >= 0]
    return min(found, key=lambda place: abs(place - start), default=NOWHERE)
