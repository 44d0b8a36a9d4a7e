"""export_model: write a model for an engine or for transformers, and put it in place when its answers are right."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from lmtasks.backbones.lora import installed
from lmtasks.batch import Example
from lmtasks.errors import InputError
from lmtasks.export.check import WRITTEN, Check, check_export, group_of, sample_rows
from lmtasks.export.exported import ENGINES, check_engine, is_export, open_export, write_export
from lmtasks.export.hf import WRITTEN_BY, chosen_task, write_hf
from lmtasks.export.hf_check import compare_hf
from lmtasks.model import Model
from lmtasks.predict import check_readable
from lmtasks.storage import CHECKSUMS, CONFIG
from lmtasks.storage.checksums import read_sums, write_sums
from lmtasks.storage.writing import replacing
from lmtasks.tasks.base import Row

DOCKERFILE = "Dockerfile"
TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}  # that transformers loads


def export_model(
    model: Model,
    to: str,
    folder: str | Path,
    precision: str = "float32",
    task: str | None = None,
    rows: Mapping[str, Sequence[Row]] | None = None,
    keep_adapter: bool = False,
) -> Check:
    """Write a model for "ct2", "onnx" or "hf" into a folder, which replaces an earlier export, and return its check.

    precision: the numbers of the weights: float32, float16, bfloat16 or int8, as the engine has them.
    task: "hf" only, the task whose head is written, where an encoder has several.
    rows: {task: rows} to check with; by default texts of words drawn at random from the vocabulary.
    keep_adapter: "hf" only, write the adapter in use beside the weights, for PEFT; by default it is merged into them.

    Other files in the folder stay.

    Raises: InputError if the model cannot be expressed, a package is missing, the folder holds something else than an
    export, or the answers in float32 are not those of the model; then nothing is written.
    """
    folder, rows = Path(folder), dict(rows or {})
    check_request(model, to, folder, precision, task, rows, keep_adapter)
    with replacing(folder, _written(folder)) as part:
        if to == "hf":
            write_hf(model, part, TYPES[precision], task, keep_adapter)
            write_sums(part)
            check = _check_hf(model, part, task, rows or sample_rows(model))
        else:
            write_export(model, to, part, precision)
            check = check_export(model, open_export(part), rows or None)
        if precision == "float32" and not check.fits:
            texts = "" if rows else "check it with texts of your own (rows, in the shell --input), or "
            raise InputError(
                f"the export answers otherwise than the model: {check.summary}; nothing was written; {texts}take "
                "another engine, or keep this model in torch"
            )
    return check


def check_request(
    model: Model,
    to: str,
    folder: Path,
    precision: str,
    task: str | None,
    rows: Mapping[str, Sequence[Row]],
    keep_adapter: bool,
) -> None:
    """Check what `export_model` is asked, before an export that may take long. Raises: InputError."""
    model.weights()  # an engine has none to export
    if to not in ("hf", *ENGINES):
        raise InputError(f"a model cannot be exported to {to!r}; give hf, {', '.join(ENGINES)}")
    if to != "hf":
        check_engine(to, precision)
    elif precision not in TYPES:
        raise InputError(f"hf has no precision {precision!r}; give {', '.join(TYPES)}")
    if keep_adapter and (to != "hf" or not installed(model)):
        problem = "the model has no adapter in use" if to == "hf" else f"{to} takes merged weights only"
        raise InputError(f"keep_adapter: {problem}; leave it out")
    if task is not None:
        model.find_task(task)
    for name, own in rows.items():
        _questions(model, name, own)
    if folder.exists() and not _is_ours(folder):
        raise InputError(f"{folder} is no export, and one would take its place; choose a folder that is new")


def _written(folder: Path) -> set[str]:
    """Return the names in a folder that an earlier export wrote, which the next one replaces."""
    names = [*read_sums(folder), CHECKSUMS, DOCKERFILE, *(path.name for path in folder.glob("run*.py"))]
    return {Path(name).parts[0] for name in names}


def _check_hf(model: Model, folder: Path, name: str | None, rows: Mapping[str, Sequence[Row]]) -> Check:
    """Compare the ids and logits of what transformers loads with ours."""
    name, _ = chosen_task(model, name)
    found = compare_hf(model, folder, _questions(model, name, rows.get(name, ())), name)
    same = [difference for difference in found if difference != math.inf]
    largest = torch.tensor([0.0, *same]).max().item()  # NaN if one is
    alike = len(same) >= WRITTEN * len(found)
    return Check(len(same), len(found), largest, alike, compared=("texts have the same token ids", "logit"))


def _questions(model: Model, name: str, rows: Sequence[Row]) -> list[Example]:
    """Return the examples of rows. Raises: InputError if there are none, or a column is missing."""
    _, tokenizer = model.built()
    name, task = model.find_task(name)
    group = group_of(task)
    if not rows:
        raise InputError(f"there are no rows of {name} to check the export with")
    check_readable(rows, name, task)
    return (task if group is None else task.narrowed(group)).questions(rows, tokenizer)


def _is_ours(folder: Path) -> bool:
    """Tell whether a folder is empty or an export, so that nothing is lost if it is replaced."""
    if folder.is_dir() and not any(folder.iterdir()):
        return True
    config = folder / CONFIG
    try:
        return is_export(folder) or (config.is_file() and WRITTEN_BY in json.loads(config.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return False
