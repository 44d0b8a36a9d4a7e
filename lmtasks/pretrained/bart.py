"""BART (Lewis et al. 2020): an encoder-decoder that is trained further, and its models that summarise English news."""

from __future__ import annotations

from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.pretrained.fairseq import (
    ABOVE,
    EMBEDDING_NORM,
    LAYERS,
    LEARNED_POSITIONS,
    OUTPUT_BIAS,
    TIED,
    VERSIONS,
    Fairseq,
)
from lmtasks.pretrained.table import Table
from lmtasks.pretrained.tokenizers import byte_level_bpe, special_ids
from lmtasks.tasks.base import Task
from lmtasks.tasks.summarisation import SummarisationTask
from lmtasks.text.pretrained import Framing, PretrainedTokenizer

SUMMARIES = ("cnn", "xsum", "samsum")  # sets of summaries, by which their models are called
BART = Table(
    (*LAYERS, *LEARNED_POSITIONS, *EMBEDDING_NORM, *OUTPUT_BIAS), (*ABOVE, *VERSIONS), TIED, optional=("output_bias",)
)


class Bart(Fairseq):
    """An encoder-decoder with norms after the sublayers, learned positions and an embedding norm."""

    model_types = ("bart",)

    def settings(self) -> TransformerConfig:
        """Translate config.json."""
        return self.checked(self.layout())

    def table(self) -> Table:
        """Return the names."""
        return BART

    def tokenizer(self) -> PretrainedTokenizer:
        """Return the pieces, framed `<s> text </s>`, targets too."""
        pieces = byte_level_bpe(self.folder)
        pad, begin, end = special_ids(self.folder, pieces, pad="<pad>", bos="<s>", eos="</s>")
        start = self.generated("decoder_start_token_id", end)
        framing = Framing(
            pad, end, begin, start, end, source_begin=(begin,), between=(end,), target_begin=(begin,),
            forced=self.generated("forced_bos_token_id", None) is not None, suppress=self.suppressed(pad),
        )  # fmt: skip
        return PretrainedTokenizer(pieces, framing)

    def tasks(self) -> dict[str, Task]:
        """Return summarisation, if the model was trained to write and its settings or its name say so.

        The settings of BART before any such training speak of summaries too.
        """
        name, given = self.folder.name.lower(), self.config.get("task_specific_params") or {}
        writes = any(each.endswith("ForConditionalGeneration") for each in self.config.get("architectures") or ())
        if not writes or not ("summarization" in given or any(each in name for each in SUMMARIES)):
            return {}
        return {"summarisation": SummarisationTask(prompt_text=self.config.get("prefix") or "")}
