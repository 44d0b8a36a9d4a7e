"""Settings as plain data: what a checkpoint and a model folder keep of dataclasses and module arguments.

An object becomes {"class_path": "package.Class", "init_args": {...}}, the form that a YAML has too, so that nothing
is pickled.
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

from lmtasks.errors import InputError


def to_plain(value: Any) -> Any:
    """Turn dataclasses, and containers of them, into dicts, lists, texts and numbers."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"class_path": class_path(type(value)), "init_args": fields}
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return value


def from_plain(value: Any) -> Any:
    """Build what `to_plain` took apart."""
    if isinstance(value, dict):
        arguments = {key: from_plain(item) for key, item in value.get("init_args", value).items()}
        return find_class(value["class_path"])(**arguments) if "class_path" in value else arguments
    if isinstance(value, list):
        return [from_plain(item) for item in value]
    return value


def class_path(kind: type) -> str:
    """Return the name under which `find_class` finds a class again."""
    return f"{kind.__module__}.{kind.__qualname__}"


def find_class(path: str) -> type:
    """Import the dataclass that a checkpoint names."""
    module, _, name = path.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"the model was made with the class {path}, which cannot be imported here: {error}") from error
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):  # a forged file must not call what it likes
        raise InputError(f"the model names {path}, which is no settings class; do not use a file of unknown origin")
    return kind
