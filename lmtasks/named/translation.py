"""TranslationModule: TaskModule with the settings of translation."""

from __future__ import annotations

from lmtasks.backbones.base import BackboneConfig
from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.decoding import Decoding
from lmtasks.module import TaskModule
from lmtasks.optim import Adam, OptimizerConfig, Schedule
from lmtasks.tasks.translation import TranslationTask
from lmtasks.text.tokenizer import TokenizerConfig


class TranslationModule(TaskModule):
    """Translate in one direction or several.

    Args:
        directions: Source and target language with a hyphen between: [en-de], or several for one model.
        backbone: Architecture and sizes.
        tokenizer: How texts become token ids; trained on the training texts unless it names a file.
        optimizer: Optimiser with its settings.
        schedule: Learning rate over the steps.
        label_smoothing: Share of the target's probability spread over the vocabulary.
        decoding: How translations are searched in test, predict and use.
        validation_decoding: How they are searched in validation, where speed counts; greedy by default.
        vectors: A GloVe or word2vec text file from which embeddings start.
        compile: Let torch.compile make encode and decode faster; worth the minutes it takes on a GPU.
        init_from: A run, model folder or checkpoint from which tokenizer and backbone start.
        freeze: Names of parts that are not trained, such as backbone.encoder.

    Example:
        >>> from lmtasks import TransformerConfig, TranslationModule
        >>> module = TranslationModule(["en-fr"], TransformerConfig(d_model=64, d_ff=128))
        >>> module.task.columns
        ('en', 'fr')
    """

    def __init__(
        self,
        directions: list[str],
        backbone: BackboneConfig = TransformerConfig(),
        tokenizer: TokenizerConfig = TokenizerConfig(),
        optimizer: OptimizerConfig = Adam(),
        schedule: Schedule = Schedule(),
        label_smoothing: float = 0.1,
        decoding: Decoding = Decoding(),
        validation_decoding: Decoding = Decoding(beam=1),
        vectors: str | None = None,
        compile: bool = False,
        init_from: str | None = None,
        freeze: tuple[str, ...] = (),
    ) -> None:
        task = TranslationTask(directions, label_smoothing)  # type: ignore[arg-type]  # it makes a tuple of it
        super().__init__(
            {task.name: task},
            backbone,
            tokenizer,
            optimizer,
            schedule,
            decoding,
            validation_decoding,
            vectors,
            compile,
            init_from,
            freeze,
        )
