"""Optimisers and schedules: what decays, which rate a step has, what a state dict carries."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from tiny import tiny_backbone
from torch import nn

from lmtasks.backbones.base import Backbone
from lmtasks.backbones.recurrent import RecurrentConfig
from lmtasks.errors import InputError
from lmtasks.heads.tagging import TaggingHead
from lmtasks.training.optim.muon import BatchedMuon
from lmtasks.training.optim.optimizers import Adafactor, Adam, AdamW, Joined, Muon, _matrices_and_rest
from lmtasks.training.optim.schedule import Schedule

ALL = {"adam": Adam(0.01), "adamw": AdamW(0.01), "adafactor": Adafactor(0.01), "muon": Muon()}
BACKBONES = {
    "transformer": tiny_backbone(bias=True),
    "learned": tiny_backbone(positions="learned", tied_embeddings=False, output_bias=True, norm="rms"),
    "relative": tiny_backbone(positions="relative"),
    "recurrent": RecurrentConfig(d_model=8, d_hidden=6, d_attention=5),
}


def build(name="transformer"):
    torch.manual_seed(0)
    return BACKBONES[name].build(11)


def step(model, optimizer):
    """Take a step of which every parameter has a gradient."""
    optimizer.zero_grad()
    sum((parameter - 0.5).square().sum() for parameter in model.parameters()).backward()
    optimizer.step()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_weight_decay_falls_on_the_matrices_of_layers_only(backbone):
    model = build(backbone)
    decayed, free = AdamW(weight_decay=0.1).build(model).param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert len(decayed["params"]) + len(free["params"]) == len(names)
    assert all(parameter.ndim == 2 for parameter in decayed["params"])
    for parameter in decayed["params"]:
        name = names[id(parameter)]
        assert not any(word in name for word in ("embedding", "norm", "places", "output_weight", "relative")), name
        assert not name.endswith("bias")
    for parameter in free["params"]:
        name = names[id(parameter)]
        assert parameter.ndim == 1 or any(w in name for w in ("embedding", "places", "output_weight", "relative")), name


@pytest.mark.parametrize("layers", [(1, 1), (0, 1), (1, 0)], ids=["both", "language model", "encoder"])
@pytest.mark.parametrize("backbone", [*BACKBONES, "untied recurrent"])
def test_neither_embeddings_nor_what_a_module_names_decay(backbone, layers):
    settings = BACKBONES.get(backbone) or replace(BACKBONES["recurrent"], tied_embeddings=False)
    torch.manual_seed(0)
    model = nn.ModuleList([
        replace(settings, encoder_layers=layers[0], decoder_layers=layers[1]).build(11),
        TaggingHead(8, 3, crf=True),
        nn.EmbeddingBag(5, 4),
    ])  # fmt: skip
    decayed, free = ({id(p) for p in group["params"]} for group in AdamW(weight_decay=0.1).build(model).param_groups)
    named = {
        id(getattr(module, name)): f"{type(module).__name__}.{name}"
        for module in model.modules()
        for name in getattr(module, "no_decay", ())
        if isinstance(getattr(module, name), nn.Parameter)
    }
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
    assert not decayed & (set(named) | embeddings)
    assert free >= set(named) | embeddings
    assert ("untied" in backbone and layers[1] > 0) <= any("output_weight" in name for name in named.values())
    assert (backbone == "learned") == ("Stack.places" in named.values())


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_step_moves_every_parameter(name, backbone):
    model = build(backbone)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    step(model, ALL[name].build(model))
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_adafactor_learns_at_its_own_rate():
    torch.manual_seed(0)
    inputs, wanted = torch.randn(64, 8), torch.randn(64, 3)
    model = nn.Linear(8, 3)
    optimizer = Adafactor().build(model)
    losses = []
    for _ in range(300):
        losses.append((model(inputs) - wanted).square().mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    best = (wanted - inputs @ torch.linalg.lstsq(inputs, wanted).solution).square().mean()
    assert losses[-1] - best < 0.2 * (losses[0] - best)


def test_the_transitions_of_tags_are_no_matrix_of_a_layer():
    head = TaggingHead(8, 3, crf=True)
    matrices, rest = _matrices_and_rest(head)
    follow = dict(head.named_parameters())["chain.follow"]
    assert not any(parameter is follow for parameter in matrices)
    assert any(parameter is follow for parameter in rest)


def test_frozen_parameters_are_left_out():
    model = build()
    model.embedding.weight.requires_grad_(False)
    for settings in ALL.values():
        groups = settings.build(model).param_groups
        assert all(parameter is not model.embedding.weight for group in groups for parameter in group["params"])


@pytest.mark.parametrize("name", ALL)
def test_a_state_dict_goes_on_exactly(name):
    straight, resumed = build(), build()
    optimizer = ALL[name].build(straight)
    schedule = Schedule("linear", warmup=2, final=0.1).build(optimizer, 10)
    for _ in range(6):
        step(straight, optimizer)
        schedule.step()
    first = ALL[name].build(resumed)
    first_schedule = Schedule("linear", warmup=2, final=0.1).build(first, 10)
    for _ in range(3):
        step(resumed, first)
        first_schedule.step()
    second = ALL[name].build(resumed)
    second_schedule = Schedule("linear", warmup=2, final=0.1).build(second, 10)
    second.load_state_dict(first.state_dict())
    second_schedule.load_state_dict(first_schedule.state_dict())
    for _ in range(3):
        step(resumed, second)
        second_schedule.step()
    for ours, theirs in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_muon_takes_the_matrices_and_adamw_the_rest():
    model = build()
    muon, adam = Muon(weight_decay=0.1).build(model).parts
    assert isinstance(muon, BatchedMuon)
    assert isinstance(adam, torch.optim.AdamW)
    assert {id(p) for p in muon.param_groups[0]["params"]} == {
        id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)
    }
    assert adam.param_groups[0]["weight_decay"] == 0


def test_the_schedule_reaches_all_parts_before_and_after_a_state_dict():
    model = build()
    optimizer = Muon(lr=0.5, adam_lr=0.25).build(model)
    schedule = Schedule("linear", warmup=2).build(optimizer, 10)
    assert [part.param_groups[0]["lr"] for part in optimizer.parts] == [0.25, 0.125]
    step(model, optimizer)
    schedule.step()
    assert [part.param_groups[0]["lr"] for part in optimizer.parts] == [0.5, 0.25]
    optimizer.load_state_dict(optimizer.state_dict())
    for _ in range(4):
        step(model, optimizer)
        schedule.step()
    rates = [part.param_groups[0]["lr"] for part in optimizer.parts]
    assert rates == [group["lr"] for group in optimizer.param_groups] == [0.25, 0.125]


def test_joined_runs_a_closure_once_and_with_gradients():
    weight = nn.Parameter(torch.ones(2, 2))
    joined = Joined([torch.optim.SGD([weight], 0.1)])
    seen = []

    def closure():
        loss = weight.sum()
        loss.backward()
        seen.append(torch.is_grad_enabled())
        return loss

    assert joined.step(closure).item() == 4
    assert seen == [True]
    assert torch.allclose(weight, torch.tensor(0.9))
    joined.zero_grad()
    assert weight.grad is None


# A learning rate of its own for the backbone.


class Model(nn.Module):
    """A backbone and a head, as a module of tasks has them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.heads, self.backbone = nn.ModuleDict({"mood": nn.Linear(8, 3)}), BACKBONES["transformer"].build(11)


def rates(model, optimizer):
    """Return the rates of the parameters of a model, by what they are of."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            found.setdefault((names[id(parameter)].split(".")[0], parameter.ndim == 2), set()).add(group["lr"])
    return found


@pytest.mark.parametrize("name", ALL)
def test_the_backbone_learns_at_its_share_of_the_rate_whatever_the_schedule_says(name):
    model, whole = Model(), Model()
    optimizer = replace(ALL[name], backbone_factor=0.25).build(model)
    plain = ALL[name].build(whole)
    schedules = [Schedule("linear", warmup=2).build(each, 10) for each in (optimizer, plain)]
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
    for _ in range(4):
        expected = {group["lr"] for group in plain.param_groups}
        found = rates(model, optimizer)
        assert set.union(*(own for (part, _), own in found.items() if part == "heads")) == expected
        backbone = set.union(*(own for (part, _), own in found.items() if part == "backbone"))
        assert sorted(backbone) == pytest.approx(sorted(0.25 * rate for rate in expected))
        for each, of, schedule in zip((optimizer, plain), (model, whole), schedules, strict=True):
            step(of, each)
            schedule.step()


@pytest.mark.parametrize("name", ALL)
def test_a_step_of_the_backbone_is_shorter_by_its_factor_and_that_of_the_head_the_same(name):
    moved = []
    for factor in (1.0, 0.5):
        model = Model()
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        step(model, replace(ALL[name], backbone_factor=factor).build(model))
        moved.append({name: parameter.detach() - before[name] for name, parameter in model.named_parameters()})
    for parameter, whole in moved[0].items():
        share = 0.5 if parameter.startswith("backbone.") else 1.0
        torch.testing.assert_close(moved[1][parameter], share * whole, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_a_factor_of_1_splits_no_group_and_another_keeps_what_the_groups_have(name):
    model = Model()
    plain = ALL[name].build(model).param_groups
    assert len(plain) == {"adam": 1, "adamw": 2, "adafactor": 2, "muon": 2}[name]
    split = replace(ALL[name], backbone_factor=0.5).build(model).param_groups
    for group in plain:
        kept = {id(parameter) for parameter in group["params"]}
        parts = [other for other in split if kept & {id(parameter) for parameter in other["params"]}]
        assert kept == {id(parameter) for other in parts for parameter in other["params"]}
        for other in parts:
            assert {key: value for key, value in other.items() if key not in ("params", "lr")} == {
                key: value for key, value in group.items() if key not in ("params", "lr")
            }


@pytest.mark.parametrize("name", ALL)
def test_frozen_backbones_leave_the_head_with_its_rate(name):
    model = Model()
    model.backbone.requires_grad_(False)
    for factor in (1.0, 0.5):
        optimizer = replace(ALL[name], backbone_factor=factor).build(model)
        assert {part for part, _ in rates(model, optimizer)} == {"heads"}
        assert rates(model, optimizer)["heads", True] == {ALL[name].lr}


# Learning rates that fall from layer to layer.

LAYERED = {
    "transformer": tiny_backbone(encoder_layers=3, decoder_layers=2, positions="learned", tied_embeddings=False),
    "relative": tiny_backbone(encoder_layers=2, decoder_layers=1, positions="relative", embedding_norm=True),
    "language model": tiny_backbone(encoder_layers=0, decoder_layers=3),
    "shared": tiny_backbone(encoder_layers=3, decoder_layers=0, shared_layers=True),
    "recurrent": RecurrentConfig(d_model=8, d_hidden=6, d_attention=5, encoder_layers=2, decoder_layers=3),
    "recurrent encoder": RecurrentConfig(d_model=8, d_hidden=6, encoder_layers=2, decoder_layers=0),
    "recurrent language model": RecurrentConfig(d_model=8, d_hidden=6, encoder_layers=0, decoder_layers=2),
}


def layered(name):
    """Return a model with one of these backbones."""
    model = Model()
    model.backbone = LAYERED[name].build(11)
    return model


def factors(model, optimizer):
    """Return the rate of each parameter as a multiple of the highest, by name."""
    rates = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    return {name: rates[id(p)] / max(rates.values()) for name, p in model.named_parameters()}


def test_each_layer_learns_at_a_share_of_the_rate_of_the_layer_above():
    found = factors(model := layered("transformer"), Adam(layer_decay=0.5).build(model))
    expected = {
        "backbone.embedding": 0.5**4,  # below the deeper stack
        "backbone.encoder.places": 0.5**4,
        "backbone.encoder.layers.0": 0.5**3,
        "backbone.encoder.layers.2": 0.5,
        "backbone.encoder.final_norm": 1,
        "backbone.decoder.places": 0.5**3,
        "backbone.decoder.layers.0": 0.5**2,
        "backbone.decoder.layers.1": 0.5,
        "backbone.output_weight": 1,
        "heads": 1,
    }
    for part, share in expected.items():
        own = {rate for name, rate in found.items() if f"{name}.".startswith(f"{part}.")}
        assert own == {share}, part


def test_the_cells_of_a_recurrent_decoder_are_its_layers():
    found = factors(model := layered("recurrent"), Adam(layer_decay=0.5).build(model))
    expected = {"token_input": 3, "feed_input": 3, "cells.0": 3, "first.1": 2, "layer_inputs.0": 2, "cells.2": 1}
    expected |= {"embedding": 4, "encoder.0": 2, "encoder.1": 1, "states": 0, "attention": 0, "state_readout": 0}
    for part, depth in expected.items():
        own = {rate for name, rate in found.items() if f"{name}.".startswith(f"backbone.{part}.")}
        assert own == {0.5**depth}, part


@pytest.mark.parametrize("name", LAYERED)
def test_the_embeddings_have_the_lowest_rate_and_no_parameter_is_lost(name):
    for settings in (Adam(layer_decay=0.5), AdamW(layer_decay=0.5), Adafactor(layer_decay=0.5)):
        optimizer = settings.build(model := layered(name))
        placed = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
        assert sorted(placed) == sorted(id(parameter) for parameter in model.parameters())
        found = factors(model, optimizer)
        assert found["backbone.embedding.weight"] == min(found.values()) < 0.5
        depths = len(set(found.values()))
        assert len(optimizer.param_groups) <= depths * (1 if isinstance(settings, Adam) else 2)


def test_layer_decay_goes_with_a_factor_of_the_backbone_and_with_both_rates_of_muon():
    model = layered("transformer")
    optimizer = Muon(lr=0.2, adam_lr=0.1, layer_decay=0.5, backbone_factor=0.1).build(model)
    rates = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    last, named = "backbone.encoder.layers.2", dict(model.named_parameters())
    assert rates[id(named[f"{last}.feed_forward.inner.weight"])] == pytest.approx(0.2 * 0.1 * 0.5)
    assert rates[id(named[f"{last}.feed_forward_norm.weight"])] == pytest.approx(0.1 * 0.1 * 0.5)
    assert rates[id(named["backbone.encoder.final_norm.weight"])] == pytest.approx(0.1 * 0.1)
    assert rates[id(named["heads.mood.weight"])] == 0.2


def test_the_groups_of_layers_come_in_one_order():
    orders = []
    for _ in range(2):
        optimizer = AdamW(layer_decay=0.7).build(model := layered("relative"))
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        orders.append([[names[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups])
    assert orders[0] == orders[1]


@pytest.mark.parametrize("decay", [0.0, -0.5, 1.5, math.inf, math.nan])
def test_a_decay_of_layers_that_is_no_share_is_refused(decay):
    with pytest.raises(InputError, match=r"layer_decay .*; give a number"):
        Adam(layer_decay=decay)


def test_layer_decay_needs_a_backbone_that_tells_its_layers():
    with pytest.raises(InputError, match=r"layer_decay 0.5, but the model has no `backbone`; leave it out"):
        Adam(layer_decay=0.5).build(nn.Linear(2, 2))
    model = nn.Module()
    model.backbone = Backbone()
    with pytest.raises(InputError, match=r"a Backbone does not tell its layers; leave out .*layer_decay"):
        Adam(layer_decay=0.5).build(model)


@pytest.mark.parametrize("bias", [True, False])
def test_muon_goes_without_matrices_and_without_the_rest(bias):
    model = nn.Linear(3, 2)
    (model.weight if bias else model.bias).requires_grad_(False)
    optimizer = Muon().build(model)
    before = model.bias.clone() if bias else model.weight.clone()
    model(torch.ones(1, 3)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(before, model.bias if bias else model.weight)


@pytest.mark.parametrize("settings", ALL.values(), ids=ALL)
@pytest.mark.parametrize("factor", [0.0, -0.1, math.inf, math.nan])
def test_a_factor_that_is_no_share_is_refused(settings, factor):
    with pytest.raises(InputError, match=r"backbone_factor .*give a number( above 0, or model.training.freeze|$)"):
        replace(settings, backbone_factor=factor)


@pytest.mark.parametrize("settings", ALL.values(), ids=ALL)
def test_a_factor_for_a_backbone_that_is_not_there_is_refused(settings):
    with pytest.raises(InputError, match=r"backbone_factor 0.5, but the model has no `backbone`; leave it out"):
        replace(settings, backbone_factor=0.5).build(nn.Linear(2, 2))


@pytest.mark.parametrize("kind", ["inverse_sqrt", "cosine", "linear", "constant"])
def test_every_schedule_climbs_in_a_line_to_its_peak_and_never_rises_again(kind):
    schedule = Schedule(kind, warmup=10, final=0.1)
    factors = [schedule.factor(step, 100) for step in range(1, 101)]
    assert factors[:9] == pytest.approx([step / 10 for step in range(1, 10)])
    assert factors[9] == max(factors) == 1
    assert all(later <= earlier for earlier, later in pairwise(factors[9:]))
    ends = {"inverse_sqrt": math.sqrt(0.1), "cosine": 0.1, "linear": 0.1, "constant": 1}
    assert factors[-1] == pytest.approx(ends[kind])
    halfway = {"cosine": 0.55, "linear": 0.55, "constant": 1, "inverse_sqrt": math.sqrt(10 / 55)}
    assert schedule.factor(55, 100) == pytest.approx(halfway[kind])


@pytest.mark.parametrize("kind", ["inverse_sqrt", "cosine", "linear", "constant"])
def test_every_schedule_goes_without_warm_up(kind):
    factors = [Schedule(kind, warmup=0).factor(step, 5) for step in range(1, 8)]
    assert all(0 <= factor <= 1 for factor in factors)
    assert factors[0] > 0.5


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_a_warm_up_as_long_as_the_run_is_refused(kind):
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], 0.1)
    with pytest.raises(InputError, match="warm-up takes 10 steps and the whole run only 10"):
        Schedule(kind, warmup=10).build(optimizer, 10)


def test_the_first_step_has_the_first_rate_and_the_last_the_last():
    parameter = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], 2.0)
    schedule = Schedule("linear", warmup=4, final=0.25).build(optimizer, 8)
    rates = []
    for _ in range(8):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == 2.0 / 4
    assert max(rates) == rates[3] == 2.0
    assert rates[-1] == 2.0 * 0.25


@pytest.mark.parametrize(
    ("kind", "name"), [(Adam, "lr"), (AdamW, "lr"), (Adafactor, "lr"), (Muon, "lr"), (Muon, "adam_lr")]
)
@pytest.mark.parametrize("rate", [-1.0, math.nan, math.inf])
def test_an_impossible_rate_is_refused_when_it_is_given(kind, name, rate):
    with pytest.raises(InputError, match=rf"^model\.training\.optimizer(: {name}|\.{name} is) {rate}; give a number"):
        kind(**{name: rate})
