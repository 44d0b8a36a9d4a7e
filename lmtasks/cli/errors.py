"""Turn jsonargparse's nested error reports, ten lines deep, into one line: where, what was given, what was meant.

A report is indented: below `Parser key "model":` and `Problem with given class_path ...:` stand the lines that say what
is wrong, one or more for each member of a union. The deepest line is about the member that came closest to what the
user gave; `KINDS` ranks lines of one depth.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from pkgutil import resolve_name
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
NOT_INSTALLED = re.compile(r"Requirement '([\w.-]+)[^']*' not met.*")  # Lightning's loggers and callbacks say it so
KINDS = (  # (kind, pattern of a line); an earlier one tells more
    ("unknown", r"(?:Group '(?P<group>[^']+)' does not accept option|Option) '(?P<name>[^']+)'"),
    ("unknown", r"[Uu]nrecognized arguments: --(?P<name>[^\s=]+)"),
    ("unknown", r"Key must be a string, got: (?P<name>.*)\."),
    ("stray", r"[Uu]nrecognized arguments: (?P<given>[^\s=]+)"),
    ("class", r"Expected a dot import path string: (?P<given>.*)"),
    ("import", r"No module named |module '.*' has no attribute |Import path .*does not "),
    ("missing", r"(?:the following arguments are required: |.*Key \")(?P<names>[\w., ]+)"),
    ("mapping", r"'\w+' object has no attribute 'keys'|Unable to load config \"|.* must be a mapping, not "),
    ("no class", r"Not a valid subclass of \w+(?:\. Got value: (?P<given>.*))?"),
    ("no class", r"unhashable type|argument of type .* not it"),
    ("abstract", r"Expected an instantiatable class, but .*is abstract"),
    ("type", r"Expected an? (?P<wanted>.*?)\. Got value: ?(?P<given>.*)"),
    ("type", r"Expected (?:an? )?(?P<wanted><class .*>|typing\..*)"),  # of a union: the value follows at its end
    ("other", r""),
)


class Fault(NamedTuple):
    """A line of a report that says what is wrong."""

    depth: int  # headings above it
    rank: int  # place of its kind in `KINDS`
    keys: list[str]  # names that lead to the setting
    owner: str  # path of the class that the setting belongs to, or ""
    text: str
    found: dict[str, Any]  # groups of the pattern: the name of the setting, the value given, the type wanted

    @property
    def kind(self) -> str:
        """What is wrong; "other" if no pattern knows it."""
        return KINDS[self.rank][0]

    @property
    def unknown(self) -> list[str]:
        """The name of an unknown setting, after `keys`."""
        return [plain_name(self.found[part]) for part in ("group", "name") if self.found.get(part)]


def read_report(report: str) -> list[Fault]:
    """Return the lines of a report that say what is wrong, the most telling one first."""
    faults: list[Fault] = []
    above: list[tuple[int, str, str]] = []  # (indent, key, class) of the headings above this line
    for line in filter(str.strip, report.splitlines()):
        text, indent = line.strip().removeprefix("- "), len(line) - len(line.lstrip())
        while above and above[-1][0] >= indent:
            above.pop()
        if heading := HEADING.match(text):
            above.append((indent, heading["key"] or "", heading["owner"] or ""))
            text = heading["rest"] or ""
        if text.startswith(GIVEN):  # it stands below all members of a union, and holds for each
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

    options: the option strings of the command; classes: those that a config may name; configs: the files that were
    read; arguments: the rest of the command line.
    """
    fault, *others = read_report(report)
    written = [*(setting for config in configs for setting in read_config(config)), *read_options(arguments)]
    spot, given = _find(fault, written), fault.found.get("given", "")
    what = f"{spot.shown}: {fault.text}" if spot.name else fault.text
    if fault.kind == "unknown":
        what = _unknown(fault, spot, written, options)
    elif fault.kind == "stray":
        meant = given in packaged_configs() or Path(given).exists()
        hint = f"did you mean -c {given}?" if meant else "settings are written --name=value, configs -c FILE"
        what = f"unexpected argument {given!r}; {hint}"
    elif fault.kind == "missing":
        names = [".".join([*fault.keys, missing.strip()]) for missing in fault.found["names"].split(",")]
        chosen = {_last(each.text) for each in written if each.name == names[0].rpartition(".")[0]} - {""}
        why = ": a class chosen anew takes none of the settings of the class before it" if len(chosen) > 1 else ""
        what = f"nothing sets {' and '.join(names)}{why}; give a config (-c quickstart) or the option"
    elif fault.kind == "import":
        own = f"; is it a file of yours? --import {fault.owner.rpartition('.')[0]}"
        hint = own if fault.text.startswith("No module") else ""
        what = f"{spot.shown} {given or fault.owner}: {fault.text}{hint}"
    elif fault.kind == "mapping":
        spot = spot if spot.name else _wrong_group(written, classes) or spot
        what = f"{spot.shown} must be a mapping of settings, not {spot.value!r}"
    elif fault.kind == "type" and "given" in fault.found:
        alike = [other.found["wanted"] for other in others if (other.depth, other.kind) == (fault.depth, "type")]
        what = f"{spot.shown} must be {_readable([fault.found['wanted'], *alike])}, not {given!r}"
    elif fault.kind == "abstract" and not spot.text:  # an option for one of several tasks, or for its rows
        spot, what = _without_class(spot, written)
    elif fault.kind == "no class" and isinstance(spot.value, dict):
        what = f"nothing says of which class {spot.name} is; give --{spot.name} CLASS first"
    elif fault.kind in ("class", "no class", "abstract"):
        hint = _suggest_class(fault, classes)
        form = "class with its" if hint else "mapping of"
        what = f"{spot.shown} must be a {form} settings, not {given or spot.value!r}{hint}"
        if fault.kind == "class" and given.replace(".", "").isidentifier():
            what = f"there is no class {given!r} for {spot.shown}{hint}"
    return spot.where + NOT_INSTALLED.sub(r"\1 is not installed: pip install \1", what)


def _find(fault: Fault, written: Sequence[Setting]) -> Setting:
    """Return the setting at fault as it was written, the last of several that fit equally well.

    Reports leave out the keys of mappings: data.rows.mood.train is reported as data.rows.train. The value, or the
    class that the setting belongs to, tells which of the tasks is meant.
    """
    wanted = ".".join([*fault.keys, *fault.unknown])
    owner, given = _last(fault.owner), fault.found.get("given")
    kinds = _kinds(written)

    def fit(each: Setting) -> tuple[bool, ...]:
        """Return whether this setting may be meant, and then the evidence for it, the strongest first."""
        if not wanted:  # the report comes from building a class, and names the class alone
            return (bool(each.text) and (_last(each.text) == owner or repr(each.text) in fault.text),)
        parts, same_value = iter(each.name.split(".")), given in each.texts
        leads_there = all(key in parts for key in wanted.split("."))
        same_end = _last(each.name) == _last(wanted)
        same_class = kinds.get(each.name.rpartition(".")[0]) == owner
        return leads_there and (same_value or same_end), same_value, each.name == wanted, same_class

    best = max(reversed(written), key=fit, default=Setting(wanted, None))
    return best if fit(best)[0] else Setting(wanted, None)


def _unknown(fault: Fault, spot: Setting, written: Sequence[Setting], options: Iterable[str]) -> str:
    """Return the message for a setting that does not exist, with the one that was probably meant."""
    name = ".".join(fault.unknown)
    task, _, own = name.partition(".")
    tasks = _inside("model.tasks", written)
    if own and tasks and fault.owner and spot.name == f"data.rows.{name}":  # all tasks share one row format
        shared = f"data.rows is one {_last(fault.owner)} for all tasks"
        hint = f"{shared}; give each its own in a config, data.rows: {{{task}: ...}}"
        return f"{spot.shown}: {hint if task in tasks else no_task(task, tasks)}"
    if fault.owner:
        kind = resolve_name(fault.owner)
        known, types = list(inspect.signature(kind).parameters), _types(kind)
        hint = f"{kind.__name__} has {', '.join(known)}"
        groups = [each for each in known if is_dataclass(types.get(each))]  # plain ones, such as the tokenizer's
        known += [f"{group}.{field.name}" for group in groups for field in fields(types[group])]
    else:
        name, hint = spot.name, "--help lists the settings"
        known = [option.lstrip("-") for option in options]
        known += [each.name for each in written if not f"{name}.".startswith(f"{each.name}.")]
    first, dot, rest = name.partition(".")
    near = get_close_matches(name, known, n=1, cutoff=0.7)
    near += [f"{each}{dot}{rest}" for each in known if each.endswith(f".{first}")]  # it stands in a group
    hint = f"did you mean {spot.shown.removesuffix(name)}{near[0]}?" if near else hint
    return f"there is no setting {spot.shown}; {hint}"


def _without_class(group: Setting, written: Sequence[Setting]) -> tuple[Setting, str]:
    """Return the setting of one of several tasks, or of its rows, that has no class, and the message for it."""
    kinds = _kinds(written)
    tasks = [task for task in _inside("model.tasks", written) if f"model.tasks.{task}" in kinds]
    task = next((task for task in _inside(group.name, written) if f"{group.name}.{task}" not in kinds), "")
    name = f"{group.name}.{task}"
    spot = next((each for each in reversed(written) if f"{each.name}.".startswith(f"{name}.")), group)
    no_class = f"nothing says of which class {name} is; give --{name} CLASS first"
    return spot, f"{spot.shown}: {no_task(task, tasks) if tasks and task not in tasks else no_class}"


def _inside(group: str, written: Sequence[Setting]) -> list[str]:
    """Return the names directly below a setting, such as those of the tasks below data.rows."""
    below = [each.name.removeprefix(f"{group}.") for each in written if each.name.startswith(f"{group}.")]
    return list(dict.fromkeys(name.split(".")[0] for name in below))


def _kinds(written: Sequence[Setting]) -> dict[str, str]:
    """Return the class of each setting of a class, without its module."""
    return {each.name: _last(each.text) for each in written if each.text}


def _wrong_group(written: Sequence[Setting], classes: Sequence[type]) -> Setting | None:
    """Return the first group of settings, such as model.tokenizer, that is written as one value."""
    known = {kind.__name__: kind for kind in classes}
    kinds = {name: known[kind] for name, kind in _kinds(written).items() if kind in known}
    for each in written:
        owner, _, name = each.name.rpartition(".")
        single = not isinstance(each.value, dict) and each.name not in kinds
        if single and owner in kinds and is_dataclass(_types(kinds[owner]).get(name)):
            return each
    return None


def _types(kind: Any) -> dict[str, Any]:
    """Return the types of the parameters of a class."""
    return get_type_hints(kind if is_dataclass(kind) else kind.__init__)


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _suggest_class(fault: Fault, classes: Sequence[type]) -> str:
    """Return the class that was probably meant, or those that the setting may have."""
    if ".".join(fault.keys).startswith("trainer."):  # a class of Lightning's, which has many, or the user's own
        return "; write the whole path of a class, such as lightning.pytorch.callbacks.EarlyStopping"
    owner = resolve_name(fault.owner) if fault.owner else TextDataModule  # data.rows, the only one outside a class
    hint = TaskModule if fault.keys == ["model"] else _types(owner).get(_last(".".join(fault.keys)))
    bases = tuple(kind for kind in (hint, *get_args(hint)) if isinstance(kind, type))
    names = [known.__name__ for known in dict.fromkeys(classes) if known not in bases and issubclass(known, bases)]
    given = fault.found.get("given") or ""
    return f"; {did_you_mean(given, names, 'there are ' + ', '.join(names))}" if names else ""


def _readable(wanted: Sequence[str]) -> str:
    """Return types in words: `<class 'int'>` becomes int, `typing.Literal['a', 'b']` becomes one of 'a', 'b'."""
    choices = [kind.partition("[")[2].removesuffix("]") for kind in wanted if "Literal[" in kind]
    others = [re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", kind) for kind in wanted if "Literal[" not in kind]
    others = ["a list such as [a, b]" if kind == "list" else kind for kind in others]
    return " or ".join([*others, *([f"one of {', '.join(choices)}"] if choices else [])])
