"""The metrics as `torchmetrics.Metric`s, for your own training and test loops.

Each collects rows with `update` and scores all of them at once with the function that it is named after.

>>> bleu = BLEU(language="en")
>>> bleu.update(["The cat sits on the mat."], [["The cat sits on the mat."]])
>>> round(bleu.compute().item()), bleu.signature.split("|version")[0]
(100, 'nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp')
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lmtasks.metrics.answers import squad
from lmtasks.metrics.dialogue import distinct
from lmtasks.metrics.entities import entity_scores
from lmtasks.metrics.labels import ConfusionScore, label_scores, multi_label_scores
from lmtasks.metrics.score import LabelledScore, Score, check_references
from lmtasks.metrics.summary import rouge
from lmtasks.metrics.text import bits_per_character, perplexity
from lmtasks.metrics.translation import ORDER, bleu, check_translations, chrf, ter


class _Rows(Metric):
    """Keep rows as bytes, which torchmetrics gathers, copies, moves and pickles like any other state."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False  # forward() then updates once per batch, not twice
    rows: list[Tensor]
    function: Callable[..., Score]
    check: Callable[..., object] = staticmethod(check_references)
    columns = 2  # of a row: a prediction and its reference

    def __init__(self, sync_on_compute: bool, **settings: Any) -> None:
        super().__init__(sync_on_compute=sync_on_compute)
        self._settings = settings
        self._scored: tuple[bytes, Score] | None = None  # the rows scored last, and their score
        self.add_state("rows", [], dist_reduce_fx="cat")
        self.reset()
        self.score()  # refuses settings with faults now, not after an epoch

    @property
    def signature(self) -> str:
        """How the scores were computed, so that others can repeat them."""
        return self.score().signature

    def reset(self) -> None:
        """Forget all rows."""
        super().reset()
        # For a process without rows torchmetrics would send floats, while the others wait for bytes.
        self.rows = [torch.zeros(0, dtype=torch.uint8, device=self.device)]

    def update(self, predictions: Sequence[Any], references: Sequence[Any]) -> None:
        """Add rows of a prediction and its reference, in the form that the function takes.

        Raises: InputError if the function would refuse them.
        """
        self.check(predictions, references)
        self._add(predictions, references)

    def compute(self) -> Any:
        """Return the values of the score as tensors, name -> number; 0 if there are no rows."""
        return {name: torch.tensor(value, device=self.device) for name, value in self.score().values.items()}

    def score(self) -> Score:
        """Return the score of the rows that this process has."""
        data = bytes(dim_zero_cat(self.rows).cpu().numpy())
        if self._scored is None or self._scored[0] != data:
            rows = [json.loads(line) for line in data.splitlines()]
            columns = ([row[place] for row in rows] for place in range(self.columns))  # zip would lose them if no rows
            self._scored = data, self.function(*columns, **self._settings)
        return self._scored[1]

    def _add(self, *columns: Sequence[Any]) -> None:
        """Keep rows, a value of each column, as lines of JSON; sets, arrays and their numbers become plain values."""
        plain = partial(json.dumps, default=lambda value: value.tolist() if hasattr(value, "tolist") else list(value))
        # ASCII escapes ends of lines, so that a line is a row, and half a surrogate pair, which UTF-8 cannot hold.
        if lines := "".join(f"{plain(row)}\n" for row in zip(*columns, strict=True)):
            self.rows.append(torch.frombuffer(bytearray(lines, "ascii"), dtype=torch.uint8).to(self.device))


class _Translations(_Rows):
    check = staticmethod(check_translations)

    def compute(self) -> Tensor:
        """Return the score, 0 to 100 (TER may be more); 0 if there are no rows."""
        (value,) = super().compute().values()
        return value


class BLEU(_Translations):
    """Score translations as `bleu` does."""

    function = staticmethod(bleu)

    def __init__(
        self,
        language: str = "en",
        lowercase: bool = False,
        tokenize: str | None = None,
        order: int = ORDER,
        sync_on_compute: bool = True,
    ) -> None:
        super().__init__(sync_on_compute, language=language, lowercase=lowercase, tokenize=tokenize, order=order)


class CHRF(_Translations):
    """Score translations as `chrf` does."""

    function = staticmethod(chrf)

    def __init__(self, word_order: int = 0, sync_on_compute: bool = True) -> None:
        super().__init__(sync_on_compute, word_order=word_order)


class TER(_Translations):
    """Score translations as `ter` does."""

    function = staticmethod(ter)
    higher_is_better = False

    def __init__(self, language: str = "en", sync_on_compute: bool = True) -> None:
        super().__init__(sync_on_compute, language=language)


class _InLanguage(_Rows):
    def __init__(self, language: str = "en", sync_on_compute: bool = True) -> None:
        super().__init__(sync_on_compute, language=language)


class SQuAD(_InLanguage):
    """Score answers to questions as `squad` does."""

    function = staticmethod(squad)
    check = staticmethod(partial(check_references, least=0))  # a question may have no answer


class ROUGE(_InLanguage):
    """Score summaries as `rouge` does."""

    function = staticmethod(rouge)


class Distinct(_InLanguage):
    """Measure how varied answers are, as `distinct` does."""

    function = staticmethod(distinct)
    columns = 1

    def update(self, answers: Sequence[str]) -> None:  # type: ignore[override]  # answers have no references
        """Add answers."""
        self._add(answers)


class _Labelled(_Rows):
    def __init__(self, labels: Sequence[str], sync_on_compute: bool = True) -> None:
        super().__init__(sync_on_compute, labels=list(labels))
        self.labels = list(labels)

    def check(self, *columns: Sequence[Any]) -> None:
        """Refuse rows that cannot be scored, by scoring them, which takes as little time."""
        self.function(*columns, labels=self.labels)

    def by_label(self) -> dict[str, dict[str, float]]:
        """Return precision, recall, f1 and support of each label, for the rows that this process has."""
        return cast(LabelledScore, self.score()).by_label

    def table(self) -> str:
        """Return what `by_label` returns as a table for people."""
        return self.score().table


class Entities(_Labelled):
    """Score the entities of each row as `entity_scores` does."""

    function = staticmethod(entity_scores)


class Labels(_Labelled):
    """Score texts that have one label each as `label_scores` does."""

    function = staticmethod(label_scores)

    @property
    def confusion(self) -> Tensor:
        """The confusion matrix (C, C), actual by predicted label, of the rows that this process has."""
        return cast(ConfusionScore, self.score()).confusion.to(self.device)


class MultiLabels(_Labelled):
    """Score texts that have any number of labels each as `multi_label_scores` does."""

    function = staticmethod(multi_label_scores)


class Perplexity(Metric):
    """Measure the perplexity per token, or per word if words are counted.

    Source: Jelinek et al. (1977).
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    nll: Tensor
    count: Tensor
    function: Callable[[float, float], float] = staticmethod(perplexity)

    def __init__(self, sync_on_compute: bool = True) -> None:
        super().__init__(sync_on_compute=sync_on_compute)
        # float32 would round a sum over millions of tokens
        self.add_state("nll", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, nll: float | Tensor, count: int | Tensor) -> None:
        """Add a negative log-likelihood in nats, summed over `count` tokens, words or characters."""
        self.nll += nll
        self.count += count

    def compute(self) -> Tensor:
        """Return the number: without tokens the perplexity is 1 and the bits are 0."""
        return torch.tensor(self.function(self.nll.item(), self.count.item()), device=self.device)


class BitsPerCharacter(Perplexity):
    """Measure how many bits a model needs for each character of a text.

    Source: Graves (2013), section 3.1.
    """

    function = staticmethod(bits_per_character)
