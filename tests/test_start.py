"""A start from another run, and parts that are not trained: what is taken, what stays, what is refused."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from lightning.pytorch import Callback
from tiny import (
    fit,
    several_data,
    several_module,
    several_rows,
    several_tasks,
    tiny_backbone,
    tiny_data,
    tiny_module,
    weights,
    write_tasks,
)

from lmtasks.backbones.recurrent import RecurrentConfig
from lmtasks.decoding import Decoding
from lmtasks.errors import InputError
from lmtasks.storage.checkpoint import last_checkpoint
from lmtasks.storage.model_folder import load, save
from lmtasks.tasks.dialogue import DialogueTask
from lmtasks.tasks.translation import TranslationTask
from lmtasks.text.tokenizer import Tokenizer, TokenizerConfig
from lmtasks.training import init_from as start
from lmtasks.training.callbacks.checkpoints import Checkpoints
from lmtasks.training.joint.learning import JointConfig
from lmtasks.training.joint.surgery import PCGrad
from lmtasks.training.optim.optimizers import Adafactor, Adam, AdamW, Muon

OPTIMIZERS = pytest.mark.parametrize(
    "optimizer", [Adam(0.01), AdamW(0.01), Adafactor(0.01), Muon()], ids=lambda o: type(o).__name__
)
ENCODER = tiny_backbone(decoder_layers=0)


class First(Callback):
    """Remember the weights with which training begins."""

    def on_train_start(self, trainer, pl_module):
        self.state = {name: tensor.clone() for name, tensor in pl_module.state_dict().items()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Return a folder with the rows of three tasks."""
    return write_tasks(tmp_path_factory.mktemp("start") / "corpus")


@pytest.fixture(scope="module")
def before(corpus):
    """Return a module that has learned to translate, and the folder it was saved in; do not change it."""
    module = fit(corpus, tiny_module(tokenizer=TokenizerConfig("bpe", 300)), max_steps=4)
    return module, save(module, corpus / "before" / "model").parent


def encoder_of(task, **settings):
    """Return a module of one of the tasks that only read."""
    return several_module(**({"tasks": {task: several_tasks()[task]}, "backbone": ENCODER} | settings))


def begun(corpus, module, *tasks, **settings):
    """Train for a step and return the weights with which that began."""
    first, rows = First(), several_rows(corpus)
    data = several_data(corpus, rows={task: rows[task] for task in tasks or module.tasks})
    fit(corpus, module, data, **({"max_steps": 1} | settings), callbacks=[first])
    return first.state


# A start from another run.


@pytest.mark.parametrize("form", ["run folder", "model folder", "checkpoint", "checkpoints of a run"])
def test_backbone_and_tokenizer_are_those_of_the_other_run(corpus, before, form, tmp_path):
    old, folder = before
    if "checkpoint" in form:
        saving = {"callbacks": [Checkpoints()], "enable_checkpointing": True, "default_root_dir": tmp_path}
        old = fit(corpus, tiny_module(), max_steps=2, **saving)
        folder = last_checkpoint(tmp_path) if form == "checkpoint" else tmp_path
    path = folder / "model" if form == "model folder" else folder
    module = several_module(init_from=str(path))
    state = begun(corpus, module)
    for name, tensor in old.state_dict().items():
        if name.startswith("backbone."):
            assert torch.equal(state[name], tensor), name
    assert module.tokenizer.to_json() == old.tokenizer.to_json()


def test_a_head_is_not_taken(corpus, tmp_path):
    old = fit(corpus, several_module(), several_data(corpus), max_steps=2)
    save(old, tmp_path / "model")
    state = begun(corpus, several_module(init_from=str(tmp_path)))
    assert torch.equal(state["backbone.embedding.weight"], old.state_dict()["backbone.embedding.weight"])
    assert not torch.equal(state["heads.mood.output.weight"], old.state_dict()["heads.mood.output.weight"])


def test_a_decoder_that_nobody_needs_is_left_out(corpus, before):
    old, folder = before
    state = begun(corpus, encoder_of("mood", init_from=str(folder)))
    taken = {name for name in state if name.startswith("backbone.")}
    assert taken == {name for name in old.state_dict() if name.startswith(("backbone.embedding", "backbone.encoder"))}
    assert all(torch.equal(state[name], old.state_dict()[name]) for name in taken)


def test_new_marks_and_languages_come_at_the_end_of_the_vocabulary(corpus, before):
    old, folder = before
    module = tiny_module(("en-de", "en-fr"), init_from=str(folder))
    first = First()
    fit(corpus, module, tiny_data(corpus), max_steps=1, callbacks=[first])
    size, known = len(old.tokenizer), set(old.tokenizer.languages)
    new = [language for language in ("de", "fr") if language not in known]
    assert new
    assert len(module.tokenizer) == size + len(new)
    assert [module.tokenizer.tag(language) for language in new] == list(range(size, size + len(new)))
    assert module.tokenizer.encode("ab c") == old.tokenizer.encode("ab c")
    table = first.state["backbone.embedding.weight"]
    assert torch.equal(table[:size], old.state_dict()["backbone.embedding.weight"])
    assert (table[size:].abs().sum(1) > 0).all()


def test_a_vocabulary_is_extended_by_the_marks_of_all_tasks(before, tmp_path):
    old, folder = before
    module = several_module(tasks=several_tasks(talk=DialogueTask()), init_from=str(folder))
    module.train_tokenizer([], tmp_path)
    marks = (*module.tasks["talk"].marks, "<task-translation>", "<task-talk>")
    assert marks
    assert [module.tokenizer.mark(mark) for mark in marks] == list(range(len(old.tokenizer), len(module.tokenizer)))


def test_the_extended_tokenizer_is_saved_and_loaded_with_the_model(corpus, before, tmp_path):
    module = tiny_module(("en-de", "en-fr"), init_from=str(before[1]))
    fit(corpus, module, tiny_data(corpus), max_steps=2).eval()
    again = load(save(module, tmp_path / "model"))
    assert again.tokenizer.to_json() == module.tokenizer.to_json()
    assert again.translate("a b", target="fr") == module.translate("a b", target="fr")


@pytest.mark.parametrize(
    ("backbone", "complaint"),
    [
        (tiny_backbone(d_model=16), "its backbone has d_model 8, not 16; set model.backbone likewise"),
        (tiny_backbone(d_ff=32), "its backbone has d_ff 16, not 32"),
        (tiny_backbone(encoder_layers=2), "its backbone has encoder_layers 1, not 2"),
        (tiny_backbone(decoder_layers=2), "its backbone has decoder_layers 1, not 2"),
        (tiny_backbone(positions="rotary"), "its backbone has positions sinusoidal, not rotary"),
        (tiny_backbone(shared_layers=True), "its backbone has shared_layers False, not True"),
        (RecurrentConfig(d_model=8), "its backbone is a TransformerConfig, not a RecurrentConfig"),
    ],
)
def test_a_backbone_of_another_kind_or_size_is_refused(corpus, before, backbone, complaint):
    with pytest.raises(InputError, match=f"init_from {before[1]}: {complaint}") as raised:
        begun(corpus, encoder_of("mood", backbone=backbone, init_from=str(before[1])))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("decoder_layers", [0, 1])
def test_a_recurrent_backbone_starts_another(corpus, tmp_path, cell, decoder_layers):
    sizes = {"cell": cell, "d_model": 8, "d_hidden": 8, "d_attention": 8}
    old = fit(corpus, tiny_module(backbone=RecurrentConfig(**sizes)), max_steps=2)
    save(old, tmp_path / "model")
    backbone = RecurrentConfig(**sizes, decoder_layers=decoder_layers, dropout=0.1)
    state = begun(corpus, encoder_of("mood", backbone=backbone, init_from=str(tmp_path)))
    taken = [name for name in state if name.startswith("backbone.")]
    assert taken
    assert all(torch.equal(state[name], old.state_dict()[name]) for name in taken)
    assert (len(taken) < len(old.backbone.state_dict())) == (decoder_layers == 0)


def test_an_encoder_alone_cannot_start_what_writes(corpus, tmp_path):
    save(
        fit(corpus, encoder_of("mood"), several_data(corpus, rows={"mood": several_rows(corpus)["mood"]})),
        tmp_path / "model",
    )
    with pytest.raises(InputError, match="its backbone has decoder_layers 0, not 1"):
        begun(corpus, several_module(init_from=str(tmp_path)))


def test_dropout_and_checkpointing_may_be_others(corpus, before):
    backbone = tiny_backbone(dropout=0.3, attention_dropout=0.1, gradient_checkpointing=True)
    state = begun(corpus, several_module(backbone=backbone, init_from=str(before[1])))
    name = "backbone.decoder.layers.0.feed_forward.inner.weight"
    assert torch.equal(state[name], before[0].state_dict()[name])


@pytest.mark.parametrize("positions", ["sinusoidal", "rotary", "relative", "learned"])
def test_only_learned_positions_have_a_length(corpus, tmp_path, positions):
    old = fit(corpus, tiny_module(backbone=tiny_backbone(positions=positions, max_length=300)), max_steps=1)
    save(old, tmp_path / "model")
    backbone = tiny_backbone(positions=positions, max_length=400)
    module = several_module(backbone=backbone, init_from=str(tmp_path))
    if positions == "learned":
        with pytest.raises(InputError, match="its backbone has max_length 300, not 400"):
            begun(corpus, module)
    else:
        state = begun(corpus, module)
        assert all(torch.equal(state[name], p) for name, p in old.state_dict().items() if name.startswith("backbone"))


@pytest.mark.parametrize(
    ("settings", "option"),
    [({"tokenizer": TokenizerConfig(file="tokenizer.json")}, "tokenizer.file"), ({"vectors": "glove.txt"}, "vectors")],
)
def test_what_the_other_run_brings_is_not_given_beside_it(settings, option):
    with pytest.raises(InputError, match=rf"model.training.init_from brings .* of its own; leave out model.*{option}"):
        several_module(init_from="runs/a", **settings)


def test_a_tokenizer_set_by_hand_must_begin_with_the_tokens_of_the_other_run(before):
    old, folder = before
    another = Tokenizer.train(["other words of other letters xyz"], TokenizerConfig("bpe", len(old.tokenizer)))
    short = Tokenizer.train(["a"], TokenizerConfig("byte"))
    for tokenizer in (another, short):
        module = several_module(init_from=str(folder))
        module.tokenizer = tokenizer
        with pytest.raises(InputError, match=r"its \d+ tokens are not the first of model.tokenizer"):
            module.configure_model()
    module = several_module(init_from=str(folder))
    module.tokenizer = old.tokenizer.extended((), ("<new>",))
    module.configure_model()
    assert torch.equal(module.backbone.embedding.weight[:-1], old.backbone.embedding.weight)


def test_the_other_run_is_read_once(corpus, before, monkeypatch):
    found, read = [], start.read
    monkeypatch.setattr(start, "read", lambda place: found.append(place) or read(place))
    module = encoder_of("mood", init_from=str(before[1]))
    begun(corpus, module)
    assert len(found) == 1


def test_one_writer_after_several_begins_with_the_mean_of_what_they_began_with(corpus, tmp_path):
    copying = {name: TranslationTask(("en-de",), label_smoothing=0.0) for name in ("one", "two")}
    rows = {name: several_rows(corpus)["translation"] for name in ("one", "two", "three", "translation")}
    old = fit(corpus, several_module(tasks=copying), several_data(corpus, rows={n: rows[n] for n in copying}))
    save(old, tmp_path / "several" / "model")
    table, begin = old.backbone.embedding.weight, old.tokenizer.bos_id
    mean = table[[old.tokenizer.mark(f"<task-{name}>") for name in copying]].mean(0)
    new = tiny_module(init_from=str(tmp_path / "several"))
    state = begun(corpus, new, "translation")
    assert new.heads["translation"].start == begin
    torch.testing.assert_close(state["backbone.embedding.weight"][begin], mean)
    others = [row for row in range(len(table)) if row != begin]
    assert torch.equal(state["backbone.embedding.weight"][others], table[others])
    save(new, tmp_path / "alone" / "model")  # one writer has learned what <s> is: the next takes it as it is
    state = begun(corpus, tiny_module(init_from=str(tmp_path / "alone")), "translation")
    assert torch.equal(state["backbone.embedding.weight"], new.backbone.embedding.weight)


def test_a_start_from_nothing_is_refused(corpus, tmp_path):
    with pytest.raises(InputError, match="there is no such file or folder"):
        begun(corpus, several_module(init_from=str(tmp_path / "none")))


def test_a_run_that_began_from_another_resumes_exactly(corpus, before, tmp_path):
    def run(steps, **settings):
        saving = {"callbacks": [Checkpoints()], "enable_checkpointing": True, "default_root_dir": tmp_path}
        module = several_module(init_from=str(before[1]), freeze=("backbone.embedding",))
        return fit(corpus, module, several_data(corpus), max_steps=steps, **saving, **settings)

    straight = run(6)
    run(3)
    assert torch.equal(weights(run(6, ckpt_path=last_checkpoint(tmp_path))), weights(straight))


# Parts that are not trained.


@OPTIMIZERS
@pytest.mark.parametrize(
    "names",
    [("backbone.embedding",), ("backbone.encoder", "heads.mood"), ("backbone.encoder.layers.0.feed_forward",)],
    ids=str,
)
def test_what_is_frozen_stays_and_the_rest_moves(corpus, optimizer, names):
    module, first = several_module(optimizer=optimizer, freeze=names), First()
    fit(corpus, module, several_data(corpus), max_steps=3, callbacks=[first])
    for name, parameter in module.named_parameters():
        frozen = any(f"{name}.".startswith(f"{part}.") for part in names)
        assert torch.equal(parameter, first.state[name]) == frozen, name


@OPTIMIZERS
def test_a_head_is_learned_on_a_frozen_backbone(corpus, before, optimizer):
    module = encoder_of("mood", init_from=str(before[1]), freeze=("backbone",), optimizer=optimizer)
    state = begun(corpus, module, max_steps=3)
    old = before[0].state_dict()
    assert all(torch.equal(p, old[f"backbone.{name}"]) for name, p in module.backbone.named_parameters())
    assert not torch.equal(module.heads["mood"].output.weight, state["heads.mood.output.weight"])


def test_surgery_goes_with_a_backbone_that_is_frozen_in_part(corpus):
    module, first = several_module(freeze=("backbone.encoder",), joint=JointConfig(surgery=PCGrad())), First()
    fit(corpus, module, several_data(corpus), max_steps=3, callbacks=[first])
    moved = {name.split(".")[1] for name, p in module.named_parameters() if not torch.equal(p, first.state[name])}
    assert moved == {"embedding", "decoder", "mood", "names"}


@pytest.mark.parametrize("name", ["backbone.encodr", "encoder", "backbone.enc", "heads.translation", ""])
def test_a_name_that_is_none_is_refused_with_those_there_are(corpus, name):
    has = "backbone.embedding, backbone.encoder, backbone.decoder"
    with pytest.raises(
        InputError, match=f"model.training.freeze: the model has no {name}; it has .*{has}.* and what is in"
    ):
        begun(corpus, several_module(freeze=(name,)))


def test_a_task_with_nothing_left_to_learn_is_refused(corpus):
    with pytest.raises(InputError, match=r"model.training.freeze: nothing of translation is left to train"):
        fit(corpus, tiny_module(freeze=("backbone",)))
    with pytest.raises(InputError, match=r"model.training.freeze: nothing of mood is left to train"):
        begun(corpus, encoder_of("mood", freeze=("backbone", "heads")))


# Parts that are trained later.


class Each(Callback):
    """Remember the weights before every step."""

    def __init__(self):
        self.states = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.states.append({name: p.detach().clone() for name, p in pl_module.named_parameters()})


@pytest.mark.parametrize(
    "optimizer",
    [Adam(0.01), AdamW(0.01, weight_decay=0.5), Adafactor(0.01, weight_decay=0.5), Muon(weight_decay=0.5)],
    ids=lambda o: type(o).__name__,
)
def test_what_is_thawed_stays_until_its_step_and_moves_from_then_on(corpus, optimizer):
    thaw, each = {"backbone.encoder": 3, "backbone.embedding": 2}, Each()
    module = several_module(optimizer=optimizer, thaw=thaw)
    fit(corpus, module, several_data(corpus), max_steps=5, callbacks=[each], gradient_clip_val=0.5)
    states = [*each.states, dict(module.named_parameters())]
    for name in states[0]:
        begins = next((step for part, step in thaw.items() if name.startswith(f"{part}.")), 0)
        moves = [not torch.equal(before[name], after[name]) for before, after in pairwise(states)]
        assert moves == [step >= begins for step in range(5)], name


def test_a_part_has_no_moments_and_no_share_of_the_clipped_norm_before_it_is_thawed(corpus):
    tasks = ("mood", "names")
    rows = {task: several_rows(corpus)[task] for task in tasks}
    found = []
    for settings in ({"freeze": ("backbone",)}, {"thaw": {"backbone": 2}}):
        module = several_module(tasks={task: several_tasks()[task] for task in tasks}, backbone=ENCODER, **settings)
        fit(corpus, module, several_data(corpus, rows=rows), max_steps=2, gradient_clip_val=0.1)
        found.append(module)
    assert torch.equal(weights(found[0]), weights(found[1]))
    state = found[1].trainer.optimizers[0].state
    assert {id(parameter) for parameter in state} == {id(parameter) for parameter in found[1].heads.parameters()}


@pytest.mark.parametrize("saved_at", [1, 3])
@pytest.mark.parametrize("surgery", [None, PCGrad()], ids=["plain", "surgery"])
def test_a_run_that_thaws_parts_resumes_exactly(corpus, tmp_path, saved_at, surgery):
    def run(steps, **settings):
        saving = {"callbacks": [Checkpoints()], "enable_checkpointing": True, "default_root_dir": tmp_path}
        module = several_module(thaw={"backbone.encoder": 2}, joint=JointConfig(surgery=surgery))
        return fit(corpus, module, several_data(corpus), max_steps=steps, **saving, **settings)

    straight = run(5)
    run(saved_at)
    assert torch.equal(weights(run(5, ckpt_path=last_checkpoint(tmp_path))), weights(straight))


def test_parts_are_thawed_by_steps_and_not_by_micro_batches(corpus):
    whole, parts = (
        fit(corpus, tiny_module(thaw={"backbone.encoder": 2}), max_steps=4, accumulate_grad_batches=count)
        for count in (1, 2)
    )
    torch.testing.assert_close(weights(parts), weights(whole), rtol=0, atol=1e-4)


def test_what_cannot_be_thawed_is_refused(corpus):
    with pytest.raises(InputError, match=r"model.training.thaw: backbone.encoder after 0 steps; give 1 or more"):
        several_module(thaw={"backbone.encoder": 0})
    with pytest.raises(InputError, match=r"thaw: backbone.encoder is never trained, because freeze names backbone;"):
        several_module(thaw={"backbone.encoder": 5}, freeze=("backbone",))
    with pytest.raises(InputError, match=r"model.training.thaw: the model has no backbone.encodr; it has backbone"):
        begun(corpus, several_module(thaw={"backbone.encodr": 5}))
    with pytest.raises(
        InputError, match=r"model.training.thaw: nothing of translation is left to train, .*; thaw less"
    ):
        fit(corpus, tiny_module(thaw={"backbone": 5}))


# A head of a model of several tasks.


def test_a_head_of_several_answers_alone_with_the_backbone(corpus):
    module = fit(corpus, several_module(), several_data(corpus), max_steps=3).eval()
    for task in module.tasks:
        batch = module.trainer.datamodule.examples["train"][task].batch(range(3))
        found = module.heads[task].predict(module.backbone, batch, Decoding(beam=1, max_length=5))
        assert len(found) == 3


def test_one_run_after_another_starts_from_a_model_of_several_tasks(corpus, tmp_path):
    save(fit(corpus, several_module(), several_data(corpus), max_steps=2), tmp_path / "model")
    module = tiny_module(init_from=str(tmp_path))
    first = First()
    fit(corpus, module, tiny_data(corpus), max_steps=1, callbacks=[first])
    old = load(tmp_path / "model").state_dict()
    assert all(torch.equal(tensor, old[name]) for name, tensor in first.state.items())
