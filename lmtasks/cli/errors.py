"""Turn jsonargparse's nested error reports, ten lines deep, into one line: where, what was given, what was meant.

A report is indented: `Parser key "model":` and `Problem with given class_path ...:` lead down to the one line that says
what is wrong. Of the members of a union the deepest report is the one that the user was nearest to.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_type_hints

from lmtasks.cli.config_lines import BY_TASK, STRUCTURE, blame, by_task, of_task, settings, written
from lmtasks.cli.configs import packaged_configs
from lmtasks.training.checks import no_task
from lmtasks.training.datamodule import TextDataModule
from lmtasks.training.module import TaskModule

KEY = re.compile(r'^Parser key "(?P<key>[^"]+)":\s*(?P<rest>.*)')
CLASS = re.compile(r"^Problem with given class_path '(?P<name>[^']+)':")
UNKNOWN = re.compile(
    r"^(?:Option '(?P<option>[^']+)' is not accepted"
    r"|Group '(?P<group>[^']+)' does not accept option '(?P<member>[^']+)'"
    r"|[Uu]nrecognized arguments: (?P<argument>\S+).*)$"
)
NO_CLASS = "Expected a dot import path string: "  # then the value
MISSING = re.compile(r"^(?:the following arguments are required: |.*Key \")(?P<names>[\w., ]+)")
WRONG_VALUE = re.compile(r"^Expected an? (?P<wanted>.*?)\. Got value: (?P<given>.*)", re.DOTALL)
WRONG_TYPE = re.compile(r"^Expected an? (?P<wanted><class .*>|typing\..*)$")  # of a union; the value follows later
ABSTRACT = re.compile(r"^Expected an instantiatable class, but \S+ is abstract")  # what none was built of
GIVEN = "Given value: "
DETAILS = ("Does not validate", "Subtypes:", "Errors:", "Given value", "Expected a path but")
LITERAL = re.compile(r"(?:typing\.)?Literal\[(.*?)\]")


@dataclass
class Fault:
    """What a report says is wrong."""

    keys: list[str] = field(default_factory=list)
    """Names that lead to the setting."""
    owner: str | None = None
    """Path of the class that the setting is of."""
    text: str = ""
    """The line that says what is wrong."""
    wanted: list[str] = field(default_factory=list)
    """Types that the value could have had."""
    given: str | None = None
    """The value."""

    @property
    def name(self) -> str:
        """Return the whole name of the setting."""
        return ".".join(self.keys)


def explain(
    report: str, options: Iterable[str], classes: Sequence[type], configs: Sequence[Path], arguments: Sequence[str]
) -> str:
    """Return the one line that a user needs of a jsonargparse report.

    `options` are the option strings of the command, `classes` those that a config may name, `configs` the files read,
    `arguments` what else was on the command line.
    """
    fault = _innermost(report)
    if found := UNKNOWN.match(fault.text):
        return _unknown_option(found, fault, options, configs, arguments)
    there = written(arguments, configs)
    if ABSTRACT.match(fault.text) and (problem := _task_unmade(fault, there, classes, arguments, configs)):
        return problem
    whole = of_task(fault.name, fault.owner, fault.given, there)
    where, name = blame(whole, fault.given, arguments, configs) if fault.keys else ("", "")
    if fault.text.startswith(NO_CLASS):
        return f"{where}there is no class {fault.given!r} for {name}; {_suggest_class(fault, classes)}"
    if fault.wanted and fault.given is not None:
        return f"{where}{name} must be {_readable(fault.wanted)}, not {fault.given!r}"
    if found := MISSING.match(fault.text):
        names = " and ".join(".".join([*fault.keys, missing.strip()]) for missing in found["names"].split(","))
        return f"nothing sets {names}; give a config (-c quickstart) or the option"
    return f"{where}{name}{': ' if name else ''}{' '.join(fault.text.split())}"


def _innermost(report: str) -> Fault:
    """Return what the deepest part of a report says."""
    best, best_depth = Fault(text=report.strip()), -1
    stack: list[tuple[int, str, str]] = []  # (indent, "key" or "class", name) of the headings above this line
    for line in report.splitlines():
        text = line.strip()
        indent = len(line) - len(line.lstrip()) + (2 if text.startswith("- ") else 0)
        text = text.removeprefix("- ")
        if not text:
            continue
        while stack and stack[-1][0] >= indent:
            stack.pop()
        if key := KEY.match(text):
            stack.append((indent, "key", key["key"]))
            text = key["rest"]
        elif heading := CLASS.match(text):
            stack.append((indent, "class", heading["name"]))
            text = ""
        if text.startswith(GIVEN) and len(stack) == best_depth and best.given is None:
            best.given = text.removeprefix(GIVEN)
        if not text or text.startswith(DETAILS) or "<class 'NoneType'>" in text:
            continue
        if len(stack) > best_depth:
            keys = [name for _, kind, name in stack if kind == "key"]
            owners = [name for _, kind, name in stack if kind == "class"]
            best, best_depth = Fault(keys, owners[-1] if owners else None), len(stack)
        if len(stack) == best_depth:
            _add(best, text)
    return best


def _add(fault: Fault, text: str) -> None:
    """Add one more line to what is known of a fault; the first that names no type of a union is its text."""
    if fault.text:
        return
    if found := WRONG_VALUE.match(text):
        fault.text, fault.wanted, fault.given = text, [found["wanted"]], found["given"].strip()
    elif found := WRONG_TYPE.match(text):
        fault.wanted.append(found["wanted"])
    else:
        fault.text, fault.given = text, text.removeprefix(NO_CLASS).strip() if text.startswith(NO_CLASS) else None


def _unknown_option(
    found: re.Match[str], fault: Fault, options: Iterable[str], configs: Sequence[Path], arguments: Sequence[str]
) -> str:
    argument = (found["argument"] or "").split("=")[0]
    if argument and not argument.startswith("-"):
        hint = f"did you mean -c {argument}?" if argument in packaged_configs() or Path(argument).exists() else ""
        hint = hint or "settings are written --name=value, configs -c FILE"
        return f"unexpected argument {argument!r}; {hint}"
    name = found["option"] or argument.removeprefix("--") or f"{found['group']}.{found['member']}"
    name = ".".join(part for part in name.split(".") if part not in STRUCTURE)
    there = written(arguments, configs)
    meant = of_task(".".join([*fault.keys, name]), fault.owner, None, there)
    where, whole = blame(meant, None, arguments, configs)
    if problem := _rows_for_all(meant, fault.owner, there):
        return f"{where}{whole}: {problem}"
    dashes = "--" if whole.startswith("--") else ""
    near = _nearest(meant, _whole_names(meant.removesuffix(f".{name}"), fault.owner, options, configs))
    hint = f"did you mean {dashes}{near}?" if near else _list_options(fault.owner)
    return f"{where}there is no setting {whole}; {hint}"


def _task_unmade(
    fault: Fault,
    there: Mapping[str, str | None],
    classes: Sequence[type],
    arguments: Sequence[str],
    configs: Sequence[Path],
) -> str | None:
    """Return what is wrong with the name or the class of one of several tasks, or of its rows; None if nothing is."""
    group, tasks = fault.name, [task for task, kind in by_task("model.tasks", there).items() if kind]
    for task, kind in by_task(group, there).items() if group in BY_TASK else ():
        name = f"{group}.{task}"
        last = next(other for other in reversed(list(there)) if f"{other}.".startswith(f"{name}."))
        where, shown = blame(last, None, arguments, configs)
        if tasks and task not in tasks:
            return f"{where}{shown}: {no_task(task, tasks)}"
        if not kind:
            return f"{where}{shown}: nothing says of which class {name} is; give --{name} CLASS first"
        if "." not in kind and kind not in [known.__name__ for known in classes]:
            where, shown = blame(name, kind, arguments, configs)
            hint = _suggest_class(Fault(fault.keys, fault.owner, given=kind), classes)
            return f"{where}there is no class {kind!r} for {shown}; {hint}"
    return None


def _rows_for_all(name: str, owner: str | None, there: Mapping[str, str | None]) -> str | None:
    """Return what is wrong with an option for the rows of one task where all share one; None if it is none."""
    tasks, parts = list(by_task("model.tasks", there)), name.split(".")
    kind = there.get("data.rows")
    if owner is None or not (tasks and kind and name.startswith("data.rows.") and len(parts) > 3):
        return None
    if parts[2] in _parameters(owner):
        return None
    if parts[2] not in tasks:
        return no_task(parts[2], tasks)
    return f"data.rows is one {kind} for all tasks; give each its own in a config, data.rows: {{{parts[2]}: ...}}"


def _nearest(name: str, names: Sequence[str]) -> str | None:
    """Return the name that was probably meant: one that is spelt alike, or of which `name` is the last part."""
    ends = [whole for whole in names if whole.endswith(f".{name}")]
    return next(iter([*get_close_matches(name, names, n=1, cutoff=0.7), *ends]), None)


def _whole_names(where: str, owner: str | None, options: Iterable[str], configs: Sequence[Path]) -> list[str]:
    """Return the names that could have been meant: parameters of the class, else options and what the configs set."""
    if owner is not None:
        return [f"{where}.{name}" for name in _parameters(owner)]
    written_there = [name for config in configs for name in settings(config)]
    return [*(option.lstrip("-") for option in options if option.startswith("--")), *written_there]


def _parameters(class_path: str) -> list[str]:
    """Return the parameters of a class, those of plain dataclasses inside it as name.field."""
    known = _class(class_path)
    names = [key for key in inspect.signature(known).parameters if key != "self"]
    types = _types(known)
    inside = [(key, types[key]) for key in names if is_dataclass(types.get(key))]
    return [*names, *(f"{key}.{field.name}" for key, kind in inside for field in fields(kind))]


def _types(known: Any) -> dict[str, Any]:
    """Return the types of the parameters of a class."""
    return get_type_hints(known if is_dataclass(known) else known.__init__)


def _class(path: str) -> type:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def _list_options(owner: str | None) -> str:
    if owner is None:
        return "--help lists the settings"
    return f"{owner.rpartition('.')[2]} has {', '.join(name for name in _parameters(owner) if '.' not in name)}"


def _suggest_class(fault: Fault, classes: Sequence[type]) -> str:
    if fault.name.startswith("trainer."):  # Lightning's, of which there are many, or the user's own
        return "write the whole path of a class, such as lightning.pytorch.callbacks.EarlyStopping"
    kinds = _kinds(fault)
    fitting = [known for known in classes if known not in kinds and issubclass(known, kinds)] or classes
    names = [known.__name__ for known in fitting]
    near = get_close_matches(fault.given or "", names, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"


def _kinds(fault: Fault) -> tuple[type, ...]:
    """Return the classes of which a setting wants a subclass."""
    if fault.name == "model":
        return (TaskModule,)
    owner = _class(fault.owner) if fault.owner else TextDataModule  # what else takes a class is `data.rows`
    hint = _types(owner).get(fault.keys[-1].rpartition(".")[2])
    return tuple(kind for kind in (hint, *get_args(hint)) if isinstance(kind, type))


def _readable(wanted: Sequence[str]) -> str:
    """Return types as a user reads them: `<class 'int'>` is int, `typing.Literal['a', 'b']` is one of 'a', 'b'."""
    choices = [found[1] for kind in wanted if (found := LITERAL.fullmatch(kind))]
    others = [re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", kind) for kind in wanted if not LITERAL.fullmatch(kind)]
    others = ["a list such as [a, b]" if kind == "list" else kind for kind in others]
    return " or ".join([*others, *([f"one of {', '.join(choices)}"] if choices else [])])
