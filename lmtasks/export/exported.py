"""An export on disk: the files of an engine, and beside them all that answers need of the model.

`lmtasks.json` holds the settings and what `run.py` reads, `heads.safetensors` the weights of the heads. The folder
alone is enough: `open_export` returns a Model whose backbone is the engine.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file

import lmtasks
from lmtasks.errors import InputError, did_you_mean
from lmtasks.export import ct2_engine, onnx_engine
from lmtasks.export.ct2 import write_ct2
from lmtasks.export.onnx import write_onnx
from lmtasks.export.runner import write_runners
from lmtasks.model import Model, check_shapes, drafting
from lmtasks.settings import FORMAT, build, check_format, from_plain, to_plain
from lmtasks.storage import EXPORT, TOKENIZER
from lmtasks.storage.checksums import check_sums, read_sums, write_sums
from lmtasks.storage.reading import MOST_TEXT, read_json, read_text, refusing
from lmtasks.storage.writing import save_tensors
from lmtasks.text.base import BaseTokenizer

HEADS, OWN_TOKENIZER = "heads.safetensors", "tokenizer.lmtasks.json"


class Engine(NamedTuple):
    """What runs exports."""

    write: Callable[[Model, Path, str], None]
    """Writes a model into a folder with weights of a precision."""
    module: Any
    """How it computes: `open_backbone` and `adapt_heads`."""
    precisions: tuple[str, ...]
    """The types that the numbers of its weights can have."""


ENGINES = {
    "ct2": Engine(write_ct2, ct2_engine, ("float32", "float16", "bfloat16", "int8")),
    "onnx": Engine(write_onnx, onnx_engine, ("float32", "int8")),
}


@dataclass(frozen=True)
class Description:
    """What `lmtasks.json` says of an export."""

    engine: str
    """The engine that runs it."""
    precision: str
    """The type of the numbers that its weights are."""
    source: str
    """A hash of the model that it was made of; "" = not known."""
    settings: dict[str, Any]
    """Tasks, backbone and decoding as plain data."""
    tokenizer_class: str
    """The public name of the class of its tokenizer."""
    d_model: int
    """Width of the states that its heads read; settings of an encoder of one's own need not tell."""
    max_length: int | None
    """Longest text in tokens, beyond which sources are cut; None = any."""


def is_export(path: str | Path) -> bool:
    """Tell whether a folder is an export for an engine."""
    return (Path(path) / EXPORT).is_file()


def size_of(folder: Path) -> int:
    """Return the bytes of the files in a folder and those below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def describe_export(folder: Path) -> Description:
    """Read `lmtasks.json`. Raises: InputError if it is damaged, or of another version of lmtasks."""
    place = folder / EXPORT
    check_sums(folder, [EXPORT])
    plain = read_json(place)
    check_format(plain.get("format"), place)
    with refusing(place, "is damaged"):
        about = build(Description, {field.name: plain[field.name] for field in fields(Description)})
    return about


def check_engine(engine: str, precision: str) -> None:
    """Check that there is such an engine, with weights of such numbers. Raises: InputError if not."""
    if engine not in ENGINES:
        hint = did_you_mean(engine, ENGINES, f"there are {', '.join(ENGINES)}; torch needs none")
        raise InputError(f"there is no engine {engine!r}; {hint}")
    if precision not in ENGINES[engine].precisions:
        raise InputError(f"{engine} has no precision {precision!r}; give {', '.join(ENGINES[engine].precisions)}")


def write_export(model: Model, engine: str, folder: Path, precision: str = "float32", source: str = "") -> None:
    """Write a model for an engine into an empty folder; the weights are merged with the adapter in use.

    `source` is a hash of the model, by which a change of it is noticed.

    Raises: InputError if the engine cannot express the model, or its package is missing.
    """
    check_engine(engine, precision)
    ENGINES[engine].write(model, folder, precision)
    backbone, tokenizer = model.built()
    settings = to_plain({"tasks": model.tasks, "backbone": model.backbone_config, "decoding": model.decoding})
    own = tokenizer.to_plain()
    if tokenizer.piece_files().get(TOKENIZER) != own["tokenizer"].encode():
        (folder / OWN_TOKENIZER).write_text(own["tokenizer"], encoding="utf-8")
    if heads := model.heads.state_dict():
        save_tensors(heads, folder / HEADS)
    sizes = backbone.d_model, backbone.max_length
    about = Description(engine, precision, source, settings, own["tokenizer_class"], *sizes)
    plain = {"format": FORMAT, "lmtasks": lmtasks.__version__, **vars(about)}
    plain["run"] = write_runners(model, engine, folder)
    (folder / EXPORT).write_text(json.dumps(plain, ensure_ascii=False) + "\n", encoding="utf-8")
    write_sums(folder)


def open_export(folder: Path, device: str = "cpu") -> Model:
    """Return the model of an export: its backbone is the engine, the rest is as in the model it was made of.

    Raises: InputError if it is damaged, of another version, or the package of its engine is missing.
    """
    about = describe_export(folder)
    check_engine(about.engine, about.precision)
    check_sums(folder, {*read_sums(folder), HEADS, OWN_TOKENIZER})
    engine, place = ENGINES[about.engine].module, (device, torch.get_num_threads())
    with refusing(folder, "is damaged, or of another version"):
        model = Model(**{name: from_plain(plain) for name, plain in about.settings.items()})
        file = next(path for path in (folder / OWN_TOKENIZER, folder / TOKENIZER) if path.exists())
        plain = {"tokenizer_class": about.tokenizer_class, "tokenizer": read_text(file, MOST_TEXT)}
        tokenizer = BaseTokenizer.from_plain(plain)
        backbone = engine.open_backbone(folder, model, *place)
        backbone.d_model, backbone.max_length = about.d_model, about.max_length
        weights = load_file(folder / HEADS) if (folder / HEADS).exists() else {}
        with drafting():
            model.install(backbone, tokenizer)
        check_shapes(model.heads.state_dict(), weights)
        model.install(backbone, tokenizer)
        model.heads.load_state_dict(weights)
        engine.adapt_heads(model, folder, *place)
    return model.eval()
