"""Faults of settings that the settings alone show, said before a row is read: the rest may take hours to come to light.

They are those of a module and its data together; what a class can tell of its own settings it tells when it is built.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from lmtasks.backbones.base import BackboneConfig
from lmtasks.data.mixing import Mixing
from lmtasks.data.readers.base import Rows
from lmtasks.errors import InputError
from lmtasks.tasks.base import Task


def check_trainer(trainer: Any, stage: str) -> None:
    """Check that the trainer takes the steps of the plan, on models that each process has whole.

    Raises:
        InputError: If it does not.
    """
    if not isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy)):
        raise InputError(
            f"trainer.strategy {type(trainer.strategy).__name__} cuts the model into parts, which small models do not "
            "need and checkpoints here do not know; use ddp"
        )
    if trainer.overfit_batches:
        raise InputError("overfit_batches cannot choose among the steps of the plan; train on a file of few rows")
    if stage == "fit" and trainer.limit_train_batches != 1.0 and not trainer.fast_dev_run:
        raise InputError(
            "limit_train_batches cannot choose among the steps of the plan; set max_steps, or train on a file of "
            "few rows"
        )


def check_rows(rows: Rows | Mapping[str, Rows], tasks: Collection[str]) -> None:
    """Check that rows which go by the names of tasks go by those of the model.

    Raises:
        InputError: If one does not.
    """
    for name, own in rows.items() if isinstance(rows, Mapping) else ():
        if name not in tasks:
            raise InputError(f"{own.option}: {no_task(name, tasks)}")


def check_tasks(tasks: Mapping[str, Task], backbone: BackboneConfig, max_length: int) -> None:
    """Check that the backbone has what the tasks need, and that nothing cuts what may not be cut.

    Raises:
        InputError: If it is not so; the line names the task.
    """
    for name, task in tasks.items():
        problem = ""
        if task.longest and task.longest > max_length:
            problem = (
                f"{name} reads {task.longest} tokens at once, which data.max_length {max_length} would cut; "
                f"set it to {task.longest} or more"
            )
        elif backbone.max_positions and (task.longest or max_length) > backbone.max_positions:
            problem = (
                f"{name} may have texts of {task.longest or max_length} tokens, and model.backbone.max_length is "
                f"{backbone.max_positions}; raise it{'' if task.longest else f', or set data.max_length to {backbone.max_positions}'}"
            )
        elif task.generates and not backbone.has_decoder:
            problem = (
                f"{name} writes texts, and the backbone has no decoder; set model.backbone.decoder_layers to 1 or more"
            )
        elif task.needs_encoder and not backbone.has_encoder:
            problem = (
                f"{name} reads texts, and the backbone has no encoder; set model.backbone.encoder_layers to 1 or more"
            )
        elif not task.needs_encoder and backbone.has_encoder:
            problem = (
                f"{name} goes on from a text that no encoder reads, and the backbone has one; give it a prompt "
                f"({_setting(tasks, name)}.prompt, in tokens), or set model.backbone.encoder_layers to 0"
            )
        if problem:
            raise InputError(problem)


def check_training(module: Any, mixing: Mixing) -> None:
    """Check what a training begins with: the shares of the tasks, the model it starts from, the parts that are frozen.

    module: a TaskModule, of which no layers are built yet.

    Raises:
        InputError: If a task, a file or a part is not there, or the sizes of the backbone do not fit together.
    """
    mixing.check(module.tasks)
    for setting, path in (("init_from", module.init_from), ("vectors", module.vectors)):
        if path and not Path(path).expanduser().exists():
            hint = "; give a run folder, a model folder or a .ckpt file" if setting == "init_from" else ""
            raise InputError(f"model.{setting} {path}: there is no such file or folder{hint}")
    with torch.device("meta"):  # shapes without numbers
        backbone = module.backbone_config.build(1)
    parts = [f"backbone.{name}" for name, _ in backbone.named_parameters()]
    parts += [f"heads.{task}" for task in module.tasks]
    parts += [f"joint.{name}" for name, _ in module.joint.named_parameters()]
    for name in module.freeze_names:
        # what is in a head is known when it is built
        known = ".".join(name.split(".")[:2]) if name.startswith("heads.") else name
        if not any(f"{part}.".startswith(f"{known}.") for part in parts):
            listed = dict.fromkeys(".".join(part.split(".")[:2]) for part in parts)
            raise InputError(f"model.freeze: the model has no {name}; it has {', '.join(listed)} and what is in them")


def no_task(name: str, tasks: Collection[str]) -> str:
    """Return the complaint of a name that is that of no task, with the one that was probably meant.

    >>> no_task("moood", ["mood", "french"])
    "the model has no task 'moood'; did you mean mood? it has mood, french"
    """
    near = get_close_matches(name, tasks, n=1)
    meant = f"did you mean {near[0]}? it" if near else "it"
    return f"the model has no task {name!r}; {meant} has {', '.join(tasks)}"


def _setting(tasks: Mapping[str, Task], name: str) -> str:
    """Return what the settings of a task stand in: those of an only one are mostly the module's own."""
    return f"model.tasks.{name}" if len(tasks) > 1 else "model"
