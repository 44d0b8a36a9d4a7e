"""Dialogue: the turns so far in, the next turn out.

A mark before each turn says who speaks (Wolf et al. 2019, "TransferTransfo", section 4.2): the last turn of a history
is the user's, the reply the model's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from lmtasks import metrics
from lmtasks.batch import Example
from lmtasks.cuts import note_cut
from lmtasks.errors import InputError
from lmtasks.tasks.base import Prediction, Row, fault, texts_of
from lmtasks.tasks.seq2seq import Pair, Seq2SeqTask
from lmtasks.text.base import BaseTokenizer
from lmtasks.text.forms import listed_texts

USER, MODEL = "<user>", "<model>"
MOST = 2**20  # tokens of a history that is not cut


@dataclass(frozen=True)
class DialogueTask(Seq2SeqTask):
    """Reply to the turns of a dialogue.

    Before: `{"turns": ["Hello.", "Hello, Anna.", "Bye."]}`.
    After, an example for each turn but the first, where each word is one token: source `<user> Hello . </s>`, target
    `Hello , Anna . </s>`; source `<model> Hello . <user> Hello , Anna . </s>`, target `Bye . </s>`.

    Example:
        >>> DialogueTask(history=64).marks
        ('<user>', '<model>')
    """

    kind = "dialogue"
    multi_turn = True
    columns = source_columns = ("turns",)
    marks = (USER, MODEL)
    main_metric = "token_probability"  # a good reply may share no word with the reference
    examples_per_row = None  # one for each turn but the first
    example_command = '"Good morning!"'
    example_call = 'reply("Good morning!")'
    sentence = "Replies to the last turn of a dialogue."

    history: int = 128
    """Longest history in tokens, marks and end included; the beginning of a longer one is left out."""
    language: str = "en"
    """Language of the replies (ISO 639), which decides what a word is in their scores."""

    turn_end: str = field(default="__eou__", kw_only=True)
    """What ends each turn where a dialogue is one text, as in DailyDialog (Li et al. 2017)."""

    def __post_init__(self) -> None:
        if self.history < 3:
            raise InputError(f"history is {self.history} tokens; a mark, a word and the end take 3")

    @property
    def limits(self) -> list[str]:
        """How far back it reads."""
        return [f"It reads the last turns of a dialogue, {self.history:,} tokens at most.", *super().limits]

    @property
    def max_length(self) -> int:
        """The history."""
        return self.history

    def texts(self, row: Row) -> Iterator[str]:
        """Yield the turns."""
        return iter(self._dialogue(row))

    def pairs(self, row: Row) -> Iterator[Pair]:
        """Yield each turn with all turns before it."""
        turns = self._dialogue(row)
        yield from (Pair(tuple(turns[:place]), turns[place], group=str(place)) for place in range(1, len(turns)))

    def questions(self, rows: Sequence[Row], tokenizer: BaseTokenizer) -> list[Example]:
        """Make an example of each row that has a turn: the reply to all of them."""
        turns = [(number, Pair(tuple(turns), "")) for number, row in enumerate(rows) if (turns := self._turns(row))]
        examples, whole = self.examples_of(turns, tokenizer), replace(self, history=MOST).examples_of(turns, tokenizer)
        for read, full in zip(examples, whole, strict=True):
            if len(full.source) > len(read.source):
                note_cut(full.row, len(full.source), len(read.source))
        return examples

    def prompted(self, pair: Pair) -> tuple[str, ...]:
        """Return the turns alone: `frame` puts the prompt before those that fit, as the first may be left out."""
        return pair.sources

    def frame(self, sources: Sequence[list[int]], pair: Pair, tokenizer: BaseTokenizer) -> list[int]:
        """Return prompt_text and the last turns that fit into the history, each after its mark; of the last its end."""
        marks = [tokenizer.mark(USER), tokenizer.mark(MODEL)]
        prompt = tokenizer.encode(self.prompt_text) if self.prompt_text else []
        history: list[int] = []
        for back, turn in enumerate(reversed(sources)):
            room = self.history - len(tokenizer.frame_source(prompt + history)) - 1  # the mark takes one
            if back and len(turn) > room:  # whole turns only, but for the last
                break
            history = [marks[back % 2], *turn[max(0, len(turn) - room) :], *history]
        return tokenizer.frame_source(prompt + history)

    def score(self, predictions: Sequence[Prediction], nll: float, count: int) -> dict[str, float]:
        """Return perplexity, the mean probability of a token, BLEU-2 and how varied the replies are."""
        replies, references = [each.prediction for each in predictions], [[each.reference] for each in predictions]
        return {
            "perplexity": metrics.perplexity(nll, count),
            "token_probability": metrics.token_probability(nll, count),
            "bleu2": metrics.bleu(replies, references, self.language, order=2).values["bleu"],
            **metrics.distinct(replies, self.language).values,
        }

    def signatures(self) -> dict[str, str]:
        """Return the signatures of the scorers under the names of `score`."""
        words = metrics.distinct(["a"], self.language).signature.split("|", 1)[1]  # without the number of words
        bleu = metrics.bleu(["a"], [["a"]], self.language, order=2).signature
        return {"bleu2": bleu, "distinct1": words, "distinct2": words}

    def _dialogue(self, row: Row) -> list[str]:
        """Return the turns of a training row; a single text is refused, because it cannot be a dialogue."""
        text = listed_texts(row.get("turns"))
        if isinstance(text, str) and not (self.turn_end and self.turn_end in text):
            problem = f"column 'turns': the text {text[:40]!r}, expected a list of texts, one for each turn"
            hint = f"a text needs {self.turn_end} behind each turn; turn_end sets that sign"
            raise fault(row, f"{problem}, as .jsonl .json and .parquet have; {hint}")
        return self._turns(row)

    def _turns(self, row: Row) -> list[str]:
        turns = listed_texts(row.get("turns"))
        if isinstance(turns, str) and self.turn_end:
            turns = [turn.strip() for turn in turns.split(self.turn_end)] if self.turn_end in turns else [turns]
        return [turn for turn in texts_of({**row, "turns": turns}, "turns") if turn.strip()]
