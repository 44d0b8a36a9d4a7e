"""lmtasks: small strong task models on one attention encoder-decoder backbone.

Names are loaded when they are first used (PEP 562), so that `import lmtasks` costs nothing: backbones and heads bring
torch, modules bring Lightning.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from lmtasks.lazy import exports

if TYPE_CHECKING:
    from lmtasks.backbones.recurrent import RecurrentConfig
    from lmtasks.backbones.transformer import TransformerConfig
    from lmtasks.batch import Batch
    from lmtasks.data.mixing import Mixing
    from lmtasks.data.readers.documents import Documents
    from lmtasks.data.readers.parallel import ParallelText
    from lmtasks.data.readers.squad import SquadFile
    from lmtasks.data.readers.table import Table
    from lmtasks.data.readers.tagged import TaggedWords
    from lmtasks.decoding import Decoding
    from lmtasks.heads.classification import ClassificationHead
    from lmtasks.heads.language_model import LanguageModelHead
    from lmtasks.heads.seq2seq import Seq2SeqHead
    from lmtasks.heads.span import SpanHead
    from lmtasks.heads.tagging import TaggingHead
    from lmtasks.model import Model
    from lmtasks.storage.model_folder import load, save
    from lmtasks.tasks.answering import SpanAnsweringTask
    from lmtasks.tasks.classification import ClassificationTask
    from lmtasks.tasks.dialogue import DialogueTask
    from lmtasks.tasks.free_answering import FreeAnsweringTask
    from lmtasks.tasks.generation import GenerationTask
    from lmtasks.tasks.summarisation import SummarisationTask
    from lmtasks.tasks.tagging import TaggingTask
    from lmtasks.tasks.translation import TranslationTask
    from lmtasks.text.tokenizer import Tokenizer, TokenizerConfig
    from lmtasks.training.datamodule import TextDataModule
    from lmtasks.training.joint.learning import JointConfig
    from lmtasks.training.module import TaskModule
    from lmtasks.training.modules import (
        ClassificationModule,
        DialogueModule,
        FreeAnsweringModule,
        QuestionAnsweringModule,
        SentimentModule,
        SummarisationModule,
        TaggingModule,
        TextGenerationModule,
        TranslationModule,
    )
    from lmtasks.village import Village

_HOMES = {
    "Batch": "batch",
    "ClassificationHead": "heads.classification",
    "ClassificationModule": "training.modules",
    "ClassificationTask": "tasks.classification",
    "Decoding": "decoding",
    "DialogueModule": "training.modules",
    "DialogueTask": "tasks.dialogue",
    "Documents": "data.readers.documents",
    "FreeAnsweringModule": "training.modules",
    "FreeAnsweringTask": "tasks.free_answering",
    "GenerationTask": "tasks.generation",
    "JointConfig": "training.joint.learning",
    "LanguageModelHead": "heads.language_model",
    "Mixing": "data.mixing",
    "Model": "model",
    "ParallelText": "data.readers.parallel",
    "QuestionAnsweringModule": "training.modules",
    "RecurrentConfig": "backbones.recurrent",
    "SentimentModule": "training.modules",
    "Seq2SeqHead": "heads.seq2seq",
    "SpanAnsweringTask": "tasks.answering",
    "SpanHead": "heads.span",
    "SquadFile": "data.readers.squad",
    "SummarisationModule": "training.modules",
    "SummarisationTask": "tasks.summarisation",
    "Table": "data.readers.table",
    "TaggedWords": "data.readers.tagged",
    "TaggingHead": "heads.tagging",
    "TaggingModule": "training.modules",
    "TaggingTask": "tasks.tagging",
    "TaskModule": "training.module",
    "TextDataModule": "training.datamodule",
    "TextGenerationModule": "training.modules",
    "Tokenizer": "text.tokenizer",
    "TokenizerConfig": "text.tokenizer",
    "TransformerConfig": "backbones.transformer",
    "TranslationModule": "training.modules",
    "TranslationTask": "tasks.translation",
    "Village": "village",
    "load": "storage.model_folder",
    "save": "storage.model_folder",
}  # exported name -> the file that defines it

__all__ = [  # the keys of _HOMES, written out for readers and type checkers
    "Batch",
    "ClassificationHead",
    "ClassificationModule",
    "ClassificationTask",
    "Decoding",
    "DialogueModule",
    "DialogueTask",
    "Documents",
    "FreeAnsweringModule",
    "FreeAnsweringTask",
    "GenerationTask",
    "JointConfig",
    "LanguageModelHead",
    "Mixing",
    "Model",
    "ParallelText",
    "QuestionAnsweringModule",
    "RecurrentConfig",
    "SentimentModule",
    "Seq2SeqHead",
    "SpanAnsweringTask",
    "SpanHead",
    "SquadFile",
    "SummarisationModule",
    "SummarisationTask",
    "Table",
    "TaggedWords",
    "TaggingHead",
    "TaggingModule",
    "TaggingTask",
    "TaskModule",
    "TextDataModule",
    "TextGenerationModule",
    "Tokenizer",
    "TokenizerConfig",
    "TransformerConfig",
    "TranslationModule",
    "TranslationTask",
    "Village",
    "load",
    "save",
]

try:
    __version__ = version("lmtasks")
except PackageNotFoundError:  # a source checkout that was never installed
    __version__ = "0+unknown"

__getattr__, __dir__ = exports(__name__, _HOMES)
