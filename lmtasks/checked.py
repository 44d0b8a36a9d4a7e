"""Settings that are checked when they are made, from Python as from YAML: names, types and ranges, in one place.

Python itself takes `TransformerConfig(d_model="64")` and `freeze="backbone"`, and a first argument without a name goes
to whatever setting stands first.
"""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, is_dataclass
from functools import cache
from typing import Any, ClassVar, Literal, Self, TypeVar, Union, get_args, get_origin, get_type_hints

from lmtasks.errors import InputError, did_you_mean

SHOWN = 60  # characters of a wrong value
RANGES: dict[str, tuple[float, float]] = {  # by name, which means the same everywhere; beyond them it is a slip
    **dict.fromkeys(("dropout", "attention_dropout", "activation_dropout", "label_smoothing", "final"), (0, 1)),
    **dict.fromkeys(("d_model", "d_head", "d_hidden", "d_attention", "d_ff", "n_heads", "rank"), (1, 2**16)),
    **dict.fromkeys(("encoder_layers", "decoder_layers", "layers"), (-1, 1_000)),  # -1: those of a pretrained model
    **dict.fromkeys(("block", "history", "overlap", "prompt", "stride", "window"), (0, 2**20)),
    **dict.fromkeys(("convolution", "position_offset", "segments", "separator", "embedding_rows"), (0, 2**24)),
    **dict.fromkeys(("relative_buckets", "relative_distance", "max_length", "max_answer"), (1, 2**20)),
    **dict.fromkeys(("min_length", "warmup", "max_answered"), (0, math.inf)),
    **{"vocab_size": (1, 2**24), "no_repeat_ngram": (0, 2**20), "top_k": (0, 2**31), "seed": (0, 2**63 - 1)},
    # of a search: wide, but every one ends, and no power of a length overflows
    **{"beam": (1, 1_000), "n_best": (1, 10_000), "length_penalty": (-5, 5), "max_ratio": (0, 10_000)},
    **{"temperature": (1e-6, 1e12), "repetition_penalty": (0.01, 100), "top_p": (0, 1), "min_p": (0, 1)},
}


@dataclass(frozen=True)
class Checked:
    """The base of settings: what is given is checked before the class's own code sees it."""

    setting: ClassVar[str] = ""
    """How messages begin the name of a setting, such as "decoding"; by default the name of the class."""

    def __new__(cls, *given: Any, **named: Any) -> Self:
        """Make the object if its settings are right.

        Raises: InputError if one has no such name, another type, or is out of range.
        """
        check_arguments(cls, given, named)
        return super().__new__(cls)


class CheckedArguments:
    """The same for classes that are no dataclasses."""

    def __new__(cls, *given: Any, **named: Any) -> Self:
        """Make the object if its arguments are right; see `Checked`."""
        check_arguments(cls, given, named)
        return super().__new__(cls)


def check_arguments(kind: type, given: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    """Check the arguments of a class; those that are missing are left to Python.

    Raises: InputError if one has no such name, another type, or is out of range.
    """
    parameters, hints = _described(kind)
    positional = [name for name, each in parameters.items() if each.kind is not each.KEYWORD_ONLY]
    if len(given) > len(positional):
        value = given[len(positional)]
        fitting = [name for name in parameters if name not in positional and _fits(value, hints.get(name, Any))]
        hint = f"{fitting[0]}={_shown(value)}" if len(fitting) == 1 else ", ".join((fitting or list(parameters))[:6])
        raise InputError(f"{kind.__name__}: give {_shown(value)} by the name of its setting: {hint}")
    owner = getattr(kind, "setting", "") or kind.__name__
    for name, value in [*zip(positional, given, strict=False), *named.items()]:
        if name not in parameters:
            hint = did_you_mean(name, parameters, f"it has {', '.join(parameters)}")
            raise InputError(f"{kind.__name__} has no setting {name!r}; {hint}")
        hint = hints.get(name, Any)
        if not _fits(value, hint) or (isinstance(value, float) and math.isnan(value)):
            example = f", such as [{value!r}]" if isinstance(value, str) and _fits([value], hint) else ""
            raise InputError(f"{owner}.{name} is {_shown(value)}; give {_readable(hint)}{example}")
        if name in RANGES and isinstance(value, int | float):
            _check_range(f"{owner}.{name}", value, *RANGES[name])


def _check_range(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        wanted = f"{least:,} or more" if most == math.inf else f"a number from {least:,} to {most:,}"
        raise InputError(f"{name} is {value}; give {wanted}")


@cache
def _described(kind: type) -> tuple[dict[str, inspect.Parameter], dict[str, Any]]:
    """Return the parameters of a class, and their types as far as they are known."""
    source: Any = kind if is_dataclass(kind) else vars(kind).get("__init__", kind.__init__)  # type: ignore[misc]
    try:
        hints = get_type_hints(source)
    except NameError:  # a user's class may name types that it imports for type checkers only
        hints = {}
    return dict(inspect.signature(kind).parameters), hints


def _fits(value: Any, hint: Any) -> bool:
    """Tell whether a value has a type; a list fits a tuple, and an int a float."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any or isinstance(hint, str | TypeVar):
        return True
    if hint is None or hint is types.NoneType:
        return value is None
    if origin in (Union, types.UnionType):
        return any(_fits(value, each) for each in inner)
    if origin is Literal:
        return any(value is each or (value == each and type(value) is type(each)) for each in inner)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            return False
        each = inner[:1] * len(value) if origin is list or inner[1:] == (...,) else inner
        return len(each) == len(value) and all(map(_fits, value, each))
    if origin is dict:
        pairs = value.items() if isinstance(value, Mapping) else ()
        return isinstance(value, Mapping) and all(_fits(key, inner[0]) and _fits(item, inner[1]) for key, item in pairs)
    if isinstance(origin, type) and issubclass(origin, Iterable):
        is_text = isinstance(value, str) and issubclass(origin, Collection)  # a text is no list of its letters
        return isinstance(value, origin) and not is_text
    return isinstance(value, hint) if isinstance(hint, type) else True


def _readable(hint: Any) -> str:
    """Return a type in words: `int | None` becomes "a whole number or None"."""
    inner = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(map(_readable, inner))
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, inner))}"
    names = {bool: "True or False", int: "a whole number", float: "a number", str: "a text", types.NoneType: "None"}
    if get_origin(hint) in (list, tuple):
        return f"a list, each {_readable(inner[0])}" if inner else "a list"
    if get_origin(hint) is dict:
        return f"a mapping of {_readable(inner[0])} to {_readable(inner[1])}"
    return names.get(hint) or str(getattr(hint, "__name__", hint))


def _shown(value: Any) -> str:
    text = f"{type(value).__name__}(...)" if hasattr(value, "__dataclass_fields__") else repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
