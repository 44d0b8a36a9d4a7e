"""Dialogue: what was said so far in, the next turn out.

A row {"turns": ["Good morning.", "Good morning! What do you want?", "Two loaves."]} gives a reply to learn for each
turn but the first: to "Good morning.", and to the two before "Two loaves.". A mark before each turn says who speaks
(Wolf et al. 2019, "TransferTransfo", section 4.2): the last turn of a history is the user's, the reply the model's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lmtasks import metrics
from lmtasks.errors import InputError
from lmtasks.heads.seq2seq import Seq2SeqHead
from lmtasks.tasks.base import Example, Prediction, Row, Task, fault, texts_of
from lmtasks.text.tokenizer import Tokenizer

USER, MODEL = "<user>", "<model>"


@dataclass(frozen=True)
class DialogueTask(Task):
    """Reply to the turns of a dialogue.

    Example:
        >>> DialogueTask(history=64).marks
        ('<user>', '<model>')
    """

    history: int = 128
    """Longest history in tokens, marks and end counted; of a longer one the beginning is left out."""
    language: str = "en"
    """Language of the replies (ISO 639), which says what a word is when they are scored."""
    label_smoothing: float = 0.1
    """Share of the target's probability spread over the vocabulary (Szegedy et al. 2016, section 7)."""

    def __post_init__(self) -> None:
        if self.history < 3:
            raise InputError(f"history is {self.history} tokens; a mark, a word and the end take 3")

    @property
    def kind(self) -> str:
        return "dialogue"

    @property
    def columns(self) -> tuple[str, ...]:
        return ("turns",)

    @property
    def source_columns(self) -> tuple[str, ...]:
        return ("turns",)

    @property
    def marks(self) -> tuple[str, ...]:
        return (USER, MODEL)

    @property
    def multi_turn(self) -> bool:
        return True

    @property
    def examples_per_row(self) -> None:
        return None

    @property
    def longest(self) -> int:
        return self.history

    @property
    def main_metric(self) -> str:
        return "token_probability"

    @property
    def example_command(self) -> str:
        return '"Good morning!"'

    def texts(self, row: Row) -> Iterator[str]:
        return iter(_dialogue(row))

    def examples(self, rows: Sequence[Row], tokenizer: Tokenizer) -> list[Example]:
        """Give an example for each turn that replies to another one."""
        dialogues = [_dialogue(row) for row in rows]
        encoded = iter(tokenizer.encode_batch([turn for turns in dialogues for turn in turns]))
        examples = []
        for number, turns in enumerate(dialogues):
            ids = [next(encoded) for _ in turns]
            examples += [
                Example(
                    source=self._source(ids[:place], tokenizer),
                    target=[*ids[place], tokenizer.eos_id],
                    text="\n".join(turns[:place]),
                    reference=turns[place],
                    group=str(place),
                    row=number,
                )
                for place in range(1, len(turns))
            ]
        return examples

    def questions(self, rows: Sequence[Row], tokenizer: Tokenizer) -> list[Example]:
        """Give an example for each row that has a turn: the reply to all of them."""
        dialogues = [(number, turns) for number, row in enumerate(rows) if (turns := _turns(row))]
        return [
            Example(self._source(tokenizer.encode_batch(turns), tokenizer), [], "\n".join(turns), row=number)
            for number, turns in dialogues
        ]

    def _source(self, turns: Sequence[list[int]], tokenizer: Tokenizer) -> list[int]:
        """Return as many of the last turns as there is room for, the speakers marked; of the last at least its end."""
        marks = [tokenizer.mark(USER), tokenizer.mark(MODEL)]
        source = [tokenizer.eos_id]
        for back, turn in enumerate(reversed(turns)):
            room = self.history - len(source) - 1
            if back and len(turn) > room:
                break
            source = [marks[back % 2], *turn[max(0, len(turn) - room) :], *source]
        return source

    def head(self, tokenizer: Tokenizer, d_model: int) -> Seq2SeqHead:
        return Seq2SeqHead(tokenizer.bos_id, tokenizer.eos_id, tokenizer.suppress_tokens, self.label_smoothing)

    def score(self, samples: Sequence[Prediction], nll: float, count: int) -> dict[str, float]:
        """Return perplexity, the mean probability of a token, BLEU-2 and how varied the replies are."""
        replies = [sample.prediction for sample in samples]
        bleu = metrics.bleu(replies, [[sample.reference] for sample in samples], self.language, order=2)
        return {
            "perplexity": metrics.perplexity(nll, count),
            "token_probability": metrics.token_probability(nll, count),
            "bleu2": bleu.values["bleu"],
            **metrics.distinct(replies, self.language).values,
        }

    def signatures(self) -> dict[str, str]:
        """Return the signatures of the scorers under the names of `score`."""
        bleu = metrics.bleu(["a"], [["a"]], self.language, order=2)
        words = metrics.distinct([], self.language).signature.split("|", 1)[1]  # without the number of words
        return {"bleu2": bleu.signature, "distinct1": words, "distinct2": words}


def _dialogue(row: Row) -> list[str]:
    """Return the turns of a row to learn from, in which one text is no dialogue."""
    if isinstance(row.get("turns"), str):
        problem = f"column 'turns': the text {row['turns'][:40]!r}, expected a list of texts, one for each turn"
        raise fault(row, f"{problem}, as .jsonl .json and .parquet have")
    return _turns(row)


def _turns(row: Row) -> list[str]:
    return [turn for turn in texts_of(row, "turns") if turn.strip()]
