"""Pieces: how the vocabulary of a tokenizer is learned, one function for each kind.

Byte-pair encoding (Sennrich et al. 2016, section 3.2) and unigram (Kudo 2018, section 3.2) over bytes (Radford et al.
2019, section 2.2), characters with bytes for the rare ones, and plain bytes. Each function takes the texts, the size
of the vocabulary and the names of the special tokens, which get the first ids. The same texts always give the same
vocabulary.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Literal

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

Kind = Literal["bpe", "unigram", "character", "byte"]

N_BYTES = 256
BYTE_PIECES = [f"<0x{byte:02X}>" for byte in range(N_BYTES)]  # the names of bytes in a vocabulary of characters
BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")
MIN_FREQUENCY = 2  # a merge that is seen once memorises a sentence

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}ー\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"  # no spaces between words
# GPT-2's split with three changes: combining marks belong to letters (Hindi and decomposed accents would fall apart),
# an English ending needs the end of a word after it, and scripts without spaces take no space in front.
_WORDS = (
    rf"(?i:['’](?:s|t|re|ve|m|ll|d))(?![\p{{L}}\p{{M}}])|[{_UNSPACED}]+| ?[\p{{L}}\p{{M}}&&[^{_UNSPACED}]]+"
    r"| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"
)


def _byte_of_character() -> dict[str, int]:
    """Return the byte of each character of the byte-level alphabet; the inverse of GPT-2's `bytes_to_unicode`."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(N_BYTES) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(N_BYTES + n): byte for n, byte in enumerate(others)}


BYTE_OF = _byte_of_character()


def learn_bpe(texts: Iterator[str], vocab_size: int, specials: list[str]) -> Tokenizer:
    """Merge the most frequent pair of pieces until there are `vocab_size` pieces, special tokens included."""
    inner = _with_words(models.BPE())
    alphabet = sorted(BYTE_OF)  # all bytes, also those that no text has
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=MIN_FREQUENCY, special_tokens=specials, initial_alphabet=alphabet,
        show_progress=False,
    )  # fmt: skip
    inner.train_from_iterator(texts, trainer)
    return inner


def learn_unigram(texts: Iterator[str], vocab_size: int, specials: list[str]) -> Tokenizer:
    """Drop the pieces that matter least for the likelihood of the texts until `vocab_size` are left."""
    inner = _with_words(models.Unigram())
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size, special_tokens=specials, initial_alphabet=sorted(BYTE_OF), show_progress=False
    )
    inner.train_from_iterator(texts, trainer)
    pieces = [(piece, score) for piece, score in json.loads(inner.to_str())["model"]["vocab"]]
    learned = _in_fixed_order(pieces[len(specials) :])
    room = vocab_size - len(specials) - N_BYTES  # the trainer ignores a size that leaves no room
    kept = learned if room > 0 else [(piece, score) for piece, score in learned if len(piece) == 1]
    inner.model = models.Unigram([*pieces[: len(specials)], *kept], None, False)
    return inner


def learn_characters(texts: Iterator[str], vocab_size: int, specials: list[str]) -> Tokenizer:
    """Take the bytes, and the most frequent characters that fit beside them."""
    counts = Counter(character for text in texts for character in text)
    by_frequency = sorted(counts, key=lambda character: (-counts[character], character))
    names = [*specials, *BYTE_PIECES]
    names += by_frequency[: vocab_size - len(names)]
    inner = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, [], byte_fallback=True))
    inner.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return inner


def list_bytes(texts: Iterator[str], vocab_size: int, specials: list[str]) -> Tokenizer:
    """Return the tokenizer of the special tokens and the 256 bytes; it learns nothing from the texts."""
    names = [*specials, *sorted(BYTE_OF, key=BYTE_OF.__getitem__)]
    inner = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    return inner


LEARNERS: dict[Kind, Callable[[Iterator[str], int, list[str]], Tokenizer]] = {
    "bpe": learn_bpe, "unigram": learn_unigram, "character": learn_characters, "byte": list_bytes
}  # fmt: skip


def kind_of(inner: Tokenizer) -> Kind:
    """Return the kind of a tokenizer by its parts, as a tokenizer.json has no room for a field of our own."""
    model = json.loads(inner.to_str())["model"]
    if model["type"] == "Unigram":
        return "unigram"
    if model.get("byte_fallback"):
        return "character"
    return "bpe" if model.get("merges") or inner.normalizer is not None else "byte"


def _in_fixed_order(pieces: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """Return the (piece, score) pairs of a trained unigram model without their randomness.

    The trainer iterates over hash maps in random order: sums differ in their last digits, and bytes too rare for a
    score of their own get the lowest score plus 0.0001, 0.0002, ... in random order. Here all of these get the lowest.
    """
    lowest = min(score for _, score in pieces)
    above_rare = lowest + 0.0001 * (N_BYTES + 1)
    scores = {piece: lowest if len(piece) == 1 and score < above_rare else score for piece, score in pieces}
    rounded = [(piece, round(score, 6)) for piece, score in scores.items()]
    return sorted(rounded, key=lambda pair: (-pair[1], pair[0]))


def _with_words(model: models.Model) -> Tokenizer:
    """Return a tokenizer that puts a space before the first word and cuts texts into words and words into bytes."""
    inner = Tokenizer(model)
    # The space is removed again before a script without spaces, and decoding removes one if there is one. A text that
    # begins with a space gets ours as well, so that decoding keeps its own.
    no_space = normalizers.Replace(Regex(rf"\A (?=[{_UNSPACED}])"), "")
    inner.normalizer = normalizers.Sequence([normalizers.Prepend(" "), no_space])
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(_WORDS), "isolated"), bytes_only])
    inner.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    return inner
