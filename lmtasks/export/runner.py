"""run.py: a short program in an export that answers one text with the engine alone, to read, to copy and to change.

It is put together of three parts: how texts become ids, what the engine does with them, and how its result becomes an
answer. Its numbers stand in `lmtasks.json`. What it cannot do, `lmtasks run` on the same folder can.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import lmtasks
from lmtasks.decoding import Decoding
from lmtasks.decoding.search import SLACK
from lmtasks.export import ct2_engine, programs
from lmtasks.heads.classification import ClassificationHead
from lmtasks.heads.language_model import LanguageModelHead
from lmtasks.heads.seq2seq import Seq2SeqHead
from lmtasks.heads.span import SpanHead
from lmtasks.heads.tagging import TaggingHead
from lmtasks.model import Model
from lmtasks.storage import TOKENIZER
from lmtasks.tasks.answering import SpanAnsweringTask
from lmtasks.tasks.base import Task, listed
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.tasks.seq2seq import Seq2SeqTask
from lmtasks.tasks.tagging import TaggingTask
from lmtasks.tasks.translation import TranslationTask
from lmtasks.text.base import BaseTokenizer
from lmtasks.text.words import APOSTROPHES, LETTERS

PROBES = ("a", "b b")  # texts by whose ids the places of texts in a source are found
IMAGE = {  # what a program imports, with what that imports: their other dependencies are for other uses
    "ct2": ("ctranslate2", "numpy", "pyyaml", "setuptools"),
    "onnx": ("onnxruntime", "numpy", "flatbuffers", "packaging", "protobuf"),
}
PACKAGES = {"ct2": "ctranslate2", "onnx": "onnxruntime"}
CUTTERS = {
    "tokenizers": ("Tokenizer", programs.PIECES),
    "sentencepiece": ("SentencePieceProcessor", programs.SENTENCES),
}  # package -> its class, and the part of the program that uses it
# letters, digits and the marks that follow them, but for scripts without spaces between words
LETTER = (
    "(?:[^\\W_\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]"
    "|[\u0300-\u036f\u0483-\u0487\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0900-\u0903\u093a-\u094f])"
)
Facts = dict[str, Any]
"""Numbers and names that a program reads from `lmtasks.json`."""


def write_runners(model: Model, engine: str, folder: Path) -> dict[str, Facts]:
    """Write a program for each task that it suits, run.py or run_TASK.py, and return what they read, by task.

    A Dockerfile beside them makes an image of the first one.

    `folder` also gets the files by which they cut texts.
    """
    backbone, tokenizer = model.built()
    files = tokenizer.piece_files()
    for file, content in files.items():
        (folder / file).write_bytes(content)
    cutter = "tokenizers" if TOKENIZER in files else "sentencepiece"
    kind, pieces = CUTTERS[cutter]
    alone, writes = len(model.tasks) == 1, any(task.generates for task in model.tasks.values())
    config = model.backbone_config
    segments, separator = getattr(config, "segments", 0), getattr(config, "separator", 0)
    shared = {
        "specials_as_text": tokenizer.specials_as_text, "silent": tokenizer.silent_ids, "longest": backbone.max_length,
        "folder": "encoder" if writes else ".", "segments": segments, "separator": separator,
    }  # fmt: skip
    starts = {head.start for head in model.heads.values() if isinstance(head, Seq2SeqHead)}
    told: dict[str, Facts] = {}
    for name, task in model.tasks.items():
        own = {**shared, "file": "model.onnx" if alone else f"{name}.onnx", "head": name}
        head = model.heads[name]
        facts, body = _facts(task, head, tokenizer, model.decoding), _body(head, engine)
        if facts is None or body is None or (kind != "Tokenizer" and isinstance(task, SpanAnsweringTask)):
            continue
        told[name] = {**own, **facts}
        if len(starts) > 1 and isinstance(head, Seq2SeqHead):
            told[name]["told"] = [head.start]
        file = "run.py" if alone else f"run_{name}.py"
        usage = facts["texts"] if len(facts["texts"]) > 1 else ["text"]
        text = _head(task, name, file, engine, cutter, body, " ".join(usage).upper())
        (folder / file).write_text(text + pieces + body, encoding="utf-8")
        if len(told) == 1:  # of several programs, the first
            image = programs.DOCKERFILE.format(
                name=task.kind, usage=" ".join(f'"{each.upper()}"' for each in usage), file=file,
                packages=" ".join((*IMAGE[engine], cutter)),
            )  # fmt: skip
            (folder / "Dockerfile").write_text(image, encoding="utf-8")
    return told


def _head(task: Task, name: str, file: str, engine: str, cutter: str, body: str, usage: str) -> str:
    """Return how a program begins: what it does, what it imports, and its texts."""
    package, numbers = PACKAGES[engine], ["numpy"] * ("np." in body)
    standard = ["import json", *["import re"] * ("re." in body), "import sys", "from pathlib import Path"]
    others = [f"import {package}", *["import numpy as np"] * len(numbers), f"from {cutter} import {CUTTERS[cutter][0]}"]
    return programs.HEAD.format(
        what=task.sentence, file=file, usage=usage, needs=listed([package, *numbers, cutter]), name=json.dumps(name),
        imports="\n".join([*standard, "", *others]), version=lmtasks.__version__,
    )  # fmt: skip


def _body(head: Any, engine: str) -> str | None:
    """Return what a program does with an engine for a head, None if that is too much for a short program.

    Of CTranslate2 it gets the states of the encoder, and does itself what one linear layer does.
    """
    if isinstance(head, Seq2SeqHead):
        return programs.SOURCE + (programs.ONNX_WRITE if engine == "onnx" else programs.CT2_WRITE)
    if isinstance(head, LanguageModelHead):
        return programs.SOURCE + (programs.ONNX_CONTINUE if engine == "onnx" else programs.CT2_CONTINUE)
    if isinstance(head, ClassificationHead):
        simple = head.ngrams is None and head.attention is None
        logits = programs.ONNX_LOGITS if engine == "onnx" else programs.CT2_STATES + programs.POOLED
        return programs.SOURCE + logits + programs.LABELS if simple or engine == "onnx" else None
    if isinstance(head, TaggingHead):
        simple = head.spelling is None and not len(head.layers)
        logits = programs.ONNX_TAGS if engine == "onnx" else programs.CT2_STATES + programs.EMISSIONS
        return programs.WORDS + logits + programs.TAGS if simple or engine == "onnx" else None
    if isinstance(head, SpanHead):
        simple = head.attention is None and head.match is None and not len(head.layers)
        logits = programs.ONNX_LOGITS if engine == "onnx" else programs.CT2_STATES + programs.EDGES
        return programs.QUESTION + logits + programs.SPAN if simple or engine == "onnx" else None
    return None


def _facts(task: Task, head: Any, tokenizer: BaseTokenizer, decoding: Decoding) -> Facts | None:
    """Return what a program reads, None if it cannot make the source of the task."""
    if isinstance(task, TaggingTask) and isinstance(head, TaggingHead):
        return _tagging(task, head, tokenizer)
    if isinstance(task, TranslationTask):
        task = task.narrowed(task.directions[0] if task.directions else "-".join(task.between[:2]))
    if (framed := _frame(task, tokenizer)) is None:
        return None
    texts, source = framed
    facts: Facts = {"texts": texts, "source": source}
    if isinstance(task, SpanAnsweringTask) and isinstance(head, SpanHead):
        if len(source) != 5:
            return None
        own = {each: getattr(task, each) for each in ("window", "max_answer", "no_answer", "no_answer_at")}
        return {**facts, "source": source[::2], "threshold": float(head.threshold), **own}
    if isinstance(task, ClassificationTask) and isinstance(head, ClassificationHead):
        about = {"labels": task.labels, "multi_label": task.multi_label, "pooling": task.pooling, "hidden": task.hidden}
        return {**facts, **about}
    if isinstance(head, (Seq2SeqHead, LanguageModelHead)):
        copied = ("beam", "length_penalty", "max_length", "max_ratio", "early_stop")
        facts |= {"end": head.end, "suppress": list(head.suppress_tokens), "slack": SLACK}
        facts |= {each: getattr(decoding, each) for each in copied}
        ((example, *_)) = task.questions([_probe(task, texts)], tokenizer)
        search = {"beam_size": decoding.beam, "patience": ct2_engine.PATIENCE[decoding.early_stop]}
        search |= {"length_penalty": decoding.length_penalty, "repetition_penalty": decoding.repetition_penalty}
        search |= {"no_repeat_ngram_size": decoding.no_repeat_ngram}
        return {
            **facts, "prefix": example.prefix, "start": getattr(head, "start", None), "told": [], "search": search,
            "block": getattr(head, "context", None),
        }  # fmt: skip
    return None


def _probe(task: Task, texts: Sequence[str]) -> dict[str, Any]:
    """Return a row with short texts."""
    return {name: [probe] if task.multi_turn else probe for name, probe in zip(texts, PROBES, strict=False)}


def _frame(task: Task, tokenizer: BaseTokenizer) -> tuple[list[str], list[Any]] | None:
    """Return the texts that a task reads, and its source as ids with the texts between them; None if it has others.

    A text is {"text": its column, "before": what stands in front of it}.
    """
    texts = [name for name in (task.input_column, task.context) if name is not None]
    if isinstance(task, TranslationTask):
        texts = list(task.source_columns)
    examples = task.questions([_probe(task, texts)], tokenizer)
    if len(texts) > len(PROBES) or len(examples) != 1:
        return None
    source, parts, begin = examples[0].source, [], 0
    prompt = task.prompt_text if isinstance(task, Seq2SeqTask) else ""
    for number, (name, probe) in enumerate(zip(texts, PROBES, strict=False)):
        for before in dict.fromkeys(("" if number else prompt, "")):
            ids = tokenizer.encode(before + probe)
            if (place := _find(source, ids, begin)) is not None:
                break
        else:
            return None
        parts += [source[begin:place], {"text": name, "before": before}]
        begin = place + len(ids)
    return texts, [*parts, source[begin:]]


def _find(ids: Sequence[int], part: Sequence[int], begin: int) -> int | None:
    """Return where a part begins in a list, from `begin` on."""
    places = range(begin, len(ids) - len(part) + 1)
    return next((place for place in places if list(ids[place : place + len(part)]) == list(part)), None)


def _tagging(task: TaggingTask, head: TaggingHead, tokenizer: BaseTokenizer) -> Facts | None:
    """Return what a program reads that tags words, None if words have other ids in a text than alone."""
    spaced = LETTERS in task.writing
    (wanted,) = tokenizer.encode_words([PROBES[0]], spaced)
    spaces = [space for space in ("", " ") if tokenizer.encode(space + PROBES[0]) == wanted]
    if not spaces:
        return None
    (*lead, close), chain = tokenizer.frame_source([]), head.chain
    follow, begin, end = chain.ruled(torch.float32)
    return {
        "texts": [task.input_column], "words": word_pattern(task.writing), "space": spaces[0], "lead": lead,
        "close": close, "end": tokenizer.eos_id, "marks": [tokenizer.mark(name) for name in task.marks],
        "tags": task.tags, "follow": follow.tolist(), "begin_tag": begin.tolist(), "end_tag": end.tolist(),
    }  # fmt: skip


def word_pattern(writing: Sequence[str]) -> str:
    """Return a regular expression that finds the words of a text as `text.words.split_words` does."""
    if LETTERS not in writing:
        return r"\S"
    endings = [item for item in writing if len(item) > 1 and not item.endswith(LETTERS)]
    inside = {item for item in writing if len(item) == 1} | {*APOSTROPHES}.intersection("".join(endings))
    first = [item[0] for item in writing if item.endswith(LETTERS) and item != LETTERS]
    lead, joint = (f"[{re.escape(''.join(sorted(signs)))}]" if signs else "(?!)" for signs in (first, inside))
    word = f"(?:{lead})?{LETTER}+{{}}(?:{joint}{LETTER}+{{}}){{}}"
    if not endings:
        return word.format("", "", "*") + r"|\S"
    ending = f"(?i:{'|'.join(map(re.escape, endings))})(?!{LETTER}|{joint}{LETTER})"
    return f"{word.format('?', '?', '*?')}(?={ending})|(?<={LETTER}){ending}|{word.format('', '', '*')}|\\S"
