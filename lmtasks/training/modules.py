"""The modules named after tasks: TaskModule with one task, whose settings are their first parameters."""

from __future__ import annotations

from typing import Literal

from lmtasks.backbones.base import BackboneConfig
from lmtasks.backbones.recurrent import RecurrentConfig
from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.decoding import Decoding
from lmtasks.heads.classification import Pooling
from lmtasks.tasks.answering import SpanAnsweringTask
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.tasks.dialogue import DialogueTask
from lmtasks.tasks.free_answering import FreeAnsweringTask
from lmtasks.tasks.generation import GenerationTask
from lmtasks.tasks.summarisation import SummarisationTask
from lmtasks.tasks.tagging import TaggingTask
from lmtasks.tasks.translation import TranslationTask
from lmtasks.text.tokenizer import TokenizerConfig
from lmtasks.training.module import TaskModule
from lmtasks.training.optim.optimizers import Adam, OptimizerConfig, Schedule

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
            {task.kind: task},
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
            {task.kind: task},
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
            {task.kind: task},
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


class DialogueModule(TaskModule):
    """Reply to the turns of a dialogue.

    Args:
        history: Longest history in tokens; of a longer one the beginning is left out.
        language: Language of the replies (ISO 639), which says what a word is when they are scored.
        backbone: Architecture and sizes.
        tokenizer: How texts become token ids; trained on the training texts unless it names a file.
        optimizer: Optimiser with its settings.
        schedule: Learning rate over the steps.
        label_smoothing: Share of the target's probability spread over the vocabulary.
        decoding: How replies are searched in test, predict and use.
        validation_decoding: How they are searched in validation, where speed counts; greedy by default.
        vectors: A GloVe or word2vec text file from which embeddings start.
        compile: Let torch.compile make encode and decode faster; worth the minutes it takes on a GPU.
        init_from: A run, model folder or checkpoint from which tokenizer and backbone start.
        freeze: Names of parts that are not trained, such as backbone.encoder.

    Example:
        >>> from lmtasks import DialogueModule
        >>> DialogueModule(history=64).task.columns
        ('turns',)
    """

    def __init__(
        self,
        history: int = 128,
        language: str = "en",
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
        task = DialogueTask(history, language, label_smoothing)
        super().__init__(
            {task.kind: task},
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


GPT = TransformerConfig(encoder_layers=0, decoder_layers=4, positions="rotary")
SAMPLING = Decoding(beam=1, sample=True, top_p=0.95, max_length=200, max_ratio=0.0)
FIXED_SAMPLING = Decoding(beam=1, sample=True, top_p=0.95, max_length=100, max_ratio=0.0, seed=1)


class TextGenerationModule(TaskModule):
    """Go on from a text, or begin one.

    Args:
        block: Tokens of a block, which are predicted together.
        overlap: Tokens before a block that are read with it, not scored.
        prompt: Tokens of a block that an encoder reads, the others being written; 0 = a language model, which has no
            encoder.
        language: Language of the texts (ISO 639), which says what a word is when words are counted.
        backbone: Architecture and sizes; with a prompt it needs an encoder.
        tokenizer: How texts become token ids; trained on the training texts unless it names a file.
        optimizer: Optimiser with its settings.
        schedule: Learning rate over the steps.
        decoding: How texts are drawn in test, predict and use.
        validation_decoding: How the few are drawn that a validation shows; always alike, with a seed.
        vectors: A GloVe or word2vec text file from which embeddings start.
        compile: Let torch.compile make encode and decode faster; worth the minutes it takes on a GPU.
        init_from: A run, model folder or checkpoint from which tokenizer and backbone start.
        freeze: Names of parts that are not trained, such as backbone.encoder.

    Example:
        >>> from lmtasks import TextGenerationModule
        >>> TextGenerationModule(block=64).task.columns
        ('text',)
    """

    def __init__(
        self,
        block: int = 256,
        overlap: int = 1,
        prompt: int = 0,
        language: str = "en",
        backbone: BackboneConfig = GPT,
        tokenizer: TokenizerConfig = TokenizerConfig(),
        optimizer: OptimizerConfig = Adam(),
        schedule: Schedule = Schedule(),
        decoding: Decoding = SAMPLING,
        validation_decoding: Decoding = FIXED_SAMPLING,
        vectors: str | None = None,
        compile: bool = False,
        init_from: str | None = None,
        freeze: tuple[str, ...] = (),
    ) -> None:
        task = GenerationTask(block, overlap, prompt, language)
        super().__init__(
            {task.kind: task},
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


class SummarisationModule(TaskModule):
    """Write a short text that says what a long one says.

    Args:
        language: Language of the summaries (ISO 639), which says what a word is when they are scored.
        backbone: Architecture and sizes.
        tokenizer: How texts become token ids; trained on the training texts unless it names a file.
        optimizer: Optimiser with its settings.
        schedule: Learning rate over the steps.
        label_smoothing: Share of the target's probability spread over the vocabulary.
        decoding: How summaries are searched in test, predict and use.
        validation_decoding: How they are searched in validation, where speed counts; greedy by default.
        vectors: A GloVe or word2vec text file from which embeddings start.
        compile: Let torch.compile make encode and decode faster; worth the minutes it takes on a GPU.
        init_from: A run, model folder or checkpoint from which tokenizer and backbone start.
        freeze: Names of parts that are not trained, such as backbone.encoder.

    Example:
        >>> from lmtasks import SummarisationModule
        >>> SummarisationModule().task.columns
        ('text', 'summary')
    """

    def __init__(
        self,
        language: str = "en",
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
        task = SummarisationTask(language, label_smoothing)
        super().__init__(
            {task.kind: task},
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
            {task.kind: task},
            backbone,
            tokenizer,
            optimizer,
            schedule,
            vectors=vectors,
            compile=compile,
            init_from=init_from,
            freeze=freeze,
        )


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
            {task.kind: task},
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
