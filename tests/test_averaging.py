"""Averages of weights: against numpy, and against the recursion written out."""

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from lmtasks.errors import InputError
from lmtasks.storage.checkpoint import last_checkpoint, read_checkpoint
from lmtasks.training.callbacks.averaging import EMA, CheckpointAverage, average_checkpoints
from lmtasks.training.callbacks.checkpoints import Checkpoints, SafeCheckpointIO


class Tied(LightningModule):
    """Two layers that share one weight, and a record of the weights after each optimiser step and in validation."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Linear(3, 3, bias=False)
        self.output = torch.nn.Linear(3, 3)
        self.output.weight = self.embedding.weight
        self.register_buffer("count", torch.tensor(7))
        self.after_steps, self.in_validation = [], []

    def training_step(self, batch, batch_idx):
        return self.output(self.embedding(batch)).square().mean()

    def validation_step(self, batch, batch_idx):
        self.in_validation.append(self.embedding.weight.detach().clone())

    def on_before_zero_grad(self, optimizer):
        self.after_steps.append(self.embedding.weight.detach().clone())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.1)

    def train_dataloader(self):
        rows = torch.randn(40, 1, 3, generator=torch.Generator().manual_seed(1))
        return DataLoader(rows[self.trainer.global_step * self.trainer.accumulate_grad_batches :], batch_size=None)

    def val_dataloader(self):
        return DataLoader(torch.ones(1, 1, 3), batch_size=None)


def fit(folder, module, *callbacks, path=None, **settings):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    settings = {"max_epochs": -1, "num_sanity_val_steps": 0, **quiet, **settings}
    trainer = Trainer(default_root_dir=folder, callbacks=list(callbacks), plugins=[SafeCheckpointIO()], **settings)
    trainer.fit(module, ckpt_path=path)
    return module


def recursion(start, weights, decay):
    average = start.double()
    for number, weight in enumerate(weights):
        d = min(decay, (1 + number) / (10 + number))
        average = d * average + (1 - d) * weight.double()
    return average.float()


def write(path, **tensors):
    SafeCheckpointIO().save_checkpoint({"state_dict": tensors}, path)
    return path


def test_the_mean_of_checkpoints_is_that_of_numpy(tmp_path):
    random = np.random.default_rng(0)
    arrays = random.normal(size=(5, 3, 4)).astype(np.float32)
    paths = [
        write(
            tmp_path / f"{n}.ckpt",
            weight=torch.from_numpy(array),
            half=torch.tensor(float(n)).half(),
            step=torch.tensor(n),
        )
        for n, array in enumerate(arrays)
    ]
    mean = average_checkpoints(paths)
    np.testing.assert_array_equal(mean["weight"].numpy(), arrays.astype(np.float64).mean(axis=0).astype(np.float32))
    assert mean["half"].dtype == torch.float16
    assert mean["half"] == np.mean(range(5))
    assert mean["step"] == 4


def test_the_mean_of_one_checkpoint_is_itself(tmp_path):
    weight = torch.randn(9, generator=torch.Generator().manual_seed(0))
    assert torch.equal(average_checkpoints([write(tmp_path / "a.ckpt", weight=weight)])["weight"], weight)


def test_checkpoints_of_different_models_are_refused(tmp_path):
    first = write(tmp_path / "a.ckpt", weight=torch.ones(2))
    wider = write(tmp_path / "b.ckpt", weight=torch.ones(3))
    other = write(tmp_path / "c.ckpt", bias=torch.ones(2))
    with pytest.raises(
        InputError, match=r"b\.ckpt: is of another model than .*a\.ckpt: weight is \(3,\), expected \(2,\)"
    ):
        average_checkpoints([first, wider])
    with pytest.raises(InputError, match=r"c\.ckpt: .*bias is \(2,\), expected missing"):
        average_checkpoints([first, other])
    with pytest.raises(InputError, match="no checkpoints to average"):
        average_checkpoints([])


def test_the_average_of_a_run_is_that_of_its_last_checkpoints(tmp_path):
    checkpoints = Checkpoints(keep_last=3, every_n_steps=2)
    module = fit(tmp_path, Tied(), checkpoints, max_steps=10, limit_val_batches=0)
    average = CheckpointAverage(count=3).weights(checkpoints)
    weights = [read_checkpoint(tmp_path / "checkpoints" / f"step={n}.ckpt")["state_dict"] for n in (6, 8, 10)]
    expected = torch.stack([each["output.bias"].double() for each in weights]).mean(0).float()
    assert torch.equal(average["output.bias"], expected)
    module.load_state_dict(average)
    assert torch.equal(module.output.bias, expected)


def test_more_checkpoints_than_are_kept_cannot_be_averaged():
    with pytest.raises(InputError, match="set keep_last=10 there instead of 0"):
        CheckpointAverage().paths(Checkpoints())
    with pytest.raises(InputError, match="set best=5 there instead of 2"):
        CheckpointAverage(of="best", count=5).paths(Checkpoints("loss", best=2))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_ema_is_the_recursion_over_optimiser_steps(tmp_path, accumulate):
    module = Tied()
    start = module.embedding.weight.detach().clone()
    fit(
        tmp_path, module, EMA(0.5), Checkpoints(), max_steps=8, accumulate_grad_batches=accumulate, val_check_interval=4
    )
    weights = module.after_steps[1:]  # zero_grad comes before each step, so the first is the start
    trained = read_checkpoint(last_checkpoint(tmp_path))["trained_weights"]["embedding.weight"]
    expected = recursion(start, [*weights, trained], 0.5)
    assert len(weights) == 7
    torch.testing.assert_close(module.embedding.weight.detach(), expected)


def test_ema_is_validated_and_saved_and_training_does_not_feel_it(tmp_path):
    with_ema = fit(tmp_path, Tied(), EMA(0.9), Checkpoints(), max_steps=6, val_check_interval=6)
    without = fit(tmp_path / "without", Tied(), Checkpoints(), max_steps=6, val_check_interval=6)
    checkpoint = read_checkpoint(last_checkpoint(tmp_path))
    average = with_ema.embedding.weight
    assert torch.equal(with_ema.in_validation[-1], average)
    assert torch.equal(checkpoint["state_dict"]["embedding.weight"], average)
    assert torch.equal(checkpoint["state_dict"]["output.weight"], average)  # the tied name too
    assert torch.equal(checkpoint["trained_weights"]["embedding.weight"], without.embedding.weight)
    assert not torch.equal(average, without.embedding.weight)
    assert checkpoint["state_dict"]["count"] == 7


@pytest.mark.parametrize("stop", [3, 4])
def test_ema_goes_on_exactly_after_a_resume(tmp_path, stop):
    straight = fit(tmp_path / "a", Tied(), EMA(), Checkpoints(), max_steps=8, val_check_interval=4)
    fit(tmp_path / "b", Tied(), EMA(), Checkpoints(), max_steps=stop, val_check_interval=4)
    path = last_checkpoint(tmp_path / "b")
    resumed = fit(tmp_path / "b", Tied(), EMA(), Checkpoints(), path=path, max_steps=8, val_check_interval=4)
    assert torch.equal(straight.embedding.weight, resumed.embedding.weight)
    ends = [read_checkpoint(last_checkpoint(tmp_path / name))["trained_weights"] for name in "ab"]
    assert torch.equal(ends[0]["output.bias"], ends[1]["output.bias"])


def test_ema_starts_from_the_weights_of_a_checkpoint_without_it(tmp_path):
    fit(tmp_path, Tied(), Checkpoints(), max_steps=2, limit_val_batches=0)
    start = read_checkpoint(last_checkpoint(tmp_path))["state_dict"]["embedding.weight"]
    settings = {"path": last_checkpoint(tmp_path), "max_steps": 3, "limit_val_batches": 0}
    module = fit(tmp_path, Tied(), EMA(), Checkpoints(), **settings)
    trained = read_checkpoint(last_checkpoint(tmp_path))["trained_weights"]["embedding.weight"]
    torch.testing.assert_close(module.embedding.weight.detach(), recursion(start, [trained], 0.999))


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_a_decay_that_cannot_be_is_refused(decay):
    with pytest.raises(InputError, match="decay="):
        EMA(decay)
