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
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.trainer import call
from tiny import fit as tiny_fit, write_tasks

from lmtasks.cli.main import main
from lmtasks.errors import InputError
from lmtasks.storage import CHECKSUMS
from lmtasks.storage.checkpoint import last_checkpoint, read_checkpoint
from lmtasks.storage.run_folder import lock
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


def fit_here(folder, options, at, number):
    os.chdir(folder)
    for name in ("PL_GLOBAL_SEED", "LMTASKS_RUN"):  # what Lightning and a run leave to their children
        os.environ.pop(name, None)
    seen = count_moments(at, number)
    code = main(["fit", *options])
    (folder / "moments").write_text(str(seen[0]))
    sys.stderr.flush()
    return code


def fit(folder, options, at=None, number=None):
    """Run `lmtasks fit` in a process of its own, forked because imports take longer; return (exit code, moments)."""
    child = os.fork()
    if child == 0:
        with (folder / "log").open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            sys.stdout = sys.stderr = log  # not pytest's
            try:
                os._exit(fit_here(folder, options, at, number))
            except SystemExit as error:
                os._exit(error.code)
            except BaseException:
                traceback.print_exc()
                log.flush()
                os._exit(70)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, int((folder / "moments").read_text()) if code == 0 else 0


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
        elif path.name == CHECKSUMS:  # metrics.json has the time that a run took
            found[name] = [line for line in path.read_text().splitlines() if not line.endswith("metrics.json")]
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


FIXED = {  # a kind of run, and where it is stopped: (a share of its moments, signal)
    "at the end of each epoch": ("epochs", [(0.34, signal.SIGTERM), (0.5, signal.SIGTERM)]),
    "in the first step after a resume": ("EMA", [(0.5, signal.SIGKILL), (0.02, signal.SIGTERM)]),
    "after early stopping": ("stopped early", [(0.97, signal.SIGKILL)]),
    "in the middle of a mixture": ("mixture", [(0.6, signal.SIGINT)]),
}


@pytest.mark.parametrize("case", FIXED)
def test_a_run_that_is_stopped_and_resumed_ends_as_the_run_that_was_not(tmp_path, straight, case):
    kind, stops = FIXED[case]
    moments, _ = straight.of(kind)
    assert straight.stopped(tmp_path, kind, [(int(share * moments), number) for share, number in stops]) == []


def stopped_by(folder, settings, hook, step, number, again=False):
    """Start or resume a run, and send it a signal in a hook of its callbacks after a step; return the exit code."""
    seen = call._call_callback_hooks

    def hooked(trainer, name, *args, **kwargs):
        if name == hook and trainer.global_step == step:
            os.kill(os.getpid(), number)
        return seen(trainer, name, *args, **kwargs)

    call._call_callback_hooks = hooked
    try:
        return (resume(folder) if again else start(folder, settings))[0]
    finally:
        call._call_callback_hooks = seen


ENDS = [
    ("on_train_batch_end", signal.SIGTERM),
    ("on_validation_start", signal.SIGKILL),
    ("on_validation_end", signal.SIGINT),
    ("on_train_epoch_end", signal.SIGTERM),
]


@pytest.mark.parametrize(("hook", "number"), ENDS)
def test_two_stops_at_ends_of_epochs_add_no_epoch_and_lose_no_validation(tmp_path, straight, hook, number):
    expected = straight.of("epochs")[1]
    steps = int(expected["checkpoints/last.ckpt/global_step"])
    wanted = -number if number == signal.SIGKILL else 128 + number
    settings = straight.settings["epochs"]
    assert stopped_by(tmp_path, settings, hook, steps // 3, number) == wanted
    if last_checkpoint(tmp_path / "runs/run").is_file():
        assert stopped_by(tmp_path, settings, hook, 2 * steps // 3, number, again=True) == wanted
    assert resume(tmp_path)[0] == 0
    assert differences(tmp_path / "runs/run", expected) == []


def bytes_of(run):
    return {
        path.relative_to(run): path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"
    }


@pytest.fixture
def stopped(tmp_path, straight):
    """A folder with a run that was stopped on its way."""
    moments, _ = straight.of("steps")
    start(tmp_path, straight.settings["steps"], at=int(0.6 * moments), number=signal.SIGTERM)
    return tmp_path


@pytest.mark.parametrize(("change", "named"), [("copied", True), ("copied", False), ("moved", False)])
def test_a_run_goes_on_where_its_folder_is(stopped, straight, change, named):
    original, copy = stopped / "runs/run", stopped / "elsewhere/copy"
    shutil.copytree(original, copy)
    if named:  # as configs of earlier versions were
        saved = yaml.safe_load((copy / "config.yaml").read_text())
        saved["name"], saved["trainer"]["default_root_dir"] = "run", str(stopped / "runs")
        (copy / "config.yaml").write_text(yaml.safe_dump(saved, sort_keys=False))
    if change == "moved":
        shutil.rmtree(original)
    before = bytes_of(original)
    assert fit(stopped, ["-c", "elsewhere/copy", "--ckpt_path", "last"])[0] == 0
    assert bytes_of(original) == before
    assert [line for line in differences(copy, straight.of("steps")[1]) if not line.startswith("config.yaml")] == []


@pytest.mark.parametrize(
    "options",
    [
        ["--data.tokens_per_step", "60"],
        ["--model.training.schedule.warmup", "5"],
        ["--trainer.callbacks", "[{class_path: EarlyStopping, init_args: {monitor: nothing}}]"],
    ],
)
def test_a_resume_that_is_refused_changes_no_byte(stopped, straight, options):
    before = bytes_of(stopped / "runs/run")
    assert fit(stopped, ["-c", "runs/run", "--ckpt_path", "last", *options])[0] == 2
    assert bytes_of(stopped / "runs/run") == before
    assert resume(stopped)[0] == 0
    assert differences(stopped / "runs/run", straight.of("steps")[1]) == []


def test_a_run_has_one_process_and_a_kill_leaves_it_free(stopped):
    run = stopped / "runs/run"
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        lock(run)
        os.write(writing, b"x")
        signal.pause()
    os.read(reading, 1)
    before = bytes_of(run)
    assert fit(stopped, ["-c", "runs/run", "--ckpt_path", "last"])[0] == 2
    assert f"process {child} on" in (stopped / "log").read_text()
    assert bytes_of(run) == before
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert resume(stopped)[0] == 0


WATCHING = {
    "val_loss": "EarlyStopping watches val_loss, which is not logged; ",
    "validation/translation/blue": "did you mean validation/translation/bleu?",
    "validation/french/bleu": "which is not logged",
}


@pytest.mark.parametrize("monitor", WATCHING)
def test_a_metric_that_will_not_exist_is_refused_before_the_first_step(tmp_path, straight, monitor):
    stop = ("EarlyStopping", {"monitor": monitor})
    assert start(tmp_path, config(straight.corpus, {"max_steps": 2}, callbacks=[stop]))[0] == 2
    assert WATCHING[monitor] in (tmp_path / "log").read_text()
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("callback", ["EarlyStopping", "Checkpoints"])
@pytest.mark.parametrize("without", ["rows", "batches"])
def test_a_metric_of_no_validation_is_refused_before_the_first_step(tmp_path, straight, callback, without):
    watching = (callback, {"monitor": "validation/score", "mode": "max"})
    settings = config(straight.corpus, {"max_steps": 2}, callbacks=[watching])
    if without == "rows":
        settings["data"]["rows"]["init_args"]["validation"] = None
    else:
        settings["trainer"]["limit_val_batches"] = 0
    assert start(tmp_path, settings)[0] == 2
    assert f"{callback} watches validation/score, but there is no validation;" in (tmp_path / "log").read_text()


def test_early_stopping_says_that_it_stopped_and_why(corpus, caplog):
    stop = EarlyStopping("validation/score", mode="max", patience=1, min_delta=100.0)
    with caplog.at_level("INFO", "lmtasks"):
        tiny_fit(corpus, max_steps=9, limit_val_batches=1.0, val_check_interval=2, callbacks=[stop])
    (line,) = (line for line in caplog.messages if line.startswith("early stopping at step 4: "))
    assert "validation/score did not improve in the last 1 records" in line


@pytest.mark.parametrize("split", ["validation", "test"])
def test_fewer_rows_than_processes_are_refused_before_the_first_step(corpus, monkeypatch, split):
    for language in ("en", "de"):
        (corpus / f"{split}.{language}").write_text("a b c\n")
    monkeypatch.setattr(Trainer, "world_size", 2)
    with pytest.raises(InputError, match="1 rows with text and label for 2 processes; give more"):
        tiny_fit(corpus)
