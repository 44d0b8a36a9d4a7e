"""Training: how a model is trained, whatever its tasks are."""

from __future__ import annotations

from dataclasses import dataclass, field

from lmtasks.backbones.lora import LoRA
from lmtasks.checked import Checked
from lmtasks.errors import InputError
from lmtasks.training.joint.learning import JointConfig
from lmtasks.training.optim.optimizers import Adam, OptimizerConfig
from lmtasks.training.optim.schedule import Schedule


@dataclass(frozen=True)
class Training(Checked):
    """Settings of training, the same for all modules.

    Raises: InputError for settings that contradict each other.

    Example:
        >>> Training(schedule=Schedule("constant")).optimizer.lr
        0.001
    """

    setting = "model.training"

    optimizer: OptimizerConfig = Adam()
    """Optimiser with its settings."""
    schedule: Schedule = Schedule()
    """Learning rate over the optimiser steps."""
    init_from: str | None = None
    """A run folder, model folder or checkpoint that gives the tokenizer and the first weights of the backbone."""
    freeze: tuple[str, ...] = ()
    """Names of parts that are not trained, such as backbone.encoder."""
    thaw: dict[str, int] = field(default_factory=dict)
    """Names of parts that are trained only after so many optimiser steps, {backbone.encoder: 200}."""
    lora: LoRA | None = None
    """Train low-rank adapters beside the linear layers of the backbone, and nothing else of it; heads are trained."""
    vectors: str | None = None
    """A file of word vectors of any width (GloVe, word2vec, fastText .vec, .npy) that gives their first embeddings."""
    compile: bool = False
    """Compile encode and decode with torch.compile; worth the minutes it takes on a GPU."""
    joint: JointConfig = JointConfig()
    """How several tasks are trained together."""

    def __post_init__(self) -> None:
        if self.init_from and self.vectors:
            raise InputError("model.training.init_from brings embeddings of its own; leave out model.training.vectors")
        for name, step in self.thaw.items():
            if step < 1:
                raise InputError(f"model.training.thaw: {name} after {step} steps; give 1 or more, or leave it out")
            if covering := [part for part in self.freeze if f"{name}.".startswith(f"{part}.")]:
                raise InputError(
                    f"model.training.thaw: {name} is never trained, because freeze names {covering[0]}; "
                    "leave out one of them"
                )
