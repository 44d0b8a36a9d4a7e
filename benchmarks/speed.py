"""Compare the speed of two checkouts: training steps and answers of a small model, in turn, as ratios.

    python benchmarks/speed.py BEFORE AFTER [--rounds 5] [--steps 150]

BEFORE and AFTER are folders of checkouts; a ratio above 1 says that AFTER is faster. Read it on a quiet machine: times
of one machine mean little on another.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lightning.pytorch import Callback

FIRST = 20  # steps that warm up and are not timed
TEXTS = ["The old baker sold the fresh bread.", "Emma has lost her umbrella.", "The miller's goat ran away again."] * 40
ANSWER = """
import sys, time, lmtasks
model, texts = lmtasks.load(sys.argv[1]), sys.argv[2].split("|")
for beam in (1, 5):
    decoding = lmtasks.Decoding(beam=beam, max_length=24)
    model.translate(texts[:8], decoding=decoding)
    start = time.perf_counter()
    model.translate(texts, decoding=decoding)
    print(f"beam {beam}", time.perf_counter() - start)
"""


class Timer(Callback):
    """Print the seconds of the optimiser steps after the first ones."""

    def on_train_batch_start(self, trainer, *args) -> None:
        """Start the clock."""
        if trainer.global_step == FIRST:
            self.start = time.perf_counter()

    def on_train_end(self, trainer, *args) -> None:
        """Stop it."""
        print("steps", time.perf_counter() - self.start, flush=True)


def main() -> None:
    """Time both checkouts in turn and print a line for each thing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=150)
    arguments = parser.parse_args()
    rounds: dict[str, list[float]] = {}
    for number in range(arguments.rounds):
        sides = [arguments.before, arguments.after]
        order = sides if number % 2 == 0 else sides[::-1]  # neither is always the first
        times = {side: seconds(side.resolve(), arguments.steps) for side in order}
        for name, before in times[arguments.before].items():
            rounds.setdefault(name, []).append(before / times[arguments.after][name])
            print(f"round {number + 1}: {name} {rounds[name][-1]:.3f}", file=sys.stderr, flush=True)
    for name, ratios in rounds.items():
        print(f"{name:<24}  before / after {statistics.median(ratios):.3f} ({min(ratios):.3f}..{max(ratios):.3f})")


def seconds(checkout: Path, steps: int) -> dict[str, float]:
    """Return how long a checkout trains and answers."""
    inside = "training." if (checkout / "lmtasks" / "training" / "config.py").is_file() else ""
    limits = {"max_steps": steps, "val_check_interval": steps, "limit_val_batches": 0, "limit_test_batches": 0}
    options = [f"--trainer.{name}={value}" for name, value in limits.items()]
    options += ["--trainer.accelerator=cpu", f"--model.{inside}schedule.warmup=10", "--trainer.callbacks+=speed.Timer"]
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for config in ("village-translation", "village-names", "quickstart"):
            command = ["-m", "lmtasks", "fit", "-c", config, "--name", config, *options, "--data.cache", folder]
            found[f"train {config}"] = read(run(checkout, folder, command))["steps"]
        model = str(Path(folder) / "runs" / "village-translation" / "model")
        answers = read(run(checkout, folder, ["-c", ANSWER, model, "|".join(TEXTS)]))
    return found | {f"translate, {name}": value for name, value in answers.items()}


def read(output: str) -> dict[str, float]:
    """Return the numbers that a run printed by their names."""
    lines = [line.rsplit(" ", 1) for line in output.splitlines() if line.startswith(("steps ", "beam "))]
    return {name: float(value) for name, value in lines}


def run(checkout: Path, folder: str, command: list[str]) -> str:
    """Run Python with a checkout's lmtasks, and return what it prints."""
    settings = os.environ | {"PYTHONPATH": os.pathsep.join((str(checkout), str(Path(__file__).parent)))}
    ran = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=folder, env=settings)
    if ran.returncode:
        raise SystemExit(f"{checkout}: {' '.join(command)[:300]}\n{ran.stderr}")
    return ran.stdout


if __name__ == "__main__":
    main()
