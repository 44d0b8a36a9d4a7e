"""A run that is stopped at any moment and resumed ends as the run that was not, in every byte that is not a time."""

import json
import os
import random
import shutil
import signal
import sys
import traceback

import pytest
import torch
import yaml
from lightning.pytorch.trainer import call
from tiny import write_tasks

from lmtasks.cli.main import main
from lmtasks.storage.checkpoint import last_checkpoint, read_checkpoint
from lmtasks.training.callbacks.checkpoints import SafeCheckpointIO
from lmtasks.training.callbacks.loggers import MetricsFile
from lmtasks.training.module import TaskModule

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
TRANSFORMER = {"d_model": 8, "n_heads": 2, "d_ff": 16, "encoder_layers": 1, "decoder_layers": 1, "dropout": 0.1}
LSTM = {"class_path": "RecurrentConfig", "init_args": {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1}}
SHORT = {"beam": 1, "max_length": 4}


def rows(corpus, kind, ending):
    splits = {split: f"{corpus}/{kind}{split}{ending}" for split in ("train", "validation", "test")}
    return {"class_path": {"": "ParallelText", "names.": "TaggedWords"}.get(kind, "Table"), "init_args": splits}


def config(corpus, trainer, model=None, data=None, callbacks=(), several=False, **others):
    """Return the settings of a run of one task, or of three: about 6 steps an epoch."""
    translation = {"class_path": "TranslationTask", "init_args": {"directions": ["en-de"]}}
    task = {"class_path": "TranslationModule", "init_args": {"directions": ["en-de"]}}
    given = rows(corpus, "", ".{lang}")
    if several:
        mood, names = {"class_path": "ClassificationTask"}, {"class_path": "TaggingTask"}
        task = {
            "class_path": "TaskModule",
            "init_args": {"tasks": {"translation": translation, "mood": mood, "names": names}},
        }
        given = {
            "translation": given,
            "mood": rows(corpus, "moods.", ".jsonl"),
            "names": rows(corpus, "names.", ".jsonl"),
        }
    shared = {
        "backbone": {"class_path": "TransformerConfig", "init_args": TRANSFORMER},
        "tokenizer": {"kind": "byte"},
        "decoding": SHORT,
        "validation_decoding": SHORT,
        "training": {"optimizer": {"class_path": "Adam", "init_args": {"lr": 0.01}}, "schedule": {"warmup": 2}},
    }
    task["init_args"] |= shared | (model or {})
    own = [{"class_path": name, "init_args": settings} for name, settings in callbacks]
    return {
        "model": task,
        "data": {"rows": given, "tokens_per_step": 300 if several else 120, "cache": f"{corpus}/cache", **(data or {})},
        "trainer": {"accelerator": "cpu", "log_every_n_steps": 1, "callbacks": own, **trainer},
        **others,
    }


def every_kind(corpus):
    """Return the settings that are tried, by name."""
    stop = ("EarlyStopping", {"monitor": "validation/score", "mode": "max", "patience": 2})
    saves = ("Checkpoints", {"monitor": "validation/score", "mode": "max", "keep_last": 3, "every_n_steps": 2})
    joint = {"joint": {"surgery": {"class_path": "PCGrad"}, "watch": True}, "schedule": {"warmup": 2}}
    lora = {"init_from": f"{corpus}/base/model", "lora": {"rank": 2}, "schedule": {"warmup": 2}}
    return {
        "steps": config(corpus, {"max_steps": 10, "val_check_interval": 3, "log_every_n_steps": 2}),
        "epochs": config(corpus, {"max_epochs": 3}),
        "accumulated": config(corpus, {"max_epochs": 2, "accumulate_grad_batches": 3, "val_check_interval": 6}),
        "across epochs": config(
            corpus, {"max_steps": 11, "val_check_interval": 4, "check_val_every_n_epoch": None}, callbacks=[saves]
        ),
        "EMA": config(corpus, {"max_steps": 9, "val_check_interval": 3}, callbacks=[("EMA", {"decay": 0.9}), saves]),
        "average": config(corpus, {"max_steps": 10, "val_check_interval": 2}, average={"of": "last", "count": 3}),
        "stopped early": config(corpus, {"max_steps": 40, "val_check_interval": 2}, callbacks=[stop]),
        "stopped early by epochs": config(corpus, {"max_epochs": 8}, callbacks=[stop]),
        "no validation": config(
            corpus, {"max_epochs": 3, "limit_val_batches": 0}, callbacks=[("Checkpoints", {"keep_last": 2})]
        ),
        "every second epoch": config(corpus, {"max_epochs": 4, "check_val_every_n_epoch": 2}),
        "workers": config(corpus, {"max_epochs": 2, "val_check_interval": 3}, data={"workers": 2}),
        "LSTM": config(corpus, {"max_epochs": 2, "val_check_interval": 3}, model={"backbone": LSTM}),
        "mixture": config(
            corpus, {"max_steps": 9, "val_check_interval": 3}, several=True, data={"mixing": {"temperature": 2}}
        ),
        "surgery": config(corpus, {"max_epochs": 2, "log_every_n_steps": 3}, several=True, model={"training": joint}),
        "LoRA": config(corpus, {"max_steps": 8, "val_check_interval": 3}, model={"training": lora}),
    }


def count_moments(at=None, number=None):
    """Count the moments of this process at which it may be stopped, and send it a signal at one of them."""
    seen = [0]

    def wrap(owner, name):
        function = getattr(owner, name)

        def wrapped(*args, **kwargs):
            seen[0] += 1
            if seen[0] == at:
                os.kill(os.getpid(), number)
            return function(*args, **kwargs)

        setattr(owner, name, wrapped)

    for owner, name in (
        (call, "_call_callback_hooks"),
        (TaskModule, "training_step"),
        (TaskModule, "validation_step"),
        (TaskModule, "test_step"),
        (TaskModule, "on_before_optimizer_step"),
        (SafeCheckpointIO, "save_checkpoint"),
        (MetricsFile, "log_metrics"),
        (torch, "save"),
        (os, "fsync"),
        (os, "replace"),
        (os, "link"),
    ):
        wrap(owner, name)
    return seen


def fit(folder, options, at=None, number=None):
    """Run `lmtasks fit` in a process of its own, forked because imports take longer; return (exit code, moments)."""
    report = folder / "moments"
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.chdir(folder)
            with (folder / "log").open("a") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # not pytest's
            for name in ("PL_GLOBAL_SEED", "LMTASKS_RUN"):
                os.environ.pop(name, None)
            seen = count_moments(at, number)
            code = main(["fit", *options])
            report.write_text(str(seen[0]))
        except SystemExit as error:
            code = error.code
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code if isinstance(code, int) else 71)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, int(report.read_text()) if code == 0 else 0


def start(folder, settings, **stop):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    return fit(folder, ["-c", "run.yaml"], **stop)


def resume(folder, **stop):
    """Resume the run, or start it again if it was stopped before its first checkpoint."""
    if last_checkpoint(folder / "runs/run").is_file():
        return fit(folder, ["-c", "runs/run", "--ckpt_path", "last"], **stop)
    shutil.rmtree(folder / "runs", ignore_errors=True)
    return fit(folder, ["-c", "run.yaml"], **stop)


def flat(value, name=""):
    """Yield (name, value) of everything in nested dicts and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else None
    if items is None:
        yield name, value.tolist() if isinstance(value, torch.Tensor) else value
    else:
        for key, inside in items:
            yield from flat(inside, f"{name}/{key}")


def everything(run):
    """Return all that a run has learned and written, without times."""
    found = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if path.suffix == ".ckpt":
            checkpoint = read_checkpoint(path)
            for key in ("loops", "epoch"):
                checkpoint.pop(key)  # Lightning's counts, which a resume sets anew
            checkpoint["lmtasks"]["story"] = {}
            found |= {f"{name}{key}": repr(value) for key, value in flat(checkpoint)}
        elif path.name == "metrics.json":
            found[name] = json.loads(path.read_text())
            found[name]["story"] = {**found[name]["story"], "seconds": 0, "memory": 0}
        elif path.is_file() and "tfevents" not in name and path.name not in ("README.md", ".lock"):
            found[name] = path.read_bytes()
    return found


def differences(run, expected):
    found = everything(run)
    return [
        f"{name}: {str(expected.get(name))[:300]} != {str(found.get(name))[:300]}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    ]


class Straight:
    """The uninterrupted runs, made once each."""

    def __init__(self, folder):
        self.folder = folder
        self.corpus = write_tasks(folder / "corpus")
        # in this process: the others are forked from it and find everything imported
        base = config(self.corpus, {"max_steps": 2, "val_check_interval": 1, "default_root_dir": str(folder)})
        (folder / "base.yaml").write_text(yaml.safe_dump(base, sort_keys=False))
        assert main(["fit", "-c", str(folder / "base.yaml")]) == 0
        os.environ.pop("LMTASKS_RUN")
        shutil.copytree(folder / "base", self.corpus / "base")
        self.settings = every_kind(self.corpus)
        self.made = {}

    def of(self, kind):
        """Return the moments of the uninterrupted run, and everything that it made."""
        if kind not in self.made:
            folder = self.folder / kind
            code, moments = start(folder, self.settings[kind])
            assert code == 0, (folder / "log").read_text()
            self.made[kind] = moments, everything(folder / "runs/run")
        return self.made[kind]

    def stopped(self, folder, kind, stops):
        """Stop a run at each of `stops`, (moment, signal), resume it to its end, and return what differs."""
        (at, number), *later = stops
        start(folder, self.settings[kind], at=at, number=number)
        for at, number in later:
            resume(folder, at=at, number=number)
        code, _ = resume(folder)
        log = (folder / "log").read_text()
        return [f"exit {code}: {log[-3000:]}"] if code else differences(folder / "runs/run", self.of(kind)[1])


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    return Straight(tmp_path_factory.mktemp("straight"))


@pytest.mark.slow
@pytest.mark.parametrize("case", range(100))
def test_a_run_that_is_stopped_anywhere_ends_as_the_run_that_was_not(tmp_path, straight, case):
    draw = random.Random(case)
    kind = list(straight.settings)[case % len(straight.settings)]
    moments, _ = straight.of(kind)
    times = draw.choice((1, 1, 2, 3))
    stops = [(draw.randint(1, max(1, moments // time)), draw.choice(SIGNALS)) for time in range(1, times + 1)]
    assert straight.stopped(tmp_path, kind, stops) == [], (kind, stops)
