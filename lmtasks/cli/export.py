"""`lmtasks export`: write a model for another engine, and check that it gives the same answers there."""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.data.readers.files import read_lines, read_rows
from lmtasks.data.readers.formats import has_columns
from lmtasks.errors import InputError

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
    add("--precision", default="float32", help="numbers of the weights: float32 (default), float16, bfloat16 or int8")
    add(
        "--task",
        metavar="NAME",
        help="one of the model's tasks, to check with; hf: the one that is written",
    )
    add("--input", metavar="FILE", help="texts to check with, one a line; default: words of the vocabulary at random")


def run(arguments: argparse.Namespace) -> int:
    """Write the export, print how it compares with the model, and return the exit status."""
    from lmtasks.export.export import export_model
    from lmtasks.storage.model_folder import load

    if not Path(arguments.output).absolute().parent.is_dir():
        raise InputError(f"--output {arguments.output}: there is no folder {Path(arguments.output).parent}")
    model = load(arguments.model)
    rows = _rows(model, arguments.task, arguments.input) if arguments.input else None
    check = export_model(model, arguments.to, arguments.output, arguments.precision, arguments.task, rows)
    folder, size = Path(arguments.output), _size(Path(arguments.output))
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.weights().values())
    sizes = f"{size / 1e6:,.1f} MB (weights here {weights / 1e6:,.1f} MB)"
    print(f"{folder}: {NAMES[arguments.to]}, {arguments.precision}, {sizes}")
    print(f"checked: {check.told}")
    if check.speed:
        print(f"speed:   {check.speed:,.1f} texts/s, the model here {check.model_speed:,.1f}")
    for line in _next(arguments.to, folder, model):
        print(f"try it:  {line}")
    return 0


def _size(folder: Path) -> int:
    """Return the bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _rows(model: Model, name: str | None, file: str) -> dict[str, list[Row]]:
    """Return the first rows of a file, or texts where it has no columns, for one task."""
    from lmtasks.predict import row_of

    own, task = model.find_task(name)
    if has_columns(file):
        return {own: [row for _, row in islice(read_rows(file), MOST_ROWS)]}
    if task.context:
        raise InputError(f"--input {file}: {own} reads two texts; give a file with the columns {task.source_columns}")
    texts = [line for line in islice(read_lines(file), MOST_ROWS) if line.strip()]
    return {own: [row_of(task, text) for text in texts]}


def _next(to: str, folder: Path, model: Model) -> list[str]:
    """Return what to type next."""
    if to == "hf":
        return [f'transformers: AutoTokenizer.from_pretrained("{folder}"), AutoModel...from_pretrained("{folder}")']
    programs = sorted(folder.glob("run*.py"))
    return [*model.example_commands(folder), *(f"python {program}" for program in programs)]
