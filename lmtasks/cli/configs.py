"""Configs: find the file that a name means, and read its settings with their lines.

Names of settings are dotted and leave out `class_path` and `init_args`: model.backbone.d_model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import yaml

import lmtasks
from lmtasks.errors import InputError, one_line
from lmtasks.storage import MODELS, RUN_CONFIG, RUNS, is_hub_id
from lmtasks.storage.reading import read_text, read_yaml

STRUCTURE = ("class_path", "init_args")
YAML = (".yaml", ".yml")


class Setting(NamedTuple):
    """A setting as a config or an option writes it; a class with settings gives two: the whole, and the class alone."""

    name: str
    value: object  # a list or a mapping as it is, a scalar as its text
    where: str = ""  # "FILE, line N: " of a config
    dashes: str = ""  # "--" of an option

    @property
    def shown(self) -> str:
        """The name as it was written."""
        return self.dashes + self.name

    @property
    def text(self) -> str:
        """The value of a scalar, such as the name of a class; "" for others."""
        return self.value if isinstance(self.value, str) else ""

    @property
    def texts(self) -> list[str]:
        """The value, and the items of a list, as jsonargparse prints them."""
        return [str(self.value), *map(str, self.value if isinstance(self.value, list) else ())]


def read_config(config: Path) -> list[Setting]:
    """Return the settings of a config, in order.

    Raises: InputError if it is not valid YAML, or has another value where a mapping is needed.
    """
    try:
        entries = list(_entries(read_text(config)))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{config}, line {line}: no valid YAML: {error.problem}; is the indentation right?") from None
    except yaml.YAMLError as error:
        raise InputError(f"{config}: no valid YAML: {one_line(error)}") from None
    except RecursionError:
        raise InputError(f"{config}: settings inside of settings, deeper than Python reads; is it a config?") from None
    if not entries or not isinstance(entries[0][1], dict):
        raise InputError(f"{config}: a config is a mapping such as 'trainer: ...', 'model: ...', 'data: ...'")
    for name, value, line in entries:  # jsonargparse accepts these, and its later error names no setting
        if name in ("trainer", "data") and not isinstance(value, dict):
            raise InputError(f"{config}, line {line}: {name} must be a mapping of settings, not {value!r}")
        if name == "config" and value not in ("", "~", "null"):
            raise InputError(f"{config}, line {line}: a config names no other; give -c several times")
    return [Setting(name, value, f"{config}, line {line}: ") for name, value, line in entries if name]


def read_options(options: Sequence[str]) -> Iterator[Setting]:
    """Yield the settings of options: `--name value`, `--name=value`, and those inside a value that is YAML."""
    for option, following in zip_longest(options, options[1:], fillvalue=""):
        if option.startswith("--"):
            name, equals, text = option.removeprefix("--").partition("=")
            name, text = plain_name(name.removesuffix("+")), text if equals else following  # + appends to a list
            try:
                inside = list(_entries(text, name))
            except yaml.YAMLError:
                inside = []
            for entry in inside or [(name, text, 1)]:
                yield Setting(*entry[:2], dashes="--")


def plain_name(name: str) -> str:
    """Return the name of a setting without `class_path` and `init_args`."""
    return ".".join(part for part in name.split(".") if part not in STRUCTURE)


def find_config(name: str) -> Path:
    """Return the file of a config: a path, a run folder, or the name of a packaged config.

    Raises: InputError if there is none, with the one that was probably meant.
    """
    packaged = packaged_configs()
    for path in (Path(name), Path(name) / RUN_CONFIG, packaged.get(name), packaged.get(name.removesuffix(".yaml"))):
        if name and path is not None and path.is_file():
            return path
    path, listed = Path(name), f"the packaged configs are {', '.join(packaged)}"
    if not name or name.startswith("-"):
        raise InputError(f"-c needs the name of a config: a YAML file, a run folder or a packaged config; {listed}")
    if path.is_dir():
        raise InputError(f"-c {name}: this folder is no run, it has no {RUN_CONFIG}; {listed}")
    beside = [other for other in path.parent.glob("*") if other.suffix in YAML or (other / RUN_CONFIG).is_file()]
    runs = {run.parent.name: str(run.parent) for run in Path(RUNS).glob(f"*/{RUN_CONFIG}")}
    known = {**runs, **{other.name: str(other) for other in beside}, **{config: config for config in packaged}}
    if near := get_close_matches(path.name, known, n=1):
        raise InputError(f"-c {name}: there is no such config; did you mean -c {known[near[0]]}?")
    what = "file" if path.suffix in YAML else "file or run folder" if len(path.parts) > 1 else "file, run or config"
    raise InputError(f"-c {name}: there is no such {what}; {listed}")


def packaged_configs() -> dict[str, Path]:
    """Return the configs that come with lmtasks, by name."""
    package = Path(lmtasks.__file__).parent
    folders = [package / "configs", package.parent / "configs"]  # installed, or a source checkout
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def check_model(argument: str) -> None:
    """Check that a run, model folder or checkpoint exists, or is an id on the hub; what begins with - is an option.

    Raises: InputError if it does not, with the one that was probably meant.
    """
    path = Path(argument)
    if argument.startswith("-") or path.exists() or is_hub_id(argument):
        return
    known = {other.name: other for folder in (Path(RUNS), path.parent) for other in folder.glob("*")}
    near = get_close_matches(path.name, known, n=1)
    hint = f"did you mean {known[near[0]]}?" if near else f"give {MODELS}"
    raise InputError(f"{path}: there is no such file or folder; {hint}")


def _entries(text: str, name: str = "") -> Iterator[tuple[str, object, int]]:
    """Yield (name, value, line) of each setting in a YAML text that is the value of `name`."""
    loader, node = read_yaml(text)

    def walk(node: yaml.Node, name: str, line: int) -> Iterator[tuple[str, object, int]]:
        """Yield the setting of a node of the YAML tree, and those of the nodes below it."""
        yield name, node.value if isinstance(node, yaml.ScalarNode) else loader.construct_object(node, deep=True), line
        if isinstance(node, yaml.SequenceNode):
            for item in node.value:
                if not isinstance(item, yaml.ScalarNode):
                    yield from walk(item, name, item.start_mark.line + 1)
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                inside = name if key.value in STRUCTURE else f"{name}.{key.value}".removeprefix(".")
                below = walk(value, inside, key.start_mark.line + 1)
                if key.value == "init_args" and isinstance(value, yaml.MappingNode):
                    next(below)  # the settings alone: the class is the value of this name
                yield from below

    if node is not None:
        yield from walk(node, name, 1)
