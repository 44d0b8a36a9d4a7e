"""Blenderbot's architecture (Roller et al. 2021), as which models trained here are exported.

Norms stand before the sublayers and positions are a table from its first row, so that any pre-norm encoder-decoder with
absolute positions fits. Of others' models those with a tokenizer.json are read; their own search also forbids sequences
of the source's tokens (encoder_no_repeat_ngram_size), ours does not.
"""

from __future__ import annotations

from dataclasses import replace

from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.pretrained.fairseq import (
    ABOVE,
    FINAL_NORM,
    LAYERS,
    LEARNED_POSITIONS,
    OUTPUT_BIAS,
    TIED,
    VERSIONS,
    Fairseq,
)
from lmtasks.pretrained.folder import TOKENIZER
from lmtasks.pretrained.table import Table
from lmtasks.pretrained.tokenizers import required, special_ids
from lmtasks.tasks.base import Task
from lmtasks.tasks.text_to_text import TextToTextTask
from lmtasks.tasks.translation import TranslationTask
from lmtasks.text.pretrained import Framing, PretrainedTokenizer
from lmtasks.text.pretrained_pieces import JsonPieces

BLENDERBOT = Table(
    (*LAYERS, *LEARNED_POSITIONS, *FINAL_NORM, *OUTPUT_BIAS), (*ABOVE, *VERSIONS), TIED, optional=("output_bias",)
)


class Blenderbot(Fairseq):
    """An encoder-decoder with norms before the sublayers and learned positions."""

    model_types = ("blenderbot",)

    def settings(self) -> TransformerConfig:
        """Translate config.json."""
        return self.checked(replace(self.layout(), norm_position="pre", embedding_norm=False, position_offset=0))

    def table(self) -> Table:
        """Return the names."""
        return BLENDERBOT

    def tokenizer(self) -> PretrainedTokenizer:
        """Return the pieces, framed `text </s>`."""
        pieces = JsonPieces(required(self.folder, TOKENIZER))
        pad, begin, end = special_ids(self.folder, pieces, pad="<pad>", bos="<s>", eos="</s>")
        start = self.generated("decoder_start_token_id", begin)
        return PretrainedTokenizer(pieces, Framing(pad, end, begin, start, end, suppress=self.suppressed(pad)))

    def tasks(self) -> dict[str, Task]:
        """Return translation, if the tokenizer's settings name two languages, and otherwise text to text."""
        given = self.folder.json("tokenizer_config.json")
        source, target = given.get("source_lang"), given.get("target_lang")
        return {"translation": TranslationTask((f"{source}-{target}",))} if source else {"generation": TextToTextTask()}
