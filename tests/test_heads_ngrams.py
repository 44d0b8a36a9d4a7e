"""Sequences of letters: what is counted, beside a count by plain Python; nothing depends on pieces or padding."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lmtasks import Batch, ClassificationTask, Decoding, RecurrentConfig, Tokenizer, TokenizerConfig
from lmtasks.heads.ngrams import FACTOR, PLACES, SHORTEST, Ngrams

PIECES = [b"", b"", b"", b"good", b" film", b"go", b"od", b" FILM", b"s", b"\xe5\xa5", b"\xbd"]


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


@pytest.mark.parametrize("ids", [[3, 4], [4], [8, 3, 4, 9, 10], [9, 10, 2]])
def test_vector_is_the_sum_of_all_sequences_over_the_root_of_their_number(ngrams: Ngrams, ids: list[int]) -> None:
    text = b"".join(PIECES[i] for i in ids)
    places = count_by_hand(text, 4)
    expected = ngrams.embedding.weight[places].sum(0) / len(places) ** 0.5
    torch.testing.assert_close(ngrams(torch.tensor([ids]))[0], expected)


def test_text_counts_and_not_its_pieces(ngrams: Ngrams) -> None:
    torch.testing.assert_close(ngrams(torch.tensor([[3, 4, 2]])), ngrams(torch.tensor([[5, 6, 4]])))


def test_capitals_are_read_as_small_letters(ngrams: Ngrams) -> None:
    torch.testing.assert_close(ngrams(torch.tensor([[3, 4]])), ngrams(torch.tensor([[3, 7]])))


def test_padding_and_neighbours_change_nothing(ngrams: Ngrams) -> None:
    together = ngrams(torch.tensor([[3, 4, 8, 2], [3, 2, 0, 0]]))
    torch.testing.assert_close(together[1:], ngrams(torch.tensor([[3, 2]])))


@pytest.mark.parametrize("ids", [[2, 0], [8, 2]])
def test_text_without_a_sequence_is_nothing(ngrams: Ngrams, ids: list[int]) -> None:
    assert ngrams(torch.tensor([ids])).abs().sum() == 0


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
