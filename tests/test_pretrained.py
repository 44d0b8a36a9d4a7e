"""Models of others in our Transformer: BERT and its kin against transformers, what is refused, what is saved."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import fit, write_corpus

from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.batch import IGNORE
from lmtasks.errors import InputError
from lmtasks.pretrained.folder import Folder
from lmtasks.pretrained.pretrained import Pretrained, find_family
from lmtasks.storage.model_folder import load, save
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.tasks.translation import TranslationTask
from lmtasks.training.module import TaskModule

transformers = pytest.importorskip("transformers")

WORDS = ["the", "old", "dog", "sleeps", "anna", "has", "a", "cat", "who", "##s", "##ing", "?", "."]
SIZES = {
    "bert": {"hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 40, "num_hidden_layers": 2},
    "distilbert": {"dim": 24, "n_heads": 3, "hidden_dim": 40, "n_layers": 2},
}
LENGTHS = (7, 12, 1, 4)


def word_pieces(folder, lower=True):
    """Write the vocabulary of a BERT; its ids are 0 pad, 1 unknown, 2 CLS, 3 SEP, 4 mask, then the words."""
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower}))


def byte_pairs(folder):
    """Write the vocabulary of a RoBERTa, without merges."""
    folder.mkdir(exist_ok=True)
    letters = transformers.models.gpt2.tokenization_gpt2.bytes_to_unicode() if False else None
    assert letters is None


def random_model(config, kind=None):
    """Return a model of transformers with weights of which every one counts, norms and biases too."""
    torch.manual_seed(1)
    model = (kind or transformers.AutoModel.from_config)(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn_like(parameter) * (0.2 if parameter.ndim > 1 else 0.1)
            parameter.copy_(noise + 1 if "norm" in name.lower() and name.endswith("weight") else noise)
    return model
