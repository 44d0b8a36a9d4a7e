"""SIGTERM and SIGINT, sent to real processes in the middle of training."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from lmtasks.storage.checkpoint import last_checkpoint, read_checkpoint
from lmtasks.training.callbacks.averaging import EMA
from lmtasks.training.callbacks.checkpoints import Checkpoints, SafeCheckpointIO
from lmtasks.training.callbacks.randomness import RandomState
from lmtasks.training.callbacks.signals import StopOnSignal

PATIENCE = 60  # seconds until a test gives up
# Forked from a process that has used no OpenMP threads, which would not be there in the child; imports are paid once.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["lightning.pytorch"]
)  # and not this file: the server has not our sys.path before 3.13


class Endless(LightningModule):
    """Training without an end that says in files how far it is."""

    def __init__(self, folder, validate_seconds=0.0, save_seconds=0.0):
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)
        self.folder, self.validate_seconds, self.save_seconds = folder, validate_seconds, save_seconds

    def training_step(self, batch, batch_idx):
        return self.layer(batch).square().mean()

    def validation_step(self, batch, batch_idx):
        if self.validate_seconds and not self.trainer.sanity_checking:
            (self.folder / "validating").touch()
            time.sleep(self.validate_seconds)

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if self.global_step >= 3:
            (self.folder / f"ready{self.global_rank}").write_text(str(os.getpid()))
        time.sleep(0.01)

    def on_save_checkpoint(self, checkpoint):
        (self.folder / "saves").open("a").write("x")
        time.sleep(self.save_seconds)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self):
        return DataLoader(torch.ones(100_000, 4), batch_size=1)

    def val_dataloader(self):
        return DataLoader(torch.ones(2, 4), batch_size=1)


def train(folder, settings, model):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    callbacks = [StopOnSignal(), RandomState(), EMA(), Checkpoints()]
    trainer = Trainer(
        default_root_dir=folder, callbacks=callbacks, plugins=[SafeCheckpointIO()], max_epochs=-1, **quiet, **settings
    )
    trainer.fit(Endless(folder, **model))


def start(folder, settings=None, **model):
    process = PROCESSES.Process(target=train, args=(folder, settings or {}, model))
    process.start()
    return process


def wait_for(path):
    end = time.monotonic() + PATIENCE
    while not path.exists() or (path.name.startswith("ready") and not path.read_text()):
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.01)


def is_running(pid):
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().split()[2] != "Z"


def exit_code(process):
    process.join(PATIENCE)
    return process.exitcode


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize(
    "settings", [{}, {"min_steps": 10**6}, {"limit_val_batches": 0}, {"accumulate_grad_batches": 3}]
)
def test_a_signal_saves_once_and_leaves_with_its_code(tmp_path, number, code, settings):
    process = start(tmp_path, settings)
    wait_for(tmp_path / "ready0")
    os.kill(process.pid, number)
    assert exit_code(process) == code
    checkpoint = read_checkpoint(last_checkpoint(tmp_path))
    assert checkpoint["global_step"] >= 3
    assert checkpoint["callbacks"]["EMA"]["updates"] == checkpoint["global_step"]  # all callbacks saw the last step
    assert (tmp_path / "saves").read_text() == "x"
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]


def test_a_signal_during_validation_waits_for_its_end(tmp_path):
    process = start(tmp_path, {"val_check_interval": 5}, validate_seconds=0.1)
    wait_for(tmp_path / "validating")
    os.kill(process.pid, signal.SIGTERM)
    assert exit_code(process) == 143
    assert read_checkpoint(last_checkpoint(tmp_path))["global_step"] == 5


def test_a_signal_during_the_last_validation_counts_too(tmp_path):
    process = start(tmp_path, {"val_check_interval": 4, "max_steps": 4}, validate_seconds=0.1)
    wait_for(tmp_path / "validating")
    os.kill(process.pid, signal.SIGTERM)
    assert exit_code(process) == 143
    assert read_checkpoint(last_checkpoint(tmp_path))["global_step"] == 4


def test_a_second_interrupt_ends_at_once(tmp_path):
    process = start(tmp_path, save_seconds=PATIENCE)
    wait_for(tmp_path / "ready0")
    os.kill(process.pid, signal.SIGINT)
    wait_for(tmp_path / "saves")
    time.sleep(1.1)
    os.kill(process.pid, signal.SIGINT)
    before = time.monotonic()
    assert exit_code(process) == 130
    assert time.monotonic() - before < PATIENCE / 4


def test_an_interrupt_that_arrives_twice_at_once_is_one(tmp_path):
    process = start(tmp_path, save_seconds=0.3)
    wait_for(tmp_path / "ready0")
    os.kill(process.pid, signal.SIGINT)
    wait_for(tmp_path / "saves")
    os.kill(process.pid, signal.SIGINT)
    assert exit_code(process) == 130
    assert last_checkpoint(tmp_path).exists()


def test_the_handlers_of_before_are_back_after_training(tmp_path):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    train(tmp_path, {"max_steps": 1}, {})
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_of_two_processes_stops_both(tmp_path, number, code, rank):
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path; from test_signals import train\n"
        "train(Path(__file__).parent, {'strategy': 'ddp', 'devices': 2}, {'save_seconds': 0.1})\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
    process = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE, text=True, env=environment)
    try:
        for each in (0, 1):
            wait_for(tmp_path / f"ready{each}")
        pids = [int((tmp_path / f"ready{each}").read_text()) for each in (0, 1)]
        os.kill(pids[rank], number)
        _, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == code, errors
    checkpoint = read_checkpoint(last_checkpoint(tmp_path))
    assert checkpoint["global_step"] >= 3
    assert len(checkpoint["random_state"]) == 2
    assert (tmp_path / "saves").read_text() == "xx"  # one save, in which both take part
    end = time.monotonic() + PATIENCE
    while is_running(pids[1]) and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_running(pids[1])
