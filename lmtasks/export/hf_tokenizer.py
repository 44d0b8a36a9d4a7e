"""The tokenizer of a model as files of transformers, which give the same ids with the same special tokens around them.

A tokenizer.json is written with its framing as a template. Pieces of sentencepiece are written as the files of the
family that they come from, whose tokenizer has the framing built in.

A model that writes several languages is told which one as in training: by a token directly in front of the text,
`<2de>A dog runs.`, or as the family does it (`>>fra<<`; `src_lang` and `forced_bos_token_id` of NLLB). Texts whose
words are tagged are given as words, with `is_split_into_words=True`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from lmtasks.errors import InputError
from lmtasks.pretrained.m2m100 import LANGUAGE, LANGUAGES, VOCABULARY
from lmtasks.pretrained.marian import SOURCE, TARGET
from lmtasks.pretrained.tokenizers import FAIRSEQ_MODEL
from lmtasks.settings import public_name
from lmtasks.storage import TOKENIZER
from lmtasks.tasks.base import Task
from lmtasks.tasks.generation import GenerationTask
from lmtasks.tasks.tagging import TaggingTask
from lmtasks.tasks.translation import TranslationTask, split_direction
from lmtasks.text.base import BaseTokenizer
from lmtasks.text.pretrained import PretrainedTokenizer
from lmtasks.text.tokenizer import SPECIALS, Tokenizer
from lmtasks.text.words import LETTERS

FIRST, SECOND = -1, -2  # stand for the texts in a framing
GENERIC = "PreTrainedTokenizerFast"  # does what tokenizer.json says
EXTRA_ID = "<extra_id_"  # of T5
MASKS = ("[MASK]", "<mask>")


def write_tokenizer(
    tokenizer: BaseTokenizer, folder: Path, task: Task, model_type: str, max_length: int | None, segments: bool
) -> None:
    """Write the tokenizer for a task into a folder.

    model_type: the architecture, by its name in config.json.
    max_length: longest text in tokens, None = any.
    segments: whether the model tells a first text from a second.

    Raises: InputError if no tokenizer of transformers is the same.
    """
    settings: dict[str, Any] = {"clean_up_tokenization_spaces": False}
    if max_length is not None:
        settings["model_max_length"] = max_length
    if isinstance(task, TranslationTask) and len(task.directions) == 1:
        settings["source_lang"], settings["target_lang"] = split_direction(task.directions[0])
    if not isinstance(tokenizer, (Tokenizer, PretrainedTokenizer)):
        kind = public_name(type(tokenizer))
        raise InputError(f"its tokenizer is a {kind}, which transformers does not have; export it --to onnx")
    plain = json.loads(tokenizer.to_json())
    if isinstance(tokenizer, PretrainedTokenizer) and "specials" in plain["pieces"]:
        settings |= _write_sentencepiece(tokenizer, plain["pieces"], plain["targets"], folder, task, model_type)
    else:
        settings |= _write_json(tokenizer, folder, task, model_type, segments)
    _write(folder / "tokenizer_config.json", settings)


def framed(tokenizer: BaseTokenizer, task: Task, *texts: str) -> list[int]:
    """Return the ids that the written tokenizer gives one text or two; tokens that name languages are part of texts."""
    ids = dict(zip((FIRST, SECOND), tokenizer.encode_batch(list(texts)), strict=False))
    return [i for each in _frames_of(tokenizer, task)[len(texts) - 1] for i in ids.get(each, [each])]


def _write_json(
    tokenizer: Tokenizer | PretrainedTokenizer, folder: Path, task: Task, model_type: str, segments: bool
) -> dict[str, Any]:
    """Write tokenizer.json; return the settings of its tokenizer."""
    plain = json.loads(tokenizer.to_json())
    if isinstance(tokenizer, PretrainedTokenizer):
        plain = plain["pieces"]
        plain["added_tokens"] += [{"id": tokenizer.mark(name), **_token(name)} for name in tokenizer.added]
    inner = tokenizers.Tokenizer.from_str(json.dumps(plain))
    ids = {token["content"]: token["id"] for token in plain["added_tokens"]}
    if wrong := [name for name, i in ids.items() if inner.token_to_id(name) != i]:
        raise InputError(f"the vocabulary has ids of no token, so that {wrong[0]} would get another id in "
                         "transformers; export it --to onnx")  # fmt: skip
    if isinstance(task, TaggingTask) and _lacks_space(tokenizer, task):
        before = [plain["normalizer"]] if plain["normalizer"] else []
        plain["normalizer"] = {"type": "Sequence", "normalizers": [*before, {"type": "Prepend", "prepend": " "}]}
    if not _frames(inner, tokenizer, task):
        plain["post_processor"] = _template(inner, tokenizer, task, segments)
    _write(folder / TOKENIZER, plain)
    inputs = ["input_ids", *(["token_type_ids"] if segments else []), "attention_mask"]
    settings: dict[str, Any] = {
        "tokenizer_class": GENERIC,
        "model_input_names": inputs,
        **_roles(inner, tokenizer, plain),
    }
    if isinstance(tokenizer, Tokenizer):
        # a text that spells a special token is text, as in lmtasks, where there are no others that users may write
        settings["split_special_tokens"] = len(tokenizer.suppress_tokens) < len(SPECIALS)
    if isinstance(task, GenerationTask) and not task.needs_encoder:
        settings["padding_side"] = "left"
    return settings | _language_settings(tokenizer, task, model_type)


def _write_sentencepiece(
    tokenizer: PretrainedTokenizer,
    source: Mapping[str, Any],
    target: Mapping[str, Any] | None,
    folder: Path,
    task: Task,
    model_type: str,
) -> dict[str, Any]:
    """Write sentencepiece models and ids as the family of the model has them; return the settings of its tokenizer."""
    if tokenizer.added:
        raise InputError(f"tokens were added to a sentencepiece model ({', '.join(tokenizer.added)}), whose files have "
                         "no place for them; export it --to onnx")  # fmt: skip
    model = base64.b64decode(source["model"])
    if source["leading"]:
        (folder / SOURCE).write_bytes(model)
        (folder / TARGET).write_bytes(base64.b64decode((target or source)["model"]))
        _write(folder / VOCABULARY, source["ids"])
        return {"tokenizer_class": "MarianTokenizer"}
    if tokenizer.names_languages:
        (folder / FAIRSEQ_MODEL).write_bytes(model)
        return _write_codes(source, folder) | _language_settings(tokenizer, task, model_type)
    if model_type == "t5":
        (folder / "spiece.model").write_bytes(model)
        return {
            "tokenizer_class": "T5Tokenizer",
            "extra_ids": sum(name.startswith(EXTRA_ID) for name in source["specials"]),
        }
    raise InputError("its sentencepiece model has ids that no tokenizer of transformers gives; export it --to onnx")


def _write_codes(source: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the settings by which codes of languages keep their ids; M2M100 has a vocabulary without them."""
    ids, specials = source["ids"], source["specials"]
    codes = [name for name in specials if LANGUAGE.fullmatch(name)]
    if not codes[0].startswith("__"):
        known = sorted((ids[name], name) for name in specials)
        return {"added_tokens_decoder": {str(i): _token(name) for i, name in known}}
    _write(folder / VOCABULARY, {name: i for name, i in ids.items() if name not in codes})
    listed = next((name for name, each in LANGUAGES.items() if len(each.split()) == len(codes)), "m2m100")
    return {"tokenizer_class": "M2M100Tokenizer", "language_codes": listed, "additional_special_tokens": codes}


def _language_settings(tokenizer: Tokenizer | PretrainedTokenizer, task: Task, model_type: str) -> dict[str, Any]:
    """Return the settings of tokenizers that put the code of its language in front of a text."""
    source = _source_language(tokenizer, task)
    if source is None:
        return {}
    codes, name = list(tokenizer.languages), tokenizer.pieces([tokenizer.tag(source)])[0]
    if name != source:
        return {"src_lang": source}  # M2M100 writes __en__ for en
    kind = "MBart50Tokenizer" if model_type == "mbart" else "NllbTokenizer"
    return {"tokenizer_class": kind, "additional_special_tokens": codes, "src_lang": source}


def _source_language(tokenizer: BaseTokenizer, task: Task) -> str | None:
    """Return the code in front of a text whose language nobody gives, if texts have one; of several the first."""
    if not tokenizer.names_languages:
        return None
    if not isinstance(task, TranslationTask) or len(task.directions) != 1:
        return tokenizer.languages[0]
    wanted = tokenizer.tag(split_direction(task.directions[0])[0])
    return next(code for code in tokenizer.languages if tokenizer.tag(code) == wanted)


def _lacks_space(tokenizer: BaseTokenizer, task: TaggingTask) -> bool:
    """Tell whether a tokenizer puts no space before a word by itself, where the model reads each word with one."""
    return tokenizer.encode_words(["a"], LETTERS in task.writing) != tokenizer.encode_batch(["a"])


def _frames(inner: tokenizers.Tokenizer, tokenizer: BaseTokenizer, task: Task) -> bool:
    """Tell whether a tokenizer.json puts the right special tokens around texts by itself."""
    wanted = [framed(tokenizer, task, "a"), framed(tokenizer, task, "a", "b")]
    return wanted == [inner.encode("a").ids, inner.encode("a", "b").ids]


def _template(inner: tokenizers.Tokenizer, tokenizer: BaseTokenizer, task: Task, segments: bool) -> dict[str, Any]:
    """Return the framing of a text, and of two, as tokenizer.json has it."""
    single, pair = (
        _template_of(frame, inner, tokenizer.separator_id, segments) for frame in _frames_of(tokenizer, task)
    )
    used = {part["SpecialToken"]["id"] for part in (*single, *pair) if "SpecialToken" in part}
    tokens = {name: {"id": name, "ids": [inner.token_to_id(name)], "tokens": [name]} for name in sorted(used)}
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens}


def _template_of(
    frame: Sequence[int], inner: tokenizers.Tokenizer, separator: int, segments: bool
) -> list[dict[str, Any]]:
    """Return a framing as parts of a template; a text after a separator is the second one."""
    parts: list[dict[str, Any]] = []
    for place, i in enumerate(frame):
        segment = int(segments and separator in frame[:place])
        if i in (FIRST, SECOND):
            parts.append({"Sequence": {"id": "A" if i == FIRST else "B", "type_id": segment}})
        else:
            parts.append({"SpecialToken": {"id": inner.id_to_token(i), "type_id": segment}})
    return parts


def _frames_of(tokenizer: BaseTokenizer, task: Task) -> tuple[list[int], list[int]]:
    """Return what an encoder, or a language model, reads of one text and of two, which stand as FIRST and SECOND."""
    if isinstance(task, GenerationTask):
        return [tokenizer.eos_id, FIRST], [tokenizer.eos_id, FIRST, SECOND]
    language = _source_language(tokenizer, task)
    one, two = ([FIRST],), ([FIRST], [SECOND])
    frames = [tokenizer.frame_source(*texts, language=language, source_language=language) for texts in (one, two)]
    return frames[0], frames[1]


def _roles(inner: tokenizers.Tokenizer, tokenizer: BaseTokenizer, plain: Mapping[str, Any]) -> dict[str, str]:
    """Return the special tokens by their roles in transformers."""
    ids = {"pad": tokenizer.pad_id, "bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "sep": tokenizer.separator_id}
    names = {role: inner.id_to_token(i) for role, i in ids.items()}
    begins = tokenizer.frame_source([FIRST])[0]
    if begins != FIRST:
        names["cls"] = inner.id_to_token(begins)
    if mask := next((name for name in MASKS if inner.token_to_id(name) is not None), None):
        names["mask"] = mask
    model = plain["model"]
    unknown = model.get("unk_token")
    if unknown is None and model.get("unk_id") is not None:
        unknown = model["vocab"][model["unk_id"]][0]
    if unknown is not None:
        names["unk"] = unknown
    return {f"{role}_token": name for role, name in names.items() if name is not None}


def _token(name: str) -> dict[str, Any]:
    """Return the settings of a special token."""
    return {"content": name, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": True}  # fmt: skip


def _write(path: Path, plain: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
