"""Where a setting was written: as an option of the command line, or on a line of a config.

Names are dotted and without `class_path` and `init_args`, which a user may leave out: model.backbone.d_model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import yaml

STRUCTURE = ("class_path", "init_args")
BY_TASK = ("data.rows", "model.tasks")  # settings that hold others, of a class, by the names of tasks


class Entry(NamedTuple):
    """A setting as it is written in YAML."""

    line: int
    """Line of its name, or that of its class_path."""
    text: str | None
    """The value; None where it is a list or a mapping."""


def blame(name: str, value: str | None, arguments: Sequence[str], configs: Sequence[Path]) -> tuple[str, str]:
    """Return ("", "--name") where an option set `name`, else ("file, line n: ", name) of the last config that did.

    Where both did, `value` tells which of them is meant; None stands for the option.
    """
    option = _option_value(name, arguments)
    written = next(((path, entry) for path in reversed(configs) if (entry := settings(path).get(name))), None)
    if option is not None and not (written and value == written[1].text != option):
        return "", f"--{name}"
    return (f"{written[0]}, line {written[1].line}: " if written else ""), name


def written(arguments: Sequence[str], configs: Sequence[Path]) -> dict[str, str | None]:
    """Return all settings that configs and options write, with their text: of those that are written twice the last."""
    found = {name: entry.text for config in configs for name, entry in settings(config).items()}
    for option, text in _options(arguments):
        inside = {name: entry.text for name, entry in _entries(text, option).items()}
        found |= {option: None if inside else text, **inside}
    return found


def by_task(group: str, found: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return the tasks named in a group such as data.rows with the class of each, None where none is written.

    found: what is `written`. A group that is one object for all tasks names none.
    """
    inside = [name.removeprefix(f"{group}.").split(".")[0] for name in found if name.startswith(f"{group}.")]
    return {} if found.get(group) else {task: found.get(f"{group}.{task}") for task in inside}


def of_task(name: str, owner: str | None, value: str | None, found: Mapping[str, str | None]) -> str:
    """Return the name of a setting with that of the task it belongs to, which reports leave out.

    name: data.rows.train, which may be data.rows.mood.train. owner: the class it is of. value: its text, None if it is
    not known. found: what is `written`.
    """
    group = next((group for group in BY_TASK if name.startswith(f"{group}.")), "")
    kinds = by_task(group, found) if group and name not in found else {}
    wholes = [
        f"{group}.{task}{name.removeprefix(group)}" for task, kind in kinds.items() if _last(kind) == _last(owner)
    ]
    wholes = [whole for whole in wholes if whole in found and value in (None, found[whole])]
    return next(iter(wholes), name)


def settings(config: Path) -> dict[str, Entry]:
    """Return the settings that a config writes, by name."""
    return _entries(config.read_text(encoding="utf-8"))


def _option_value(name: str, arguments: Sequence[str]) -> str | None:
    """Return the text that the last option for `name`, or for a mapping with it, gave; None without such an option."""
    for option, text in reversed(list(_options(arguments))):
        if option == name:
            return text
        if name.startswith(f"{option}.") and (entry := _entries(text, option).get(name)):
            return entry.text or ""
    return None


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Give (name, text of the value) of every option, `--name value` and `--name=value` alike."""
    for argument, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        option, equals, text = argument.partition("=")
        if option.startswith("--"):
            parts = option.removeprefix("--").removesuffix("+").split(".")  # + appends to a list
            yield ".".join(part for part in parts if part not in STRUCTURE), text if equals else following


def _entries(text: str, name: str = "") -> dict[str, Entry]:
    """Return the settings of a YAML text that is the value of `name`; none where it is not YAML."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return {}
    return dict(_walk(node, name))


def _walk(node: yaml.Node | None, name: str) -> Iterator[tuple[str, Entry]]:
    """Give the settings below a node of the tree that YAML is."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _walk(item, name)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inside = name if key.value in STRUCTURE else f"{name}.{key.value}".removeprefix(".")
            if key.value != "init_args":
                text = value.value if isinstance(value, yaml.ScalarNode) else None
                yield inside, Entry(key.start_mark.line + 1, text)
            yield from _walk(value, inside)


def _last(path: str | None) -> str | None:
    """Return the name of a class without its module."""
    return path and path.rpartition(".")[2]
