"""M2M100 (Fan et al. 2021), NLLB-200 (NLLB Team 2022) and mBART-50 (Tang et al. 2020): any language into any other.

Each text begins with the code of its language; the decoder begins with the end token.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace

from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.errors import InputError
from lmtasks.pretrained.fairseq import (
    ABOVE,
    COMPUTED,
    EMBEDDING_NORM,
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
from lmtasks.pretrained.tokenizers import FAIRSEQ_MODEL, FIRST, fairseq_pieces, sentencepiece_model, special_ids
from lmtasks.tasks.base import Task
from lmtasks.tasks.translation import TranslationTask
from lmtasks.text.languages import language_names
from lmtasks.text.pretrained import Framing, PretrainedTokenizer
from lmtasks.text.pretrained_pieces import Pieces, SentencePieces

VOCABULARY = "vocab.json"
LANGUAGE = re.compile(r"__(\w+)__|([a-z]{2,3}_[A-Z]\w+)")  # __en__ of M2M100, eng_Latn of NLLB, en_XX of mBART
# Ids of languages follow those of M2M100's vocabulary, which lacks them; its files name the list at most.
LANGUAGES = {
    "m2m100": "af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl gu ha he hi hr "
    "ht hu hy id ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr ms my ne nl no ns oc or pa "
    "pl ps pt ro ru sd si sk sl so sq sr ss su sv sw ta th tl tn tr uk ur uz vi wo xh yi yo zh zu",
    "wmt21": "en ha is ja cs ru zh de",
}
FIRST_SHOWN = ("English", "French")  # of the languages that an example names
M2M100_TABLE = Table((*LAYERS, *FINAL_NORM), (*COMPUTED, *VERSIONS), TIED)
MBART = Table(
    (*LAYERS, *LEARNED_POSITIONS, *EMBEDDING_NORM, *FINAL_NORM, *OUTPUT_BIAS),
    (*ABOVE, *VERSIONS),
    TIED,
    optional=("output_bias",),
)


class M2M100(Fairseq):
    """An encoder-decoder with norms before the sublayers and sinusoids that begin behind the id of padding."""

    model_types = ("m2m_100",)

    def settings(self) -> TransformerConfig:
        """Translate config.json."""
        return self.checked(
            replace(
                self.layout(),
                norm_position="pre",
                positions="sinusoidal",
                position_offset=self.setting("pad_token_id", least=0) + 1,
                scaled_embeddings=bool(self.config.get("scale_embedding", True)),
                embedding_norm=False,
                output_bias=False,
            )
        )

    def table(self) -> Table:
        """Return the names."""
        return M2M100_TABLE

    def tokenizer(self) -> PretrainedTokenizer:
        """Return the pieces, framed `code text </s>`.

        Raises: InputError if the code stands last, as in mBART before mBART-50, or there are no codes.
        """
        pieces = self.pieces()
        pad, begin, end = special_ids(self.folder, pieces, pad="<pad>", bos="<s>", eos="</s>")
        found = ((LANGUAGE.fullmatch(name), i) for name, i in sorted(pieces.marks.items(), key=lambda mark: mark[1]))
        languages = tuple((match[1] or match[2], i) for match, i in found if match)
        if not languages:
            raise InputError(f"{self.folder.name}: its tokenizer has no codes of languages; its files are not complete")
        if self.code_stands_last(pieces):
            raise InputError(f"{self.folder.name}: its language codes stand behind the texts, and lmtasks reads models "
                             "that have them in front only, such as NLLB and mBART-50")  # fmt: skip
        start = self.generated("decoder_start_token_id", end)
        framing = Framing(
            pad, end, begin, start, end, suppress=self.suppressed(pad), languages=languages, language_at="both-first"
        )
        return PretrainedTokenizer(pieces, framing)

    def pieces(self) -> Pieces:
        """Return tokenizer.json, or what the sentencepiece model means, with a vocab.json (M2M100) or by itself."""
        vocabulary = None if self.folder.path(TOKENIZER) else self.folder.text(VOCABULARY)
        if vocabulary is None:
            return fairseq_pieces(self.folder)
        ids = json.loads(vocabulary)
        listed = self.folder.json("tokenizer_config.json").get("language_codes", "m2m100")
        if listed not in LANGUAGES:
            raise InputError(f"{self.folder.name}: language_codes {listed!r}; lmtasks knows {' and '.join(LANGUAGES)}")
        codes = [f"__{code}__" for code in LANGUAGES[listed].split()]
        ids |= {code: i for i, code in enumerate(codes, len(ids))}
        return SentencePieces(sentencepiece_model(self.folder, FAIRSEQ_MODEL), ids, (*FIRST, *codes))

    def code_stands_last(self, pieces: Pieces) -> bool:
        """Tell whether codes of languages follow the texts."""
        return bool(self.folder.json("tokenizer_config.json").get("legacy_behaviour"))

    def tasks(self) -> dict[str, Task]:
        """Return translation between any two languages."""
        codes = self.own_tokenizer.languages
        first = [code for code in codes if {*language_names([code])} & {*FIRST_SHOWN}]
        return {"translation": TranslationTask((), tuple(dict.fromkeys((*first, *codes))))}


class MBart(M2M100):
    """An encoder-decoder with norms before the sublayers, learned positions and an embedding norm."""

    model_types = ("mbart",)

    def settings(self) -> TransformerConfig:
        """Translate config.json."""
        return self.checked(replace(self.layout(), norm_position="pre"))

    def table(self) -> Table:
        """Return the names."""
        return MBART

    def code_stands_last(self, pieces: Pieces) -> bool:
        """Tell whether the model is older than mBART-50, by its tokenizer's class or a language that is new in it."""
        settings = self.folder.json("tokenizer_config.json")
        named = settings.get("tokenizer_class") or self.config.get("tokenizer_class") or ""
        return "MBart50" not in named if "MBart" in named else "af_ZA" not in pieces.marks
