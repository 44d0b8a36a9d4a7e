"""lmtasks: small strong task models on one attention encoder-decoder backbone.

Names are loaded when they are first used (PEP 562), so that `import lmtasks` costs nothing: backbones and heads bring
torch, modules bring Lightning. The table of exported names is also what saved models name their settings by.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from lmtasks.lazy import exports

if TYPE_CHECKING:
    from lmtasks.backbones.base import Backbone as Backbone
    from lmtasks.backbones.base import BackboneConfig as BackboneConfig
    from lmtasks.backbones.recurrent import RecurrentConfig as RecurrentConfig
    from lmtasks.backbones.transformer import TransformerConfig as TransformerConfig
    from lmtasks.batch import Batch as Batch
    from lmtasks.data.mixing import Mixing as Mixing
    from lmtasks.data.readers.documents import Documents as Documents
    from lmtasks.data.readers.parallel import ParallelText as ParallelText
    from lmtasks.data.readers.squad import SquadFile as SquadFile
    from lmtasks.data.readers.table import Table as Table
    from lmtasks.data.readers.tagged import TaggedWords as TaggedWords
    from lmtasks.decoding import Decoding as Decoding
    from lmtasks.errors import InputError as InputError
    from lmtasks.heads.classification import ClassificationHead as ClassificationHead
    from lmtasks.heads.language_model import LanguageModelHead as LanguageModelHead
    from lmtasks.heads.seq2seq import Seq2SeqHead as Seq2SeqHead
    from lmtasks.heads.span import SpanHead as SpanHead
    from lmtasks.heads.tagging import TaggingHead as TaggingHead
    from lmtasks.model import Model as Model
    from lmtasks.predict import Predictor as Predictor
    from lmtasks.storage.model_folder import load as load
    from lmtasks.storage.model_folder import save as save
    from lmtasks.tasks.answering import SpanAnsweringTask as SpanAnsweringTask
    from lmtasks.tasks.base import Task as Task
    from lmtasks.tasks.classification import ClassificationTask as ClassificationTask
    from lmtasks.tasks.dialogue import DialogueTask as DialogueTask
    from lmtasks.tasks.free_answering import FreeAnsweringTask as FreeAnsweringTask
    from lmtasks.tasks.generation import GenerationTask as GenerationTask
    from lmtasks.tasks.summarisation import SummarisationTask as SummarisationTask
    from lmtasks.tasks.tagging import TaggingTask as TaggingTask
    from lmtasks.tasks.translation import TranslationTask as TranslationTask
    from lmtasks.text.tokenizer import Tokenizer as Tokenizer
    from lmtasks.text.tokenizer import TokenizerConfig as TokenizerConfig
    from lmtasks.training.callbacks.averaging import EMA as EMA
    from lmtasks.training.callbacks.checkpoints import Checkpoints as Checkpoints
    from lmtasks.training.config import Training as Training
    from lmtasks.training.datamodule import TextDataModule as TextDataModule
    from lmtasks.training.joint.learning import JointConfig as JointConfig
    from lmtasks.training.joint.surgery import PCGrad as PCGrad
    from lmtasks.training.joint.surgery import UPGrad as UPGrad
    from lmtasks.training.joint.weighting import DynamicAverage as DynamicAverage
    from lmtasks.training.joint.weighting import GradNorm as GradNorm
    from lmtasks.training.joint.weighting import Static as Static
    from lmtasks.training.joint.weighting import Uncertainty as Uncertainty
    from lmtasks.training.module import TaskModule as TaskModule
    from lmtasks.training.modules import ClassificationModule as ClassificationModule
    from lmtasks.training.modules import DialogueModule as DialogueModule
    from lmtasks.training.modules import FreeAnsweringModule as FreeAnsweringModule
    from lmtasks.training.modules import QuestionAnsweringModule as QuestionAnsweringModule
    from lmtasks.training.modules import SentimentModule as SentimentModule
    from lmtasks.training.modules import SummarisationModule as SummarisationModule
    from lmtasks.training.modules import TaggingModule as TaggingModule
    from lmtasks.training.modules import TextGenerationModule as TextGenerationModule
    from lmtasks.training.modules import TranslationModule as TranslationModule
    from lmtasks.training.optim.optimizers import Adafactor as Adafactor
    from lmtasks.training.optim.optimizers import Adam as Adam
    from lmtasks.training.optim.optimizers import AdamW as AdamW
    from lmtasks.training.optim.optimizers import Muon as Muon
    from lmtasks.training.optim.schedule import Schedule as Schedule
    from lmtasks.village import Village as Village

_HOMES = {
    "Adafactor": "training.optim.optimizers",
    "Adam": "training.optim.optimizers",
    "AdamW": "training.optim.optimizers",
    "Backbone": "backbones.base",
    "BackboneConfig": "backbones.base",
    "Batch": "batch",
    "Checkpoints": "training.callbacks.checkpoints",
    "ClassificationHead": "heads.classification",
    "ClassificationModule": "training.modules",
    "ClassificationTask": "tasks.classification",
    "Decoding": "decoding",
    "DialogueModule": "training.modules",
    "DialogueTask": "tasks.dialogue",
    "Documents": "data.readers.documents",
    "DynamicAverage": "training.joint.weighting",
    "EMA": "training.callbacks.averaging",
    "FreeAnsweringModule": "training.modules",
    "FreeAnsweringTask": "tasks.free_answering",
    "GenerationTask": "tasks.generation",
    "GradNorm": "training.joint.weighting",
    "InputError": "errors",
    "JointConfig": "training.joint.learning",
    "LanguageModelHead": "heads.language_model",
    "Mixing": "data.mixing",
    "Model": "model",
    "Muon": "training.optim.optimizers",
    "PCGrad": "training.joint.surgery",
    "ParallelText": "data.readers.parallel",
    "Predictor": "predict",
    "QuestionAnsweringModule": "training.modules",
    "RecurrentConfig": "backbones.recurrent",
    "Schedule": "training.optim.schedule",
    "SentimentModule": "training.modules",
    "Seq2SeqHead": "heads.seq2seq",
    "SpanAnsweringTask": "tasks.answering",
    "SpanHead": "heads.span",
    "SquadFile": "data.readers.squad",
    "Static": "training.joint.weighting",
    "SummarisationModule": "training.modules",
    "SummarisationTask": "tasks.summarisation",
    "Table": "data.readers.table",
    "TaggedWords": "data.readers.tagged",
    "TaggingHead": "heads.tagging",
    "TaggingModule": "training.modules",
    "TaggingTask": "tasks.tagging",
    "Task": "tasks.base",
    "TaskModule": "training.module",
    "TextDataModule": "training.datamodule",
    "TextGenerationModule": "training.modules",
    "Tokenizer": "text.tokenizer",
    "TokenizerConfig": "text.tokenizer",
    "Training": "training.config",
    "TransformerConfig": "backbones.transformer",
    "TranslationModule": "training.modules",
    "TranslationTask": "tasks.translation",
    "UPGrad": "training.joint.surgery",
    "Uncertainty": "training.joint.weighting",
    "Village": "village",
    "load": "storage.model_folder",
    "save": "storage.model_folder",
}  # exported name -> the file that defines it

__all__ = sorted(_HOMES)

try:
    __version__ = version("lmtasks")
except PackageNotFoundError:  # a source checkout that was never installed
    __version__ = "0+unknown"

__getattr__, __dir__ = exports(__name__, _HOMES)
