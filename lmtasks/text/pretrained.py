"""PretrainedTokenizer: the tokenizer of a pretrained model, with the ids that the model was trained with.

`text.pretrained_pieces` cuts the texts; `Framing` says which special tokens the family of the model puts around them.
Unlike `Tokenizer` it may be lossy: what the original lower-cases or does not know is lost here too.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lmtasks.checked import Checked
from lmtasks.errors import InputError, did_you_mean, one_line
from lmtasks.settings import from_plain, to_plain
from lmtasks.text.base import BaseTokenizer
from lmtasks.text.languages import languages_meant
from lmtasks.text.pretrained_pieces import JsonPieces, Pieces, SentencePieces, Span
from lmtasks.text.tokenizer import reject_surrogates, special_names


@dataclass(frozen=True)
class Framing(Checked):
    """How a family of models frames what it reads and writes."""

    pad_id: int
    """Fills up rows of a batch."""
    eos_id: int
    """Ends every text that is written."""
    bos_id: int
    """Begins a text."""
    decoder_start_id: int
    """What a decoder reads before the first token that it writes."""
    separator_id: int
    """Ends each text that is read."""
    source_begin: tuple[int, ...] = ()
    """What every source begins with: [CLS] of BERT, <s> of BART."""
    between: tuple[int, ...] = ()
    """What follows the separator of a text if another text comes: RoBERTa has </s></s>."""
    target_begin: tuple[int, ...] = ()
    """What every target begins with in training: <s> of BART."""
    forced: bool = False
    """Whether a search must begin with `target_begin`, too."""
    suppress: tuple[int, ...] = ()
    """Ids that are never generated."""
    languages: tuple[tuple[str, int], ...] = ()
    """Code and token id of each language."""
    language_at: Literal["none", "target-in-source", "both-first"] = "none"
    """Where languages are named: nowhere, the wanted one before the source (Marian), or each before its text (NLLB)."""


class PretrainedTokenizer(BaseTokenizer):
    """Cut texts exactly as the original tokenizer of a pretrained model does, special tokens in a text included."""

    def __init__(
        self, pieces: Pieces, framing: Framing, targets: Pieces | None = None, added: Sequence[str] = ()
    ) -> None:
        """Combine what cuts texts with how they are framed.

        targets: Cuts what a decoder writes, where that is another one.
        added: Names of special tokens that the original does not have, at the end of the vocabulary.
        """
        self.framing, self.added = framing, tuple(added)
        self._pieces, self._targets = pieces, targets
        self.kind = pieces.kind
        self.pad_id, self.eos_id, self.bos_id = framing.pad_id, framing.eos_id, framing.bos_id
        first = max(len(pieces), len(targets or ()))
        self._added_ids = {name: first + n for n, name in enumerate(self.added)}
        self._marks = {**pieces.marks, **self._added_ids}
        tags = {name[2:-1]: i for name, i in self._added_ids.items() if name.startswith("<2")}
        self._tags = {**dict(framing.languages), **tags}
        self.languages = tuple(self._tags)
        self.names_languages = framing.language_at == "both-first"
        self.specials_as_text = False
        specials = pieces.marks.values() if isinstance(pieces, SentencePieces) else ()
        self.silent_ids = tuple({*self._tags.values(), *self._added_ids.values(), *specials})

    @property
    def decoder_start_id(self) -> int:
        """The token that a decoder reads before the first one it writes."""
        return self.framing.decoder_start_id

    @property
    def separator_id(self) -> int:
        """The token at the end of each of several texts that are read together."""
        return self.framing.separator_id

    @property
    def suppress_tokens(self) -> list[int]:
        """Ids that are never written: those that the original model never writes, and the added tokens."""
        return [*self.framing.suppress, *self._added_ids.values()]

    def frame_source(
        self, *texts: Sequence[int], language: str | None = None, source_language: str | None = None
    ) -> list[int]:
        """Return what an encoder reads of one text or of several; it ends with one `separator_id`.

        Where each text is named its language and none is given, that of the answer is taken.
        """
        named = source_language or language if self.names_languages else language
        framed = [*self.framing.source_begin, *([] if named is None else [self.tag(named)])]
        for number, text in enumerate(texts):
            framed += [*(self.framing.between if number else ()), *text, self.separator_id]
        return framed

    def frame_target(self, text: Sequence[int], language: str | None = None) -> list[int]:
        """Return what a decoder is trained to write."""
        return [*self.framing.target_begin, *self._named(language), *text, self.eos_id]

    def target_prefix(self, language: str | None = None) -> list[int]:
        """Return the tokens with which a search must begin every text."""
        return [*(self.framing.target_begin if self.framing.forced else ()), *self._named(language)]

    def __len__(self) -> int:
        """Return the number of ids; the embeddings of a model may have more rows."""
        return max(len(self._pieces), len(self._targets or ())) + len(self.added)

    def tag(self, language: str) -> int:
        """Return the id of the token of a language: its code here, or another one that means no other language.

        Raises: InputError if there is none, or several.
        """
        found = languages_meant(language, self.languages)
        if len(found) > 1:
            raise InputError(f"language {language!r} is one of {', '.join(found)} in the tokenizer; give one of these")
        if not found:
            known = f"it has {', '.join(self.languages)}" if self.languages else "it has none"
            hint = did_you_mean(language, self.languages, known)
            raise InputError(f"the tokenizer has no language {language!r}: {hint}")
        return self._tags[found[0]]

    def mark(self, name: str) -> int:
        """Return the id of a special token. Raises: InputError if there is none."""
        if name not in self._marks:
            known = f"it has {', '.join(self._marks)}"
            raise InputError(f"the tokenizer has no special token {name}: {did_you_mean(name, self._marks, known)}")
        return self._marks[name]

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Cut texts into ids, on all cores. Raises: InputError if one has half of a surrogate pair."""
        return _cut(self._pieces, texts)

    def encode_targets(self, texts: list[str]) -> list[list[int]]:
        """Cut texts that a decoder writes. Raises: InputError if one has half of a surrogate pair."""
        return _cut(self._targets or self._pieces, texts)

    def encode_words(self, words: list[str], spaced: bool) -> list[list[int]]:
        """Cut words into the ids that each has inside a text.

        Some tokenizers put a space before every text. Without `spaced` it is left out where it is a piece of its own.
        """
        # whether the tokenizer puts the space before a word by itself
        begins = self._pieces.as_bytes(self.encode("a")[0]).startswith(b" ")
        encoded = self.encode_batch([" " + word if spaced and not begins else word for word in words])
        if spaced:
            return encoded
        return [ids[1:] if len(ids) > 1 and self._pieces.as_bytes(ids[0]) == b" " else ids for ids in encoded]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[Span]]:
        """Cut one text into ids, and return which characters `text[start:stop]` of the raw text each piece covers.

        Spaces around a word do not count; the accents of its last character do, where the tokenizer drops them. A
        space that the tokenizer puts before a word covers nothing, before the first one (0, 0).
        """
        reject_surrogates([text])
        ids, spans = self._pieces.encode_with_offsets(text)
        blank = [self._pieces.as_bytes(i).isspace() for i in ids]
        trimmed = [_trimmed(text, span, space) for span, space in zip(spans, blank, strict=True)]
        if blank[:1] == [True] and trimmed[0][0] == trimmed[0][1]:
            trimmed[0] = (0, 0)
        return ids, _with_accents(text, trimmed)

    def decode_batch(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Join rows of ids to texts; special tokens, languages and ids of no token are left out."""
        pieces, tags = self._targets or self._pieces, frozenset(self._tags.values())
        return pieces.decode_batch([[i for i in row if 0 <= i < len(pieces) and i not in tags] for row in rows])

    def pieces(self, ids: Sequence[int]) -> list[str]:
        r"""Return the text of each piece; parts of a character as `\xe4`, special tokens and ##pieces by name."""
        named = dict(zip(self._added_ids.values(), self._added_ids, strict=True))
        return [named.get(i) or self._readable(i) for i in ids]

    def token_names(self) -> list[str]:
        """Return the name of each id as the original vocabulary has it; one that no piece has is called <id-7>."""
        named = dict(zip(self._added_ids.values(), self._added_ids, strict=True))
        names = [named.get(i) or (self._pieces.name(i) if i < len(self._pieces) else "") for i in range(len(self))]
        return [name or f"<id-{i}>" for i, name in enumerate(names)]

    def byte_pieces(self) -> list[bytes]:
        """Return the bytes of each id, a space in front where the piece begins a word; special tokens have none."""
        return [self._pieces.as_bytes(i) if i < len(self._pieces) else b"" for i in range(len(self))]

    def words(self) -> list[tuple[int, str]]:
        """Return (id, word) of the pieces that begin a word."""
        texts = (
            (i, piece[1:].decode(errors="replace")) for i, piece in enumerate(self.byte_pieces()) if piece[:1] == b" "
        )
        return [(i, text) for i, text in texts if text.strip() and "\N{REPLACEMENT CHARACTER}" not in text]

    def to_json(self) -> str:
        """Return the whole tokenizer as JSON."""
        parts = {
            "framing": json.dumps(to_plain(self.framing)),
            "pieces": self._pieces.to_json(),
            "targets": self._targets.to_json() if self._targets else "null",
            "added": json.dumps(self.added),
        }
        return "{" + ", ".join(f'"{name}": {part}' for name, part in parts.items()) + "}"

    def piece_files(self) -> dict[str, bytes]:
        """Return the files of the original pieces."""
        if isinstance(self._pieces, SentencePieces):
            targets = self._targets if isinstance(self._targets, SentencePieces) else self._pieces
            ids = json.dumps(self._pieces.ids, ensure_ascii=False)
            return {"source.spm": self._pieces.model, "target.spm": targets.model, "pieces.json": ids.encode()}
        return {"tokenizer.json": self._pieces.to_json().encode()}

    @classmethod
    def from_json(cls, text: str) -> PretrainedTokenizer:
        """Build the tokenizer of which `to_json` gave the text. Raises: InputError if the text is damaged."""
        try:
            plain = json.loads(text)
            framing, targets = from_plain(plain["framing"]), plain["targets"]
            if not isinstance(framing, Framing):
                raise TypeError(f"its framing is a {type(framing).__name__}")
            made = cls(_read(plain["pieces"]), framing, targets and _read(targets), plain["added"])
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            fault = "this is no tokenizer of a pretrained model, or it is damaged"
            raise InputError(f"tokenizer text: {fault} ({one_line(error)}); import the model again") from error
        return made

    def extended(self, languages: Sequence[str], marks: Sequence[str]) -> PretrainedTokenizer:
        """Return a tokenizer that has these tags and marks too, new ones at the end; the other ids are the same."""
        unknown = [language for language in languages if not languages_meant(language, self.languages)]
        names = special_names(unknown, marks)
        new = [name for name in dict.fromkeys(names) if name not in self._marks]
        return PretrainedTokenizer(self._pieces, self.framing, self._targets, (*self.added, *new))

    def __reduce__(self) -> tuple[Callable[[str], PretrainedTokenizer], tuple[str]]:
        return PretrainedTokenizer.from_json, (self.to_json(),)

    def _named(self, language: str | None) -> list[int]:
        """Return the token of the language of a target, where targets are named theirs."""
        return [self.tag(language)] if self.names_languages and language is not None else []

    def _readable(self, i: int) -> str:
        name = self._pieces.name(i) if i < len(self._pieces) else ""
        if self.kind == "wordpiece":
            return name
        return self._pieces.as_bytes(i).decode(errors="backslashreplace") or name


def _cut(pieces: Pieces, texts: list[str]) -> list[list[int]]:
    try:
        return pieces.encode_batch(texts)
    except (TypeError, UnicodeEncodeError):  # what the packages raise for text that is not valid Unicode
        reject_surrogates(texts)
        raise


def _trimmed(text: str, span: Span, space: bool) -> Span:
    """Return a span without the spaces around its characters; `space`: the piece is a space and nothing else."""
    start, stop = span
    covered = text[start:stop]
    if not covered.strip():
        return span
    if space:
        return start, start
    stop = start + len(covered.rstrip())
    return stop - len(covered.strip()), stop


def _with_accents(text: str, spans: list[Span]) -> list[Span]:
    """Let spans include the combining marks that follow their characters and that no piece covers."""
    longer = []
    for (start, stop), following in zip(spans, [*(start for start, _ in spans[1:]), len(text)], strict=False):
        while start < stop < following and unicodedata.category(text[stop])[0] == "M":
            stop += 1
        longer.append((start, stop))
    return longer


def _read(plain: dict[str, Any]) -> Pieces:
    return SentencePieces.from_plain(plain) if "specials" in plain else JsonPieces(json.dumps(plain))
