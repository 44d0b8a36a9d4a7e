"""TaggingModule: TaskModule with the settings of tagging."""

from __future__ import annotations

from lmtasks.backbones.base import BackboneConfig
from lmtasks.backbones.recurrent import RecurrentConfig
from lmtasks.module import TaskModule
from lmtasks.optim import Adam, OptimizerConfig, Schedule
from lmtasks.tasks.tagging import TaggingTask
from lmtasks.text.tokenizer import TokenizerConfig


class TaggingModule(TaskModule):
    """Find the names in a text.

    Args:
        backbone: Architecture and sizes; an encoder is enough.
        tokenizer: How words become token ids; trained on the training texts unless it names a file.
        optimizer: Optimiser with its settings.
        schedule: Learning rate over the steps.
        crf: Learn which tags follow which.
        spelling: Read the letters of each word beside its pieces; of no use where each word is a character.
        layers: Bidirectional LSTM layers over the words, above the backbone.
        dropout: Share of the features of a word dropped.
        vectors: A GloVe or word2vec text file from which embeddings start.
        compile: Let torch.compile make encode and decode faster; worth the minutes it takes on a GPU.
        init_from: A run, model folder or checkpoint from which tokenizer and backbone start.
        freeze: Names of parts that are not trained, such as backbone.encoder.

    Example:
        >>> from lmtasks import TaggingModule
        >>> TaggingModule().task.columns
        ('words', 'tags')
    """

    def __init__(
        self,
        backbone: BackboneConfig = RecurrentConfig(decoder_layers=0),
        tokenizer: TokenizerConfig = TokenizerConfig(),
        optimizer: OptimizerConfig = Adam(),
        schedule: Schedule = Schedule(),
        crf: bool = True,
        spelling: bool = True,
        layers: int = 1,
        dropout: float = 0.3,
        vectors: str | None = None,
        compile: bool = False,
        init_from: str | None = None,
        freeze: tuple[str, ...] = (),
    ) -> None:
        task = TaggingTask(crf, spelling, layers, dropout)
        super().__init__(
            {task.name: task},
            backbone,
            tokenizer,
            optimizer,
            schedule,
            vectors=vectors,
            compile=compile,
            init_from=init_from,
            freeze=freeze,
        )
