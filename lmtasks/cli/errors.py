"""Turn jsonargparse's nested error reports, ten lines deep, into one line: where, what was given, what was meant.

A report is indented: `Parser key "model":` and `Problem with given class_path ...:` lead down to lines that say what is
wrong. Of the members of a union the user was nearest to the deepest; `KINDS` puts those of one depth in order.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

from lmtasks.cli.configs import Setting, packaged_configs, plain_name, read_config, read_options
from lmtasks.errors import did_you_mean
from lmtasks.training.checks import no_task
from lmtasks.training.datamodule import TextDataModule
from lmtasks.training.module import TaskModule

HEADING = re.compile(r"""Parser key "(?P<key>[^"]+)":\s*(?P<rest>.*)|Problem with given class_path '(?P<owner>.+)':$""")
GIVEN = "Given value: "
NOISE = re.compile(
    r"Does not validate|Subtypes:|Errors:|Given value|Subclass types expect|Expected a path but|Unable to load config '"
    r"|Expected (?:an? )?<class 'NoneType'>"
)
KINDS = (  # of the lines of one depth, that which stands above here says more
    ("unknown", r"Option '(?P<name>[^']+)' is not accepted"),
    ("unknown", r"Group '(?P<group>[^']+)' does not accept option '(?P<name>[^']+)'"),
    ("unknown", r"[Uu]nrecognized arguments: --(?P<name>[^\s=]+)"),
    ("unknown", r"Key must be a string, got: (?P<name>.*)\."),
    ("stray", r"[Uu]nrecognized arguments: (?P<given>[^\s=]+)"),
    ("class", r"Expected a dot import path string: (?P<given>.*)"),
    ("import", r"No module named |module '.*' has no attribute |Import path .*does not "),
    ("missing", r"(?:the following arguments are required: |.*Key \")(?P<names>[\w., ]+)"),
    ("mapping", r"'\w+' object has no attribute 'keys'|Unable to load config \"|.* must be a mapping, not "),
    (
        "no class",
        r"Not a valid subclass of \w+(?:\. Got value: (?P<given>.*))?|unhashable type|argument of type .* not it",
    ),
    ("abstract", r"Expected an instantiatable class, but .*is abstract"),
    ("type", r"Expected an? (?P<wanted>.*?)\. Got value: ?(?P<given>.*)"),
    ("type", r"Expected (?:an? )?(?P<wanted><class .*>|typing\..*)"),  # of a union: the value follows at its end
    ("other", r""),
)


class Fault(NamedTuple):
    """A line of a report that says what is wrong."""

    depth: int
    """How many headings stand above it."""
    rank: int
    """Place of its kind in `KINDS`."""
    keys: list[str]
    """Names that lead to the setting."""
    owner: str
    """Path of the class that the setting is of, if it is of one."""
    text: str
    found: dict[str, Any]
    """What the pattern finds in the text: the name of the setting, the value given, the type wanted."""

    @property
    def kind(self) -> str:
        """What is wrong; "other" if it is nothing that we know."""
        return KINDS[self.rank][0]

    @property
    def unknown(self) -> list[str]:
        """The name of a setting that is not known, after `keys`."""
        return [plain_name(self.found[part]) for part in ("group", "name") if self.found.get(part)]


def read_report(report: str) -> list[Fault]:
    """Return what a report says is wrong, the line that tells most at first."""
    faults: list[Fault] = []
    above: list[tuple[int, str, str]] = []  # (indent, key, class) of the headings above this line
    for line in filter(str.strip, report.splitlines()):
        text, indent = line.strip().removeprefix("- "), len(line) - len(line.lstrip())
        while above and above[-1][0] >= indent:
            above.pop()
        if heading := HEADING.match(text):
            above.append((indent, heading["key"] or "", heading["owner"] or ""))
            text = heading["rest"] or ""
        if text.startswith(GIVEN):  # to all members of a union, which stand above it
            for fault in faults:
                if fault.depth == len(above):
                    fault.found["given"] = fault.found.get("given") or text.removeprefix(GIVEN)
        elif text and not NOISE.match(text):
            matches = (re.match(pattern, text) for _, pattern in KINDS)
            rank, found = next((rank, found.groupdict()) for rank, found in enumerate(matches) if found)
            keys, owners = [key for _, key, _ in above if key], [owner for _, _, owner in above if owner]
            faults.append(Fault(len(above), rank, keys, owners[-1] if owners else "", text, found))
    faults = faults or [Fault(0, len(KINDS) - 1, [], "", report.strip(), {})]
    return sorted(faults, key=lambda fault: (-fault.depth, fault.rank))


def explain(
    report: str, options: Iterable[str], classes: Sequence[type], configs: Sequence[Path], arguments: Sequence[str]
) -> str:
    """Return the one line that a user needs of a jsonargparse report.

    `options` are the option strings of the command, `classes` those that a config may name, `configs` the files read,
    `arguments` what else was on the command line.
    """
    fault, *others = read_report(report)
    there = [*(setting for config in configs for setting in read_config(config)), *read_options(arguments)]
    spot, given = _find(fault, there), fault.found.get("given", "")
    what = f"{spot.shown}: {fault.text}" if spot.name else fault.text
    if fault.kind == "unknown":
        what = _unknown(fault, spot, there, options)
    elif fault.kind == "stray":
        meant = given in packaged_configs() or Path(given).exists()
        hint = f"did you mean -c {given}?" if meant else "settings are written --name=value, configs -c FILE"
        what = f"unexpected argument {given!r}; {hint}"
    elif fault.kind == "missing":
        names = [".".join([*fault.keys, missing.strip()]) for missing in fault.found["names"].split(",")]
        chosen = {_last(each.text) for each in there if each.name == names[0].rpartition(".")[0]} - {""}
        why = ": a class chosen anew takes none of the settings of the class before it" if len(chosen) > 1 else ""
        what = f"nothing sets {' and '.join(names)}{why}; give a config (-c quickstart) or the option"
    elif fault.kind == "import":
        hint = f"; is it a file of yours? --import {_module(fault.owner)}" if fault.text.startswith("No module") else ""
        what = f"{spot.shown} {given or fault.owner}: {fault.text}{hint}"
    elif fault.kind == "mapping":
        spot = spot if spot.name else next(_wrong_groups(there, classes), spot)
        what = f"{spot.shown} must be a mapping of settings, not {spot.value!r}"
    elif fault.kind == "type" and "given" in fault.found:
        alike = [other.found["wanted"] for other in others if (other.depth, other.kind) == (fault.depth, "type")]
        what = f"{spot.shown} must be {_readable([fault.found['wanted'], *alike])}, not {given!r}"
    elif fault.kind == "abstract" and not spot.text:  # an option for one of several tasks
        spot, what = _classless(spot, there)
    elif fault.kind == "no class" and isinstance(spot.value, dict):
        what = f"nothing says of which class {spot.name} is; give --{spot.name} CLASS first"
    elif fault.kind in ("class", "no class", "abstract"):
        hint = _suggest_class(fault, classes)
        form = "class with its" if hint else "mapping of"
        what = f"{spot.shown} must be a {form} settings, not {given or spot.value!r}"
        if fault.kind == "class" and given.replace(".", "").isidentifier():
            what = f"there is no class {given!r} for {spot.shown}"
        what += hint
    return spot.where + what


def _find(fault: Fault, there: Sequence[Setting]) -> Setting:
    """Return the setting at fault as it was written, the last one where several fit equally well.

    Reports leave out the keys of mappings: what they call data.rows.train may be data.rows.mood.train. The value tells
    which one it is, or the class that the setting is of.
    """
    wanted = ".".join([*fault.keys, *fault.unknown])
    owner, given = _last(fault.owner), fault.found.get("given")
    kinds = _kinds(there)

    def fit(each: Setting) -> tuple[bool, ...]:
        """Return whether it may be meant, and then what speaks for it, the strongest first."""
        if not wanted:  # said while a class was built
            return (bool(each.text) and (_last(each.text) == owner or repr(each.text) in fault.text),)
        parts, same_value = iter(each.name.split(".")), given in each.texts
        leads_there = all(key in parts for key in wanted.split("."))
        same_end = _last(each.name) == _last(wanted)
        same_class = kinds.get(_module(each.name)) == owner
        return leads_there and (same_value or same_end), same_value, each.name == wanted, same_class

    best = max(reversed(there), key=fit, default=Setting(wanted, None))
    return best if fit(best)[0] else Setting(wanted, None)


def _unknown(fault: Fault, spot: Setting, there: Sequence[Setting], options: Iterable[str]) -> str:
    """Return that there is no such setting, and the one that was probably meant."""
    name = ".".join(fault.unknown)
    task, _, own = name.partition(".")
    tasks = _inside("model.tasks", there)
    if own and tasks and fault.owner and spot.name == f"data.rows.{name}":  # all tasks share one object
        kind = f"data.rows is one {_last(fault.owner)} for all tasks"
        hint = f"{kind}; give each its own in a config, data.rows: {{{task}: ...}}"
        return f"{spot.shown}: {hint if task in tasks else no_task(task, tasks)}"
    if fault.owner:
        known = list(_parameters(fault.owner))
        hint = f"{_last(fault.owner)} has {', '.join(each for each in known if '.' not in each)}"
    else:
        name, hint = spot.name, "--help lists the settings"
        known = [option.lstrip("-") for option in options]
        known += [each.name for each in there if not f"{name}.".startswith(f"{each.name}.")]
    near = get_close_matches(name, known, n=1, cutoff=0.7) + [each for each in known if each.endswith(f".{name}")]
    hint = f"did you mean {spot.shown.removesuffix(name)}{near[0]}?" if near else hint
    return f"there is no setting {spot.shown}; {hint}"


def _classless(group: Setting, there: Sequence[Setting]) -> tuple[Setting, str]:
    """Return the setting of one of several tasks, or of its rows, that has no class, and what is wrong."""
    kinds = _kinds(there)
    tasks = [task for task in _inside("model.tasks", there) if f"model.tasks.{task}" in kinds]
    task = next((task for task in _inside(group.name, there) if f"{group.name}.{task}" not in kinds), "")
    name = f"{group.name}.{task}"
    spot = next((each for each in reversed(there) if f"{each.name}.".startswith(f"{name}.")), group)
    no_class = f"nothing says of which class {name} is; give --{name} CLASS first"
    return spot, f"{spot.shown}: {no_task(task, tasks) if tasks and task not in tasks else no_class}"


def _inside(group: str, there: Sequence[Setting]) -> list[str]:
    """Return the names right below a setting: those of the tasks for data.rows."""
    below = [each.name.removeprefix(f"{group}.") for each in there if each.name.startswith(f"{group}.")]
    return list(dict.fromkeys(name.split(".")[0] for name in below))


def _kinds(there: Sequence[Setting]) -> dict[str, str]:
    """Return the class of each setting of a class, without its module."""
    return {each.name: _last(each.text) for each in there if each.text}


def _wrong_groups(there: Sequence[Setting], classes: Sequence[type]) -> Iterator[Setting]:
    """Give the groups of settings, such as model.tokenizer, that are written as one value."""
    known = {kind.__name__: kind for kind in classes}
    kinds = {name: known.get(kind) for name, kind in _kinds(there).items()}
    for each in there:
        kind, single = kinds.get(_module(each.name)), not isinstance(each.value, dict) and not kinds.get(each.name)
        if kind and single and is_dataclass(_types(kind).get(_last(each.name))):
            yield each


def _parameters(class_path: str) -> Iterator[str]:
    """Give the parameters of a class, those of plain dataclasses inside it as name.field."""
    types = _types(_class(class_path))
    for name in inspect.signature(_class(class_path)).parameters:
        yield name
        if is_dataclass(types.get(name)):
            yield from (f"{name}.{field.name}" for field in fields(types[name]))


def _types(known: Any) -> dict[str, Any]:
    """Return the types of the parameters of a class."""
    return get_type_hints(known if is_dataclass(known) else known.__init__)


def _class(path: str) -> type:
    return getattr(import_module(_module(path)), _last(path))


def _module(path: str) -> str:
    return path.rpartition(".")[0]


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _suggest_class(fault: Fault, classes: Sequence[type]) -> str:
    """Return the class that was probably meant, or those that the setting may have."""
    if ".".join(fault.keys).startswith("trainer."):  # Lightning's, of which there are many, or the user's own
        return "; write the whole path of a class, such as lightning.pytorch.callbacks.EarlyStopping"
    owner = (
        _class(fault.owner) if fault.owner else TextDataModule
    )  # outside of `model` only data.rows is of our classes
    hint = TaskModule if fault.keys == ["model"] else _types(owner).get(_last(".".join(fault.keys)))
    bases = tuple(kind for kind in (hint, *get_args(hint)) if isinstance(kind, type))
    names = [known.__name__ for known in dict.fromkeys(classes) if known not in bases and issubclass(known, bases)]
    given = fault.found.get("given") or ""
    return f"; {did_you_mean(given, names, 'there are ' + ', '.join(names))}" if names else ""


def _readable(wanted: Sequence[str]) -> str:
    """Return types as a user reads them: `<class 'int'>` is int, `typing.Literal['a', 'b']` is one of 'a', 'b'."""
    choices = [kind.partition("[")[2].removesuffix("]") for kind in wanted if "Literal[" in kind]
    others = [re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", kind) for kind in wanted if "Literal[" not in kind]
    others = ["a list such as [a, b]" if kind == "list" else kind for kind in others]
    return " or ".join([*others, *([f"one of {', '.join(choices)}"] if choices else [])])
