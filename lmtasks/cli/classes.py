"""A class chosen anew brings its own defaults.

Where an option or a later config names another class, jsonargparse keeps those settings of the class before that the
new one has too: `--model.optimizer Muon` would run with Adam's learning rate, and a recurrent backbone get as many
layers as the default Transformer. Here nothing of the class before is kept.
"""

from __future__ import annotations

from typing import Any

from jsonargparse import _typehints


def keep_no_settings_of_another_class() -> None:
    """Replace the function of jsonargparse (4.53, `_typehints.py`) that decides what is kept."""
    _typehints.discard_init_args_on_class_path_change = _discard


def _discard(parser_or_action: Any, prev_val: Any, value: Any) -> None:
    if not prev_val or "init_args" not in prev_val:
        return
    if prev_val["class_path"] is None or _name(prev_val) == _name(value):  # None: not a class yet
        return
    settings = _typehints.subclass_spec_as_namespace(prev_val).init_args
    for key in list(settings.keys()):
        settings.pop(key)


def _name(spec: Any) -> str:
    """Return the class of a specification without its module: configs may write it short or whole."""
    return spec["class_path"].rpartition(".")[2]
