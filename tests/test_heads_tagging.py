"""TaggingHead: the chain against all sequences there are, and what must not change its answers."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmtasks.backbones.base import Backbone, BackboneConfig
from lmtasks.backbones.recurrent import RecurrentConfig
from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.batch import IGNORE, Batch, lengths_to_mask, pad
from lmtasks.decoding import Decoding
from lmtasks.heads.tagging import LONGEST, Chain, Spelling, TaggingHead

BACKBONES: dict[str, BackboneConfig] = {
    "transformer": TransformerConfig(d_model=8, n_heads=2, d_ff=16, encoder_layers=1, decoder_layers=1, dropout=0.0),
    "recurrent": RecurrentConfig(d_model=8, d_hidden=8, d_attention=4, dropout=0.0),
}
TAGS = 3  # outside, begin, inside: inside follows begin or inside, and a text does not end with begin
ALLOWED = [[True, True, False], [True, True, True], [True, True, True]]
FIRST = [True, True, False]
LAST = [True, False, True]
LENGTHS = [4, 1, 3, 2]
ROWS = [[5, 6, 7, 8, 9, 2], [8, 2], [9, 10, 5, 2], [4, 4, 4, 5, 2]]
WORDS = [[0, IGNORE, 1, 2, 0, IGNORE], [0, IGNORE], [1, 2, 0, IGNORE], [1, IGNORE, IGNORE, 2, IGNORE]]


@pytest.fixture
def chain() -> Chain:
    torch.manual_seed(0)
    chain = Chain(TAGS, ALLOWED, FIRST, LAST, learned=True).double()
    for parameter in chain.parameters():
        nn.init.normal_(parameter)
    return chain


@pytest.fixture
def emissions() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(4, 4, TAGS, dtype=torch.float64)


@pytest.fixture(params=BACKBONES)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    torch.manual_seed(0)
    return BACKBONES[request.param].build(12).double()


def head_of(crf: bool) -> TaggingHead:
    torch.manual_seed(1)
    head = TaggingHead(8, TAGS, ALLOWED, FIRST, LAST, dropout=0.0, crf=crf).double()
    for parameter in head.chain.parameters():
        nn.init.normal_(parameter)
    return head


def batch_of(rows: list[list[int]], words: list[list[int]], more: int = 0) -> Batch:
    """Return the rows padded to the longest and `more`."""
    mask = F.pad(lengths_to_mask([len(row) for row in rows]), (0, more))
    source, target = F.pad(pad(rows, 0), (0, more)), F.pad(pad(words, IGNORE), (0, more), value=IGNORE)
    return Batch("names", source, mask, target, torch.arange(len(rows)))


def lawful(length: int) -> list[tuple[int, ...]]:
    return [
        tags
        for tags in product(range(TAGS), repeat=length)
        if FIRST[tags[0]] and LAST[tags[-1]] and all(ALLOWED[a][b] for a, b in pairwise(tags))
    ]


def score(chain: Chain, emissions: Tensor, tags: tuple[int, ...]) -> Tensor:
    """Score one sequence by the definition; emissions (W, K)."""
    assert chain.follow is not None
    assert chain.begin is not None
    assert chain.end is not None
    total = chain.begin[tags[0]] + chain.end[tags[-1]]
    for emission, tag in zip(emissions, tags, strict=False):
        total = total + emission[tag]
    for a, b in pairwise(tags):
        total = total + chain.follow[a, b]
    return total


def test_normaliser_sums_over_all_lawful_sequences(chain: Chain, emissions: Tensor) -> None:
    found = chain.normaliser(emissions, lengths_to_mask(LENGTHS))
    for row, length in enumerate(LENGTHS):
        scores = torch.stack([score(chain, emissions[row], tags) for tags in lawful(length)])
        torch.testing.assert_close(found[row], scores.logsumexp(0))


def test_viterbi_finds_the_best_lawful_sequence(chain: Chain, emissions: Tensor) -> None:
    found = chain.best(emissions, lengths_to_mask(LENGTHS)).tolist()
    for row, length in enumerate(LENGTHS):
        best = max(lawful(length), key=lambda tags: score(chain, emissions[row], tags).item())
        assert tuple(found[row][:length]) == best


def test_likelihoods_of_all_lawful_sequences_sum_to_one(chain: Chain, emissions: Tensor) -> None:
    for row, length in enumerate(LENGTHS):
        tags = torch.tensor(lawful(length))
        mask = torch.ones_like(tags, dtype=torch.bool)
        nll = chain.nll(emissions[row, :length].expand(len(tags), -1, -1), mask, tags)
        torch.testing.assert_close((-nll).exp().sum(), torch.ones((), dtype=torch.float64))


def test_tags_that_break_a_rule_have_a_finite_loss(chain: Chain, emissions: Tensor) -> None:
    broken = (0, 2, 0, 1)
    nll = chain.nll(emissions[:1], torch.ones(1, 4, dtype=torch.bool), torch.tensor([broken]))[0]
    scores = torch.stack([score(chain, emissions[0], tags) for tags in [*lawful(4), broken]])
    torch.testing.assert_close(nll, scores.logsumexp(0) - scores[-1])


def test_what_stands_behind_the_words_changes_nothing(chain: Chain, emissions: Tensor) -> None:
    mask = lengths_to_mask(LENGTHS)
    tags = torch.tensor([[0, 1, 2, 0], [0, 0, 0, 0], [1, 2, 0, 0], [1, 2, 0, 0]])
    other = torch.where(mask.unsqueeze(-1), emissions, 7.0), mask, torch.where(mask, tags, 2)
    torch.testing.assert_close(chain.nll(emissions, mask, tags), chain.nll(*other))


def test_gradient_is_right(chain: Chain, emissions: Tensor) -> None:
    mask = lengths_to_mask(LENGTHS)
    tags = torch.tensor([[0, 1, 2, 0], [0, 0, 0, 0], [1, 2, 0, 0], [0, 2, 0, 0]])  # the last one breaks a rule
    inputs = (emissions.requires_grad_(), *chain.parameters())  # gradcheck nudges the parameters themselves
    assert torch.autograd.gradcheck(lambda emissions, *_: chain.nll(emissions, mask, tags), inputs)


def test_loss_of_the_head_is_that_of_the_words_states(backbone: Backbone) -> None:
    head, batch = head_of(crf=True), batch_of(ROWS, WORDS)
    total = torch.zeros((), dtype=torch.float64)
    for row, words in zip(ROWS, WORDS, strict=True):
        ids, places = torch.tensor([row]), [place for place, tag in enumerate(words) if tag != IGNORE]
        emissions = head.emission(backbone.encode(ids, ids > 0).states[0, places])
        scores = torch.stack([score(head.chain, emissions, tags) for tags in lawful(len(places))])
        total = total + scores.logsumexp(0) - score(head.chain, emissions, tuple(words[place] for place in places))
    loss = head.loss(backbone, batch)
    torch.testing.assert_close((loss.total, loss.nll), (total, total.detach()))
    assert loss.count == sum(LENGTHS)


def test_without_a_chain_each_word_has_its_own_cross_entropy(backbone: Backbone) -> None:
    head, batch = head_of(crf=False), batch_of(ROWS, WORDS)
    logits = head.emission(backbone.encode(batch.source, batch.source_mask).states)
    expected = F.cross_entropy(logits.flatten(0, 1), batch.target.flatten(), reduction="sum")
    torch.testing.assert_close(head.loss(backbone, batch).total, expected)
    assert list(head.chain.parameters()) == []


@pytest.mark.parametrize("crf", [True, False])
def test_answers_keep_the_rules_and_have_a_tag_for_each_word(backbone: Backbone, crf: bool) -> None:
    answers = [tags for tags, _ in head_of(crf).predict(backbone, batch_of(ROWS, WORDS), Decoding())]
    assert all(tuple(tags) in lawful(length) for tags, length in zip(answers, LENGTHS, strict=True))


@pytest.mark.parametrize("crf", [True, False])
def test_padding_changes_nothing(backbone: Backbone, crf: bool) -> None:
    head = head_of(crf)
    together, alone = batch_of(ROWS, WORDS, more=3), [batch_of([r], [w]) for r, w in zip(ROWS, WORDS, strict=True)]
    torch.testing.assert_close(
        head.loss(backbone, together).total, sum(head.loss(backbone, batch).total for batch in alone)
    )
    found, expected = (
        head.predict(backbone, together, Decoding()),
        [head.predict(backbone, batch, Decoding())[0] for batch in alone],
    )
    assert [tags for tags, _ in found] == [tags for tags, _ in expected]
    assert [probability for _, probability in found] == pytest.approx([probability for _, probability in expected])


def test_the_probability_of_an_answer_is_its_share_of_all_lawful_sequences(backbone: Backbone) -> None:
    head, batch = head_of(crf=True), batch_of(ROWS, WORDS)
    emissions, mask, _ = head.logits(backbone, batch)
    for row, (tags, probability) in enumerate(head.predict(backbone, batch, Decoding())):
        length = int(mask[row].sum())
        one = emissions[row : row + 1, :length], mask[row : row + 1, :length]
        others = torch.cat([head.chain.score(*one, torch.tensor([way]))[0] for way in lawful(length)])
        own = head.chain.score(*one, torch.tensor([tags]))[0]
        assert probability == pytest.approx((own - others.logsumexp(0)).exp().item())


def test_letters_and_layers_over_the_words_see_no_padding(backbone: Backbone) -> None:
    torch.manual_seed(1)
    pieces = [b"", b"", b"", b"x", *(bytes([97 + i]) * (1 + i % 3) for i in range(8))]
    head = TaggingHead(8, TAGS, ALLOWED, FIRST, LAST, dropout=0.0, pieces=pieces, layers=2).double()
    together, alone = batch_of(ROWS, WORDS, more=3), [batch_of([r], [w]) for r, w in zip(ROWS, WORDS, strict=True)]
    torch.testing.assert_close(
        head.loss(backbone, together).total, sum(head.loss(backbone, batch).total for batch in alone)
    )


def test_a_word_is_spelled_by_all_of_its_pieces() -> None:
    pieces = [b"", b"", b"", b"An", b"na", b"Rome", b"x" * 40]
    spelling = Spelling(pieces)
    source = torch.tensor([[3, 4, 5, 2, 0], [6, 4, 2, 0, 0]])
    words = torch.tensor([[True, False, True, False, False], [True, False, False, False, False]])
    letters = spelling.spell(source, torch.tensor([[0, 2], [0, 1]]), words)
    texts = [[bytes(int(i) - 1 for i in word if i) for word in row] for row in letters]
    assert texts == [[b"Anna", b"Rome"], [b"x" * LONGEST, b""]]
    assert spelling(source, torch.tensor([[0, 2], [0, 1]]), words)[1, 1].abs().sum() == 0


def test_losses_and_gradients_of_micro_batches_add_up(backbone: Backbone) -> None:
    head = head_of(crf=True)
    both = nn.ModuleList([backbone, head])
    gradients = []
    for parts in ([slice(0, 4)], [slice(0, 2), slice(2, 4)]):
        both.zero_grad()
        for part in parts:
            head.loss(backbone, batch_of(ROWS[part], WORDS[part])).total.backward()
        gradients.append([p.grad.clone() for p in both.parameters() if p.grad is not None])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_row_without_words_has_no_loss_and_no_tags(backbone: Backbone) -> None:
    head, nothing = head_of(crf=True), [IGNORE] * 2
    assert head.loss(backbone, batch_of([[5, 2]], [nothing])).total == 0
    assert head.predict(backbone, batch_of([[5, 2], [5, 2]], [nothing, [0, IGNORE]]), Decoding())[0] == ([], 1.0)


def test_bfloat16_sums_in_float32(backbone: Backbone) -> None:
    head, batch = head_of(crf=True).float(), batch_of(ROWS, WORDS)
    exact = head.loss(backbone.float(), batch)
    with torch.autocast("cpu", torch.bfloat16):
        loss = head.loss(backbone, batch)
    assert loss.total.dtype == torch.float32
    torch.testing.assert_close(loss.total, exact.total, atol=0.2, rtol=0.05)


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("crf", [True, False])
def test_it_learns_to_tag(name: str, crf: bool) -> None:
    torch.manual_seed(2)
    backbone, head = BACKBONES[name].build(12), TaggingHead(8, TAGS, ALLOWED, FIRST, dropout=0.0, crf=crf)
    source = torch.randint(3, 12, (32, 6))
    begins = source > 8
    inside = F.pad(begins, (1, 0))[:, :-1] & ~begins  # what follows a high token
    batch = Batch("x", source, source > 0, begins + 2 * inside.long(), torch.arange(32))
    optimizer = torch.optim.Adam([*backbone.parameters(), *head.parameters()], 0.02)
    for _ in range(80):
        optimizer.zero_grad()
        head.loss(backbone, batch).total.backward()
        optimizer.step()
    found = head.eval().predict(backbone.eval(), batch, Decoding())
    right = torch.tensor([tags for tags, _ in found]) == batch.target
    assert right.float().mean() > 0.95
