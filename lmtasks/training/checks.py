"""Check the settings before reading any data: mistakes that would otherwise show after hours.

These are settings of module, data and trainer together; a class checks its own settings when it is made.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from lightning import Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from lmtasks.backbones.base import BackboneConfig
from lmtasks.backbones.lora import adapters, put
from lmtasks.data.limits import check_limits
from lmtasks.data.mixing import Mixing
from lmtasks.data.readers.base import Rows
from lmtasks.errors import InputError, did_you_mean
from lmtasks.tasks.base import Task
from lmtasks.training.callbacks.averaging import EMA
from lmtasks.training.init_from import check_part
from lmtasks.training.optim.optimizers import Adam, AdamW
from lmtasks.training.sharding import shards

if TYPE_CHECKING:
    from lmtasks.training.module import TaskModule

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


def check_trainer(trainer: Trainer, stage: str) -> None:
    """Check that the trainer follows the plan, and that checkpoints hold the whole model.

    Raises: InputError if a setting of the trainer prevents it.
    """
    if not isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy)) and not shards(trainer.strategy):
        raise InputError(
            f"trainer.strategy {type(trainer.strategy).__name__} splits the model in a way that checkpoints here do "
            "not support; use ddp, or fsdp2"
        )
    if trainer.overfit_batches:  # type: ignore[attr-defined]
        raise InputError("overfit_batches cannot choose among the steps of the plan; train on a file of few rows")
    if stage == "fit" and trainer.limit_train_batches != 1.0 and not trainer.fast_dev_run:  # type: ignore[attr-defined]
        raise InputError(
            "limit_train_batches cannot choose among the steps of the plan; set max_steps, or train on a file of "
            "few rows"
        )


def check_sharding(trainer: Trainer, module: TaskModule) -> None:
    """Check that a training by FSDP2 needs no whole tensors of parameters or gradients.

    Raises: InputError if it does.
    """
    if not shards(trainer.strategy):
        return
    training = module.training_config
    whole = {
        "several tasks": len(module.tasks) > 1,
        f"the optimiser {type(training.optimizer).__name__}": not isinstance(training.optimizer, (Adam, AdamW)),
        "model.training.compile": training.compile,
        "model.training.lora": training.lora is not None,
        "averages of weights (EMA)": any(isinstance(callback, EMA) for callback in trainer.callbacks),  # type: ignore[attr-defined]
    }
    if found := [name for name, needed in whole.items() if needed]:
        raise InputError(f"trainer.strategy fsdp2 does not train with {' and '.join(found)}; use ddp")


def check_precision(trainer: Trainer, backbone: BackboneConfig) -> None:
    """Check that the weights are float32, and the numbers of the trainer's precision large enough for the backbone.

    Raises: InputError if they are not.
    """
    if trainer.precision not in PRECISIONS:
        raise InputError(
            f"trainer.precision is {trainer.precision}, and weights are float32 in training; set one of "
            f"{', '.join(PRECISIONS)}"
        )
    if backbone.overflows_in_float16 and str(trainer.precision).startswith("16"):
        raise InputError(
            f"trainer.precision is {trainer.precision}, but the states of a T5 exceed the largest number of float16, "
            "65,504; set bf16-mixed or 32-true"
        )


def check_validation(trainer: Trainer, batches: int) -> None:
    """Check that validation happens within an epoch of so many micro-batches, if it is to happen at all.

    Raises: InputError if it would not.
    """
    every: int | float = trainer.val_check_interval  # type: ignore[attr-defined]  # an int counts batches
    within_epoch = trainer.check_val_every_n_epoch is not None and trainer.limit_val_batches  # type: ignore[attr-defined]
    if within_epoch and isinstance(every, int) and every > batches:
        raise InputError(
            f"trainer.val_check_interval is {every}, but an epoch has {batches} batches; to count them over several "
            "epochs, set trainer.check_val_every_n_epoch to null"
        )


def check_rows(rows: Rows | Mapping[str, Rows], tasks: Collection[str]) -> None:
    """Check that rows given by task name tasks of the model, and that files are not mixed with a config's hub sets.

    Raises: InputError if they do not, or are.
    """
    for name, own in rows.items() if isinstance(rows, Mapping) else ():
        if name not in tasks:
            raise InputError(f"{own.option}: {no_task(name, tasks)}")
    for own in rows.values() if isinstance(rows, Mapping) else [rows]:
        for split in ("validation", "test"):
            if own.path("train") and not own.on_hub("train") and own.on_hub(split):
                option = f"{own.option}.{split}"
                hint = f"give --{option} a file, or null for none"
                if split == "validation":
                    hint += ", and with null --data.validation_share 0.1 for a part of the training rows"
                raise InputError(
                    f"{own.option}.train is the file {own.path('train')}, but {option} is {own.path(split)} of the "
                    f"Hugging Face hub, as in the config: these rows do not go together; {hint}"
                )


def check_tasks(tasks: Mapping[str, Task], backbone: BackboneConfig, max_length: int) -> None:
    """Check that the backbone has the encoder and decoder that the tasks need, and that length limits suit the tasks.

    Raises: InputError if not; the message names the task.
    """
    check_limits(tasks, backbone, max_length)
    for name, task in tasks.items():
        if task.generates and not backbone.has_decoder:
            raise InputError(
                f"{name} writes texts, but the backbone has no decoder; set model.backbone.decoder_layers to 1 or more"
            )
        if task.needs_encoder and not backbone.has_encoder:
            raise InputError(
                f"{name} reads texts, but the backbone has no encoder; set model.backbone.encoder_layers to 1 or more"
            )
        if not task.needs_encoder and backbone.has_encoder:
            setting = f"model.tasks.{name}" if len(tasks) > 1 else "model"  # a named module has its task's settings
            raise InputError(
                f"{name} continues a text without an encoder, but the backbone has one; give it a prompt "
                f"({setting}.prompt, in tokens), or set model.backbone.encoder_layers to 0"
            )


def check_training(module: TaskModule, mixing: Mixing) -> None:
    """Check the shares of the tasks, the model to initialise from and the parts named, before layers are built.

    Raises: InputError if a task, a file or a part does not exist, or the sizes of the backbone do not fit together.
    """
    config = module.training_config
    mixing.check(module.tasks)
    for setting, path in (("init_from", config.init_from), ("vectors", config.vectors)):
        if path and not Path(path).expanduser().exists():
            hint = "; give a run folder, a model folder or a .ckpt file" if setting == "init_from" else ""
            raise InputError(f"model.training.{setting} {path}: there is no such file or folder{hint}")
    with torch.device("meta"):  # shapes without numbers: no memory, no random draws
        backbone = module.backbone_config.build(1)
        if config.lora:
            put(backbone, adapters(backbone, config.lora))
    parts = [f"backbone.{name}" for name, _ in backbone.named_parameters()]
    parts += [f"heads.{task}" for task in module.tasks]
    parts += [f"joint.{name}" for name, _ in module.joint.named_parameters()]
    for setting, names in (("freeze", config.freeze), ("thaw", config.thaw)):
        for name in names:
            # the parts of a head are known only once it is built
            check_part(".".join(name.split(".")[:2]) if name.startswith("heads.") else name, parts, setting)


def check_monitors(trainer: Trainer, module: TaskModule, validated: Collection[str]) -> None:
    """Check that early stopping and checkpoints watch what will be logged; `validated` are the tasks with such rows.

    A module that logs values of its own may have any names.

    Raises: InputError if a name will not be logged.
    """
    if not type(module).__module__.startswith("lmtasks."):
        return
    watching = [stop for stop in trainer.early_stopping_callbacks if getattr(stop, "strict", True)]
    for callback in (*watching, *trainer.checkpoint_callbacks):
        name, what = getattr(callback, "monitor", None), type(callback).__name__
        if name is None:
            continue
        split, _, rest = name.partition("/")
        task, _, metric = rest.partition("/")
        if split == "validation" and (
            not validated if rest == "score" else task in module.tasks and task not in validated
        ):
            raise InputError(
                f"{what} watches {name}, but there is no validation{f' of {task}' if metric else ''}; set "
                f"data.rows.validation, or leave {what} out"
            )
        known = ["validation/score", "train/gradient_norm"]
        known += [f"{split}/{task}/loss" for task in module.tasks for split in ("validation", "train")]
        known += [f"validation/{task}/{metric}" for task, own in module.tasks.items() for metric in _metrics(own)]
        if name not in known and not any(_is_part(name, other) for other in known):
            meant = did_you_mean(name, known, "")
            raise InputError(
                f"{what} watches {name}, which is not logged; {meant}{' ' if meant else ''}there are {', '.join(known)}"
            )


def _is_part(name: str, metric: str) -> bool:
    """Tell whether a name is that of a metric for some of the rows, such as one label: f1_person, has_answer_f1."""
    place, _, last = metric.rpartition("/")
    return name.startswith((f"{metric}_", f"{place}/has_answer_")) and last != "score"


def _metrics(task: Task) -> list[str]:
    """Return the names of the scores of a task that can be known without rows."""
    try:
        scores = task.score([], 0.0, 1)
    except (ArithmeticError, LookupError, ValueError):  # a task that cannot score no rows
        scores = {"perplexity": 0.0}
    return list({task.main_metric: 0, **scores, **task.signatures()})


def check_share(examples: int, processes: int, where: object) -> None:
    """Check that each process has an example of an evaluation.

    Raises: InputError if not; the message names the rows.
    """
    if examples < processes:
        rows = f"{examples} rows with text and label"
        raise InputError(f"{where}: {rows} for {processes} processes; give more rows, or use fewer devices")


def no_task(name: str, tasks: Collection[str]) -> str:
    """Return the message for a name that no task has, with the closest one.

    >>> no_task("moood", ["mood", "french"])
    "the model has no task 'moood'; did you mean mood? it has mood, french"
    """
    meant = did_you_mean(name, tasks, "")
    return f"the model has no task {name!r}; {meant}{' ' if meant else ''}it has {', '.join(tasks)}"
