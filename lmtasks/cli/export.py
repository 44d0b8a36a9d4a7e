"""`lmtasks export`: write a model for another engine, and check that it gives the same answers there."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.data.readers.files import read_lines, read_rows
from lmtasks.data.readers.formats import has_columns
from lmtasks.errors import InputError
from lmtasks.storage import ADAPTER, CARD, CONFIG

if TYPE_CHECKING:
    from lmtasks.model import Model
    from lmtasks.tasks.base import Row

HELP = "write a model for CTranslate2, ONNX Runtime or transformers, and check its answers there"
MOST_ROWS = 200  # of a file, to check with
NAMES = {"hf": "transformers", "ct2": "CTranslate2", "onnx": "ONNX Runtime"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="run folder, model folder, .ckpt file or hub id")
    add("--to", choices=NAMES, required=True, help="hf: the layout of transformers; ct2: CTranslate2; onnx: ONNX")
    add("--output", metavar="FOLDER", required=True, help="folder to write")
    numbers = "numbers of the weights: float32 (default); ct2 float16, bfloat16, int8; onnx int8; hf float16, bfloat16"
    add("--precision", metavar="P", default="float32", help=numbers)
    add("--task", metavar="NAME", help="one of the model's tasks, to check with; hf: the one that is written")
    texts = "texts to check with: one a line, or rows with columns; default: words of the vocabulary at random"
    add("--input", metavar="FILE", help=texts)
    adapter = "adapter.safetensors (LoRA) to put on the model; hf: it stays beside the weights, as PEFT reads it"
    add("--adapter", metavar="FILE", help=adapter)


def run(arguments: argparse.Namespace) -> int:
    """Write the export, print how it compares with the model, and return the exit status."""
    from lmtasks.export.export import check_request, export_model
    from lmtasks.export.exported import size_of
    from lmtasks.storage.model_folder import find_own, load

    if not Path(arguments.output).absolute().parent.is_dir():
        raise InputError(f"--output {arguments.output}: there is no folder {Path(arguments.output).parent}")
    model, folder, to, precision = load(arguments.model), Path(arguments.output), arguments.to, arguments.precision
    if arguments.adapter:
        place = Path(arguments.adapter)
        model.add_adapter("given", place / ADAPTER if place.is_dir() else place)
        model.use_adapter("given")
    rows = _rows(model, arguments.task, arguments.input) if arguments.input else {}
    keep = bool(arguments.adapter) and to == "hf"
    check_request(model, to, folder, precision, arguments.task, rows, keep)
    print(f"writing {folder}{', which takes up to a minute' if to == 'onnx' else ''}", file=sys.stderr)
    check = export_model(model, to, folder, precision, arguments.task, rows, keep)
    card = (find_own(arguments.model) or Path()) / CARD
    if to != "hf" and card.is_file() and not (folder / CARD).exists():
        shutil.copy(card, folder / CARD)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.weights().values())
    sizes = f"{size_of(folder) / 1e6:,.1f} MB (weights here {weights / 1e6:,.1f} MB)"
    print(f"{folder}: {NAMES[to]}, {precision}, {sizes}")
    print(f"checked: {check.summary}")
    if not check.alike:
        warning = f"many answers differ in {precision}; score the export on data of your own before you use it"
        print(f"warning: {warning}", file=sys.stderr)
    if check.speed:
        print(f"speed:   {check.speed:,.1f} texts/s, the model here {check.model_speed:,.1f}")
    for line in _next(to, folder, model):
        print(f"try it:  {line}")
    return 0


def _rows(model: Model, name: str | None, file: str) -> dict[str, list[Row]]:
    """Return the first rows of a file, or texts where it has no columns, for one task."""
    from lmtasks.predict import row_of
    from lmtasks.tasks.base import PLACE, listed

    own, task = model.find_task(name)
    rows: list[Row]
    if has_columns(file):
        rows = [{**row, PLACE: f"{file}, row {number}"} for number, row in islice(read_rows(file), MOST_ROWS)]
    elif task.context:
        columns = listed(task.source_columns)
        raise InputError(f"--input {file}: {own} reads two texts; give a file with the columns {columns}")
    else:
        rows = [row_of(task, line) for line in islice(read_lines(file), MOST_ROWS) if line.strip()]
    if not rows:
        raise InputError(f"--input {file}: has no texts; give some to check with, or leave it out")
    return {own: rows}


def _next(to: str, folder: Path, model: Model) -> list[str]:
    """Return what to type next, in Python for transformers and in the shell for the others."""
    from lmtasks.export.hf import BESIDE

    if to == "hf":
        (kind,) = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["architectures"]
        loaded = f'AutoTokenizer.from_pretrained("{folder}"), {kind}.from_pretrained("{folder}")'
        lines = [f"from transformers import AutoTokenizer, {kind}", f"tokenizer, model = {loaded}"]
        beside = folder / BESIDE
        adapted = f'model = peft.PeftModel.from_pretrained(model, "{beside}")'
        return [*lines, *["import peft", adapted] * beside.exists()]
    programs = {name: folder / ("run.py" if len(model.tasks) == 1 else f"run_{name}.py") for name in model.tasks}
    texts = {name: task.example_command.replace("--context ", "") for name, task in model.tasks.items()}
    own = [f"python {program} {texts[name]}" for name, program in programs.items() if program.exists()]
    lacking = [name for name, program in programs.items() if not program.exists()]
    why = [f"# {', '.join(lacking)}: no program, which would not be short"] * bool(lacking)
    return [*model.example_commands(folder), *own, *why]
