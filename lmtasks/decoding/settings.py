"""The settings of a search, and the hypotheses that it finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lmtasks.checked import Checked
from lmtasks.errors import InputError


@dataclass(frozen=True)
class Decoding(Checked):
    """How to turn a model's probabilities into a text: greedy (beam 1), beam search, or sampling.

    Example:
        >>> Decoding(beam=1, sample=True, top_p=0.9, seed=7).early_stop
        'exact'

    Raises: InputError for settings that contradict each other.
    """

    setting = "decoding"

    beam: int = 5
    """Hypotheses of one source followed side by side; 1 = greedy, which takes the best token at each step."""
    length_penalty: float = 1.0
    """Exponent of the length in score = log p / length ** length_penalty; 0 prefers short texts, 1 takes the mean."""
    n_best: int = 1
    """Hypotheses returned for each source; with `sample`, independent samples."""
    max_length: int = 256
    """Longest text in tokens, counting prefix and end but not a prompt; a hypothesis of this length must end.

    That of transformers also counts the first token that the decoder reads, and may cut a text off."""
    max_ratio: float = 4.0
    """Most target tokens for each source token, plus 10, which stops a model that repeats itself; 0 = no such limit."""
    min_length: int = 0
    """Shortest text in tokens, counting prefix and end but not a prompt."""
    early_stop: Literal["exact", "beam", "estimate"] = "exact"
    """Stop a source when no open hypothesis can still beat the n best (exact), when `beam` have ended (beam), or when
    the best open one, as it is now, does not beat the worst of the `beam` best that have ended (estimate)."""
    sample: bool = False
    """Draw each token at random from the model's distribution instead of searching for a likely text; needs beam 1."""
    temperature: float = 1.0
    """Divisor of the logits before a draw; below 1 sharpens the distribution, above 1 flattens it."""
    top_k: int = 0
    """Draw from this many most likely tokens only (Fan et al. 2018); 0 = from all."""
    top_p: float = 1.0
    """Draw from the fewest tokens that hold this share of probability (Holtzman et al. 2020); 1 = from all."""
    min_p: float = 0.0
    """Draw from tokens at least this share as likely as the likeliest one (Nguyen et al. 2024); 0 = from all."""
    seed: int | None = None
    """Number that fixes the samples of every text, whatever its place and batch: equal texts have equal samples.
    Without it they follow torch.manual_seed, and each row has samples of its own."""
    repetition_penalty: float = 1.0
    """Factor that makes tokens already produced less likely (Keskar et al. 2019, section 4.1); 1 = none."""
    no_repeat_ngram: int = 0
    """Never produce the same sequence of this many tokens twice (Paulus et al. 2018); 0 = allow it."""

    def __post_init__(self) -> None:
        if self.top_p == 0:
            raise InputError("decoding.top_p is 0; give a share above 0 and at most 1 (1 = all tokens)")
        if self.min_length > self.max_length:
            raise InputError(f"decoding.min_length {self.min_length} is above max_length {self.max_length}; lower it")
        if self.sample and self.beam > 1:
            raise InputError(f"decoding.sample draws at random and cannot follow a beam of {self.beam}; set beam to 1")
        if not self.sample and self.n_best > self.beam:
            raise InputError(
                f"decoding.n_best is {self.n_best} but beam is {self.beam}; raise beam to {self.n_best} or lower n_best"
            )
        if not self.sample:
            neutral = (("temperature", 1.0), ("top_k", 0), ("top_p", 1.0), ("min_p", 0.0))
            changed = [name for name, value in neutral if getattr(self, name) != value]
            if changed:
                raise InputError(f"decoding.{changed[0]} is for sampling; set sample to true and beam to 1, or drop it")


@dataclass(frozen=True)
class Hypothesis:
    """A text that a search found."""

    tokens: list[int]
    """Token ids, including the prefix, without start and end."""
    score: float
    """log_probability / length ** length_penalty, where the length counts the prefix and the end token."""
    log_probability: float
    """Natural logarithm of the model's probability of the tokens after the prefix, including the end token."""

    @classmethod
    def of(cls, tokens: list[int], log_probability: float, length_penalty: float) -> Hypothesis:
        """Return the hypothesis with its score."""
        return cls(tokens, log_probability / (len(tokens) + 1) ** length_penalty, log_probability)


def best_first(hypotheses: list[Hypothesis]) -> list[Hypothesis]:
    """Return hypotheses by falling score; equal ones keep their order."""
    return sorted(hypotheses, key=lambda hypothesis: -hypothesis.score)
