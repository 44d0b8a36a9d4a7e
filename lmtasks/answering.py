"""Answering: from rows to answers and alignments, with a trained backbone and head and without a trainer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lmtasks.backbones.base import Backbone
from lmtasks.batch import IGNORE, Batch, lengths_to_mask, pad
from lmtasks.data.plan import evaluation_batches
from lmtasks.decoding import Decoding
from lmtasks.errors import InputError
from lmtasks.heads import shift_right
from lmtasks.tasks.base import Answer, Example, Row, Task
from lmtasks.text.tokenizer import Tokenizer

TOKENS_PER_BATCH = 4096  # padded source tokens answered at once
logger = logging.getLogger(__name__)


@torch.inference_mode()
def answer(
    backbone: Backbone,
    head: Any,
    task: Task,
    tokenizer: Tokenizer,
    rows: Sequence[Row],
    decoding: Decoding,
    group: str | None = None,
    prefix: str = "",
) -> list[list[Answer]]:
    """Return for each row its `n_best` answers, best first; a row without text has one empty answer.

    Rows are sorted by length inside and returned in order. `group` keeps the examples of one kind, such as the
    direction en-de. A source longer than the backbone can read is cut, and the log says which.

    Raises:
        InputError: If a row could be answered in several ways and `group` does not say in which.
    """
    examples = task_examples(task, tokenizer, rows, group)
    sources = [_readable(example.source, example.row, backbone.max_length) for example in examples]
    lengths = torch.tensor([[len(source)] * 2 for source in sources]).reshape(-1, 2).numpy()
    answers = [[Answer("", 0.0)] for _ in rows]
    device, begin = backbone.embedding.weight.device, tokenizer.encode(prefix)
    for picked in evaluation_batches(lengths, TOKENS_PER_BATCH):
        batch = source_batch(task.name, [sources[i] for i in picked]).to(device)
        for i, found in zip(picked, search_texts(backbone, head, tokenizer, batch, decoding, begin), strict=True):
            answers[examples[i].row] = found
    return answers


def search_texts(
    backbone: Backbone, head: Any, tokenizer: Tokenizer, batch: Batch, decoding: Decoding, prefix: Sequence[int] = ()
) -> list[list[Answer]]:
    """Return the answers to a batch as texts, which begin with the tokens of `prefix`."""
    found = head.predict(backbone, batch, decoding, prefix)
    texts = iter(tokenizer.decode_batch([hypothesis.tokens for several in found for hypothesis in several]))
    return [[Answer(next(texts), hypothesis.score) for hypothesis in several] for several in found]


@torch.inference_mode()
def align(backbone: Backbone, tokenizer: Tokenizer, source: Sequence[int], target: str) -> Tensor:
    """Return how much each piece of the target text, end included, reads of each source token: (T, S)."""
    device = backbone.embedding.weight.device
    batch = source_batch("", [source]).to(device)
    memory = backbone.encode(batch.source, batch.source_mask)
    ids = torch.tensor([[*tokenizer.encode(target), tokenizer.end]], device=device)
    return backbone.alignment(shift_right(ids, tokenizer.start), memory)[0].float().cpu()


def task_examples(task: Task, tokenizer: Tokenizer, rows: Sequence[Row], group: str | None) -> list[Example]:
    """Return the examples of rows, at most one for each.

    Raises:
        InputError: If a row has several.
    """
    examples = [example for example in task.examples(rows, tokenizer) if group in (None, example.group)]
    if len({example.row for example in examples}) < len(examples):
        groups = ", ".join(dict.fromkeys(example.group for example in examples))
        raise InputError(f"{task.name} could answer a row in several ways; choose one of {groups}")
    return examples


def source_batch(task: str, sources: Sequence[Sequence[int]]) -> Batch:
    """Return a batch that has sources and nothing to predict."""
    mask = lengths_to_mask([len(source) for source in sources])
    nothing = torch.full((len(sources), 1), IGNORE)
    return Batch(task, pad(sources, 0), mask, nothing, torch.arange(len(sources)))


def _readable(source: list[int], row: int, max_length: int | None) -> list[int]:
    """Cut a source to what the backbone can read, its end token kept."""
    if max_length is None or len(source) <= max_length:
        return source
    logger.warning(
        "text %d has %d tokens and was cut to the backbone's max_length %d", row + 1, len(source), max_length
    )
    return [*source[: max_length - 1], source[-1]]
