"""Trained heads: layers that come with an encoder, as heads of ours that answer without training.

Answers in a text, tags of words and labels of a text: Devlin et al. 2019, "BERT", sections 4.1, 4.2, 4.3 and 5.3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lmtasks.errors import InputError
from lmtasks.heads.classification import Hidden
from lmtasks.pretrained.folder import CONFIG, Folder
from lmtasks.pretrained.table import Row, Table
from lmtasks.tasks.answering import SpanAnsweringTask
from lmtasks.tasks.base import Task
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.tasks.tagging import TaggingTask
from lmtasks.text.tags import OUTSIDE
from lmtasks.text.words import LETTERS

LAYERS, POOLER = ("qa_outputs.", "classifier.", "pre_classifier."), "pooler."  # how names of a head's weights begin
ANSWERING: tuple[Row, ...] = (("output.*", ("qa_outputs.*",)),)  # row 0 the first token, row 1 the last
TAGGING: tuple[Row, ...] = (("emission.*", ("classifier.*",)),)
WINDOW, STRIDE = 384, 240  # tokens; at a question of 13 windows share 128, as in the pipeline of transformers
SQUAD_2 = re.compile(r"squad[-_.]?v?[-_.]?2(?!\d)", re.IGNORECASE)
BIO, OTHER_SCHEME = re.compile("O|[BI](-.+)?"), re.compile("[ESMLU](-|$)")
ELSEWHERE = -1e4  # the logit of a tag that a model does not have; float16 holds it


@dataclass(frozen=True)
class TrainedHead:
    """A head of others: its task, and where its weights belong."""

    task: Task
    """What it does; the head of the task has the same layers."""
    rows: tuple[Row, ...]
    """The names of its weights: ours, and theirs."""
    order: tuple[int, ...] = ()
    """For each row of our output layer its place among theirs, -1 = they have none; () = the same rows."""

    def load(self, head: nn.Module, tensors: Mapping[str, Tensor], rename: Callable[[str], str]) -> None:
        """Copy the weights into `head`; `rename` turns a name of the file into that of the rows.

        Raises: InputError if one is missing, left over or of another size.
        """
        named = {rename(name): name for name in tensors}
        own = {name: tensors[named[name]] for name in named if name.startswith((*LAYERS, POOLER))}
        if self.order:
            own |= {name: self._ordered(own[name], name) for name in own if name.startswith(LAYERS)}
        Table(self.rows, left_out=(f"{POOLER}*",)).load(head, own, str)  # BERT has a pooler whatever its head is

    def _ordered(self, tensor: Tensor, name: str) -> Tensor:
        """Return the rows of an output layer, or its biases, in our order."""
        rows = max(self.order) + 1
        if tensor.shape[:1] != (rows,):
            raise InputError(f"its {name} is {tuple(tensor.shape)}, expected a row for each of {rows} labels")
        nothing = torch.full_like(tensor[:1], ELSEWHERE if tensor.ndim == 1 else 0.0)
        return torch.cat((tensor, nothing))[list(self.order)]


def find_head(folder: Folder, max_length: int, classifier: tuple[Row, ...], hidden: Hidden) -> TrainedHead | None:
    """Return the head that the class of a model in config.json has, None if it has none of the three.

    max_length: tokens that the encoder can read.
    classifier: the names of weights where texts have labels, and `hidden` the activation of the hidden layer there.

    Raises: InputError if it is a head that no task of ours has.
    """
    architectures = str(folder.config.get("architectures"))
    if "ForQuestionAnswering" in architectures:
        return answering_head(folder, max_length)
    if "ForTokenClassification" in architectures:
        return tagging_head(folder)
    if "ForSequenceClassification" in architectures:
        return classification_head(folder, classifier, hidden)
    return None


def answering_head(folder: Folder, max_length: int) -> TrainedHead:
    """Return the head that finds answers. Its "no answer" is the first token.

    Whether it learned that there may be none is not in its files: its name tells, such as "roberta-base-squad2".
    """
    task = SpanAnsweringTask(
        window=min(WINDOW, max_length),
        stride=min(WINDOW, max_length) * STRIDE // WINDOW,
        no_answer=SQUAD_2.search(Path(folder.name).absolute().name) is not None,
        attention=False,
        word_match=False,
        layers=0,
        no_answer_at="first",
    )
    return TrainedHead(task, ANSWERING)


def tagging_head(folder: Folder) -> TrainedHead:
    """Return the head that tags words; each has its likeliest tag, because B- need not begin a name in all models.

    Labels without B- or I- are kinds of names, of which neighbours are one name (I-), or, where there is no O, of words
    (B-).
    """
    labels = labels_of(folder)
    plain = "I" if OUTSIDE in labels else "B"
    own = [label if BIO.fullmatch(label) else f"{plain}-{label}" for label in labels]
    others = [label for label in labels if OTHER_SCHEME.match(label)]
    if (others and any(tag in labels for tag in own if tag != OUTSIDE)) or len({*own}) < len(own):
        raise InputError(
            f"{folder.name}: {CONFIG} has the labels {', '.join(others or labels)}, and lmtasks reads tags of the "
            "scheme BIO, or labels without prefixes"
        )
    kinds = tuple(dict.fromkeys(tag[2:] for tag in own if tag != OUTSIDE))
    task = TaggingTask(crf=False, spelling=False, layers=0, labels=kinds, writing=(LETTERS,), rules=False)
    return TrainedHead(task, TAGGING, tuple(own.index(tag) if tag in own else -1 for tag in task.tags))


def classification_head(folder: Folder, rows: tuple[Row, ...], hidden: Hidden) -> TrainedHead:
    """Return the head that labels texts; one whose labels tell of entailment reads two texts."""
    labels, problem = labels_of(folder), folder.config.get("problem_type")
    several = problem == "multi_label_classification"
    if problem == "regression" or (len(labels) == 1 and not several):
        raise InputError(
            f"{folder.name}: it gives a text a number, and lmtasks reads labels only; begin a model with its encoder: "
            f"backbone=Pretrained({folder.name!r})"
        )
    pair = any("entail" in label.lower() for label in labels)
    task = ClassificationTask(multi_label=several, pair=pair, pooling="first", labels=labels, hidden=hidden)
    return TrainedHead(task, rows)


def labels_of(folder: Folder) -> tuple[str, ...]:
    """Return the labels of a model in their order. Raises: InputError if they are not all different, or damaged."""
    given = folder.config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}  # what transformers leaves out
    try:
        labels = tuple(str(given[number]) for number in sorted(given, key=int))
    except (TypeError, ValueError) as error:
        raise InputError(f"{folder.name}: {CONFIG} has an id2label that does not number labels") from error
    if len(set(labels)) < len(labels):
        raise InputError(f"{folder.name}: {CONFIG} has an id2label with two labels of the same name")
    return labels
