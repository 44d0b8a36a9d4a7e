"""The command `lmtasks`: find the file of a command, run it, and report an error as one line.

Only the file of that command is imported, so that help and misspelt commands answer at once. Results go to stdout, all
else to stderr. Exit status: 0, 1 (failed), 2 (wrong use), 130 (Ctrl-C), 141 (the reader of stdout has gone).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import NoReturn

import lmtasks
from lmtasks.errors import FULL, InputError, did_you_mean, one_line, why_not_written, writing

COMMANDS = {
    "fit": ("fit", "train a model, test its best checkpoint, write the model folder"),
    "validate": ("fit", "score a checkpoint on the validation split"),
    "test": ("fit", "score a checkpoint on the test split"),
    "predict": ("fit", "write the predictions of a checkpoint for the predict split"),
    "run": ("run", "use a model on texts from arguments, stdin or files"),
    "tokenizer": ("tokenizer", "train a tokenizer, or show how one cuts a text"),
    "score": ("score", "score a file of predictions against a file of references"),
    "import": ("import_model", "save a pretrained model, from a folder or the Hugging Face hub, as a model folder"),
    "export": ("export", "write a model for CTranslate2, ONNX Runtime or transformers, and check its answers there"),
    "push": ("push", "upload a model folder or an export to the Hugging Face hub"),
    "info": ("info", "say what a run, model folder or checkpoint is"),
    "compare": ("compare", "compare the scores of several runs, task by task, and draw their curves"),
    "attend": ("attend", "show which source words the model reads for each target word"),
}  # command -> (its file in lmtasks.cli, one line of help)
OUTPUTS = ("output", "pictures")  # options of the commands that name a place to write
HELP = """usage: lmtasks COMMAND [options]     (lmtasks COMMAND --help lists the options)

{commands}

  --version        print the version
  --debug          show the traceback of an error
  --import MODULE  import a module of yours first, so that models and configs may name its classes

start here:  lmtasks fit -c quickstart"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name) and return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    modules, arguments = _take((argument for argument in arguments if argument != "--debug"), "--import")
    try:
        _import(modules)
        status = _dispatch(arguments)
        sys.stdout.flush()  # else a closed pipe or a full disk shows only when the interpreter ends
        return status
    except SystemExit as stop:  # argparse's own way out
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        print("lmtasks: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of stdout has gone, as `| head` does: end as the shell's own commands do
        _drop_stdout()
        return 128 + 13  # SIGPIPE
    except Exception as error:
        if debug:
            traceback.print_exception(error)
        if isinstance(error, InputError):
            print(f"lmtasks: error: {error}", file=sys.stderr)
            return 2
        if isinstance(error, OSError) and error.filename is None and (reason := why_not_written(error)):
            _drop_stdout()  # every other place has its name in an InputError
            ways = f"{'free space, or ' * (reason in FULL)}send it elsewhere"
            print(f"lmtasks: error: stdout: cannot be written: {reason}; {ways}", file=sys.stderr)
            return 2
        first = (str(error).strip().splitlines() or [""])[0]
        hint = "" if debug else " (--debug shows the traceback)"
        print(f"lmtasks: error: {type(error).__name__}: {first}{hint}", file=sys.stderr)
        return 1


def _dispatch(arguments: list[str]) -> int:
    """Run the command that `arguments` begins with."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP.format(commands="\n".join(f"  {name:<10} {text}" for name, (_, text) in COMMANDS.items())))
        return 0 if arguments else 2
    command, *rest = arguments
    if command in ("-V", "--version"):
        print(f"lmtasks {lmtasks.__version__}")
        return 0
    if command not in COMMANDS:
        hint = did_you_mean(command, COMMANDS, f"the commands are: {', '.join(COMMANDS)}")
        raise InputError(f"there is no command {command!r}; {hint}")
    from lmtasks.cli.configs import check_model, find_config, read_config  # loads yaml, which help does not need

    file = COMMANDS[command][0]
    if file == "fit":  # LightningCLI parses the other options
        names, options = _take(rest, "-c", "--config")
        configs = [find_config(name) for name in names]
        for config in configs:
            read_config(config)  # shows a mistake now: torch and Lightning take seconds to import
        return import_module("lmtasks.cli.fit").fit(command, configs, options)
    if file in ("run", "info", "attend", "export", "push") and rest and not {"-h", "--help"} & {*rest}:
        check_model(rest[0])
    module = import_module(f"lmtasks.cli.{file}")
    parser = CommandParser(
        prog=f"lmtasks {command}",
        description=module.HELP,
        epilog="--debug shows the traceback of an error, --import MODULE imports a module of yours first.",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    given = parser.parse(rest)
    for option in OUTPUTS:
        if place := getattr(given, option, None):
            with writing(place, f"--{option}"):
                return module.run(given)
    return module.run(given)


def _drop_stdout() -> None:
    """Send what is still to be written to stdout nowhere: Python would try once more when it ends."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _take(arguments: Iterable[str], *options: str) -> tuple[list[str], list[str]]:
    """Take an option that may be repeated out of a command line; return (its values, the other arguments)."""
    values, others = [], []
    given = iter(arguments)
    for argument in given:
        option, equals, value = argument.partition("=")
        if option in options:
            values.append(value if equals else next(given, ""))
        else:
            others.append(argument)
    return values, others


def _import(modules: Sequence[str]) -> None:
    """Import modules of the user, also from the current folder, so that configs and models may name their classes."""
    for name in modules:
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())  # at the end: no file here takes the place of a package
        try:
            import_module(name)
        except Exception as error:
            hint = f"; give the name of the module, {name[:-3]}" if name.endswith(".py") else ""
            reason = f"{type(error).__name__}: {one_line(error)}"
            raise InputError(f"--import {name or 'MODULE'}: this module cannot be imported: {reason}{hint}") from error


class CommandParser(argparse.ArgumentParser):
    """An argparse parser that raises InputError, with the nearest option's name, instead of printing its usage."""

    def parse(self, arguments: list[str]) -> argparse.Namespace:
        """Parse options and positionals in any order; for a misspelt option name the one that was probably meant."""
        known, unknown = self.parse_known_intermixed_args(arguments)
        if unknown and unknown[0].startswith("-"):
            hint = did_you_mean(unknown[0].split("=")[0], self._option_string_actions, f"see {self.prog} --help")
            raise InputError(f"{self.prog} has no option {unknown[0]!r}; {hint}")
        if unknown:
            self.error(f"one argument too many: {unknown[0]!r}")
        return known

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and exiting."""
        raise InputError(f"{self.prog}: {message} (see {self.prog} --help)")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        """For a misspelt choice name the one that was probably meant."""
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            hint = did_you_mean(str(value), known, f"choose one of {', '.join(known)}")
            raise argparse.ArgumentError(action, f"there is no {str(value)!r}; {hint}")
