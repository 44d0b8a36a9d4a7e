"""TextDataModule: rows -> token ids, once and cached -> the batches of the plan.

Rows come from a row format (`ParallelText`, `Village`), their meaning from the task, their ids from the tokenizer;
task and tokenizer are those of the module that is trained. It works alone too: `data.encode("train", task,
tokenizer)`.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import signal
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import datasets
import numpy as np
import torch
from lightning import LightningDataModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DataLoader, Dataset, Sampler

from lmtasks.batch import Batch
from lmtasks.data.encoded import Encoded, cache_file, encode
from lmtasks.data.examples import Examples, Steps
from lmtasks.data.plan import Plan, evaluation_batches
from lmtasks.data.rows import Rows
from lmtasks.errors import InputError
from lmtasks.tasks.base import Task
from lmtasks.text.tokenizer import Tokenizer

SCORED = {"validation", "test"}
SPLITS = {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",), "predict": ("predict",)}
logger = logging.getLogger(__name__)


class TextDataModule(LightningDataModule):
    """Texts of a task, in batches of like length.

    Args:
        rows: Where the texts lie and in which form.
        tokens_per_step: Size of an optimiser step over all devices and accumulated batches, in padded tokens; of source
            and target the longer counts.
        max_length: Longest source and target in tokens, the end token counted.
        too_long: What happens to longer rows of training; evaluation always cuts the source and keeps the row.
        tokens_per_batch: Size of an evaluation batch in padded tokens.
        seed: Seed of the order of training.
        workers: Processes that make batches; 0 makes them in the training process, which is enough for most texts.
        cache: Folder of the tokenised rows; by default beside the caches of `datasets`.
    """

    trainer: Trainer  # set by Lightning

    def __init__(
        self,
        rows: Rows,
        tokens_per_step: int = 4096,
        max_length: int = 256,
        too_long: Literal["drop", "cut"] = "drop",
        tokens_per_batch: int = 4096,
        seed: int = 1,
        workers: int = 0,
        cache: str | None = None,
    ) -> None:
        super().__init__()
        self.rows = rows
        self.tokens_per_step, self.tokens_per_batch = tokens_per_step, tokens_per_batch
        self.max_length, self.too_long = max_length, too_long
        self.seed, self.workers = seed, workers
        self.cache = Path(cache) if cache else Path(datasets.config.HF_DATASETS_CACHE) / "lmtasks"
        self.encoded: dict[str, Encoded] = {}
        self.plan: Plan | None = None
        self._examples: dict[str, Examples] = {}

    def prepare_data(self) -> None:
        """Train the tokenizer if the module has none, and write the token ids; one process a machine does it."""
        module, stage = self._module(), TrainerFn(self.trainer.state.fn).value
        also = ("test",) if stage == "fit" and self.rows.path("test") is not None else ()  # a fault in it shows now
        splits = (*self._given(stage), *also)
        self._find_faults(splits, module.task)
        if stage == "fit":
            module.learn(self.rows.rows("train", module.task.columns))
        if module.tokenizer is None:
            module.train_tokenizer(self._texts(module.task), Path(self.trainer.default_root_dir))
        for split in splits:
            self.encode(split, module.task, module.tokenizer)

    def setup(self, stage: str) -> None:
        """Map the token ids of the stage's splits into memory and lay the plan; every process does it."""
        # rows are dealt out here; it is asked before the first loader, be it that of validation
        self.trainer._accelerator_connector.use_distributed_sampler = False
        module = self._module()
        module.share(self.trainer.strategy.broadcast)
        for split in self._given(stage):
            self.encoded[split] = self.encode(split, module.task, module.tokenizer)
            self._examples[split] = self._within_limits(split, module.task)
        if stage == "fit":
            train, parts = self._examples["train"], _parts(self.trainer)
            self.plan = Plan(lengths := train.lengths, train.targets, self.tokens_per_step, parts, self.seed)
            logger.info(
                "train: %s rows a pass, %s steps a pass, %.1f %% padding",
                f"{len(lengths):,}", f"{self.plan.steps_per_epoch:,}", 100 * self.plan.padding,
            )  # fmt: skip

    def encode(self, split: str, task: Task, tokenizer: Tokenizer) -> Encoded:
        """Return the examples of a split, from the cache if they are there.

        Raises:
            InputError: If the split has no rows with text in them.
        """
        columns = _columns(split, task)
        file = cache_file(self.cache, self.rows.fingerprint(split), task, tokenizer)
        make = task.questions if split == "predict" else task.examples
        encoded = encode(self.rows.rows(split, columns), make, tokenizer, file)
        if not len(encoded):
            raise InputError(f"{self.rows.path(split)}: no row has text in {' and '.join(columns)}; nothing to do")
        return encoded

    def train_dataloader(self) -> DataLoader:
        """Return the micro-batches of this process, from the step on at which the run stands."""
        assert self.plan is not None
        return self._loader(_TrainingSampler(self.plan, self.trainer), Steps(self._examples["train"], self.plan))

    def val_dataloader(self) -> DataLoader | list:
        """Return the batches of validation of this process."""
        return self._evaluation_loader("validation")

    def test_dataloader(self) -> DataLoader | list:
        """Return the batches of the test of this process."""
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> DataLoader | list:
        """Return the batches to predict of this process."""
        return self._evaluation_loader("predict")

    def batch(self, split: str, ids: np.ndarray | Sequence[int]) -> Batch:
        """Return some of the examples of a split that are used as a batch."""
        return self._examples[split].batch(ids)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume must find the same: step k has the same rows only then."""
        return {} if self.plan is None else _identity(self.plan)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that the steps done were steps of the plan of now."""
        if self.plan is None or not state_dict:
            return
        before, now = state_dict, _identity(self.plan)
        changed = [f"{key} was {before[key]} and is {now[key]}" for key in now if now[key] != before.get(key, now[key])]
        if changed:
            raise InputError(f"the run cannot go on exactly: {', '.join(changed)}; set them back, or start a new run")

    def _module(self) -> Any:
        return self.trainer.lightning_module

    def _given(self, stage: str) -> list[str]:
        possible = SPLITS[TrainerFn(stage).value]
        splits = [split for split in possible if self.rows.path(split) is not None]
        if not splits or (stage == "fit" and "train" not in splits):
            wanted = possible[0]
            raise InputError(f"{stage} needs the split {wanted!r}; set data.rows.{wanted} to a file or a hub id")
        return splits

    def _find_faults(self, splits: Sequence[str], task: Task) -> None:
        """Look at what would show late: the settings, the first row of each split, and what scores them."""
        if self.trainer.overfit_batches:  # type: ignore[attr-defined]
            raise InputError("overfit_batches cannot choose among the steps of the plan; train on a file of few rows")
        if "train" in splits and self.trainer.max_steps > 0 and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._module().schedule.check(self.trainer.max_steps)
        if task.longest and task.longest > self.max_length:
            raise InputError(
                f"{task.name} reads {task.longest} tokens at once, which data.max_length {self.max_length} would cut; "
                f"set it to {task.longest} or more"
            )
        for split in splits:
            next(self.rows.rows(split, _columns(split, task)), None)
        if SCORED.intersection(splits):
            task.signatures()

    def _texts(self, task: Task) -> Iterable[str]:
        return (text for row in self.rows.rows("train", task.columns) for text in task.texts(row))

    def _within_limits(self, split: str, task: Task) -> Examples:
        """Return the examples to use, and say in the log what is not used as it is."""
        encoded = self.encoded[split]
        source, target = encoded.source.lengths, encoded.target.lengths
        long = (source > self.max_length) | ((target > self.max_length) & task.cuts_target)
        wanted = encoded.target.counts if split == "train" else target  # a step needs something to learn
        answered = (wanted > 0) | (split == "predict")
        dropped = long & (split == "train" and self.too_long == "drop")
        kept, cut = np.flatnonzero(answered & ~dropped), long & ~dropped
        possible, unasked = encoded.possible(task.examples_a_row)
        unanswered = int((~answered).sum())
        logger.info(
            f"{split}: {encoded.rows:,} rows, {len(kept):,} examples; without source {unasked}, without target "
            f"{unanswered}, longer than {self.max_length} tokens: dropped {dropped.sum()}, cut {cut.sum()}"
        )
        if not len(kept):
            problem = f"without source or target or longer than {self.max_length} tokens"
            raise InputError(f"{self.rows.path(split)}: all {encoded.rows} rows are {problem}")
        if split in SCORED and unasked + unanswered and self.trainer.is_global_zero:
            share = f"{unasked + unanswered} of {possible} examples"
            logger.warning(f"{split}: {share} have no source or no target and are LEFT OUT of the scores")
        return Examples(task.name, encoded, kept, self.max_length, task.cuts_target)

    def _evaluation_loader(self, split: str) -> DataLoader | list:
        if split not in self._examples:
            return []
        examples, rank, world_size = self._examples[split], self.trainer.global_rank, self.trainer.world_size
        if len(examples) < world_size:
            raise InputError(
                f"{self.rows.path(split)}: {len(examples)} rows for {world_size} processes; use fewer devices"
            )
        batches = evaluation_batches(examples.lengths, self.tokens_per_batch, rank, world_size)
        return self._loader(batches, examples)

    def _loader(self, sampler: Iterable, dataset: Dataset) -> DataLoader:
        """`batch_size=None`: what the sampler names, the dataset turns into a whole batch."""
        loader = DataLoader(
            dataset,
            batch_size=None,
            sampler=sampler,
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.workers > 0,
            generator=torch.Generator(),  # the global one is left to dropout: a resume starts a loader more
            worker_init_fn=_leave_signals,
        )
        atexit.register(_end_workers, weakref.ref(loader))
        return loader


class _TrainingSampler(Sampler):
    """Names (step, part) of this process for the rest of the epoch in which the trainer stands."""

    def __init__(self, plan: Plan, trainer: Trainer) -> None:
        self.plan, self.trainer = plan, trainer

    def __len__(self) -> int:
        return self.plan.steps_per_epoch * self.trainer.accumulate_grad_batches

    def __iter__(self) -> Iterator[tuple[int, int]]:
        first, epoch = self.trainer.global_step, self.plan.steps_per_epoch
        for step in range(first, (first // epoch + 1) * epoch):
            self._check_parts()
            yield from (
                (step, part) for part in range(self.trainer.global_rank, self.plan.parts, self.trainer.world_size)
            )

    def _check_parts(self) -> None:
        if _parts(self.trainer) != self.plan.parts:
            raise InputError(
                f"the plan was laid for {self.plan.parts} micro-batches a step, now it is {_parts(self.trainer)}; "
                "keep accumulate_grad_batches the same all through a run, without GradientAccumulationScheduler"
            )


def _leave_signals(worker: int) -> None:
    """Let the training process alone answer SIGINT and SIGTERM: it saves first and ends its workers then."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _end_workers(loader: weakref.ref[DataLoader]) -> None:
    """End what workers are left before Python does: it sends SIGTERM, which they ignore, and waits for ever."""
    workers = getattr(loader(), "_iterator", None)
    if workers is not None:
        workers._shutdown_workers()


def _columns(split: str, task: Task) -> tuple[str, ...]:
    return task.source_columns if split == "predict" else task.columns


def _parts(trainer: Trainer) -> int:
    """Return the micro-batches of a step."""
    return trainer.world_size * trainer.accumulate_grad_batches


def _identity(plan: Plan) -> dict[str, Any]:
    lengths = hashlib.sha256(plan.lengths.astype("<i8").tobytes()).hexdigest()[:8]
    return {
        "rows": len(plan.lengths),
        "tokens_per_step": plan.tokens_per_step,
        "parts": plan.parts,
        "seed": plan.seed,
        "lengths of the rows (a hash)": lengths,
    }
