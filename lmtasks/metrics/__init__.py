"""Metrics: plain functions from predictions and references to a `Score`, and each as a `torchmetrics.Metric`.

Names are loaded when they are first used (PEP 562): a model in use scores nothing and need not load sacrebleu.
"""
# ruff: noqa: F401

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtasks.lazy import exports

if TYPE_CHECKING:
    from lmtasks.metrics.answers import answer_f1, best_threshold, exact_match, squad
    from lmtasks.metrics.dialogue import distinct
    from lmtasks.metrics.entities import Entity, entity_scores
    from lmtasks.metrics.labels import ConfusionScore, label_scores, multi_label_scores
    from lmtasks.metrics.score import LabelledScore, Score
    from lmtasks.metrics.summary import rouge, rouge_f1
    from lmtasks.metrics.text import bits_per_character, perplexity, token_probability
    from lmtasks.metrics.translation import bleu, chrf, ter
    from lmtasks.metrics.wrappers import (
        BLEU,
        CHRF,
        ROUGE,
        TER,
        BitsPerCharacter,
        Distinct,
        Entities,
        Labels,
        MultiLabels,
        Perplexity,
        SQuAD,
    )

_FILES = {
    "answers": "answer_f1 best_threshold exact_match squad",
    "dialogue": "distinct",
    "entities": "Entity entity_scores",
    "labels": "ConfusionScore label_scores multi_label_scores",
    "score": "LabelledScore Score",
    "summary": "rouge rouge_f1",
    "text": "bits_per_character perplexity token_probability",
    "translation": "bleu chrf ter",
    "wrappers": "BLEU CHRF ROUGE TER BitsPerCharacter Distinct Entities Labels MultiLabels Perplexity SQuAD",
}  # the file that defines the names

_HOMES = {name: file for file, names in _FILES.items() for name in names.split()}

__all__ = list(_HOMES)

__getattr__, __dir__ = exports(__name__, _HOMES)
