"""TaskModule: a Model under Lightning, the only class with training logic.

A training step: `training_step` gets a batch of each task that takes part, the head of the task computes its loss on
the backbone, and `joint` turns the losses into one scalar for `backward`. The loss of each task is logged before the
optimiser steps. Evaluation scores all rows once, gathered by row number over all processes.

The trainer calls prepare_data and setup of the data module, which trains the tokenizer and hands over the mixture, then
`configure_model`, which builds the layers. The modules named after tasks are in `modules.py`.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from lightning import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer

from lmtasks.backbones.base import BackboneConfig
from lmtasks.batch import Batch
from lmtasks.data.mixing import Mixture
from lmtasks.decoding import Decoding
from lmtasks.errors import InputError
from lmtasks.finite import REMEDY, broken_weight, check_finite, is_finite
from lmtasks.heads.base import Head
from lmtasks.model import Model
from lmtasks.settings import from_plain, to_plain
from lmtasks.storage import TOKENIZER
from lmtasks.storage.checkpoint import saved_in
from lmtasks.storage.model_folder import load
from lmtasks.storage.reading import refusing
from lmtasks.story import Story
from lmtasks.tasks.base import Answer, Prediction, Row, Task
from lmtasks.text.base import BaseTokenizer
from lmtasks.text.tokenizer import Tokenizer, TokenizerConfig
from lmtasks.text.vectors import initialise
from lmtasks.training.config import Training
from lmtasks.training.evaluation import Evaluation
from lmtasks.training.hardware import machine, peak_memory
from lmtasks.training.health import MOST, Health
from lmtasks.training.init_from import Source, adapt, check_trained, freeze, parameters_in
from lmtasks.training.sharding import is_sharded, shard, shards
from lmtasks.training.steps import (
    close_epoch,
    go_on,
    last_step,
    lift_limits,
    recount,
    stop_at_validations,
    stopped_early,
)

JOINT = "joint."  # how the names of the weights of joint training begin
logger = logging.getLogger(__name__)


class TaskModule(Model, LightningModule):
    """A model of one or several tasks that is trained.

    Args:
        tasks: What is trained, {name: task}; the names are those of scores, of data.rows and of `lmtasks run --task`.
        backbone: Architecture and sizes.
        tokenizer: How texts become token ids; trained on the training texts unless it names a file.
        training: How it is trained: optimiser, schedule, first weights, frozen parts, joint training.
        decoding: How answers are searched in test, predict and use.
        validation_decoding: How answers are searched in validation, where speed counts; greedy by default.
    """

    def __init__(
        self,
        tasks: dict[str, Task],
        backbone: BackboneConfig,
        tokenizer: TokenizerConfig = TokenizerConfig(),
        training: Training = Training(),
        decoding: Decoding = Decoding(),
        validation_decoding: Decoding = Decoding(beam=1),
    ) -> None:
        super().__init__(tasks, backbone, decoding)
        if training.compile and not self.backbone_config.compiles:
            raise InputError(
                "model.training.compile is for attention; a recurrent backbone or SSRU would compile every length anew"
            )
        if training.init_from:
            if self.origin:
                raise InputError("model.backbone is pretrained; leave out model.training.init_from")
            self.origin = Source(training.init_from, sum(task.generates for task in tasks.values()))
        if self.origin and (tokenizer.file or training.vectors):
            unwanted = "tokenizer.file" if tokenizer.file else "training.vectors"
            brings = "model.training.init_from" if training.init_from else "a pretrained model.backbone"
            raise InputError(f"{brings} brings tokenizer and embeddings of its own; leave out model.{unwanted}")
        if training.lora and not self.origin:
            raise InputError("model.training.lora adapts a trained backbone; set init_from, or a pretrained backbone")
        if training.lora and self.origin and (new := self.origin.new_parts):
            raise InputError(
                f"model.training.lora trains nothing of the backbone itself, and its {new[0]} is new; leave lora out"
            )
        self.tokenizer_config, self.training_config, self.validation_decoding = tokenizer, training, validation_decoding
        self.joint = training.joint.build(list(self.tasks))
        self.mixture: Mixture | None = None
        """The training mixture: which rows make step k. The data module sets it by `connect`."""
        self.predictions: dict[str, list[Prediction]] = {}
        """The rows of the last evaluation with their answers, by task."""
        self._evaluations = {name: Evaluation() for name in self.tasks}
        self._resting: list[tuple[int, list[nn.Parameter]]] = []  # (step after which they are trained, parameters)
        self._noted: float | None = None  # when the story was last brought up to date; None = not training
        self._sums: dict[str, Tensor] = {}  # (2,) nll and number of targets of each task in this step so far
        self._health = Health()
        self._begun_with: Training | None = None  # settings of a resumed run, which has no use for its first weights
        self._resumed: dict[str, Any] | None = None  # what a resumed run has to know beside the weights
        self._validated = False  # whether the validation that goes on has been scored

    @staticmethod
    def of(model: Model, training: Training | None = None) -> TaskModule:
        """Return a module that trains, validates or tests a model, as it was trained or with other settings.

        They share tasks and layers.

        Raises: InputError if `training` asks for first weights, which the model has.
        """
        if training and (training.init_from or training.vectors):
            raise InputError("the model has its weights; leave out training.init_from and training.vectors")
        with refusing("the settings of its training"):
            settings = from_plain(model.training_settings)
            before = training or settings.get("training", Training())
            settings |= {"training": replace(before, init_from=None, vectors=None, lora=None)}
            module = TaskModule(model.tasks, model.backbone_config, decoding=model.decoding, **settings)
        module.training_config = replace(module.training_config, lora=before.lora)
        module.tokenizer, module.backbone, module.heads = model.tokenizer, model.backbone, model.heads
        module.story = model.story
        module._adapt_freeze_and_compile()
        module.train()  # a loaded model is in evaluation mode, without dropout
        return module

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: str | Path, map_location: str = "cpu") -> TaskModule:  # type: ignore[override]
        """Return a module with the model of a checkpoint or model folder, to train, validate or test it further.

        `lmtasks.load` returns the model alone, which is all that answers need.

        Raises: InputError if there is none, or the class is one of yours, whose arguments only you know.
        """
        if cls.__module__.split(".")[0] != "lmtasks":
            raise InputError(
                f"{cls.__name__}.load_from_checkpoint: a checkpoint lacks the arguments of {cls.__name__}; make one "
                "and give ckpt_path to fit, validate or test; or use lmtasks.load"
            )
        return TaskModule.of(load(checkpoint_path, map_location))

    @property
    def training_settings(self) -> dict[str, Any]:
        """The settings of its training as plain data."""
        return to_plain(
            {
                "tokenizer": self.tokenizer_config,
                "training": self._begun_with or self.training_config,
                "validation_decoding": self.validation_decoding,
            }
        )

    # Building, in the order of the trainer's calls.

    def learn(self, name: str, rows: Iterable[Row]) -> None:
        """Let a task see its training rows."""
        self.tasks[name] = self.tasks[name].learn(rows)

    def train_tokenizer(self, texts: Iterable[str], folder: Path) -> None:
        """Make the tokenizer: that of `init_from` or of a pretrained backbone, or one of its file or of the texts.

        It is written into `folder`.
        """
        languages, marks = self.token_names
        if self.origin:
            self.tokenizer = self.origin.tokenizer(languages, marks)
        else:
            self.tokenizer = Tokenizer.train(texts, self.tokenizer_config, languages, marks)
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save(folder / TOKENIZER)
        logger.info("tokenizer: %s tokens", f"{len(self.tokenizer):,}")

    def share(self, broadcast: Callable[[Any], Any]) -> None:
        """Give tokenizer and tasks of the first process to all; `broadcast` returns what that one has."""
        own = None if self.tokenizer is None else self.tokenizer.to_plain()
        shared, tasks = broadcast((own, to_plain(self.tasks)))
        if own != shared:  # each node trains its own, from data and versions that may differ
            self.tokenizer = BaseTokenizer.from_plain(shared)
        self.tasks = from_plain(tasks)

    def connect(self, mixture: Mixture, story: Story) -> None:
        """Take the mixture that training follows, and what is known of its data; the data module calls it."""
        before, self.mixture = self.story, mixture
        base = {"base": self.origin.called} if self.origin else {"base": before.base, "base_steps": before.steps}
        self.story = replace(story, **base)

    def configure_model(self) -> None:
        """Build the layers, once; in a training by FSDP2 this process then keeps its part of them."""
        if self.backbone is None:
            assert self.tokenizer is not None, "set module.tokenizer, or fit with a TextDataModule"
            self.build(self.tokenizer)
        if self._trainer is not None and self.trainer.state.fn == TrainerFn.FITTING and shards(self.trainer.strategy):
            shard([self.built()[0], *self.heads.values()], cast(Any, self.device_mesh)["data_parallel"])

    def gather(self) -> None:
        """Take whole layers after a training in which this process had a part of them; their weights come next."""
        backbone, tokenizer = self.built()
        if is_sharded(backbone):
            self.start_over(self.tasks, tokenizer)
            self.build(tokenizer)

    def build(self, tokenizer: BaseTokenizer | None = None) -> None:
        """Build backbone and heads for a tokenizer, with their first weights, as the settings of training say."""
        super().build(tokenizer)
        backbone, tokenizer = self.built()
        if vectors := self.training_config.vectors:
            found = initialise(backbone.embedding, tokenizer, vectors)
            said = "vectors: %.1f %% of the words of the vocabulary found in %s (%.1f %% of the whole vocabulary)"
            logger.info(said, 100 * found.words, vectors, 100 * found.vocabulary)
        self._adapt_freeze_and_compile()

    def _adapt_freeze_and_compile(self) -> None:
        backbone, _ = self.built()
        if self.training_config.lora:
            adapt(backbone, self.training_config.lora)
        freeze(self, self.training_config.freeze)
        if self.training_config.compile:
            for name in ("encode", "decode"):
                setattr(backbone, name, torch.compile(getattr(backbone, name), dynamic=True))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimiser and its schedule over all steps of the run."""
        trainer, schedule = self.trainer, self.training_config.schedule
        steps = last_step(trainer, self.mixture.steps_per_epoch if self.mixture else None)
        if trainer.fast_dev_run:  # type: ignore[attr-defined]  # a rehearsal of a few steps, for which nothing ends
            steps = schedule.warmup + 1
        optimizer = self.training_config.optimizer.build(self)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule.build(optimizer, steps), "interval": "step"},
        }

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip gradients. Lightning refuses it for fused optimisers, because those of float16 are scaled; here they are
        unscaled first."""
        if not gradient_clip_val:
            return
        if self._scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
            self._scaler.unscale_(optimizer)  # for other optimisers Lightning does it
        if gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(self.parameters(), gradient_clip_val)
        else:
            norm = nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)
            norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
            self.log("train/gradient_norm", norm)
            if norm.device.type == "cpu" and not is_finite(norm):  # elsewhere the next loss tells, and no step waits
                step = self.trainer.global_step + 1
                self._check_health()
                raise InputError(f"step {step}: the gradient is {norm:g}, {self._health.named(step)}; {self._remedy()}")

    # Training.

    def on_fit_start(self) -> None:
        """Prepare joint training, and find the parts that are trained later.

        Raises: InputError if there is no such part, or nothing of a task would be trained until then.
        """
        self._sums, self._health = {}, Health()
        thaw = self.training_config.thaw
        self._resting = [(step, parameters_in(self, [name], "thaw")) for name, step in thaw.items()]
        check_trained(self, [parameter for _, resting in self._resting for parameter in resting], "thaw")
        self.joint.begin(list(self.parameters()), list(self.built()[0].parameters()), scaled=self._scaler is not None)
        stop_at_validations(self.trainer)
        if self._resumed is not None:
            if self._resumed["validate"]:
                self._resumed["limits"] = lift_limits(self.trainer)
            else:
                self.trainer.should_stop |= bool(stopped_early(self.trainer))

    def on_train_start(self) -> None:
        """Note when the training began; make the validation that was due when a resumed run was stopped."""
        self._noted, resumed, self._resumed = time.monotonic(), self._resumed, None
        if resumed is not None and self.mixture:
            logged = {name: torch.tensor(value) for name, value in resumed["logged"].items()}
            self.trainer._logger_connector._callback_metrics.update(logged)
            go_on(self.trainer, self.mixture.steps_per_epoch, resumed.get("limits"))
            self.trainer.should_stop |= bool(stopped_early(self.trainer))

    def on_train_end(self) -> None:
        """Note what the training took."""
        self._note()
        self._noted = None
        self._health.warn()

    def on_fit_end(self) -> None:
        """Say why early stopping ended the training."""
        self._resumed = None
        if self.mixture:
            close_epoch(self.trainer, self.mixture.steps_per_epoch)
        for reason in stopped_early(self.trainer):
            logger.info("%s", reason)

    def _note(self) -> None:
        """Bring what is known of a training up to date, while it goes on."""
        if self._noted is None:
            return
        before, self._noted = self._noted, time.monotonic()
        self.story = replace(
            self.story,
            steps=self.trainer.global_step,
            seconds=self.story.seconds + self._noted - before,
            precision=str(self.trainer.precision),
            machine=machine(self.device, self.trainer.world_size),
            memory=max(self.story.memory, peak_memory()),
        )

    def training_step(self, batches: Sequence[Batch], batch_idx: int) -> Tensor:
        """Return the share of this micro-batch, one batch of each task that takes part, in the step's loss."""
        losses: dict[str, Tensor] = {}
        for batch in batches:
            loss = self._head(batch).loss(self.built()[0], batch)
            sums = torch.stack((loss.nll.float(), loss.count.float()))  # (2,)
            self._sums[batch.task] = self._sums.get(batch.task, 0) + sums
            self._health.take(self.trainer.global_step + 1, batch.task, batch.ids, sums)
            losses[batch.task] = loss.total * batch.scale
        return self.joint.loss(losses, {batch.task: batch.weight for batch in batches}, self._logged)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Log the losses of the step, let joint training finish the gradient, and log what it found.

        Parts that are trained later lose their gradients, before these are clipped: no optimiser then moves them,
        their moments or their decay. They keep requires_grad, because DistributedDataParallel decides at the start
        which gradients it averages.
        """
        trainer = self.trainer
        self._log_losses()
        alone = self.device.type == "cpu" and trainer.world_size == 1
        if alone or self._logged or len(self._health.taken) >= MOST:
            self._check_health()
        found = self.joint.finish(trainer.accumulate_grad_batches, trainer.global_step, self._logged)
        for step, parameters in self._resting:
            for parameter in parameters if trainer.global_step < step else ():
                parameter.grad = None
        if self._logged and self.mixture and len(self.tasks) > 1:
            found |= self.mixture.report(trainer.global_step + 1)
        self.log_dict({f"train/{name}": value for name, value in found.items()})

    def _check_health(self) -> None:
        """Check the losses since the last check. Raises: InputError if one is not finite."""
        if self._health.taken:
            self._health.check(skips=self._scaler is not None, remedy=self._remedy())

    def _remedy(self) -> str:
        """Return what stays of a training that has diverged, and what to try."""
        trainer, optimizer = self.trainer, self.training_config.optimizer
        last = getattr(trainer.checkpoint_callback, "last_model_path", "")
        kept = f"{last} is the last checkpoint, and finite" if last else "no checkpoint is written"
        clip = "" if trainer.gradient_clip_val else ", or trainer.gradient_clip_val 1.0"
        return f"{kept}; try a lower model.training.optimizer.lr (it is {optimizer.lr:g}){clip}"

    def _log_losses(self) -> None:
        """Log the mean loss of each task over the targets of the step, NaN where it took no part.

        It is that of all processes where loggers write it, else of this one.
        """
        none = torch.zeros(2, device=self.device)
        sums = torch.stack([self._sums.get(task, none) for task in self.tasks])  # (T, 2)
        self._sums = {}
        if self._logged:
            sums = cast(Tensor, self.trainer.strategy.reduce(sums, reduce_op="sum"))
        nll, count = sums.unbind(1)
        self.log_dict({f"train/{task}/loss": loss for task, loss in zip(self.tasks, nll / count, strict=True)})

    @property
    def _scaler(self) -> torch.amp.GradScaler | None:
        """What scales the gradients of float16, None in other precisions."""
        return getattr(self.trainer.precision_plugin, "scaler", None)

    @property
    def _logged(self) -> bool:
        """Whether the loggers will write what is logged of this step."""
        every, step = self.trainer.log_every_n_steps, self.trainer.global_step  # type: ignore[attr-defined]
        return every > 0 and (step + 1) % every == 0

    # Evaluation: validation, test and prediction share one method each for a batch and for the end.

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect losses and answers."""
        self._evaluate(batch, self.validation_decoding)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect losses and answers."""
        self._evaluate(batch, self.decoding)

    def predict_step(self, batch: Batch, batch_idx: int) -> tuple[str, list[tuple[int, list[Answer]]]]:
        """Return the task, and (number of the example, its answers, best first); `predicted` gathers them as rows."""
        answers = self._answer(batch, self.decoding)
        self._evaluations[batch.task].add(batch, answers)
        return batch.task, list(zip(batch.ids.tolist(), answers, strict=True))

    def on_validation_epoch_start(self) -> None:
        """Forget the evaluation before, which may have been interrupted or of another split."""
        self._check_health()
        self._evaluations = {name: Evaluation() for name in self.tasks}
        self.predictions = {}

    on_test_epoch_start = on_predict_epoch_start = on_validation_epoch_start

    def on_validation_epoch_end(self) -> None:
        """Score the validation rows of all processes."""
        self._score("validation")
        self._validated = True

    def on_validation_end(self) -> None:
        """Be ready for the next validation."""
        self._validated = False

    def on_test_epoch_end(self) -> None:
        """Score the test rows of all processes."""
        self._score("test")

    def predicted(self) -> dict[str, Evaluation]:
        """Return what the last prediction has found in all processes, by task."""
        return {name: evaluation.gathered() for name, evaluation in self._evaluations.items()}

    def _evaluate(self, batch: Batch, decoding: Decoding) -> None:
        loss = self._head(batch).loss(self.built()[0], batch)
        self._evaluations[batch.task].add(batch, self._answer(batch, decoding), loss)

    def _answer(self, batch: Batch, decoding: Decoding) -> list[list[Answer]]:
        """Return the answers to the examples of a batch, none to those that are not asked."""
        predictor = self._predictor()
        if batch.asked is None or len(batch.asked) == len(batch):
            return predictor.answer_batch(batch, decoding)
        answers: list[list[Answer]] = [[] for _ in range(len(batch))]
        if batch.asked:
            found = predictor.answer_batch(batch.select(batch.asked), decoding)
            for place, several in zip(batch.asked, found, strict=True):
                answers[place] = several
        return answers

    def _score(self, split: str) -> None:
        """Log loss and scores of each task that had rows, and the mean of the tasks' main scores."""
        main = []
        for name, task in self.tasks.items():
            evaluation = self._evaluations[name].gathered()
            if evaluation.is_empty:
                continue
            predictions = evaluation.predictions(task)
            if self.trainer.state.fn == TrainerFn.FITTING:
                predictions = task.calibrate(cast(Head, self.heads[name]), predictions)
            if not math.isfinite(evaluation.nll):
                raise InputError(f"the {split} loss of {name} is {evaluation.nll}; {REMEDY}")
            scores = evaluation.scores(task, predictions)
            self.predictions[name] = predictions
            self.log_dict({f"{split}/{name}/{metric}": value for metric, value in scores.items()})
            main.append(scores[task.main_metric])
        self.log(f"{split}/score", sum(main) / len(main))

    def _head(self, batch: Batch) -> Head:
        return cast(Head, self.heads[batch.task])

    # Checkpoints.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add settings and tokenizer, so that the checkpoint opens with no other file."""
        self._check_health()
        if name := broken_weight(checkpoint.get("state_dict", {})):
            step = self.trainer.global_step
            raise InputError(f"step {step}: {name} is not finite any more (NaN or infinity); {self._remedy()}")
        self._note()
        checkpoint["lmtasks"] = self.describe() | {"story": self.story.plain()}
        if self._noted is not None:
            logged = {name: value.item() for name, value in self.trainer.callback_metrics.items()}
            validate = self.trainer.validating and not self._validated
            checkpoint["lmtasks"] |= {"validate": validate, "logged": logged}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the weights belong to the tokenizer of this run; correct Lightning's counts of micro-batches."""
        assert self.tokenizer is not None
        whole = {"state_dict": {}, **checkpoint}  # FSDP2 has taken the weights by now
        saved = saved_in(whole, self.trainer.ckpt_path if self._trainer else "the checkpoint")
        if saved.build_tokenizer().fingerprint != self.tokenizer.fingerprint:
            raise InputError(
                "the checkpoint was trained with another tokenizer than this run has; "
                "start a new run with model.training.init_from, or give the tokenizer.json of its run as "
                "model.tokenizer.file"
            )
        check_finite(whole["state_dict"])
        self.story = replace(saved.story, data=self.story.data or saved.story.data)
        self.joint.check(name.removeprefix(JOINT) for name in whole["state_dict"] if name.startswith(JOINT))
        if self._trainer is not None and self._trainer.training and self.mixture:
            recount(checkpoint, self.mixture.steps_per_epoch, self.trainer.accumulate_grad_batches)
            own = checkpoint["lmtasks"]
            self._resumed = {"validate": own.get("validate", False), "logged": own.get("logged", {})}

    def start_over(self, tasks: dict[str, Task], tokenizer: BaseTokenizer) -> None:
        """Take tokenizer and tasks of a saved model, whose weights are loaded next, and drop its first weights."""
        self.tasks, self.tokenizer, self._begun_with = tasks, tokenizer, self.training_config
        self.training_config, self.origin = replace(self.training_config, init_from=None, vectors=None), None
