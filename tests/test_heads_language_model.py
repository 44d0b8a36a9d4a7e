"""The language-model head against a loop over single rows, and its texts against the argmax of whole decodes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from decoding_models import real_model
from torch import Tensor

from lmtasks.backbones.base import Backbone
from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.batch import IGNORE, Batch, lengths_to_mask, pad
from lmtasks.decoding import Decoding
from lmtasks.errors import InputError
from lmtasks.heads.language_model import LanguageModelHead, join, latest

END, VOCAB = 2, 9
SOURCES = [[END, 5, 6], [END], [7, 8, 3, 4], [4, END]]
TARGETS = [[3, 4, END], [5, 6, 7, 8, END], [END], [6, 6]]
KINDS = pytest.mark.parametrize("kind", ["transformer", "recurrent"])


def batch_of(sources: list[list[int]], targets: list[list[int]]) -> Batch:
    mask = lengths_to_mask([len(source) for source in sources])
    return Batch("generation", pad(sources, 0), mask, pad(targets, IGNORE), torch.arange(len(sources)))


def model_of(kind: str) -> Backbone:
    return real_model(kind, 3, VOCAB, encoder=False)


def slow_loss(backbone: Backbone, sources: list[list[int]], targets: list[list[int]]) -> Tensor:
    """Score each target token of each row by a pass of its own over all that stands before it."""
    losses = []
    for source, target in zip(sources, targets, strict=True):
        for place, token in enumerate(target):
            hidden = backbone.decode(torch.tensor([[*source, *target[:place]]]), None)[0, -1]
            losses.append(F.cross_entropy(backbone.logits(hidden), torch.tensor(token)))
    return torch.stack(losses).sum()


@KINDS
@pytest.mark.parametrize("sources", [SOURCES, [[END]] * 4, [[5, 6]] * 4], ids=["ragged", "one", "two"])
def test_the_loss_is_that_of_each_target_token_after_all_before_it(kind, sources):
    backbone = model_of(kind)
    loss, wanted = (
        LanguageModelHead(END).loss(backbone, batch_of(sources, TARGETS)),
        slow_loss(backbone, sources, TARGETS),
    )
    assert int(loss.count) == sum(map(len, TARGETS))
    torch.testing.assert_close(loss.total, wanted)
    torch.testing.assert_close(loss.nll, wanted.detach())
    given, slow = (torch.autograd.grad(total, list(backbone.parameters())) for total in (loss.total, wanted))
    for ours, theirs in zip(given, slow, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@KINDS
def test_more_padding_changes_nothing(kind):
    backbone, batch, head = model_of(kind), batch_of(SOURCES, TARGETS), LanguageModelHead(END)
    source, mask = F.pad(batch.source, (0, 2), value=5), F.pad(batch.source_mask, (0, 2))
    wider = Batch("generation", source, mask, F.pad(batch.target, (0, 3), value=IGNORE), batch.ids)
    torch.testing.assert_close(head.loss(backbone, wider).total, head.loss(backbone, batch).total)


def test_source_and_target_are_joined_without_a_gap():
    batch = batch_of(SOURCES, TARGETS)
    read = join(batch.source, batch.source_mask, batch.target)
    assert read.shape == (4, 4 + 5 - 1)
    for row, source, target in zip(read.tolist(), SOURCES, TARGETS, strict=True):
        whole = [*source, *target[:-1]]
        assert row[: len(whole)] == whole


@KINDS
def test_greedy_texts_follow_their_sources(kind):
    backbone, head = model_of(kind), LanguageModelHead(END, suppress_tokens=[0, 1])
    found = head.predict(backbone, batch_of(SOURCES, TARGETS), Decoding(1, max_length=6))
    for source, (text,) in zip(SOURCES, found, strict=True):
        wanted: list[int] = []
        while len(wanted) < 5:
            logits = backbone.logits(backbone.decode(torch.tensor([[*source, *wanted]]), None))[0, -1]
            logits[[0, 1]] = -torch.inf
            if (token := int(logits.argmax())) == END:
                break
            wanted.append(token)
        assert text.tokens == wanted


@KINDS
def test_a_prefix_belongs_to_the_text_and_a_source_does_not(kind):
    backbone, head = model_of(kind), LanguageModelHead(END)
    decoding = Decoding(1, max_length=5, min_length=5)
    for (text,) in head.predict(backbone, batch_of(SOURCES, TARGETS), decoding, prefix=[3, 7]):
        assert text.tokens[:2] == [3, 7]
        assert len(text.tokens) == 4


@KINDS
@pytest.mark.parametrize("how", [{}, {"sample": True, "seed": 1}])
def test_a_stream_is_the_text_of_predict(kind, how):
    backbone, head, decoding = model_of(kind), LanguageModelHead(END), Decoding(1, max_length=9, **how)
    for source in SOURCES:
        ((text,),) = head.predict(backbone, batch_of([source], [[END]]), decoding)
        assert list(head.stream(backbone, source, decoding)) == text.tokens


def test_a_long_source_is_cut_from_the_left_so_that_the_text_fits():
    torch.manual_seed(0)
    config = TransformerConfig(d_model=8, n_heads=2, d_ff=8, encoder_layers=0, decoder_layers=1, max_length=12)
    backbone, head = config.build(VOCAB).eval(), LanguageModelHead(END)
    long = [END, *torch.randint(3, VOCAB, (40,)).tolist()]
    decoding = Decoding(1, max_length=5, min_length=5)
    assert list(head.stream(backbone, long, decoding)) == list(head.stream(backbone, long[-8:], decoding))
    assert len(list(head.stream(backbone, long, decoding))) == 4
    assert len(list(head.stream(backbone, long, Decoding(1, max_length=99, min_length=99)))) == 12 - 6


@pytest.mark.parametrize("readable", [None, 1, 2, 7, 20])
@pytest.mark.parametrize("max_length", [1, 3, 50])
def test_what_is_kept_of_a_source_is_its_end_and_leaves_room(readable, max_length):
    source = list(range(10))
    kept = latest(source, readable, max_length)
    assert kept
    assert kept == source[-len(kept) :]
    if readable is not None:
        assert len(kept) - 1 + min(max_length, readable - readable // 2) <= max(readable, 1)
    if readable is None or readable >= 10 + max_length:
        assert kept == source


def test_an_empty_source_begins_a_text():
    backbone, head, decoding = model_of("transformer"), LanguageModelHead(END), Decoding(1, max_length=6)
    assert list(head.stream(backbone, [], decoding)) == list(head.stream(backbone, [END], decoding))


def test_an_encoder_decoder_is_refused_with_the_setting_named():
    with pytest.raises(InputError, match="encoder_layers"):
        LanguageModelHead(END).loss(real_model("transformer", 0, VOCAB), batch_of(SOURCES, TARGETS))
