"""BERT (Devlin et al. 2019) and what followed it: RoBERTa, XLM-RoBERTa, CamemBERT, DistilBERT, MiniLM. Encoders only.

Layers on top of the encoder (pooler, masked tokens, next sentence) are left out, except those that answer questions,
tag words or label texts: `heads` reads them.
"""

from __future__ import annotations

from typing import ClassVar

from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.heads.classification import Hidden
from lmtasks.pretrained.family import ACTIVATIONS, Family
from lmtasks.pretrained.heads import TrainedHead, find_head
from lmtasks.pretrained.table import Row, Table
from lmtasks.pretrained.tokenizers import byte_level_bpe, special_ids, word_pieces
from lmtasks.text.pretrained import Framing, JsonPieces, PretrainedTokenizer

# fmt: off
LAYER = (  # of an encoder; the norm of a sublayer stands with its output
    ("encoder.layers.{i}.self_attention.query_key_value.*", ("encoder.layer.{i}.attention.self.query.*",
                                                             "encoder.layer.{i}.attention.self.key.*",
                                                             "encoder.layer.{i}.attention.self.value.*")),
    ("encoder.layers.{i}.self_attention.output.*",          ("encoder.layer.{i}.attention.output.dense.*",)),
    ("encoder.layers.{i}.self_attention_norm.*",            ("encoder.layer.{i}.attention.output.LayerNorm.*",)),
    ("encoder.layers.{i}.feed_forward.inner.*",             ("encoder.layer.{i}.intermediate.dense.*",)),
    ("encoder.layers.{i}.feed_forward.outer.*",             ("encoder.layer.{i}.output.dense.*",)),
    ("encoder.layers.{i}.feed_forward_norm.*",              ("encoder.layer.{i}.output.LayerNorm.*",)),
)
EMBEDDINGS = (
    ("embedding.weight",          ("embeddings.word_embeddings.weight",)),
    ("encoder.places",            ("embeddings.position_embeddings.weight",)),
    ("segments.weight",           ("embeddings.token_type_embeddings.weight",)),  # of one row in RoBERTa
    ("encoder.embedding_norm.*",  ("embeddings.LayerNorm.*",)),
)
DISTILLED = (
    ("encoder.layers.{i}.self_attention.query_key_value.*", ("transformer.layer.{i}.attention.q_lin.*",
                                                             "transformer.layer.{i}.attention.k_lin.*",
                                                             "transformer.layer.{i}.attention.v_lin.*")),
    ("encoder.layers.{i}.self_attention.output.*",          ("transformer.layer.{i}.attention.out_lin.*",)),
    ("encoder.layers.{i}.self_attention_norm.*",            ("transformer.layer.{i}.sa_layer_norm.*",)),
    ("encoder.layers.{i}.feed_forward.inner.*",             ("transformer.layer.{i}.ffn.lin1.*",)),
    ("encoder.layers.{i}.feed_forward.outer.*",             ("transformer.layer.{i}.ffn.lin2.*",)),
    ("encoder.layers.{i}.feed_forward_norm.*",              ("transformer.layer.{i}.output_layer_norm.*",)),
    *(row for row in EMBEDDINGS if row[0] != "segments.weight"),
)
# fmt: on
ABOVE = ("pooler.*", "cls.*", "classifier.*", "pre_classifier.*", "qa_outputs.*", "lm_head.*", "vocab_*")
COMPUTED = ("embeddings.position_ids", "embeddings.token_type_ids")
FRESH = ("decoder.", "output_bias")  # a decoder over an encoder is new
BERT = Table((*EMBEDDINGS, *LAYER), (*ABOVE, *COMPUTED), fresh=FRESH)
DISTILBERT = Table(DISTILLED, (*ABOVE, *COMPUTED), fresh=FRESH)
BERT_HEAD: tuple[Row, ...] = (("hidden.*", ("pooler.dense.*",)), ("output.*", ("classifier.*",)))
ROBERTA_HEAD: tuple[Row, ...] = (("hidden.*", ("classifier.dense.*",)), ("output.*", ("classifier.out_proj.*",)))
DISTILBERT_HEAD: tuple[Row, ...] = (("hidden.*", ("pre_classifier.*",)), ("output.*", ("classifier.*",)))


class Bert(Family):
    """An encoder, with learned positions and a norm after each sublayer."""

    model_types: ClassVar[tuple[str, ...]] = ("bert",)
    prefix = "bert."
    classifier: ClassVar[tuple[Row, ...]] = BERT_HEAD
    hidden: ClassVar[Hidden] = "tanh"

    def settings(self) -> TransformerConfig:
        """Translate config.json; a model that writes, or has relative positions, is refused."""
        if self.config.get("position_embedding_type", "absolute") != "absolute":
            self.refuse("position_embedding_type", ["absolute"])
        if self.config.get("is_decoder"):
            self.refuse("is_decoder", [False])
        segments = self.config.get("type_vocab_size", 2)
        return TransformerConfig(
            d_model=self.setting("hidden_size"),
            n_heads=self.setting("num_attention_heads"),
            d_ff=self.setting("intermediate_size"),
            encoder_layers=self.setting("num_hidden_layers"),
            decoder_layers=0,
            dropout=self.config.get("hidden_dropout_prob", 0.1),
            attention_dropout=self.config.get("attention_probs_dropout_prob", 0.1),
            norm_eps=self.config.get("layer_norm_eps", 1e-12),
            norm_position="post",
            positions="learned",
            max_length=self.setting("max_position_embeddings") - self.offset,
            position_offset=self.offset,
            activation=self.choice("hidden_act", ACTIVATIONS, "gelu"),
            scaled_embeddings=False,
            embedding_norm=True,
            segments=segments,
            separator=self.own_tokenizer.separator_id if segments > 1 else 0,
            embedding_rows=self.setting("vocab_size"),
        )

    @property
    def offset(self) -> int:
        """The row of the table of positions that the first token has."""
        return 0

    def table(self) -> Table:
        """Return the names, which checkpoints of TensorFlow's time have with gamma and beta for a norm."""
        return BERT

    def heads(self) -> dict[str, TrainedHead]:
        """Return the head above the encoder that config.json names, if it is one of ours."""
        head = find_head(self.folder, self.settings().max_length, self.classifier, self.hidden)
        return {} if head is None else {head.task.kind: head}

    def rename(self, name: str) -> str:
        """Drop the name of the encoder, which classes with a layer on top of it put first."""
        return (
            name.removeprefix(self.prefix)
            .replace("LayerNorm.gamma", "LayerNorm.weight")
            .replace("LayerNorm.beta", "LayerNorm.bias")
        )

    def tokenizer(self) -> PretrainedTokenizer:
        """Return the word pieces, framed `[CLS] a [SEP] b [SEP]`."""
        pieces = self.pieces()
        pad, start, end, mask = special_ids(self.folder, pieces, pad="[PAD]", cls="[CLS]", sep="[SEP]", mask="[MASK]")
        framing = Framing(pad, end, start, start, end, source_begin=(start,), suppress=(pad, start, mask))
        return PretrainedTokenizer(pieces, framing)

    def pieces(self) -> JsonPieces:
        """Return tokenizer.json, or what vocab.txt means."""
        return word_pieces(self.folder)


class Roberta(Bert):
    """An encoder whose positions are counted from behind the id of padding."""

    model_types = ("roberta", "xlm-roberta", "camembert")
    prefix = "roberta."
    classifier = ROBERTA_HEAD

    @property
    def offset(self) -> int:
        """The rows up to the id of padding are not used (fairseq, make_positions)."""
        return self.setting("pad_token_id", least=0) + 1

    def tokenizer(self) -> PretrainedTokenizer:
        """Return the pieces, framed `<s> a </s></s> b </s>`."""
        pieces = self.pieces()
        pad, start, end, mask = special_ids(self.folder, pieces, pad="<pad>", bos="<s>", eos="</s>", mask="<mask>")
        framing = Framing(
            pad, end, start, start, end, source_begin=(start,), between=(end,), suppress=(pad, start, mask)
        )
        return PretrainedTokenizer(pieces, framing)

    def pieces(self) -> JsonPieces:
        """Return tokenizer.json, or what vocab.json and merges.txt mean."""
        return byte_level_bpe(self.folder)


class DistilBert(Bert):
    """BERT with fewer layers and without segments (Sanh et al. 2019)."""

    model_types = ("distilbert",)
    prefix = "distilbert."
    classifier = DISTILBERT_HEAD
    hidden = "relu"

    def settings(self) -> TransformerConfig:
        """Translate config.json, whose names differ from BERT's."""
        return TransformerConfig(
            d_model=self.setting("dim"),
            n_heads=self.setting("n_heads"),
            d_ff=self.setting("hidden_dim"),
            encoder_layers=self.setting("n_layers"),
            decoder_layers=0,
            dropout=self.config.get("dropout", 0.1),
            attention_dropout=self.config.get("attention_dropout", 0.1),
            norm_eps=1e-12,
            norm_position="post",
            positions="learned",
            max_length=self.setting("max_position_embeddings"),
            activation=self.choice("activation", ACTIVATIONS, "gelu"),
            scaled_embeddings=False,
            embedding_norm=True,
            embedding_rows=self.setting("vocab_size"),
        )

    def table(self) -> Table:
        """Return the names."""
        return DISTILBERT
