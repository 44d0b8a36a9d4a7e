"""Solving: from rows to answers and alignments, with a trained backbone and head and without a trainer."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from lmtasks.backbones.base import Backbone
from lmtasks.batch import IGNORE, Batch, cut, lengths_to_mask, pad
from lmtasks.data.plan import evaluation_batches
from lmtasks.decoding import Decoding, Hypothesis
from lmtasks.errors import InputError
from lmtasks.heads.base import Head
from lmtasks.tasks.base import Answer, Example, Row, Task
from lmtasks.text.tokenizer import Tokenizer

TOKENS_PER_BATCH = 4096  # padded source tokens answered at once
BROKEN = "\N{REPLACEMENT CHARACTER}"  # what part of a character decodes to
logger = logging.getLogger(__name__)


@torch.inference_mode()
def solve(
    backbone: Backbone,
    head: Head,
    task: Task,
    tokenizer: Tokenizer,
    rows: Sequence[Row],
    decoding: Decoding,
    group: str | None = None,
    prefix: str = "",
) -> list[list[Answer]]:
    """Return for each row its answers, best first; a row without text has one empty answer.

    Rows are sorted by length inside and returned in order. `group` keeps the examples of one kind, such as the
    direction en-de. A source longer than the backbone can read is cut, and the log says which.

    Raises:
        InputError: If a row could be answered in several ways and `group` does not say in which.
    """
    examples = [_readable(example, backbone.max_length) for example in task_examples(task, tokenizer, rows, group)]
    lengths = np.array([[len(example.source)] * 2 for example in examples]).reshape(-1, 2)
    parts: list[list[list[Answer]]] = [[] for _ in rows]
    device, begin = backbone.embedding.weight.device, tokenizer.encode(prefix)
    found: dict[int, list[Answer]] = {}
    for picked in evaluation_batches(lengths, TOKENS_PER_BATCH):
        chosen = [examples[i] for i in picked]
        batch = examples_batch(task.kind, chosen, picked).to(device)
        answers = task.answers(head.predict(backbone, batch, decoding, begin), chosen, tokenizer)
        found.update(zip(picked.tolist(), answers, strict=True))
    for i, example in enumerate(examples):
        parts[example.row].append(found[i])
    return [task.join(several) if several else [Answer("", 0.0)] for several in parts]


@torch.no_grad()
def stream(
    backbone: Backbone,
    head: Head,
    task: Task,
    tokenizer: Tokenizer,
    row: Row,
    decoding: Decoding,
    group: str | None = None,
) -> Iterator[str]:
    """Give the answer to a row piece by piece, as it is written; a character comes when it is whole.

    Raises:
        InputError: If the head writes no text, or not token by token, as with a beam.
    """
    for example in task_examples(task, tokenizer, [row], group):
        source = _readable(example, backbone.max_length)
        tokens: list[int] = []
        text = shown = ""
        for token in head.stream(backbone, source.source, decoding):
            tokens.append(token)
            text = task.answers([[Hypothesis(tokens, 0.0, 0.0)]], [source], tokenizer)[0][0].text
            whole = text.rstrip(BROKEN)
            if len(whole) > len(shown):
                yield whole[len(shown) :]
                shown = whole
        if text != shown:
            yield text[len(shown) :]


@torch.inference_mode()
def align(backbone: Backbone, head: Head, tokenizer: Tokenizer, source: Sequence[int], target: str) -> Tensor:
    """Return how much each piece of the target text, end included, reads of each source token: (T, S)."""
    device = backbone.embedding.weight.device
    example = Example([*source], [*tokenizer.encode(target), tokenizer.eos_id])
    return head.alignment(backbone, examples_batch("", [example]).to(device))[0].float().cpu()


def task_examples(task: Task, tokenizer: Tokenizer, rows: Sequence[Row], group: str | None) -> list[Example]:
    """Return the examples of rows, of one group for each row.

    Raises:
        InputError: If a row has several.
    """
    examples = [example for example in task.questions(rows, tokenizer) if group in (None, example.group)]
    kinds = {(example.row, example.group) for example in examples}
    if len({row for row, _ in kinds}) < len(kinds):
        groups = ", ".join(dict.fromkeys(example.group for example in examples))
        raise InputError(f"{task.kind} could answer a row in several ways; choose one of {groups}")
    return examples


def examples_batch(task: str, examples: Sequence[Example], numbers: Sequence[int] | np.ndarray = (0,)) -> Batch:
    """Return examples as a batch, with the numbers that they have among all that are asked."""
    mask = lengths_to_mask([len(example.source) for example in examples])
    target = pad([example.target for example in examples], IGNORE)
    return Batch(task, pad([example.source for example in examples], 0), mask, target, torch.tensor([*numbers]))


def _readable(example: Example, max_length: int | None) -> Example:
    """Cut a source to what the backbone can read."""
    if max_length is None or len(example.source) <= max_length:
        return example
    logger.warning(
        "text %d has %d tokens and was cut to the backbone's max_length %d",
        example.row + 1, len(example.source), max_length,
    )  # fmt: skip
    return replace(example, source=cut(example.source, max_length), target=cut(example.target, max_length))
