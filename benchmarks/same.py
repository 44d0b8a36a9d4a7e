"""Tell whether a checkout computes what another one does: the same weights, answers and scores, to the last bit.

    python benchmarks/same.py BEFORE AFTER [--steps 60] [--only NAME ...]

BEFORE and AFTER are folders of checkouts. Each trains small models on the built-in village with one thread and a fixed
seed: the quickstart's four tasks, two processes, an LSTM, PCGrad on a mixture, and every task alone. Of each the
SHA-256 of its weights, the test scores and the answers to some rows, with their scores, are compared. Hashes mean
nothing on another machine, so both sides run on this one. Exit status 1 where anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors.numpy import load_file

RECURRENT = ["--model.backbone", "RecurrentConfig", "--model.backbone.d_model", "48", "--model.backbone.d_hidden", "48"]
RUNS = {
    "quickstart": ["-c", "quickstart"],
    "two-processes": ["-c", "village-translation", "--trainer.devices", "2", "--trainer.strategy", "ddp"],
    "lstm": ["-c", "village-translation", *RECURRENT],
    "pcgrad": ["-c", "quickstart", "--model.{joint}.surgery", "PCGrad", "--model.{joint}.watch", "true"],
    "muon": ["-c", "village-translation", "--model.{optimizer}", "Muon"],
    **{
        name: ["-c", name]
        for name in (
            "village-translation",
            "village-stories",
            "village-questions",
            "village-reviews",
            "village-names",
            "village-dialogues",
            "village-summaries",
        )
    },
}
STORY = "One cold morning, Emma's goat ran away because the gate was open. Emma looked for it behind the mill."
ANSWERS = f"""
import json, sys, lmtasks
model = lmtasks.load(sys.argv[1])
texts = ["The old baker sold the fresh bread.", "Emma has lost her umbrella.", {STORY!r}]
rows = [{{"text": text, "en": text, "question": "Why did the goat run away?", "context": text, "turns": [text],
          "words": text.split()}} for text in texts]
greedy, beam = (lmtasks.Decoding(beam=width, max_length=40) for width in (1, 3))
found = {{}}
for name in model.tasks:
    answers = [model.solve(rows, name, decoding=decoding) for decoding in (greedy, beam)]
    found[name] = [[[a.text, a.score, dict(a.probabilities), list(map(list, a.spans))] for a in row]
                   for one in answers for row in one]
print(json.dumps(found))
"""


def main() -> int:
    """Compare two checkouts, and print a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--keep", type=Path, help="a JSON file with the results of BEFORE: read if it is there")
    arguments = parser.parse_args()
    known = json.loads(arguments.keep.read_text()) if arguments.keep and arguments.keep.is_file() else {}
    differing = 0
    for name in arguments.only:
        if name not in known:
            known[name] = results(arguments.before.resolve(), RUNS[name], arguments.steps)
            if arguments.keep:
                arguments.keep.write_text(json.dumps(known))
        after = results(arguments.after.resolve(), RUNS[name], arguments.steps)
        changed = [part for part in known[name] if known[name][part] != after[part]]
        differing += bool(changed)
        print(
            f"{name:<20}  {after['weights'][:16]}  {', '.join(changed) + ' differ' if changed else 'the same'}",
            flush=True,
        )
        for part in changed if "answers" in changed or "scores" in changed else ():
            print(f"    {part} before: {str(known[name][part])[:600]}\n    {part} after:  {str(after[part])[:600]}")
    return int(differing > 0)


def results(checkout: Path, options: list[str], steps: int) -> dict[str, object]:
    """Train one model with a checkout, and return the hash of its weights, its scores and its answers."""
    inside = "training." if (checkout / "lmtasks" / "training" / "config.py").is_file() else ""
    names = {name: f"{inside}{name}" for name in ("joint", "optimizer", "schedule")}
    with tempfile.TemporaryDirectory() as folder:
        limits = {"max_steps": steps, "val_check_interval": steps, "limit_val_batches": 3, "limit_test_batches": 6}
        end = [f"--trainer.{name}={value}" for name, value in limits.items()]
        end += ["--trainer.accelerator=cpu", f"--data.cache={folder}"]
        warmup = ["--model.{schedule}.warmup", "10"]
        given = [option.format(**names) for option in [*options, *warmup]]
        run(checkout, folder, ["-m", "lmtasks", "fit", "--name", "run", *given, *end])
        model = Path(folder) / "runs" / "run" / "model"
        weights = digest(model / "model.safetensors")
        scores = json.loads((model / "metrics.json").read_text())
        scores["signatures"] = {name: text.split("|version")[0] for name, text in scores["signatures"].items()}
        answers = json.loads(run(checkout, folder, ["-c", ANSWERS, str(model)]))
    return {"weights": weights, "scores": scores, "answers": answers}


def digest(file: Path) -> str:
    """Return the SHA-256 of names and numbers of the weights in a file."""
    sha = hashlib.sha256()
    for name, array in sorted(load_file(file).items()):
        sha.update(name.encode() + array.tobytes())
    return sha.hexdigest()


def run(checkout: Path, folder: str, command: list[str]) -> str:
    """Run Python with a checkout's lmtasks on one thread, and return what it prints."""
    settings = {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=folder, env=os.environ | settings
    )
    if ran.returncode:
        raise SystemExit(f"{checkout}: {' '.join(command)[:300]}\n{ran.stderr}")
    return ran.stdout


if __name__ == "__main__":
    sys.exit(main())
