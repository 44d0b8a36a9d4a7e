"""Text generation: a text is continued.

Documents follow one another, each closed by the end token, and are cut into blocks without padding, as in
nanoGPT (Karpathy 2022). A language model predicts each token of a block from those before it (Radford et al. 2019,
section 2). With a prompt an encoder reads the first tokens of each block, and a decoder writes the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lmtasks import metrics
from lmtasks.batch import Example
from lmtasks.cuts import note_cut
from lmtasks.errors import InputError
from lmtasks.heads.base import Head, Texts
from lmtasks.heads.language_model import LanguageModelHead
from lmtasks.heads.seq2seq import Seq2SeqHead
from lmtasks.metrics.languages import is_written_without_spaces
from lmtasks.tasks.base import Answer, Answers, Prediction, Row, Task, text_of
from lmtasks.tasks.seq2seq import INVENTS
from lmtasks.text.base import BaseTokenizer


@dataclass(frozen=True)
class GenerationTask(Task):
    """Continue a text.

    Before: `{"text": "One two three."}` and `{"text": "Four."}`.
    After, with blocks of 4 tokens, where each word is one: sources `</s>`, `three`, and targets `One two three .`,
    `</s> Four . </s>`.

    Example:
        >>> GenerationTask(block=64).main_metric
        'token_probability'
    """

    kind = "generation"
    generates = True
    columns = source_columns = ("text",)
    main_metric = "token_probability"  # 100 / perplexity: unlike perplexity, higher is better
    examples_per_row = 0  # blocks do not follow rows, so none can be missing
    example_command = '"Once upon a time"'
    example_call = 'generate("Once upon a time")'

    block: int = 256
    """Tokens of a block, which are predicted together."""
    overlap: int = 1
    """Tokens before a block that are read with it but not scored; they give its first tokens more context."""
    prompt: int = 0
    """Tokens of a block that an encoder reads, while the others are written; 0 = a language model, without encoder."""
    language: str = "en"
    """Language of the texts (ISO 639), which decides what a word is: in Chinese and Japanese, a character."""
    max_answered: int = 4
    """How many blocks an evaluation continues, for people to read; the scores need none."""

    def __post_init__(self) -> None:
        if min(self.block, self.overlap) < 1 or self.max_answered < 0:
            given = f"block {self.block}, overlap {self.overlap}, max_answered {self.max_answered}"
            raise InputError(f"{given}; give 1, 1, 0 or more")
        if not 0 <= self.prompt < self.block:
            raise InputError(f"prompt is {self.prompt}; give from 0 to block - 1, which is {self.block - 1}")
        if self.prompt and self.overlap > 1:
            raise InputError(f"overlap is {self.overlap}, but with a prompt a block is read alone; leave one out")

    @property
    def sentence(self) -> str:
        """What it reads and writes."""
        read = f", of which it reads the last {self.prompt} tokens" if self.prompt else ", as a language model does"
        return f"Continues a text{read}."

    @property
    def limits(self) -> list[str]:
        """How much it reads, and what it cannot know."""
        read = [] if self.prompt else [f"Of a longer text it reads the last {self.max_length:,} tokens."]
        return [*read, INVENTS]

    @property
    def needs_encoder(self) -> bool:
        """Whether there is a prompt to encode."""
        return self.prompt > 0

    @property
    def max_length(self) -> int:
        """A block and what is read before it."""
        return self.block + self.overlap - 1

    def texts(self, row: Row) -> Iterator[str]:
        """Yield the text, unless it is blank."""
        return filter(str.strip, [text_of(row, "text")])

    def examples(self, rows: Sequence[Row], tokenizer: BaseTokenizer) -> list[Example]:
        """Give the blocks of the documents that are not blank, in order; all but the last have the same length."""
        texts = {number: text for number, row in enumerate(rows) if (text := text_of(row, "text")).strip()}
        if not texts:
            return []
        running, numbers = RunningText([*texts.values()], tokenizer), [*texts]
        length, examples = len(running.ids), []
        # a language model does not predict the first token, which opens the first document
        places = range(0, length - self.prompt, self.block) if self.prompt else range(1, length, self.block)
        for count, place in enumerate(places):
            start, first = (place, place + self.prompt) if self.prompt else (max(0, place - self.overlap), place)
            stop = min(place + self.block, length)
            parts = running.parts(first, stop)
            examples.append(
                Example(
                    source=running.ids[start:first],
                    target=running.ids[first:stop],
                    text="\n".join(running.parts(start, first)),
                    reference="\n".join(parts),
                    references=parts if len(parts) > 1 else [],  # where documents end, for the counts of scores
                    group=str(count),  # its own: answers to one row and group would be joined
                    row=numbers[running.document(first)],
                )
            )
        return examples

    def questions(self, rows: Sequence[Row], tokenizer: BaseTokenizer) -> list[Example]:
        """Give an example for each row: the text so far, as a document that has begun; "" is the beginning of one.

        Of a long text the last tokens are read, as many as in training.
        """
        texts = [text_of(row, "text") for row in rows]
        kept = self.prompt or self.max_length  # a longer source has positions that training never had
        examples = []
        for number, (text, ids) in enumerate(zip(texts, tokenizer.encode_batch(texts), strict=True)):
            source = [tokenizer.eos_id, *ids]
            if len(source) > kept:
                note_cut(number, len(source), kept)
            examples.append(Example(source[-kept:], [], text, row=number))
        return examples

    def head(self, tokenizer: BaseTokenizer, d_model: int) -> Head:
        """Return the head of a language model, or with a prompt that of an encoder and a decoder."""
        if self.prompt:
            return Seq2SeqHead(tokenizer.decoder_start_id, tokenizer.eos_id, tokenizer.suppress_tokens)
        return LanguageModelHead(tokenizer.eos_id, tokenizer.suppress_tokens, self.max_length)

    def answers(self, found: Texts, examples: Sequence[Example], tokenizer: BaseTokenizer) -> Answers:
        """Give the text after each source, with the blanks it begins with, if any."""
        pairs = list(zip([example.source for example in examples], found, strict=True))
        # decoded with its source, because the two may share a character
        whole = [[*source, *hypothesis.tokens] for source, several in pairs for hypothesis in several]
        texts, sources = iter(tokenizer.decode_batch(whole)), tokenizer.decode_batch([source for source, _ in pairs])
        return [
            [Answer(behind(before, next(texts)), hypothesis.score) for hypothesis in several]
            for before, several in zip(sources, found, strict=True)
        ]

    def score(self, predictions: Sequence[Prediction], nll: float, count: int) -> dict[str, float]:
        """Return perplexity by token and word, bits per character, and the mean probability of a token, in percent.

        The end of a document is a token, and neither a word nor a character, but its loss is counted.
        """
        ends = sum(max(0, len(each.references) - 1) for each in predictions)  # a line end each, in the references
        characters = sum(len(each.reference) for each in predictions) - ends
        # blocks follow one another and cut words; with a prompt there is a gap between them
        words = (" " if self.prompt else "").join(each.reference for each in predictions).split()
        return {
            "perplexity": metrics.perplexity(nll, count),
            "perplexity_word": metrics.perplexity(nll, sum(map(len, words)) if self._counts_characters else len(words)),
            "bits_per_character": metrics.bits_per_character(nll, characters),
            "token_probability": metrics.token_probability(nll, count),
        }

    def signatures(self) -> dict[str, str]:
        """Say what is read and counted, under names of `score`; the others follow from these."""
        read = f"prompt:{self.prompt}" if self.prompt else f"overlap:{self.overlap}"
        blocks = f"block:{self.block}|{read}|ends:scored"
        words = "characters" if self._counts_characters else "blanks"
        return {"token_probability": blocks, "perplexity_word": f"{blocks}|words:{words}"}

    @property
    def _counts_characters(self) -> bool:
        return is_written_without_spaces(self.language)


class RunningText:
    """Documents one after the other as token ids: an end token opens the first, and one closes each.

    A piece of the vocabulary may be a part of a character. Each character belongs to the piece in which it begins, so
    that the characters of all pieces together are the text.
    """

    def __init__(self, texts: Sequence[str], tokenizer: BaseTokenizer) -> None:
        # characters that begin in each piece of the vocabulary, (V,): the later bytes of a character begin none
        begun = np.array([sum(byte & 0xC0 != 0x80 for byte in piece) for piece in tokenizer.byte_pieces()])
        self.ids, counts = [tokenizer.eos_id], [np.zeros(2, int)]  # before the first token, and of it: an end has none
        for text, ids in zip(texts, tokenizer.encode_batch(list(texts)), strict=True):
            characters = begun[ids]
            characters[0] -= characters.sum() - len(text)  # a tokenizer puts a blank before the first word
            counts += [characters, np.zeros(1, int)]
            self.ids += [*ids, tokenizer.eos_id]
        self._text = "".join(texts)
        self._places = np.concatenate(counts).cumsum()  # characters before each token
        self._ends = np.flatnonzero(np.array(self.ids) == tokenizer.eos_id)  # the first opens the first document

    def document(self, token: int) -> int:
        """Return the number of the document that a token belongs to."""
        return max(0, int(np.searchsorted(self._ends, token)) - 1)

    def parts(self, first: int, stop: int) -> list[str]:
        """Return the text of the tokens from `first` to `stop`, cut where documents end."""
        after, last = np.searchsorted(self._ends, [max(1, first), stop])
        bounds = self._places[[first, *self._ends[after:last], stop]].tolist()
        return [self._text[start:end] for start, end in pairwise(bounds)]


def behind(before: str, whole: str) -> str:
    """Return `whole` without the beginning that it shares with `before`, which may end in half a character.

    >>> behind("Over all", "Over all the hilltops")
    ' the hilltops'
    """
    differing = (place for place, (old, new) in enumerate(zip(before, whole, strict=False)) if old != new)
    return whole[next(differing, len(before)) :]
