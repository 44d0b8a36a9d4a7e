"""Pieces: how the tokenizer of a pretrained model cuts texts, exactly as it did when the model was trained.

`JsonPieces` reads a tokenizer.json with the `tokenizers` package, `SentencePieces` the .model or .spm file of the
`sentencepiece` package (Kudo and Richardson 2018). Both find special tokens that a text spells, as the originals do.
"""

from __future__ import annotations

import base64
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from lmtasks.errors import InputError, one_line
from lmtasks.text.pieces import BYTE_OF, BYTE_PIECE

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

Span = tuple[int, int]

MOST_HOLES = 10_000  # ids of no piece that a small vocabulary may have
_SPACE = "▁"  # how SentencePiece writes a space (Kudo and Richardson 2018, section 3.2)


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
        self.kind = type(self._inner.model).__name__.lower()
        self._byte_level = '"ByteLevel"' in json.dumps([plain.get("pre_tokenizer"), plain.get("decoder")])
        self._byte_fallback = bool(model.get("byte_fallback"))
        self._continuing = model.get("continuing_subword_prefix") if self.kind == "wordpiece" else None
        added = sorted(self._inner.get_added_tokens_decoder().items())
        self.marks = {token.content: i for i, token in added if token.special}
        self._special_ids = frozenset(self.marks.values())
        self._size = count_ids(self._inner.get_vocab())

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


class SentencePieces(Pieces):
    """The pieces of a sentencepiece model, with ids that may be others than its own."""

    kind = "sentencepiece"

    def __init__(
        self,
        model: bytes,
        ids: Mapping[str, int],
        specials: Sequence[str] = ("<s>", "</s>", "<pad>", "<unk>"),
        leading: Sequence[str] = (),
    ) -> None:
        """Read a sentencepiece model.

        model: Content of the .model or .spm file.
        ids: The id of each piece, special tokens included: the vocab.json of Marian, or `sentence_pieces` shifted.
        specials: Those pieces that are special tokens; names that are not in `ids` are left out.
        leading: Begin and end of what is one piece where a text begins with it: (">>", "<<") of Marian.

        Raises: InputError if the package is missing, the model is damaged, or `ids` has no id for unknown pieces.
        """
        self._processor = _processor(model)
        self.model, self.ids, self._leading, self._size = model, dict(ids), tuple(leading), count_ids(ids)
        self.marks = {name: self.ids[name] for name in specials if name in self.ids}
        self._special_ids = frozenset(self.marks.values())
        self._names = {i: name for name, i in self.ids.items()}
        unknown = self._processor.id_to_piece(self._processor.unk_id())
        if unknown not in self.ids:
            raise InputError(
                f"the vocabulary has no {unknown}, which stands for unknown characters; load the model again"
            )
        self._unknown = self.ids[unknown]
        longest_first = sorted(map(re.escape, self.marks), key=len, reverse=True)
        self._special = re.compile("|".join(longest_first) or r"(?!)")
        self._first = re.compile(".*?".join(map(re.escape, leading)) or r"(?!)", re.DOTALL)

    def __len__(self) -> int:
        """Return the number of ids: the largest one, plus 1."""
        return self._size

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Cut texts into ids, on all cores."""
        rows = [list(self._parts(text)) for text in texts]
        cut = iter(self._processor.encode([part.text for row in rows for part in row if not part.whole], out_type=str))
        return [
            self._known(piece for part in row for piece in ([part.text] if part.whole else next(cut))) for row in rows
        ]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[Span]]:
        """Cut one text into ids, with the characters that each covers; spaces at the borders may be included."""
        pieces: list[str] = []
        spans: list[Span] = []
        for part in self._parts(text):
            found: dict[str, Any] = {"pieces": [part.text], "offsets": [(0, len(part.text))]}
            if not part.whole:
                found = self._processor.encode(part.text, out_type="offset_mapping")
            for piece, (start, stop) in zip(found["pieces"], found["offsets"], strict=True):
                # of the pieces of one character, such as a ligature, the package lets only the last one cover it
                before = not part.text[start:stop].strip() and piece.strip(f"{_SPACE} ")
                pieces.append(piece)
                spans.append((part.start + (stop if before else start), part.start + stop + bool(before)))
        return self._known(pieces), spans

    def decode_batch(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Join rows of ids to texts."""
        kept = [[self._names[i] for i in row if i in self._names and i not in self._special_ids] for row in rows]
        return [self._processor.decode(pieces).replace(_SPACE, " ").strip() for pieces in kept]

    def name(self, i: int) -> str:
        """Return the name of a piece in the vocabulary, or nothing where no piece has this id."""
        return self._names.get(i, "")

    def as_bytes(self, i: int) -> bytes:
        """Return the bytes of a piece, a space in front if it begins a word; special tokens have none."""
        return b"" if i in self._special_ids else spelled(self.name(i), byte_fallback="<0x00>" in self.ids)

    def to_json(self) -> str:
        """Return model and ids as JSON."""
        model = base64.b64encode(self.model).decode()
        return json.dumps({"model": model, "ids": self.ids, "specials": [*self.marks], "leading": self._leading})

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> SentencePieces:
        """Build the pieces of which `to_json` gave the JSON."""
        return cls(base64.b64decode(plain["model"]), plain["ids"], plain["specials"], plain["leading"])

    def _known(self, pieces: Iterable[str]) -> list[int]:
        return [self.ids.get(piece, self._unknown) for piece in pieces]

    def _parts(self, text: str) -> Iterator[_Part]:
        """Yield the special tokens that a text spells, and what stands between them."""
        begin = 0
        for special in self._special.finditer(text):
            yield from self._led(text[begin : special.start()], begin)
            yield _Part(special[0], special.start(), whole=True)
            begin = special.end()
        yield from self._led(text[begin:], begin)

    def _led(self, text: str, start: int) -> Iterator[_Part]:
        """Yield the `leading` piece of a text without special tokens, and the rest of it."""
        match = self._first.match(text)
        length = match.end() if match else 0
        if length:
            yield _Part(text[:length], start, whole=True)
        if text[length:]:
            yield _Part(text[length:], start + length, whole=False)


class _Part(NamedTuple):
    """A part of a text."""

    text: str
    start: int
    """Its first character."""
    whole: bool
    """Whether it is a piece, and not cut any further."""


def count_ids(ids: Mapping[str, int]) -> int:
    """Return the number of the ids that pieces have: the largest one, plus 1; some may be of no piece.

    Raises: InputError if one is below 0, or so large that the most would be of no piece.
    """
    least, size = min(ids.values(), default=0), max(ids.values(), default=-1) + 1
    if least < 0 or size > 2 * len(ids) + MOST_HOLES:
        numbers = f"ids from {least:,} to {size - 1:,} for {len(ids):,} pieces"
        raise InputError(f"the vocabulary has {numbers}; load the model again")
    return size


def sentence_pieces(model: bytes) -> list[str]:
    """Return the pieces of a sentencepiece model, in the order of its own ids.

    Raises: InputError if the package is missing, or the model is damaged.
    """
    processor = _processor(model)
    return [processor.id_to_piece(i) for i in range(processor.get_piece_size())]


def byt5_pieces(extra_ids: int = 125) -> JsonPieces:
    """Return the pieces of byT5: <pad>, </s>, <unk>, the 256 bytes, and `extra_ids` marks, <extra_id_0> first.

    Source: Xue et al. 2022, ByT5, section 3.1; ByT5Tokenizer of transformers.
    """
    specials = ["<pad>", "</s>", "<unk>"]
    names = [*specials, *sorted(BYTE_OF, key=BYTE_OF.__getitem__)]
    inner = tokenizers.Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    # the original drops bytes that make no character
    inner.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("\N{REPLACEMENT CHARACTER}", "")])
    inner.add_special_tokens([AddedToken(name, lstrip=True, rstrip=True, normalized=False) for name in specials])
    inner.add_special_tokens([AddedToken(f"<extra_id_{n}>", normalized=False) for n in range(extra_ids)])
    return JsonPieces(inner.to_str())


def spelled(name: str, byte_fallback: bool) -> bytes:
    """Return the bytes of a SentencePiece; `byte_fallback`: whether pieces such as <0xE4> are single bytes."""
    match = BYTE_PIECE.fullmatch(name) if byte_fallback else None
    return bytes.fromhex(match[1]) if match else name.replace(_SPACE, " ").encode()


def _processor(model: bytes) -> SentencePieceProcessor:
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError:
        raise InputError("this model needs the package sentencepiece; pip install 'sentencepiece>=0.2.3'") from None
    try:
        return SentencePieceProcessor(model_proto=model)
    except (RuntimeError, ValueError, TypeError) as error:
        raise InputError(f"this is no sentencepiece model ({one_line(error)}); load the model again") from error
