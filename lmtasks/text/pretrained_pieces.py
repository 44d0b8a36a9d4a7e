"""Pieces: how the tokenizer of a pretrained model cuts texts, exactly as it did when the model was trained.

`JsonPieces` reads a tokenizer.json with the `tokenizers` package. Both kinds find special tokens that a text spells, as
the originals do.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import tokenizers

from lmtasks.errors import InputError, one_line
from lmtasks.text.pieces import BYTE_OF

Span = tuple[int, int]

_SPACE = "▁"  # how SentencePiece writes a space (Kudo and Richardson 2018, section 3.2)
_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")


class Pieces(ABC):
    """What cuts texts into the ids of a pretrained model, and joins ids to texts."""

    kind: str
    """How the pieces were learned: bpe, unigram, wordpiece, ..."""
    marks: Mapping[str, int]
    """Special tokens: name -> id."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of ids: the largest one, plus 1."""

    @abstractmethod
    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Cut texts into ids, adding no special tokens."""

    @abstractmethod
    def encode_with_offsets(self, text: str) -> tuple[list[int], list[Span]]:
        """Cut one text into ids, with the characters that each covers; spaces at the borders may be included."""

    @abstractmethod
    def decode_batch(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Join rows of ids to texts, without special tokens."""

    @abstractmethod
    def name(self, i: int) -> str:
        """Return the name of a piece in the vocabulary, or nothing where no piece has this id."""

    @abstractmethod
    def as_bytes(self, i: int) -> bytes:
        """Return the bytes of a piece, a space in front if it begins a word; special tokens have none."""

    @abstractmethod
    def to_json(self) -> str:
        """Return all that decides the ids as JSON."""


class JsonPieces(Pieces):
    """The pieces of a tokenizer.json."""

    def __init__(self, text: str) -> None:
        """Read the text of a tokenizer.json; the padding and truncation that it may ask for are left out.

        Raises: InputError if the text is no tokenizer.json.
        """
        try:
            plain = {**json.loads(text), "truncation": None, "padding": None}
            # kept: the package changes the last digit of some scores whenever it reads and writes them
            self._text = json.dumps(plain)
            self._inner = tokenizers.Tokenizer.from_str(self._text)
        except Exception as error:  # the package raises bare Exception
            raise InputError(f"this is no tokenizer.json ({one_line(error)}); load the model again") from error
        model = plain["model"]
        self.kind = str(model["type"]).lower()
        self._byte_level = '"ByteLevel"' in json.dumps([plain["pre_tokenizer"], plain["decoder"]])
        self._byte_fallback = bool(model.get("byte_fallback"))
        self._continuing = model.get("continuing_subword_prefix") if self.kind == "wordpiece" else None
        added = sorted(self._inner.get_added_tokens_decoder().items())
        self.marks = {token.content: i for i, token in added if token.special}
        self._special_ids = frozenset(self.marks.values())
        self._size = max(self._inner.get_vocab().values(), default=-1) + 1

    def __len__(self) -> int:
        """Return the number of ids: the largest one, plus 1."""
        return self._size

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Cut texts into ids, on all cores."""
        return [row.ids for row in self._inner.encode_batch_fast(texts, add_special_tokens=False)]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[Span]]:
        """Cut one text into ids, with the characters that each covers; spaces at the borders may be included."""
        encoding = self._inner.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def decode_batch(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Join rows of ids to texts, on all cores."""
        return self._inner.decode_batch(rows, skip_special_tokens=True)

    def name(self, i: int) -> str:
        """Return the name of a piece in the vocabulary, or nothing where no piece has this id."""
        return self._inner.id_to_token(i) or ""

    def as_bytes(self, i: int) -> bytes:
        """Return the bytes of a piece, a space in front if it begins a word; special tokens have none."""
        name = self.name(i)
        if not name or i in self._special_ids:
            return b""
        if self._continuing is not None:
            continues = name.startswith(self._continuing)
            return (name.removeprefix(self._continuing) if continues else f" {name}").encode()
        if self._byte_level and all(character in BYTE_OF for character in name):
            return bytes(BYTE_OF[character] for character in name)
        return spelled(name, self._byte_fallback)

    def to_json(self) -> str:
        """Return the tokenizer.json."""
        return self._text


def spelled(name: str, byte_fallback: bool) -> bytes:
    """Return the bytes of a SentencePiece; `byte_fallback`: whether pieces such as <0xE4> are single bytes."""
    match = _BYTE_PIECE.fullmatch(name) if byte_fallback else None
    return bytes.fromhex(match[1]) if match else name.replace(_SPACE, " ").encode()
