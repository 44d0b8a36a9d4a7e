"""ClassificationHead: against its definition in plain arithmetic, and what must not change its answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lmtasks.backbones.base import Backbone, BackboneConfig
from lmtasks.backbones.recurrent import RecurrentConfig
from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.batch import IGNORE, Batch, lengths_to_mask, pad
from lmtasks.decoding import Decoding
from lmtasks.heads.classification import ClassificationHead

BACKBONES: dict[str, BackboneConfig] = {
    "transformer": TransformerConfig(d_model=8, n_heads=2, d_ff=16, encoder_layers=1, decoder_layers=1, dropout=0.0),
    "recurrent": RecurrentConfig(d_model=8, d_hidden=8, d_attention=4, dropout=0.0),
}
ROWS = [[5, 6, 7, 2], [8, 2], [9, 10, 2], [4, 4, 4, 5, 2]]
CLASSES = torch.tensor([[0], [2], [1], [2]])
LABELS = torch.tensor([[0, 1, 1], [0, 0, 0], [1, 0, IGNORE], [1, 1, 1]])


@pytest.fixture(params=BACKBONES)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    torch.manual_seed(0)
    return BACKBONES[request.param].build(12).double()


def head_of(**settings: object) -> ClassificationHead:
    torch.manual_seed(1)
    return ClassificationHead(**({"d_model": 8, "n_classes": 3, "dropout": 0.0} | settings)).double()  # type: ignore[arg-type]


def batch_of(rows: list[list[int]], target: torch.Tensor, more: int = 0) -> Batch:
    """Return the rows padded to the longest and `more`."""
    source = pad(rows, 0)
    mask = lengths_to_mask([len(row) for row in rows])
    return Batch("mood", F.pad(source, (0, more)), F.pad(mask, (0, more)), target, torch.arange(len(rows)))


def test_loss_is_the_weighted_cross_entropy_of_the_mean_state(backbone: Backbone) -> None:
    weights = [0.5, 2.0, 1.5]
    head = head_of(class_weights=weights)
    loss = head.loss(backbone, batch_of(ROWS, CLASSES))
    total = nll = torch.zeros(())
    for row, target in zip(ROWS, CLASSES[:, 0].tolist(), strict=True):
        ids = torch.tensor([row])
        state = backbone.encode(ids, ids > 0).states[0].mean(0)
        surprise = -(head.output.weight @ state + head.output.bias).log_softmax(0)[target]
        total, nll = total + weights[target] * surprise, nll + surprise
    torch.testing.assert_close((loss.total, loss.nll), (total, nll), check_dtype=False)
    assert loss.count == 4
    assert not loss.nll.requires_grad


@pytest.mark.parametrize(("hidden", "activation"), [("tanh", torch.tanh), ("relu", torch.relu)])
def test_a_hidden_layer_stands_between_the_pooled_state_and_the_labels(
    backbone: Backbone, hidden: str, activation: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    head, batch = head_of(hidden=hidden, pooling="first"), batch_of(ROWS, CLASSES)
    assert isinstance(head.hidden, nn.Linear)
    first = backbone.encode(batch.source, batch.source_mask).states[:, 0]
    expected = head.output(activation(first @ head.hidden.weight.T + head.hidden.bias))
    torch.testing.assert_close(head.logits(backbone, batch), expected)
    head.loss(backbone, batch).total.backward()
    assert head.hidden.weight.grad is not None


def test_several_labels_are_a_yes_or_no_each_and_unknown_ones_do_not_count(backbone: Backbone) -> None:
    head = head_of(multi_label=True, class_weights=[0.5, 2.0, 1.5])
    batch = batch_of(ROWS, LABELS)
    loss = head.loss(backbone, batch)
    yes = torch.tensor(head.predict(backbone, batch, Decoding()), dtype=torch.float64)
    surprise = -torch.where(LABELS == 1, yes, 1 - yes).log() * (LABELS != IGNORE)
    torch.testing.assert_close(loss.nll, surprise.sum())
    weights = torch.where(LABELS == 1, torch.tensor([0.5, 2.0, 1.5]), 1.0)
    torch.testing.assert_close(loss.total.detach(), (surprise * weights).sum())
    assert loss.count == 11


@pytest.mark.parametrize("multi_label", [False, True])
def test_label_smoothing_mixes_the_target_with_chance_in_training_only(backbone: Backbone, multi_label: bool) -> None:
    target = LABELS.clamp(min=0) if multi_label else CLASSES
    plain, smooth = (head_of(multi_label=multi_label, label_smoothing=share) for share in (0.0, 0.2))
    batch = batch_of(ROWS, target)
    flat = [torch.full_like(target, c) for c in range(3)]
    if multi_label:
        flat = [torch.zeros_like(target), torch.ones_like(target)]
    chance = sum(plain.loss(backbone, batch_of(ROWS, each)).total for each in flat) / len(flat)
    exact = plain.loss(backbone, batch)
    smoothed = smooth.loss(backbone, batch)
    torch.testing.assert_close(smoothed.total, 0.8 * exact.total + 0.2 * chance)
    torch.testing.assert_close(smoothed.nll, exact.nll)
    torch.testing.assert_close(smooth.eval().loss(backbone, batch).total, exact.total)


@pytest.mark.parametrize("pooling", ["mean", "max", "first", "attention"])
def test_padding_changes_nothing(backbone: Backbone, pooling: str) -> None:
    head = head_of(pooling=pooling)
    together = head.predict(backbone, batch_of(ROWS, CLASSES, more=3), Decoding())
    alone = [head.predict(backbone, batch_of([row], CLASSES[:1]), Decoding())[0] for row in ROWS]
    torch.testing.assert_close(torch.tensor(together), torch.tensor(alone))
    torch.testing.assert_close(torch.tensor(together).sum(1), torch.ones(4))


@pytest.mark.parametrize("multi_label", [False, True])
def test_losses_and_gradients_of_micro_batches_add_up(backbone: Backbone, multi_label: bool) -> None:
    target = LABELS if multi_label else CLASSES
    head = head_of(pooling="attention", multi_label=multi_label, class_weights=[1, 2, 3], label_smoothing=0.1)
    both = nn.ModuleList([backbone, head])
    gradients = []
    for parts in ([slice(0, 4)], [slice(0, 2), slice(2, 4)]):
        both.zero_grad()
        for part in parts:
            head.loss(backbone, batch_of(ROWS[part], target[part])).total.backward()
        gradients.append([p.grad.clone() for p in both.parameters() if p.grad is not None])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_row_whose_class_is_unknown_has_no_loss(backbone: Backbone) -> None:
    loss = head_of().loss(backbone, batch_of(ROWS[:1], torch.tensor([[IGNORE]])))
    assert (loss.total, loss.nll, loss.count) == (0, 0, 0)


def test_bfloat16_sums_in_float32(backbone: Backbone) -> None:
    head, batch = head_of(pooling="attention").float(), batch_of(ROWS, CLASSES)
    exact = head.loss(backbone.float(), batch)
    with torch.autocast("cpu", torch.bfloat16):
        loss = head.loss(backbone, batch)
    assert loss.total.dtype == torch.float32
    torch.testing.assert_close(loss.total, exact.total, atol=0.1, rtol=0.05)


def test_class_weights_are_not_saved() -> None:
    assert list(head_of(class_weights=[1, 2, 3]).state_dict()) == list(head_of().state_dict())


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("pooling", ["mean", "max", "first", "attention"])
def test_it_learns_whether_a_token_occurs(name: str, pooling: str) -> None:
    torch.manual_seed(2)
    backbone = BACKBONES[name].build(12)
    head = ClassificationHead(8, 2, pooling, dropout=0.0)  # type: ignore[arg-type]
    source = F.pad(torch.randint(3, 12, (64, 6)), (0, 1), value=2)
    batch = Batch("x", source, source > 0, (source == 7).any(1, keepdim=True).long(), torch.arange(64))
    optimizer = torch.optim.Adam([*backbone.parameters(), *head.parameters()], 0.02)
    for _ in range(80):
        optimizer.zero_grad()
        head.loss(backbone, batch).total.backward()
        optimizer.step()
    guesses = torch.tensor(head.eval().predict(backbone.eval(), batch, Decoding())).argmax(1)
    assert (guesses == batch.target[:, 0]).float().mean() > 0.9
