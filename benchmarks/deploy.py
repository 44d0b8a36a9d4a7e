"""Score and time a model in torch and in its exports, each in a process of its own, one after the other.

    python benchmarks/deploy.py MODEL FILE [--engines torch ct2 ct2-int8 onnx onnx-int8] [--rows 500] [--threads 1]

FILE has the rows of the model's only task with their answers, as training reads them. Prints for each: the scores,
texts answered a second at once and one by one, seconds and memory until the first answer, the largest memory of the
process, and the size of the files that answers need.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

FORMATS = {"tagging": "TaggedWords", "answering": "SquadFile", "translation": "ParallelText"}  # others: Table
WORDS = ("tokens", "ner_tags")  # how columns of words and tags are often called


def rows_of(task: Any, file: str, count: int) -> list[dict[str, Any]]:
    """Return the first rows of a file, as training reads them."""
    import lmtasks
    from lmtasks.data.readers.files import read_rows

    columns = {}
    if task.kind == "tagging":
        _, first = next(iter(read_rows(file)))
        columns = {} if "words" in first else dict(zip(("words", "tags"), WORDS, strict=True))
    rows = getattr(lmtasks, FORMATS.get(task.kind, "Table"))
    settings = {"columns": columns} if columns else {}
    return list(islice(rows(validation=file, **settings).rows("validation", task.columns), count))


def measure(model_path: str, name: str, file: str, count: int, one: int) -> dict[str, Any]:
    """Return what one engine does, in a process that has done nothing else."""
    start = time.perf_counter()
    import torch

    import lmtasks
    from lmtasks.tasks.base import Prediction

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    engine, _, precision = name.partition("-")
    chosen = {} if engine == "torch" else {"engine": engine, "precision": precision or "float32"}
    model = lmtasks.load(model_path, **chosen)
    (task,) = model.tasks.values()
    rows = rows_of(task, file, count)
    model.solve(rows[:1])
    begun = time.perf_counter() - start
    begun_memory = peak_memory()
    start = time.perf_counter()
    answers = model.solve(rows)
    at_once = len(rows) / (time.perf_counter() - start)
    start = time.perf_counter()
    for row in rows[:one]:
        model.solve([row])
    singly = min(one, len(rows)) / (time.perf_counter() - start)
    examples = {each.row: each for each in reversed(task.examples(rows, model.tokenizer))}
    predictions = [
        Prediction(each.text, each.reference, each.references, answers[number], each.group)
        for number, each in sorted(examples.items())
    ]
    scores = task.score(predictions, 0.0, 1)
    return {
        "engine": name, task.main_metric: scores[task.main_metric], "at once/s": at_once, "singly/s": singly,
        "start s": begun, "start MB": begun_memory, "peak MB": peak_memory(), "files MB": size(model_path, name),
    }  # fmt: skip


def peak_memory() -> float:
    """Return the largest memory of this process so far, in MB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def size(model: str, name: str) -> float:
    """Return the size of the files of an engine, or of the weights of the model, in MB."""
    from lmtasks.storage import KEPT_EXPORTS, WEIGHTS
    from lmtasks.storage.checkpoint import find_model

    place = find_model(model)
    if name == "torch":
        return (place / WEIGHTS).stat().st_size / 1e6
    engine, _, precision = name.partition("-")
    kept = place / KEPT_EXPORTS / f"{engine}-{precision or 'float32'}"
    endings = {".bin", ".onnx", ".data", ".safetensors"}
    return sum(path.stat().st_size for path in kept.rglob("*") if path.suffix in endings) / 1e6


def main() -> None:
    """Measure each engine and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("file")
    parser.add_argument("--engines", nargs="+", default=["torch", "ct2", "ct2-int8", "onnx", "onnx-int8"])
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--one", type=int, default=50)
    parser.add_argument("--threads", default="1")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        found = measure(arguments.model, arguments.inside, arguments.file, arguments.rows, arguments.one)
        print(json.dumps(found))
        return
    table = []
    for name in arguments.engines:
        options = ["--rows", str(arguments.rows), "--one", str(arguments.one), "--inside", name]
        command = [sys.executable, __file__, arguments.model, arguments.file, *options]
        environment = {**os.environ, "OMP_NUM_THREADS": arguments.threads}
        for _ in range(1 if name == "torch" else 2):  # the first run may write the export
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{name}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            continue
        table.append(json.loads(done.stdout.splitlines()[-1]))
        values = table[-1].items()
        print("  ".join(f"{key} {each:.4g}" if isinstance(each, float) else f"{each:<10}" for key, each in values))


if __name__ == "__main__":
    main()
