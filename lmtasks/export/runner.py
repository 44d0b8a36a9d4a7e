"""run.py: a short program in an export that answers one text with the engine alone, to read, to copy and to change.

`RECIPES` has a line for each kind of task and head: what a program does, of parts in `programs.py`, and what it reads
from `lmtasks.json`. What a program cannot do, `lmtasks run` on the same folder can.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import torch

import lmtasks
from lmtasks.decoding.search import SLACK
from lmtasks.export import programs
from lmtasks.export.ct2_engine import search_settings
from lmtasks.heads.base import Head
from lmtasks.heads.classification import ClassificationHead
from lmtasks.heads.language_model import LanguageModelHead, latest
from lmtasks.heads.seq2seq import Seq2SeqHead
from lmtasks.heads.span import SpanHead
from lmtasks.heads.tagging import TaggingHead
from lmtasks.model import Model
from lmtasks.storage import TOKENIZER
from lmtasks.tasks.answering import SpanAnsweringTask
from lmtasks.tasks.base import Task, listed
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.tasks.dialogue import DialogueTask
from lmtasks.tasks.generation import GenerationTask
from lmtasks.tasks.seq2seq import Seq2SeqTask
from lmtasks.tasks.tagging import TaggingTask
from lmtasks.tasks.translation import TranslationTask, split_direction
from lmtasks.text.words import APOSTROPHES, LETTERS

PROBES = ("a", "b b")  # texts by whose ids the places of texts in a source are found
PACKAGES = {"ct2": "ctranslate2", "onnx": "onnxruntime"}
LEAST = {  # versions of the packages in an image, which needs nothing of what these need for other uses
    "ctranslate2": "4.8.5", "onnxruntime": "1.22", "numpy": "2", "tokenizers": "0.21", "sentencepiece": "0.2.3",
}  # fmt: skip
STANDARD = {  # name that a program uses -> the line that imports it
    name: f"import {name}" for name in ("argparse", "json", "os", "re", "sys")
} | {"permutations": "from itertools import permutations", "Path": "from pathlib import Path"}  # fmt: skip
CUTTERS = {
    "tokenizers": ("Tokenizer", programs.PIECES, programs.JOIN_PIECES),
    "sentencepiece": ("SentencePieceProcessor", programs.SENTENCES, programs.JOIN_SENTENCES),
}  # package -> its class, and the parts of a program that cut texts and join them
# letters, digits and the marks that follow them, but for scripts without spaces between words
LETTER = (
    "(?:[^\\W_\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]"
    "|[\u0300-\u036f\u0483-\u0487\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0900-\u0903\u093a-\u094f])"
)
Facts = dict[str, Any]
"""Numbers and names that a program reads from `lmtasks.json`."""


class Recipe(NamedTuple):
    """How programs do one kind of task with one kind of head."""

    task: type[Any]
    """The class of the task."""
    head: type[Head]
    """The class of the head."""
    body: Mapping[str, tuple[str, ...]]
    """What a program does with each engine, in parts."""
    facts: Callable[[Any, Any, Model], Facts | None]
    """Gives what it reads of a task, its head and their model; None if a program cannot make the source."""
    prints: str = ""
    """How it prints ids that the model wrote."""
    layers: tuple[str, ...] = ()
    """Attributes of the head: layers that are too much for a short program, where the engine does not have them."""


def write_runners(model: Model, engine: str, folder: Path) -> dict[str, Facts]:
    """Write a program for each task that it suits, run.py or run_TASK.py, and return what they read, by task.

    `folder` also gets the files by which they cut texts, and a Dockerfile, which makes an image of the first one.
    """
    _, tokenizer = model.built()
    files = tokenizer.piece_files()
    for file, content in files.items():
        (folder / file).write_bytes(content)
    cutter = "tokenizers" if TOKENIZER in files else "sentencepiece"
    alone, writes = len(model.tasks) == 1, any(task.generates for task in model.tasks.values())
    config = model.backbone_config
    shared = {
        "specials_as_text": tokenizer.specials_as_text, "silent": tokenizer.silent_ids,
        "folder": "encoder" if writes else ".", "segments": getattr(config, "segments", 0),
        "separator": getattr(config, "separator", 0),
    }  # fmt: skip
    told: dict[str, Facts] = {}
    for name, task in model.tasks.items():
        head = model.heads[name]
        recipe = next((each for each in RECIPES if isinstance(task, each.task) and isinstance(head, each.head)), None)
        if recipe is None or engine not in recipe.body or not files:
            continue
        if engine == "ct2" and any(getattr(head, each) for each in recipe.layers):
            continue
        if (facts := recipe.facts(task, head, model)) is None:
            continue
        program = Program(f"run{'' if alone else f'_{name}'}.py", task, name, facts, recipe, engine, cutter)
        (folder / program.file).write_text(program.text, encoding="utf-8")
        if not told:
            (folder / "Dockerfile").write_text(program.image, encoding="utf-8")
        told[name] = {**shared, "file": "model.onnx" if alone else f"{name}.onnx", "head": name, **facts}
    return told


@dataclass(frozen=True)
class Program:
    """A program of an export, put together."""

    file: str
    """Its name."""
    task: Task
    """The task that it does."""
    name: str
    """The name of the task."""
    facts: Facts
    """What it reads."""
    recipe: Recipe
    """What it does."""
    engine: str
    """The engine that computes."""
    cutter: str
    """The package that cuts texts."""

    @property
    def body(self) -> str:
        """What comes after its head."""
        choice = programs.LANGUAGES if "directions" in self.facts else ""
        _, cut, join = CUTTERS[self.cutter]
        join = join if self.recipe.prints else ""
        parts = [choice, cut, join, *self.recipe.body[self.engine], self.recipe.prints]
        return "\n\n\n".join(part.strip("\n") for part in parts if part) + "\n"

    @property
    def packages(self) -> list[str]:
        """The packages that it imports."""
        return [*sorted([PACKAGES[self.engine], *["numpy"] * ("np." in self.body)]), self.cutter]

    @property
    def text(self) -> str:
        """The whole program."""
        lines = {"numpy": "import numpy as np", self.cutter: f"from {self.cutter} import {CUTTERS[self.cutter][0]}"}
        pairs = self.facts.get("directions", [])
        languages = [dict.fromkeys(side) for side in zip(*pairs, strict=True)] or [self.facts.get("languages", [])] * 2
        options = [f'parser.add_argument("--{each}", metavar="LANG", help="{", ".join(known)}")'
                   for each, known in zip(("source", "target"), languages, strict=True) if known]  # fmt: skip
        texts = [f'parser.add_argument("{each}", metavar="{each.upper()}", type=utf8)' for each in self.facts["texts"]]
        choice = "[--source LANG] [--target LANG] " if options else ""
        whole = programs.HEAD + self.body
        return programs.HEAD.format(
            what=json.dumps(self.task.sentence, ensure_ascii=False)[1:-1],  # no label ends the docstring
            file=self.file, usage=choice + " ".join(self.facts["texts"]).upper(), needs=listed(self.packages),
            version=lmtasks.__version__, install=" ".join(self.packages), name=json.dumps(self.name),
            standard="\n".join(line for used, line in STANDARD.items() if re.search(rf"\b{used}[.(]", whole)),
            packages="\n".join(f"    {lines.get(each, f'import {each}')}" for each in self.packages),
            arguments="\n".join(options + texts),
        ) + "\n\n" + self.body  # fmt: skip

    @property
    def image(self) -> str:
        """The Dockerfile that makes an image of it."""
        options = ["--target LANG"] * ("directions" in self.facts)
        usage = " ".join([*options, *(f'"{each.upper()}"' for each in self.facts["texts"])])
        wanted = " ".join(f'"{each}>={LEAST[each]}"' for each in self.packages)
        return programs.DOCKERFILE.format(name=self.task.kind, usage=usage, packages=wanted, file=self.file)


def writing(task: Task, head: Any, model: Model) -> Facts | None:
    """Return what a program reads that writes a text."""
    backbone, _ = model.built()
    decoding, starts = model.decoding, {getattr(each, "start", None) for each in model.heads.values()} - {None}
    if (facts := framed(task, model)) is None:
        return None
    copied = ("beam", "length_penalty", "max_ratio", "min_length", "early_stop")
    return {
        **facts, **{name: getattr(decoding, name) for name in copied}, "slack": SLACK,
        "max_length": min(decoding.max_length, backbone.max_length or decoding.max_length),
        "end": head.end, "suppress": list(head.suppress_tokens), "start": getattr(head, "start", None),
        "told": [head.start] if len(starts) > 1 else [], "search": search_settings(decoding),
    }  # fmt: skip


def translating(task: TranslationTask, head: Any, model: Model) -> Facts | None:
    """Return what a program reads that translates.

    Of several directions source and prefix have "source" and "target" in place of the ids of the two languages.
    """
    _, tokenizer = model.built()
    pairs = [split_direction(each) for each in task.directions] or [*permutations(task.between, 2)]
    named = task.columns if tokenizer.names_languages else task.languages
    ids = {language: tokenizer.tag(language) if language in named else None for language in task.columns}
    found: list[Facts] = []
    for source, target in (pairs[0], pairs[-1]):
        facts = writing(task.narrowed(f"{source}-{target}"), head, model)
        if facts is None:
            return None
        names = {source: "text"} | ({ids[source]: "source", ids[target]: "target"} if len(pairs) > 1 else {})
        found.append(
            facts | {key: [names.get(each, each) for each in facts[key]] for key in ("texts", "source", "prefix")}
        )
    if found[0] != found[1]:  # a tokenizer of one's own may frame each direction in its own way
        return None
    choice = {"languages": ids, "directions": pairs if task.directions else []} if len(pairs) > 1 else {}
    return found[0] | choice


def replying(task: DialogueTask, head: Any, model: Model) -> Facts | None:
    """Return what a program reads that replies: of a long turn the end, after what stands before it."""
    facts = writing(task, head, model)
    return facts and {**facts, "longest": task.history, "cut_at": facts["source"].index(task.input_column)}


def continuing(task: GenerationTask, head: Any, model: Model) -> Facts | None:
    """Return what a program reads that continues a text: of a long one the end; a language model is left room."""
    facts = writing(task, head, model)
    block = task.max_length
    kept = task.prompt or len(latest(range(block), block, model.decoding.max_length))
    return facts and {**facts, "block": block, "longest": kept, "cut_at": 0}


def classifying(task: ClassificationTask, head: Any, model: Model) -> Facts | None:
    """Return what a program reads that classifies."""
    facts = framed(task, model)
    own = {each: getattr(task, each) for each in ("labels", "multi_label", "pooling", "hidden")}
    return facts and {**facts, **own}


def answering(task: SpanAnsweringTask, head: Any, model: Model) -> Facts | None:
    """Return what a program reads that finds answers; it needs the places of the pieces in a text."""
    _, tokenizer = model.built()
    facts = framed(task, model)
    if facts is None or TOKENIZER not in tokenizer.piece_files():
        return None
    own = {each: getattr(task, each) for each in ("window", "stride", "max_answer", "no_answer", "no_answer_at")}
    own["word"] = f"{LETTER}+"
    source, places = facts["source"], [facts["source"].index(name) for name in task.source_columns]
    parts = [source[: places[0]], source[places[0] + 1 : places[1]], source[places[1] + 1 :]]
    return {**facts, **own, "source": parts, "threshold": float(head.threshold)}


def tagging(task: TaggingTask, head: Any, model: Model) -> Facts | None:
    """Return what a program reads that tags words, None if words have other ids in a text than alone."""
    backbone, tokenizer = model.built()
    (wanted,) = tokenizer.encode_words([PROBES[0]], LETTERS in task.writing)
    spaces = [space for space in ("", " ") if tokenizer.encode(space + PROBES[0]) == wanted]
    if not spaces:
        return None
    (*lead, close), longest = tokenizer.frame_source([]), backbone.max_length
    follow, begin, end = head.chain.ruled(torch.float32)
    return {
        "texts": [task.input_column], "words": word_pattern(task.writing), "space": spaces[0], "lead": lead,
        "close": close, "end": tokenizer.eos_id, "marks": [tokenizer.mark(name) for name in task.marks],
        "tags": task.tags, "follow": follow.tolist(), "begin_tag": begin.tolist(), "end_tag": end.tolist(),
        "longest": longest, "cut_at": longest and longest - 1,
    }  # fmt: skip


def framed(task: Task, model: Model) -> Facts | None:
    """Return what is read of a row: its texts, what stands before them, and ids with the names of texts among them.

    None if it is not one source of one text or two.
    """
    backbone, tokenizer = model.built()
    texts = [name for name in (task.input_column, task.context) if name is not None]
    row = {name: [probe] if task.multi_turn else probe for name, probe in zip(texts, PROBES, strict=False)}
    examples = task.questions([row], tokenizer)
    if len(examples) != 1:
        return None
    source: list[Any] = [*examples[0].source]
    prompts = [task.prompt_text if isinstance(task, Seq2SeqTask) else "", ""]
    before, begin = [], 0
    for name, prompt, probe in zip(texts, prompts, PROBES, strict=False):
        for begins in dict.fromkeys((prompt, "")):
            ids = tokenizer.encode(begins + probe)
            place = next((i for i in range(begin, len(source) - len(ids) + 1) if source[i : i + len(ids)] == ids), None)
            if place is not None:
                break
        else:
            return None
        source[place : place + len(ids)], begin = [name], place + 1
        before.append(begins)
    longest = backbone.max_length
    return {
        "texts": texts, "before": before, "source": source, "prefix": examples[0].prefix,
        "longest": longest, "cut_at": longest and longest - 1,
    }  # fmt: skip


RECIPES = (
    Recipe(GenerationTask, LanguageModelHead, programs.CONTINUE, continuing, programs.PRINT_REST),
    Recipe(GenerationTask, Seq2SeqHead, programs.BEGIN, continuing, programs.PRINT_REST),
    Recipe(TranslationTask, Seq2SeqHead, programs.WRITE, translating, programs.PRINT_TEXT),
    Recipe(DialogueTask, Seq2SeqHead, programs.WRITE, replying, programs.PRINT_TEXT),
    Recipe(Seq2SeqTask, Seq2SeqHead, programs.WRITE, writing, programs.PRINT_TEXT),
    Recipe(ClassificationTask, ClassificationHead, programs.CLASSIFY, classifying, layers=("ngrams", "attention")),
    Recipe(TaggingTask, TaggingHead, programs.TAG, tagging, layers=("spelling", "layers")),
    Recipe(SpanAnsweringTask, SpanHead, programs.ANSWER, answering, layers=("attention", "match", "layers")),
)  # the first that fits is taken


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
