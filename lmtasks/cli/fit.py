"""`lmtasks fit | validate | test | predict`: LightningCLI with what a run needs set by default.

An option beats a config, a later config an earlier one. `FitCLI` builds model, data and trainer, and then runs the
command itself: LightningCLI, given a checkpoint, would prefer the settings in it to the options of the command line.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
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
from lmtasks.cli.configs import read_options
from lmtasks.cli.errors import explain
from lmtasks.cli.messages import Sizes, quiet, say
from lmtasks.errors import InputError, one_line, writing
from lmtasks.settings import first_difference, from_plain
from lmtasks.storage import RUN_CONFIG, run_folder as folders
from lmtasks.storage.checkpoint import Saved, checkpoints, read
from lmtasks.storage.reading import refusing
from lmtasks.training import hardware
from lmtasks.training.callbacks.averaging import CheckpointAverage
from lmtasks.training.callbacks.checkpoints import Checkpoints, SafeCheckpointIO
from lmtasks.training.callbacks.loggers import MetricsFile, metrics_loggers
from lmtasks.training.callbacks.progress import Progress
from lmtasks.training.callbacks.randomness import RandomState
from lmtasks.training.callbacks.samples import Samples
from lmtasks.training.callbacks.signals import StopOnSignal
from lmtasks.training.datamodule import TextDataModule
from lmtasks.training.module import TaskModule

MONITOR = "validation/score"  # chooses the best checkpoint; logged by TaskModule: the mean of the tasks' main metrics
CLASSES = tuple(value for name in lmtasks.__all__ if isinstance(value := getattr(lmtasks, name), type))  # short names
DESCRIPTION = """Settings come from configs (-c NAME or FILE, several are merged) and options, which win.
--model.help TranslationModule and --data.rows.help ParallelText list the settings of a class."""
RUN_OPTIONS = "--trainer.default_root_dir FOLDER (or a short --name)"
STRICT = {"exit_on_error": False, "allow_abbrev": False}  # errors are raised, and an option is written in full


def fit(command: str, configs: list[Path], options: list[str]) -> int:
    """Run one of the four commands and return the exit status."""
    quiet()
    asks_help = any(argument.split("=")[0].endswith(("-h", "help")) for argument in options)
    set_parsing_settings(docstring_parse_attribute_docstrings=asks_help)  # it reads source files, which takes its time
    cli = FitCLI(command, configs, options)
    try:
        with writing(cli.folder, RUN_OPTIONS) if command == "fit" else nullcontext():  # the others write to stdout
            {"fit": cli.train, "validate": cli.evaluate, "test": cli.evaluate, "predict": cli.predict}[command]()
    except (RuntimeError, MemoryError) as error:
        if hardware.out_of_memory(error) and (notes := getattr(error, "__notes__", [])):
            raise InputError(notes[-1]) from error  # from the data module
        raise
    return 0


class FitCLI(LightningCLI):
    """Model, data and trainer of one command line, and the run folder it works in.

    The methods stand in the order in which they are called: LightningCLI calls those up to `instantiate_trainer` when
    it is made, then `fit` calls the method of the command.
    """

    def __init__(self, command: str, configs: list[Path], options: list[str]) -> None:
        self.command, self.configs, self.options = command, configs, options
        _typehints.discard_init_args_on_class_path_change = _discard
        super().__init__(
            TaskModule,
            TextDataModule,
            subclass_mode_model=True,
            save_config_callback=None,  # `train` writes the config itself: once, with the name that the run got
            seed_everything_default=1,
            trainer_defaults={
                "num_sanity_val_steps": 0,  # an untrained model ends no text: its search is the slowest of all
                "enable_model_summary": False,  # a table on stdout; `Sizes` says it in a line
            },
            parser_kwargs={"prog": f"lmtasks {command}", "description": DESCRIPTION, **STRICT},
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
        """Parse configs and options, and turn jsonargparse's error into one line."""
        try:
            self.config = parser.parse_args(args)
        except Exception as error:
            raise self._explained(error) from error

    def instantiate_classes(self) -> None:
        """Build data, model and trainer; unwrap the errors of our classes, which jsonargparse wraps."""
        try:
            super().instantiate_classes()
        except (ValueError, TypeError) as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, InputError):
                cause = cause.__cause__ or cause.__context__
            raise cause or self._explained(error) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer with the run folder, and with our callbacks, loggers and plugins beside the config's."""
        settings, fitting = self.config_init.trainer, self.command == "fit"
        given = _listed(settings.callbacks)
        saving = fitting or any(isinstance(callback, ModelCheckpoint) for callback in given)
        strategy = hardware.strategy(settings, self.model.tasks.values())
        wanted = (*self._place(), self.configs)
        self.folder = folders.existing_run(*wanted)
        self.is_new = fitting and not self.config.ckpt_path
        if self.is_new:
            with writing(self.folder, RUN_OPTIONS):
                self.before = folders.present(self.folder)
                self.folder = folders.new_run(*wanted)
        own_logger = settings.logger not in (None, True)
        loggers: Any = fitting and (settings.logger if own_logger else metrics_loggers(self.folder))
        try:
            return super().instantiate_trainer(
                default_root_dir=str(self.folder),
                callbacks=[*given, *self._callbacks(given, _listed(loggers))],
                logger=loggers,
                enable_checkpointing=saving and settings.enable_checkpointing is not False,
                plugins=[*_listed(settings.plugins), SafeCheckpointIO()],
                strategy=strategy,
                precision=hardware.precision(settings),
                use_distributed_sampler=False,  # the plan deals the rows out itself
            )
        except Exception as error:
            self._give_up()
            if isinstance(error, MisconfigurationException):  # cannot be met, such as a GPU that is absent
                raise InputError(f"trainer: {one_line(error)}") from None
            raise

    def train(self) -> None:
        """Train, then score the best weights and write the model folder; a run that takes no step leaves nothing."""
        rehearsal = bool(self.config.trainer.fast_dev_run)
        try:
            checkpoint = None
            if self.config.ckpt_path:
                checkpoint, saved = self._read_checkpoint()
                say(f"going on from {checkpoint}, {saved.step} steps done")
            if not rehearsal:
                self._lock()
                say(f"run folder: {self.folder}")
                if self.is_new:
                    self._write_config()
            self.trainer.fit(self.model, datamodule=self.datamodule, ckpt_path=checkpoint, weights_only=True)
            if not (rehearsal or self.is_new):
                self._write_config()  # not before: a resume that is refused changes nothing
        except BaseException as error:
            if isinstance(error, SystemExit) and checkpoints(self.folder):  # a signal, which `StopOnSignal` answers
                say(f"go on with: lmtasks fit -c {self.folder} --ckpt_path last")
            if not self.trainer.global_step:  # else what was logged may tell why it failed
                self._give_up()
            raise
        if rehearsal:
            self._give_up()
            say("fast_dev_run: the settings work; no model was kept")
        else:
            finish(self.trainer, self.model, self.datamodule, self.folder, self.config_init.average)

    def evaluate(self) -> None:
        """Score a model, by default the one that `fit` made, and print the table."""
        self._load_weights()
        evaluate = {"validate": self.trainer.validate, "test": self.trainer.test}[self.command]
        (scores,) = evaluate(self.model, datamodule=self.datamodule, verbose=False)
        if self.trainer.is_global_zero:
            print_scores(self.model, scores)

    def predict(self) -> None:
        """Print the predictions of the predict split as JSON Lines, in the order of its rows."""
        self._load_weights()
        self.trainer.predict(self.model, datamodule=self.datamodule, return_predictions=False)
        for name, evaluation in self.model.predicted().items():
            for example, (best, *_) in evaluation.rows(self.model.tasks[name]) if self.trainer.is_global_zero else ():
                line = {"row": example.row + 1, "group": example.group, "text": example.text, **best.plain()}
                print(json.dumps({"task": name, **line} if len(self.model.tasks) > 1 else line, ensure_ascii=False))

    def _explained(self, error: Exception) -> InputError:
        """Return what jsonargparse or Lightning says of the settings as one line."""
        return InputError(explain(str(error), self.parser._option_string_actions, CLASSES, self.configs, self.options))

    def _place(self) -> tuple[str | None, str | None]:
        """Return the name and the root of the run folder, as far as they are given.

        A run is where its folder is: what its config says of itself was true before it was copied or moved.
        """
        given = {setting.name for setting in read_options(self.options)}
        again = any(folders.is_run(config) for config in self.configs)
        name, root = self.config.name, self.config.trainer.default_root_dir
        return (
            name if "name" in given or not again else None,
            root if "trainer.default_root_dir" in given or not again else None,
        )

    def _callbacks(self, given: list[Callback], loggers: list[Any]) -> list[Callback]:
        """Return our callbacks where the config has none of their kind.

        Raises: InputError if the best checkpoints are to be averaged, and no validation tells which they are.
        """
        settings, average = self.config_init.trainer, self.config_init.average
        ours: list[tuple[type, Callback]] = []
        if settings.enable_progress_bar is not False:
            ours.append((ProgressBar, Progress()))
        if self.command == "fit":
            files = (logger for logger in loggers if isinstance(logger, MetricsFile))
            always = (*files, Samples(), Sizes(), RandomState(), StopOnSignal())
            ours += [(type(callback), callback) for callback in always]
        if self.command == "fit" and settings.enable_checkpointing is not False:
            validated = self.datamodule.has("validation") and settings.limit_val_batches != 0
            if average and average.of == "best" and not validated:
                ways = "use last, or set data.rows.validation"
                raise InputError(f"average.of is best, but no validation rows tell which are; {ways}")
            count = average.count if average else 1
            last = count if average and average.of == "last" else 0
            keep = Checkpoints(MONITOR if validated else None, "max", best=max(1, count - last), keep_last=last)
            ours.append((ModelCheckpoint, keep))
        return [own for kind, own in ours if not any(isinstance(callback, kind) for callback in given)]

    def _load_weights(self) -> None:
        path, saved = self._read_checkpoint()
        self.model.configure_model()
        self.model.load_weights(saved.weights)
        say(f"weights: {path}")

    def _read_checkpoint(self) -> tuple[Path, Saved]:
        """Read what --ckpt_path means, and take its tokenizer and tasks with all they have learned of training rows.

        Raises: InputError if there is none, if its weights mean something else under the settings of this command line,
            or if a run that resumes would not continue as it began.
        """
        resuming, model = self.command == "fit", self.model
        find = folders.find_checkpoint if resuming else folders.find_weights
        mode: Any = getattr(self.trainer.checkpoint_callback, "mode", "max")  # whether a high score is better
        path = find(self.config.ckpt_path, self.folder, mode)
        saved = read(path)
        names = ("backbone", "tasks", "training") if resuming else ("backbone", "tasks")
        with refusing(path):
            before = {name: from_plain(saved.settings[name]) for name in names}  # an optimiser may be missing here
        pairs = [("backbone", before["backbone"], model.backbone_config), ("tasks", before["tasks"], model.tasks)]
        if resuming:
            was, now = before["training"], model.training_config
            pairs += [("model.training.optimizer", was.optimizer, now.optimizer)]
            pairs += [("model.training.lora", was.lora, now.lora)]
            pairs += [("model.training.schedule", was.schedule, now.schedule)]
            weightings = (was.joint.weighting, now.joint.weighting)
            if model.joint.weights.state_dict() or type(weightings[0]) is not type(weightings[1]):
                # settings of what the checkpoint remembers
                pairs.append(("model.training.joint.weighting", *weightings))
        changes = [first_difference(old, new, name) for name, old, new in pairs]
        if list(before["tasks"]) != list(model.tasks):  # their order is that of their weights and of their steps
            changes = [f"the tasks {', '.join(before['tasks'])}, not {', '.join(model.tasks)}"]
        if change := next(filter(None, changes), None):
            raise InputError(f"{path} was trained with {change}; -c {self.folder} takes the settings of the run")
        model.start_over(before["tasks"], saved.build_tokenizer())
        return path, saved

    @rank_zero_only
    def _write_config(self) -> None:
        """Write the settings of the run into its folder, so that they start it again."""
        config = deepcopy(self.config)
        config.name = config.ckpt_path = config.config = config.trainer.default_root_dir = None
        if self.model.origin and (revision := self.model.origin.revision):
            config.model.init_args.backbone.init_args.revision = revision  # what the hub has may change
        part = self.folder / f".{RUN_CONFIG}.part"
        self.parser.save(config, part, skip_none=False, overwrite=True, multifile=False)
        part.replace(self.folder / RUN_CONFIG)

    @rank_zero_only
    def _lock(self) -> None:
        """Keep other processes from training this run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.held = folders.lock(self.folder)

    @rank_zero_only
    def _give_up(self) -> None:
        """Leave nothing of a new run that has taken no step."""
        if self.is_new:
            folders.release(self.folder, self.before)


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _discard(parser_or_action: Any, prev_val: Any, value: Any) -> None:
    """Forget the settings of the previous class where an option or a later config names another class.

    It replaces a function of jsonargparse's, which keeps those that the new class has too: `--model.backbone
    RecurrentConfig` would get as many layers as the Transformer of the config.
    """
    if prev_val and prev_val.get("init_args") and prev_val["class_path"]:
        before, now = (spec["class_path"].rpartition(".")[2] for spec in (prev_val, value))  # short, or a whole path
        if before != now:
            prev_val["init_args"] = Namespace()
