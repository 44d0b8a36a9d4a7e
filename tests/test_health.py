"""Numbers that are not finite stop a training, and are neither saved nor loaded nor answered with."""

from __future__ import annotations

import logging
import math
import shutil

import pytest
import torch
from lightning.pytorch import Callback
from safetensors.torch import load_file, save_file
from tiny import fit, several_data, several_module, tiny_module, weights, write_corpus, write_tasks

from lmtasks.backbones.recurrent import RecurrentConfig
from lmtasks.cli.main import main
from lmtasks.errors import InputError
from lmtasks.finite import broken_weight
from lmtasks.model import Model
from lmtasks.storage.checkpoint import read
from lmtasks.storage.model_folder import load, save
from lmtasks.training.callbacks.checkpoints import Checkpoints
from lmtasks.training.health import LONG, Health
from lmtasks.training.optim.optimizers import Adam

LSTM = RecurrentConfig(d_model=8, d_hidden=8, d_attention=8)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_tasks(tmp_path_factory.mktemp("corpus"))


def spoiled_at(module, step, value=math.nan, task=None):
    """Let the loss of a task be NaN, or infinite, in one step."""
    take = module.training_step

    def training_step(batches, batch_idx):
        if module.trainer.global_step + 1 == step:
            for name, head in module.heads.items():
                if task in (None, name):
                    spoil(head, value)
        return take(batches, batch_idx)

    module.training_step = training_step
    return module


def spoil(head, value):
    compute = head.loss

    def loss(backbone, batch):
        found = compute(backbone, batch)
        return type(found)(found.total * value, found.nll * value, found.count)

    object.__setattr__(head, "loss", loss)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_step_and_names_task_and_examples(corpus, value):
    module = spoiled_at(several_module(), 3, value, "mood")
    with pytest.raises(
        InputError, match=r"^step 3: the loss of mood is (nan|inf), with training examples \d+, "
    ) as found:
        fit(corpus, module, several_data(corpus), max_steps=9)
    assert "try a lower model.training.optimizer.lr (it is 0.01), or trainer.gradient_clip_val 1.0" in str(found.value)
    assert module.trainer.global_step == 2
    assert broken_weight(module.state_dict()) is None


def test_the_examples_named_are_those_of_the_step(tmp_path):
    write_corpus(tmp_path)
    seen = []
    module = spoiled_at(tiny_module(), 2)
    take = module.training_step
    module.training_step = lambda batches, batch_idx: seen.append(batches[0].ids.tolist()) or take(batches, batch_idx)
    with pytest.raises(InputError) as found:
        fit(tmp_path, module, max_steps=5)
    named = str(found.value).split("examples ")[1].split(";")[0].split(" and ")[0]
    assert [int(number) for number in named.split(", ")] == [row + 1 for row in seen[-1][:8]]


def test_a_gradient_that_is_not_finite_stops_the_training_where_gradients_are_clipped(tmp_path):
    write_corpus(tmp_path)
    module = tiny_module()
    module.on_after_backward = lambda: next(module.parameters()).grad.fill_(math.inf)
    with pytest.raises(InputError, match=r"^step 1: the gradient is inf, translation with training examples .*; no ch"):
        fit(tmp_path, module, gradient_clip_val=1.0)


def test_weights_that_are_not_finite_are_never_saved_and_the_checkpoint_before_stays(tmp_path):
    write_corpus(tmp_path)

    class Spoil(Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            if trainer.global_step == 4:
                next(pl_module.parameters()).data[0, 0] = math.nan

    callbacks = [Spoil(), Checkpoints(every_n_steps=2)]
    with pytest.raises(InputError, match=r"^step 4: .* is not finite any more .*last.ckpt is the last checkpoint, and"):
        fit(tmp_path, max_steps=9, enable_checkpointing=True, callbacks=callbacks)
    folder = tmp_path / "run" / "checkpoints"
    assert [file.name for file in folder.iterdir()] == ["last.ckpt"]
    saved = read(folder / "last.ckpt")
    assert saved.step == 2
    assert broken_weight(saved.weights) is None


@pytest.mark.parametrize("backbone", [None, LSTM])
def test_a_training_that_diverges_ends_in_a_line_and_leaves_no_model(tmp_path, backbone):
    write_corpus(tmp_path)
    own = {} if backbone is None else {"backbone": backbone}
    module = tiny_module(optimizer=Adam(1e38), **own)
    with pytest.raises(InputError, match=r"^step 2: the loss of translation is nan"):
        fit(tmp_path, module, max_steps=9, limit_val_batches=1)


def test_a_loss_far_above_the_first_is_said_once(caplog):
    health = Health()

    def steps(first, last, loss):
        for step in range(first, last):
            health.take(step, "mood", torch.tensor([0]), torch.tensor([4 * loss, 4.0]))
            health.check(skips=False, remedy="")

    steps(1, 10, 2.0)
    steps(10, 10 + LONG, 2e10)  # not yet long enough
    assert not caplog.records
    steps(10 + LONG, 30 + LONG, 2e10)
    assert [record.getMessage() for record in caplog.records] == [
        "the loss of mood is 2e+10, and was 2 at first (since step 10): the training diverges; "
        "lower model.training.optimizer.lr"
    ]


def test_a_short_training_that_diverges_is_said_at_its_end(tmp_path, caplog):
    write_corpus(tmp_path)
    with caplog.at_level(logging.WARNING):
        fit(
            tmp_path,
            tiny_module(optimizer=Adam(1e4), backbone=LSTM),
        )
    assert [record.getMessage() for record in caplog.records if "the training diverges" in record.getMessage()]


def test_float16_may_skip_steps_until_its_scale_fits():
    health = Health()
    for step, loss in ((1, math.inf), (2, 1.0)):
        health.take(step, "mood", torch.tensor([0]), torch.tensor([loss, 1.0]))
    health.check(skips=True, remedy="")
    health.take(3, "mood", torch.tensor([0]), torch.tensor([math.nan, 1.0]))
    with pytest.raises(InputError, match="step 3: the loss of mood is nan, with training examples 1; lower"):
        health.check(skips=True, remedy="lower it")


def test_watching_the_losses_changes_no_training(tmp_path, monkeypatch):
    write_corpus(tmp_path)
    watched = weights(fit(tmp_path))
    monkeypatch.setattr(Health, "check", lambda *given, **named: None)
    assert torch.equal(weights(fit(tmp_path)), watched)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "16-true"])
def test_a_precision_of_weights_that_training_lacks_is_refused(tmp_path, precision):
    write_corpus(tmp_path)
    with pytest.raises(InputError, match=f"trainer.precision is {precision}, .*set one of 32-true, bf16-mixed, 16-mix"):
        fit(tmp_path, precision=precision)


@pytest.fixture(scope="module")
def folder(corpus):
    """A model folder of several tasks."""
    module = fit(corpus, several_module(), several_data(corpus))
    return save(module, corpus / "model")


def test_a_model_folder_that_is_not_finite_is_neither_written_nor_loaded(folder, tmp_path, capsys):
    model = load(folder)
    next(model.parameters()).data[0] = math.inf
    with pytest.raises(InputError, match="is not finite, it has NaN or infinity; its training has diverged"):
        save(model, tmp_path / "new")
    assert not (tmp_path / "new" / "model.safetensors").exists()
    shutil.copytree(folder, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    tensors = load_file(file)
    tensors["backbone.embedding.weight"][3, 2] = math.nan
    save_file(tensors, file, {"format": "pt"})
    assert main(["run", str(tmp_path / "model"), "--task", "mood", "a"]) != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "backbone.embedding.weight is not finite" in line or "model.safetensors" in line
    module = several_module(init_from=str(tmp_path / "model"))
    with pytest.raises(InputError):
        fit(folder.parent, module, several_data(folder.parent))


@pytest.mark.parametrize("task", ["translation", "mood", "names"])
def test_numbers_that_are_not_finite_are_no_answer(folder, task):
    model: Model = load(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1e30)  # finite, but what is computed with it is not
    row = {"words": ["a", "b"]} if task == "names" else {"en": "a b", "text": "a b"}
    with pytest.raises(InputError, match="no numbers that are finite"):
        model.solve([row], task)
