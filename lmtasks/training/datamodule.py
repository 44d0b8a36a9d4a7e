"""TextDataModule: rows -> token ids, once and cached -> the batches of the plan.

Row formats (`ParallelText`, `Village`) read the rows, tasks turn them into examples, the tokenizer gives the token ids.
The data module asks the TaskModule for its tasks and tokenizer. It lets the tasks learn from the training rows and the
tokenizer train on their texts (`learn`, `train_tokenizer`, `share`), and gives the module the mixture that training
follows (`connect`). Everything else is in the batches. It works without a module too:
`data.encode("train", task, tokenizer)`.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import signal
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, Literal

import datasets
import numpy as np
import torch
from lightning import LightningDataModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DataLoader, Dataset, Sampler

from lmtasks.data.datasets import EvalDataset, TaskExamples, TrainDataset
from lmtasks.data.findings import findings
from lmtasks.data.mixing import Mixing, Mixture
from lmtasks.data.plan import evaluation_batches
from lmtasks.data.readers.base import Rows, SetAside
from lmtasks.data.tokenized import NO_LABEL, NO_TEXT, TokenizedDataset, cache_file, encode
from lmtasks.errors import InputError, collected
from lmtasks.story import Portion, Story
from lmtasks.tasks.base import Row, Task
from lmtasks.text.base import BaseTokenizer
from lmtasks.training.checks import (
    check_monitors,
    check_precision,
    check_rows,
    check_sharding,
    check_share,
    check_tasks,
    check_trainer,
    check_training,
    check_validation,
)
from lmtasks.training.hardware import out_of_memory
from lmtasks.training.module import TaskModule

SEED = "PL_GLOBAL_SEED"  # where Lightning's seed_everything keeps its seed, for all processes
SCORED = {"validation", "test"}
SPLITS = {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",), "predict": ("predict",)}
logger = logging.getLogger(__name__)


class TextDataModule(LightningDataModule):
    """Texts of one or several tasks, in batches of texts of similar length.

    Args:
        rows: The row format; for several tasks, {task: rows}, or one format for all.
        tokens_per_step: Size of an optimiser step over all devices, tasks and accumulated batches, in padded tokens; a
            row counts with the longer of source and target.
        mixing: The share of each task, if there are several.
        max_length: Longest source and target in tokens, end token included.
        too_long: What happens to longer training rows; evaluation always cuts the source and keeps the row.
        validation_share: Share of the training rows that are set aside for validation, where it has no data of its own;
            equal rows stay together.
        tokens_per_batch: Size of an evaluation batch in padded tokens.
        seed: Seed of the order of the training rows.
        workers: Processes that make batches; 0 makes them in the training process, which is enough for most texts.
        cache: Folder of the tokenised rows; by default `lmtasks` in the cache folder of `datasets`.
    """

    trainer: Trainer  # set by Lightning

    def __init__(
        self,
        rows: Rows | dict[str, Rows],
        tokens_per_step: int = 4096,
        mixing: Mixing = Mixing(),
        max_length: int = 256,
        too_long: Literal["drop", "cut"] = "drop",
        tokens_per_batch: int = 4096,
        seed: int = 1,
        workers: int = 0,
        cache: str | None = None,
        validation_share: float = 0.0,
    ) -> None:
        super().__init__()
        budgets = {"tokens_per_step": tokens_per_step, "tokens_per_batch": tokens_per_batch, "max_length": max_length}
        for name, tokens in budgets.items():
            if tokens < 1:
                raise InputError(f"data.{name} is {tokens}; give a number of tokens above 0")
        if not 0 <= validation_share < 1:
            raise InputError(f"data.validation_share is {validation_share}; give a share of the rows, such as 0.1")
        if isinstance(rows, Mapping):
            rows = {name: own.called(f"data.rows.{name}") for name, own in rows.items()}
            rows = {name: SetAside.of(own, validation_share) for name, own in rows.items()}
        else:
            rows = SetAside.of(rows, validation_share)
        self.rows, self.mixing = rows, mixing
        self.tokens_per_step, self.tokens_per_batch = tokens_per_step, tokens_per_batch
        self.max_length, self.too_long = max_length, too_long
        self.seed, self.workers = seed, workers
        self.cache = Path(cache) if cache else Path(datasets.config.HF_DATASETS_CACHE) / "lmtasks"
        self.mixture: Mixture | None = None
        self.examples: dict[str, dict[str, TaskExamples]] = {}
        """The examples that are used, by split and task, after `setup`."""

    def has(self, split: str, task: str | None = None) -> bool:
        """Tell whether a split has rows: those of a task, or those of any task if none is named."""
        every = self.rows.values() if isinstance(self.rows, Mapping) else [self.rows]
        return any(rows.path(split) is not None for rows in (every if task is None else [self.rows_of(task)]))

    def rows_of(self, task: str) -> Rows:
        """Return the rows of a task.

        Raises: InputError if there are none.
        """
        if not isinstance(self.rows, Mapping):
            return self.rows
        if task not in self.rows:
            raise InputError(
                f"data.rows has {', '.join(self.rows)}, but the model learns {task}; add data.rows.{task}, or start a "
                "model of the other tasks from this one (init_from)"
            )
        return self.rows[task]

    def prepare_data(self) -> None:
        """Train the tokenizer if the module has none, and write the token ids, in one process on each machine."""
        module, stage = self._module(), TrainerFn(self.trainer.state.fn).value
        self._check_settings(stage)
        splits = {name: self._given(stage, name) for name in module.tasks}
        if stage == "fit":
            for name, own in splits.items():
                if self.has("test", name):
                    own.append("test")  # a mistake in it shows now, not after the training
        for name, task in module.tasks.items():
            self._check_rows(name, task, splits[name])
        self._learn(module, stage)
        for name, own in splits.items():
            for split in own:
                assert module.tokenizer is not None
                self.encode(split, module.tasks[name], module.tokenizer, name)

    def setup(self, stage: str) -> None:
        """Map the token ids of the stage's splits into memory and make the plan of steps, in every process."""
        # the plan deals the rows to the processes; Lightning asks before the first loader, which may be validation's
        self.trainer._accelerator_connector.use_distributed_sampler = False
        module = self._module()
        module.share(self.trainer.strategy.broadcast)
        assert module.tokenizer is not None
        for name, task in module.tasks.items():
            own = self._given(stage, name)
            later = ["test"] if stage == "fit" and self.has("test", name) else []  # what fails then should fail now
            for split in [*own, *later]:
                tokenized = self.encode(split, task, module.tokenizer, name)
                pad_id, logged = module.tokenizer.pad_id, split in own
                examples = self._within_limits(split, name, task, tokenized, pad_id, logged)
                if split != "train":
                    check_share(len(examples), self.trainer.world_size, self.rows_of(name).path(split))
                if split in own:
                    self.examples.setdefault(split, {})[name] = examples
        if stage == "fit":
            self._report(module)
            self.mixture = self._mix(self.examples["train"])
            check_validation(self.trainer, self.mixture.steps_per_epoch * self.trainer.accumulate_grad_batches)
            module.connect(self.mixture, self._story(module))

    def encode(self, split: str, task: Task, tokenizer: BaseTokenizer, name: str | None = None) -> TokenizedDataset:
        """Return the examples of a split, from the cache if they are there; `name` is what the module calls the task.

        Raises: InputError if no row of the split has text.
        """
        rows, columns = self.rows_of(name or task.kind), _columns(split, task)
        file = cache_file(self.cache, rows, split, task, tokenizer)
        make = task.questions if split == "predict" else task.examples
        encoded = encode(rows.rows(split, columns), make, tokenizer, file)
        if not len(encoded):
            raise InputError(f"{rows.path(split)}: no row has anything in {' and '.join(columns)}; nothing to do")
        return encoded

    def on_exception(self, exception: BaseException) -> None:
        """Note at an error for want of memory which settings need less."""
        if out_of_memory(exception):
            exception.add_note(self._smaller())

    def train_dataloader(self) -> DataLoader:
        """Return the micro-batches of this process, starting at the current step."""
        assert self.mixture is not None
        steps = TrainDataset(self.examples["train"], self.mixture)
        return self._loader(_TrainingSampler(self.mixture, self.trainer), steps)

    def val_dataloader(self) -> DataLoader | list:
        """Return the validation batches of this process."""
        return self._evaluation_loader("validation")

    def test_dataloader(self) -> DataLoader | list:
        """Return the test batches of this process."""
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> DataLoader | list:
        """Return the batches that this process predicts."""
        return self._evaluation_loader("predict")

    def state_dict(self) -> dict[str, Any]:
        """Return what must be the same in a resumed run, so that step k has the same rows."""
        return {} if self.mixture is None else self.mixture.identity

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that the steps done so far were steps of the present plan.

        Raises: InputError if they were not.
        """
        if self.mixture is None or not state_dict:
            return
        before, now = state_dict, self.mixture.identity
        changed = [f"{key} was {before[key]} and is {now[key]}" for key in now if now[key] != before.get(key, now[key])]
        if changed:
            raise InputError(f"the run cannot go on exactly: {', '.join(changed)}; set them back, or start a new run")

    def _module(self) -> TaskModule:
        """Return the module that the trainer was given.

        Raises: InputError if it is no TaskModule.
        """
        module = self.trainer.lightning_module
        if not isinstance(module, TaskModule):
            raise InputError(f"a TextDataModule makes batches for a TaskModule, not for a {type(module).__name__}")
        return module

    def _given(self, stage: str, task: str) -> list[str]:
        """Return the splits of a stage that a task has; outside `fit` a task may have none.

        Raises: InputError if no task has any, or the task has no training rows in `fit`.
        """
        wanted, *_ = possible = SPLITS[TrainerFn(stage).value]
        splits = [split for split in possible if self.has(split, task)]
        if (stage == "fit" and "train" not in splits) or not any(map(self.has, possible)):
            raise InputError(
                f"{stage} needs the split {wanted!r}; set {self.rows_of(task).option}.{wanted} to a file or a hub id"
            )
        return splits

    def _check_settings(self, stage: str) -> None:
        """Check the settings before any data is read."""
        module, trainer = self._module(), self.trainer
        check_trainer(trainer, stage)
        check_precision(trainer, module.backbone_config)
        check_rows(self.rows, module.tasks)
        check_tasks(module.tasks, module.backbone_config, self.max_length)
        if stage == "fit":
            check_training(module, self.mixing)
            check_sharding(trainer, module)
            scored = trainer.limit_val_batches and trainer.enable_validation  # type: ignore[attr-defined]
            check_monitors(trainer, module, [name for name in module.tasks if scored and self.has("validation", name)])
            if trainer.max_steps > 0 and not trainer.fast_dev_run:  # type: ignore[attr-defined]
                module.training_config.schedule.check(trainer.max_steps)

    def _check_rows(self, name: str, task: Task, splits: Sequence[str]) -> None:
        """Check early that the first row of each split is readable and the packages for its scores are installed."""
        rows = self.rows_of(name)
        for split in splits:
            if next(rows.rows(split, _columns(split, task)), None) is None:
                raise InputError(f"{rows.path(split)}: there is no row in it, and the split {split!r} needs some")
        if SCORED.intersection(splits):
            task.signatures()

    def _learn(self, module: TaskModule, stage: str) -> None:
        """Let the tasks learn from their training rows, and train the tokenizer if the module has none.

        If a task learns from its rows, one pass over them serves the task and the tokenizer.
        """
        texts: list[Iterable[str]] = []
        for name, task in list(module.tasks.items()):
            rows = _RowsWithTexts(self._checked_rows(name, task), task, module.tokenizer is None)
            if stage == "fit":
                module.learn(name, rows)
            texts.append(rows.texts if rows.finished else self._texts(name, task))
        if module.tokenizer is None:
            module.train_tokenizer(chain.from_iterable(texts), Path(self.trainer.default_root_dir))

    def _checked_rows(self, name: str, task: Task) -> Iterator[Row]:
        """Yield the training rows of a task, of which those of a wrong form are told together in the end."""

        def checked(row: Row) -> Row:
            task.check(row)
            return row

        return collected(self.rows_of(name).rows("train", task.columns), checked)

    def _texts(self, name: str, task: Task) -> Iterator[str]:
        return chain.from_iterable(map(task.texts, self.rows_of(name).rows("train", task.columns)))

    def _smaller(self) -> str:
        """Return which settings let a batch of the present stage take half of the memory."""
        trainer, option, tokens = self.trainer, "tokens_per_step", self.tokens_per_step
        if not trainer.training:
            option, tokens = "tokens_per_batch", self.tokens_per_batch
        rows = f"a batch of {tokens} padded tokens (data.{option})"
        ways = f"set --data.{option} {max(1, tokens // 2)}"
        if trainer.training:
            accumulate = trainer.accumulate_grad_batches
            rows = f"{rows} in {_parts(trainer)} micro-batches"
            ways = (
                f"--trainer.accumulate_grad_batches {2 * accumulate} takes the same steps in half the memory; or {ways}"
            )
        short = f"; or --data.max_length {self.max_length // 2}" if tokens < 2 * self.max_length else ""
        return f"memory ran out: {rows} does not fit; {ways}{short}"

    def _story(self, module: TaskModule) -> Story:
        """Return what is known of the data of a training; the first process alone reads the files for their hashes."""
        data, tokenizer = [], module.tokenizer
        assert tokenizer is not None
        for name, task in module.tasks.items() if self.trainer.is_global_zero else ():
            rows = self.rows_of(name)
            for split in filter(rows.path, ("train", "validation", "test")):
                n = self.encode(split, task, tokenizer, name).rows  # from the cache
                source, hub, columns = rows.source(split), rows.on_hub(split), task.columns
                digest, size = rows.digest(split, columns), rows.size(split, columns)
                data.append(Portion(name, split, source, n, digest, hub, size))
        return Story(
            tuple(data),
            tokens_per_step=self.tokens_per_step,
            max_length=self.max_length,
            too_long=self.too_long,
            seed=int(given) if (given := os.environ.get(SEED)) else None,
            order_seed=self.seed,
        )

    def _mix(self, train: Mapping[str, TaskExamples]) -> Mixture:
        """Make the plan of steps, and log how long an epoch is."""
        lengths = {task: examples.lengths for task, examples in train.items()}
        targets = {task: examples.targets for task, examples in train.items()}
        mixture = Mixture(lengths, targets, self.tokens_per_step, _parts(self.trainer), self.seed, self.mixing)
        for task, plan in mixture.plans.items():
            share = f"{100 * mixture.wanted(0)[task]:.1f} % of {self.mixing.by}, " if len(train) > 1 else ""
            part = mixture.participation(0)[task]  # 0 = a task that is not trained, at first or at all
            steps = f"{plan.steps_per_epoch / part:,.0f}" if part else "no"
            rows = f"{share}{len(plan.lengths):,} rows, {steps} steps per epoch"
            logger.info(f"{self._label('train', task)}: {rows}, {100 * plan.padding:.1f} % padding")
        return mixture

    def _report(self, module: TaskModule) -> None:
        """Log what the rows of each task have that people should know before they are learned."""
        for name, train in self.examples["train"].items() if self.trainer.is_global_zero else ():
            validation = self.examples.get("validation", {}).get(name)
            other = validation.tokenized if validation is not None else None
            for line in findings(module.tasks[name], train.tokenized, other):
                level = logging.INFO if line.startswith("labels: ") else logging.WARNING
                logger.log(level, f"{self._label('train', name)}: {line}")

    def _label(self, split: str, task: str) -> str:
        """Return the name of a split in the log."""
        return f"{split}/{task}" if len(self._module().tasks) > 1 else split

    def _within_limits(
        self, split: str, name: str, task: Task, tokenized: TokenizedDataset, pad_id: int, logged: bool
    ) -> TaskExamples:
        """Return the examples to use; `logged`: log how many are left out or cut."""
        source, target = tokenized.source.lengths, tokenized.target.lengths
        long = (source > self.max_length) | ((target > self.max_length) & task.cuts_target)
        wanted = tokenized.target.counts if split == "train" else target  # a step needs at least one target
        labelled = (wanted > 0) | (split == "predict")
        dropped = long & (split == "train" and self.too_long == "drop")
        kept, cut = np.flatnonzero(labelled & ~dropped), long & ~dropped
        possible, no_text = tokenized.possible(task.examples_per_row)
        no_label = int((~labelled).sum())
        label = self._label(split, name)
        if logged:
            missing = ", ".join(
                f"{kind}: {n}{tokenized.first(kind, n)}" for kind, n in ((NO_TEXT, no_text), (NO_LABEL, no_label))
            )
            logger.info(
                f"{label}: {tokenized.rows:,} rows, {len(kept):,} examples; {missing}, "
                f"longer than {self.max_length} tokens: dropped {dropped.sum()}, cut {cut.sum()}"
            )
        if not len(kept):
            problem = f"have no text or no label, or are longer than {self.max_length} tokens"
            raise InputError(f"{self.rows_of(name).path(split)}: all {tokenized.rows} rows {problem}")
        if logged and split in SCORED and no_text + no_label and self.trainer.is_global_zero:
            share = f"{no_text + no_label} of {possible} examples"
            logger.warning(f"{label}: {share} have no text or no label and are LEFT OUT of the scores")
        few = None if split == "predict" else task.max_answered
        every = 1 if few is None else math.ceil(len(tokenized) / few) if few else 0
        return TaskExamples(name, tokenized, kept, self.max_length, pad_id, task.cuts_target, every)

    def _evaluation_loader(self, split: str) -> DataLoader | list:
        """Return batches of the tasks in turn, so that the first few cover all tasks, equally many in each process."""
        given, rank, world_size = self.examples.get(split, {}), self.trainer.global_rank, self.trainer.world_size
        turns: list[list[tuple[str, np.ndarray]]] = []
        for task, examples in given.items():
            check_share(len(examples), world_size, self.rows_of(task).path(split))
            own = evaluation_batches(examples.lengths, self.tokens_per_batch, rank, world_size)
            turns.append([(task, ids) for ids in own])
        batches = [batch for turn in zip_longest(*turns) for batch in turn if batch is not None]
        return self._loader(batches, EvalDataset(given)) if batches else []

    def _loader(self, sampler: Iterable, dataset: Dataset) -> DataLoader:
        """Return a loader with `batch_size=None`: the dataset makes a whole batch of each item of the sampler."""
        loader = DataLoader(
            dataset,
            batch_size=None,
            sampler=sampler,
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.workers > 0,
            generator=torch.Generator(),  # not the global one, of dropout: a resume starts one loader more
            worker_init_fn=_leave_signals,
        )
        atexit.register(_end_workers, weakref.ref(loader))
        return loader


class _RowsWithTexts:
    """Iterate over rows and, if `wanted`, collect their tokenizer texts; all texts stay in memory."""

    def __init__(self, rows: Iterable[Row], task: Task, wanted: bool) -> None:
        self.texts: list[str] = []
        self.finished = False
        self._rows, self._task, self._wanted = rows, task, wanted

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            if self._wanted:
                self.texts += self._task.texts(row)
            yield row
        self.finished = True


class _TrainingSampler(Sampler):
    """Yield the (step, part) of each micro-batch of this process until the current epoch ends."""

    def __init__(self, mixture: Mixture, trainer: Trainer) -> None:
        self.mixture, self.trainer = mixture, trainer

    def __len__(self) -> int:
        """Return how many micro-batches this process has in an epoch."""
        return self.mixture.steps_per_epoch * self.trainer.accumulate_grad_batches

    def __iter__(self) -> Iterator[tuple[int, int]]:
        first, epoch = self.trainer.global_step, self.mixture.steps_per_epoch
        for step in range(first, (first // epoch + 1) * epoch):
            self._check_parts()
            yield from (
                (step, part) for part in range(self.trainer.global_rank, self.mixture.parts, self.trainer.world_size)
            )

    def _check_parts(self) -> None:
        if _parts(self.trainer) != self.mixture.parts:
            raise InputError(
                f"the plan was laid for {self.mixture.parts} micro-batches a step, now it is {_parts(self.trainer)}; "
                "keep accumulate_grad_batches the same throughout a run, without GradientAccumulationScheduler"
            )


def _leave_signals(worker: int) -> None:
    """Ignore SIGINT and SIGTERM in a worker: the training process saves first and then ends its workers."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _end_workers(loader: weakref.ref[DataLoader]) -> None:
    """End the remaining workers before Python does: it sends SIGTERM, which they ignore, and waits for ever."""
    workers = getattr(loader(), "_iterator", None)
    if workers is not None:
        workers._shutdown_workers()


def _columns(split: str, task: Task) -> tuple[str, ...]:
    return task.source_columns if split == "predict" else task.columns


def _parts(trainer: Trainer) -> int:
    """Return how many micro-batches a step has, over all processes."""
    return trainer.world_size * trainer.accumulate_grad_batches
