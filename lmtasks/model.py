"""Model: what a trained thing is. Tokenizer, tasks, backbone and heads, of which layers are built; plain PyTorch.

`TaskModule` is a Model that learns. What `saving.load` returns is one that does not, and needs no trainer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from lmtasks.backbones.base import BackboneConfig
from lmtasks.decoding import Decoding
from lmtasks.errors import InputError
from lmtasks.predict import Use
from lmtasks.settings import to_plain
from lmtasks.tasks.base import Task
from lmtasks.text.tokenizer import Tokenizer
from lmtasks.training import init_from as start

NAME = re.compile(r"[A-Za-z0-9_-]+")  # of a task: it becomes part of the names of parameters, scores and options
PARTS = ("backbone.", "heads.")  # what the names of the weights of a model begin with; others only training reads


class Model(Use):
    """One or several tasks on one backbone, each with a head of its own.

    Args:
        tasks: What it has learned, {name: task}.
        backbone: Architecture and sizes.
        decoding: How answers are searched.
        training: The settings of its training as plain data, which are kept and not read.

    Example:
        >>> from lmtasks import ClassificationTask, Model, Tokenizer, TokenizerConfig, TransformerConfig
        >>> model = Model({"mood": ClassificationTask(labels=("bad", "good"))}, TransformerConfig(d_model=64))
        >>> model.build(Tokenizer.train([], TokenizerConfig("byte")))
        >>> model.classify("A fine day.") in ("bad", "good")
        True
    """

    def __init__(
        self,
        tasks: dict[str, Task],
        backbone: BackboneConfig,
        decoding: Decoding = Decoding(),
        training: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if wrong := [name for name in tasks if not NAME.fullmatch(name)]:
            raise InputError(f"model.tasks: a task cannot be called {wrong[0]!r}; use letters, digits, - and _")
        self.tasks = dict(tasks)
        self.backbone_config, self.decoding = backbone, decoding
        self._training_settings = dict(training or {})
        self.tokenizer = None
        self.backbone = None
        self.heads = nn.ModuleDict()

    @property
    def task(self) -> Task:
        """The only task."""
        (task,) = self.tasks.values()
        return task

    @property
    def beginnings(self) -> dict[str, str]:
        """The token with which the texts of each task begin, where the decoder writes for several."""
        return start.beginnings(self.tasks)

    @property
    def signatures(self) -> dict[str, str]:
        """How each score is computed, task/metric -> signature, so that others can repeat it."""
        signed = {name: task.signatures() for name, task in self.tasks.items()}
        return {f"{name}/{metric}": text for name, several in signed.items() for metric, text in several.items()}

    @property
    def training_settings(self) -> dict[str, Any]:
        """The settings of its training as plain data."""
        return self._training_settings

    def describe(self) -> dict[str, Any]:
        """Return settings and tokenizer as plain data, from which the layers can be built again.

        Raises:
            InputError: If the model has no tokenizer yet.
        """
        if self.tokenizer is None:
            raise InputError("the model has no tokenizer yet; fit it, load one, or call build(tokenizer)")
        own = to_plain({"tasks": self.tasks, "backbone": self.backbone_config, "decoding": self.decoding})
        return {"settings": own | self.training_settings, "tokenizer": self.tokenizer.to_json()}

    def build(self, tokenizer: Tokenizer) -> None:
        """Build backbone and heads for a tokenizer.

        Raises:
            InputError: If a task reads more tokens at once than the backbone can.
        """
        backbone = self.backbone_config.build(len(tokenizer))
        for name, task in self.tasks.items():
            if task.longest and backbone.max_length and task.longest > backbone.max_length:
                raise InputError(
                    f"{name} reads {task.longest} tokens at once, the backbone only {backbone.max_length}; "
                    "raise model.backbone.max_length"
                )
        self.tokenizer, self.backbone = tokenizer, backbone
        for name, task in self.tasks.items():
            head = self.heads[name] = task.head(tokenizer, backbone.d_model)
            if name in self.beginnings:
                head.begin_with(tokenizer.mark(self.beginnings[name]))

    def weights(self) -> dict[str, Tensor]:
        """Return the weights of backbone and heads by their names in the state_dict."""
        return {name: tensor for name, tensor in self.state_dict().items() if name.startswith(PARTS)}

    def take_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of backbone and heads; others that only training has a use for stay as they are.

        Raises:
            RuntimeError: If one is missing, has another size or is none of this model's.
        """
        given = {name: tensor for name, tensor in weights.items() if name.startswith(PARTS)}
        kept = {name: tensor for name, tensor in self.state_dict().items() if not name.startswith(PARTS)}
        self.load_state_dict(given | kept)
