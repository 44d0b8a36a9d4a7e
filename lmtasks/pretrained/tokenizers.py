"""Read the tokenizer files of a model: tokenizer.json as it is, or the older files that mean the same."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers

from lmtasks.errors import InputError
from lmtasks.pretrained.folder import TOKENIZER, Folder
from lmtasks.text.pretrained_pieces import JsonPieces, Pieces, SentencePieces, byt5_pieces, count_ids, sentence_pieces

ADDITIONAL = ("additional_special_tokens", "extra_special_tokens")  # before and since version 5 of transformers
FAIRSEQ_MODEL = "sentencepiece.bpe.model"
FIRST = ("<s>", "<pad>", "</s>", "<unk>")  # of a dictionary of fairseq
MOST_MARKS = 10_000  # of a T5; the original has 100
SETTINGS = ("special_tokens_map.json", "tokenizer_config.json")
Content = TypeVar("Content", str, bytes)


def word_pieces(folder: Folder) -> JsonPieces:
    """Return tokenizer.json, or what the vocab.txt of a BERT means.

    Source: Devlin et al. 2019, BERT's tokenization.py.
    """
    if (text := folder.text(TOKENIZER)) is not None:
        return JsonPieces(text)
    vocabulary = required(folder, "vocab.txt")
    settings = folder.json("tokenizer_config.json")
    lower = bool(settings.get("do_lower_case", True))
    inner = tokenizers.Tokenizer(
        models.WordPiece(
            {piece: i for i, piece in enumerate(_lines(vocabulary))},
            unk_token=special_names(folder).get("unk_token", "[UNK]"),
            max_input_chars_per_word=100,
        )
    )
    inner.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=bool(settings.get("tokenize_chinese_chars", True)),
        strip_accents=settings.get("strip_accents"),
        lowercase=lower,
    )
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    return _with_specials(folder, inner, ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"))


def byte_level_bpe(folder: Folder) -> JsonPieces:
    """Return tokenizer.json, or what vocab.json and merges.txt of GPT-2's kind mean (Radford et al. 2019)."""
    if (text := folder.text(TOKENIZER)) is not None:
        return JsonPieces(text)
    vocabulary = json.loads(required(folder, "vocab.json"))
    lines = _lines(required(folder, "merges.txt"))
    pairs = (line.split() for line in lines if line and not line.startswith("#version"))
    merges = [(left, right) for left, right in pairs]
    count_ids(vocabulary)  # before the package fills the holes between large ones
    inner = tokenizers.Tokenizer(models.BPE(vocabulary, merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return _with_specials(folder, inner, ("<s>", "<pad>", "</s>", "<unk>", "<mask>"))


def fairseq_pieces(folder: Folder) -> Pieces:
    """Return tokenizer.json, or what the sentencepiece model of a fairseq model of many languages means.

    Its dictionary puts <pad> before the pieces, and the codes of languages and <mask> behind them.
    """
    if (text := folder.text(TOKENIZER)) is not None:
        return JsonPieces(text)
    model = sentencepiece_model(folder, FAIRSEQ_MODEL)
    codes = (*additional_names(folder), "<mask>")
    names = (*FIRST, *sentence_pieces(model)[3:], *dict.fromkeys(codes))  # its own begin with <unk>, <s> and </s>
    return SentencePieces(model, {name: i for i, name in enumerate(names)}, (*FIRST, *codes))


def additional_names(folder: Folder) -> list[str]:
    """Return the names of the special tokens that have no role, such as codes of languages, in their order."""
    lists = [folder.json(file).get(name) for file in SETTINGS for name in ADDITIONAL]
    found = next((tokens for tokens in lists if isinstance(tokens, list) and tokens), [])
    return [token["content"] if isinstance(token, dict) else token for token in found]


def t5_pieces(folder: Folder) -> Pieces:
    """Return tokenizer.json, or what the spiece.model of a T5 means; byT5 has neither.

    Marks stand after the pieces, <extra_id_0> last. Source: Raffel et al. 2020, section 3.1.4.
    """
    settings = folder.json("tokenizer_config.json")
    if settings.get("tokenizer_class") == "ByT5Tokenizer":
        return byt5_pieces(_count_marks(settings, 125))
    if (text := folder.text(TOKENIZER)) is not None:
        return JsonPieces(text)
    names = sentence_pieces(model := sentencepiece_model(folder, "spiece.model"))
    marks = [f"<extra_id_{n}>" for n in reversed(range(_count_marks(settings, 100)))]
    ids = {name: i for i, name in enumerate((*names, *marks))}
    return SentencePieces(model, ids | folder.json("added_tokens.json"), ("<pad>", "</s>", "<unk>", *marks))


def sentence_piece(folder: Folder, ending: str) -> JsonPieces | SentencePieces:
    """Return tokenizer.json, or the only sentencepiece model whose name ends so, with its own ids."""
    if (text := folder.text(TOKENIZER)) is not None:
        return JsonPieces(text)
    found = folder.files(ending)
    if len(found) != 1:
        raise InputError(f"{folder.name}: there is no tokenizer in it, neither {TOKENIZER} nor one file *{ending}")
    model = found[0].read_bytes()
    return SentencePieces(model, {piece: i for i, piece in enumerate(sentence_pieces(model))})


def special_names(folder: Folder) -> dict[str, str]:
    """Return the names of the special tokens, {"pad_token": "<pad>", ...}, that the files of the tokenizer give."""
    names: dict[str, str] = {}
    for file in SETTINGS:
        for role, token in folder.json(file).items():
            name = token.get("content") if isinstance(token, dict) else token
            if role.endswith("_token") and isinstance(name, str):
                names[role] = name
    return names


def special_ids(folder: Folder, pieces: Pieces, **names: str) -> list[int]:
    """Return the ids of special tokens by their roles, such as pad="[PAD]"; the files may call them otherwise.

    Raises: InputError if the tokenizer has no such token.
    """
    given = special_names(folder)
    ids = []
    for role, default in names.items():
        name = given.get(f"{role}_token", default)
        if name not in pieces.marks:
            raise InputError(f"{folder.name}: its tokenizer has no token {name} ({role}); its files are not complete")
        ids.append(pieces.marks[name])
    return ids


def sentencepiece_model(folder: Folder, file: str) -> bytes:
    """Return a sentencepiece model. Raises: InputError if the model does not have it."""
    return _present(folder, file, folder.content(file))


def required(folder: Folder, file: str) -> str:
    """Return the text of a file of the tokenizer. Raises: InputError if the model does not have it."""
    return _present(folder, file, folder.text(file))


def _present(folder: Folder, file: str, content: Content | None) -> Content:
    if content is None:
        raise InputError(f"{folder.name}: there is no tokenizer in it, neither {TOKENIZER} nor {file}")
    return content


def _count_marks(settings: dict[str, Any], default: int) -> int:
    """Return how many marks <extra_id_0> ... a T5 has."""
    count = settings.get("extra_ids", default)
    if type(count) is not int or not 0 <= count <= MOST_MARKS:
        raise InputError(f"tokenizer_config.json has extra_ids {count!r}, expected a number from 0 to {MOST_MARKS:,}")
    return count


def _with_specials(folder: Folder, inner: tokenizers.Tokenizer, names: tuple[str, ...]) -> JsonPieces:
    given: Any = {*names, *special_names(folder).values()}
    known = [name for name in given if inner.token_to_id(name) is not None]
    inner.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in sorted(known)])
    return JsonPieces(inner.to_str())


def _lines(text: str) -> list[str]:
    """Return the lines of a file; only a line feed ends one, as pieces may be other breaks (U+2028)."""
    return [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")]
