"""SpanHead: its parts against their definitions in loops, its search against all spans, and what it must not heed."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmtasks.backbones.base import Backbone, BackboneConfig
from lmtasks.backbones.recurrent import RecurrentConfig
from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.batch import IGNORE, Batch, lengths_to_mask, pad
from lmtasks.decoding import Decoding
from lmtasks.heads.span import QuestionAttention, SpanHead, WordMatch, best_spans, match_features

BACKBONES: dict[str, BackboneConfig] = {
    "transformer": TransformerConfig(d_model=8, n_heads=2, d_ff=16, encoder_layers=1, decoder_layers=1, dropout=0.0),
    "recurrent": RecurrentConfig(d_model=8, d_hidden=8, d_attention=4, dropout=0.0),
}
END = 2
ROWS = [
    [5, 6, END, 7, 6, 8, 6, END],
    [5, END, 9, END],
    [3, 4, 5, END, 5, 5, END],
    [5, END, END],
]  # the last: no context
SPANS = torch.tensor([[4, 5], [3, 3], [4, 4], [2, 2]])
QUESTIONS, CONTEXTS = [3, 2, 4, 2], [4, 1, 2, 0]  # tokens, the question's end among them, and the context's not
SETTINGS = [(True, True, 1), (True, False, 1), (False, True, 2), (True, True, 0), (False, False, 0)]


@pytest.fixture(params=BACKBONES)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    torch.manual_seed(0)
    return BACKBONES[request.param].build(12).double()


@pytest.fixture(params=SETTINGS)
def head(request: pytest.FixtureRequest) -> SpanHead:
    attention, word_match, layers = request.param
    return head_of(attention=attention, word_match=word_match, layers=layers)


def head_of(**settings: object) -> SpanHead:
    torch.manual_seed(1)
    return SpanHead(**({"d_model": 8, "end": END, "dropout": 0.0} | settings)).double()  # type: ignore[arg-type]


def batch_of(rows: list[list[int]], spans: Tensor, more: int = 0) -> Batch:
    """Return the rows padded to the longest and `more`."""
    mask = F.pad(lengths_to_mask([len(row) for row in rows]), (0, more))
    return Batch("answer", F.pad(pad(rows, 0), (0, more)), mask, spans, torch.arange(len(rows)))


def test_search_finds_what_a_look_at_all_spans_finds() -> None:
    torch.manual_seed(3)
    starts, ends = torch.randn(2, 5, 9)
    starts[0, :3], ends[0, :3], starts[0, 7:], ends[0, 7:] = [-torch.inf] * 4
    starts[1] = -torch.inf
    for max_span in (1, 3, 20):
        found = best_spans(starts, ends, max_span, n_best=4)
        for row in range(5):
            spans = [
                (first, last, float(starts[row, first] + ends[row, last]))
                for first in range(9)
                for last in range(first, min(9, first + max_span))
            ]
            possible = [span for span in spans if span[2] > -math.inf]
            assert found[row] == sorted(possible, key=lambda span: -span[2])[:4]


def test_answers_are_spans_of_the_context_and_once_that_there_is_none(backbone: Backbone, head: SpanHead) -> None:
    head.n_best, head.max_span = 100, 2
    for answers, row, question, context in zip(
        head.predict(backbone, batch_of(ROWS, SPANS), Decoding()), ROWS, QUESTIONS, CONTEXTS, strict=True
    ):
        places = range(question, question + context)
        every = {(first, last) for first in places for last in places if first <= last < first + 2}
        assert len(answers) == len(every) + 1
        assert {(first, last) for first, last, _ in answers} == every | {(len(row) - 1, len(row) - 1)}
        assert [answer[2] for answer in answers] == sorted((answer[2] for answer in answers), reverse=True)


def test_n_best_does_not_count_that_there_is_no_answer(backbone: Backbone) -> None:
    answers = head_of(n_best=1).predict(backbone, batch_of(ROWS, SPANS), Decoding())
    assert [len(spans) for spans in answers] == [2, 2, 2, 1]


def test_threshold_moves_the_score_of_no_answer_and_is_saved(backbone: Backbone) -> None:
    head, batch = head_of(), batch_of(ROWS[:1], SPANS[:1])
    before = {span[:2]: span[2] for span in head.predict(backbone, batch, Decoding())[0]}
    head.threshold.fill_(50.0)
    other = head_of()
    other.load_state_dict(head.state_dict())
    after = other.predict(backbone, batch, Decoding())[0]
    assert after[0][:2] == (7, 7)
    assert {span[:2]: span[2] for span in after} == pytest.approx(before | {(7, 7): before[7, 7] + 50})


def test_loss_is_that_of_the_first_and_the_last_token_among_possible_ones(backbone: Backbone, head: SpanHead) -> None:
    batch = batch_of(ROWS, SPANS)
    logits, body = head.logits(backbone, batch)
    total = torch.zeros((), dtype=torch.float64)
    for row, (question, context) in enumerate(zip(QUESTIONS, CONTEXTS, strict=True)):
        possible = slice(question, question + context + 1)
        assert body[row].nonzero()[:, 0].tolist() == list(range(question, question + context))
        for side in range(2):
            total = total - logits[row, possible, side].log_softmax(0)[SPANS[row, side] - question]
    loss = head.loss(backbone, batch)
    torch.testing.assert_close((loss.total, loss.nll), (total, total.detach()))
    assert loss.count == 8


def test_a_row_without_target_has_no_loss(backbone: Backbone) -> None:
    loss = head_of().loss(backbone, batch_of(ROWS[:1], torch.full((1, 2), IGNORE)))
    assert (loss.total, loss.nll, loss.count) == (0, 0, 0)


def test_attention_is_that_of_qanet() -> None:
    """The loops over tokens follow the paper, row by row, without a mask or padding."""
    torch.manual_seed(4)
    attention, states = QuestionAttention(8, word_match=True).double(), torch.randn(2, 7, 8, dtype=torch.float64)
    sizes = [(3, 4), (2, 3)]  # tokens of question and context
    question, together = lengths_to_mask([3, 2]), lengths_to_mask([7, 5])
    context = together & ~F.pad(question, (0, 4))
    same = torch.zeros(2, 7, 3, dtype=torch.bool)
    same[0, 4, 1] = same[1, 2, 0] = True
    found = torch.cat(attention.read(states, question, context, same), dim=-1)  # (2, 7, 32)
    for row, (n, m) in enumerate(sizes):
        q, c = states[row, :n], states[row, n : n + m]
        weight = torch.cat((attention.context.weight[0], attention.question.weight[0], attention.product))
        similarity = torch.stack([
            torch.stack([weight @ torch.cat((c[i], q[j], c[i] * q[j])) + same[row, n + i, j] for j in range(n)])
            for i in range(m)
        ])  # fmt: skip
        rows, columns = similarity.softmax(1), similarity.softmax(0)
        a, b = rows @ q, rows @ columns.T @ c
        torch.testing.assert_close(found[row, n : n + m], torch.cat((c, a, c * a, c * b), dim=1))


def test_match_tells_tokens_of_the_question_and_how_rare_they_are() -> None:
    source = torch.tensor([[5, 6, 9, END, 7, 6, 5, 6, END, 0]])
    question, context = lengths_to_mask([4]), torch.tensor([[False] * 4 + [True] * 5 + [False]])
    features = match_features(WordMatch(8, None)(source, question, context))[0]
    expected = [[0, 0], [1, 1 / 2], [1, 1], [1, 1 / 2], [1, 1]]  # the end of the context is that of the question
    torch.testing.assert_close(features, torch.tensor([[0, 0]] * 4 + expected + [[0, 0]], dtype=torch.float32))


def test_forms_let_different_tokens_match() -> None:
    source = torch.tensor([[5, END, 6, 7, END]])
    parts = lengths_to_mask([2]), torch.tensor([[False, False, True, True, True]])
    forms = [0, 1, 2, 3, 4, 5, 5, 7]
    assert WordMatch(8, forms)(source, *parts)[0, 2:4, 0].tolist() == [True, False]
    assert WordMatch(8, None)(source, *parts)[0, 2:4, 0].tolist() == [False, False]


def test_padding_changes_nothing(backbone: Backbone, head: SpanHead) -> None:
    together = head.predict(backbone, batch_of(ROWS, SPANS, more=3), Decoding())
    for row, answers in zip(ROWS, together, strict=True):
        alone = head.predict(backbone, batch_of([row], SPANS[:1]), Decoding())[0]
        assert [span[:2] for span in answers] == [span[:2] for span in alone]
        assert [span[2] for span in answers] == pytest.approx([span[2] for span in alone])


def test_losses_and_gradients_of_micro_batches_add_up(backbone: Backbone, head: SpanHead) -> None:
    both = nn.ModuleList([backbone, head])
    gradients = []
    for parts in ([slice(0, 4)], [slice(0, 2), slice(2, 4)]):
        both.zero_grad()
        for part in parts:
            head.loss(backbone, batch_of(ROWS[part], SPANS[part])).total.backward()
        gradients.append([p.grad.clone() for p in both.parameters() if p.grad is not None])
    torch.testing.assert_close(gradients[0], gradients[1])
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_bfloat16_sums_in_float32(backbone: Backbone) -> None:
    head, batch = head_of().float(), batch_of(ROWS, SPANS)
    exact = head.loss(backbone.float(), batch)
    with torch.autocast("cpu", torch.bfloat16):
        loss = head.loss(backbone, batch)
        loss.total.backward()
    assert loss.total.dtype == torch.float32
    torch.testing.assert_close(loss.total, exact.total, atol=0.2, rtol=0.05)


@pytest.mark.parametrize("name", BACKBONES)
def test_it_learns_to_find_what_follows_the_token_asked_for(name: str) -> None:
    torch.manual_seed(2)
    backbone, head = BACKBONES[name].build(24), SpanHead(8, END, dropout=0.0)
    context = torch.rand(256, 20).argsort(1)[:, :8] + 3  # (256, 8), all tokens of a row differ
    asked = torch.randint(0, 7, (256, 1))
    end = torch.full_like(asked, END)
    source = torch.cat((context.gather(1, asked), end, context, end), dim=1)  # (256, 11)
    span = (asked + 3).expand(-1, 2).contiguous()
    optimizer = torch.optim.Adam([*backbone.parameters(), *head.parameters()], 0.02)
    for step in range(40):
        rows = slice(step % 3 * 64, step % 3 * 64 + 64)
        optimizer.zero_grad()
        head.loss(backbone, Batch("x", source[rows], source[rows] > 0, span[rows], torch.arange(64))).total.backward()
        optimizer.step()
    unseen = Batch("x", source[192:], source[192:] > 0, span[192:], torch.arange(64))
    answers = head.eval().predict(backbone.eval(), unseen, Decoding())
    right = [spans[0][:2] == tuple(span) for spans, span in zip(answers, unseen.target.tolist(), strict=True)]
    assert sum(right) > 0.95 * len(right)
