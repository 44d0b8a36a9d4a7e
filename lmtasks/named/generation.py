"""TextGenerationModule: TaskModule with the settings of text generation."""

from __future__ import annotations

from lmtasks.backbones.base import BackboneConfig
from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.decoding import Decoding
from lmtasks.module import TaskModule
from lmtasks.optim import Adam, OptimizerConfig, Schedule
from lmtasks.tasks.generation import GenerationTask
from lmtasks.text.tokenizer import TokenizerConfig

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
