"""QuestionAnsweringModule and FreeAnsweringModule: TaskModule with the settings of question answering."""

from __future__ import annotations

from lmtasks.backbones.base import BackboneConfig
from lmtasks.backbones.recurrent import RecurrentConfig
from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.decoding import Decoding
from lmtasks.module import TaskModule
from lmtasks.optim import Adam, OptimizerConfig, Schedule
from lmtasks.tasks.answering import SpanAnsweringTask
from lmtasks.tasks.free_answering import FreeAnsweringTask
from lmtasks.text.tokenizer import TokenizerConfig

READER = RecurrentConfig(decoder_layers=0)


class QuestionAnsweringModule(TaskModule):
    """Find the answer to a question in its context.

    Args:
        window: Longest source in tokens, question and both ends included; a longer context is read in several windows.
        stride: Tokens of the context from the beginning of a window to that of the next.
        no_answer: Whether a context may lack the answer; when not, one is always given.
        max_answer: Longest answer found, in tokens.
        language: Language of the answers (ISO 639), by whose rules they are scored.
        attention: Let question and context read each other above the encoder.
        word_match: Tell each token of the context whether the question has it too.
        dropout: Share of the features dropped above the encoder.
        backbone: Architecture and sizes; a decoder would have nothing to do.
        tokenizer: How texts become token ids; trained on the training texts unless it names a file.
        optimizer: Optimiser with its settings.
        schedule: Learning rate over the steps.
        vectors: A GloVe or word2vec text file from which embeddings start.
        compile: Let torch.compile make encode faster; worth the minutes it takes on a GPU.
        init_from: A run, model folder or checkpoint from which tokenizer and backbone start.
        freeze: Names of parts that are not trained, such as backbone.encoder.

    Example:
        >>> from lmtasks import QuestionAnsweringModule
        >>> QuestionAnsweringModule(no_answer=True).task.source_columns
        ('question', 'context')
    """

    def __init__(
        self,
        window: int = 256,
        stride: int = 128,
        no_answer: bool = False,
        max_answer: int = 30,
        language: str = "en",
        attention: bool = True,
        word_match: bool = True,
        dropout: float = 0.1,
        backbone: BackboneConfig = READER,
        tokenizer: TokenizerConfig = TokenizerConfig(),
        optimizer: OptimizerConfig = Adam(),
        schedule: Schedule = Schedule(),
        vectors: str | None = None,
        compile: bool = False,
        init_from: str | None = None,
        freeze: tuple[str, ...] = (),
    ) -> None:
        task = SpanAnsweringTask(window, stride, no_answer, max_answer, language, attention, word_match, dropout)
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


class FreeAnsweringModule(TaskModule):
    """Write the answer to a question about a context.

    Args:
        group_by: Column that says of which kind a question is; each kind is then scored by itself.
        language: Language of the answers (ISO 639), by whose rules they are scored.
        backbone: Architecture and sizes.
        tokenizer: How texts become token ids; trained on the training texts unless it names a file.
        optimizer: Optimiser with its settings.
        schedule: Learning rate over the steps.
        label_smoothing: Share of the target's probability spread over the vocabulary.
        decoding: How answers are searched in test, predict and use.
        validation_decoding: How they are searched in validation, where speed counts; greedy by default.
        vectors: A GloVe or word2vec text file from which embeddings start.
        compile: Let torch.compile make encode and decode faster; worth the minutes it takes on a GPU.
        init_from: A run, model folder or checkpoint from which tokenizer and backbone start.
        freeze: Names of parts that are not trained, such as backbone.encoder.

    Example:
        >>> from lmtasks import FreeAnsweringModule
        >>> FreeAnsweringModule().task.columns
        ('question', 'context', 'answers')
    """

    def __init__(
        self,
        group_by: str | None = None,
        language: str = "en",
        backbone: BackboneConfig = TransformerConfig(),
        tokenizer: TokenizerConfig = TokenizerConfig(),
        optimizer: OptimizerConfig = Adam(),
        schedule: Schedule = Schedule(),
        label_smoothing: float = 0.0,
        decoding: Decoding = Decoding(beam=1),
        validation_decoding: Decoding = Decoding(beam=1),
        vectors: str | None = None,
        compile: bool = False,
        init_from: str | None = None,
        freeze: tuple[str, ...] = (),
    ) -> None:
        task = FreeAnsweringTask(group_by, language, label_smoothing)
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
