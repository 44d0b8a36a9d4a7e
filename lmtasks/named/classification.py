"""ClassificationModule: TaskModule with the settings of classification."""

from __future__ import annotations

from typing import Literal

from lmtasks.backbones.base import BackboneConfig
from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.heads.classification import Pooling
from lmtasks.module import TaskModule
from lmtasks.optim import Adam, OptimizerConfig, Schedule
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.text.tokenizer import TokenizerConfig


class ClassificationModule(TaskModule):
    """Say which label a text has: its sentiment, topic or kind.

    Args:
        several: Whether a text may have several labels, or none.
        pair: Whether a row has two texts to be read together, "text" and "pair".
        backbone: Architecture and sizes; an encoder is enough.
        tokenizer: How texts become token ids; trained on the training texts unless it names a file.
        optimizer: Optimiser with its settings.
        schedule: Learning rate over the steps.
        label_smoothing: Share of the probability spread over all labels.
        balanced: Let rare labels count as much as frequent ones.
        main: The score that chooses the best checkpoint.
        pooling: What stands for the text: the mean of its token states, the maximum of each feature, the first one, or
            a mean that attention weighs.
        dropout: Share of the features of a text dropped.
        ngrams: Read sequences of letters beside the encoder's states, of 2 up to so many bytes; 0: none.
        vectors: A GloVe or word2vec text file from which embeddings start.
        compile: Let torch.compile make encode and decode faster; worth the minutes it takes on a GPU.
        init_from: A run, model folder or checkpoint from which tokenizer and backbone start.
        freeze: Names of parts that are not trained, such as backbone.encoder.

    Example:
        >>> from lmtasks import ClassificationModule
        >>> ClassificationModule(pair=True).task.columns
        ('text', 'pair', 'label')
    """

    def __init__(
        self,
        several: bool = False,
        pair: bool = False,
        backbone: BackboneConfig = TransformerConfig(decoder_layers=0),
        tokenizer: TokenizerConfig = TokenizerConfig(),
        optimizer: OptimizerConfig = Adam(),
        schedule: Schedule = Schedule(),
        label_smoothing: float = 0.0,
        balanced: bool = False,
        main: Literal["accuracy", "macro_f1"] = "accuracy",
        pooling: Pooling = "mean",
        dropout: float = 0.3,
        ngrams: int = 0,
        vectors: str | None = None,
        compile: bool = False,
        init_from: str | None = None,
        freeze: tuple[str, ...] = (),
    ) -> None:
        task = ClassificationTask(several, pair, balanced, main, pooling, dropout, label_smoothing, ngrams=ngrams)
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


SentimentModule = ClassificationModule
"""The same under the name of its most usual use."""
