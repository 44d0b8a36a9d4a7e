"""Marian (Junczys-Dowmunt et al. 2018), in Hugging Face's port: the models of OPUS-MT (Tiedemann and Thottingal 2020).

Models that write several languages are told which one by a token before the source, such as >>fra<<.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.pretrained.fairseq import COMPUTED, LAYERS, LEARNED_POSITIONS, OUTPUT_BIAS, TIED, Fairseq
from lmtasks.pretrained.folder import TOKENIZER
from lmtasks.pretrained.table import Table
from lmtasks.pretrained.tokenizers import required, sentencepiece_model, special_ids
from lmtasks.tasks.base import Task
from lmtasks.tasks.translation import TranslationTask
from lmtasks.text.pretrained import Framing, PretrainedTokenizer
from lmtasks.text.pretrained_pieces import JsonPieces, Pieces, SentencePieces

SOURCE, TARGET, VOCABULARY = "source.spm", "target.spm", "vocab.json"
LANGUAGE = re.compile(r">>([A-Za-z_]\w*)<<")
NAME = re.compile(r"opus-mt\S*?-([A-Za-z_]+)-([A-Za-z_]+)")  # Helsinki-NLP/opus-mt-tc-big-en-fr
MARIAN = Table((*LAYERS, *OUTPUT_BIAS), COMPUTED, TIED, optional=("output_bias",))
MARIAN_LEARNED = replace(MARIAN, rows=(*MARIAN.rows, *LEARNED_POSITIONS))


class Marian(Fairseq):
    """An encoder-decoder with sinusoidal positions and an output bias, and two sentencepiece models."""

    model_types = ("marian",)

    def settings(self) -> TransformerConfig:
        """Translate config.json; separate embeddings of source and target are refused."""
        if not self.config.get("share_encoder_decoder_embeddings", True):
            self.refuse("share_encoder_decoder_embeddings", [True])
        layout = replace(self.layout(), positions="sinusoidal", sinusoids="paper", position_offset=0)
        if self.has_own_positions:
            layout = replace(layout, positions="learned")
        return self.checked(replace(layout, embedding_norm=False))

    def table(self) -> Table:
        """Return the names."""
        return MARIAN_LEARNED if self.has_own_positions else MARIAN

    @property
    def has_own_positions(self) -> bool:
        """Whether its table of positions is a weight, as in models that lmtasks exported."""
        return self.config.get("static_position_embeddings") is False

    def tokenizer(self) -> PretrainedTokenizer:
        """Return the pieces, framed `text </s>`, or `>>fra<< text </s>` where the model writes several languages."""
        pieces, targets = self._pieces()
        pad, end = special_ids(self.folder, pieces, pad="<pad>", eos="</s>")
        found = ((LANGUAGE.fullmatch(pieces.name(i)), i) for i in range(len(pieces)))
        languages = tuple((match[1], i) for match, i in found if match)
        start = self.generated("decoder_start_token_id", pad)
        framing = Framing(
            pad, end, start, start, end, suppress=self.suppressed(pad), languages=languages,
            language_at="target-in-source" if languages else "none",
        )  # fmt: skip
        return PretrainedTokenizer(pieces, framing, targets)

    def tasks(self) -> dict[str, Task]:
        """Return translation, from the languages that tokenizer_config.json has, or the name of the model."""
        given = self.folder.json("tokenizer_config.json")
        match = NAME.fullmatch(PurePath(self.folder.name).name)
        names = match.groups() if match else ("source", "target")
        source, target = (
            re.sub(r"\W", "_", given.get(setting) or name)
            for setting, name in zip(("source_lang", "target_lang"), names, strict=True)
        )
        targets = self.own_tokenizer.languages or (target,)
        return {"translation": TranslationTask(tuple(f"{source}-{each}" for each in targets))}

    def _pieces(self) -> tuple[Pieces, Pieces | None]:
        """Return what cuts sources, and targets if they are cut otherwise.

        The sentencepiece models come first, as in transformers: a tokenizer.json made of them has only one.
        """
        text = self.folder.text(TOKENIZER)
        if text is not None and self.folder.path(SOURCE) is None:
            return JsonPieces(text), None
        ids: dict[str, Any] = json.loads(required(self.folder, VOCABULARY))
        source, target = (
            SentencePieces(sentencepiece_model(self.folder, file), ids, ("</s>", "<unk>", "<pad>"), (">>", "<<"))
            for file in (SOURCE, TARGET)
        )
        return source, target
