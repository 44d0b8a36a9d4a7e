"""LoRA: adapters change nothing at first, are all that is trained, merge exactly, and several live on one backbone."""

from __future__ import annotations

import logging
from dataclasses import replace

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
    tiny_module,
    weights,
    write_tasks,
)
from torch import nn

from lmtasks.adapters import read_adapter, save_adapter
from lmtasks.backbones.lora import LoRA, LoRALinear, adapters, fingerprint, installed, merge, merged, put, take_out
from lmtasks.backbones.recurrent import RecurrentConfig
from lmtasks.errors import InputError
from lmtasks.model import Model
from lmtasks.storage import ADAPTER, WEIGHTS
from lmtasks.storage.checkpoint import last_checkpoint
from lmtasks.storage.model_folder import load, save
from lmtasks.training.callbacks.checkpoints import Checkpoints
from lmtasks.training.config import Training
from lmtasks.training.module import TaskModule
from lmtasks.training.optim.optimizers import Adafactor, Adam, AdamW, Muon, _matrices_and_rest

SHAPES = {
    "encoder-decoder": {"bias": True},
    "gated": {"gated": True, "convolution": 3, "positions": "relative"},
    "untied": {"tied_embeddings": False, "output_bias": True},
    "shared": {"shared_layers": True, "encoder_layers": 2, "decoder_layers": 2},
}
SOURCE, TARGET = torch.tensor([[5, 6, 2, 7], [3, 2, 0, 0]]), torch.tensor([[1, 7, 4], [1, 3, 2]])
TEXTS = ["a b", "cc E", "F dd aa"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Return a folder with the rows of three tasks."""
    return write_tasks(tmp_path_factory.mktemp("lora") / "corpus")


@pytest.fixture(scope="module")
def base(corpus):
    """Return the model folder that all adapters begin from."""
    return save(fit(corpus, max_steps=4), corpus / "base" / "model")


@pytest.fixture(scope="module")
def mood(corpus, base):
    """Return a module that has learned moods by an adapter; do not change it."""
    return tuned(corpus, base, "mood").eval()


def tuned(corpus, base, *tasks, **settings):
    """Train an adapter of some tasks on the base."""
    steps = {name: settings.pop(name) for name in ("max_steps", "callbacks", "ckpt_path") if name in settings}
    if "callbacks" in steps:
        steps |= {"enable_checkpointing": True, "default_root_dir": settings.pop("folder")}
    given = {"lora": LoRA(rank=2), "init_from": str(base), "tasks": {name: several_tasks()[name] for name in tasks}}
    rows = {name: several_rows(corpus)[name] for name in tasks}
    return fit(
        corpus, several_module(**(given | settings)), several_data(corpus, rows=rows), **({"max_steps": 5} | steps)
    )


def adapted(shape="encoder-decoder", random=True):
    """Return a backbone with adapters, which change its answers if `random`."""
    torch.manual_seed(0)
    backbone = tiny_backbone(**SHAPES[shape]).build(11).eval()
    put(backbone, adapters(backbone, LoRA(rank=2)))
    for layer in installed(backbone).values():
        if random:
            nn.init.normal_(layer.lora_up, std=0.3)
    return backbone


@torch.no_grad()
def logits(backbone):
    memory = backbone.encode(SOURCE, SOURCE > 0)
    return backbone.logits(backbone.decode(TARGET, memory))


# The layers.


@pytest.mark.parametrize("shape", SHAPES)
def test_a_fresh_adapter_changes_nothing_and_taking_one_out_neither(shape):
    backbone = adapted(shape, random=False)
    with_one = logits(backbone)
    take_out(backbone)
    assert not installed(backbone)
    assert torch.equal(with_one, logits(backbone))


@pytest.mark.parametrize("shape", SHAPES)
def test_merging_changes_no_logit(shape):
    backbone = adapted(shape)
    apart, before = logits(backbone), {n: t.clone() for n, t in backbone.state_dict().items()}
    merge(backbone)
    torch.testing.assert_close(logits(backbone), apart, rtol=0, atol=1e-5)
    assert {type(module) for module in backbone.modules() if isinstance(module, nn.Linear)} == {nn.Linear}
    whole = merged(before)
    assert whole.keys() == backbone.state_dict().keys()
    assert all(torch.equal(tensor, whole[name]) for name, tensor in backbone.state_dict().items())
    assert torch.equal(backbone.embedding.weight, before["embedding.weight"])


def test_a_layer_computes_what_the_paper_says_for_each_of_its_parts():
    torch.manual_seed(0)
    linear, x = nn.Linear(5, 6), torch.randn(4, 5)
    layer = LoRALinear(linear, LoRA(rank=2, alpha=6.0), parts=3)
    nn.init.normal_(layer.lora_up)
    expected = []
    for part, weight in enumerate(linear.weight.split(2)):
        down, up = layer.lora_down[2 * part : 2 * part + 2], layer.lora_up[part]
        expected.append(x @ (weight + 6.0 / 2 * up @ down).t())
    torch.testing.assert_close(layer(x), torch.cat(expected, 1) + linear.bias)


def test_a_fused_layer_has_a_rank_for_each_part():
    layers = installed(adapted())
    fused = {name: len(layer.lora_up) for name, layer in layers.items() if len(layer.lora_up) > 1}
    assert fused == {
        "encoder.layers.0.self_attention.query_key_value": 3,
        "decoder.layers.0.self_attention.query_key_value": 3,
        "decoder.layers.0.cross_attention.key_value": 2,
    }


def test_all_linear_layers_have_one_unless_some_are_named():
    backbone = tiny_backbone(gated=True, convolution=3).build(11)
    linear = {name for name, module in backbone.named_modules() if type(module) is nn.Linear}
    assert adapters(backbone, LoRA()).keys() == linear
    some = adapters(backbone, LoRA(layers=("outer", "gate")))
    assert {name.rpartition(".")[2] for name in some} == {"outer", "gate"}


def test_the_weights_keep_their_names():
    backbone = tiny_backbone().build(11)
    names = set(backbone.state_dict())
    put(backbone, adapters(backbone, LoRA()))
    assert names <= set(backbone.state_dict())


def test_dropout_is_for_training_only():
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(5, 6), LoRA(dropout=0.5))
    nn.init.normal_(layer.lora_up)
    x = torch.randn(4, 5)
    assert not torch.equal(layer(x), layer.eval()(x))
    assert torch.equal(layer(x), layer(x))


def test_adapters_do_not_decay_and_are_no_matrices_for_muon():
    backbone = adapted()
    backbone.requires_grad_(False)
    for layer in installed(backbone).values():
        layer.lora_down.requires_grad_(True)
        layer.lora_up.requires_grad_(True)
    matrices, rest = _matrices_and_rest(backbone)
    assert not matrices
    assert len(rest) == 2 * len(installed(backbone))


@pytest.mark.parametrize(
    ("setting", "value"),
    [("rank", 0), ("alpha", 0.0), ("alpha", float("nan")), ("dropout", 1.0), ("dropout", -0.1), ("rank", "8")],
)
def test_an_impossible_setting_is_refused(setting, value):
    with pytest.raises(InputError, match=rf"^model\.training\.lora(: {setting}|\.{setting} is) '?{value}'?; give "):
        LoRA(**{setting: value})


def test_a_layer_that_is_none_and_a_recurrent_backbone_are_refused():
    with pytest.raises(InputError, match=r"no linear layer qkv; it has inner, key_value, outer, output, query, query_"):
        adapters(tiny_backbone().build(11), LoRA(layers=("qkv",)))
    for layers in ((1, 1), (0, 1), (1, 0)):
        config = RecurrentConfig(d_model=8, d_hidden=8, encoder_layers=layers[0], decoder_layers=layers[1])
        with pytest.raises(InputError, match=r"lora adapts linear layers, and the cells of a Recurrent\w* are none"):
            adapters(config.build(11), LoRA())


# Training.


class First(Callback):
    """Remember the weights with which training begins."""

    def on_train_start(self, trainer, pl_module):
        self.state = {name: tensor.clone() for name, tensor in pl_module.state_dict().items()}


@pytest.mark.parametrize(
    "optimizer", [Adam(0.01), AdamW(0.01), Adafactor(0.01), Muon()], ids=lambda o: type(o).__name__
)
def test_adapters_and_heads_are_trained_and_nothing_else(corpus, base, optimizer, tmp_path):
    first = First()
    module = tuned(corpus, base, "names", optimizer=optimizer, callbacks=[first], folder=tmp_path, max_steps=3)
    moved = {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, first.state[name])}
    encoder = {f"backbone.{name}.lora_up" for name in installed(module.backbone) if name.startswith("encoder")}
    assert encoder <= moved  # a tagger does not read the decoder
    assert any(name.startswith("heads.") for name in moved)
    assert not {name for name in moved if not name.startswith("heads.") and "lora_" not in name}


def test_the_share_that_is_trained_is_logged(corpus, base, caplog):
    with caplog.at_level(logging.INFO, "lmtasks"):
        module = tuned(corpus, base, "mood", max_steps=1)
    sizes = {name: p.numel() for name, p in module.backbone.named_parameters()}
    share = 100 * sum(size for name, size in sizes.items() if "lora_" in name) / sum(sizes.values())
    assert f"lora: {share:.1f} % of the backbone's parameters are trained" in caplog.text


def test_a_resumed_run_equals_a_straight_one(corpus, base, tmp_path):
    def run(steps, **settings):
        return tuned(corpus, base, "mood", max_steps=steps, callbacks=[Checkpoints()], folder=tmp_path, **settings)

    straight = run(6)
    run(3)
    assert torch.equal(weights(run(6, ckpt_path=last_checkpoint(tmp_path))), weights(straight))


def test_a_resumed_run_needs_the_model_no_more_that_it_began_from(corpus, base, tmp_path):
    module = tuned(corpus, base, "mood", max_steps=3, callbacks=[Checkpoints()], folder=tmp_path)
    resumed = several_module(tasks=module.tasks, lora=LoRA(rank=2), init_from="nowhere")
    resumed.start_over(module.tasks, module.tokenizer)
    data = several_data(corpus, rows={"mood": several_rows(corpus)["mood"]})
    saving = {"callbacks": [Checkpoints()], "enable_checkpointing": True, "default_root_dir": tmp_path}
    fit(corpus, resumed, data, max_steps=5, ckpt_path=last_checkpoint(tmp_path), **saving)
    assert torch.equal(weights(resumed), weights(tuned(corpus, base, "mood")))


def test_a_checkpoint_loads_merged_and_goes_on_apart(corpus, base, tmp_path):
    module = tuned(corpus, base, "mood", callbacks=[Checkpoints()], folder=tmp_path).eval()
    assert any("lora_up" in name for name in torch.load(last_checkpoint(tmp_path))["state_dict"])
    loaded = load(last_checkpoint(tmp_path))
    assert not installed(loaded)
    torch.testing.assert_close(logits(loaded.backbone), logits(module.backbone), rtol=0, atol=1e-5)


def test_whole_weights_take_adapters_out(mood, corpus, base):
    module = tuned(corpus, base, "mood", max_steps=1)
    module.load_weights(mood.weights())
    assert not installed(module)
    torch.testing.assert_close(logits(module.eval().backbone), logits(mood.backbone), rtol=0, atol=1e-5)


def test_lora_without_a_trained_backbone_or_on_a_layer_that_is_none_is_refused(corpus, base):
    with pytest.raises(InputError, match=r"lora adapts a trained backbone; set init_from, or a pretrained backbone"):
        tiny_module(lora=LoRA())
    with pytest.raises(InputError, match=r"no linear layer qkv"):
        fit(corpus, tiny_module(lora=LoRA(layers=("qkv",)), init_from=str(base)))


def test_a_loaded_model_is_tuned_by_an_adapter(base, corpus):
    module = TaskModule.of(load(base), Training(Adam(0.01), lora=LoRA(rank=2)))
    fit(corpus, module, max_steps=2)
    assert fingerprint(module.backbone) == fingerprint(load(base).backbone)
    before = weights(module.backbone)
    fit(corpus, TaskModule.of(module), max_steps=2)  # the same adapter goes on
    assert not torch.equal(before, weights(module.backbone))
    with pytest.raises(InputError, match=r"an adapter of other settings in use; call use_adapter\(None\) before"):
        TaskModule.of(module, Training(lora=LoRA(rank=3)))


# The files, and several adapters on one backbone.


def test_a_model_folder_has_the_merged_model_and_the_adapter_beside_it(mood, base, tmp_path):
    folder = save(mood, tmp_path / "model")
    loaded = load(folder)
    assert not installed(loaded)
    torch.testing.assert_close(logits(loaded.backbone), logits(mood.backbone), rtol=0, atol=1e-5)
    assert loaded.solve([{"text": text} for text in TEXTS])[0][0].text == mood.classify(TEXTS[0])
    assert (folder / ADAPTER).stat().st_size < (folder / WEIGHTS).stat().st_size
    save(loaded, folder)
    assert not (folder / ADAPTER).exists()


def test_adapters_on_one_backbone_answer_as_merged_models_do(corpus, base, mood, tmp_path):
    names = tuned(corpus, base, "names", lora=LoRA(rank=3, layers=("inner", "outer")))
    for name, module in (("mood", mood), ("names", names)):
        save(module, tmp_path / name)
    model = load(base)
    own = model.translate(TEXTS)
    for name in ("mood", "names"):
        model.add_adapter(name, tmp_path / name / ADAPTER)
    assert model.translate(TEXTS) == own  # added, but not in use
    for name in ("mood", "names", "mood"):
        model.use_adapter(name)
        alone = load(tmp_path / name)
        assert list(model.tasks) == list(alone.tasks) == [name]
        for ours, theirs in zip(_answers(model), _answers(alone), strict=True):
            assert ours.text == theirs.text
            assert ours.score == pytest.approx(theirs.score, abs=1e-5)
    model.use_adapter(None)
    assert model.translate(TEXTS) == own
    assert not installed(model)


def test_a_model_that_writes_for_several_tasks_takes_adapters_that_write_nothing(corpus, tmp_path):
    tasks = {name: several_tasks()["translation"] for name in ("one", "two")}
    rows = {name: several_rows(corpus)["translation"] for name in tasks}
    several = fit(corpus, several_module(tasks=tasks), several_data(corpus, rows=rows), max_steps=2)
    folder = save(several, tmp_path / "several")
    module = tuned(corpus, folder, "mood").eval()
    model = load(folder)
    model.add_adapter("mood", save_adapter(module, tmp_path / "mood.safetensors"))
    model.use_adapter("mood")
    assert model.classify(TEXTS) == module.classify(TEXTS)


def test_a_backbone_without_tasks_takes_adapters(base, mood, tmp_path):
    loaded = load(base)
    model = Model({}, loaded.backbone_config)
    model.build(loaded.tokenizer)
    model.backbone.load_state_dict(loaded.backbone.state_dict())
    model.eval().add_adapter("mood", save_adapter(mood, tmp_path / "mood.safetensors"))
    model.use_adapter("mood")
    assert model.classify(TEXTS) == mood.classify(TEXTS)


def test_a_predictor_keeps_its_adapter(base, mood, tmp_path):
    model = load(base)
    model.add_adapter("mood", save_adapter(mood, tmp_path / "mood.safetensors"))
    plain = model.predictor()
    model.use_adapter("mood")
    moody = model.predictor()
    model.use_adapter(None)
    assert moody.classify(TEXTS) == mood.classify(TEXTS)
    assert plain.translate(TEXTS) == model.translate(TEXTS)
    shared = {parameter.data_ptr() for parameter in model.backbone.parameters()}
    assert shared <= {parameter.data_ptr() for parameter in moody.backbone.parameters()}


def test_a_switched_model_is_saved_as_it_answers(base, mood, tmp_path):
    model = load(base)
    model.add_adapter("mood", save_adapter(mood, tmp_path / "mood.safetensors"))
    model.use_adapter("mood")
    again = load(save(model, tmp_path / "again"))
    assert again.classify(TEXTS) == mood.classify(TEXTS)
    whole, before = read_adapter(tmp_path / "again" / ADAPTER), read_adapter(tmp_path / "mood.safetensors")
    assert replace(whole, weights={}) == replace(before, weights={})
    assert all(torch.equal(tensor, whole.weights[name]) for name, tensor in before.weights.items())


def test_an_adapter_is_added_while_another_is_in_use(base, mood, tmp_path):
    model, file = load(base), save_adapter(mood, tmp_path / "mood.safetensors")
    model.add_adapter("one", file)
    model.use_adapter("one")
    model.add_adapter("two", file)
    assert model.classify(TEXTS) == mood.classify(TEXTS)
    model.use_adapter("two")
    assert model.classify(TEXTS) == mood.classify(TEXTS)


def test_an_adapter_of_another_backbone_is_refused(corpus, mood, tmp_path):
    file = save_adapter(mood, tmp_path / "mood.safetensors")
    other = load(save(fit(corpus, max_steps=2), tmp_path / "other"))
    with pytest.raises(InputError, match=r"mood.safetensors: an adapter of another backbone, .*init_from named$"):
        other.add_adapter("mood", file)
    assert other.translate(TEXTS)


def test_what_is_no_adapter_is_one_line(base, mood, tmp_path):
    model = load(base)
    with pytest.raises(InputError, match=r"none.safetensors: there is no such file"):
        model.add_adapter("mood", tmp_path / "none.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(save_adapter(mood, tmp_path / "m.safetensors").read_bytes()[:100])
    for wrong in (tmp_path / "cut.safetensors", base / WEIGHTS):
        with pytest.raises(InputError, match=r"not an adapter of lmtasks \(.*\); copy or write it again") as raised:
            model.add_adapter("mood", wrong)
        assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match=r"the model has no adapter mood; it has none; add one by add_adapter"):
        model.use_adapter("mood")
    model.add_adapter("mood", tmp_path / "m.safetensors")
    with pytest.raises(InputError, match="the model has an adapter mood already"):
        model.add_adapter("mood", tmp_path / "m.safetensors")
    with pytest.raises(InputError, match=r"the model has no adapter in use; train one with model.training.lora"):
        save_adapter(model, tmp_path / "no.safetensors")


def _answers(model):
    (task,) = model.tasks
    rows = [{"text": text} if task == "mood" else {"words": text.split()} for text in TEXTS]
    return [best for best, *_ in model.solve(rows)]
