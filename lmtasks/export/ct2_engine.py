"""Run a model of CTranslate2: its encoder as a backbone for our heads, and its own search for tasks that write.

Its search ends when some hypotheses have ended: as many as `beam`, which is our early_stop "beam", or twice as many for
"exact", which finds the same text nearly always. Where it bans tokens it shares their probability among the others, and
a text at its greatest length is cut; ours keep the probabilities of the model, and must end. So a text is searched
without bans, again with them if it has such a token, and then, or if it was cut, scored once more.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lmtasks.backbones.base import Backbone, BackboneConfig, Memory
from lmtasks.backbones.transformer import TransformerConfig, segments_of
from lmtasks.batch import Batch
from lmtasks.decoding import Decoding, Hypothesis
from lmtasks.decoding.rules import FLOOR
from lmtasks.decoding.search import length_limit
from lmtasks.decoding.settings import best_first
from lmtasks.errors import InputError, one_line
from lmtasks.export.ct2 import ENCODER_FOLDER, import_ct2, vocabulary
from lmtasks.export.shared import Shared, device_of
from lmtasks.heads.base import Head, Texts
from lmtasks.heads.language_model import LanguageModelHead, latest
from lmtasks.heads.seq2seq import Seq2SeqHead
from lmtasks.model import Model

OwnWriter = Seq2SeqHead | LanguageModelHead
PATIENCE = {"exact": 2.0, "beam": 1.0, "estimate": 1.0}  # hypotheses that end, as a multiple of the beam


class Ct2Backbone(Backbone):
    """The encoder of a model of CTranslate2; tasks that write have heads with a search of their own."""

    def __init__(self, config: BackboneConfig, encoder: Shared | None) -> None:
        super().__init__()
        assert isinstance(config, TransformerConfig)
        self.config, self.encoder = config, encoder

    @property
    def device(self) -> torch.device:
        """Where our heads compute."""
        return torch.device("cpu")

    def encode(self, source: Tensor, mask: Tensor) -> Memory:
        """Read source ids (B, S) with mask (B, S), True = a real token."""
        rows = [ids[:length] for ids, length in zip(source.tolist(), mask.sum(1).tolist(), strict=True)]
        config = self.config
        types = [segments_of(torch.tensor(row), config).tolist() for row in rows] if config.segments > 1 else None
        assert self.encoder is not None, "no task reads"
        states = np.array(self.encoder.session.forward_batch(rows, token_type_ids=types).last_hidden_state)
        return Memory(torch.from_numpy(states.astype(np.float32, copy=False)), mask)


def open_backbone(folder: Path, model: Model, device: str, threads: int) -> Ct2Backbone:
    """Return the backbone for a model, of which tasks and settings are read, and nothing else is there yet."""
    reads, writes = (any(task.generates is wanted for task in model.tasks.values()) for wanted in (False, True))
    place = folder / ENCODER_FOLDER if writes else folder
    encoder = _opened("Encoder", place, device, threads) if reads else None
    return Ct2Backbone(model.backbone_config, encoder)


def adapt_heads(model: Model, folder: Path, device: str, threads: int) -> None:
    """Let CTranslate2 search for the heads of a model that write."""
    backbone, tokenizer = model.built()
    writers = {name: head for name, head in model.heads.items() if model.tasks[name].generates}
    if not writers:
        return
    kind = "Translator" if model.backbone_config.has_encoder else "Generator"
    engine = _opened(kind, folder, device, threads)
    assert isinstance(backbone, Ct2Backbone)
    names = vocabulary(tokenizer, max(len(tokenizer), backbone.config.embedding_rows))
    several = len({head.start for head in writers.values() if isinstance(head, Seq2SeqHead)}) > 1
    for name, head in writers.items():
        if isinstance(head, Seq2SeqHead):
            model.heads[name] = Translator(head, engine, names, backbone.max_length, several)
        else:
            assert isinstance(head, LanguageModelHead)
            model.heads[name] = Generator(head, engine, names, backbone.max_length)


class Found(NamedTuple):
    """A text that a call found."""

    tokens: list[int]
    """Its ids, with the end if it has one."""
    log_p: float
    """Natural logarithm of its probability."""
    exact: bool
    """Whether that is the probability that the model gives it."""


class Writer(Head):
    """A head that writes by CTranslate2, in place of one of ours.

    Args:
        head: Ours, of which the special tokens are taken.
        engine: A Translator or a Generator of CTranslate2.
        names: The name of each id.
        readable: Longest text in tokens; None = any.
    """

    def __init__(self, head: OwnWriter, engine: Shared, names: list[str], readable: int | None) -> None:
        super().__init__()
        self.engine, self.names, self.readable = engine, names, readable
        self.ids = {name: i for i, name in enumerate(names)}
        self.end, self.suppress_tokens, self.banned = head.end, head.suppress_tokens, {*head.suppress_tokens}

    def loss(self, backbone: Backbone, batch: Batch) -> Any:
        """Raise the InputError for what needs gradients."""
        raise InputError("an engine answers and does not train; load the model without engine")

    def alignment(self, backbone: Backbone, batch: Batch) -> Tensor:
        """Raise the InputError for what CTranslate2 does not hand out."""
        raise InputError("CTranslate2 does not hand out its attention; load the model without engine")

    def named(self, rows: Sequence[Sequence[int]]) -> list[list[str]]:
        """Return the names of ids."""
        return [[self.names[i] for i in row] for row in rows]

    def options(self, decoding: Decoding, banned: bool) -> dict[str, Any]:
        """Return the settings of a search by their names; `banned`: whether some tokens are.

        Raises: InputError for one that CTranslate2 lacks.
        """
        if decoding.min_p:
            raise InputError(f"decoding.min_p {decoding.min_p}: CTranslate2 does not have it; set it to 0")
        if decoding.seed is not None:
            raise InputError(f"decoding.seed {decoding.seed}: samples of CTranslate2 cannot be repeated; leave it out")
        return {
            **search_settings(decoding),
            "num_hypotheses": max(decoding.beam, decoding.n_best),  # all: one that was cut may not be the best
            "suppress_sequences": self.named([[i] for i in self.suppress_tokens]) if banned else None,
        }

    def found(
        self, texts: Sequence[Sequence[str]], scores: Sequence[float], decoding: Decoding, banned: bool
    ) -> list[Found]:
        """Return what a call found: the score of CTranslate2 is a mean over the length with the end, as ours."""
        exact = not (banned or decoding.sample or decoding.no_repeat_ngram or decoding.min_length)
        return [
            Found([self.ids[name] for name in text], score * max(1, len(text)) ** decoding.length_penalty, exact)
            for text, score in zip(texts, scores, strict=True)
        ]

    def hypotheses(
        self, source: Sequence[int], prefix: Sequence[int], found: Sequence[Found], limit: int, decoding: Decoding
    ) -> list[Hypothesis]:
        """Return texts of at most `limit` tokens, counting the end, best first."""
        several = []
        for each in found:
            ids, log_p = each.tokens[:-1], each.log_p
            cut = each.tokens[-1:] != [self.end] or len(each.tokens) > limit
            if cut:
                ids = each.tokens[: limit - 1]
            if cut or not each.exact:
                log_p = max(FLOOR, sum(self.log_probabilities(source, [*ids, self.end])[len(prefix) :]))
            several.append(Hypothesis.of(ids, log_p, decoding.length_penalty))
        return best_first(several)[: decoding.n_best]

    def is_banned(self, found: Sequence[Found]) -> bool:
        """Tell whether one of the texts has a token that may not be written."""
        return any(not self.banned.isdisjoint(each.tokens) for each in found)

    @abstractmethod
    def log_probabilities(self, source: Sequence[int], text: Sequence[int]) -> list[float]:
        """Return the log probability of each token of a text."""


class Translator(Writer):
    """A head that reads a source and writes a text.

    `told`: whether the first token of the decoder is told with each text, because tasks have different ones. It is no
    part of what is found.
    """

    def __init__(self, head: Seq2SeqHead, engine: Shared, names: list[str], readable: int | None, told: bool) -> None:
        super().__init__(head, engine, names, readable)
        self.start = [head.start] if told else []

    def predict(self, backbone: Backbone, batch: Batch, decoding: Decoding, prefix: Sequence[int] = ()) -> Texts:
        """Return the `n_best` texts found for each source, best first; all begin with prefixes, see `Head.predict`."""
        lengths = batch.source_mask.sum(1).tolist()
        sources = [ids[:length] for ids, length in zip(batch.source.tolist(), lengths, strict=True)]
        own = [example.prefix for example in batch.examples] or [[]] * len(batch)
        begin = [[*each, *prefix] for each in own]
        limits = [
            length_limit(decoding, self.readable, [0], each, self.end, length)
            for each, length in zip(begin, lengths, strict=True)
        ]
        rows = list(zip(sources, begin, limits, strict=True))
        found = self._search(rows, decoding, banned=False)
        if again := [row for row, texts in enumerate(found) if self.is_banned(texts)]:
            for row, texts in zip(again, self._search([rows[i] for i in again], decoding, banned=True), strict=True):
                found[row] = texts
        return [
            self.hypotheses(source, each, texts, limit, decoding)
            for (source, each, limit), texts in zip(rows, found, strict=True)
        ]

    def _search(
        self, rows: Sequence[tuple[list[int], list[int], int]], decoding: Decoding, banned: bool
    ) -> list[list[Found]]:
        """Return the texts that one call finds for rows of source, prefix and limit."""
        sources, begin, limits = zip(*rows, strict=True)
        found = self.engine.session.translate_batch(
            self.named(sources), target_prefix=self.named([[*self.start, *each] for each in begin]),
            max_decoding_length=max(limits), min_decoding_length=max(0, decoding.min_length - 1), max_input_length=0,
            return_scores=True, return_end_token=True, **self.options(decoding, banned),
        )  # fmt: skip
        return [self.found(each.hypotheses, each.scores, decoding, banned) for each in found]

    def log_probabilities(self, source: Sequence[int], text: Sequence[int]) -> list[float]:
        """Return the log probability of each token of a text for a source."""
        (found,) = self.engine.session.score_batch(
            self.named([source]), self.named([[*self.start, *text[:-1]]]), max_input_length=0
        )
        return found.log_probs

    def stream(
        self, backbone: Backbone, source: Sequence[int], decoding: Decoding, prefix: Sequence[int] = ()
    ) -> Iterator[int]:
        """Iterate over the tokens of the text for one source, which come at once; see `Head.stream`."""
        ids = torch.tensor([[*source]])
        batch = Batch("", ids, torch.ones_like(ids, dtype=torch.bool), ids[:, :0], torch.zeros(1))
        ((best,),) = self.predict(backbone, batch, decoding, prefix)
        return iter(best.tokens[len(prefix) :])


class Generator(Writer):
    """A head that continues a text.

    One that was trained on blocks goes on beyond them as ours does: the last half of a block is read again.
    """

    def __init__(self, head: LanguageModelHead, engine: Shared, names: list[str], readable: int | None) -> None:
        super().__init__(head, engine, names, readable)
        self.context = head.context

    def predict(self, backbone: Backbone, batch: Batch, decoding: Decoding, prefix: Sequence[int] = ()) -> Texts:
        """Return the `n_best` continuations of each source, best first; all begin with `prefix`."""
        lengths = batch.source_mask.sum(1).tolist()
        rows = zip(batch.source.tolist(), lengths, strict=True)
        return [self._continue(source[:length] or [self.end], decoding, [*prefix]) for source, length in rows]

    def stream(
        self, backbone: Backbone, source: Sequence[int], decoding: Decoding, prefix: Sequence[int] = ()
    ) -> Iterator[int]:
        """Iterate over the tokens that continue one source, which come at once; see `Head.stream`."""
        return iter(self._continue([*source] or [self.end], decoding, [*prefix])[0].tokens[len(prefix) :])

    def _continue(self, source: list[int], decoding: Decoding, prefix: list[int]) -> list[Hypothesis]:
        """Return the texts that continue a source: at once, or in parts that a block holds."""
        longest = self.readable if self.context is None else None
        prompt = [*latest(source, longest, decoding.max_length)]
        limit = length_limit(decoding, longest, prompt, prefix, self.end, None) - len(prompt) + 1
        if self.context is not None and len(prompt) + limit - 1 > self.context:
            return self._in_blocks(prompt, prefix, decoding, limit)
        read, room = [*prompt, *prefix], limit - len(prefix)
        texts = self._search(read, decoding, room, banned=False)
        if self.is_banned(texts):
            texts = self._search(read, decoding, room, banned=True)
        whole = [each._replace(tokens=[*prefix, *each.tokens]) for each in texts]
        return self.hypotheses(prompt, prefix, whole, limit, decoding)

    def log_probabilities(self, source: Sequence[int], text: Sequence[int]) -> list[float]:
        """Return the log probability of each token of a text that follows a source."""
        (found,) = self.engine.session.score_batch(self.named([[*source, *text]]), max_input_length=0)
        return found.log_probs[len(source) - 1 :]

    def _in_blocks(self, prompt: list[int], prefix: list[int], decoding: Decoding, limit: int) -> list[Hypothesis]:
        """Return texts that are longer than a block."""
        assert self.context is not None
        if decoding.beam > 1:
            raise InputError(
                f"decoding.beam {decoding.beam}: CTranslate2 continues a text beyond the {self.context} tokens that "
                f"the model was trained on only with beam 1; set it, or max_length {self.context - len(prompt) + 1}"
            )
        single, several = replace(decoding, n_best=1, length_penalty=0.0), []
        for _ in range(decoding.n_best):
            read, written, total = [*prompt, *prefix], prefix, 0.0
            while len(written) < limit and written[-1:] != [self.end]:
                read = read if len(read) <= self.context else read[-max(1, self.context // 2) :]
                room = min(self.context - len(read) + 1, limit - len(written))
                (part,) = self._search(read, single, room, banned=True)
                tokens = part.tokens or [self.end]  # a part without a token would come for ever
                tokens = tokens if len(written) + len(tokens) < limit else [*tokens[:-1], self.end]
                total += sum(self.log_probabilities(read, tokens))
                written, read = [*written, *tokens], [*read, *tokens]
            ids = written[:-1]
            several.append(Hypothesis.of(ids, total, decoding.length_penalty))
        return best_first(several)

    def _search(self, read: list[int], decoding: Decoding, limit: int, banned: bool) -> list[Found]:
        """Return the texts of at most `limit` tokens that follow what is read."""
        (found,) = self.engine.session.generate_batch(
            self.named([read]), include_prompt_in_result=False, max_length=limit,
            min_length=max(0, min(decoding.min_length, limit) - 1), return_scores=True, return_end_token=True,
            **self.options(decoding, banned),
        )  # fmt: skip
        return self.found(found.sequences, found.scores, decoding, banned)


def search_settings(decoding: Decoding) -> dict[str, Any]:
    """Return the settings of a search that do not depend on a text, by the names of CTranslate2."""
    chosen = {
        "beam_size": decoding.beam,
        "patience": PATIENCE[decoding.early_stop],
        "length_penalty": decoding.length_penalty,
        "repetition_penalty": decoding.repetition_penalty,
        "no_repeat_ngram_size": decoding.no_repeat_ngram,
    }
    if decoding.sample:
        chosen |= {"sampling_topk": decoding.top_k, "sampling_topp": decoding.top_p}
        chosen["sampling_temperature"] = decoding.temperature
    return chosen


def _opened(kind: str, folder: Path, device: str, threads: int) -> Shared:
    """Return a model of CTranslate2. Raises: InputError if it is damaged, or there is no such device."""
    ctranslate2, (name, index) = import_ct2(), device_of(device)
    ctranslate2.set_log_level(logging.ERROR)  # else it says each time that a CPU computes 16 bits in float32
    try:
        opener = getattr(ctranslate2, kind)
        return Shared(opener(str(folder), device=name, device_index=index, intra_threads=threads))
    except (RuntimeError, ValueError) as error:
        raise InputError(f"CTranslate2 cannot open it ({one_line(error)})") from error
