"""Metrics: `torchmetrics.Metric`s whose states add up, each usable without the rest of the library.

Names are loaded when they are first used (PEP 562): tasks name their metrics, and a model in use, which scores nothing,
does without torchmetrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtasks.lazy import exports

if TYPE_CHECKING:
    from lmtasks.metrics.answers import SQuAD, best_threshold
    from lmtasks.metrics.dialogue import Distinct
    from lmtasks.metrics.entities import Entities, Entity
    from lmtasks.metrics.labels import Labels, MultiLabels, draw_confusion
    from lmtasks.metrics.summary import ROUGE
    from lmtasks.metrics.text import BitsPerCharacter, Perplexity, bits_per_character, perplexity, token_probability
    from lmtasks.metrics.translation import BLEU, CHRF, TER

_HOMES = {
    "BLEU": "translation",
    "CHRF": "translation",
    "ROUGE": "summary",
    "TER": "translation",
    "BitsPerCharacter": "text",
    "Distinct": "dialogue",
    "Entities": "entities",
    "Entity": "entities",
    "Labels": "labels",
    "MultiLabels": "labels",
    "Perplexity": "text",
    "SQuAD": "answers",
    "best_threshold": "answers",
    "bits_per_character": "text",
    "draw_confusion": "labels",
    "perplexity": "text",
    "token_probability": "text",
}  # exported name -> the file that defines it

__all__ = [  # the keys of _HOMES, written out for readers and type checkers
    "BLEU",
    "CHRF",
    "ROUGE",
    "TER",
    "BitsPerCharacter",
    "Distinct",
    "Entities",
    "Entity",
    "Labels",
    "MultiLabels",
    "Perplexity",
    "SQuAD",
    "best_threshold",
    "bits_per_character",
    "draw_confusion",
    "perplexity",
    "token_probability",
]

__getattr__, __dir__ = exports(__name__, _HOMES)
