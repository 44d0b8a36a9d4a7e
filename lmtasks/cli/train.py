"""`lmtasks fit | validate | test | predict`: LightningCLI with what a run needs set by default.

An option beats a config, a later config an earlier one. LightningCLI builds model, data and trainer here and runs
nothing by itself: given a checkpoint it would take settings from there, over the options of the command line.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from jsonargparse import set_parsing_settings
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lmtasks.backbones.recurrent import RecurrentConfig
from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.cli import folders
from lmtasks.cli.complaint import explain
from lmtasks.cli.configs import RUN_CONFIG, take_configs
from lmtasks.cli.finish import finish, metrics_loggers
from lmtasks.data.module import TextDataModule
from lmtasks.data.parallel import ParallelText
from lmtasks.data.village import Village
from lmtasks.errors import InputError
from lmtasks.module import TaskModule, TranslationModule
from lmtasks.optim import OptimizerConfig
from lmtasks.settings import to_plain
from lmtasks.text.tokenizer import Tokenizer
from lmtasks.training.averaging import CheckpointAverage
from lmtasks.training.checkpoints import Checkpoints, SafeCheckpointIO, read_checkpoint
from lmtasks.training.progress import Progress, score_table
from lmtasks.training.randomness import RandomState
from lmtasks.training.samples import Samples
from lmtasks.training.signals import StopOnSignal

HELP = "train a model, or use one of its checkpoints, as configs and options say"

MONITOR = "validation/score"  # chooses the best checkpoint; logged by TaskModule: the mean of the tasks' main metrics
CLASSES = (TranslationModule, TransformerConfig, RecurrentConfig, ParallelText, Village)  # short names for configs
NOISE = ("\N{ELECTRIC LIGHT BULB} Tip:", "TPU available")  # what Lightning logs to everybody
FIXED = ("backbone", "tasks")  # settings of a checkpoint whose weights mean nothing under others
DESCRIPTION = """Settings come from configs (-c NAME or FILE, several are merged) and options, which win.
--model.help TranslationModule and --data.rows.help ParallelText list the settings of a class."""


def train(command: str, arguments: Sequence[str]) -> int:
    """Run one of the four commands and return the exit status."""
    _quiet()
    asks_help = any(argument.split("=")[0].endswith(("-h", "help")) for argument in arguments)
    set_parsing_settings(docstring_parse_attribute_docstrings=asks_help)  # it reads source files, which takes its time
    configs, others = take_configs(arguments)
    job = Job(command, configs, others)
    return {"fit": _fit, "validate": _evaluate, "test": _evaluate, "predict": _predict}[command](job)


class Job(LightningCLI):
    """Model, data and trainer of one command line, and the run folder it works in."""

    def __init__(self, command: str, configs: list[Path], options: list[str]) -> None:
        self.command, self.configs = command, configs
        self.checkpoint: Path | None = None
        super().__init__(
            TaskModule,
            TextDataModule,
            subclass_mode_model=True,
            save_config_callback=None,  # `fit` writes the config itself: once, of the run as it was named
            seed_everything_default=1,
            trainer_defaults={
                "num_sanity_val_steps": 0,  # search with an untrained model is the slowest of all
                "enable_model_summary": False,  # a table on stdout; `Sizes` says it in a line
            },
            parser_kwargs={
                "prog": f"lmtasks {command}",
                "description": DESCRIPTION,
                "exit_on_error": False,
                "allow_abbrev": False,
            },
            args=[*(f"--config={config}" for config in configs), *options],
            run=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # our checkpoints hold their settings in their own form
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options that are neither model, data nor trainer."""
        parser.add_argument("--name", type=str | None, help="name of the run: runs/NAME (default: that of the config)")
        parser.add_argument("--ckpt_path", type=str | None, help="last, best or a .ckpt file: resume or evaluate it")
        parser.add_argument("--average", type=CheckpointAverage | None, help="average checkpoints when `fit` ends")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, and say in one line what is wrong."""
        try:
            self.config = parser.parse_args(args)
        except ArgumentError as error:
            known = [*CLASSES, *OptimizerConfig.__subclasses__()]
            raise InputError(explain(str(error), parser._option_string_actions, known, self.configs)) from None

    def before_instantiate_classes(self) -> None:
        """Choose the run folder."""
        self.root = self.config.trainer.default_root_dir
        find = folders.existing_run if self.command != "fit" or self.config.ckpt_path else folders.new_run
        self.folder = find(self.config.name, self.root, self.configs)

    def instantiate_classes(self) -> None:
        """Build data, model and trainer; jsonargparse wraps what our classes say of a wrong value: unwrap it."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, InputError):
                cause = cause.__cause__ or cause.__context__
            raise cause or error from None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer with the run folder and our callbacks, loggers and plugins beside those of the config."""
        settings = self.config_init.trainer
        given = settings.callbacks or []
        fitting = self.command == "fit"
        saving = fitting or any(isinstance(callback, ModelCheckpoint) for callback in given)
        return super().instantiate_trainer(
            default_root_dir=str(self.folder),
            callbacks=[*given, *self._callbacks(given)],
            logger=self._loggers(settings.logger) if fitting else False,
            enable_checkpointing=saving and settings.enable_checkpointing is not False,
            plugins=[*_listed(settings.plugins), SafeCheckpointIO()],
            strategy=_strategy(settings, several_tasks=len(self.model.tasks) > 1),
            use_distributed_sampler=False,  # the plan deals the rows out itself
        )

    def find_checkpoint(self, wanted: str) -> Path:
        """Return the checkpoint that an option means; check that it is of this model, and take its tokenizer."""
        kept = self.trainer.checkpoint_callback
        path = folders.find_checkpoint(wanted, self.folder, getattr(kept, "mode", "max"))
        saved = read_checkpoint(path).get("lmtasks")
        if saved is None:
            raise InputError(f"{path}: a checkpoint, but not one that lmtasks wrote; give the .ckpt of a `lmtasks fit`")
        self.model.tokenizer = Tokenizer.from_json(saved["tokenizer"])
        own = self.model.describe()["settings"]
        for part in (*FIXED, *(["optimizer"] if self.command == "fit" else [])):
            if change := _difference(saved["settings"][part], own[part], part):
                raise InputError(f"{path} was trained with {change}; -c {self.folder} takes the settings of the run")
        return path

    @rank_zero_only
    def write_config(self) -> None:
        """Write the settings of the run into its folder, such that they start it anew."""
        config = deepcopy(self.config)
        config.name, config.ckpt_path, config.config = self.folder.name, None, None
        self.folder.mkdir(parents=True, exist_ok=True)
        self.parser.save(config, self.folder / RUN_CONFIG, skip_none=False, overwrite=True, multifile=False)

    def _callbacks(self, given: Sequence[Callback]) -> list[Callback]:
        """Return our callbacks where the config has none of their kind."""
        ours: list[Callback] = []
        if not any(isinstance(callback, ProgressBar) for callback in given):
            ours.append(Progress())
        if self.command != "fit":
            return ours
        if not any(isinstance(callback, ModelCheckpoint) for callback in given):
            validated = self.datamodule.rows.path("validation") is not None
            average = self.config_init.average
            count = average.count if average else 1
            last = count if average and average.of == "last" else 0
            ours.append(Checkpoints(MONITOR if validated else None, "max", best=max(1, count - last), keep_last=last))
        return [*ours, Samples(), Sizes(), RandomState(), StopOnSignal()]

    def _loggers(self, given: Any) -> Any:
        return given if given not in (None, True) else metrics_loggers(self.folder)


class Sizes(Callback):
    """Say how large the model is, when it is built."""

    def on_fit_start(self, trainer: Trainer, pl_module: TaskModule) -> None:  # type: ignore[override]
        """Print one line."""
        parameters = sum(parameter.numel() for parameter in pl_module.parameters())
        name, tokens = type(pl_module.backbone).__name__, len(pl_module.tokenizer or ())
        _say(f"model: {name}, {parameters:,} parameters, {tokens:,} tokens")


def _fit(job: Job) -> int:
    """Train, then test the best weights and write the model folder."""
    checkpoint = job.find_checkpoint(job.config.ckpt_path) if job.config.ckpt_path else None
    if job.config.trainer.fast_dev_run:
        job.trainer.fit(job.model, datamodule=job.datamodule)
        _say("fast_dev_run: the settings work; no model was kept")
        return 0
    job.write_config()
    _say(f"run folder: {job.folder}")
    try:
        job.trainer.fit(job.model, datamodule=job.datamodule, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:
        _say(f"go on with: lmtasks fit -c {job.folder} --ckpt_path last")
        raise
    return finish(job.trainer, job.model, job.datamodule, job.folder, job.config_init.average)


def _evaluate(job: Job) -> int:
    """Score a checkpoint, by default the best of the run, and print the table."""
    path = job.find_checkpoint(job.config.ckpt_path or "best")
    _say(f"checkpoint: {path}")
    evaluate = {"validate": job.trainer.validate, "test": job.trainer.test}[job.command]
    (scores,) = evaluate(job.model, datamodule=job.datamodule, ckpt_path=path, verbose=False, weights_only=True)
    if job.trainer.is_global_zero:
        print(score_table(scores))
    return 0


def _predict(job: Job) -> int:
    """Print the predictions of the predict split as JSON Lines, in the order of its rows."""
    path = job.find_checkpoint(job.config.ckpt_path or "best")
    _say(f"checkpoint: {path}")
    batches = job.trainer.predict(job.model, datamodule=job.datamodule, ckpt_path=path, weights_only=True) or []
    found = _gathered([answer for batch in batches for answer in batch], job.trainer.world_size)
    if job.trainer.is_global_zero:
        encoded = job.datamodule.encoded["predict"]
        answers = sorted({answer["id"]: answer for answer in found}.values(), key=lambda answer: answer["id"])
        ids = [answer["id"] for answer in answers]
        columns = [encoded.column(name, ids) for name in ("row", "group", "text")]
        for answer, row, group, text in zip(answers, *columns, strict=True):
            line = {
                "row": row,
                "group": group,
                "text": text,
                "prediction": answer["prediction"],
                "score": answer["score"],
            }
            print(json.dumps(line, ensure_ascii=False))
    return 0


def _gathered(own: list[dict], world_size: int) -> list[dict]:
    """Return the predictions of all processes."""
    if world_size == 1:
        return own
    parts: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(parts, own)
    return [answer for part in parts for answer in part]


def _strategy(settings: Any, several_tasks: bool) -> Any:
    """Return the strategy of the config, or the right one for several processes where it says auto.

    Raises:
        InputError: It is ddp_spawn, whose processes share the states of metrics: each row would count several times.
    """
    if "spawn" in str(settings.strategy):
        raise InputError(f"trainer.strategy is {settings.strategy}, which counts evaluation rows twice; use ddp")
    if settings.strategy != "auto" or _devices(settings) * settings.num_nodes == 1:
        return settings.strategy
    return "ddp_find_unused_parameters_true" if several_tasks else "ddp"  # a step may leave a task's head out


def _devices(settings: Any) -> int:
    """Return how many processes the trainer will start on this machine."""
    devices = settings.devices
    if isinstance(devices, list):
        return len(devices)
    if isinstance(devices, str) and "," in devices:
        return len([number for number in devices.split(",") if number.strip()])
    if devices in ("auto", -1, "-1"):
        wants_gpu = settings.accelerator in ("auto", "gpu", "cuda")
        return max(1, torch.cuda.device_count()) if wants_gpu else 1
    return int(devices)


def _difference(saved: Any, own: Any, name: str) -> str:
    """Return the first difference of two plain settings, as "backbone.d_model = 64, not 128", or nothing."""
    if isinstance(saved, list) and isinstance(own, list) and len(saved) == len(own):
        pairs = [(old, new, name) for old, new in zip(saved, own, strict=True)]
    elif isinstance(saved, dict) and isinstance(own, dict):
        keys = [key for key in own if key in saved]
        pairs = [(saved[key], own[key], name if key == "init_args" else f"{name}.{key}") for key in keys]
    else:
        return "" if to_plain(saved) == to_plain(own) else f"{name} = {saved}, not {own}"
    return next((change for old, new, key in pairs if (change := _difference(old, new, key))), "")


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


@rank_zero_only
def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _quiet() -> None:
    """Let our own log be seen, and drop what Lightning says that is not for this user."""
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    logging.getLogger("lmtasks").setLevel(logging.WARNING if getattr(rank_zero_only, "rank", 0) else logging.INFO)
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(lambda record: not record.getMessage().startswith(NOISE))
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")  # the plan is, by the step number
    warnings.filterwarnings("ignore", message=".*callbacks used to create the checkpoint.*")  # evaluation needs none
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")  # scores are gathered: the same on all processes
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning's own call of a name that torch renamed
    warnings.filterwarnings("ignore", message=".*exists and is not empty.*")  # all share the run folder
