"""Metrics: `torchmetrics.Metric`s whose states add up, each usable without the rest of the library."""

from lmtasks.metrics.answers import SQuAD
from lmtasks.metrics.dialogue import Distinct
from lmtasks.metrics.entities import Entities
from lmtasks.metrics.labels import Labels, MultiLabels
from lmtasks.metrics.summary import ROUGE
from lmtasks.metrics.text import BitsPerCharacter, Perplexity
from lmtasks.metrics.translation import BLEU, CHRF, TER

__all__ = [
    "BLEU",
    "CHRF",
    "ROUGE",
    "TER",
    "BitsPerCharacter",
    "Distinct",
    "Entities",
    "Labels",
    "MultiLabels",
    "Perplexity",
    "SQuAD",
]
