"""TextDataModule: rows -> token ids, once and cached -> the batches of the plan.

Rows come from a row format (`ParallelText`, `Village`), their meaning from the task, their ids from the tokenizer;
task and tokenizer are those of the module that is trained. It works alone too: `data.encode("train", task,
tokenizer)`.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import datasets
import numpy as np
import torch
from lightning import LightningDataModule, Trainer
from torch.utils.data import DataLoader, Dataset, Sampler

from lmtasks.batch import IGNORE, Batch, lengths_to_mask, pad
from lmtasks.data.encoded import Encoded, cache_file, encode
from lmtasks.data.plan import Plan, evaluation_batches
from lmtasks.data.rows import Rows
from lmtasks.errors import InputError
from lmtasks.tasks.base import Task
from lmtasks.text.tokenizer import Tokenizer

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
        self._kept: dict[str, np.ndarray] = {}

    def prepare_data(self) -> None:
        """Train the tokenizer if the module has none, and write the token ids; one process a machine does it."""
        module, stage = self._module(), str(self.trainer.state.fn.value)  # type: ignore[union-attr]
        if module.tokenizer is None:
            module.train_tokenizer(self._texts(module.task), Path(self.trainer.default_root_dir))
        also = ("test",) if stage == "fit" and self.rows.path("test") is not None else ()  # a fault in it shows now
        for split in (*self._given(stage), *also):
            self.encode(split, module.task, module.tokenizer)

    def setup(self, stage: str) -> None:
        """Map the token ids of the stage's splits into memory and lay the plan; every process does it."""
        # rows are dealt out here; it is asked before the first loader, be it that of validation
        self.trainer._accelerator_connector.use_distributed_sampler = False
        module = self._module()
        if module.tokenizer is None:
            module.load_tokenizer(Path(self.trainer.default_root_dir))
        for split in self._given(stage):
            self.encoded[split] = self.encode(split, module.task, module.tokenizer)
            self._kept[split] = self._within_limits(split)
        if stage == "fit" and self.plan is None:
            parts = self.trainer.world_size * self.trainer.accumulate_grad_batches
            lengths = self._lengths("train")
            self.plan = Plan(lengths, lengths[:, 1], self.tokens_per_step, parts, self.seed)
            logger.info(
                "train: %s rows a pass, %s steps a pass, %.1f %% padding",
                f"{len(lengths):,}", f"{self.plan.steps_per_epoch:,}", 100 * self.plan.padding,
            )  # fmt: skip

    def encode(self, split: str, task: Task, tokenizer: Tokenizer) -> Encoded:
        """Return the examples of a split, from the cache if they are there.

        Raises:
            InputError: If the split has no rows with text in them.
        """
        columns = task.source_columns if split == "predict" else task.columns
        file = cache_file(self.cache, self.rows.fingerprint(split), task, tokenizer)
        encoded = encode(self.rows.rows(split, columns), task, tokenizer, file)
        if not len(encoded):
            raise InputError(f"{self.rows.path(split)}: no row has text in {' and '.join(columns)}; nothing to do")
        return encoded

    def train_dataloader(self) -> DataLoader:
        """Return the micro-batches of this process, from the step on at which the run stands."""
        assert self.plan is not None
        return self._loader(_TrainingSampler(self.plan, self.trainer), _Steps(self, self.plan))

    def val_dataloader(self) -> DataLoader | list:
        """Return the batches of validation of this process."""
        return self._evaluation_loader("validation")

    def test_dataloader(self) -> DataLoader | list:
        """Return the batches of the test of this process."""
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> DataLoader | list:
        """Return the batches to predict of this process."""
        return self._evaluation_loader("predict")

    def batch(self, split: str, ids: np.ndarray, scale: float = 1.0) -> Batch:
        """Return some kept examples of a split as a batch."""
        rows, encoded = self._kept[split][ids], self.encoded[split]
        source = [self._cut(encoded.source[row]) for row in rows]
        target = [self._cut(encoded.target[row]) for row in rows]
        mask = lengths_to_mask([len(row) for row in source])
        return Batch(self._module().task.name, pad(source, 0), mask, pad(target, IGNORE), torch.from_numpy(rows), scale)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume must find the same: step k has the same rows only then."""
        return {} if self.plan is None else _identity(self.plan)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that the steps done were steps of the plan of now."""
        if self.plan is None or not state_dict:
            return
        now = _identity(self.plan)
        changed = [f"{key} was {state_dict[key]} and is {now[key]}" for key in now if now[key] != state_dict.get(key)]
        if changed:
            raise InputError(f"the run cannot go on exactly: {', '.join(changed)}; set them back, or start a new run")

    def _module(self) -> Any:
        return self.trainer.lightning_module

    def _given(self, stage: str) -> list[str]:
        splits = [split for split in SPLITS[str(getattr(stage, "value", stage))] if self.rows.path(split) is not None]
        if not splits or (stage == "fit" and "train" not in splits):
            wanted = SPLITS[stage][0]
            raise InputError(f"{stage} needs the split {wanted!r}; set data.rows.{wanted} to a file or a hub id")
        return splits

    def _texts(self, task: Task) -> Iterable[str]:
        return (text for row in self.rows.rows("train", task.columns) for text in task.texts(row))

    def _within_limits(self, split: str) -> np.ndarray:
        """Return the examples to use, and say in the log what is not used as it is."""
        encoded = self.encoded[split]
        source, target = encoded.source.lengths, encoded.target.lengths
        long = (source > self.max_length) | (target > self.max_length)
        answered = (target > 0) | (split == "predict")
        dropped = long & (split == "train" and self.too_long == "drop")
        kept = np.flatnonzero(answered & ~dropped)
        rows = encoded.column("row", [len(encoded) - 1])[0] + 1
        logger.info(
            f"{split}: {rows:,} rows, {len(kept):,} examples; without target {(~answered).sum()}, longer than "
            f"{self.max_length} tokens: dropped {dropped.sum()}, cut {(long & ~dropped).sum()}"
        )
        if not len(kept):
            raise InputError(
                f"{self.rows.path(split)}: all {rows} rows are without target or longer than {self.max_length} tokens"
            )
        return kept

    def _lengths(self, split: str) -> np.ndarray:
        encoded, kept = self.encoded[split], self._kept[split]
        lengths = np.stack((encoded.source.lengths[kept], encoded.target.lengths[kept]), axis=1)
        return lengths.clip(max=self.max_length)

    def _cut(self, ids: np.ndarray) -> np.ndarray:
        """Cut to the limit, but keep the end token."""
        return ids if len(ids) <= self.max_length else np.append(ids[: self.max_length - 1], ids[-1])

    def _evaluation_loader(self, split: str) -> DataLoader | list:
        if split not in self.encoded:
            return []
        lengths, rank, world_size = self._lengths(split), self.trainer.global_rank, self.trainer.world_size
        if len(lengths) < world_size:
            raise InputError(
                f"{self.rows.path(split)}: {len(lengths)} rows for {world_size} processes; use fewer devices"
            )
        batches = evaluation_batches(lengths, self.tokens_per_batch, rank, world_size)
        return self._loader(batches, _Evaluation(self, split))

    def _loader(self, sampler: Iterable, dataset: Dataset) -> DataLoader:
        """`batch_size=None`: what the sampler names, the dataset turns into a whole batch."""
        return DataLoader(
            dataset,
            batch_size=None,
            sampler=sampler,
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.workers > 0,
            generator=torch.Generator(),  # the global one is left to dropout: a resume starts a loader more
            worker_init_fn=_leave_signals,
        )


class _TrainingSampler(Sampler):
    """Names (step, part) of this process for the rest of the epoch in which the trainer stands."""

    def __init__(self, plan: Plan, trainer: Trainer) -> None:
        self.plan, self.trainer = plan, trainer

    def __len__(self) -> int:
        return self.plan.steps_per_epoch * self.trainer.accumulate_grad_batches

    def __iter__(self) -> Iterator[tuple[int, int]]:
        first, epoch = self.trainer.global_step, self.plan.steps_per_epoch
        for step in range(first, (first // epoch + 1) * epoch):
            yield from (
                (step, part) for part in range(self.trainer.global_rank, self.plan.parts, self.trainer.world_size)
            )


class _Steps(Dataset):
    def __init__(self, data: TextDataModule, plan: Plan) -> None:
        self.data, self.plan = data, plan

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        step, part = key
        return self.data.batch("train", self.plan.step(step)[part], self.plan.scale(step))


class _Evaluation(Dataset):
    def __init__(self, data: TextDataModule, split: str) -> None:
        self.data, self.split = data, split

    def __getitem__(self, ids: np.ndarray) -> Batch:
        return self.data.batch(self.split, ids)


def _leave_signals(worker: int) -> None:
    """Let the training process alone answer SIGINT and SIGTERM: it saves first and ends its workers then."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _identity(plan: Plan) -> dict[str, Any]:
    return {"rows": len(plan.lengths), "tokens_per_step": plan.tokens_per_step, "parts": plan.parts, "seed": plan.seed}
