"""Limits: how long a text may be for a task, for its data and for a backbone, and how longer ones are cut.

`data.max_length` drops or cuts rows. Nothing may cut a task's own `max_length` (windows, histories, blocks). A backbone
reads at most `max_positions` tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lmtasks.backbones.base import BackboneConfig
from lmtasks.batch import Example
from lmtasks.cuts import note_cut
from lmtasks.errors import InputError
from lmtasks.tasks.base import Task


def check_limits(tasks: Mapping[str, Task], backbone: BackboneConfig, max_length: int | None = None) -> None:
    """Check that a backbone can read what the tasks give it, and that `max_length` of the data does not cut that.

    Raises: InputError if a task is too long; it names the task.
    """
    positions = backbone.max_positions
    for name, task in tasks.items():
        own = task.max_length
        reads, hint = f"{name} reads {own} tokens at once", ""
        if own and max_length and own > max_length:
            raise InputError(f"{reads}, which data.max_length {max_length} would cut; set it to {own} or more")
        longest = own or max_length
        if longest and positions and longest > positions:
            if not own:
                reads, hint = f"{name} may have texts of {longest} tokens", f", or set data.max_length to {positions}"
            raise InputError(f"{reads}, and model.backbone.max_length is {positions}; raise it{hint}")


def cut(ids: list[int], max_length: int) -> list[int]:
    """Cut token ids to a limit, but keep the last one, which ends the text."""
    return ids if len(ids) <= max_length else [*ids[: max_length - 1], ids[-1]]


def cut_to_read(example: Example, max_length: int | None) -> Example:
    """Cut an example to what a backbone can read, and note it if its source is longer."""
    length = len(example.source)
    if max_length is None or length <= max_length:
        return example
    note_cut(example.row, length, max_length)
    return replace(example, source=cut(example.source, max_length), target=cut(example.target, max_length))
