"""Metrics: `torchmetrics.Metric`s whose states add up, each usable without the rest of the library."""

from lmtasks.metrics.translation import BLEU, CHRF, TER

__all__ = ["BLEU", "CHRF", "TER"]
