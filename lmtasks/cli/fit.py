"""`lmtasks fit | validate | test | predict`: LightningCLI with what a run needs set by default.

An option beats a config, a later config an earlier one. LightningCLI builds model, data and trainer here and runs
nothing by itself: given a checkpoint it would take settings from there, over the options of the command line.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from jsonargparse import Namespace, _typehints, set_parsing_settings
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_only

import lmtasks
from lmtasks.cli.after_fit import finish, print_scores
from lmtasks.cli.errors import explain
from lmtasks.cli.messages import Sizes, quiet, say
from lmtasks.data.readers.hub import one_line
from lmtasks.errors import InputError
from lmtasks.settings import first_difference, from_plain
from lmtasks.storage import RUN_CONFIG, run_folder as folders
from lmtasks.storage.checkpoint import Saved, checkpoints, read
from lmtasks.text.tokenizer import Tokenizer
from lmtasks.training import hardware
from lmtasks.training.callbacks.averaging import CheckpointAverage
from lmtasks.training.callbacks.checkpoints import Checkpoints, SafeCheckpointIO
from lmtasks.training.callbacks.loggers import continue_metrics, metrics_loggers
from lmtasks.training.callbacks.progress import Progress
from lmtasks.training.callbacks.randomness import RandomState
from lmtasks.training.callbacks.samples import Samples
from lmtasks.training.callbacks.signals import StopOnSignal
from lmtasks.training.datamodule import TextDataModule
from lmtasks.training.module import TaskModule

HELP = "train a model, or use one of its checkpoints, as configs and options say"

MONITOR = "validation/score"  # chooses the best checkpoint; logged by TaskModule: the mean of the tasks' main metrics
CLASSES = tuple(value for name in lmtasks.__all__ if isinstance(value := getattr(lmtasks, name), type))  # short names
DESCRIPTION = """Settings come from configs (-c NAME or FILE, several are merged) and options, which win.
--model.help TranslationModule and --data.rows.help ParallelText list the settings of a class."""


def fit(command: str, configs: list[Path], options: list[str]) -> int:
    """Run one of the four commands and return the exit status."""
    quiet()
    asks_help = any(argument.split("=")[0].endswith(("-h", "help")) for argument in options)
    set_parsing_settings(docstring_parse_attribute_docstrings=asks_help)  # it reads source files, which takes its time
    cli = FitCLI(command, configs, options)
    return {"fit": _fit, "validate": _evaluate, "test": _evaluate, "predict": _predict}[command](cli)


class FitCLI(LightningCLI):
    """Model, data and trainer of one command line, and the run folder it works in."""

    def __init__(self, command: str, configs: list[Path], options: list[str]) -> None:
        self.command, self.configs, self.options = command, configs, options
        _typehints.discard_init_args_on_class_path_change = _discard
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
        parser.add_argument("--ckpt_path", type=str | None, help="resume or evaluate: last, best, a .ckpt file")
        parser.add_argument("--average", type=CheckpointAverage | None, help="average checkpoints when `fit` ends")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, and say in one line what is wrong."""
        try:
            self.config = parser.parse_args(args)
        except Exception as error:
            raise self._explained(error) from error

    def instantiate_classes(self) -> None:
        """Build data, model and trainer; jsonargparse wraps what our classes say of a wrong value: unwrap it."""
        try:
            super().instantiate_classes()
        except (ValueError, TypeError) as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, InputError):
                cause = cause.__cause__ or cause.__context__
            raise cause or self._explained(error) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer with the run folder and our callbacks, loggers and plugins beside those of the config."""
        settings = self.config_init.trainer
        given = settings.callbacks or []
        fitting = self.command == "fit"
        saving = fitting or any(isinstance(callback, ModelCheckpoint) for callback in given)
        strategy = hardware.strategy(settings, self.model.tasks.values())
        wanted = (self.config.name, self.config.trainer.default_root_dir, self.configs)
        if self._is_new:
            self._before = folders.present(folders.existing_run(*wanted))
        self.folder = (folders.new_run if self._is_new else folders.existing_run)(*wanted)
        try:
            return super().instantiate_trainer(
                default_root_dir=str(self.folder),
                callbacks=[*given, *self._callbacks(given)],
                logger=self._loggers(settings.logger) if fitting else False,
                enable_checkpointing=saving and settings.enable_checkpointing is not False,
                plugins=[*_listed(settings.plugins), SafeCheckpointIO()],
                strategy=strategy,
                precision=hardware.precision(settings),
                use_distributed_sampler=False,  # the plan deals the rows out itself
            )
        except Exception as error:
            self.give_up()
            if isinstance(error, MisconfigurationException):  # what Lightning says of settings that cannot be met
                raise InputError(f"trainer: {one_line(error)}") from None
            raise

    def find_checkpoint(self) -> tuple[Path, int]:
        """Return the checkpoint to resume from, and the steps that were done; take its tokenizer and tasks."""
        path = folders.find_checkpoint(self.config.ckpt_path, self.folder, self._mode)
        saved = read(path)
        self._take(saved, path, resuming=True)
        return path, saved.step

    def load_weights(self) -> None:
        """Give the model the weights of --ckpt_path, by default those that `fit` made of the run."""
        path = folders.find_weights(self.config.ckpt_path, self.folder, self._mode)
        saved = read(path)
        self._take(saved, path, resuming=False)
        self.model.configure_model()
        self.model.load_weights(saved.weights)
        say(f"weights: {path}")

    @rank_zero_only
    def give_up(self) -> None:
        """Leave nothing of a new run that has taken no step."""
        if self._is_new:
            folders.release(self.folder, self._before)

    @rank_zero_only
    def write_config(self) -> None:
        """Write the settings of the run into its folder, such that they start it anew."""
        config = deepcopy(self.config)
        config.name, config.ckpt_path, config.config = self.folder.name, None, None
        self.folder.mkdir(parents=True, exist_ok=True)
        self.parser.save(config, self.folder / RUN_CONFIG, skip_none=False, overwrite=True, multifile=False)

    @property
    def _is_new(self) -> bool:
        return self.command == "fit" and not self.config.ckpt_path

    @property
    def _mode(self) -> Any:
        """Whether a high or a low score is the better one."""
        return getattr(self.trainer.checkpoint_callback, "mode", "max")

    def _explained(self, error: Exception) -> InputError:
        """Return what jsonargparse or Lightning says of the settings as one line."""
        return InputError(explain(str(error), self.parser._option_string_actions, CLASSES, self.configs, self.options))

    def _take(self, saved: Saved, path: Path, resuming: bool) -> None:
        """Take tokenizer and tasks of a saved model, and what the tasks have learned of the training rows.

        Raises:
            InputError: If the weights mean something else under the settings of this command line, or a run that
                resumes would not continue as it began.
        """
        before, model = from_plain(saved.settings), self.model
        pairs = [("backbone", before["backbone"], model.backbone_config), ("tasks", before["tasks"], model.tasks)]
        if resuming:
            was, now = before["training"], model.training_config
            pairs += [("training.optimizer", was.optimizer, now.optimizer)]
            pairs += [("training.schedule", was.schedule, now.schedule)]
            weightings = (was.joint.weighting, now.joint.weighting)
            if model.joint.weights.state_dict() or type(weightings[0]) is not type(weightings[1]):
                pairs.append(("training.joint.weighting", *weightings))  # settings of what the checkpoint remembers
        changes = [first_difference(old, new, name) for name, old, new in pairs]
        if list(before["tasks"]) != list(model.tasks):  # their order is that of their weights and of their steps
            changes = [f"the tasks {', '.join(before['tasks'])}, not {', '.join(model.tasks)}"]
        if change := next(filter(None, changes), None):
            raise InputError(f"{path} was trained with {change}; -c {self.folder} takes the settings of the run")
        model.start_over(before["tasks"], Tokenizer.from_json(saved.tokenizer))

    def _callbacks(self, given: Sequence[Callback]) -> list[Callback]:
        """Return our callbacks where the config has none of their kind."""
        settings = self.config_init.trainer
        ours: list[tuple[type, Callback]] = []
        if settings.enable_progress_bar is not False:
            ours.append((ProgressBar, Progress()))
        if self.command == "fit":
            ours += [(type(callback), callback) for callback in (Samples(), Sizes(), RandomState(), StopOnSignal())]
            if settings.enable_checkpointing is not False:
                ours.append((ModelCheckpoint, self._checkpoints()))
        return [own for kind, own in ours if not any(isinstance(callback, kind) for callback in given)]

    def _checkpoints(self) -> Checkpoints:
        """Return what keeps the best checkpoint, and those that the average needs."""
        validated = self.datamodule.has("validation")
        average = self.config_init.average
        if average and average.of == "best" and not validated:
            raise InputError(
                "average.of is best, but no validation rows tell which are; use last, or set data.rows.validation"
            )
        count = average.count if average else 1
        last = count if average and average.of == "last" else 0
        return Checkpoints(MONITOR if validated else None, "max", best=max(1, count - last), keep_last=last)

    def _loggers(self, given: Any) -> Any:
        return given if given not in (None, True) else metrics_loggers(self.folder)


def _fit(cli: FitCLI) -> int:
    """Train, then test the best weights and write the model folder."""
    rehearsal = bool(cli.config.trainer.fast_dev_run)
    try:
        checkpoint = None
        if cli.config.ckpt_path:
            checkpoint, done = cli.find_checkpoint()
            say(f"going on from {checkpoint}, {done} steps done")
            continue_metrics(cli.trainer.loggers, done)
        if not rehearsal:
            cli.write_config()
            say(f"run folder: {cli.folder}")
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=checkpoint, weights_only=True)
    except BaseException as error:
        if isinstance(error, SystemExit) and checkpoints(cli.folder):
            say(f"go on with: lmtasks fit -c {cli.folder} --ckpt_path last")
        if not cli.trainer.global_step:  # else what was logged may tell why it failed
            cli.give_up()
        raise
    if rehearsal:
        cli.give_up()
        say("fast_dev_run: the settings work; no model was kept")
        return 0
    return finish(cli.trainer, cli.model, cli.datamodule, cli.folder, cli.config_init.average)


def _evaluate(cli: FitCLI) -> int:
    """Score a model, by default that which `fit` made, and print the table."""
    cli.load_weights()
    evaluate = {"validate": cli.trainer.validate, "test": cli.trainer.test}[cli.command]
    (scores,) = evaluate(cli.model, datamodule=cli.datamodule, verbose=False)
    if cli.trainer.is_global_zero:
        print_scores(cli.model, scores)
    return 0


def _predict(cli: FitCLI) -> int:
    """Print the predictions of the predict split as JSON Lines, in the order of its rows."""
    cli.load_weights()
    cli.trainer.predict(cli.model, datamodule=cli.datamodule, return_predictions=False)
    for name, evaluation in cli.model.predicted().items():
        for example, (best, *_) in evaluation.rows(cli.model.tasks[name]) if cli.trainer.is_global_zero else ():
            line = {"row": example.row + 1, "group": example.group, "text": example.text, **best.plain()}
            print(json.dumps({"task": name, **line} if len(cli.model.tasks) > 1 else line, ensure_ascii=False))
    return 0


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _discard(parser_or_action: Any, prev_val: Any, value: Any) -> None:
    """Forget the settings of the class before where an option or a later config names another class.

    It replaces a function of jsonargparse's that keeps those which the new class has too: `--model.backbone
    RecurrentConfig` would get as many layers as the Transformer of the config.
    """
    if prev_val and prev_val.get("init_args") and prev_val["class_path"]:
        before, now = (spec["class_path"].rpartition(".")[2] for spec in (prev_val, value))  # short, or a whole path
        if before != now:
            prev_val["init_args"] = Namespace()
