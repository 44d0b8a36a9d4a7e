"""Limits: how long a text may be for a task, for its data and for a backbone, and what happens to longer ones.

`data.max_length` drops or cuts rows, a task's own `max_length` (windows, histories, blocks) may not be cut by anything
else, and a backbone reads at most `max_positions` tokens.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from lmtasks.backbones.base import BackboneConfig
from lmtasks.batch import Example
from lmtasks.errors import InputError
from lmtasks.tasks.base import Task

logger = logging.getLogger(__name__)


def check_limits(tasks: Mapping[str, Task], backbone: BackboneConfig, max_length: int | None = None) -> None:
    """Check that a backbone can read what tasks give it, and that `max_length` of the data does not cut it.

    Raises:
        InputError: If it does not fit; the line names the task.
    """
    positions = backbone.max_positions
    for name, task in tasks.items():
        own = task.max_length
        if own and max_length and own > max_length:
            raise InputError(
                f"{name} reads {own} tokens at once, which data.max_length {max_length} would cut; "
                f"set it to {own} or more"
            )
        longest = own or max_length
        if longest and positions and longest > positions:
            hint = "" if own else f", or set data.max_length to {positions}"
            reads = f"reads {own} tokens at once" if own else f"may have texts of {longest} tokens"
            raise InputError(f"{name} {reads}, and model.backbone.max_length is {positions}; raise it{hint}")


def cut(ids: list[int], max_length: int) -> list[int]:
    """Cut token ids to a limit, but keep the last one, the end."""
    return ids if len(ids) <= max_length else [*ids[: max_length - 1], ids[-1]]


def cut_to_read(example: Example, max_length: int | None) -> Example:
    """Cut a source to what a backbone can read; the log says so."""
    if max_length is None or len(example.source) <= max_length:
        return example
    length = len(example.source)
    logger.warning(
        "text %d has %d tokens and was cut to the backbone's max_length %d", example.row + 1, length, max_length
    )
    return replace(example, source=cut(example.source, max_length), target=cut(example.target, max_length))
