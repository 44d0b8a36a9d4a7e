"""Settings as plain data: what checkpoints and model folders keep of dataclasses, so that nothing is pickled.

An object becomes {"class_path": "TranslationTask", "init_args": {...}}, the form that it has in YAML too. Classes go by
the names that lmtasks exports: where a class stands in the source may change, its public name does not. A user's own
class goes by its full name and is looked up only among the modules that are imported already. A file can name settings
alone, classes that derive from `KINDS`, so it never decides which code runs.
"""

from __future__ import annotations

import dataclasses
import sys
import types
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

import lmtasks
from lmtasks.errors import InputError

KINDS = (
    "BackboneConfig", "Decoding", "Framing", "JointConfig", "LoRA", "OptimizerConfig", "Schedule", "Settings",
    "Surgery", "Task", "TokenizerConfig", "Training", "Weighting",
)  # fmt: skip
"""The classes of lmtasks from which derives whatever a file may name."""
SHOWN = 200  # characters of a value
FORMAT = 2
"""Version of what checkpoints and model folders hold; it goes up when an older lmtasks could not read it."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The base of settings of a user's own that a saved model names, and that are no task, backbone or optimiser."""

    in_files: ClassVar[bool] = True
    """Whether a saved model may name the class."""


def to_plain(value: Any) -> Any:
    """Turn dataclasses, and containers of them, into dicts, lists, texts and numbers.

    >>> to_plain(lmtasks.Schedule("constant"))
    {'class_path': 'Schedule', 'init_args': {'kind': 'constant', 'warmup': 1000, 'final': 0.0}}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"class_path": public_name(type(value)), "init_args": fields}
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return value


def from_plain(value: Any) -> Any:
    """Build what `to_plain` took apart; a list becomes a tuple again where the type of its field says so.

    Raises: InputError if a class is not known here, is no settings class, or does not have a setting.
    """
    if isinstance(value, dict):
        name, items = value.get("class_path"), value.get("init_args", {}) if "class_path" in value else value
        if (
            not isinstance(name, str | None)
            or not isinstance(items, dict)
            or not all(isinstance(key, str) for key in items)
        ):
            raise InputError(f"the model has {_shown(value)} where settings should be; the file is damaged")
        built = {key: from_plain(item) for key, item in items.items()}
        return built if name is None else build(find_class(name), built)
    return [from_plain(item) for item in value] if isinstance(value, list) else value


def public_name(kind: type) -> str:
    """Return the name under which `find_class` finds a class: its exported one, or module and name of a user's.

    Raises: InputError if no saved model may name it.
    """
    if dataclasses.is_dataclass(kind) and not is_settings(kind):
        raise InputError(
            f"{kind.__name__} is saved with the model, but is no settings class; derive it from "
            "lmtasks.settings.Settings"
        )
    if _is_ours(kind):
        assert getattr(lmtasks, kind.__name__, None) is kind, f"{kind.__name__} is saved by name; export it"
        return kind.__name__
    return f"{kind.__module__}.{kind.__qualname__}"


def find_class(name: str, base: type | None = None) -> type:
    """Return the class of a name, without importing anything that a file could choose.

    It is a settings class (a dataclass), or a kind of `base` if that is given.

    Raises: InputError if lmtasks exports no such class, a user's class is not imported, or it is of another kind.
    """
    module, _, own = name.rpartition(".")
    # vars, not getattr: a module that loads names when they are asked for would import what the file chooses
    loaded = vars(sys.modules[module]) if module in sys.modules else {}
    found = loaded.get(own) if module else getattr(lmtasks, own, None)
    if found is None and module:
        raise InputError(
            f"the model was made with {name}, a class that is not imported here; import {module} first (in the shell: "
            f"--import {module}), if you trust it"
        )
    if found is None:
        raise InputError(f"the model was made with {name}, which lmtasks {lmtasks.__version__} does not have")
    fits = isinstance(found, type) and (issubclass(found, base) if base else is_settings(found))
    if not fits:  # a forged file must not call what it likes
        wanted = base.__name__ if base else "settings class"
        raise InputError(f"the model names {name}, which is no {wanted}; do not use a file of unknown origin")
    return found


def is_settings(kind: type) -> bool:
    """Tell whether a class is one of settings, which a file may name."""
    known = any(base.__name__ in KINDS and _is_ours(base) for base in kind.__mro__)
    return known and dataclasses.is_dataclass(kind) and getattr(kind, "in_files", True)


def build(kind: type, arguments: Mapping[str, Any]) -> Any:
    """Return a dataclass made of plain data.

    Raises: InputError if it has no such setting, or a value is of another type.
    """
    known = {field.name for field in dataclasses.fields(kind)}
    if unknown := sorted(arguments.keys() - known):
        raise InputError(f"the model sets {kind.__name__}.{unknown[0]}, which lmtasks {lmtasks.__version__} lacks")
    try:
        hints = get_type_hints(kind)
    except NameError:  # a user's class may name types that it imports for type checkers only
        hints = {}
    return kind(
        **{name: _as_typed(item, hints.get(name), f"{kind.__name__}.{name}") for name, item in arguments.items()}
    )


def first_difference(before: Any, now: Any, name: str) -> str:
    """Return the first difference of two settings, as "backbone.d_model = 64, not 128", or nothing.

    What `now` leaves empty, such as the labels of a task, is found in the training rows and is no difference.

    >>> first_difference(lmtasks.Schedule("linear"), lmtasks.Schedule("constant"), "schedule")
    'schedule.kind = linear, not constant'
    """
    if now in ((), {}) and type(before) is type(now):
        return ""
    if dataclasses.is_dataclass(now) and type(before) is type(now):
        names = [field.name for field in dataclasses.fields(now)]
        parts = [(getattr(before, each), getattr(now, each), f"{name}.{each}") for each in names]
    elif isinstance(now, dict) and isinstance(before, dict) and before.keys() == now.keys():
        parts = [(before[key], now[key], f"{name}.{key}") for key in now]
    else:
        return "" if before == now else f"{name} = {_shown(before)}, not {_shown(now)}"
    return next((found for old, new, own in parts if (found := first_difference(old, new, own))), "")


def check_format(version: Any, place: object) -> None:
    """Check that a checkpoint or model folder has the format of this version.

    Raises: InputError if it has another one.
    """
    if version != FORMAT:
        age = "a newer" if isinstance(version, int) and version > FORMAT else "an older"
        raise InputError(
            f"{place}: written by {age} version of lmtasks (format {version or 1}, this version reads {FORMAT}); "
            "use that version, or train the model again"
        )


def _is_ours(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "lmtasks"


def _shown(value: Any) -> str:
    text = type(value).__name__ if dataclasses.is_dataclass(value) else " ".join(str(value).split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _as_typed(value: Any, hint: Any, name: str) -> Any:
    """Return what JSON gave as what a type hint asks for: lists as tuples, at any depth.

    Raises: InputError if it is of another type.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _as_one_of(value, inner, name)
    if origin is tuple and isinstance(value, list):
        each = [inner[0]] * len(value) if inner[1:] == (...,) else inner
        if len(each) == len(value):
            return tuple(_as_typed(item, kind, name) for item, kind in zip(value, each, strict=True))
        raise InputError(f"{name} is {_shown(value)}, expected {len(each)} values; the file is damaged")
    if origin is list and isinstance(value, list):
        return [_as_typed(item, inner[0], name) for item in value]
    if origin in (dict, Mapping) and isinstance(value, dict):
        return {_as_typed(key, inner[0], name): _as_typed(item, inner[1], name) for key, item in value.items()}
    if not _is_one(value, inner if origin is Literal else origin or hint):
        raise InputError(
            f"{name} is {_shown(value)}, which is no {getattr(hint, '__name__', hint)}; the file is damaged"
        )
    return value


def _as_one_of(value: Any, hints: tuple[Any, ...], name: str) -> Any:
    """Return a value as the first of several types that it has."""
    for number, hint in enumerate(hints, 1):
        try:
            return _as_typed(value, hint, name)
        except InputError:
            if number == len(hints):
                raise
    raise AssertionError("a union has members")


def _is_one(value: Any, wanted: Any) -> bool:
    """Tell whether a value is one of several (a tuple), or has a type; what is no class is not checked."""
    if isinstance(wanted, tuple):
        return any(type(value) is type(each) and value == each for each in wanted)
    if wanted is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # NaN is no number
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool)
    checks = isinstance(wanted, type) and wanted is not Any and not getattr(wanted, "_is_protocol", False)
    return not checks or isinstance(value, wanted)
