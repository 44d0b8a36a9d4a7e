"""Sequences of letters: what is counted, beside a count by plain Python; nothing depends on pieces or padding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from lmtasks import (
    Batch,
    ClassificationTask,
    Decoding,
    Model,
    RecurrentConfig,
    Tokenizer,
    TokenizerConfig,
    TransformerConfig,
    load,
    save,
)
from lmtasks.batch import lengths_to_mask, pad
from lmtasks.errors import InputError
from lmtasks.heads.classification import FACTOR, PLACES, SHORTEST, Ngrams
from lmtasks.training.optim.optimizers import _matrices_and_rest

PIECES = [b"", b"", b"", b"good", b" film", b"go", b"od", b" FILM", b"s", b"\xe5\xa5", b"\xbd"]


def read(ngrams: Ngrams, *rows: list[int]) -> torch.Tensor:
    source = pad(rows, 0)
    return ngrams(source, lengths_to_mask([len(row) for row in rows]))


def count_by_hand(text: bytes, longest: int) -> list[int]:
    """Return the places of all sequences of a text, by whole numbers of Python cut to 64 bits."""
    places = []
    for length in range(SHORTEST, longest + 1):
        for begin in range(len(text) - length + 1):
            number = 0
            for byte in text[begin : begin + length]:
                number = ((number ^ (byte + 1)) * FACTOR) % 2**64
            signed = number - 2**64 if number >= 2**63 else number
            places.append(1 + (signed ^ (signed >> 29)) % (PLACES - 1))
    return places


@pytest.fixture
def ngrams() -> Ngrams:
    torch.manual_seed(0)
    return Ngrams(PIECES, longest=4)


@pytest.mark.parametrize("ids", [[3, 4], [4], [8, 3, 4, 9, 10]])
def test_vector_is_the_sum_of_all_sequences_over_the_root_of_their_number(ngrams: Ngrams, ids: list[int]) -> None:
    text = b"".join(PIECES[i] for i in ids)
    places = count_by_hand(text, 4)
    expected = ngrams.embedding.weight[places].sum(0) / len(places) ** 0.5
    torch.testing.assert_close(read(ngrams, ids)[0], expected)


def test_text_counts_and_not_its_pieces(ngrams: Ngrams) -> None:
    torch.testing.assert_close(read(ngrams, [3, 4, 2]), read(ngrams, [5, 6, 4]))


def test_capitals_of_ascii_are_read_as_small_letters(ngrams: Ngrams) -> None:
    torch.testing.assert_close(read(ngrams, [3, 4]), read(ngrams, [3, 7]))


def test_padding_and_neighbours_change_nothing(ngrams: Ngrams) -> None:
    together = read(ngrams, [3, 4, 8, 2], [3, 2])
    torch.testing.assert_close(together[1:], read(ngrams, [3, 2]))


def test_what_the_mask_leaves_out_is_not_read_whatever_its_ids(ngrams: Ngrams) -> None:
    source, mask = torch.tensor([[3, 4, 8, 5]]), torch.tensor([[True, True, False, False]])
    torch.testing.assert_close(ngrams(source, mask), read(ngrams, [3, 4]))


def test_no_sequence_goes_over_the_end_of_the_first_of_two_texts(ngrams: Ngrams) -> None:
    places = count_by_hand(b"good", 4) + count_by_hand(b" film", 4)
    expected = ngrams.embedding.weight[places].sum(0) / len(places) ** 0.5
    torch.testing.assert_close(read(ngrams, [3, 2, 4, 2])[0], expected)


@pytest.mark.parametrize("ids", [[2], [8, 2]])
def test_text_without_a_sequence_is_nothing_and_gives_a_gradient(ngrams: Ngrams, ids: list[int]) -> None:
    found = read(ngrams, ids)
    found.sum().backward()
    assert found.abs().sum() == 0
    assert ngrams.embedding.weight.grad is not None


def test_half_precision_stays_near_float32(ngrams: Ngrams) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        near = read(ngrams, [3, 4, 2])
    torch.testing.assert_close(near.float(), read(ngrams, [3, 4, 2]), rtol=1e-2, atol=1e-3)


def test_the_table_is_no_matrix_of_a_layer_to_an_optimiser(ngrams: Ngrams) -> None:
    matrices, rest = _matrices_and_rest(ngrams)
    assert (len(matrices), [id(parameter) for parameter in rest]) == (0, [id(ngrams.embedding.weight)])


@pytest.mark.parametrize("longest", [1, -3, 500])
def test_sequences_of_no_letters_and_of_whole_texts_are_refused(longest: int) -> None:
    with pytest.raises(InputError, match=f"ngrams {longest}; give 2 to 16 bytes, or 0 for none"):
        ClassificationTask(ngrams=longest)


def test_model_that_reads_letters_is_saved_and_loaded(tmp_path: Path) -> None:
    task = ClassificationTask(labels=("bad", "good"), ngrams=3)
    model = Model({"mood": task}, TransformerConfig(d_model=8, n_heads=2, d_ff=8, decoder_layers=0, convolution=3))
    model.build(Tokenizer.train([], TokenizerConfig(kind="byte")))
    loaded = load(save(model.eval(), tmp_path / "model"))
    assert loaded.probabilities("a fine day") == model.probabilities("a fine day")


def test_classifier_learns_from_letters_what_its_encoder_cannot_tell() -> None:
    texts = ["xaby", "abzz", "qqab", "xbay", "bazz", "qqba"]
    tokenizer = Tokenizer.train(texts, TokenizerConfig(kind="byte"))
    task = ClassificationTask(ngrams=2, dropout=0.0, labels=("ab", "ba"))
    backbone = RecurrentConfig(d_model=8, d_hidden=8, encoder_layers=1, decoder_layers=0).build(len(tokenizer))
    nn.init.zeros_(backbone.embedding.weight)  # nothing but the length of a text is left
    torch.manual_seed(0)
    head = task.head(tokenizer, backbone.d_model)
    source = torch.tensor(tokenizer.encode_batch(texts))
    target = torch.tensor([[0], [0], [0], [1], [1], [1]])
    batch = Batch("order", source, torch.ones_like(source, dtype=torch.bool), target, torch.arange(len(texts)))
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(30):
        optimizer.zero_grad()
        head.loss(backbone, batch).total.backward()
        optimizer.step()
    found = torch.tensor(head.predict(backbone, batch, Decoding())).argmax(1, keepdim=True)
    assert found.equal(target)
