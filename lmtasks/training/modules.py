"""The modules named after tasks: a TaskModule with one task.

Their parameters come in one order: the settings of the task, then `backbone`, `tokenizer`, `training`, and, for tasks
that write text, `decoding` and `validation_decoding`. These are the same everywhere and are explained in TaskModule.
"""

from __future__ import annotations

from typing import Literal

from lmtasks.backbones.base import BackboneConfig
from lmtasks.backbones.recurrent import RecurrentConfig
from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.decoding import Decoding
from lmtasks.heads.classification import Hidden, Pooling
from lmtasks.tasks.answering import SpanAnsweringTask
from lmtasks.tasks.base import Task
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.tasks.dialogue import DialogueTask
from lmtasks.tasks.free_answering import FreeAnsweringTask
from lmtasks.tasks.generation import GenerationTask
from lmtasks.tasks.summarisation import SummarisationTask
from lmtasks.tasks.tagging import TaggingTask
from lmtasks.tasks.translation import TranslationTask
from lmtasks.text.tokenizer import TokenizerConfig
from lmtasks.training.config import Training
from lmtasks.training.module import TaskModule

GREEDY = Decoding(beam=1)
GPT = TransformerConfig(encoder_layers=0, decoder_layers=4, positions="rotary")
SAMPLING = Decoding(beam=1, sample=True, top_p=0.95, max_length=200, max_ratio=0.0)
FIXED_SAMPLING = Decoding(beam=1, sample=True, top_p=0.95, max_length=100, max_ratio=0.0, seed=1)


def _only(task: Task) -> dict[str, Task]:
    return {task.kind: task}


class TranslationModule(TaskModule):
    """Translate in one direction or several.

    Args:
        directions: Source and target language with a hyphen between: [en-de], or several for one model.
        label_smoothing: Share of the target's probability spread over the vocabulary.
        backbone: Architecture and sizes.
        tokenizer: How texts become token ids; trained on the training texts unless it names a file.
        training: How it is trained.
        decoding: How translations are searched in test, predict and use.
        validation_decoding: How they are searched in validation, where speed counts; greedy by default.

    Example:
        >>> from lmtasks import TransformerConfig, TranslationModule
        >>> TranslationModule(["en-fr"], backbone=TransformerConfig(d_model=64, d_ff=128)).task.columns
        ('en', 'fr')
    """

    def __init__(
        self,
        directions: list[str],
        *,
        label_smoothing: float = 0.1,
        backbone: BackboneConfig = TransformerConfig(),
        tokenizer: TokenizerConfig = TokenizerConfig(),
        training: Training = Training(),
        decoding: Decoding = Decoding(),
        validation_decoding: Decoding = GREEDY,
    ) -> None:
        task = TranslationTask(directions, label_smoothing=label_smoothing)  # type: ignore[arg-type]  # made a tuple
        super().__init__(_only(task), backbone, tokenizer, training, decoding, validation_decoding)


class TextGenerationModule(TaskModule):
    """Continue a text, or begin one.

    Args:
        block: Tokens of a block, which are predicted together.
        overlap: Tokens before a block that are read with it but not scored.
        prompt: Tokens of a block that an encoder reads, while the others are written; 0 = a language model, which has
            no encoder.
        language: Language of the texts (ISO 639), which decides what a word is when words are counted.
        backbone: Architecture and sizes; with a prompt it needs an encoder.
        tokenizer: How texts become token ids; trained on the training texts unless it names a file.
        training: How it is trained.
        decoding: How texts are drawn in test, predict and use.
        validation_decoding: How the few are drawn that a validation shows; with a seed, so that they compare.

    Example:
        >>> from lmtasks import TextGenerationModule
        >>> TextGenerationModule(block=64).task.columns
        ('text',)
    """

    def __init__(
        self,
        *,
        block: int = 256,
        overlap: int = 1,
        prompt: int = 0,
        language: str = "en",
        backbone: BackboneConfig = GPT,
        tokenizer: TokenizerConfig = TokenizerConfig(),
        training: Training = Training(),
        decoding: Decoding = SAMPLING,
        validation_decoding: Decoding = FIXED_SAMPLING,
    ) -> None:
        task = GenerationTask(block, overlap, prompt, language)
        super().__init__(_only(task), backbone, tokenizer, training, decoding, validation_decoding)


class QuestionAnsweringModule(TaskModule):
    """Find the answer to a question in its context.

    Args:
        window: Longest source in tokens, question and both ends included; a longer context is read in several windows.
        stride: Tokens of the context from the beginning of a window to that of the next.
        no_answer: Whether a context may lack the answer; if not, one is always given.
        max_answer: Longest answer found, in tokens.
        language: Language of the answers (ISO 639), which decides the rules of their scores.
        attention: Let question and context read each other above the encoder.
        word_match: Tell each token of the context whether the question has it too.
        dropout: Share of the features dropped above the encoder.
        layers: Bidirectional LSTM layers above that; 0 suits a pretrained encoder.
        backbone: Architecture and sizes; a decoder would have nothing to do.
        tokenizer: How texts become token ids; trained on the training texts unless it names a file.
        training: How it is trained.

    Example:
        >>> from lmtasks import QuestionAnsweringModule
        >>> QuestionAnsweringModule(no_answer=True).task.source_columns
        ('question', 'context')
    """

    def __init__(
        self,
        *,
        window: int = 256,
        stride: int = 128,
        no_answer: bool = False,
        max_answer: int = 30,
        language: str = "en",
        attention: bool = True,
        word_match: bool = True,
        dropout: float = 0.1,
        layers: int = 1,
        backbone: BackboneConfig = RecurrentConfig(decoder_layers=0),
        tokenizer: TokenizerConfig = TokenizerConfig(),
        training: Training = Training(),
    ) -> None:
        task = SpanAnsweringTask(
            window, stride, no_answer, max_answer, language, attention, word_match, dropout, layers
        )
        super().__init__(_only(task), backbone, tokenizer, training)


class FreeAnsweringModule(TaskModule):
    """Write the answer to a question about a context.

    Args:
        group_by: Column that gives the kind of a question; each kind is then scored by itself.
        language: Language of the answers (ISO 639), which decides the rules of their scores.
        label_smoothing: Share of the target's probability spread over the vocabulary.
        backbone: Architecture and sizes.
        tokenizer: How texts become token ids; trained on the training texts unless it names a file.
        training: How it is trained.
        decoding: How answers are searched in test, predict and use.
        validation_decoding: How they are searched in validation.

    Example:
        >>> from lmtasks import FreeAnsweringModule
        >>> FreeAnsweringModule().task.columns
        ('question', 'context', 'answers')
    """

    def __init__(
        self,
        *,
        group_by: str | None = None,
        language: str = "en",
        label_smoothing: float = 0.0,
        backbone: BackboneConfig = TransformerConfig(),
        tokenizer: TokenizerConfig = TokenizerConfig(),
        training: Training = Training(),
        decoding: Decoding = GREEDY,
        validation_decoding: Decoding = GREEDY,
    ) -> None:
        task = FreeAnsweringTask(group_by, language, label_smoothing=label_smoothing)
        super().__init__(_only(task), backbone, tokenizer, training, decoding, validation_decoding)


class ClassificationModule(TaskModule):
    """Choose the label of a text: its sentiment, topic or kind.

    Args:
        multi_label: Whether a text may have several labels, or none.
        pair: Whether a row has two texts to be read together, "text" and "pair".
        balanced: Let rare labels count as much as frequent ones.
        main: The score that chooses the best checkpoint.
        pooling: What represents the text: the mean of its token states, the maximum of each feature, the first one, or
            a mean weighted by attention.
        dropout: Share of the features of a text dropped.
        label_smoothing: Share of the probability spread over all labels.
        ngrams: Read sequences of letters beside the encoder's states, of 2 up to so many bytes; 0: none.
        hidden: Activation of a hidden layer between text and labels; none: no such layer.
        backbone: Architecture and sizes; an encoder is enough.
        tokenizer: How texts become token ids; trained on the training texts unless it names a file.
        training: How it is trained.

    Example:
        >>> from lmtasks import ClassificationModule
        >>> ClassificationModule(pair=True).task.columns
        ('text', 'pair', 'label')
    """

    def __init__(
        self,
        *,
        multi_label: bool = False,
        pair: bool = False,
        balanced: bool = False,
        main: Literal["accuracy", "macro_f1"] = "accuracy",
        pooling: Pooling = "mean",
        dropout: float = 0.3,
        label_smoothing: float = 0.0,
        ngrams: int = 0,
        hidden: Hidden = "none",
        backbone: BackboneConfig = TransformerConfig(decoder_layers=0),
        tokenizer: TokenizerConfig = TokenizerConfig(),
        training: Training = Training(),
    ) -> None:
        task = ClassificationTask(
            multi_label, pair, balanced, main, pooling, dropout, label_smoothing, ngrams=ngrams, hidden=hidden
        )
        super().__init__(_only(task), backbone, tokenizer, training)


class SentimentModule(ClassificationModule):
    """A ClassificationModule under the name of its most usual use."""


class TaggingModule(TaskModule):
    """Find the names in a text.

    Args:
        crf: Learn which tags follow which.
        spelling: Read the letters of each word beside its pieces; of no use where each word is a character.
        layers: Bidirectional LSTM layers over the words, above the backbone.
        dropout: Share of the features of a word dropped.
        case_marks: Put a token before each word with capitals, for a tokenizer that makes all letters small.
        backbone: Architecture and sizes; an encoder is enough.
        tokenizer: How words become token ids; trained on the training texts unless it names a file.
        training: How it is trained.

    Example:
        >>> from lmtasks import TaggingModule
        >>> TaggingModule().task.columns
        ('words', 'tags')
    """

    def __init__(
        self,
        *,
        crf: bool = True,
        spelling: bool = True,
        layers: int = 1,
        dropout: float = 0.3,
        case_marks: bool = False,
        backbone: BackboneConfig = RecurrentConfig(decoder_layers=0),
        tokenizer: TokenizerConfig = TokenizerConfig(),
        training: Training = Training(),
    ) -> None:
        task = TaggingTask(crf, spelling, layers, dropout, case_marks)
        super().__init__(_only(task), backbone, tokenizer, training)


class DialogueModule(TaskModule):
    """Reply to the turns of a dialogue.

    Args:
        history: Longest history in tokens; the beginning of a longer one is left out.
        language: Language of the replies (ISO 639), which decides what a word is in their scores.
        label_smoothing: Share of the target's probability spread over the vocabulary.
        turn_end: What ends each turn where a dialogue is one text, as in DailyDialog.
        backbone: Architecture and sizes.
        tokenizer: How texts become token ids; trained on the training texts unless it names a file.
        training: How it is trained.
        decoding: How replies are searched in test, predict and use.
        validation_decoding: How they are searched in validation, where speed counts; greedy by default.

    Example:
        >>> from lmtasks import DialogueModule
        >>> DialogueModule(history=64).task.columns
        ('turns',)
    """

    def __init__(
        self,
        *,
        history: int = 128,
        language: str = "en",
        label_smoothing: float = 0.1,
        turn_end: str = "__eou__",
        backbone: BackboneConfig = TransformerConfig(),
        tokenizer: TokenizerConfig = TokenizerConfig(),
        training: Training = Training(),
        decoding: Decoding = Decoding(),
        validation_decoding: Decoding = GREEDY,
    ) -> None:
        task = DialogueTask(history, language, label_smoothing=label_smoothing, turn_end=turn_end)
        super().__init__(_only(task), backbone, tokenizer, training, decoding, validation_decoding)


class SummarisationModule(TaskModule):
    """Write a short text that says what a long one says.

    Args:
        language: Language of the summaries (ISO 639), which decides what a word is in their scores.
        label_smoothing: Share of the target's probability spread over the vocabulary.
        backbone: Architecture and sizes.
        tokenizer: How texts become token ids; trained on the training texts unless it names a file.
        training: How it is trained.
        decoding: How summaries are searched in test, predict and use.
        validation_decoding: How they are searched in validation, where speed counts; greedy by default.

    Example:
        >>> from lmtasks import SummarisationModule
        >>> SummarisationModule().task.columns
        ('text', 'summary')
    """

    def __init__(
        self,
        *,
        language: str = "en",
        label_smoothing: float = 0.1,
        backbone: BackboneConfig = TransformerConfig(),
        tokenizer: TokenizerConfig = TokenizerConfig(),
        training: Training = Training(),
        decoding: Decoding = Decoding(),
        validation_decoding: Decoding = GREEDY,
    ) -> None:
        task = SummarisationTask(language, label_smoothing=label_smoothing)
        super().__init__(_only(task), backbone, tokenizer, training, decoding, validation_decoding)
