"""lmtasks: small strong task models on one attention encoder-decoder backbone.

Names are loaded when they are first used (PEP 562), so that `import lmtasks` costs nothing: backbones and heads bring
torch, modules bring Lightning. The table of exported names is also what saved models name their settings by.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from lmtasks.lazy import exports

if TYPE_CHECKING:
    from lmtasks.adapters import save_adapter as save_adapter
    from lmtasks.backbones.base import Backbone as Backbone, BackboneConfig as BackboneConfig
    from lmtasks.backbones.lora import LoRA as LoRA
    from lmtasks.backbones.recurrent import RecurrentConfig as RecurrentConfig
    from lmtasks.backbones.transformer import TransformerConfig as TransformerConfig
    from lmtasks.backbones.wrapped import WrappedEncoder as WrappedEncoder
    from lmtasks.batch import Batch as Batch
    from lmtasks.data.mixing import Mixing as Mixing
    from lmtasks.data.readers.documents import Documents as Documents
    from lmtasks.data.readers.memory import InMemory as InMemory
    from lmtasks.data.readers.parallel import ParallelText as ParallelText
    from lmtasks.data.readers.squad import SquadFile as SquadFile
    from lmtasks.data.readers.table import Table as Table
    from lmtasks.data.readers.tagged import TaggedWords as TaggedWords
    from lmtasks.decoding import Decoding as Decoding
    from lmtasks.errors import InputError as InputError
    from lmtasks.export.export import export_model as export_model
    from lmtasks.heads.classification import ClassificationHead as ClassificationHead
    from lmtasks.heads.language_model import LanguageModelHead as LanguageModelHead
    from lmtasks.heads.seq2seq import Seq2SeqHead as Seq2SeqHead
    from lmtasks.heads.span import SpanHead as SpanHead
    from lmtasks.heads.tagging import TaggingHead as TaggingHead
    from lmtasks.model import Model as Model
    from lmtasks.predict import Predictor as Predictor
    from lmtasks.pretrained.pretrained import Pretrained as Pretrained
    from lmtasks.storage.model_folder import load as load, save as save
    from lmtasks.tasks.answering import SpanAnsweringTask as SpanAnsweringTask
    from lmtasks.tasks.base import Task as Task
    from lmtasks.tasks.classification import ClassificationTask as ClassificationTask
    from lmtasks.tasks.dialogue import DialogueTask as DialogueTask
    from lmtasks.tasks.free_answering import FreeAnsweringTask as FreeAnsweringTask
    from lmtasks.tasks.generation import GenerationTask as GenerationTask
    from lmtasks.tasks.summarisation import SummarisationTask as SummarisationTask
    from lmtasks.tasks.tagging import TaggingTask as TaggingTask
    from lmtasks.tasks.text_to_text import TextToTextTask as TextToTextTask
    from lmtasks.tasks.translation import TranslationTask as TranslationTask
    from lmtasks.text.pretrained import Framing as Framing, PretrainedTokenizer as PretrainedTokenizer
    from lmtasks.text.tokenizer import Tokenizer as Tokenizer, TokenizerConfig as TokenizerConfig
    from lmtasks.training.callbacks.averaging import EMA as EMA
    from lmtasks.training.callbacks.checkpoints import Checkpoints as Checkpoints
    from lmtasks.training.config import Training as Training
    from lmtasks.training.datamodule import TextDataModule as TextDataModule
    from lmtasks.training.joint.learning import JointConfig as JointConfig
    from lmtasks.training.joint.surgery import PCGrad as PCGrad, UPGrad as UPGrad
    from lmtasks.training.joint.weighting import (
        DynamicAverage as DynamicAverage,
        GradNorm as GradNorm,
        Static as Static,
        Uncertainty as Uncertainty,
    )
    from lmtasks.training.module import TaskModule as TaskModule
    from lmtasks.training.modules import (
        ClassificationModule as ClassificationModule,
        DialogueModule as DialogueModule,
        FreeAnsweringModule as FreeAnsweringModule,
        QuestionAnsweringModule as QuestionAnsweringModule,
        SentimentModule as SentimentModule,
        SummarisationModule as SummarisationModule,
        TaggingModule as TaggingModule,
        TextGenerationModule as TextGenerationModule,
        TranslationModule as TranslationModule,
    )
    from lmtasks.training.optim.optimizers import Adafactor as Adafactor, Adam as Adam, AdamW as AdamW, Muon as Muon
    from lmtasks.training.optim.schedule import Schedule as Schedule
    from lmtasks.village import Village as Village

_FILES = {
    "adapters": ("save_adapter",),
    "backbones.base": ("Backbone", "BackboneConfig"),
    "backbones.lora": ("LoRA",),
    "backbones.recurrent": ("RecurrentConfig",),
    "backbones.transformer": ("TransformerConfig",),
    "backbones.wrapped": ("WrappedEncoder",),
    "batch": ("Batch",),
    "data.mixing": ("Mixing",),
    "data.readers.documents": ("Documents",),
    "data.readers.memory": ("InMemory",),
    "data.readers.parallel": ("ParallelText",),
    "data.readers.squad": ("SquadFile",),
    "data.readers.table": ("Table",),
    "data.readers.tagged": ("TaggedWords",),
    "decoding": ("Decoding",),
    "errors": ("InputError",),
    "export.export": ("export_model",),
    "heads.classification": ("ClassificationHead",),
    "heads.language_model": ("LanguageModelHead",),
    "heads.seq2seq": ("Seq2SeqHead",),
    "heads.span": ("SpanHead",),
    "heads.tagging": ("TaggingHead",),
    "model": ("Model",),
    "predict": ("Predictor",),
    "pretrained.pretrained": ("Pretrained",),
    "storage.model_folder": ("load", "save"),
    "tasks.answering": ("SpanAnsweringTask",),
    "tasks.base": ("Task",),
    "tasks.classification": ("ClassificationTask",),
    "tasks.dialogue": ("DialogueTask",),
    "tasks.free_answering": ("FreeAnsweringTask",),
    "tasks.generation": ("GenerationTask",),
    "tasks.summarisation": ("SummarisationTask",),
    "tasks.tagging": ("TaggingTask",),
    "tasks.text_to_text": ("TextToTextTask",),
    "tasks.translation": ("TranslationTask",),
    "text.pretrained": ("Framing", "PretrainedTokenizer"),
    "text.tokenizer": ("Tokenizer", "TokenizerConfig"),
    "training.callbacks.averaging": ("EMA",),
    "training.callbacks.checkpoints": ("Checkpoints",),
    "training.config": ("Training",),
    "training.datamodule": ("TextDataModule",),
    "training.joint.learning": ("JointConfig",),
    "training.joint.surgery": ("PCGrad", "UPGrad"),
    "training.joint.weighting": ("DynamicAverage", "GradNorm", "Static", "Uncertainty"),
    "training.module": ("TaskModule",),
    "training.modules": (
        "ClassificationModule",
        "DialogueModule",
        "FreeAnsweringModule",
        "QuestionAnsweringModule",
        "SentimentModule",
        "SummarisationModule",
        "TaggingModule",
        "TextGenerationModule",
        "TranslationModule",
    ),
    "training.optim.optimizers": ("Adafactor", "Adam", "AdamW", "Muon"),
    "training.optim.schedule": ("Schedule",),
    "village": ("Village",),
}  # file -> the names it exports, in the order of `if TYPE_CHECKING`
_HOMES = {name: file for file, names in _FILES.items() for name in names}

__all__ = sorted(_HOMES)

try:
    __version__ = version("lmtasks")
except PackageNotFoundError:  # a source checkout that was never installed
    __version__ = "0+unknown"

__getattr__, __dir__ = exports(__name__, _HOMES)
