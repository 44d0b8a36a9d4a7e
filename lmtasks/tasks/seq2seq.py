"""What tasks that write text have in common: their head, their framing, their answers.

A subclass says in `pairs` which texts of a row are read and which one is written.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import ClassVar, NamedTuple

from lmtasks.batch import Example
from lmtasks.heads.base import Head, Texts
from lmtasks.heads.seq2seq import Seq2SeqHead
from lmtasks.tasks.base import Answer, Answers, Row, Task
from lmtasks.text.base import BaseTokenizer

INVENTS = "It writes what is likely, and not what is true: it may state things that nobody gave it."


class Pair(NamedTuple):
    """The texts to read and the text to write of one example."""

    sources: tuple[str, ...]
    target: str
    """The text to write; "" where the row has none."""
    references: tuple[str, ...] = ()
    """All right answers, where there may be several."""
    group: str = ""
    """Rows of one group are scored together."""
    language: str | None = None
    """The language of the answer."""
    source_language: str | None = None
    """The language of the source."""


@dataclass(frozen=True)
class Seq2SeqTask(Task):
    """A task whose answer is a written text."""

    generates: ClassVar[bool] = True

    label_smoothing: float = field(default=0.1, kw_only=True)
    """Share of the target's probability spread over the vocabulary (Szegedy et al. 2016, section 7)."""
    prompt_text: str = field(default="", kw_only=True)
    """Text in front of every source, by which a pretrained model knows its task (Raffel et al. 2020, section 2.4)."""

    @property
    def names_itself(self) -> bool:
        """Whether `prompt_text` says which task it is."""
        return bool(self.prompt_text)

    @property
    def limits(self) -> list[str]:
        """What no model knows that writes."""
        return [INVENTS]

    def texts(self, row: Row) -> Iterator[str]:
        """Yield all texts of the pairs of a row that are not empty."""
        return (text for pair in self.pairs(row) for text in (*pair.sources, pair.target) if text)

    @abstractmethod
    def pairs(self, row: Row) -> Iterator[Pair]:
        """Yield what to read and to write of a row, nothing where it has no source."""

    def examples(self, rows: Sequence[Row], tokenizer: BaseTokenizer) -> list[Example]:
        """Make an example of each pair; a missing target is left empty."""
        pairs = [(number, pair) for number, row in enumerate(rows) for pair in self.pairs(row)]
        return self.examples_of(pairs, tokenizer)

    def examples_of(self, pairs: Sequence[tuple[int, Pair]], tokenizer: BaseTokenizer) -> list[Example]:
        """Make an example of each pair, given with the number of its row."""
        sources = [self.prompted(pair) for _, pair in pairs]
        # each text once, though all histories of a dialogue share their turns, and in one call, which uses all cores
        read = list(dict.fromkeys(chain.from_iterable(sources)))
        written = list(dict.fromkeys(pair.target for _, pair in pairs))
        ids = dict(zip(read, tokenizer.encode_batch(read), strict=True))
        targets = dict(zip(written, tokenizer.encode_targets(written), strict=True))
        examples = []
        for several, (number, pair) in zip(sources, pairs, strict=True):
            language = self._language(pair, tokenizer)
            target = tokenizer.frame_target(targets[pair.target], language) if pair.target.strip() else []
            examples.append(
                Example(
                    source=self.frame([ids[text] for text in several], pair, tokenizer),
                    target=target,
                    text="\n".join(pair.sources),
                    reference=pair.target,
                    references=list(pair.references),
                    prefix=tokenizer.target_prefix(language),
                    group=pair.group,
                    row=number,
                )
            )
        return examples

    def prompted(self, pair: Pair) -> tuple[str, ...]:
        """Return the texts that are read of a pair, the first one after `prompt_text`."""
        first, *others = pair.sources
        return (self.prompt_text + first, *others)

    def frame(self, sources: Sequence[list[int]], pair: Pair, tokenizer: BaseTokenizer) -> list[int]:
        """Return what the encoder reads of the token ids of the source texts."""
        language = self._language(pair, tokenizer)
        return tokenizer.frame_source(*sources, language=language, source_language=pair.source_language)

    def head(self, tokenizer: BaseTokenizer, d_model: int) -> Head:
        """Return a head that writes text; it has no parameters of its own."""
        tokens = tokenizer.decoder_start_id, tokenizer.eos_id, tokenizer.suppress_tokens
        return Seq2SeqHead(*tokens, self.label_smoothing)

    def answers(self, found: Texts, examples: Sequence[Example], tokenizer: BaseTokenizer) -> Answers:
        """Turn the hypotheses of the search into texts."""
        texts = iter(tokenizer.decode_batch([hypothesis.tokens for several in found for hypothesis in several]))
        return [[Answer(next(texts), hypothesis.score) for hypothesis in several] for several in found]

    def _language(self, pair: Pair, tokenizer: BaseTokenizer) -> str | None:
        """Return the language to name; a model of a single target language needs none, unless it always names it."""
        return pair.language if self.languages or tokenizer.names_languages else None
