"""Where a setting was written: as an option of the command line, or on a line of a config.

Names are dotted and without `class_path` and `init_args`, which a user may leave out: model.backbone.d_model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import yaml

STRUCTURE = ("class_path", "init_args")


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
