"""Damaged and forged files of a model: an answer or one line, in bounded time and memory, and nothing runs."""

from __future__ import annotations

import os
import random
import resource
import shutil
import time
from pathlib import Path

import pytest
import tokenizers
import torch
from damage import DAMAGE
from foreign import sentencepiece_model
from hypothesis import HealthCheck, given, settings, strategies as st
from tiny import fit, tiny_backbone, tiny_module, write_corpus

import lmtasks
from lmtasks import ClassificationTask, DialogueTask, GenerationTask, Model, RecurrentConfig, SpanAnsweringTask
from lmtasks.errors import InputError
from lmtasks.reports.description import as_text, describe
from lmtasks.storage import CHECKSUMS
from lmtasks.storage.checkpoint import last_checkpoint
from lmtasks.tasks.tagging import TaggingTask
from lmtasks.text.pretrained import Framing, PretrainedTokenizer
from lmtasks.text.pretrained_pieces import JsonPieces, SentencePieces, sentence_pieces
from lmtasks.text.tokenizer import Tokenizer, TokenizerConfig
from lmtasks.training.callbacks.checkpoints import Checkpoints

CASES = int(os.environ.get("DAMAGED_FILES", "40"))  # of each file
SECONDS, BYTES = 2.0, 10**9  # that a case may take
ROW = {"text": "a b", "en": "a b", "words": ["a", "b"], "question": "a?", "context": "a b", "turns": ["a"]}
READERS = {
    "mood": ClassificationTask(labels=("bad", "good"), ngrams=3),
    "names": TaggingTask(labels=("X",)),
    "answering": SpanAnsweringTask(),
}
FRAMING = Framing(pad_id=0, eos_id=2, bos_id=1, decoder_start_id=1, separator_id=2, source_begin=(1,))


def wordpieces() -> PretrainedTokenizer:
    """Return a tokenizer of words and letters."""
    names = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *"abcdef?", *(f"##{letter}" for letter in "abcdef")]
    inner = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({name: i for i, name in enumerate(names)}, unk_token="[UNK]")
    )
    inner.normalizer = tokenizers.normalizers.BertNormalizer()
    inner.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    inner.decoder = tokenizers.decoders.WordPiece()
    inner.add_special_tokens(names[:4])
    return PretrainedTokenizer(JsonPieces(inner.to_str()), FRAMING)


def sentencepieces() -> PretrainedTokenizer:
    """Return a tokenizer of a sentencepiece model."""
    model = sentencepiece_model(60)
    ids = {piece: i for i, piece in enumerate(["<pad>", *sentence_pieces(model)])}
    return PretrainedTokenizer(SentencePieces(model, ids), FRAMING)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Return a folder of model folders without checksums, as of an older version, and of a checkpoint."""
    place = tmp_path_factory.mktemp("originals")
    corpus = write_corpus(place / "corpus")
    module = tiny_module(tokenizer=TokenizerConfig("bpe", 300))
    lmtasks.save(fit(corpus, module, callbacks=[Checkpoints()], enable_checkpointing=True), place / "models/a")
    shutil.copy(last_checkpoint(corpus / "run"), place / "models/a/model.ckpt")
    ours = Tokenizer.train(["a b c"], TokenizerConfig("character"), marks=DialogueTask().marks)
    writers = {"generation": GenerationTask(prompt=4), "dialogue": DialogueTask()}
    recurrent = RecurrentConfig(d_model=8, d_hidden=8, d_attention=4)
    made = [
        (READERS, tiny_backbone(decoder_layers=0, positions="rotary"), wordpieces()),
        (READERS, tiny_backbone(decoder_layers=0, positions="relative"), sentencepieces()),
        ({"mood": READERS["mood"]}, recurrent, wordpieces()),
        (writers, tiny_backbone(positions="learned"), ours),
    ]
    for number, (tasks, backbone, tokenizer) in enumerate(made):
        torch.manual_seed(number)
        model = Model(tasks, backbone, lmtasks.Decoding(beam=2, max_length=6))
        model.build(tokenizer.extended(*model.token_names))
        lmtasks.save(model, place / f"models/{number}", {"test/score": 50.0})
    for folder in (place / "models").iterdir():
        (folder / CHECKSUMS).unlink()
    return place / "models"


def use(place: Path) -> None:
    """Load a model, ask it, and describe it."""
    model = lmtasks.load(place)
    for name in model.tasks:
        model.solve([ROW], name)
    as_text(describe(str(place)))


def test_the_originals_are_right(originals):
    for folder in originals.iterdir():
        use(folder)
    use(originals / "a/model.ckpt")


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_gives_an_answer_or_one_line(originals, name, tmp_path):
    @settings(max_examples=CASES, deadline=None, derandomize=True, database=None, suppress_health_check=[*HealthCheck])
    @given(st.integers(0, 2**32 - 1))
    def damaged(seed):
        draw, place = random.Random(seed), tmp_path / "model"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(originals / ("a" if name == "model.ckpt" else draw.choice("a0123")), place)
        DAMAGE[name](place / name, draw)
        began = time.process_time()
        try:
            use(place / name if name == "model.ckpt" else place)
        except InputError as error:
            line = str(error)
            assert str(place) in line or "text" in line, line
            assert "\n" not in line
        assert time.process_time() - began < SECONDS

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    damaged()
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < BYTES
