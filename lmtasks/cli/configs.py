"""Find the configs that a command line names: files, run folders, and the configs that come with the package."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import yaml

import lmtasks
from lmtasks.errors import InputError

OPTIONS = ("-c", "--config")
RUN_CONFIG = "config.yaml"  # what `fit` writes into a run folder
RUNS = "runs"  # the folder of run folders
YAML = (".yaml", ".yml")


def take_configs(arguments: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Take the configs out of a command line: (their files in order, the other arguments).

    Raises:
        InputError: There is no such config, or it is no YAML.
    """
    configs, others = [], []
    given = iter(arguments)
    for argument in given:
        option, equals, value = argument.partition("=")
        if argument in OPTIONS:
            value = next(given, "")
        elif not (option in OPTIONS and equals):
            others.append(argument)
            continue
        configs.append(find_config(value))
    for config in configs:
        _check_yaml(config)
    return configs, others


def find_config(name: str) -> Path:
    """Return the file of a config: a path, a run folder, or the name of a packaged config.

    Raises:
        InputError: There is none.
    """
    packaged = packaged_configs()
    for path in (Path(name), Path(name) / RUN_CONFIG, packaged.get(name), packaged.get(name.removesuffix(".yaml"))):
        if name and path is not None and path.is_file():
            return path
    raise InputError(_no_config(name, list(packaged)))


def packaged_configs() -> dict[str, Path]:
    """Return the configs that come with lmtasks, by name."""
    package = Path(lmtasks.__file__).parent
    folders = [package / "configs", package.parent / "configs"]  # installed, or a source checkout
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _no_config(name: str, packaged: list[str]) -> str:
    """Return what is wrong with the name of a config, and what was probably meant."""
    listed = f"the packaged configs are {', '.join(packaged)}"
    if not name or name.startswith("-"):
        return f"-c needs the name of a config: a YAML file, a run folder or a packaged config; {listed}"
    path = Path(name)
    if path.is_dir():
        return f"-c {name}: this folder is no run, it has no {RUN_CONFIG}; {listed}"
    beside = [other for other in path.parent.glob("*") if other.suffix in YAML or (other / RUN_CONFIG).is_file()]
    runs = {run.parent.name: str(run.parent) for run in Path(RUNS).glob(f"*/{RUN_CONFIG}")}
    known = {**runs, **{other.name: str(other) for other in beside}, **{config: config for config in packaged}}
    if near := get_close_matches(path.name, known, n=1):
        return f"-c {name}: there is no such config; did you mean -c {known[near[0]]}?"
    what = "file" if path.suffix in YAML else "file or run folder" if len(path.parts) > 1 else "file, run or config"
    return f"-c {name}: there is no such {what}; {listed}"


def _check_yaml(config: Path) -> None:
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{config}, line {line}: no valid YAML: {error.problem}; is the indentation right?") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{config}: no valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{config}: a config is a mapping such as 'trainer: ...', 'model: ...', 'data: ...'")
