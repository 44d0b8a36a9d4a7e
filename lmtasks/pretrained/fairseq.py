"""What the encoder-decoders share that descend from fairseq (Ott et al. 2019): BART, mBART, M2M100, and Marian's port.

Their layers have the same names. They differ in where the norms stand, in their positions, and in whether the output
has a bias. `Fairseq` translates what is the same, and is BART's layout: a family changes what differs from it.
"""

from __future__ import annotations

from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.pretrained.family import ACTIVATIONS, Family
from lmtasks.pretrained.table import Row

# fmt: off
LAYERS: tuple[Row, ...] = (
    ("embedding.weight",                                    ("shared.weight",)),
    ("encoder.layers.{i}.self_attention.query_key_value.*", ("encoder.layers.{i}.self_attn.q_proj.*",
                                                             "encoder.layers.{i}.self_attn.k_proj.*",
                                                             "encoder.layers.{i}.self_attn.v_proj.*")),
    ("encoder.layers.{i}.self_attention.output.*",          ("encoder.layers.{i}.self_attn.out_proj.*",)),
    ("encoder.layers.{i}.self_attention_norm.*",            ("encoder.layers.{i}.self_attn_layer_norm.*",)),
    ("encoder.layers.{i}.feed_forward.inner.*",             ("encoder.layers.{i}.fc1.*",)),
    ("encoder.layers.{i}.feed_forward.outer.*",             ("encoder.layers.{i}.fc2.*",)),
    ("encoder.layers.{i}.feed_forward_norm.*",              ("encoder.layers.{i}.final_layer_norm.*",)),
    ("decoder.layers.{i}.self_attention.query_key_value.*", ("decoder.layers.{i}.self_attn.q_proj.*",
                                                             "decoder.layers.{i}.self_attn.k_proj.*",
                                                             "decoder.layers.{i}.self_attn.v_proj.*")),
    ("decoder.layers.{i}.self_attention.output.*",          ("decoder.layers.{i}.self_attn.out_proj.*",)),
    ("decoder.layers.{i}.self_attention_norm.*",            ("decoder.layers.{i}.self_attn_layer_norm.*",)),
    ("decoder.layers.{i}.cross_attention.query.*",          ("decoder.layers.{i}.encoder_attn.q_proj.*",)),
    ("decoder.layers.{i}.cross_attention.key_value.*",      ("decoder.layers.{i}.encoder_attn.k_proj.*",
                                                             "decoder.layers.{i}.encoder_attn.v_proj.*")),
    ("decoder.layers.{i}.cross_attention.output.*",         ("decoder.layers.{i}.encoder_attn.out_proj.*",)),
    ("decoder.layers.{i}.cross_attention_norm.*",           ("decoder.layers.{i}.encoder_attn_layer_norm.*",)),
    ("decoder.layers.{i}.feed_forward.inner.*",             ("decoder.layers.{i}.fc1.*",)),
    ("decoder.layers.{i}.feed_forward.outer.*",             ("decoder.layers.{i}.fc2.*",)),
    ("decoder.layers.{i}.feed_forward_norm.*",              ("decoder.layers.{i}.final_layer_norm.*",)),
)
LEARNED_POSITIONS: tuple[Row, ...] = (
    ("encoder.places",           ("encoder.embed_positions.weight",)),
    ("decoder.places",           ("decoder.embed_positions.weight",)),
)
EMBEDDING_NORM: tuple[Row, ...] = (
    ("encoder.embedding_norm.*", ("encoder.layernorm_embedding.*",)),
    ("decoder.embedding_norm.*", ("decoder.layernorm_embedding.*",)),
)
FINAL_NORM: tuple[Row, ...] = (
    ("encoder.final_norm.*",     ("encoder.layer_norm.*",)),
    ("decoder.final_norm.*",     ("decoder.layer_norm.*",)),
)
OUTPUT_BIAS: tuple[Row, ...] = (
    ("output_bias",              ("final_logits_bias",)),  # a buffer of theirs, (1, V); many files lack it: zeros
)
# fmt: on
TIED = dict.fromkeys(("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"), "shared.weight")
COMPUTED = ("encoder.embed_positions.*", "decoder.embed_positions.*")  # tables of sinusoids
ABOVE = ("classification_head.*", "qa_outputs.*")  # of tasks: our heads stand in their place
VERSIONS = ("encoder.version", "decoder.version")  # of old files
OFFSET = 2  # rows of a learned table that no position has: fairseq counts positions from behind the id of padding
ALIKE = ("attention_heads", "ffn_dim")  # of which our Transformer has one number for encoder and decoder


class Fairseq(Family):
    """A Transformer encoder-decoder of fairseq's kind."""

    def layout(self) -> TransformerConfig:
        """Translate what these families have in common: norms after the sublayers, learned positions, as BART has them.

        Raises: InputError if encoder and decoder differ in width, or the embeddings are not shared.
        """
        for name in ALIKE:
            if self.setting(f"decoder_{name}") != self.setting(f"encoder_{name}"):
                self.refuse(f"decoder_{name}", [f"{self.setting(f'encoder_{name}')}, as encoder_{name},"])
        if self.config.get("tie_word_embeddings") is False:
            self.refuse("tie_word_embeddings", [True])
        return TransformerConfig(
            d_model=self.setting("d_model"),
            n_heads=self.setting("encoder_attention_heads"),
            d_ff=self.setting("encoder_ffn_dim"),
            encoder_layers=self.setting("encoder_layers"),
            decoder_layers=self.setting("decoder_layers"),
            dropout=self.config.get("dropout", 0.1),
            attention_dropout=self.config.get("attention_dropout", 0.0),
            activation_dropout=self.config.get("activation_dropout", 0.0),
            norm_position="post",
            positions="learned",
            max_length=self.setting("max_position_embeddings"),
            position_offset=OFFSET,
            activation=self.choice("activation_function", ACTIVATIONS, "gelu"),
            scaled_embeddings=bool(self.config.get("scale_embedding", False)),
            embedding_norm=True,
            output_bias=True,
            embedding_rows=self.setting("vocab_size"),
        )

    def checked(self, settings: TransformerConfig) -> TransformerConfig:
        """Return the settings of a family, if the older switches that a config.json may have do not say otherwise.

        Raises: InputError for a switch of a model that its family, as transformers has it now, does not cover.
        """
        switches = {
            "normalize_before": settings.norm_position == "pre",
            "add_final_layer_norm": settings.norm_position == "pre",
            "normalize_embedding": settings.embedding_norm,
            "static_position_embeddings": settings.positions == "sinusoidal",
        }
        for name, ours in switches.items():
            if self.config.get(name, ours) is not ours:
                self.refuse(name, [ours])
        return settings

    def rename(self, name: str) -> str:
        """Return the name without the "model." that a class with an output puts first."""
        return name.removeprefix("model.")
