"""Several tasks under a real trainer: one loss of all, the same steps on any devices, gradients taken apart and put
together, an exact resume, one model that serves them all."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from copy import deepcopy
from dataclasses import dataclass
from itertools import combinations, permutations
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger
from tiny import (
    fit,
    several_data,
    several_module,
    several_rows,
    several_tasks,
    tiny_backbone,
    tiny_module,
    trainer,
    weights,
    write_tasks as write,
)

import lmtasks
from lmtasks.cli.after_fit import finish
from lmtasks.cli.main import main
from lmtasks.data.mixing import Mixing
from lmtasks.data.readers.parallel import ParallelText
from lmtasks.data.readers.table import Files, Table
from lmtasks.data.readers.tagged import TaggedWords
from lmtasks.decoding import Decoding
from lmtasks.errors import InputError
from lmtasks.model import Model
from lmtasks.storage.checkpoint import last_checkpoint
from lmtasks.storage.model_folder import load, save
from lmtasks.tasks.answering import SpanAnsweringTask
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.tasks.generation import GenerationTask
from lmtasks.tasks.summarisation import SummarisationTask
from lmtasks.tasks.translation import TranslationTask
from lmtasks.text.tokenizer import Tokenizer, TokenizerConfig
from lmtasks.training.callbacks.checkpoints import Checkpoints, SafeCheckpointIO
from lmtasks.training.callbacks.randomness import RandomState
from lmtasks.training.config import Training
from lmtasks.training.joint.gradients import JointStep
from lmtasks.training.joint.learning import JointConfig
from lmtasks.training.joint.surgery import PCGrad, UPGrad
from lmtasks.training.joint.weighting import DynamicAverage, GradNorm, Static, Uncertainty
from lmtasks.training.module import TaskModule
from lmtasks.training.optim.optimizers import Adafactor, Adam, AdamW, Muon
from lmtasks.training.optim.schedule import Schedule

JOINTS = {
    "plain": JointConfig(),
    "static": JointConfig(Static({"mood": 0.5})),
    "pcgrad": JointConfig(surgery=PCGrad()),
    "upgrad": JointConfig(surgery=UPGrad()),
    "gradnorm": JointConfig(GradNorm(lr=0.1)),
    "uncertainty": JointConfig(Uncertainty()),
    "dynamic": JointConfig(DynamicAverage(every=2)),
    "gradnorm-pcgrad": JointConfig(GradNorm(lr=0.1), PCGrad()),
    "uncertainty-pcgrad": JointConfig(Uncertainty(), PCGrad(), watch=True),
}
RARE = {"translation": 1.0, "mood": 0.1, "names": 0.2}  # of these, mood and names are not in every step
SELDOM = {"translation": 0.05, "mood": 1.0, "names": 1.0}  # of these, the decoder is not in every step
CHANGING = Mixing(  # mood is not in every step, and a step in two parts has the rows of a whole one
    rates={"translation": 1, "mood": 0.3, "names": 1},
    final_rates={"translation": 0.3, "mood": 1, "names": 1},
    change=4,
)
APART = {  # what is trained in two processes
    "plain": Mixing(rates=RARE),
    "pcgrad": Mixing(),
    "gradnorm": Mixing(),
    "uncertainty": Mixing(rates=RARE),
    "dynamic": Mixing(),
    "gradnorm-pcgrad": Mixing(rates=RARE),
}
SCORED = {"limit_val_batches": 1.0, "val_check_interval": 3, "check_val_every_n_epoch": None}

TWO_PROCESSES = """
import sys
import torch
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_joint import APART, JOINTS, Losses, train
from tiny import weights

if __name__ == "__main__":
    folder, found = Path({folder!r}), {{}}
    for name, mixing in APART.items():
        losses = Losses()
        module = train(folder, JOINTS[name], mixing, callbacks=[losses], **{settings!r})
        scores = {{metric: float(value) for metric, value in module.trainer.callback_metrics.items()}}
        found[name] = {{"weights": weights(module), "scores": scores, "losses": losses.found}}
    if module.trainer.is_global_zero:
        torch.save(found, folder / "result.pt")
"""


class Losses(Callback):
    """Remember the mean losses of the tasks in each step, on all its micro-batches and processes."""

    def __init__(self):
        self.found = []

    def on_fit_start(self, trainer, pl_module):
        finish = pl_module.joint.weights.observe

        def observe(losses, norms):
            self.found.append(losses.tolist())
            finish(losses, norms)

        pl_module.joint.weights.observe = observe


class TrainDataset(Callback):
    """Remember the batches of each micro-batch and what was said of them."""

    def __init__(self):
        self.tasks, self.rows, self.losses, self.by_hand = [], [], [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        mixture, k = trainer.datamodule.mixture, trainer.global_step
        means = {}
        with torch.no_grad():
            for own in batch:
                loss = pl_module.heads[own.task].loss(pl_module.backbone, own)
                means[own.task] = mixture.weight(k, own.task) * float(loss.total) / float(loss.count)
        self.by_hand.append(sum(means.values()))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.tasks.append([own.task for own in batch])
        self.rows.append({own.task: own.ids.tolist() for own in batch})
        self.losses.append(outputs["loss"].item())


class Logged(Callback):
    """Remember what each step leaves in the metrics."""

    def __init__(self):
        self.found = []

    def on_train_batch_end(self, trainer, *_):
        self.found.append({name: float(value) for name, value in trainer.callback_metrics.items()})


@pytest.fixture
def corpus(tmp_path):
    """Return a fresh folder with the rows of three tasks."""
    return write(tmp_path / "corpus")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Return a module of three tasks after a few steps, read from its model folder; do not change it."""
    folder = write(tmp_path_factory.mktemp("served"))
    module = fit(folder, several_module(), several_data(folder), max_steps=5, **SCORED)
    return load(save(module, folder / "run" / "model"))


def train(corpus, joint=JointConfig(), mixing=Mixing(), module=None, **settings):
    module = several_module(joint=joint) if module is None else module
    return fit(corpus, module, several_data(corpus, mixing=mixing), **({"max_steps": 6} | settings))


# The loss of a step.


@pytest.mark.parametrize("mixing", [Mixing(), Mixing(rates=RARE)], ids=["size", "rates"])
def test_the_loss_of_a_step_is_the_weighted_mean_of_the_losses_of_its_tasks(corpus, mixing):
    seen = TrainDataset()
    train(corpus, mixing=mixing, callbacks=[seen], max_steps=12)
    assert seen.losses == pytest.approx(seen.by_hand, rel=1e-5)
    assert all(seen.tasks)
    assert any(len(tasks) < 3 for tasks in seen.tasks) == bool(mixing.rates)


def test_a_static_weight_multiplies_the_loss_of_its_task(corpus):
    plain, heavy = TrainDataset(), TrainDataset()
    train(corpus, callbacks=[plain], max_steps=1)
    train(corpus, JointConfig(Static({"mood": 0.0, "names": 0.0})), callbacks=[heavy], max_steps=1)
    alone = TrainDataset()
    train(corpus, JointConfig(Static({"translation": 3.0, "mood": 0.0, "names": 0.0})), callbacks=[alone], max_steps=1)
    assert 0 < heavy.losses[0] < plain.losses[0]
    assert alone.losses[0] == pytest.approx(3 * heavy.losses[0])


def test_all_tasks_are_learnt(corpus):
    losses = Losses()
    joint, module = JointConfig(GradNorm(), PCGrad()), several_module
    train(corpus, module=module(joint=joint, optimizer=Adam(0.02)), callbacks=[losses], max_steps=60)
    found = torch.tensor(losses.found)
    assert (found[-5:].mean(0) < 0.8 * found[:5].mean(0)).all()


# Devices and micro-batches.


@pytest.mark.parametrize(
    ("name", "mixing"), [*((name, CHANGING) for name in JOINTS), ("plain", Mixing()), ("gradnorm-pcgrad", Mixing())]
)
def test_accumulated_micro_batches_take_the_steps_of_whole_batches(corpus, name, mixing):
    whole, cut, seen, parts = Losses(), Losses(), TrainDataset(), TrainDataset()
    one = train(corpus, JOINTS[name], mixing, callbacks=[whole, seen])
    two = train(corpus, JOINTS[name], mixing, callbacks=[cut, parts], accumulate_grad_batches=2)
    for k, rows in enumerate(seen.rows):
        first, second = parts.rows[2 * k : 2 * k + 2]
        assert rows == {task: first[task] + second[task] for task in rows}
    torch.testing.assert_close(torch.tensor(cut.found), torch.tensor(whole.found), rtol=1e-5, atol=1e-5, equal_nan=True)
    torch.testing.assert_close(weights(two), weights(one), rtol=0, atol=1e-6)
    assert any(len(rows) < 3 for rows in seen.rows) == bool(mixing.rates)


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one_and_score_as_one(corpus):
    script, tests = corpus / "train.py", Path(__file__).parent
    settings = {"devices": 2, "strategy": "ddp_find_unused_parameters_true", **SCORED}
    script.write_text(TWO_PROCESSES.format(tests=str(tests), folder=str(corpus), settings=settings))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(tests.parent)}
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = torch.load(corpus / "result.pt", weights_only=True)
    assert list(found) == list(APART)
    for name, both in found.items():
        losses, settings = Losses(), SCORED | {"val_check_interval": 6, "accumulate_grad_batches": 2}
        single = train(corpus, JOINTS[name], APART[name], callbacks=[losses], **settings)
        own, theirs = torch.tensor(losses.found), torch.tensor(both["losses"])
        torch.testing.assert_close(theirs, own, rtol=1e-5, atol=1e-5, equal_nan=True)
        torch.testing.assert_close(both["weights"], weights(single), rtol=0, atol=1e-5)
        for metric, value in single.trainer.callback_metrics.items():
            if metric.startswith("validation"):
                exact = "loss" not in metric and "perplexity" not in metric
                assert both["scores"][metric] == pytest.approx(float(value), rel=1e-9 if exact else 1e-4), (
                    name,
                    metric,
                )


# Gradients apart.


def batches_of(corpus, k=0):
    """Return a fresh module, in training, and the batches of step k."""
    module = train(corpus, max_steps=1)
    data = module.trainer.datamodule
    ((*_, batches),) = [(0, data.train_dataloader().dataset[k, 0])]
    return module, batches


def losses_of(module, batches):
    return {own.task: module.heads[own.task].loss(module.backbone, own).total * own.scale for own in batches}


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_gradients_taken_apart_add_up_to_those_of_plain_backward(corpus, precision):
    module, batches = batches_of(corpus)
    trained = list(module.parameters())
    step = JointStep(list(module.tasks), trained, list(module.backbone.parameters()))
    found = []
    for apart in (False, True):
        module.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            losses = losses_of(module, batches)
            loss = step.take(losses) if apart else sum(losses.values())
        loss.backward()
        if apart:
            step.finish(1, None, 0)
        found.append({name: parameter.grad.clone() for name, parameter in module.named_parameters()})
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if precision == torch.float32 else {"rtol": 0.02, "atol": 0.01}
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name], expected, **tolerance, msg=lambda text, name=name: f"{name}: {text}")


def test_what_a_step_measures_equals_what_is_computed_by_hand(corpus):
    module, batches = batches_of(corpus)
    shared = list(module.backbone.parameters())
    step = JointStep(list(module.tasks), list(module.parameters()), shared)
    step.take(losses_of(module, batches)).backward()
    measured = step.finish(1, None, 0)
    rows = []
    for loss in losses_of(module, batches).values():
        grads = torch.autograd.grad(loss, shared, allow_unused=True)
        rows.append(
            torch.cat(
                [torch.zeros(p.numel()) if g is None else g.flatten() for g, p in zip(grads, shared, strict=True)]
            )
        )
    expected = torch.stack(rows).double()
    torch.testing.assert_close(measured.gramian, expected @ expected.t(), rtol=1e-5, atol=1e-9)
    missing = JointStep(["none", *module.tasks], list(module.parameters()), shared)
    missing.count("mood", torch.tensor(2.0))
    assert missing.finish(1, None, 0).norms is None


def test_a_parameter_that_no_task_of_a_step_reaches_has_no_gradient(corpus):
    module, batches = batches_of(corpus)
    batches = [own for own in batches if own.task != "translation"]
    step = JointStep(list(module.tasks), list(module.parameters()), list(module.backbone.parameters()))
    module.zero_grad()
    step.take(losses_of(module, batches)).backward()
    step.finish(1, PCGrad(), 0)
    reached = {name.split(".")[1] for name, parameter in module.named_parameters() if parameter.grad is not None}
    assert reached == {"embedding", "encoder", "mood", "names"}


@pytest.mark.parametrize(
    ("mixing", "precision"), [(Mixing(), "32-true"), (Mixing(rates=SELDOM), "32-true"), (Mixing(), "bf16-mixed")]
)
def test_watching_changes_nothing_of_the_training(corpus, mixing, precision):
    settings = {"max_steps": 9, "log_every_n_steps": 2, "precision": precision}
    plain = train(corpus, mixing=mixing, **settings)
    watched = train(corpus, JointConfig(watch=True), mixing, **settings)
    tolerance = 1e-5 if precision == "32-true" else 0.01
    torch.testing.assert_close(weights(watched), weights(plain), rtol=0, atol=tolerance)


@pytest.mark.parametrize("every", [1, 2])
def test_the_logs_have_norms_and_cosines_as_they_are_computed_by_hand(corpus, every):
    by_hand = []

    class Hand(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            shared, rows = list(pl_module.backbone.parameters()), {}
            for task, loss in losses_of(pl_module, batch).items():
                grads = torch.autograd.grad(loss, shared, allow_unused=True)
                pairs = zip(grads, shared, strict=True)
                rows[task] = torch.cat([torch.zeros(p.numel()) if g is None else g.flatten() for g, p in pairs])
            found = {f"train/{task}/gradient_norm": float(row.norm()) for task, row in rows.items()}
            for a, b in combinations(pl_module.tasks, 2):
                if a in rows and b in rows:
                    found[f"train/{a}/cosine_{b}"] = float(torch.cosine_similarity(rows[a], rows[b], dim=0))
            by_hand.append(found)

    logged = Logged()
    train(
        corpus, JointConfig(watch=True), Mixing(rates=RARE),
        callbacks=[Hand(), logged], max_steps=12, log_every_n_steps=every,
    )  # fmt: skip
    for k in range(every - 1, 12, every):
        for metric, value in by_hand[k].items():
            assert logged.found[k][metric] == pytest.approx(value, rel=1e-4, abs=1e-5), (k, metric)
    assert "train/mood/cosine_names" in {metric for found in by_hand for metric in found}
    if every == 2:
        assert not any("cosine" in metric for metric in logged.found[0])


def test_the_loggers_have_the_shares_and_weights_of_the_tasks(corpus):
    logger = CSVLogger(corpus, "logs")
    module = train(corpus, JointConfig(GradNorm(lr=0.1), watch=True), logger=logger, log_every_n_steps=1)
    logger.save()
    lines = [dict(zip(header, line, strict=True)) for header, *rest in [_table(logger)] for line in rest]
    assert len(lines) == 6
    report = module.trainer.datamodule.mixture.report(6)
    for task in module.tasks:
        kinds = ("loss", "tokens", "share", "wanted_share", "weight", "gradient_norm")
        assert all(float(lines[-1][f"train/{task}/{kind}"]) >= 0 for kind in kinds)
        assert float(lines[-1][f"train/{task}/tokens"]) == report[f"{task}/tokens"]
    assert sum(float(lines[-1][f"train/{task}/weight"]) for task in module.tasks) == pytest.approx(3)
    assert [float(lines[0][f"train/{task}/weight"]) for task in module.tasks] == [1, 1, 1]


def _table(logger):
    return [line.split(",") for line in (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()]


def test_clipping_comes_after_the_gradients_were_put_together(corpus):
    norms = []

    class Norm(Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            grads = [p.grad.norm() for p in pl_module.parameters() if p.grad is not None]
            norms.append(float(torch.stack(grads).norm()))

    train(corpus, JointConfig(surgery=PCGrad()), gradient_clip_val=0.01, callbacks=[Norm()])
    assert norms == pytest.approx([0.01] * 6, rel=1e-3)


def test_surgery_leaves_the_heads_alone_and_changes_the_backbone(corpus):
    plain, mended = train(corpus, max_steps=1), train(corpus, JointConfig(surgery=PCGrad()), max_steps=1)
    torch.testing.assert_close(weights(plain.heads), weights(mended.heads), rtol=0, atol=1e-6)
    assert (weights(plain.backbone) - weights(mended.backbone)).abs().max() > 1e-5


@pytest.mark.parametrize("joint", [JointConfig(surgery=PCGrad()), JointConfig(GradNorm()), JointConfig(watch=True)])
def test_gradients_that_cannot_be_taken_apart_are_refused(corpus, joint):
    with pytest.raises(InputError, match=r"freeze excludes from training"):
        fit_frozen(corpus, joint)


def test_heads_alone_are_learned_on_a_frozen_backbone(corpus):
    module = fit_frozen(corpus, JointConfig(Uncertainty()))
    torch.manual_seed(0)
    fresh = module.backbone_config.build(len(module.tokenizer))
    assert torch.equal(weights(module.backbone), weights(fresh))
    assert all(value != 1 for value in module.joint.weights.now().values())


def fit_frozen(corpus, joint):
    """Train two tasks over a backbone that stays as it is."""
    tasks, rows = several_tasks(), several_rows(corpus)
    del tasks["translation"], rows["translation"]
    backbone = tiny_backbone(decoder_layers=0)
    module = several_module(tasks=tasks, joint=joint, freeze=("backbone",), backbone=backbone)
    return fit(corpus, module, several_data(corpus, rows=rows))


@pytest.mark.parametrize(
    "optimizer", [Adam(0.01), AdamW(0.01), Adafactor(0.01), Muon()], ids=lambda o: type(o).__name__
)
def test_every_optimiser_learns_several_tasks(corpus, optimizer):
    for name in ("uncertainty-pcgrad", "gradnorm"):
        before = several_module(joint=JOINTS[name], optimizer=optimizer)
        module = train(corpus, module=before, mixing=Mixing(rates=RARE))
        assert weights(module).isfinite().all()


# Resuming.


def saving_run(corpus, steps, mixing, joint=JOINTS["gradnorm-pcgrad"], ckpt_path=None, **settings):
    """Train with what makes a resume exact, in one run folder, with dropout."""
    seen = TrainDataset()
    module = several_module(
        joint=joint,
        backbone=tiny_backbone(dropout=0.2),
        tasks=several_tasks(mood=ClassificationTask(dropout=0.2)),
        **settings,
    )
    saving = {"callbacks": [Checkpoints(), RandomState(), seen], "enable_checkpointing": True}
    train(
        corpus,
        module=module,
        mixing=mixing,
        max_steps=steps,
        plugins=[SafeCheckpointIO()],
        ckpt_path=ckpt_path,
        **saving,
    )
    return module, seen.rows


@pytest.mark.parametrize(
    ("name", "first"), [("gradnorm-pcgrad", 5), ("gradnorm-pcgrad", 8), ("uncertainty-pcgrad", 8), ("dynamic", 5)]
)
def test_a_mixture_goes_on_bit_for_bit(corpus, name, first):
    changing = Mixing(rates=RARE, final_rates={"translation": 0.2, "mood": 1.0, "names": 0.5}, change=9)
    straight, rows = saving_run(corpus, 14, changing, JOINTS[name])
    _, before = saving_run(corpus, first, changing, JOINTS[name])
    resumed, after = saving_run(corpus, 14, changing, JOINTS[name], last_checkpoint(corpus / "run"))
    assert before + after == rows
    assert resumed.trainer.global_step == 14
    assert torch.equal(weights(resumed), weights(straight))
    for name, value in straight.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"rates": {"translation": 1, "mood": 1, "names": 0.3}}, "shares of the tasks was"),
        ({"by": "rows", "rates": RARE}, "shares of the tasks was"),
        ({"rates": RARE, "final_rates": {"translation": 1, "mood": 1, "names": 1}, "change": 9}, "shares of the tasks"),
    ],
)
def test_a_resume_with_other_shares_is_refused(corpus, settings, complaint):
    saving_run(corpus, 3, Mixing(rates=RARE))
    with pytest.raises(InputError, match=f"cannot go on exactly: .*{complaint}"):
        saving_run(corpus, 6, Mixing(**settings), ckpt_path=last_checkpoint(corpus / "run"))


def test_a_resume_with_another_weighting_is_refused_and_with_other_surgery_goes_on(corpus):
    saving_run(corpus, 3, Mixing(), JointConfig(GradNorm()))
    for other in (JointConfig(), JointConfig(Uncertainty()), JointConfig(DynamicAverage())):
        with pytest.raises(InputError, match=r"another model.training.joint.weighting"):
            saving_run(corpus, 6, Mixing(), other, last_checkpoint(corpus / "run"))
    module, _ = saving_run(corpus, 6, Mixing(), JointConfig(GradNorm(), PCGrad()), last_checkpoint(corpus / "run"))
    assert module.trainer.global_step == 6


# Scores and use.


def test_each_task_is_scored_by_its_own_metrics_and_the_score_is_their_mean(corpus):
    module = train(corpus, **SCORED)
    metrics = module.trainer.callback_metrics
    main = [f"validation/{name}/{task.main_metric}" for name, task in module.tasks.items()]
    assert [metric.rsplit("/")[-1] for metric in main] == ["bleu", "accuracy", "f1"]
    assert float(metrics["validation/score"]) == pytest.approx(sum(float(metrics[metric]) for metric in main) / 3)
    assert {task: len(samples) for task, samples in module.predictions.items()} == {
        "translation": 11,
        "mood": 7,
        "names": 7,
    }
    (tested,) = trainer(corpus / "run").test(module, datamodule=several_data(corpus), verbose=False)
    assert {f"test/{task}/loss" for task in module.tasks} < set(tested)


def test_a_task_without_validation_rows_is_left_out_of_the_score(corpus):
    rows = several_rows(corpus, mood=Table(train=str(corpus / "moods.train.jsonl")))
    module = fit(corpus, several_module(), several_data(corpus, rows=rows), **SCORED)
    metrics = module.trainer.callback_metrics
    assert not any(metric.startswith("validation/mood") for metric in metrics)
    expected = (metrics["validation/translation/bleu"] + metrics["validation/names/f1"]) / 2
    assert float(metrics["validation/score"]) == pytest.approx(float(expected))


def test_a_module_of_a_loaded_model_trains_with_dropout_and_settings_of_its_own(corpus, served):
    module = TaskModule.of(deepcopy(served), Training(schedule=Schedule("constant", warmup=0)))
    assert all(part.training for part in module.modules())
    assert module.training_config.schedule.warmup == 0
    assert TaskModule.of(served).training_settings == served.training_settings
    before = {name: tensor.clone() for name, tensor in module.weights().items()}
    trainer(corpus / "again", max_steps=1).fit(module, several_data(corpus))
    assert any(not tensor.equal(before[name]) for name, tensor in module.weights().items())


def test_a_module_of_a_loaded_model_freezes_parts_and_begins_with_its_own_weights(served):
    module = TaskModule.of(deepcopy(served), Training(freeze=("backbone.encoder",)))
    assert not any(parameter.requires_grad for parameter in module.backbone.encoder.parameters())
    with pytest.raises(InputError, match=r"the model has no nonsense"):
        TaskModule.of(deepcopy(served), Training(freeze=("nonsense",)))
    with pytest.raises(InputError, match="the model has its weights"):
        TaskModule.of(served, Training(init_from="runs/other"))
    began = deepcopy(served)
    began._training_settings["training"]["init_args"]["init_from"] = "runs/gone"
    assert TaskModule.of(began).training_config.init_from is None


def test_predictions_say_to_which_task_they_belong(corpus, served):
    rows = several_rows(corpus, mood=Table(predict=str(corpus / "moods.test.jsonl")))
    module = TaskModule.of(served)
    batches = trainer(corpus / "run").predict(module, datamodule=several_data(corpus, rows=rows))
    assert {task for task, _ in batches} == {"mood"}
    answers = {number: best.text for _, found in batches for number, (best, *_) in found}
    texts = [json.loads(line)["text"] for line in (corpus / "moods.test.jsonl").read_text().splitlines()]
    assert [answers[number] for number in range(len(texts))] == served.classify(texts)


def test_a_model_of_several_tasks_serves_each_by_what_it_does(served):
    assert isinstance(served.translate("a b c"), str)
    assert served.classify(["a b", "E F"]) == [max(each, key=each.get) for each in served.probabilities(["a b", "E F"])]
    assert isinstance(served.tag("aa EE b"), list)
    for task, row in (("translation", {"en": "a b"}), ("mood", {"text": "a b"}), ("names", {"words": ["a", "b"]})):
        ((best, *_),) = served.solve([row], task)
        assert isinstance(best.text, str)


def test_a_loaded_model_answers_as_the_trained_one(corpus):
    module = train(corpus, JointConfig(GradNorm(lr=0.1), PCGrad()), max_steps=4).eval()
    again = lmtasks.load(save(module, corpus / "run" / "model"))
    assert again.describe() == module.describe()
    assert again.translate(["a b", "c"]) == module.translate(["a b", "c"])
    assert again.probabilities("a b") == module.probabilities("a b")


def test_a_model_is_loaded_of_a_checkpoint_without_the_weights_of_the_tasks(corpus):
    saving = {"callbacks": [Checkpoints()], "enable_checkpointing": True}
    module = train(corpus, JointConfig(GradNorm(lr=0.1)), max_steps=2, **saving).eval()
    again = lmtasks.load(last_checkpoint(corpus / "run"))
    left_out = module.state_dict().keys() - again.state_dict().keys()
    assert left_out
    assert all(name.startswith("joint.") for name in left_out)
    assert again.translate(["a b", "c"]) == module.translate(["a b", "c"])


def test_a_module_takes_the_weights_of_a_model_and_keeps_those_of_the_tasks(corpus):
    module = train(corpus, JointConfig(GradNorm(lr=0.1)), max_steps=2)
    other = several_module(joint=JointConfig(GradNorm(lr=0.1)))
    other.tokenizer, other.tasks = module.tokenizer, module.tasks
    other.configure_model()
    before = other.joint.weights.now()
    other.load_weights(module.weights())
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in module.weights().items())
    assert other.joint.weights.now() == before != module.joint.weights.now()


def test_a_task_is_found_by_its_name_or_by_what_it_does(served):
    for name, found in {
        "mood": "mood",
        "classification": "mood",
        "tagging": "names",
        "translation": "translation",
    }.items():
        assert served.find_task(name) == (found, served.tasks[found])
    with pytest.raises(InputError, match="no task 'summarisation'; choose one of translation, mood, names"):
        served.summarise("a")
    with pytest.raises(InputError, match="the model has several tasks; choose one of translation, mood, names"):
        served.find_task()
    twice = several_module(tasks=several_tasks(topic=ClassificationTask()))
    with pytest.raises(InputError, match=r"several tasks of classification; choose one of mood, topic \("):
        twice.find_task("classification")
    assert twice.find_task("topic")[0] == "topic"


def test_a_head_answers_alone_with_the_backbone(served, corpus):
    module = train(corpus, max_steps=3).eval()
    batch = module.trainer.datamodule.examples["train"]["mood"].batch(range(4))
    found = module.heads["mood"].predict(module.backbone, batch, Decoding())
    texts = [json.loads(line)["text"] for line in (corpus / "moods.train.jsonl").read_text().splitlines()][:4]
    assert [dict(zip(module.tasks["mood"].labels, row, strict=True)) for row in found] == [
        pytest.approx(each) for each in module.probabilities(texts)
    ]


# What is refused.


def test_rows_of_an_unknown_task_are_refused(corpus):
    rows = several_rows(corpus, moods=Table(train=str(corpus / "moods.train.jsonl")))
    with pytest.raises(InputError, match=r"data.rows.moods: the model has no task 'moods'; did you mean mood"):
        fit(corpus, several_module(), several_data(corpus, rows=rows))


def test_a_task_without_rows_is_refused(corpus):
    rows = several_rows(corpus)
    del rows["mood"]
    with pytest.raises(InputError, match=r"data.rows has translation, names, .*learns mood; add data.rows.mood"):
        fit(corpus, several_module(), several_data(corpus, rows=rows))


def test_a_task_without_training_rows_is_refused(corpus):
    rows = several_rows(corpus, translation=ParallelText(validation=str(corpus / "validation.{lang}")))
    with pytest.raises(InputError, match=r"set data.rows.translation.train to a file"):
        fit(corpus, several_module(), several_data(corpus, rows=rows))


@dataclass(frozen=True)
class Unread(Files):
    """Rows that nobody may read."""

    def rows(self, split, columns):
        raise AssertionError("a row was read")


LATE = {  # what showed when layers were built, or at the first step: (settings of the module, of the data, complaint)
    "rates of a task that is not there": (
        {},
        {"mixing": Mixing(rates={"translation": 1, "moods": 1, "names": 1})},
        "data.mixing.rates has translation, moods, names; the tasks are translation, mood, names",
    ),
    "rates that are all 0": (
        {},
        {"mixing": Mixing(final_rates={"translation": 0, "mood": 0, "names": 0}, change=3)},
        "data.mixing.final_rates: .* not all of them 0",
    ),
    "no part to freeze": (
        {"freeze": ("backbone.encodr",)},
        {},
        "model.training.freeze: the model has no backbone.encodr; it has backbone.embedding, .*heads.mood",
    ),
    "no head to freeze": ({"freeze": ("heads.moods",)}, {}, "model.training.freeze: the model has no heads.moods"),
    "no model to start from": (
        {"init_from": "runs/none"},
        {},
        "model.training.init_from runs/none: there is no such file",
    ),
    "no vectors": ({"vectors": "none.txt"}, {}, "model.training.vectors none.txt: there is no such file"),
    "no decoder": (
        {"backbone": tiny_backbone(decoder_layers=0)},
        {},
        "translation writes texts, but the backbone has no decoder; set model.backbone.decoder_layers to 1",
    ),
    "no encoder": (
        {"backbone": tiny_backbone(encoder_layers=0)},
        {},
        "translation reads texts, but the backbone has no encoder; set model.backbone.encoder_layers to 1",
    ),
    "no prompt": (
        {"tasks": several_tasks(stories=GenerationTask(block=8))},
        {},
        r"stories continues a text without an encoder, .* a prompt \(model.tasks.stories.prompt",
    ),
    "no width of a head": ({"backbone": tiny_backbone(n_heads=3)}, {}, "d_model 8 is not a multiple of n_heads 3"),
}


@pytest.mark.parametrize("fault", LATE)
def test_what_settings_alone_show_is_refused_before_a_row_is_read(tmp_path, fault):
    settings, given, complaint = LATE[fault]
    module = several_module(**settings)
    rows = dict.fromkeys(module.tasks, Unread(train="a.csv", validation="b.csv"))
    with pytest.raises(InputError, match=complaint):
        fit(tmp_path, module, several_data(tmp_path, rows=rows, **given))


def test_parts_that_are_there_may_be_frozen_whatever_is_in_a_head(tmp_path):
    data = several_data(tmp_path, rows=dict.fromkeys(several_tasks(), Unread(train="a.csv")))
    for names in (("backbone.encoder.layers.0", "heads.mood.output"), ("heads",), ("joint.weights",)):
        with pytest.raises(AssertionError, match="a row was read"):
            fit(tmp_path, several_module(freeze=names, joint=JointConfig(Uncertainty())), data)


def test_a_missing_column_is_named_with_the_option_of_its_task(corpus):
    moods = str(corpus / "moods.train.jsonl")
    for rows in ({"mood": Table(moods, columns={"text": "x"})}, {"names": TaggedWords(moods)}):
        (task,) = rows
        with pytest.raises(InputError, match=rf"say which: --data\.rows\.{task}\.columns "):
            fit(corpus, several_module(), several_data(corpus, rows=several_rows(corpus, **rows)))


def test_the_name_of_their_option_is_no_setting_of_rows(corpus):
    rows = several_rows(corpus)["mood"]
    named = rows.called("data.rows.mood")
    assert (named, named.fingerprint("train"), repr(named)) == (rows, rows.fingerprint("train"), repr(rows))
    assert (named.option, rows.option) == ("data.rows.mood", "data.rows")


def test_the_data_know_which_task_has_which_split(corpus):
    data = several_data(corpus, rows=several_rows(corpus, mood=Table(str(corpus / "moods.train.jsonl"))))
    assert [data.has("test"), data.has("test", "mood"), data.has("test", "names")] == [True, False, True]
    assert not data.has("predict")


@pytest.mark.parametrize("name", ["a/b", "a.b", "", "two words"])
def test_a_task_that_cannot_be_part_of_a_name_is_refused(name):
    with pytest.raises(InputError, match=f"a task cannot be called {name!r}"):
        several_module(tasks=several_tasks(**{name: ClassificationTask()}))


def test_rates_of_an_unknown_task_are_refused(corpus):
    with pytest.raises(InputError, match=r"data.mixing.rates has translation, moods; the tasks are translation, mood"):
        train(corpus, mixing=Mixing(rates={"translation": 1, "moods": 1}))


def test_a_weight_of_an_unknown_task_is_refused():
    with pytest.raises(
        InputError, match=r"model.training.joint.weighting.weights: moods is no task; did you mean mood\?"
    ):
        several_module(joint=JointConfig(Static({"moods": 2.0})))
    with pytest.raises(InputError, match=r"weights: x is no task; choose from translation, mood, names"):
        several_module(joint=JointConfig(Static({"x": 2.0})))


@pytest.mark.parametrize("name", [name for name, joint in JOINTS.items() if joint.weighting != Static()])
def test_what_is_for_several_tasks_is_refused_where_there_is_one(name):
    with pytest.raises(
        InputError, match=r"model.training.joint.weighting is for several tasks, the model has only mood; leave it out"
    ):
        several_module(tasks={"mood": ClassificationTask()}, joint=JOINTS[name])


@pytest.mark.parametrize(
    "joint", [JointConfig(surgery=PCGrad()), JointConfig(surgery=UPGrad()), JointConfig(watch=True)]
)
def test_the_gradient_of_one_task_taken_apart_is_its_gradient(corpus, joint):
    plain, apart = (tiny_module(joint=each) for each in (JointConfig(), joint))
    for module in (plain, apart):
        fit(corpus, module, accumulate_grad_batches=2, log_every_n_steps=1)
    torch.testing.assert_close(weights(apart), weights(plain), rtol=1e-5, atol=1e-6)
    logged = apart.trainer.logged_metrics
    assert ("train/translation/gradient_norm" in logged) == joint.watch
    assert "train/translation/weight" not in logged


@pytest.mark.parametrize("name", ["plain", "pcgrad", "gradnorm", "uncertainty", "watch"])
def test_a_task_whose_part_of_the_backbone_is_frozen_with_its_head_is_refused(corpus, name):
    joint = JointConfig(watch=True) if name == "watch" else JOINTS[name]
    module = several_module(joint=joint, freeze=("backbone.embedding", "backbone.encoder", "heads.mood"))
    with pytest.raises(InputError, match=r"model.training.freeze: nothing that mood uses is left to train"):
        train(corpus, module=module, log_every_n_steps=1)


def test_a_complaint_of_scaled_gradients_names_the_option():
    joint, parameters = JointConfig(watch=True).build(["a", "b"]), [torch.nn.Parameter(torch.ones(1))]
    with pytest.raises(InputError, match=r"^model.training.joint: .*trainer.precision to 32-true"):
        joint.begin(parameters, parameters, scaled=True)


def test_a_resume_with_more_tasks_or_fewer_is_refused(corpus):
    rows = several_rows(corpus)
    mixtures = {}
    for names in (("mood",), ("mood", "names"), ("names", "mood")):
        module = several_module(
            tasks={name: several_tasks()[name] for name in names}, backbone=tiny_backbone(decoder_layers=0)
        )
        fit(corpus, module, several_data(corpus, rows={name: rows[name] for name in names}), max_steps=1)
        mixtures[", ".join(names)] = module.trainer.datamodule
    for before, now in permutations(mixtures, 2):
        with pytest.raises(InputError, match=f"cannot go on exactly: tasks was {before} and is {now}"):
            mixtures[now].load_state_dict(mixtures[before].state_dict())
    for data in mixtures.values():
        data.load_state_dict(data.state_dict())


def test_texts_of_several_writing_tasks_begin_with_a_token_of_their_own(tmp_path):
    tasks = {"french": TranslationTask(("en-fr",)), "short": SummarisationTask(), "mood": ClassificationTask()}
    module = several_module(tasks=tasks)
    module.train_tokenizer(["a b c"], tmp_path)
    module.configure_model()
    french, short = (module.tokenizer.mark(f"<task-{name}>") for name in ("french", "short"))
    assert (module.heads["french"].start, module.heads["short"].start) == (french, short)
    alone = several_module(tasks={"french": tasks["french"], "mood": tasks["mood"]})
    alone.tokenizer = module.tokenizer
    alone.configure_model()
    assert alone.heads["french"].start == module.tokenizer.bos_id


def test_a_task_of_no_share_is_left_as_it_was_and_the_log_says_so(corpus, caplog):
    names = list(several_tasks())
    rates = {name: float(name == names[0]) for name in names}
    module = several_module()
    with caplog.at_level("INFO", "lmtasks"):
        fit(corpus, module, several_data(corpus, mixing=Mixing(rates=rates)), max_steps=2)
    assert any("0.0 % of tokens" in line and "no steps per epoch" in line for line in caplog.messages)
    assert set(module.trainer.datamodule.mixture.step(0)) == {names[0]}


def test_what_a_task_did_in_an_earlier_step_is_not_logged_again(corpus):
    mixing = Mixing(rates={name: 1.0 if name != "mood" else 0.01 for name in several_tasks()})
    logger = CSVLogger(corpus)
    module = several_module(joint=JointConfig(watch=True))
    fit(corpus, module, several_data(corpus, mixing=mixing), max_steps=6, logger=logger, log_every_n_steps=1)
    mixture = module.trainer.datamodule.mixture
    for row in logger.experiment.metrics:
        took_part = "mood" in mixture.step(row["step"])
        assert {not math.isnan(row[name]) for name in ("train/mood/loss", "train/mood/gradient_norm")} == {took_part}


def test_a_trainer_that_logs_nothing_trains(corpus):
    module = several_module(joint=JointConfig(watch=True))
    fit(corpus, module, several_data(corpus), max_steps=2, log_every_n_steps=0)
    assert module.trainer.global_step == 2


# Evaluations that are limited, or of some tasks only.


def test_a_limited_validation_has_rows_of_all_tasks(corpus):
    module = train(corpus, **SCORED | {"limit_val_batches": 3})
    found = {name: float(value) for name, value in module.trainer.callback_metrics.items()}
    assert all(found[f"validation/{task}/loss"] > 0 for task in module.tasks)
    assert set(module.predictions) == set(module.tasks)


@pytest.mark.parametrize("settings", [{"limit_val_batches": 1}, {"limit_val_batches": 1, "fast_dev_run": True}])
def test_a_task_of_which_no_row_came_has_no_scores_and_no_part_in_their_mean(corpus, settings):
    module = train(corpus, **SCORED | settings)
    metrics = module.trainer.callback_metrics
    scored = {name.split("/")[1] for name in metrics if name.startswith("validation/") and name.count("/") == 2}
    assert scored == {"translation"} == set(module.predictions)
    assert metrics["validation/score"] == metrics["validation/translation/bleu"]


def test_all_batches_of_all_tasks_come_once_whatever_their_number(corpus):
    module = train(corpus)
    data = several_data(corpus, tokens_per_batch=12)
    trainer(corpus / "run").validate(module, datamodule=data, verbose=False)
    asked = [(task, ids.tolist()) for task, ids in data.val_dataloader().sampler]
    assert [task for task, _ in asked[:3]] == ["translation", "mood", "names"]
    counts = {task: sum(own == task for own, _ in asked) for task in module.tasks}
    assert len(set(counts.values())) > 1
    for task in module.tasks:
        rows = [row for own, ids in asked if own == task for row in ids]
        assert sorted(rows) == list(range(len(data.examples["validation"][task].tokenized)))


def test_samples_are_those_of_the_last_evaluation(corpus):
    module = train(corpus, **SCORED)
    rows = several_rows(corpus, mood=Table(**{split: str(corpus / f"moods.{split}.jsonl") for split in ("train",)}))
    trainer(corpus / "run").test(module, datamodule=several_data(corpus, rows=rows), verbose=False)
    assert {task: len(samples) for task, samples in module.predictions.items()} == {"translation": 9, "names": 6}


def finished(corpus, capsys, **others):
    """Train with checkpoints and finish; return module, scores in metrics.json, stdout and stderr."""
    data = several_data(corpus, rows=several_rows(corpus, **others))
    saving = {"callbacks": [Checkpoints()], "enable_checkpointing": True, "plugins": [SafeCheckpointIO()]}
    module = fit(corpus, several_module(), data, **SCORED, **saving)
    capsys.readouterr()
    assert finish(module.trainer, module, data, corpus / "run", None) == 0
    said = capsys.readouterr()
    scores = json.loads((corpus / "run" / "model" / "metrics.json").read_text())["scores"]
    return module, scores, said.out, said.err


def test_a_task_without_test_rows_is_scored_on_its_validation_rows_when_fit_ends(corpus, capsys):
    splits = ("train", "validation")
    moods = Table(**{split: str(corpus / f"moods.{split}.jsonl") for split in splits})
    module, scores, out, err = finished(corpus, capsys, mood=moods)
    kinds = {tuple(name.split("/")[:2]) for name in scores}
    assert kinds == {("test", "translation"), ("test", "names"), ("test", "score"), ("validation", "mood")}
    assert scores["test/score"] == pytest.approx((scores["test/translation/bleu"] + scores["test/names/f1"]) / 2)
    assert "no test rows of mood: scored on validation rows, by which checkpoints are chosen too" in err
    labels = {line.split()[0] for line in out.splitlines() if line.strip()}
    assert {"test/translation", "test/names", "validation/mood", "test/score"} <= labels
    assert [*module.predictions] == [*module.tasks]
    assert [len(samples) for samples in module.predictions.values()] == [9, 7, 6]


def test_a_task_without_any_rows_to_score_it_is_named_when_fit_ends(corpus, capsys):
    module, scores, _, err = finished(corpus, capsys, mood=Table(train=str(corpus / "moods.train.jsonl")))
    assert not any("mood" in name for name in scores)
    assert "no validation rows and no test rows of mood: not scored" in err
    assert "mood" not in module.predictions


# One of several tasks of a kind.


def test_one_of_several_tasks_of_a_kind_is_chosen_by_its_name(corpus):
    tasks = several_tasks(topic=ClassificationTask(dropout=0.0), tags=several_tasks()["names"])
    others = {"topic": several_rows(corpus)["mood"], "tags": several_rows(corpus)["names"]}
    data = several_data(corpus, rows=several_rows(corpus, **others))
    module = fit(corpus, several_module(tasks=tasks), data).eval()
    with pytest.raises(InputError, match=r"several tasks of classification; choose one of mood, topic \("):
        module.classify("a b")
    found = module.probabilities(["a b"], task="topic")
    assert found == [dict(best.probabilities) for best, *_ in module.solve([{"text": "a b"}], "topic")]
    assert found != module.probabilities(["a b"], task="mood")
    assert module.classify("a b", task="topic") == max(found[0], key=found[0].get)
    assert isinstance(module.tag("aa EE", task="tags"), list)
    assert module.translate("a b", task="translation") == module.translate("a b")
    for wrong in (lambda: module.classify("a", task="names"), lambda: module.summarise("a", task="mood")):
        with pytest.raises(InputError, match=r"(names does tagging|mood does classification), not "):
            wrong()
    for call in (module.generate, module.reply, module.summarise, lambda text, task: module.answer(text, text, task)):
        with pytest.raises(InputError, match="the model has no task 'other'"):
            call("a", task="other")


def test_a_name_that_is_that_of_another_kind_is_not_taken_for_the_kind():
    misnamed, french, german = ClassificationTask(), TranslationTask(("en-fr",)), ClassificationTask()
    module = several_module(tasks={"translation": misnamed, "french": french, "german": german})
    assert module.find_task(kind="translation")[0] == "french"
    assert module.find_task("translation")[0] == "translation"
    with pytest.raises(InputError, match=r"choose one of translation, german\b"):
        module.find_task(kind="classification")
    preferred = several_module(tasks=several_tasks(other=TranslationTask(("en-fr",))))
    assert preferred.find_task(kind="translation")[0] == "translation"


def test_the_command_line_calls_a_task_by_its_name(corpus, served, capsys):
    folder = save(served, corpus / "served")
    assert main(["run", str(folder), "--task", "mood", "a b", "--beam", "3"]) == 2
    assert "mood writes no text: leave out --beam" in capsys.readouterr().err
    assert main(["run", str(folder), "--task", "mood", "a b", "--context", "c"]) == 2
    assert "--context does not go with mood, which has no context" in capsys.readouterr().err


def test_a_row_without_anything_to_read_is_refused_by_its_number(corpus):
    module = fit(corpus, several_module(), several_data(corpus), max_steps=1)
    with pytest.raises(InputError, match=r"row 2 of those asked: mood reads text, and it has en"):
        module.solve([{"text": "a"}, {"en": "a b"}], task="mood")


def test_a_question_without_its_context_is_refused_by_its_number():
    model = Model({"asked": SpanAnsweringTask(window=16)}, tiny_backbone())
    model.build(Tokenizer.train([], TokenizerConfig("byte")))
    whole = {"question": "a b", "context": "c d"}
    for lacking, column in (({"question": "a b"}, "context"), ({"context": "c d"}, "question")):
        with pytest.raises(InputError, match=f"row 2 .* asked reads question, context, and it has no {column!r}"):
            model.solve([whole, lacking])
    with pytest.raises(InputError, match=r"row 1 .* it has no 'context'"):
        list(model.stream("a b"))
    assert len(model.solve([whole, {"question": "a b", "context": ""}])) == 2  # it is there, and blank


def test_a_stream_is_of_the_only_task_that_writes(corpus):
    module = fit(corpus, several_module(), several_data(corpus), max_steps=1)
    whole = module.solve([{"en": "a b"}], task="translation", group="en-de")[0][0].text
    assert "".join(module.stream({"en": "a b"}, group="en-de")) == whole
