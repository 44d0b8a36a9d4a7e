"""TaskModule: a Model under Lightning, the only class with training logic.

The modules named after tasks are short signatures over it (`named/`). Layers are built in `configure_model`, when the
tokenizer is known; training, validation and test share one loss, and an evaluation scores all rows once, gathered by
row number over all processes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
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
from lmtasks.data.tokenized import TokenizedDataset
from lmtasks.decoding import Decoding
from lmtasks.errors import InputError
from lmtasks.heads.base import Head
from lmtasks.model import Model
from lmtasks.settings import from_plain, to_plain
from lmtasks.storage.checkpoint import TOKENIZER
from lmtasks.tasks.base import Answer, Prediction, Row, Task
from lmtasks.text.tokenizer import Tokenizer, TokenizerConfig
from lmtasks.text.vectors import initialise
from lmtasks.training import init_from as start
from lmtasks.training.evaluation import Evaluation, answers_of
from lmtasks.training.joint.learning import JointConfig
from lmtasks.training.optim.optimizers import Adam, OptimizerConfig, Schedule
from lmtasks.training.steps import recount

JOINT = "joint."  # what the names of the weights of JointStep begin with
logger = logging.getLogger(__name__)


class TaskModule(Model, LightningModule):
    """A model of one or several tasks that learns.

    Args:
        tasks: What is learned, {name: task}; the names are those of scores, of data.rows and of `lmtasks run --task`.
        backbone: Architecture and sizes.
        tokenizer: How texts become token ids; trained on the training texts unless it names a file.
        optimizer: Optimiser with its settings.
        schedule: Learning rate over the steps.
        decoding: How answers are searched in test, predict and use.
        validation_decoding: How they are searched in validation, where speed counts; greedy by default.
        vectors: A GloVe or word2vec text file from which embeddings start.
        compile: Let torch.compile make encode and decode faster; worth the minutes it takes on a GPU.
        init_from: A run, model folder or checkpoint from which tokenizer and backbone start.
        freeze: Names of parts that are not trained, such as backbone.encoder.
        joint: How several tasks are learned together.
    """

    def __init__(
        self,
        tasks: dict[str, Task],
        backbone: BackboneConfig,
        tokenizer: TokenizerConfig = TokenizerConfig(),
        optimizer: OptimizerConfig = Adam(),
        schedule: Schedule = Schedule(),
        decoding: Decoding = Decoding(),
        validation_decoding: Decoding = Decoding(beam=1),
        vectors: str | None = None,
        compile: bool = False,
        init_from: str | None = None,
        freeze: tuple[str, ...] = (),
        joint: JointConfig = JointConfig(),
    ) -> None:
        super().__init__(tasks, backbone, decoding)
        if compile and not backbone.compiles:
            raise InputError("model.compile is for a Transformer; each length of a recurrent backbone compiles anew")
        self.tokenizer_config, self.optimizer_config, self.schedule = tokenizer, optimizer, schedule
        self.validation_decoding, self.joint_config = validation_decoding, joint
        self.vectors, self.compile_backbone = vectors, compile
        self.init_from, self.freeze_names = init_from, tuple(freeze)
        self._start = start.Start(init_from, tokenizer.file, vectors)
        self.joint = joint.build(list(self.tasks))
        self.samples: dict[str, list[Prediction]] = {}
        self._evaluations = {name: Evaluation() for name in self.tasks}
        self._sums: dict[str, Tensor] = {}  # (2,) nll and number of targets of each task in this step so far

    @staticmethod
    def of(model: Model, optimizer: OptimizerConfig | None = None, schedule: Schedule | None = None) -> TaskModule:
        """Return a module that trains, validates or tests a model, as it was trained or with settings of its own.

        They share tasks and layers.
        """
        settings = from_plain(model.training_settings)
        settings |= {"optimizer": optimizer or settings["optimizer"], "schedule": schedule or settings["schedule"]}
        module = TaskModule(model.tasks, model.backbone_config, decoding=model.decoding, **settings)
        module.tokenizer, module.backbone, module.heads = model.tokenizer, model.backbone, model.heads
        module.train()  # what was loaded is as one that is used: without dropout
        return module

    @property
    def training_settings(self) -> dict[str, Any]:
        """The settings of its training as plain data."""
        settings = {
            "tokenizer": self.tokenizer_config,
            "optimizer": self.optimizer_config,
            "schedule": self.schedule,
            "validation_decoding": self.validation_decoding,
            "joint": self.joint_config,
        }
        return to_plain(settings)

    # Building: the trainer calls prepare_data of the data module, its setup, then configure_model.

    def learn(self, name: str, rows: Iterable[Row]) -> None:
        """Let a task see its training rows."""
        self.tasks[name] = self.tasks[name].learn(rows)

    def train_tokenizer(self, texts: Iterable[str], folder: Path) -> None:
        """Make the tokenizer, from its file, that of `init_from` or of the training texts, and write it to the run
        folder."""
        tasks = self.tasks.values()
        languages = tuple(dict.fromkeys(language for task in tasks for language in task.languages))
        marks = tuple(dict.fromkeys([mark for task in tasks for mark in task.marks] + list(self.beginnings.values())))
        if self.init_from:
            self.tokenizer = self._start.tokenizer(languages, marks)
        else:
            self.tokenizer = Tokenizer.train(texts, self.tokenizer_config, languages, marks)
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save(folder / TOKENIZER)
        logger.info("tokenizer: %s tokens", f"{len(self.tokenizer):,}")

    def share(self, broadcast: Callable[[Any], Any]) -> None:
        """Give tokenizer and tasks of the first process to all; `broadcast` returns what that one has."""
        own = None if self.tokenizer is None else self.tokenizer.to_json()
        shared, tasks = broadcast((own, to_plain(self.tasks)))
        if own != shared:  # each node has trained its own, of data and versions that need not be the same
            self.tokenizer = Tokenizer.from_json(shared)
        self.tasks = from_plain(tasks)

    def configure_model(self) -> None:
        """Build the layers, once."""
        if self.backbone is None:
            assert self.tokenizer is not None, "set module.tokenizer, or fit with a TextDataModule"
            self.build(self.tokenizer)

    def build(self, tokenizer: Tokenizer) -> None:
        """Build backbone and heads for a tokenizer, with the weights from which they start, as training wants them."""
        super().build(tokenizer)
        backbone, _ = self.built()
        if self.vectors:
            found = initialise(backbone.embedding, tokenizer, self.vectors)
            logger.info("vectors: %.1f %% of the vocabulary found in %s", 100 * found, self.vectors)
        if self.init_from:
            self._start.give(backbone, self.backbone_config, tokenizer)
        start.freeze(self, self.freeze_names)
        if self.compile_backbone:
            for name in ("encode", "decode"):
                setattr(backbone, name, torch.compile(getattr(backbone, name), dynamic=True))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimiser and its schedule over all steps of the run."""
        trainer: Any = self.trainer
        steps = self.schedule.warmup + 1 if trainer.fast_dev_run else _steps(trainer)  # a rehearsal ends nowhere
        optimizer = self.optimizer_config.build(self)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.schedule.build(optimizer, steps), "interval": "step"},
        }

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip; Lightning refuses it for fused optimisers, for fear of the scaled gradients of float16.

        They are unscaled here.
        """
        if not gradient_clip_val:
            return
        if self._scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
            self._scaler.unscale_(optimizer)  # others Lightning has unscaled
        if gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(self.parameters(), gradient_clip_val)
        else:
            self.log("train/gradient_norm", nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val))

    # Training and evaluation.

    def on_fit_start(self) -> None:
        """Make ready to tell several tasks apart."""
        self._sums = {}
        scaled = self._scaler is not None
        self.joint.begin(list(self.parameters()), list(self.built()[0].parameters()), scaled)

    def training_step(self, batches: Sequence[Batch], batch_idx: int) -> Tensor:
        """Return the share of this micro-batch, one batch of each task that takes part, in the step's loss."""
        losses: dict[str, Tensor] = {}
        for batch in batches:
            loss = self._head(batch).loss(self.built()[0], batch)
            self._sums[batch.task] = self._sums.get(batch.task, 0) + torch.stack((loss.nll.float(), loss.count.float()))
            losses[batch.task] = loss.total * batch.scale
        return self.joint.loss(losses, {batch.task: batch.weight for batch in batches}, self._logged)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Log the losses of the step, let what each of several tasks brought to it have its effect, and log that."""
        trainer: Any = self.trainer
        self._log_losses()
        if len(self.tasks) > 1:
            found = self.joint.finish(trainer.accumulate_grad_batches, trainer.global_step, self._logged)
            if self._logged:
                found |= trainer.datamodule.mixture.report(trainer.global_step + 1)
            self.log_dict({f"train/{name}": value for name, value in found.items()})

    def _log_losses(self) -> None:
        """Log the mean of each task over the targets of the step, NaN where it took no part.

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
    def _scaler(self) -> Any:
        """What scales the gradients of float16, None in other precisions."""
        return getattr(self.trainer.precision_plugin, "scaler", None)

    @property
    def _logged(self) -> bool:
        """Whether the loggers will write what is logged of this step."""
        every, step = self.trainer.log_every_n_steps, self.trainer.global_step  # type: ignore[attr-defined]
        return every > 0 and (step + 1) % every == 0

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect losses and answers."""
        self._evaluate(batch, "validation", self.validation_decoding)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect losses and answers."""
        self._evaluate(batch, "test", self.decoding)

    def predict_step(self, batch: Batch, batch_idx: int) -> tuple[str, list[tuple[int, list[Answer]]]]:
        """Return the task, and (number of the example, its answers, best first) for each example of the batch."""
        answers = self._answers(batch, "predict", self.decoding)
        return batch.task, list(zip(batch.ids.tolist(), answers, strict=True))

    def on_validation_epoch_start(self) -> None:
        """Forget what an evaluation before has left, be it interrupted or of another split."""
        self._evaluations = {name: Evaluation() for name in self.tasks}
        self.samples = {}

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_epoch_end(self) -> None:
        """Score the validation rows of all processes."""
        self._score("validation")

    def on_test_epoch_end(self) -> None:
        """Score the test rows of all processes."""
        self._score("test")

    def _evaluate(self, batch: Batch, split: str, decoding: Decoding) -> None:
        loss = self._head(batch).loss(self.built()[0], batch)
        self._evaluations[batch.task].add(batch, self._answers(batch, split, decoding), loss)

    def _score(self, split: str) -> None:
        """Log the loss and the scores of each task of which rows came, and the mean of the tasks' main scores."""
        main = []
        for name, rows in self._rows(split).items():
            task, evaluation = self.tasks[name], self._evaluations[name].gathered()
            if evaluation.is_empty:
                continue
            samples = evaluation.samples(task, rows)
            if self.trainer.state.fn == TrainerFn.FITTING:
                samples = task.calibrate(cast(Head, self.heads[name]), samples)
            scores = evaluation.scores(task, samples)
            self.samples[name] = samples
            self.log_dict({f"{split}/{name}/{metric}": value for metric, value in scores.items()})
            main.append(scores[task.main_metric])
        self.log(f"{split}/score", sum(main) / len(main))

    def _answers(self, batch: Batch, split: str, decoding: Decoding) -> list[list[Answer]]:
        """Return the answers to the examples of a batch, none to those for which the task asks none."""
        (backbone, tokenizer), task, rows = self.built(), self.tasks[batch.task], self._rows(split)[batch.task]
        few = None if split == "predict" else task.max_answered
        return answers_of(backbone, self._head(batch), task, tokenizer, batch, rows, decoding, few)

    def _rows(self, split: str) -> dict[str, TokenizedDataset]:
        return self.trainer.datamodule.encoded[split]  # type: ignore[attr-defined]

    def _head(self, batch: Batch) -> Head:
        return cast(Head, self.heads[batch.task])

    # Checkpoints.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what makes the checkpoint whole: it opens with no other file."""
        checkpoint["lmtasks"] = self.describe()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the weights belong to the tokenizer of now, and recount what Lightning counts in micro-batches."""
        assert self.tokenizer is not None
        saved = checkpoint.get("lmtasks", {}).get("tokenizer")
        if saved is None or Tokenizer.from_json(saved).fingerprint != self.tokenizer.fingerprint:
            raise InputError(
                "the checkpoint was trained with another tokenizer than this run has; "
                "start a new run with init_from, or give the tokenizer.json of its run as tokenizer.file"
            )
        self.joint.check(name.removeprefix(JOINT) for name in checkpoint["state_dict"] if name.startswith(JOINT))
        trainer: Any = self._trainer
        if trainer is not None and trainer.training:
            recount(checkpoint, trainer.datamodule.mixture.steps_per_epoch, trainer.accumulate_grad_batches)


def _steps(trainer: Any) -> int | None:
    """Return the number of optimiser steps of the run, None if only time or a callback ends it."""
    ends = [trainer.max_steps] if trainer.max_steps > 0 else []
    if trainer.max_epochs is not None and trainer.max_epochs > 0 and trainer.datamodule is not None:
        ends.append(trainer.max_epochs * trainer.datamodule.mixture.steps_per_epoch)
    return min(ends, default=None)
