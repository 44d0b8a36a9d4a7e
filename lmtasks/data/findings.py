"""What people should know of the rows before a training: labels, repeated and contradictory rows, overlaps.

All of it is computed from the examples of a split, which lie in a mapped file; see `data.tokenized`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lmtasks.data.tokenized import TokenizedDataset
from lmtasks.tasks.base import Task, listed
from lmtasks.text.forms import alike

SHOWN = 12  # labels that a line names
MUCH = 1 << 30  # bytes of text
QUOTED = 60  # characters of a text that a line quotes


def findings(task: Task, train: TokenizedDataset, validation: TokenizedDataset | None) -> Iterator[str]:
    """Yield a line for each thing that people should know of the rows of a training."""
    counts = _label_counts(task, train)
    if counts:
        common = listed([f"{label} {count:,}" for label, count in counts.most_common()], SHOWN)
        yield f"labels: {common}"
    for group in alike(counts):
        yield f"the labels {listed([repr(label) for label in group])} differ only in their form: are they one?"
    if single := [label for label, count in counts.items() if count == 1]:
        yield f"labels of a single row: {listed(sorted(single), SHOWN)}"
    if task.multi_turn or task.examples_per_row == 0:
        return  # examples that share their beginnings, or no rows
    if train.column("text").nbytes > MUCH:
        yield "the texts are too long to look for repeated ones"
        return
    rows = _rows(train)
    found = rows.group_by(["group", "text"]).aggregate([("reference", "count"), ("reference", "count_distinct")])
    repeated = len(rows) - len(found)
    if repeated:
        yield f"{repeated:,} of {len(rows):,} rows repeat the text of another{_most(found, 'reference_count')}"
    differing = pc.sum(pc.greater(found["reference_count_distinct"], 1)).as_py() or 0
    if differing and not task.generates:
        yield f"{differing:,} texts have different answers{_most(found, 'reference_count_distinct')}"
    if validation is not None:
        own = _rows(validation)
        shared = pc.sum(pc.is_in(own["text"], value_set=rows["text"].combine_chunks())).as_py() or 0
        if shared:
            yield f"{shared:,} of {len(own):,} validation rows have a text that is in the training rows too"


def _label_counts(task: Task, train: TokenizedDataset) -> Counter[str]:
    """Return how many references there are of each label, of a task that has labels."""
    counts: Counter[str] = Counter()
    if task.label_of("") is not None:
        for each in pc.value_counts(pc.list_flatten(train.column("references")).combine_chunks()).to_pylist():
            counts[task.label_of(each["values"]) or ""] += each["counts"]
    return counts


def _rows(tokenized: TokenizedDataset) -> pa.Table:
    """Return text, group and reference of each row, of the first of its windows."""
    numbers = tokenized.column("row").to_numpy()
    table = pa.table({name: tokenized.column(name) for name in ("text", "group", "reference")})
    groups = pc.rank(table["group"], tiebreaker="dense").to_numpy() if len(table) else numbers
    same = (numbers[1:] == numbers[:-1]) & (groups[1:] == groups[:-1])
    return table.filter(pa.array(np.append(True, ~same)[: len(table)])) if same.any() else table


def _most(found: pa.Table, column: str) -> str:
    """Quote the text that has the most of something."""
    place = pc.index(found[column], pc.max(found[column])).as_py()
    text = found["text"][place].as_py()
    return f", such as {text[:QUOTED]!r} ({found[column][place].as_py()} times)"
