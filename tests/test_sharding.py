"""FSDP2 on two processes of a CPU: the numbers of ddp, and checkpoints that any other command reads."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import several_module, tiny_module
from torch import nn

import lmtasks
from lmtasks.errors import InputError
from lmtasks.storage.checkpoint import last_checkpoint, read_checkpoint
from lmtasks.training import hardware
from lmtasks.training.callbacks.averaging import EMA
from lmtasks.training.checks import check_sharding, check_trainer
from lmtasks.training.optim.optimizers import Muon
from lmtasks.training.sharding import sharding, shards

SIZES = "{d_model: 16, n_heads: 2, d_ff: 16, encoder_layers: 1, decoder_layers: LAYERS, dropout: 0.0}"
CONFIG = """# lmtasks fit -c a.yaml
model:
  class_path: MODULE
  init_args:
    backbone: {class_path: TransformerConfig, init_args: SIZES}
    tokenizer: {vocab_size: 300}
data:
  rows: {class_path: Village, init_args: {train: 80, validation: 6, test: 6}}
  tokens_per_step: 256
  cache: cache
trainer: {max_steps: 4, val_check_interval: 2, check_val_every_n_epoch: null, log_every_n_steps: 1, accelerator: cpu,
  devices: 2, gradient_clip_val: 0.5}
"""
TRANSLATES = (
    "TranslationModule\n  init_args:\n    directions: [en-fr]\n    validation_decoding: {beam: 1, max_length: 4}"
)
KINDS = {
    "writes": (TRANSLATES, "1", "model.decoding.max_length=5"),
    "labels": ("ClassificationModule\n  init_args:", "0", "data.tokens_per_batch=512"),
}


def typed(folder, *arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-m", "lmtasks", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def numbers(run):
    with (run / "metrics.csv").open(newline="") as lines:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(lines)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_training_in_parts_has_the_numbers_of_a_whole_one_and_goes_on(tmp_path, kind):
    module, layers, option = KINDS[kind]
    text = CONFIG.replace("SIZES", SIZES.replace("LAYERS", layers)).replace("MODULE\n  init_args:", module)
    (tmp_path / "a.yaml").write_text(text)
    fit = ("fit", "-c", "a.yaml", f"--{option}")
    runs = {name: tmp_path / "runs" / name for name in ("ddp", "fsdp2")}
    for name in runs:
        typed(tmp_path, *fit, "--name", name, "--trainer.strategy", name)
    whole, parts = map(numbers, runs.values())
    assert len(whole) == len(parts) > 4
    for one, other in zip(whole, parts, strict=True):
        assert other == pytest.approx(one, rel=1e-4, abs=1e-5)
    one, other = (lmtasks.load(run).weights() for run in runs.values())
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=0, atol=1e-5)
    lmtasks.load(last_checkpoint(runs["fsdp2"]))  # the checkpoint alone has all too
    for name, run in runs.items():  # each goes on from a checkpoint of the other
        more = ("--ckpt_path", str(last_checkpoint(runs["ddp" if name == "fsdp2" else "fsdp2"])))
        typed(tmp_path, "fit", "-c", str(run), *more, "--trainer.max_steps", "6", "--trainer.default_root_dir", "more")
    one, other = (read_checkpoint(tmp_path / "more" / name / "checkpoints/last.ckpt") for name in runs)
    for name, tensor in one["state_dict"].items():
        torch.testing.assert_close(other["state_dict"][name], tensor, rtol=0, atol=1e-5)


def test_what_needs_whole_tensors_is_refused():
    trainer = SimpleNamespace(strategy=sharding(2), callbacks=[])
    check_trainer(SimpleNamespace(strategy=sharding(2), overfit_batches=0, limit_train_batches=1.0), "fit")
    check_sharding(trainer, tiny_module())
    with pytest.raises(InputError, match="fsdp2 does not train with several tasks; use ddp"):
        check_sharding(trainer, several_module())
    with pytest.raises(InputError, match="fsdp2 does not train with the optimiser Muon; use ddp"):
        check_sharding(trainer, tiny_module(optimizer=Muon()))
    trainer.callbacks = [EMA()]
    with pytest.raises(InputError, match=r"fsdp2 does not train with averages of weights \(EMA\); use ddp"):
        check_sharding(trainer, tiny_module())
    check_sharding(SimpleNamespace(strategy=None, callbacks=[EMA()]), several_module())


def test_the_strategy_has_a_short_name():
    settings = SimpleNamespace(strategy="fsdp2", devices=3, num_nodes=2, accelerator="cpu")
    chosen = hardware.strategy(settings, [])
    assert shards(chosen)
    assert chosen._data_parallel_size == 6
    assert not shards(nn.Identity())
