"""Turn jsonargparse's nested error reports, ten lines deep, into one line: where, what was given, what was meant.

A report is indented: `Parser key "model":` and `Problem with given class_path ...:` lead down to the one line that says
what is wrong. Of the members of a union the deepest report is the one that the user was nearest to.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

KEY = re.compile(r'^Parser key "(?P<key>[^"]+)":\s*(?P<rest>.*)')
CLASS = re.compile(r"^Problem with given class_path '(?P<name>[^']+)':")
UNKNOWN = re.compile(
    r"^(?:Option '(?P<option>[^']+)' is not accepted"
    r"|Group '(?P<group>[^']+)' does not accept option '(?P<member>[^']+)'"
    r"|[Uu]nrecognized arguments: (?P<argument>\S+).*)$"
)
NO_CLASS = re.compile(r"^Expected a dot import path string: (?P<name>.*)")
MISSING = re.compile(r"^(?:the following arguments are required: |.*Key \")(?P<names>[\w., ]+)")
WRONG_VALUE = re.compile(r"^Expected an? (?P<wanted>.*?)\. Got value: (?P<given>.*)", re.DOTALL)
DETAILS = ("Does not validate", "Subtypes:", "Errors:", "Given value", "Expected a path but")


def explain(report: str, options: Iterable[str], classes: Sequence[type], configs: Sequence[Path]) -> str:
    """Return the one line that a user needs of a jsonargparse report.

    `options` are the option strings of the command, `classes` those that a config may name, `configs` the files read.
    """
    path, owner, core = _innermost(report)
    if found := UNKNOWN.match(core):
        return _unknown_option(found, path, owner, options, configs)
    where = _place(path, configs) if path else ""
    if found := NO_CLASS.match(core):
        return (
            f"{where}there is no class {found['name']!r} for {'.'.join(path)}; {_suggest_class(found['name'], classes)}"
        )
    if found := WRONG_VALUE.match(core):
        return f"{where}{'.'.join(path)} must be {_readable(found['wanted'])}, not {found['given'].strip()!r}"
    if found := MISSING.match(core):
        names = ", ".join(name.strip() for name in found["names"].split(","))
        return f"{'.'.join([*path, names])} is not set; give a config (-c quickstart) or the option"
    return f"{where}{'.'.join(path)}{': ' if path else ''}{' '.join(core.split())}"


def _innermost(report: str) -> tuple[list[str], str | None, str]:
    """Return (keys that lead to the fault, class path it lies in, the line that names the fault)."""
    best: tuple[list[str], str | None, str] = ([], None, report.strip())
    best_depth = -1
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
        if not text or text.startswith(DETAILS) or "<class 'NoneType'>" in text:
            continue
        if len(stack) > best_depth:
            keys = [name for _, kind, name in stack if kind == "key"]
            owners = [name for _, kind, name in stack if kind == "class"]
            best, best_depth = (keys, owners[-1] if owners else None, text), len(stack)
    return best


def _unknown_option(
    found: re.Match[str], path: list[str], owner: str | None, options: Iterable[str], configs: Sequence[Path]
) -> str:
    argument = (found["argument"] or "").split("=")[0]
    if argument and not argument.startswith("-"):
        return f"unexpected argument {argument!r}; settings are written --name=value, configs -c FILE"
    name = found["option"] or argument.removeprefix("--") or f"{found['group']}.{found['member']}"
    name = name.removesuffix(".class_path").removesuffix(".init_args")
    whole = ".".join([*path, name])
    near = get_close_matches(whole, _whole_names(path, owner, options), n=1, cutoff=0.7)
    hint = f"did you mean {near[0]}?" if near else _list_options(owner)
    return f"{_place([*path, name], configs)}there is no setting {whole}; {hint}"


def _whole_names(path: list[str], owner: str | None, options: Iterable[str]) -> list[str]:
    """Return the names that could have been meant: parameters of the class, else options of the command."""
    if owner is not None:
        return [".".join([*path, name]) for name in _parameters(owner)]
    return [option.lstrip("-") for option in options if option.startswith("--")]


def _parameters(class_path: str) -> list[str]:
    """Return the parameters of a class, those of plain dataclasses inside it as name.field."""
    module, _, name = class_path.rpartition(".")
    known = getattr(import_module(module), name)
    names = [key for key in inspect.signature(known).parameters if key != "self"]
    types = get_type_hints(known if is_dataclass(known) else known.__init__)
    inside = [(key, types[key]) for key in names if is_dataclass(types.get(key))]
    return [*names, *(f"{key}.{field.name}" for key, kind in inside for field in fields(kind))]


def _list_options(owner: str | None) -> str:
    if owner is None:
        return "--help lists the settings"
    return f"{owner.rpartition('.')[2]} has {', '.join(name for name in _parameters(owner) if '.' not in name)}"


def _suggest_class(name: str, classes: Sequence[type]) -> str:
    names = [known.__name__ for known in classes]
    near = get_close_matches(name, names, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"


def _place(path: list[str], configs: Sequence[Path]) -> str:
    """Return "file, line n: " of the last config that writes the last key of `path`, or nothing."""
    name = re.escape(path[-1].rpartition(".")[2])
    key = re.compile(rf"(?:^[\s-]*|[{{,]\s*)['\"]?{name}['\"]?\s*:")
    for config in reversed(configs):
        for number, line in enumerate(config.read_text(encoding="utf-8").splitlines(), start=1):
            if key.search(line):
                return f"{config}, line {number}: "
    return ""


def _readable(wanted: str) -> str:
    """Return a type as a user reads it: `<class 'int'>` is int, `typing.Literal['a', 'b']` is one of 'a', 'b'."""
    wanted = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", wanted)
    return re.sub(r"(?:typing\.)?Literal\[(.*?)\]", r"one of \1", wanted)
