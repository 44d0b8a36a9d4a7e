"""Tokenizer: text to token ids and back, without loss, on the Hugging Face `tokenizers` package.

No character is unknown: rare ones are cut into bytes. A space goes before the first word of a text, so that it gets the
same pieces as inside a text (Kudo and Richardson 2018, section 3.2); scripts without spaces between words get none.
`text.pieces` shows how the pieces are learned.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import tokenizers
from tokenizers import AddedToken

from lmtasks.checked import Checked
from lmtasks.errors import InputError
from lmtasks.text.base import BaseTokenizer
from lmtasks.text.pieces import BYTE_OF, BYTE_PIECE, BYTE_PIECES, LEARNERS, N_BYTES, Kind, kind_of

SPECIALS = ("<pad>", "<s>", "</s>")  # ids 0, 1, 2 in every tokenizer

_LANGUAGE = re.compile(r"[A-Za-z0-9_-]+")
_TAG = re.compile(r"<2([A-Za-z0-9_-]+)>")
_MARK = re.compile(r"<[a-z]+(-[\w-]+)?>")


@dataclass(frozen=True)
class TokenizerConfig(Checked):
    """How texts are cut into tokens."""

    setting = "model.tokenizer"

    kind: Kind = "bpe"
    """What a piece is: merged bytes (bpe), likely byte strings (unigram), a character, or a byte."""
    vocab_size: int = 8000
    """Upper bound of the vocabulary in tokens, special tokens included; `byte` always has 256 and the special ones."""
    file: str | None = None
    """Path of an existing tokenizer.json to use instead of training one; kind and vocab_size are then ignored."""


class Tokenizer(BaseTokenizer):
    """Cut texts into token ids and join ids to texts; `decode(encode(text)) == text` for every text.

    Special tokens never come from a text, even if it spells one: `encode` gives plain pieces, `frame_source` and
    `frame_target` add the special ones.

    Example:
        >>> tokenizer = Tokenizer.train(["the dog", "the cat"], TokenizerConfig(kind="byte"), languages=["fr"])
        >>> tokenizer.encode("ab")
        [101, 102]
        >>> tokenizer.decode([tokenizer.tag("fr"), 101, 102, tokenizer.eos_id])
        'ab'
    """

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        """Wrap a tokenizer whose ids 0, 1, 2 are <pad>, <s>, </s>; use `train`, `load` or `from_json` instead."""
        inner.encode_special_tokens = True  # a text that spells "<pad>" is text; the json does not keep this setting
        self._inner = inner
        self.pad_id, self.bos_id, self.eos_id = range(len(SPECIALS))
        self.kind: Kind = kind_of(inner)
        self._prefixed = inner.normalizer is not None  # the normaliser only puts the space before a text
        # sorted by id, so that languages come in the order in which they were given
        self._marks = {token.content: i for i, token in sorted(inner.get_added_tokens_decoder().items())}
        self._special_ids = frozenset(self._marks.values())
        self._tags = {match[1]: i for name, i in self._marks.items() if (match := _TAG.fullmatch(name))}
        self.languages = tuple(self._tags)

    @classmethod
    def train(
        cls, texts: Iterable[str], config: TokenizerConfig, languages: Sequence[str] = (), marks: Sequence[str] = ()
    ) -> Tokenizer:
        """Learn the pieces from `texts`, read once; the same texts always give the same tokenizer.

        Each language gets a tag, and each of `marks`, such as "<user>", a token. With `config.file` that file is loaded
        instead, and `texts` is not read.

        Raises: InputError if vocab_size is too small, there is no text, or the file lacks a language or mark.
        """
        if config.file is not None:
            tokenizer = cls.load(config.file)
            for language in languages:
                tokenizer.tag(language)
            for mark in marks:
                tokenizer.mark(mark)
            return tokenizer
        if config.kind not in LEARNERS:
            raise InputError(f"tokenizer kind {config.kind!r}: expected one of {', '.join(LEARNERS)}")
        specials = list(dict.fromkeys([*SPECIALS, *special_names(languages, marks)]))
        needed = N_BYTES + len(specials)
        if config.kind != "byte" and config.vocab_size < needed:
            parts = f"{N_BYTES} bytes and {len(specials)} special tokens"
            raise InputError(f"vocab_size {config.vocab_size}: at least {needed} are needed, for {parts}")
        inner = LEARNERS[config.kind](_checked(texts), config.vocab_size, specials)
        return cls(_with_specials(inner, specials))

    def extended(self, languages: Sequence[str], marks: Sequence[str]) -> Tokenizer:
        """Return a tokenizer that has these tags and marks too, new ones at the end; the other ids are the same."""
        new = [name for name in dict.fromkeys(special_names(languages, marks)) if name not in self._marks]
        return Tokenizer(_with_specials(tokenizers.Tokenizer.from_str(self.to_json()), new))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Tokenizer:
        """Read a tokenizer.json that `save` wrote.

        Raises: InputError if the file is missing, is not a tokenizer.json, or lacks bytes or special tokens.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as a tokenizer.json ({_reason(error)})") from error
        return cls.from_json(text, str(path))

    @classmethod
    def from_json(cls, text: str, place: str = "tokenizer text") -> Tokenizer:
        """Rebuild a tokenizer from the text that `to_json` gave; errors name its `place`."""
        try:
            inner = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the package raises bare Exception
            raise InputError(f"{place}: this is no tokenizer.json ({_reason(error)})") from error
        vocabulary = inner.get_vocab()
        if not (vocabulary.keys() >= BYTE_OF.keys() or vocabulary.keys() >= set(BYTE_PIECES)):
            fault = f"some of the {N_BYTES} bytes have no piece, so texts would be lost"
            raise InputError(f"{place}: {fault}; train a tokenizer")
        if wrong := ", ".join(name for i, name in enumerate(SPECIALS) if vocabulary.get(name) != i):
            fault = f"{', '.join(SPECIALS)} must be tokens 0, 1, 2, which is wrong for {wrong}"
            raise InputError(f"{place}: {fault}; train a tokenizer")
        return cls(inner)

    def to_json(self) -> str:
        """Return the whole tokenizer as text in the tokenizer.json format."""
        return self._inner.to_str()

    def piece_files(self) -> dict[str, bytes]:
        """Return the tokenizer.json."""
        return {"tokenizer.json": self.to_json().encode()}

    def tag(self, language: str) -> int:
        """Return the id of the token that asks for this language. Raises: InputError if there is none."""
        if language not in self._tags:
            known = ", ".join(self._tags) or "none"
            raise InputError(f"the tokenizer has no tag for language {language!r} (it has: {known}); train it with one")
        return self._tags[language]

    def mark(self, name: str) -> int:
        """Return the id of a special token. Raises: InputError if there is none."""
        if name not in self._marks:
            raise InputError(f"the tokenizer has no token {name} (it has: {', '.join(self._marks)}); train it with one")
        return self._marks[name]

    @property
    def suppress_tokens(self) -> list[int]:
        """Ids of the special tokens that no text has: all but `eos_id`."""
        return sorted(self._special_ids - {self.eos_id})

    def __len__(self) -> int:
        """Return the size of the vocabulary, special tokens included."""
        return self._inner.get_vocab_size()

    def __reduce__(self) -> tuple[Callable[[str], Tokenizer], tuple[str]]:
        return Tokenizer.from_json, (self.to_json(),)  # what `tokenizers` pickles itself loses encode_special_tokens

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Cut texts into ids, on all cores. Raises: InputError if one has half of a surrogate pair."""
        try:
            return [row.ids for row in self._inner.encode_batch_fast(texts, add_special_tokens=False)]
        except TypeError:  # what the package raises for text that is not valid Unicode
            reject_surrogates(texts)
            raise

    def encode_words(self, words: list[str], spaced: bool) -> list[list[int]]:
        """Cut words into the ids that each has inside a text; some kinds have no pieces for a word of spaces alone."""
        # the others put a space before the first word of a text by themselves
        space = " " if spaced and self.kind in ("character", "byte") else ""
        return self.encode_batch([space + word for word in words])

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Cut one text into ids, and return which characters `text[start:stop]` each piece covers.

        The space before a word does not count. A piece of a character covers the whole character. The space that was
        put before the first word covers nothing, (0, 0).
        """
        try:
            encoding = self._inner.encode(text, add_special_tokens=False)
        except TypeError:
            reject_surrogates([text])
            raise
        spans = []
        for start, stop in encoding.offsets:
            spaced = stop - start > 1 and text[start] == " " and not text[start + 1].isspace()
            spans.append((start + spaced, stop))
        if spans and self._prefixed and self._bytes(encoding.ids[0]) == b" ":
            spans[0] = (0, 0)  # a text that begins with a space has two: this one is ours
        return encoding.ids, spans

    def decode_batch(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Join rows of ids to texts on all cores; special tokens are left out, cut characters become U+FFFD."""
        return self._inner.decode_batch(rows, skip_special_tokens=True)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        r"""Return the text of each piece, spaces included; parts of a character as `\xe4`, special tokens by name."""
        return [
            self._name(i) if i in self._special_ids else self._bytes(i).decode(errors="backslashreplace") for i in ids
        ]

    def token_names(self) -> list[str]:
        """Return the name of each id as the tokenizer.json has it."""
        return [self._name(i) for i in range(len(self))]

    def byte_pieces(self) -> list[bytes]:
        """Return the bytes of each piece of the vocabulary, spaces included; special tokens have none."""
        return [b"" if i in self._special_ids else self._bytes(i) for i in range(len(self))]

    def words(self) -> list[tuple[int, str]]:
        """Return (id, word) of the pieces that are words by themselves, as a table of word vectors would list them.

        These are pieces that begin with a space, punctuation, and any piece of a script without spaces or of a
        tokenizer of characters. Others, such as "ing" of "going", are words by chance only.
        """
        if self.kind == "character":
            names = ((i, self._name(i)) for i in range(len(self)))
            return [(i, name) for i, name in names if len(name) == 1 and not name.isspace()]
        if not self._prefixed:
            return []
        texts = ((i, piece.decode(errors="replace")) for i, piece in enumerate(self.byte_pieces()))
        whole = ((i, text) for i, text in texts if text.strip() and "\N{REPLACEMENT CHARACTER}" not in text)
        return [(i, text.removeprefix(" ")) for i, text in whole if self._stands_alone(text)]

    def _stands_alone(self, text: str) -> bool:
        """Tell whether the split into words keeps `text` apart from a word before it."""
        takes_space = self._inner.normalizer.normalize_str(text) != text
        return text[0] == " " or not takes_space or unicodedata.category(text[0])[0] in "PS"

    def _name(self, i: int) -> str:
        name = self._inner.id_to_token(i)
        if name is None:
            raise IndexError(f"id {i} is not in the vocabulary of {len(self)} tokens")
        return name

    def _bytes(self, i: int) -> bytes:
        """Return the bytes that piece `i` stands for."""
        name = self._name(i)
        if self.kind != "character":
            return bytes(BYTE_OF[character] for character in name)
        match = BYTE_PIECE.fullmatch(name)
        return bytes.fromhex(match[1]) if match else name.encode()


def special_names(languages: Sequence[str], marks: Sequence[str]) -> list[str]:
    """Return the names of the special tokens of languages and marks."""
    for language in languages:
        if not _LANGUAGE.fullmatch(language):
            raise InputError(f"language {language!r}: expected letters, digits, - and _, such as de or zh-Hans")
    for mark in marks:
        if not _MARK.fullmatch(mark):
            raise InputError(f"mark {mark!r}: expected lower-case letters in angle brackets, such as <user>")
    return [*(f"<2{language}>" for language in languages), *marks]


def _with_specials(inner: tokenizers.Tokenizer, names: Iterable[str]) -> tokenizers.Tokenizer:
    # normalized=False: the normaliser would put a space before their names
    inner.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    return inner


def _checked(texts: Iterable[str]) -> Iterator[str]:
    """Yield the texts; raise an InputError for one that is not valid, and in the end if all were empty."""
    empty = True
    for number, text in enumerate(texts, start=1):
        reject_surrogates([text], number)
        empty = empty and not text
        yield text
    if empty:
        raise InputError("there is no text to train a tokenizer from")


def reject_surrogates(texts: Sequence[str], first: int = 1) -> None:
    """Check that texts are valid Unicode; errors count them from `first`. Raises: InputError if one is not."""
    for number, text in enumerate(texts, first):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            place = f"text {number}, character {error.start + 1}"
            fault = f"{text[error.start]!r} is half of a surrogate pair, not a character"
            raise InputError(f"{place}: {fault}; correct or delete the text") from error


def _reason(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
