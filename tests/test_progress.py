"""The progress line and the score tables, seen through a tiny training run."""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from lmtasks.batch import IGNORE, Batch
from lmtasks.reports import tables as scores
from lmtasks.reports.tables import score_table
from lmtasks.training.callbacks import progress
from lmtasks.training.callbacks.progress import Progress

TARGETS = 3  # real targets of a batch; a fourth is padding


class Tiny(LightningModule):
    """A module with one parameter, which logs as the library's module does."""

    def __init__(self, tasks=("fr",)):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.tasks = {task: SimpleNamespace(main_metric="bleu") for task in tasks}
        self.mixture = None

    def training_step(self, batch, batch_idx):
        self.log(f"train/{batch[0].task}/loss", 2.5, batch_size=1)
        return self.weight.sum()

    def validation_step(self, batch, batch_idx):
        for task in self.tasks:
            self.log_dict({f"validation/{task}/bleu": 31.2, f"validation/{task}/accuracy": 0.5}, batch_size=1)
        self.log("validation/score", 31.2, batch_size=1)

    test_step = predict_step = lambda self, batch, batch_idx: None

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def batches(count, tasks=("fr",)):
    target = torch.tensor([[5, 6, 7, IGNORE]])
    each = [Batch(task, target, target != IGNORE, target, torch.tensor([0])) for task in tasks]
    return DataLoader([[each[i % len(each)]] for i in range(count)], batch_size=None)


def trainer(callback, **settings):
    settings = {"limit_val_batches": 2, "max_epochs": -1, "num_sanity_val_steps": 1, **settings}
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    return Trainer(accelerator="cpu", devices=1, callbacks=[callback], **quiet, **settings)


def fit(callback, module=None, **settings):
    runner = trainer(callback, **settings)
    module = module or Tiny()
    runner.fit(module, batches(12, tuple(module.tasks)), batches(2))
    return runner


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(progress, "_on_terminal", lambda: True)
    monkeypatch.setattr(progress, "REFRESH", -1.0)


@pytest.fixture
def timed(monkeypatch):
    """A module whose training steps take 1 s and validation steps 50 s, by a clock that stands still between them."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "monotonic", lambda: clock.now)

    class Timed(Tiny):
        def training_step(self, batch, batch_idx):
            clock.now += 1.0
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch, batch_idx):
            clock.now += 50.0

    return Timed()


def lines(capsys, start="step"):
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith(start)]


def test_a_log_gets_a_plain_line_every_so_many_steps_and_one_at_the_end(capsys):
    fit(Progress(every=4), max_steps=10, limit_val_batches=0)
    found = lines(capsys)
    assert [line.split()[1] for line in found] == ["4/10", "8/10", "10/10"]
    for line in found:
        assert re.fullmatch(r"step \d+/10  loss 2\.500  [\d,]+ tokens/s  \d+ s left", line)


def test_speed_leaves_out_padding_and_validation_and_time_left_counts_validation(capsys, timed):
    fit(Progress(every=4), timed, max_steps=12, val_check_interval=4, num_sanity_val_steps=0)
    found = [line for line in lines(capsys) if "tokens/s" in line]
    assert [re.search(r"([\d,]+) tokens/s", line)[1] for line in found] == [str(TARGETS)] * 3
    # 8 of 12 steps took 8 s of training and one validation of 100 s
    assert f"{(8 + 100) / 8 * 4:.0f} s left" in found[1]


def test_steps_are_optimiser_steps_and_not_micro_batches(capsys):
    module = Tiny()
    module.mixture = SimpleNamespace(steps_per_epoch=3)  # of 12 micro-batches
    fit(Progress(every=1), module, max_epochs=2, accumulate_grad_batches=5, limit_val_batches=0)
    assert [line.split()[1] for line in lines(capsys)] == [f"{step}/6" for step in range(1, 7)]


def test_validation_scores_come_in_one_line_and_not_in_the_sanity_check(capsys):
    fit(Progress(), max_steps=12, val_check_interval=6)
    found = [line for line in lines(capsys) if "validation" in line]
    assert found == [f"step {step:>2}  validation  fr  bleu   31.20  accuracy  0.5000" for step in (6, 12)]


def test_several_tasks_have_their_own_losses_and_scores(capsys):
    fit(Progress(every=12), Tiny(("fr", "qa")), max_steps=12)
    training, validation = lines(capsys)
    assert "  fr 2.500  qa 2.500  " in training
    assert validation.endswith("validation  fr  bleu   31.20 | qa  bleu   31.20 | score   31.20")


def test_a_terminal_has_one_line_that_is_rewritten(capsys, terminal):
    fit(Progress(), max_steps=3, limit_val_batches=0)
    pictures = capsys.readouterr().err.split(progress.CLEAR)[1:]
    assert [picture.split()[1] for picture in pictures] == ["1/3", "2/3", "3/3"]
    assert [picture.count("\n") for picture in pictures] == [0, 0, 1]


def test_test_and_predict_show_batches_on_a_terminal_and_clean_up(capsys, terminal):
    runner = trainer(Progress())
    runner.test(Tiny(), batches(2), verbose=False)
    runner.predict(Tiny(), batches(3))
    text = capsys.readouterr().err
    assert f"test  batch 2/2{progress.CLEAR}" in text
    assert f"predict  batch 3/3{progress.CLEAR}" in text


def test_the_module_prints_to_stdout_beside_the_line(capsys, terminal):
    class Talking(Tiny):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            self.print("hello")

    fit(Progress(), Talking(), max_steps=2, limit_val_batches=0)
    found = capsys.readouterr()
    assert found.out.count("hello\n") == 2
    assert f"left{progress.CLEAR}" in found.err


def test_no_other_process_prints(capsys):
    bar = Progress(every=1)
    other = SimpleNamespace(is_global_zero=False, global_step=0, sanity_checking=False, max_steps=4, max_epochs=-1)
    bar.setup(other, None, "fit")
    bar.on_train_start(other, Tiny())
    other.global_step = 1
    bar.on_train_batch_end(other, None, None, None, 0)
    assert capsys.readouterr().err == ""


def test_after_a_resume_the_time_left_follows_from_the_steps_of_this_run(capsys, timed):
    runner = trainer(Progress(every=1), max_steps=4, limit_val_batches=0)
    runner.fit(timed, batches(12), batches(2))
    runner.fit_loop.epoch_loop.max_steps = 8
    runner.fit(timed, batches(12), batches(2))
    assert [line.split("  ")[-1] for line in lines(capsys)] == [f"{left} s left" for left in (3, 2, 1, 0) * 2]


@pytest.mark.slow
def test_two_processes_print_once(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(
        "from test_progress import *\n"
        "if __name__ == '__main__':\n"
        "    Trainer(accelerator='cpu', devices=2, strategy='ddp', callbacks=[Progress(every=2)], logger=False,\n"
        "            enable_checkpointing=False, max_steps=4, max_epochs=-1, val_check_interval=2,\n"
        "            limit_val_batches=1, num_sanity_val_steps=0).fit(Tiny(), batches(12), batches(2))\n"
    )
    tests = Path(__file__).parent
    path = {**os.environ, "PYTHONPATH": f"{tests}:{tests.parent}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=path, timeout=120, check=True)
    steps = [line for line in done.stderr.splitlines() if line.startswith("step")]
    assert [("validation" in line, line.split()[1]) for line in steps] == [
        (False, "2/4"),
        (True, "2"),
        (False, "4/4"),
        (True, "4"),
    ]


def test_a_table_of_several_splits_names_them():
    table = score_table({"validation/fr/bleu": 30.0, "test/fr/bleu": torch.tensor(20.0), "epoch": 3, "lr/adam": 1.0})
    assert [line.split() for line in table.splitlines()] == [
        ["split/task", "bleu"],
        ["validation/fr", "30.00"],
        ["test/fr", "20.00"],
    ]
    assert len({len(line) for line in table.splitlines()}) == 1


def test_tasks_with_different_scores_have_a_line_each_with_the_main_one_first_and_the_common_ones_aligned():
    qa = {"loss": 0.5, "exact": 30.0, "f1": 36.5} | {f"{kind}_{n}": n for kind in ("has", "no") for n in range(10, 20)}
    given = {f"test/qa/{name}": value for name, value in qa.items()}
    given |= {"test/fr/loss": 1.25, "test/fr/perplexity": 3.5, "test/fr/bleu": 5.0, "test/score": 20.75, "epoch": 3}
    lines = score_table(given, {"fr": "bleu", "qa": "f1"}).splitlines()
    assert lines[0].split() == ["test", "main", "loss", "others"]
    assert lines[1].split()[:6] == ["qa", "f1", "36.50", "0.5000", "exact", "30.00"]
    (fr,) = [line for line in lines if line.startswith("fr")]
    assert fr.split() == ["fr", "bleu", "5.0000", "1.2500", "perplexity", "3.5000"]
    assert lines[-1].split() == ["score", "mean", "20.75"]
    start = lines[0].index("others")
    assert max(map(len, lines)) <= scores.WIDEST
    assert fr.index("perplexity") == start
    assert lines[2].index(lines[2].strip()) == start  # the scores of qa go on there
    assert sorted(" ".join([lines[1][start:], *(line.strip() for line in lines[2:-2])]).split()[::2]) == sorted(
        {*qa} - {"f1", "loss"}
    )


def test_without_main_metrics_the_first_of_a_task_comes_first():
    lines = score_table({"test/fr/bleu": 20.0, "validation/mood/accuracy": 30.0, "validation/score": 30.0}).splitlines()
    assert [line.split() for line in lines] == [
        ["split/task", "main", "others"],
        ["test/fr", "bleu", "20.00"],
        ["validation/mood", "accuracy", "30.00"],
        ["validation/score", "mean", "30.00"],
    ]


def test_tasks_with_the_same_scores_have_their_mean_in_the_column_of_the_main_one():
    given = {f"test/{task}/{name}": value for task in "ab" for name, value in (("loss", 0.5), ("f1", 30.0))}
    given |= {"test/score": 30.0}
    lines = score_table(given, {"a": "f1", "b": "f1"}).splitlines()
    assert lines[-1].split() == ["score", "30.00"]
    assert lines[-1].index("30.00") == lines[1].index("30.00")
    several = score_table(given, {"a": "f1", "b": "loss"}).splitlines()
    assert several[-1].split() == ["score", "mean", "30.00"]
    assert "score" not in score_table({"test/a/f1": 30.0, "validation/a/f1": 31.0, "test/score": 30.0}, {"a": "f1"})


def test_a_table_of_nothing_is_empty():
    assert score_table({"epoch": 1.0}) == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.4, "4 s"), (61, "1 min"), (3240, "54 min"), (3599, "1 h 0 min"), (90_000, "25 h 0 min")]
)
def test_durations_are_short(seconds, text):
    assert progress._duration(seconds) == text


def test_the_examples_in_the_docstrings_run():
    result = doctest.testmod(scores)
    assert result.attempted > 0
    assert result.failed == 0
