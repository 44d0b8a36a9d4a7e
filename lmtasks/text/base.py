"""The contract of a tokenizer: text to token ids and back, special tokens, and how it frames what a model reads.

Tasks, heads and data know nothing else of a tokenizer, so another one can take the place of ours. Special ids and
framing are its own (BART: `<s> text </s>`, NLLB: a language code in front, BERT: `[CLS] a [SEP] b [SEP]`).
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmtasks.settings import find_class, public_name


class BaseTokenizer(ABC):
    """Cut texts into token ids and join ids to texts."""

    pad_id: int
    """Fills up rows of a batch; masked wherever it is read."""
    bos_id: int
    """Begins what a decoder writes, unless `decoder_start_id` is another."""
    eos_id: int
    """Ends every text."""
    kind: str
    """What a piece is, for people to read: bpe, unigram, wordpiece, ..."""
    languages: tuple[str, ...] = ()
    """The languages that have a tag."""
    names_languages: bool = False
    """Whether every text is framed with the code of its language, as those of NLLB are."""
    specials_as_text: bool = True
    """Whether the name of a special token that a text spells is text like any other."""
    silent_ids: tuple[int, ...] = ()
    """Ids that `decode` leaves out, beside the special tokens of `piece_files`."""

    @property
    def decoder_start_id(self) -> int:
        """The token that a decoder reads before the first one it writes."""
        return self.bos_id

    @property
    def separator_id(self) -> int:
        """The token at the end of each of several texts that are read together."""
        return self.eos_id

    def frame_source(
        self, *texts: Sequence[int], language: str | None = None, source_language: str | None = None
    ) -> list[int]:
        """Return what an encoder reads of one text or of several; it ends with one `separator_id`.

        `language` is the one wanted of the answer, where a model knows several; `source_language` that of the texts.
        """
        tag = [] if language is None else [self.tag(language)]
        return [*tag, *(token for text in texts for token in (*text, self.separator_id))]

    def frame_target(self, text: Sequence[int], language: str | None = None) -> list[int]:
        """Return what a decoder is trained to write."""
        return [*self.target_prefix(language), *text, self.eos_id]

    def target_prefix(self, language: str | None = None) -> list[int]:
        """Return the tokens with which every written text must begin, such as the code of its language."""
        return []

    @abstractmethod
    def __len__(self) -> int:
        """Return the size of the vocabulary, special tokens included."""

    @property
    @abstractmethod
    def suppress_tokens(self) -> list[int]:
        """Ids that are never written: special tokens other than `eos_id`."""

    @abstractmethod
    def tag(self, language: str) -> int:
        """Return the id of the token that asks for a language."""

    @abstractmethod
    def mark(self, name: str) -> int:
        """Return the id of a special token by its name, such as "<user>"."""

    @abstractmethod
    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Cut texts into ids, without special tokens."""

    def encode(self, text: str) -> list[int]:
        """Cut one text into ids, without special tokens."""
        return self.encode_batch([text])[0]

    def encode_targets(self, texts: list[str]) -> list[list[int]]:
        """Cut texts that a decoder writes; some models of translation cut the two languages by different pieces."""
        return self.encode_batch(texts)

    @abstractmethod
    def encode_words(self, words: list[str], spaced: bool) -> list[list[int]]:
        """Cut words into the ids that each has inside a text; `spaced`: the text has spaces between its words."""

    @abstractmethod
    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Cut one text into ids, and return which characters `text[start:stop]` each token covers."""

    @abstractmethod
    def decode_batch(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Join rows of ids to texts, without special tokens."""

    def decode(self, ids: Sequence[int]) -> str:
        """Join ids to a text, without special tokens."""
        return self.decode_batch([ids])[0]

    @abstractmethod
    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the text of each token, for people to read."""

    def token_names(self) -> list[str]:
        """Return a name for each id as its vocabulary lists it, no two alike, for the files of other engines."""
        return [f"<id-{i}>" for i in range(len(self))]

    @abstractmethod
    def byte_pieces(self) -> list[bytes]:
        """Return the bytes of each token of the vocabulary; special tokens have none."""

    def words(self) -> list[tuple[int, str]]:
        """Return (id, word) of the tokens that are whole words, by which word vectors are found; none by default."""
        return []

    @abstractmethod
    def to_json(self) -> str:
        """Return the whole tokenizer as text in the tokenizer.json format."""

    def piece_files(self) -> dict[str, bytes]:
        """Return the files by which programs without lmtasks cut texts into the same ids; none by default.

        That is a tokenizer.json of the `tokenizers` package, or source.spm and target.spm of `sentencepiece` with
        pieces.json, the id of each piece.
        """
        return {}

    @classmethod
    @abstractmethod
    def from_json(cls, text: str) -> BaseTokenizer:
        """Build the tokenizer of which `to_json` gave the text. Raises: InputError if the text is damaged."""

    def to_plain(self) -> dict[str, Any]:
        """Return class and content as plain data, as a saved model keeps them."""
        return {"tokenizer_class": public_name(type(self)), "tokenizer": self.to_json()}

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> BaseTokenizer:
        """Build what `to_plain` described.

        Raises: InputError if the text is damaged, or the class is not known here; see `settings.find_class`.
        """
        kind: type[BaseTokenizer] = find_class(plain["tokenizer_class"], BaseTokenizer)
        return kind.from_json(plain["tokenizer"])

    @abstractmethod
    def extended(self, languages: Sequence[str], marks: Sequence[str]) -> BaseTokenizer:
        """Return a tokenizer that has these tags and marks too, new ones at the end; the other ids are the same.

        Raises: InputError if tokens cannot be added.
        """

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the tokenizer.json."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @property
    def fingerprint(self) -> str:
        """A short hash of all that decides the ids, for the names of caches."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]
