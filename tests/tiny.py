"""A corpus, a module and a trainer so small that a training takes milliseconds."""

from __future__ import annotations

import json
import random
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.data.readers.base import Rows
from lmtasks.data.readers.parallel import ParallelText
from lmtasks.data.readers.table import Table
from lmtasks.data.readers.tagged import TaggedWords
from lmtasks.decoding import Decoding
from lmtasks.tasks.base import Task
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.tasks.tagging import TaggingTask
from lmtasks.tasks.translation import TranslationTask
from lmtasks.text.tokenizer import TokenizerConfig
from lmtasks.training.config import Training
from lmtasks.training.datamodule import TextDataModule
from lmtasks.training.module import TaskModule
from lmtasks.training.modules import TranslationModule
from lmtasks.training.optim.optimizers import Adam
from lmtasks.training.optim.schedule import Schedule

ROWS = {"train": 40, "validation": 11, "test": 9, "predict": 5}
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def write_corpus(folder: Path) -> Path:
    """Write line-parallel texts of one to four words: "de" copies "en", "fr" turns it round."""
    draw = random.Random(1)
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in ROWS.items():
        texts = [
            " ".join(draw.choice("abcdef") * draw.randint(1, 3) for _ in range(draw.randint(1, 4))) for _ in range(rows)
        ]
        for language, change in (("en", str), ("de", str), ("fr", lambda text: text[::-1])):
            (folder / f"{split}.{language}").write_text(
                "".join(f"{change(text)}\n" for text in texts), encoding="utf-8"
            )
    return folder


def tiny_rows(folder: Path, **splits: str | None) -> ParallelText:
    """Return the rows of `write_corpus`."""
    given: dict[str, Any] = {split: str(folder / f"{split}.{{lang}}") for split in ("train", "validation", "test")}
    return ParallelText(**(given | splits))


def tiny_data(folder: Path, **settings: Any) -> TextDataModule:
    """Return the data of `write_corpus`, with its cache beside them."""
    given = {"rows": tiny_rows(folder), "tokens_per_step": 80, "tokens_per_batch": 60, "cache": str(folder / "cache")}
    return TextDataModule(**(given | settings))


def tiny_backbone(**settings: Any) -> TransformerConfig:
    """Return a Transformer of one layer each, without dropout.

    It has no biases: the gradient of that of the keys is 0 but for rounding, which Adam makes as large as any other.
    """
    sizes = {"d_model": 8, "n_heads": 2, "d_ff": 16, "encoder_layers": 1, "decoder_layers": 1}
    return TransformerConfig(**(sizes | {"dropout": 0.0, "bias": False} | settings))


def training_apart(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings of a module in which those of Training are one."""
    own = {field.name: settings[field.name] for field in fields(Training) if field.name in settings}
    return {name: value for name, value in settings.items() if name not in own} | {"training": Training(**own)}


def tiny_module(directions: tuple[str, ...] = ("en-de",), **settings: Any) -> TranslationModule:
    """Return a module without layers yet."""
    given = {
        "backbone": tiny_backbone(),
        "tokenizer": TokenizerConfig("byte"),
        "optimizer": Adam(0.01),
        "schedule": Schedule("constant", warmup=0),
        "decoding": Decoding(beam=2, max_length=6),
        "validation_decoding": Decoding(beam=1, max_length=6),
    }
    return TranslationModule(list(directions), **training_apart(given | settings))


# Several tasks: the translations of `write_corpus`, moods by the first letter, names that begin with a capital.


def write_tasks(folder: Path) -> Path:
    """Write `write_corpus` and beside it a table of moods and one of names."""
    draw = random.Random(2)
    write_corpus(folder)
    for split, rows in (("train", 31), ("validation", 7), ("test", 6)):
        texts = [[draw.choice("abcdEF") * draw.randint(1, 3) for _ in range(draw.randint(2, 5))] for _ in range(rows)]
        moods = [{"text": " ".join(words), "label": "good" if words[0][0] in "abc" else "bad"} for words in texts]
        names = [{"words": words, "tags": ["B-X" if word.isupper() else "O" for word in words]} for words in texts]
        for kind, lines in (("moods", moods), ("names", names)):
            (folder / f"{kind}.{split}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder


def several_tasks(**others: Task) -> dict[str, Task]:
    """Return a task that writes, one that labels texts and one that tags words, without dropout."""
    tagging = TaggingTask(crf=False, spelling=False, layers=0, dropout=0.0)
    tasks = {"translation": TranslationTask(("en-de",), label_smoothing=0.0), "mood": ClassificationTask(dropout=0.0)}
    return tasks | {"names": tagging} | others


def several_rows(folder: Path, **others: Rows) -> dict[str, Rows]:
    """Return the rows of `write_tasks`."""
    found: dict[str, Rows] = {"translation": tiny_rows(folder)}
    for name, kind, rows in (("mood", "moods", Table), ("names", "names", TaggedWords)):
        splits = ("train", "validation", "test")
        found[name] = rows(**{split: str(folder / f"{kind}.{split}.jsonl") for split in splits})
    return found | others


def several_data(folder: Path, **settings: Any) -> TextDataModule:
    """Return the data of `write_tasks`."""
    return tiny_data(folder, **({"rows": several_rows(folder), "tokens_per_step": 200} | settings))


def several_module(**settings: Any) -> TaskModule:
    """Return a module of `several_tasks` without layers yet; its Adam takes no rounding error for a gradient."""
    given = {
        "tasks": several_tasks(),
        "backbone": tiny_backbone(),
        "tokenizer": TokenizerConfig("byte"),
        "optimizer": Adam(0.01, eps=1e-3),
        "schedule": Schedule("constant", warmup=0),
        "decoding": Decoding(beam=2, max_length=6),
        "validation_decoding": Decoding(beam=1, max_length=6),
    }
    return TaskModule(**training_apart(given | settings))


def trainer(folder: Path, **settings: Any) -> Trainer:
    """Return a silent trainer on one CPU."""
    return Trainer(**(QUIET | {"default_root_dir": folder} | settings))


def fit(folder: Path, module: Any = None, data: TextDataModule | None = None, **settings: Any) -> Any:
    """Train on the corpus in `folder`, from the weights of one seed, and return the module."""
    module = tiny_module() if module is None else module
    ckpt_path = settings.pop("ckpt_path", None)
    torch.manual_seed(0)
    given = {"max_steps": 3, "limit_val_batches": 0, "num_sanity_val_steps": 0}
    trainer(folder / "run", **(given | settings)).fit(
        module, datamodule=tiny_data(folder) if data is None else data, ckpt_path=ckpt_path, weights_only=True
    )
    return module


def weights(module: torch.nn.Module) -> torch.Tensor:
    """Return all parameters in one row."""
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])
