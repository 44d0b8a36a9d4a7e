"""TaskModule under a real trainer: it learns, takes the same steps on any devices, resumes exactly, answers."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from tiny import ROWS, fit, tiny_backbone, tiny_data, tiny_module, tiny_rows, trainer, weights

from lmtasks.backbones.recurrent import RecurrentConfig
from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.batch import Batch
from lmtasks.errors import InputError
from lmtasks.settings import from_plain, to_plain
from lmtasks.storage.checkpoint import last_checkpoint
from lmtasks.tasks.answering import SpanAnsweringTask
from lmtasks.tasks.translation import TranslationTask
from lmtasks.text.tokenizer import Tokenizer, TokenizerConfig
from lmtasks.training.callbacks.checkpoints import Checkpoints, SafeCheckpointIO
from lmtasks.training.callbacks.randomness import RandomState
from lmtasks.training.checks import check_trainer
from lmtasks.training.config import Training
from lmtasks.training.module import TaskModule
from lmtasks.training.optim.optimizers import Adafactor, Adam, AdamW, Muon
from lmtasks.training.optim.schedule import Schedule

TWO_PROCESSES = """
import sys
import torch
from pathlib import Path
sys.path.insert(0, {tests!r})
from lmtasks.training.callbacks.checkpoints import Checkpoints
from tiny import fit, tiny_data, tiny_module, trainer, weights

if __name__ == "__main__":
    folder = Path({folder!r})
    settings = {settings!r}
    if settings["enable_checkpointing"]:
        settings["callbacks"] = [Checkpoints()]
    module = fit(folder, data=tiny_data(folder), **settings)
    scores = {{name: float(value) for name, value in module.trainer.callback_metrics.items()}}
    if module.trainer.is_global_zero:
        torch.save({{"weights": weights(module), "scores": scores}}, folder / "result.pt")
"""


class Seen(Callback):
    """Remember the rows of each micro-batch, and the loss of each step."""

    def __init__(self):
        self.rows, self.losses = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        (only,) = batch
        self.rows.append(only.ids.tolist())
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self.losses.append(float(trainer.callback_metrics["train/translation/loss"]))


def saving_run(corpus, steps, module=None, ckpt_path=None, data=None, **settings):
    """Train with what makes a resume exact, in one run folder."""
    seen = Seen()
    module = fit(
        corpus,
        module,
        data,
        max_steps=steps,
        callbacks=[Checkpoints(), RandomState(), seen],
        enable_checkpointing=True,
        plugins=[SafeCheckpointIO()],
        ckpt_path=ckpt_path,
        **settings,
    )
    return module, seen.rows


def dropping(**settings):
    return tiny_module(backbone=tiny_backbone(dropout=0.3, attention_dropout=0.1), **settings)


# Learning.


def test_a_copy_task_is_learnt(corpus):
    seen = Seen()
    module = tiny_module(
        backbone=tiny_backbone(d_model=16, d_ff=32, positions="rotary"), optimizer=Adam(0.02, betas=(0.9, 0.98))
    )
    fit(corpus, module, max_steps=60, callbacks=[seen])
    first, last = sum(seen.losses[:5]) / 5, sum(seen.losses[-5:]) / 5
    assert last < 0.5 * first


def test_a_recurrent_backbone_trains_too(corpus):
    seen = Seen()
    backbone = RecurrentConfig(d_model=8, d_hidden=8, d_attention=8, dropout=0.0)
    fit(corpus, tiny_module(backbone=backbone), max_steps=20, callbacks=[seen])
    assert seen.losses[-1] < seen.losses[0]


def test_the_loss_of_a_step_is_the_mean_over_its_targets(corpus):
    module = tiny_module(label_smoothing=0.0)
    data = tiny_data(corpus)
    losses = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            losses.append((outputs["loss"].item(), float(trainer.callback_metrics["train/translation/loss"])))

    fit(corpus, module, data, callbacks=[Watch()])
    assert all(ours == pytest.approx(mean, rel=1e-5) for ours, mean in losses)


def test_the_loss_logged_of_a_step_is_that_of_all_its_micro_batches(corpus):
    whole, cut = Seen(), Seen()
    fit(corpus, max_steps=5, callbacks=[whole])
    fit(corpus, max_steps=5, accumulate_grad_batches=4, callbacks=[cut])
    assert cut.losses == pytest.approx(whole.losses, rel=1e-4)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_micro_batches_take_the_steps_of_whole_batches(corpus, accumulate):
    whole, cut = Seen(), Seen()
    one = fit(corpus, max_steps=7, callbacks=[whole])
    several = fit(corpus, max_steps=7, accumulate_grad_batches=accumulate, callbacks=[cut])
    steps = [list(chain(*cut.rows[i : i + accumulate])) for i in range(0, len(cut.rows), accumulate)]
    assert steps == whole.rows
    torch.testing.assert_close(weights(one), weights(several), rtol=0, atol=1e-5)


def test_an_epoch_of_a_run_has_each_row_once(corpus):
    seen = Seen()
    module = fit(corpus, max_steps=-1, max_epochs=2, callbacks=[seen], accumulate_grad_batches=2)
    assert sorted(chain(*seen.rows)) == sorted([*range(ROWS["train"])] * 2)
    assert module.trainer.global_step == 2 * module.trainer.datamodule.mixture.steps_per_epoch


# Several processes.


def two_processes(folder, save=False, **settings):
    """Run `fit` in two processes, with a checkpoint at the end if it is to `save`; return weights and scores."""
    script = folder / "train.py"
    settings = {"devices": 2, "strategy": "ddp", "enable_checkpointing": save, **settings}
    script.write_text(TWO_PROCESSES.format(tests=str(Path(__file__).parent), folder=str(folder), settings=settings))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(folder / "result.pt", weights_only=True)


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one_and_score_as_one(corpus):
    settings = {"max_steps": 6, "limit_val_batches": 1.0, "val_check_interval": 3, "check_val_every_n_epoch": None}
    settings |= {"log_every_n_steps": 2}
    single = fit(corpus, accumulate_grad_batches=4, **settings)
    own = {name: float(value) for name, value in single.trainer.callback_metrics.items()}
    both = two_processes(corpus, accumulate_grad_batches=2, num_sanity_val_steps=2, **settings)
    torch.testing.assert_close(both["weights"], weights(single), rtol=0, atol=1e-5)
    losses = {"train/translation/loss", "validation/translation/loss"}
    assert {*losses, "validation/translation/bleu", "validation/score"} <= set(own)
    for name, value in own.items():
        assert both["scores"][name] == pytest.approx(value, rel=1e-4, nan_ok=True), name


SAME_ANYWHERE = """
import sys
import torch
from pathlib import Path
sys.path.insert(0, {tests!r})
from lightning.pytorch import Callback
from tiny import fit, tiny_data, weights

class Seen(Callback):
    def __init__(self):
        self.rows, self.losses = [], []
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        everywhere = [None] * trainer.world_size
        ids = batch[0].ids.tolist()
        torch.distributed.all_gather_object(everywhere, ids)
        self.rows.append(sorted(sum(everywhere, [])))
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self.losses.append(float(trainer.callback_metrics["train/translation/loss"]))

if __name__ == "__main__":
    found = {{}}
    for accumulate in (1, 2, 4):
        seen = Seen()
        settings = {{"devices": {processes}, "strategy": "ddp", "log_every_n_steps": 1, "max_steps": 6}}
        data = tiny_data(Path({folder!r}), tokens_per_step=192)
        module = fit(Path({folder!r}), None, data, accumulate_grad_batches=accumulate, callbacks=[seen], **settings)
        found[accumulate] = {{"rows": seen.rows, "losses": seen.losses, "weights": weights(module)}}
    if module.trainer.is_global_zero:
        torch.save(found, Path({folder!r}) / "result.pt")
"""


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("uneven", [False, True])
def test_the_number_of_processes_and_micro_batches_changes_no_number(corpus, processes, uneven):
    rows = [("a b", "c d")] * 96  # each step has 48 rows of 4 tokens, which up to 12 micro-batches share evenly
    if uneven:  # 40 rows of many lengths: steps of different sizes, which no number of micro-batches divides
        texts = (corpus / "train.en").read_text().splitlines()
        rows = [*zip(texts, texts, strict=True), *[("a" * 9, "b" * 9)] * 13]
    for language, texts in zip(("en", "de"), zip(*rows, strict=True), strict=True):
        (corpus / f"train.{language}").write_text("".join(f"{text}\n" for text in texts))
    seen = Seen()
    single = fit(corpus, None, tiny_data(corpus, tokens_per_step=192), max_steps=6, callbacks=[seen])
    script = corpus / "train.py"
    script.write_text(SAME_ANYWHERE.format(tests=str(Path(__file__).parent), folder=str(corpus), processes=processes))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    for accumulate, found in torch.load(corpus / "result.pt", weights_only=True).items():
        micro, each = found["rows"], accumulate
        steps = [sorted(chain(*micro[first : first + each])) for first in range(0, len(micro), each)]
        if not uneven or processes * accumulate <= 4:  # else a short step would have fewer rows than micro-batches
            assert steps == list(map(sorted, seen.rows))
            assert found["losses"] == pytest.approx(seen.losses, rel=1e-5)
            torch.testing.assert_close(found["weights"], weights(single), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [2, 3])
def test_two_processes_end_though_validation_has_next_to_no_rows(corpus, rows):
    for language in ("en", "de"):
        file = corpus / f"validation.{language}"
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:rows]))
    settings = {"max_steps": 2, "limit_val_batches": 1.0, "val_check_interval": 2, "check_val_every_n_epoch": None}
    assert "validation/score" in two_processes(corpus, **settings)["scores"]


# Resuming.


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("first", [3, "an epoch"])
def test_a_resumed_run_goes_on_bit_for_bit(corpus, tmp_path, accumulate, first):
    straight, rows = saving_run(corpus, 14, dropping(), accumulate_grad_batches=accumulate)
    epoch = straight.trainer.datamodule.mixture.steps_per_epoch
    first = epoch if first == "an epoch" else first
    assert first < epoch + 1 < 14
    _, before = saving_run(corpus, first, dropping(), accumulate_grad_batches=accumulate)
    resumed, after = saving_run(
        corpus, 14, dropping(), last_checkpoint(corpus / "run"), accumulate_grad_batches=accumulate
    )
    assert before + after == rows
    assert resumed.trainer.global_step == 14
    assert torch.equal(weights(resumed), weights(straight))


def test_a_checkpoint_from_the_middle_of_a_step_takes_that_step_again(corpus):
    half = {"accumulate_grad_batches": 2, "limit_val_batches": 1, "check_val_every_n_epoch": None}
    straight, _ = saving_run(corpus, 8, **half, val_check_interval=100)
    saving = {"callbacks": [Checkpoints(keep_last=9)], "enable_checkpointing": True, "max_steps": 3}
    fit(corpus, **saving, **half, val_check_interval=5)  # which is the first of the two micro-batches of step 3
    middle = last_checkpoint(corpus / "run").with_name("step=2.ckpt")
    resumed, _ = saving_run(corpus, 8, ckpt_path=middle, **half, val_check_interval=100)
    assert torch.equal(weights(resumed), weights(straight))


@pytest.mark.slow
def test_a_run_of_two_processes_goes_on_in_one_that_accumulates(corpus):
    straight = fit(corpus, max_steps=7, accumulate_grad_batches=2)
    two_processes(corpus, max_steps=3, save=True)
    resumed, _ = saving_run(corpus, 7, ckpt_path=last_checkpoint(corpus / "run"), accumulate_grad_batches=2)
    assert resumed.trainer.global_step == 7
    torch.testing.assert_close(weights(resumed), weights(straight), rtol=0, atol=1e-5)


def test_validation_between_changes_nothing_of_the_training(corpus):
    often = {
        "limit_val_batches": 1.0,
        "val_check_interval": 2,
        "check_val_every_n_epoch": None,
        "num_sanity_val_steps": 1,
    }
    plain, rows = saving_run(corpus, 8, dropping())
    validated, same_rows = saving_run(corpus, 8, dropping(), **often)
    assert rows == same_rows
    assert torch.equal(weights(plain), weights(validated))
    saving_run(corpus, 4, dropping(), **often)
    resumed, _ = saving_run(corpus, 8, dropping(), last_checkpoint(corpus / "run"), **often)
    assert torch.equal(weights(plain), weights(resumed))


def test_a_resume_in_two_micro_batches_takes_the_same_steps_only_if_their_number_is_the_same(corpus):
    saving_run(corpus, 3, accumulate_grad_batches=2)
    with pytest.raises(InputError, match="parts was 2 and is 1"):
        saving_run(corpus, 6, ckpt_path=last_checkpoint(corpus / "run"))


@pytest.mark.parametrize(("setting", "value"), [("tokens_per_step", 40), ("seed", 2), ("max_length", 6)])
def test_a_resume_with_another_plan_is_refused(corpus, setting, value):
    saving_run(corpus, 3)
    named = "rows was" if setting == "max_length" else f"{setting} was .* and is {value}"
    with pytest.raises(InputError, match=f"cannot go on exactly: {named}"):
        saving_run(corpus, 6, ckpt_path=last_checkpoint(corpus / "run"), data=tiny_data(corpus, **{setting: value}))


def test_a_resume_with_another_tokenizer_is_refused(corpus):
    saving_run(corpus, 3)
    other = dataclasses.replace(tiny_module().tokenizer_config, kind="character", vocab_size=300)
    with pytest.raises(InputError, match="another tokenizer"):
        saving_run(corpus, 6, tiny_module(tokenizer=other), last_checkpoint(corpus / "run"))


@pytest.mark.parametrize(
    ("optimizer", "kind"),
    [(Adam(0.01), "linear"), (AdamW(0.01), "inverse_sqrt"), (Adafactor(0.01), "linear"), (Muon(), "inverse_sqrt")],
    ids=["Adam", "AdamW", "Adafactor", "Muon"],
)
def test_every_optimiser_resumes_exactly(corpus, optimizer, kind):
    def module():
        return tiny_module(optimizer=optimizer, schedule=Schedule(kind, warmup=2))

    straight, _ = saving_run(corpus, 6, module())
    stopped = fit_until(corpus, module(), 3, 6)
    assert stopped.trainer.global_step == 3
    resumed, _ = saving_run(corpus, 6, module(), last_checkpoint(corpus / "run"))
    assert torch.equal(weights(straight), weights(resumed))


def fit_until(corpus, module, stop, steps):
    """Train as for `steps`, but be stopped earlier."""

    class Stop(Callback):
        def on_train_batch_end(self, trainer, *_):
            trainer.should_stop = trainer.should_stop or trainer.global_step == stop

    return fit(
        corpus, module, max_steps=steps, callbacks=[Stop(), Checkpoints(), RandomState()], enable_checkpointing=True
    )


@pytest.mark.parametrize("kind", ["inverse_sqrt", "cosine", "linear", "constant"])
def test_every_schedule_sets_the_rate_of_each_step(corpus, kind):
    schedule, rates = Schedule(kind, warmup=2, final=0.1), []

    class Rates(Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            rates.append(optimizer.param_groups[0]["lr"])

    fit(corpus, tiny_module(optimizer=Adam(0.5), schedule=schedule), max_steps=5, callbacks=[Rates()])
    assert rates == pytest.approx([0.5 * schedule.factor(step, 5) for step in range(1, 6)])


# Options.


@pytest.mark.parametrize(
    "settings", [{"gradient_clip_val": 0.01}, {"gradient_clip_val": 0.01, "precision": "bf16-mixed"}]
)
def test_gradients_are_clipped_to_the_norm_asked_for(corpus, settings):
    norms = []

    class Norm(Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            norms.append(torch.stack([p.grad.norm() for p in pl_module.parameters()]).norm().item())

        def on_train_batch_end(self, trainer, pl_module, *_):
            norms.append(torch.stack([p.grad.norm() for p in pl_module.parameters()]).norm().item())
            norms.append(float(trainer.callback_metrics["train/gradient_norm"]))

    module = fit(corpus, callbacks=[Norm()], **settings)
    for before, after, said in zip(norms[::3], norms[1::3], norms[2::3], strict=True):
        assert said == pytest.approx(before, rel=1e-4)
        assert before > 0.01
        assert after == pytest.approx(0.01, rel=1e-3)
    assert weights(module).isfinite().all()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_clipped_to_the_value_asked_for(corpus, precision):
    largest = []

    class Largest(Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            largest.append(max(float(p.grad.abs().max()) for p in pl_module.parameters()))

    settings = {"gradient_clip_val": 0.001, "gradient_clip_algorithm": "value", "precision": precision}
    fit(corpus, callbacks=[Largest()], **settings)
    assert largest == pytest.approx([0.001] * 3)


@pytest.mark.parametrize("optimizer", [Adam(), AdamW(), Adafactor(), Muon()], ids=lambda o: type(o).__name__)
def test_gradients_of_float16_are_unscaled_once_before_they_are_clipped(corpus, optimizer):
    class OnCPU(MixedPrecision):  # Lightning's own, with a scaler of a CPU
        def forward_context(self):
            return nullcontext()

    scaled = OnCPU("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**10))
    settings = {"max_steps": 3, "gradient_clip_val": 0.01}
    plain = fit(corpus, tiny_module(optimizer=optimizer), **settings)
    half = fit(corpus, tiny_module(optimizer=optimizer), plugins=[scaled], **settings)
    torch.testing.assert_close(weights(half), weights(plain), rtol=0, atol=1e-5)


def test_bfloat16_stays_near_float32(corpus):
    full, half = Seen(), Seen()
    fit(corpus, max_steps=10, callbacks=[full])
    fit(corpus, max_steps=10, callbacks=[half], precision="bf16-mixed")
    assert half.losses == pytest.approx(full.losses, rel=0.03)


def test_gradient_checkpointing_changes_no_gradient(corpus):
    plain = fit(corpus, tiny_module(backbone=tiny_backbone(encoder_layers=2)))
    again = fit(corpus, tiny_module(backbone=tiny_backbone(encoder_layers=2, gradient_checkpointing=True)))
    torch.testing.assert_close(weights(plain), weights(again), rtol=0, atol=1e-6)


@pytest.mark.parametrize("backbone", [RecurrentConfig(), tiny_backbone(decoder_mixing="ssru")])
def test_what_is_recurrent_is_not_compiled_for_each_length(backbone):
    with pytest.raises(InputError, match=r"model.training.compile is for attention"):
        tiny_module(backbone=backbone, compile=True)


@pytest.mark.slow
def test_compiled_layers_train_and_answer_as_plain_ones(corpus):
    plain = fit(corpus, max_steps=2)
    compiled = fit(corpus, tiny_module(compile=True), max_steps=2)
    torch.testing.assert_close(weights(plain), weights(compiled), rtol=0, atol=1e-4)
    assert set(plain.state_dict()) == set(compiled.state_dict())
    assert compiled.eval().translate("a b") == plain.eval().translate("a b")


def test_vectors_begin_the_embedding(corpus, caplog):
    file = corpus / "vectors.txt"
    numbers = [float(i) for i in range(1, 9)]
    file.write_text(f"a {' '.join(map(str, numbers))}\nelephant {' '.join(map(str, numbers[::-1]))}\n")
    other = dataclasses.replace(tiny_module().tokenizer_config, kind="bpe", vocab_size=290)
    with caplog.at_level("INFO", "lmtasks"):
        module = fit(corpus, tiny_module(vectors=str(file), tokenizer=other, optimizer=Adam(0.0)))
    assert re.search(rf"vectors: \d+\.\d % of the words of the vocabulary found in {file} \(", caplog.text)
    rows = [i for i, word in module.tokenizer.words() if word == "a"]
    assert rows
    for row in rows:
        cosine = torch.nn.functional.cosine_similarity(
            module.backbone.embedding.weight[row], torch.tensor(numbers), dim=0
        )
        assert float(cosine.detach()) == pytest.approx(1)


# Evaluation and use.


def test_validation_scores_every_row_once_whatever_the_size_of_batches(corpus, trained):
    scores = []
    for tokens in (1, 30, 1000):
        data = tiny_data(corpus, tokens_per_batch=tokens)
        (found,) = trainer(corpus / "run").validate(trained, datamodule=data, verbose=False)
        scores.append(found)
        assert [row.text for row in trained.predictions["translation"]] == (
            (corpus / "validation.en").read_text().splitlines()
        )
    assert set(scores[0]) == {
        f"validation/{name}"
        for name in ("score", *(f"translation/{m}" for m in ("loss", "perplexity", "bleu", "chrf")))
    }
    for other in scores[1:]:
        assert other == pytest.approx(scores[0], rel=1e-4, nan_ok=True)


def test_validation_loss_is_the_mean_over_all_targets_without_smoothing(corpus, trained):
    (scores,) = trainer(corpus / "run").validate(trained, datamodule=tiny_data(corpus), verbose=False)
    data, total, count = trained.trainer.datamodule, 0.0, 0
    with torch.no_grad():
        for i in range(ROWS["validation"]):
            batch = data.examples["validation"]["translation"].batch([i])
            loss = trained.heads["translation"].loss(trained.backbone, batch)
            total, count = total + float(loss.nll), count + int(loss.count)
    assert scores["validation/translation/loss"] == pytest.approx(total / count, rel=1e-4)
    assert scores["validation/translation/perplexity"] == pytest.approx(
        float(torch.tensor(total / count).exp()), rel=1e-4
    )


def test_prediction_answers_every_row_by_its_number(corpus, trained):
    rows = tiny_rows(corpus, predict=str(corpus / "predict.{lang}"))
    batches = trainer(corpus / "run").predict(trained, datamodule=tiny_data(corpus, rows=rows))
    answers = {number: best for _, found in batches for number, (best, *_) in found}
    texts = (corpus / "predict.en").read_text().splitlines()
    assert [answers[i].text for i in range(len(texts))] == trained.translate(texts)
    assert all(answer.score < 0 for answer in answers.values())


def test_several_directions_share_a_model_and_must_be_named(corpus):
    module = fit(corpus, tiny_module(("en-de", "en-fr", "de-en")), limit_val_batches=1.0, num_sanity_val_steps=1).eval()
    assert set(module.tokenizer.languages) == {"de", "fr", "en"}
    for languages in ({"target": "fr"}, {"source": "en", "target": "de"}, {"source": "de"}):
        assert isinstance(module.translate("a b", **languages), str)
    for languages in ({}, {"source": "en"}, {"target": "nl"}, {"source": "fr"}):
        with pytest.raises(InputError, match="knows en-de, en-fr, de-en"):
            module.translate("a b", **languages)
    data = module.trainer.datamodule
    assert len(data.mixture.plans["translation"].lengths) == 3 * ROWS["train"]
    first = data.examples["train"]["translation"].batch(range(3))
    assert first.source[:, 0].tolist() == [module.tokenizer.tag(language) for language in ("de", "fr", "en")]


def test_the_tag_decides_the_language(corpus):
    module = tiny_module(("en-de", "en-fr"))
    fit(corpus, module).eval()
    german, french = ([module.tokenizer.tag(language)] for language in module.task.targets)
    (a,), (b,) = (module.task.examples([{"en": "a b"}], module.tokenizer)[i : i + 1] for i in range(2))
    assert a.source[0:1] == german
    assert b.source[0:1] == french
    assert a.source[1:] == b.source[1:]
    assert module.translate("a b", target="de") == module.solve([{"en": "a b"}], group="en-de")[0][0].text


def test_the_padding_of_a_batch_changes_no_gradient(trained):
    source = torch.tensor([[5, 6, 2], [7, 2, 0]])
    batch = Batch("translation", source, source > 0, torch.tensor([[5, 2], [7, 2]]), torch.arange(2))
    wide = Batch(
        "translation",
        torch.nn.functional.pad(source, (0, 3)),
        torch.nn.functional.pad(source > 0, (0, 3)),
        torch.nn.functional.pad(batch.target, (0, 2), value=-100),
        batch.ids,
    )
    grads = []
    for given in (batch, wide):
        loss = trained.heads["translation"].loss(trained.backbone, given).total
        grads.append(torch.autograd.grad(loss, list(trained.backbone.parameters())))
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_model_without_layers_says_what_to_do():
    module = tiny_module()
    with pytest.raises(InputError, match=r"no layers yet; fit it, load one, or call build\(tokenizer\)"):
        module.translate("a b")
    with pytest.raises(InputError, match="no tokenizer yet"):
        module.describe()


def test_a_module_describes_the_settings_that_it_has_now():
    module = tiny_module()
    module.tokenizer = Tokenizer.train(["a b"], TokenizerConfig(kind="byte"))
    module.training_config = Training(AdamW(lr=0.5), Schedule(warmup=7))
    assert from_plain(module.describe()["settings"])["training"] == module.training_config


def test_a_module_built_by_hand_is_frozen_as_its_settings_say():
    module = tiny_module(freeze=("backbone.encoder",))
    module.build(Tokenizer.train(["a b"], TokenizerConfig(kind="byte"), languages=("en", "de")))
    module.configure_model()
    assert not any(parameter.requires_grad for parameter in module.backbone.encoder.parameters())


def test_a_model_too_short_for_its_task_is_not_half_built():
    backbone = TransformerConfig(d_model=8, n_heads=2, d_ff=8, decoder_layers=0, max_length=4)
    module = TaskModule({"answers": SpanAnsweringTask(window=300)}, backbone)
    for _ in range(2):
        with pytest.raises(InputError, match=r"answers reads 300 tokens at once, and model.backbone.max_length is 4"):
            module.build(Tokenizer.train(["a b"], TokenizerConfig(kind="byte")))
    assert module.backbone is None


def test_all_processes_take_tokenizer_and_tasks_of_the_first():
    first, own = (Tokenizer.train(texts, TokenizerConfig("character", 300)) for texts in (["abc"], ["xyz"]))
    tasks = {"translation": TranslationTask(("en-fr",))}
    for mine in (own, None):
        module = tiny_module()
        module.tokenizer = mine
        module.share(lambda _: (first.to_plain(), to_plain(tasks)))
        assert module.tokenizer.fingerprint == first.fingerprint
        assert module.tasks == tasks


@pytest.mark.parametrize("strategy", [FSDPStrategy, ModelParallelStrategy])
def test_a_strategy_that_cuts_the_model_into_parts_is_refused(strategy):
    with pytest.raises(InputError, match=rf"trainer.strategy {strategy.__name__} splits the model.*; use ddp"):
        check_trainer(SimpleNamespace(strategy=strategy()), "fit")
