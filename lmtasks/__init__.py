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
    from lmtasks.data.documents import Documents
    from lmtasks.data.mixing import Mixing
    from lmtasks.data.module import TextDataModule
    from lmtasks.data.parallel import ParallelText
    from lmtasks.data.squad import SquadFile
    from lmtasks.data.table import Table
    from lmtasks.data.tagged import TaggedWords
    from lmtasks.data.village import Village
    from lmtasks.decoding import Decoding
    from lmtasks.heads.classification import ClassificationHead
    from lmtasks.heads.language_model import LanguageModelHead
    from lmtasks.heads.seq2seq import Seq2SeqHead
    from lmtasks.heads.span import SpanHead
    from lmtasks.heads.tagging import TaggingHead
    from lmtasks.joint.learning import JointConfig
    from lmtasks.model import Model
    from lmtasks.module import TaskModule
    from lmtasks.named.answering import FreeAnsweringModule, QuestionAnsweringModule
    from lmtasks.named.classification import ClassificationModule, SentimentModule
    from lmtasks.named.dialogue import DialogueModule
    from lmtasks.named.generation import TextGenerationModule
    from lmtasks.named.summarisation import SummarisationModule
    from lmtasks.named.tagging import TaggingModule
    from lmtasks.named.translation import TranslationModule
    from lmtasks.saving import load, save
    from lmtasks.tasks.answering import SpanAnsweringTask
    from lmtasks.tasks.classification import ClassificationTask
    from lmtasks.tasks.dialogue import DialogueTask
    from lmtasks.tasks.free_answering import FreeAnsweringTask
    from lmtasks.tasks.generation import GenerationTask
    from lmtasks.tasks.summarisation import SummarisationTask
    from lmtasks.tasks.tagging import TaggingTask
    from lmtasks.tasks.translation import TranslationTask
    from lmtasks.text.tokenizer import Tokenizer, TokenizerConfig

_HOMES = {
    "Batch": "batch",
    "ClassificationHead": "heads.classification",
    "ClassificationModule": "named.classification",
    "ClassificationTask": "tasks.classification",
    "Decoding": "decoding",
    "DialogueModule": "named.dialogue",
    "DialogueTask": "tasks.dialogue",
    "Documents": "data.documents",
    "FreeAnsweringModule": "named.answering",
    "FreeAnsweringTask": "tasks.free_answering",
    "GenerationTask": "tasks.generation",
    "JointConfig": "joint.learning",
    "LanguageModelHead": "heads.language_model",
    "Mixing": "data.mixing",
    "Model": "model",
    "ParallelText": "data.parallel",
    "QuestionAnsweringModule": "named.answering",
    "RecurrentConfig": "backbones.recurrent",
    "SentimentModule": "named.classification",
    "Seq2SeqHead": "heads.seq2seq",
    "SpanAnsweringTask": "tasks.answering",
    "SpanHead": "heads.span",
    "SquadFile": "data.squad",
    "SummarisationModule": "named.summarisation",
    "SummarisationTask": "tasks.summarisation",
    "Table": "data.table",
    "TaggedWords": "data.tagged",
    "TaggingHead": "heads.tagging",
    "TaggingModule": "named.tagging",
    "TaggingTask": "tasks.tagging",
    "TaskModule": "module",
    "TextDataModule": "data.module",
    "TextGenerationModule": "named.generation",
    "Tokenizer": "text.tokenizer",
    "TokenizerConfig": "text.tokenizer",
    "TransformerConfig": "backbones.transformer",
    "TranslationModule": "named.translation",
    "TranslationTask": "tasks.translation",
    "Village": "data.village",
    "load": "saving",
    "save": "saving",
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
