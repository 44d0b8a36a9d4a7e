"""The contract of `lmtasks.backbones.base`, held by every backbone; the recurrent parts against references."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lmtasks.backbones.attention import Cache, sinusoids
from lmtasks.backbones.base import Backbone, BackboneConfig, Memory, State
from lmtasks.backbones.layers import Convolution, FeedForward
from lmtasks.backbones.recurrence import AdditiveAttention, BidirectionalLayer, GRUCell, LSTMCell
from lmtasks.backbones.recurrent import RecurrentConfig
from lmtasks.backbones.ssru import SSRU
from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.batch import IGNORE
from lmtasks.errors import InputError

VOCAB = 11


def transformer(**choices) -> TransformerConfig:
    sizes = {"d_model": 8, "n_heads": 2, "d_ff": 12, "encoder_layers": 2, "decoder_layers": 2, "max_length": 24}
    return TransformerConfig(**(sizes | {"dropout": 0.2} | choices))


def recurrent(**choices) -> RecurrentConfig:
    return RecurrentConfig(**({"d_model": 8, "d_hidden": 6, "d_attention": 5} | choices))


CONFIGS: dict[str, BackboneConfig] = {
    "transformer": transformer(),
    "transformer-post-norm": transformer(norm_position="post"),
    "transformer-learned": transformer(positions="learned", position_offset=2, embedding_norm=True, output_bias=True),
    "transformer-rotary": transformer(positions="rotary", gated=True, activation="silu", norm="rms", bias=False),
    "transformer-relative": transformer(positions="relative", relative_buckets=8, relative_distance=6),
    "transformer-t5": transformer(
        positions="relative", norm="rms", d_head=6, scaled_attention=False, scaled_output=True, scaled_embeddings=False
    ),
    "transformer-post-rms": transformer(norm_position="post", norm="rms", activation="gelu", attention_dropout=0.1),
    "transformer-untied": transformer(tied_embeddings=False, d_head=2, activation_dropout=0.1),
    "transformer-one-layer": transformer(encoder_layers=1, decoder_layers=1, gradient_checkpointing=True),
    "transformer-shared": transformer(encoder_layers=3, decoder_layers=3, shared_layers=True),
    "transformer-shared-relative": transformer(shared_layers=True, positions="relative", norm_position="post"),
    "transformer-convolution": transformer(convolution=3),
    "transformer-convolution-post-relative": transformer(
        convolution=5, norm_position="post", positions="relative", activation="gelu", gradient_checkpointing=True
    ),
    "transformer-ssru": transformer(decoder_mixing="ssru"),
    "transformer-ssru-marian": transformer(
        decoder_mixing="ssru", zero_start=True, norm_position="post", output_bias=True, gradient_checkpointing=True
    ),
    "transformer-ssru-relative": transformer(decoder_mixing="ssru", positions="relative", shared_layers=True),
    "transformer-zero-start": transformer(zero_start=True, positions="rotary"),
    "lstm": recurrent(),
    "lstm-feeding": recurrent(input_feeding=True),
    "lstm-2-layers": recurrent(encoder_layers=2, decoder_layers=2, tied_embeddings=False),
    "lstm-2-layers-feeding": recurrent(encoder_layers=2, decoder_layers=2, input_feeding=True),
    "gru": recurrent(cell="gru"),
    "gru-feeding": recurrent(cell="gru", input_feeding=True),
    "gru-2-layers": recurrent(cell="gru", encoder_layers=2, decoder_layers=2),
}
EVERY = pytest.mark.parametrize("name", CONFIGS)
LANGUAGE_MODELS: dict[str, BackboneConfig] = {
    "gpt-sinusoidal": transformer(encoder_layers=0),
    "gpt-learned": transformer(encoder_layers=0, positions="learned", activation="gelu", tied_embeddings=False),
    "gpt-rotary": transformer(encoder_layers=0, positions="rotary", gradient_checkpointing=True),
    "gpt-shared": transformer(encoder_layers=0, shared_layers=True, positions="rotary"),
    "gpt-relative": transformer(encoder_layers=0, positions="relative", output_bias=True),
    "ssru-alone": transformer(encoder_layers=0, decoder_mixing="ssru", positions="learned", bias=False),
    "lstm-alone": recurrent(encoder_layers=0),
    "lstm-alone-2-layers": recurrent(encoder_layers=0, decoder_layers=2, tied_embeddings=False),
    "gru-alone-2-layers": recurrent(encoder_layers=0, decoder_layers=2, cell="gru"),
}
ENCODERS: dict[str, BackboneConfig] = {
    "bert": transformer(decoder_layers=0, tied_embeddings=False, output_bias=True),
    "bert-shared": transformer(decoder_layers=0, shared_layers=True),
    "bert-convolution": transformer(decoder_layers=0, convolution=7, shared_layers=True),
    "bert-relative": transformer(decoder_layers=0, positions="relative"),
    "lstm-encoder": recurrent(decoder_layers=0, tied_embeddings=False),
    "gru-encoder-2-layers": recurrent(decoder_layers=0, encoder_layers=2, cell="gru"),
}
EVERY_LANGUAGE_MODEL = pytest.mark.parametrize("name", LANGUAGE_MODELS)
EVERY_ENCODER = pytest.mark.parametrize("name", ENCODERS)


def build(name: str, seed: int = 0) -> Backbone:
    """Return the backbone in eval mode, with no parameter left at 0 or 1, where a fault could hide."""
    torch.manual_seed(seed)
    backbone = (CONFIGS | LANGUAGE_MODELS | ENCODERS)[name].build(VOCAB).eval()
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return backbone


def sources() -> tuple[Tensor, Tensor]:
    """Return three sources of 5, 2 and 4 tokens and their mask, (3, 5) each."""
    source = torch.tensor([[3, 4, 5, 6, 7], [8, 9, 0, 0, 0], [10, 3, 3, 5, 0]])
    return source, source != 0


def targets() -> Tensor:
    """Return three targets (3, 6)."""
    return torch.tensor([[1, 3, 5, 7, 9, 4], [1, 4, 4, 6, 8, 10], [1, 10, 9, 8, 7, 6]])


def same(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)


def recompute(backbone: Backbone, source: Tensor, mask: Tensor, history: Tensor) -> Tensor:
    """Return the last hidden state of hypotheses (B, K, t) the slow way, each with a source of its own: (B * K, D)."""
    beam = history.shape[1]
    memory = backbone.encode(source.repeat_interleave(beam, 0), mask.repeat_interleave(beam, 0))
    return backbone.decode(history.flatten(0, 1), memory)[:, -1]


def append(backbone: Backbone, state: State, history: Tensor) -> tuple[Tensor, Tensor]:
    """Step with a random token for each hypothesis (B, K, t): the longer history and the hidden states (B * K, D)."""
    history = torch.cat([history, torch.randint(3, VOCAB, (*history.shape[:2], 1))], dim=2)
    return history, backbone.step(history.flatten(0, 1)[:, -1:], state)[:, 0]


def choose(state: State, history: Tensor, lines: list[int], beam: int) -> Tensor:
    """Let `beam` hypotheses drawn from each source of `lines` go on: their history (B', beam, t)."""
    old = history.shape[1]
    rows = torch.tensor(lines)[:, None] * old + torch.randint(0, old, (len(lines), beam))
    state.select(rows)
    return history.flatten(0, 1)[rows]


@EVERY
def test_shapes(name):
    backbone, (source, mask), target = build(name), sources(), targets()
    memory = backbone.encode(source, mask)
    hidden = backbone.decode(target, memory)
    assert memory.states.shape == (3, 5, backbone.d_model)
    assert memory.mask is mask
    assert hidden.shape == (3, 6, backbone.d_model)
    assert backbone.logits(hidden).shape == (3, 6, VOCAB)
    assert backbone.logits(hidden[:, 0]).shape == (3, VOCAB)
    assert backbone.alignment(target, memory).shape == (3, 6, 5)
    assert backbone.embedding.weight.shape == (VOCAB, backbone.d_model)


@EVERY
def test_padding_of_the_source_changes_nothing_whatever_its_ids(name):
    backbone, (source, mask), target = build(name), sources(), targets()
    memory = backbone.encode(source, mask)
    garbage = F.pad(source, (0, 3)).where(F.pad(mask, (0, 3)), torch.randint(0, VOCAB, (3, 8)))
    longer = backbone.encode(garbage, F.pad(mask, (0, 3)))
    same(longer.states[:, :5][mask], memory.states[mask])
    same(backbone.decode(target, longer), backbone.decode(target, memory))


@EVERY
def test_a_source_alone_equals_itself_in_a_batch(name):
    backbone, (source, mask), target = build(name), sources(), targets()
    together = backbone.decode(target, backbone.encode(source, mask))
    for row, length in enumerate(mask.sum(1)):
        alone = backbone.encode(source[row : row + 1, :length], mask[row : row + 1, :length])
        same(backbone.decode(target[row : row + 1], alone)[0], together[row])


@EVERY
def test_the_source_and_its_order_matter(name):
    backbone, (source, mask), target = build(name), sources(), targets()
    hidden = backbone.decode(target, backbone.encode(source, mask))
    swapped = source[:, [1, 0, 2, 3, 4]]
    change = (backbone.decode(target, backbone.encode(swapped, mask)) - hidden).abs().amax(dim=(1, 2))
    assert (change > 1e-4).all()


@EVERY
def test_padding_of_the_target_changes_nothing_on_its_left(name):
    backbone, memory, target = build(name), build(name).encode(*sources()), targets()
    same(backbone.decode(F.pad(target, (0, 4)), memory)[:, :6], backbone.decode(target, memory))


@EVERY
def test_a_target_token_changes_nothing_before_it_and_something_from_it_on(name):
    backbone, target = build(name), targets()
    memory = backbone.encode(*sources())
    hidden, changed = backbone.decode(target, memory), target.clone()
    changed[:, 3] = (target[:, 3] + 1) % VOCAB
    other = backbone.decode(changed, memory)
    same(other[:, :3], hidden[:, :3])
    assert ((other[:, 3:] - hidden[:, 3:]).abs().amax(dim=2) > 1e-4).all()


@EVERY
@pytest.mark.parametrize("blocks", [(1, 1, 1, 1, 1, 1), (3, 1, 1, 1), (1, 3, 2), (6,)], ids=str)
def test_decode_equals_a_chain_of_steps(name, blocks):
    backbone, target = build(name), targets()
    memory = backbone.encode(*sources())
    state = backbone.init_state(memory)
    chain = [backbone.step(block, state) for block in target.split(blocks, dim=1)]
    same(torch.cat(chain, dim=1), backbone.decode(target, memory))


@EVERY
def test_a_source_widened_to_a_beam_equals_the_source_repeated(name):
    backbone, (source, mask) = build(name), sources()
    state, history = backbone.init_state(backbone.encode(source, mask)), torch.empty(3, 1, 0, dtype=torch.int64)
    history = choose(state, history, [0, 1, 2], beam=4)  # before the first token
    for _ in range(3):
        history, hidden = append(backbone, state, history)
        same(hidden, recompute(backbone, source, mask, history))


@EVERY
def test_a_beam_can_be_widened_reordered_and_narrowed_and_sources_can_leave(name):
    backbone, (source, mask) = build(name), sources()
    state, history = backbone.init_state(backbone.encode(source, mask)), torch.empty(3, 1, 0, dtype=torch.int64)
    moves = [([0, 1, 2], 1), ([0, 1, 2], 3), ([0, 1, 2], 3), ([0, 2], 3), ([0, 1], 2), ([1], 4), ([0], 1)]
    left = torch.arange(3)
    for lines, beam in moves:
        history, _ = append(backbone, state, history)
        history, left = choose(state, history, lines, beam), left[lines]
        history, hidden = append(backbone, state, history)
        same(hidden, recompute(backbone, source[left], mask[left], history))


@EVERY
def test_two_searches_at_once_do_not_touch_each_other(name):
    backbone, target = build(name), targets()
    memory = backbone.encode(*sources())
    one, other = backbone.init_state(memory), backbone.init_state(memory)
    backbone.step(target[:, :2], one)
    backbone.step(target.flip(1), other)
    same(backbone.step(target[:, 2:], one), backbone.decode(target, memory)[:, 2:])


@EVERY
def test_alignment_sums_to_one_and_reads_no_padding(name):
    backbone, (source, mask) = build(name), sources()
    alignment = backbone.alignment(targets(), backbone.encode(source, mask))
    same(alignment.sum(2), torch.ones(3, 6))
    assert (alignment >= 0).all()
    assert (alignment.masked_select(~mask[:, None]) == 0).all()


@EVERY
def test_gradients_reach_every_parameter(name):
    backbone, target = build(name).train(), targets()
    logits = backbone.logits(backbone.decode(target, backbone.encode(*sources())))
    F.cross_entropy(logits.flatten(0, 1), target.roll(-1, 1).flatten()).backward()
    assert _unreached(backbone) == []


@EVERY
def test_a_state_dict_carries_everything(name):
    backbone, other, target = build(name), build(name, seed=1), targets()
    other.load_state_dict(backbone.state_dict())
    assert torch.equal(
        other.logits(other.decode(target, other.encode(*sources()))),
        backbone.logits(backbone.decode(target, backbone.encode(*sources()))),
    )


@EVERY
def test_one_seed_gives_the_same_weights_and_another_seed_others(name):
    first, again, other = (build(name, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not any(torch.equal(first[key], other[key]) for key in first)


@EVERY
def test_dropout_is_random_in_training_and_off_in_evaluation(name):
    backbone, target = build(name), targets()

    def run() -> Tensor:
        return backbone.decode(target, backbone.encode(*sources()))

    assert torch.equal(run(), run())
    backbone.train()
    assert not torch.equal(run(), run())


@EVERY
def test_output_is_the_embedding_exactly_when_tied(name):
    backbone = build(name)
    weight, bias = backbone._output()
    assert (weight is backbone.embedding.weight) == CONFIGS[name].tied_embeddings
    assert weight.shape == (VOCAB, backbone.d_model)
    hidden = torch.randn(2, backbone.d_model)
    same(backbone.logits(hidden), hidden @ weight.t() + (0 if bias is None else bias))


@EVERY
def test_bfloat16_autocast_stays_near_float32_and_trains(name):
    backbone, target = build(name), targets()
    exact = backbone.logits(backbone.decode(target, backbone.encode(*sources())))
    with torch.autocast("cpu", torch.bfloat16):
        logits = backbone.logits(backbone.decode(target, backbone.encode(*sources())))
    assert (logits.float() - exact).abs().mean() < 0.05 * exact.std()
    logits.float().logsumexp(-1).sum().backward()
    assert all(p.grad.isfinite().all() for p in backbone.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    "name", ["transformer", "transformer-rotary", "transformer-ssru-marian", "lstm", "lstm-2-layers-feeding", "gru"]
)
def test_a_few_updates_learn_three_rows_by_heart(name):
    torch.manual_seed(0)
    backbone, target = CONFIGS[name].build(VOCAB), targets()  # with dropout off, the weights as they are drawn
    backbone.eval()
    optimizer = torch.optim.Adam(backbone.parameters(), lr=0.03)
    for _ in range(60):
        logits = backbone.logits(backbone.decode(target[:, :-1], backbone.encode(*sources())))
        loss = F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.equal(logits.argmax(-1), target[:, 1:])


@pytest.mark.parametrize("name", [*CONFIGS, *LANGUAGE_MODELS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_cross_entropy_of_the_logits(name, smoothing):
    backbone, target, memory = build(name), targets(), remembered(name)
    hidden, wanted = backbone.decode(target, memory), target.roll(-1, 1)
    wanted[0, 3:] = wanted[2, 5] = IGNORE
    logits = backbone.logits(hidden).flatten(0, 1)
    found = backbone.loss(hidden, wanted, smoothing)
    same(found.total, F.cross_entropy(logits, wanted.flatten(), reduction="sum", label_smoothing=smoothing))
    same(found.nll, F.cross_entropy(logits, wanted.flatten(), reduction="sum"))
    assert found.count == (wanted != IGNORE).sum() == 14


# A state as tensors


@pytest.mark.parametrize("name", [*CONFIGS, *LANGUAGE_MODELS])
@pytest.mark.parametrize("moment", ["at first", "widened at first", "after steps", "as a beam", "as a narrowed beam"])
@torch.no_grad()
def test_a_state_made_of_tensors_again_continues_as_the_original_and_apart_from_it(name, moment):
    backbone, state = reached(name, moment)
    rows = 4 if "narrowed" in moment else 6 if "widened" in moment or "beam" in moment else 3
    token, other = torch.randint(3, VOCAB, (2, rows, 1))
    before = [part.clone() for part in state.flatten()]
    restored, apart = state.restored(state.flatten()), state.restored(state.flatten())
    backbone.step(other, apart)
    apart.select(torch.tensor([[rows - 1]]))
    hidden = backbone.step(token, restored)
    assert all(torch.equal(*parts) for parts in zip(state.flatten(), before, strict=True))
    assert torch.equal(backbone.step(token, state), hidden)
    for each in (state, restored):  # all sources but the last leave, which widens to a beam of three
        each.select(torch.tensor([[rows - 1] * 3]))
    assert all(torch.equal(*parts) for parts in zip(state.flatten(), restored.flatten(), strict=True))
    assert torch.equal(backbone.step(token[:3], state), backbone.step(token[:3], restored))


@pytest.mark.parametrize("name", [*CONFIGS, *LANGUAGE_MODELS])
@torch.no_grad()
def test_any_state_of_a_backbone_restores_any_other(name):
    backbone, beam = reached(name, "as a beam")
    hidden_state = backbone.init_state(remembered(name)).restored(beam.flatten())
    for each in (beam, hidden_state):
        each.select(torch.tensor([[3, 2], [4, 5]]))  # sources 1 and 2 stay: the beam of two was read off the tensors
    token = torch.tensor([[3], [4], [5], [6]])
    assert torch.equal(backbone.step(token, beam), backbone.step(token, hidden_state))


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_the_state_of_a_language_model_has_no_tensor_before_its_first_token(name):
    assert build(name).init_state(None).flatten() == ()


@pytest.mark.parametrize("name", CONFIGS)
def test_the_tensors_of_a_state_come_in_a_fixed_number_and_order(name):
    backbone, after = reached(name, "after steps")
    shapes = [part.shape for part in after.flatten()]
    backbone.step(targets()[:, 2:3], after)
    longer = [part.shape for part in after.flatten()]
    assert len(shapes) == len(longer)
    changed = [(old, new) for old, new in zip(shapes, longer, strict=True) if old != new]
    assert all(old[2] + 1 == new[2] for old, new in changed)  # caches grow by a token, the rest keeps its shape


def remembered(name: str) -> Memory | None:
    """Return what the encoder of `build(name)` makes of `sources()`, None for a language model."""
    return build(name).encode(*sources()) if name in CONFIGS else None


def reached(name: str, moment: str) -> tuple[Backbone, State]:
    """Return a backbone and a state at a moment of a search."""
    backbone = build(name)
    state = backbone.init_state(remembered(name))
    if moment not in ("at first", "widened at first"):
        backbone.step(targets()[:, :2], state)
    if moment not in ("at first", "after steps"):
        state.select(torch.tensor([[0, 0], [1, 1], [2, 2]]))
    if "beam" in moment:
        backbone.step(torch.tensor([[3], [4], [5], [6], [7], [8]]), state)
    if moment == "as a narrowed beam":
        state.select(torch.tensor([[1, 0], [5, 4]]))
    return backbone, state


# Choices of the Transformer


@pytest.mark.parametrize("width", [2, 8, 12])
def test_the_sinusoids_of_the_paper_are_those_of_marian_in_hugging_face(width):
    position_enc = np.array([[pos / 10000 ** (2 * (j // 2) / width) for j in range(width)] for pos in range(40)])
    marian = np.concatenate((np.sin(position_enc[:, 0::2]), np.cos(position_enc[:, 1::2])), axis=1)
    torch.testing.assert_close(sinusoids(40, width, "paper").double().numpy(), marian, atol=1e-5, rtol=1e-5)


def test_the_sinusoids_of_tensor2tensor_have_frequencies_from_1_to_1_in_10000():
    table = sinusoids(40, 8)
    for i in range(4):
        angles = torch.arange(40) * 10_000 ** (-i / 3)
        same(table[:, i], angles.sin())
        same(table[:, i + 4], angles.cos())


@pytest.mark.parametrize("convention", ["paper", "tensor2tensor"])
def test_sinusoidal_positions_follow_their_setting_up_to_max_length(convention):
    torch.manual_seed(0)
    backbone = transformer(sinusoids=convention, max_length=6).build(VOCAB).eval()
    for stack in (backbone.encoder, backbone.decoder):
        assert torch.equal(stack.places, sinusoids(6, 8, convention))
        x = torch.randn(2, 4, 8)
        same(stack.prepare(x, 2), x + sinusoids(6, 8, convention)[2:6])
        with pytest.raises(InputError, match="a text of 7 tokens, but the backbone's max_length is 6"):
            stack.prepare(x, 3)
    assert not any("places" in name for name in backbone.state_dict())


@pytest.mark.parametrize(("kind", "default"), [("layer", 1e-5), ("rms", 1e-6)])
@pytest.mark.parametrize("position", ["pre", "post"])
@pytest.mark.parametrize("eps", [None, 1e-12, 0.5])
def test_every_norm_has_the_eps_of_the_settings(kind, default, position, eps):
    choices = {"norm": kind, "norm_position": position, "convolution": 3, "embedding_norm": True}
    backbone = transformer(norm_eps=eps, **choices).build(VOCAB)
    norms = [module for module in backbone.modules() if isinstance(module, nn.LayerNorm | nn.RMSNorm)]
    assert len(norms) == 2 * 3 + 2 * 3 + 2 + (2 if position == "pre" else 0)  # sublayers, embeddings, at the end
    assert all(module.eps == (default if eps is None else eps) for module in norms)


@pytest.mark.parametrize(("name", "function"), [
    ("relu", F.relu), ("gelu", F.gelu), ("silu", F.silu), ("gelu_tanh", lambda x: F.gelu(x, approximate="tanh")),
])  # fmt: skip
def test_the_activation_is_that_of_its_name(name, function):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8)
    layer = FeedForward(transformer(activation=name)).eval()
    assert torch.equal(layer(x), layer.outer(function(layer.inner(x))))
    assert not torch.equal(F.gelu(x), F.gelu(x, approximate="tanh"))


# torch.compile


@pytest.mark.parametrize("positions", ["sinusoidal", "learned", "rotary", "relative"])
def test_a_transformer_is_one_graph_for_all_lengths(positions):
    config = TransformerConfig(d_model=8, n_heads=2, d_ff=8, encoder_layers=1, decoder_layers=1, positions=positions)
    backbone = config.build(20).eval()
    torch._dynamo.reset()
    encode, decode = (
        torch.compile(part, dynamic=True, fullgraph=True, backend="eager")
        for part in (backbone.encode, backbone.decode)
    )
    for rows, length in ((3, 5), (2, 7), (4, 6)):
        source = torch.randint(3, 20, (rows, length))
        mask, target = torch.ones_like(source, dtype=torch.bool), source[:, 1:]
        expected = backbone.decode(target, backbone.encode(source, mask))
        torch.testing.assert_close(decode(target, encode(source, mask)), expected)


# Shared layers


@pytest.mark.parametrize("layers", [1, 2, 6])
def test_shared_layers_have_the_weights_of_one_layer_each_side(layers):
    def sizes(**choices):
        backbone = transformer(encoder_layers=layers, decoder_layers=layers, **choices).build(VOCAB)
        return {name: tuple(parameter.shape) for name, parameter in backbone.named_parameters()}

    one = transformer(encoder_layers=1, decoder_layers=1).build(VOCAB)
    assert sizes(shared_layers=True) == {name: tuple(parameter.shape) for name, parameter in one.named_parameters()}
    assert (len(sizes(shared_layers=True)) < len(sizes())) == (layers > 1)


def test_shared_layers_are_layers_of_like_weights():
    shared, own = (
        transformer(encoder_layers=3, decoder_layers=3, shared_layers=s).build(VOCAB).eval() for s in (True, False)
    )
    weights = shared.state_dict()
    first = {name: ".".join("0" if part.isdigit() else part for part in name.split(".")) for name in own.state_dict()}
    own.load_state_dict({name: weights[name if name in weights else first[name]] for name in first})
    memory, likewise = shared.encode(*sources()), own.encode(*sources())
    same(memory.states, likewise.states)
    same(shared.decode(targets(), memory), own.decode(targets(), likewise))
    same(shared.alignment(targets(), memory), own.alignment(targets(), likewise))
    one = transformer(encoder_layers=1, decoder_layers=1).build(VOCAB).eval()
    one.load_state_dict(weights)
    assert (one.encode(*sources()).states - memory.states).abs().max() > 1e-3


# Convolution


def test_the_convolution_equals_its_sum_over_neighbours_and_then_over_features():
    torch.manual_seed(0)
    convolution = Convolution(transformer(convolution=3, activation="silu"))
    x, keep = torch.randn(2, 5, 8), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
    around = F.pad(x * keep.unsqueeze(-1), (0, 0, 1, 1))  # (2, 7, 8)
    along = torch.zeros_like(x)
    for place in range(5):
        for shift in range(3):
            along[:, place] += around[:, place + shift] * convolution.along.weight[:, 0, shift]
    expected = F.silu(along + convolution.along.bias) @ convolution.across.weight.T + convolution.across.bias
    same(convolution(x, keep.unsqueeze(-1)), expected)


@pytest.mark.parametrize("width", [-1, 2, 4])
def test_a_convolution_without_a_middle_is_refused(width):
    with pytest.raises(InputError, match=f"convolution (is )?{width}; give an? "):
        transformer(convolution=width).build(VOCAB)


def test_a_convolution_without_an_encoder_is_refused():
    with pytest.raises(InputError, match="convolution 3 reads a source; it needs encoder layers"):
        transformer(convolution=3, encoder_layers=0).build(VOCAB)


# SSRU


def test_the_ssru_equals_its_equations_and_so_do_its_gradients():
    torch.manual_seed(0)
    unit = SSRU(transformer()).double()
    x = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
    cell, expected = torch.zeros(2, 8, dtype=torch.float64), []
    for t in range(5):
        forget = torch.sigmoid(x[:, t] @ unit.forget.weight.T + unit.forget.bias)
        cell = forget * cell + (1 - forget) * (x[:, t] @ unit.candidate.weight.T)
        expected.append(cell.relu())
    found, expected = unit(x, None), torch.stack(expected, dim=1)
    torch.testing.assert_close(found, expected)
    inputs, weight = [x, *unit.parameters()], torch.randn_like(found)
    gradients = (torch.autograd.grad((y * weight).sum(), inputs) for y in (found, expected))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_an_ssru_keeps_one_vector_and_the_number_of_tokens():
    unit, cache = SSRU(transformer()), Cache()
    for tokens, length in ((3, 3), (1, 4)):
        unit(torch.randn(2, tokens, 8), None, cache)
        assert cache.length == length
        assert sum(part.numel() for part in cache.parts) == 2 * 8


def test_the_cell_of_an_ssru_is_exact_under_bfloat16_autocast():
    unit, cache = SSRU(transformer()), Cache()
    with torch.autocast("cpu", torch.bfloat16):
        unit(torch.randn(2, 3, 8), None, cache)
    assert cache.parts[1].dtype == torch.float32


def test_relative_positions_are_for_the_attention_of_the_encoder_where_the_decoder_is_an_ssru():
    backbone = build("transformer-ssru-relative")
    assert backbone.decoder.relative is None
    assert backbone.decode(targets().repeat(1, 5), backbone.encode(*sources())).shape == (3, 30, 8)  # of any length


def test_an_ssru_without_a_decoder_is_refused():
    with pytest.raises(InputError, match="decoder_mixing ssru, but decoder_layers 0"):
        transformer(decoder_mixing="ssru", decoder_layers=0).build(VOCAB)


def test_only_attention_is_compiled():
    assert transformer().compiles
    assert not transformer(decoder_mixing="ssru").compiles
    assert not recurrent().compiles


# Zero start


@pytest.mark.parametrize("name", ["transformer-ssru-marian", "transformer-zero-start"])
def test_with_zero_start_the_first_token_counts_for_nothing_and_later_ones_do(name):
    backbone, memory, target = build(name), build(name).encode(*sources()), targets()
    other = torch.cat([target[:, :1] + 1, target[:, 1:]], dim=1)
    assert torch.equal(backbone.decode(other, memory), backbone.decode(target, memory))
    assert torch.equal(backbone.alignment(other, memory), backbone.alignment(target, memory))
    state = backbone.init_state(memory)
    backbone.step(target[:, :1], state)
    again = backbone.init_state(memory).restored(state.flatten())  # its tensors tell that a token was read
    same(backbone.step(target[:, 1:], again), backbone.decode(target, memory)[:, 1:])
    assert (backbone.step(target[:, :1], state) - backbone.step(other[:, :1], again)).abs().max() > 1e-4


def test_zero_start_is_a_token_whose_embedding_is_zero():
    backbone, plain = transformer(zero_start=True).build(VOCAB).eval(), transformer().build(VOCAB).eval()
    plain.load_state_dict(backbone.state_dict())
    with torch.no_grad():
        plain.embedding.weight[1] = 0
    memory = backbone.encode(*sources())
    same(backbone.decode(targets(), memory), plain.decode(targets(), memory))


# Without an encoder: a language model


@EVERY_LANGUAGE_MODEL
@pytest.mark.parametrize("blocks", [(1, 1, 1, 1, 1, 1), (3, 1, 1, 1), (1, 3, 2), (6,)], ids=str)
def test_a_language_model_decodes_as_a_chain_of_steps(name, blocks):
    backbone, target = build(name), targets()
    whole, state = backbone.decode(target, None), backbone.init_state(None)
    assert whole.shape == (3, 6, backbone.d_model)
    same(torch.cat([backbone.step(block, state) for block in target.split(blocks, dim=1)], dim=1), whole)


@EVERY_LANGUAGE_MODEL
def test_a_language_model_keeps_beams_and_lets_texts_leave(name):
    backbone, target = build(name), targets()
    whole, state = backbone.decode(target, None), backbone.init_state(None)
    backbone.step(target[:, :2], state)
    state.select(torch.tensor([[0, 0], [1, 1], [2, 2]]))
    backbone.step(target.repeat_interleave(2, 0)[:, 2:3], state)
    state.select(torch.tensor([[1, 0, 0], [5, 4, 4]]))  # three hypotheses each, the second text left
    rows = torch.tensor([0, 0, 0, 2, 2, 2])
    same(backbone.step(target[rows, 3:], state), whole[rows, 3:])


@EVERY_LANGUAGE_MODEL
def test_a_language_model_can_be_widened_before_its_first_token(name):
    backbone, target = build(name), targets().repeat_interleave(2, 0)
    state = backbone.init_state(None)
    state.select(torch.tensor([[0, 0], [1, 1], [2, 2]]))
    same(backbone.step(target, state), backbone.decode(target, None))


@EVERY_LANGUAGE_MODEL
def test_in_a_language_model_padding_on_the_right_changes_nothing(name):
    backbone, target = build(name), targets()
    whole = backbone.decode(target, None)
    same(backbone.decode(F.pad(target, (0, 4)), None)[:, :6], whole)
    for row in range(3):
        same(backbone.decode(target[row : row + 1], None)[0], whole[row])


@EVERY_LANGUAGE_MODEL
def test_a_language_model_reads_what_stands_before_and_nothing_after(name):
    backbone, target = build(name), targets()
    hidden, changed = backbone.decode(target, None), target.clone()
    changed[:, 3] = (target[:, 3] + 1) % VOCAB
    other = backbone.decode(changed, None)
    same(other[:, :3], hidden[:, :3])
    assert ((other[:, 3:] - hidden[:, 3:]).abs().amax(dim=2) > 1e-4).all()


@EVERY_LANGUAGE_MODEL
def test_every_parameter_of_a_language_model_gets_a_gradient(name):
    backbone, target = build(name).train(), targets()
    logits = backbone.logits(backbone.decode(target[:, :-1], None))
    F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten()).backward()
    assert _unreached(backbone) == []


@EVERY_LANGUAGE_MODEL
def test_a_language_model_goes_in_bfloat16_autocast_step_by_step_too(name):
    backbone, target = build(name), targets()
    exact = backbone.decode(target, None)
    with torch.autocast("cpu", torch.bfloat16):
        state = backbone.init_state(None)
        chain = torch.cat([backbone.step(block, state) for block in target.split(2, dim=1)], dim=1)
        whole = backbone.decode(target, None)
    assert (chain.float() - exact).abs().mean() < 0.05 * exact.std()
    assert (whole.float() - exact).abs().mean() < 0.05 * exact.std()
    whole.float().sum().backward()


@pytest.mark.parametrize("name", ["gpt-rotary", "ssru-alone", "lstm-alone", "gru-alone-2-layers"])
def test_a_language_model_learns_three_rows_by_heart(name):
    torch.manual_seed(0)
    backbone, target = LANGUAGE_MODELS[name].build(VOCAB).eval(), targets()
    target[:, 0] = torch.tensor([6, 9, 3])  # the first token tells them apart
    optimizer = torch.optim.Adam(backbone.parameters(), lr=0.03)
    for _ in range(60):
        logits = backbone.logits(backbone.decode(target[:, :-1], None))
        optimizer.zero_grad()
        F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten()).backward()
        optimizer.step()
    assert torch.equal(logits.argmax(-1), target[:, 1:])


@EVERY_LANGUAGE_MODEL
def test_a_language_model_that_is_given_a_source_names_the_setting(name):
    backbone, memory = build(name), Memory(torch.zeros(3, 5, 8), sources()[1])
    for ask in (
        lambda: backbone.encode(*sources()),
        lambda: backbone.decode(targets(), memory),
        lambda: backbone.init_state(memory),
        lambda: backbone.alignment(targets(), None),
    ):
        with pytest.raises(InputError, match="encoder_layers=0"):
            ask()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_recurrent_language_model_equals_its_equations(cell):
    torch.manual_seed(0)
    backbone, target = recurrent(encoder_layers=0, cell=cell).build(VOCAB).eval(), targets()
    layer = backbone.decoder[0]
    reference = (nn.LSTMCell if cell == "lstm" else nn.GRUCell)(8, 6)
    reference.load_state_dict({key.removesuffix("_l0"): value for key, value in layer.state_dict().items()})
    state, expected = None, []
    for token in target.t():
        embedded = backbone.embedding(token) * 8**0.5
        state = reference(embedded, state)
        hidden = state[0] if cell == "lstm" else state
        expected.append(torch.tanh(backbone.token_readout(embedded) + backbone.state_readout(hidden)))
    same(backbone.decode(target, None), torch.stack(expected, dim=1))


# Without a decoder: an encoder alone


@EVERY_ENCODER
def test_an_encoder_alone_reads_and_padding_changes_nothing(name):
    backbone, (source, mask) = build(name), sources()
    together = backbone.encode(source, mask).states
    assert together.shape == (3, 5, backbone.d_model)
    for row, length in enumerate(mask.sum(1)):
        alone = backbone.encode(source[row : row + 1, :length], mask[row : row + 1, :length])
        same(alone.states[0], together[row, :length])


@EVERY_ENCODER
def test_an_encoder_alone_has_no_parameter_that_it_does_not_use(name):
    backbone = build(name).train()
    backbone.encode(*sources()).states.square().sum().backward()
    assert _unreached(backbone) == []


@EVERY_ENCODER
def test_an_encoder_alone_has_the_embedding_as_output(name):
    backbone = build(name)
    weight, bias = backbone._output()
    assert weight is backbone.embedding.weight
    assert bias is None


@EVERY_ENCODER
def test_an_encoder_alone_that_is_asked_to_write_names_the_setting(name):
    backbone = build(name)
    memory = backbone.encode(*sources())
    for ask in (
        lambda: backbone.decode(targets(), memory),
        lambda: backbone.decode(targets(), None),
        lambda: backbone.init_state(memory),
        lambda: backbone.alignment(targets(), memory),
    ):
        with pytest.raises(InputError, match="decoder_layers=0"):
            ask()


@EVERY
def test_an_encoder_decoder_without_a_source_is_refused(name):
    backbone = build(name)
    for ask in (backbone.decode, backbone.alignment):
        with pytest.raises(InputError, match="reads a source"):
            ask(targets(), None)
    with pytest.raises(InputError, match="reads a source"):
        backbone.init_state(None)


@pytest.mark.parametrize("make", [transformer, recurrent])
@pytest.mark.parametrize(("encoder", "decoder"), [(0, 0), (-1, 2), (1, -1)])
def test_a_backbone_without_any_layer_is_refused(make, encoder, decoder):
    with pytest.raises(InputError, match=f"encoder_layers {encoder}, decoder_layers {decoder}"):
        make(encoder_layers=encoder, decoder_layers=decoder).build(VOCAB)


@pytest.mark.parametrize("missing", ["encoder_layers", "decoder_layers"])
def test_input_feeding_without_attention_is_refused(missing):
    with pytest.raises(InputError, match="input_feeding"):
        recurrent(input_feeding=True, **{missing: 0}).build(VOCAB)


def _unreached(backbone: Backbone) -> list[str]:
    return [key for key, p in backbone.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


# The recurrent backbone against references


@pytest.mark.parametrize(("cell", "layer"), [("lstm", nn.LSTM), ("gru", nn.GRU)])
def test_the_bidirectional_layer_equals_a_packed_one_of_pytorch(cell, layer):
    torch.manual_seed(0)
    ours, packed = BidirectionalLayer(cell, 4, 3), layer(4, 3, batch_first=True, bidirectional=True)
    weights = {f"{key}_reverse": value for key, value in ours.back.state_dict().items()}
    packed.load_state_dict(ours.ahead.state_dict() | weights)
    x, lengths, order = torch.randn(3, 5, 4), torch.tensor([5, 2, 4]), torch.arange(5)
    mask = order < lengths[:, None]
    reverse = torch.where(mask, lengths[:, None] - 1 - order, order)
    states, _ = packed(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
    same(ours(x, reverse)[mask], pad_packed_sequence(states, batch_first=True)[0][mask])


@pytest.mark.parametrize(("ours", "theirs"), [(LSTMCell, nn.LSTMCell), (GRUCell, nn.GRUCell)])
def test_the_cell_equals_that_of_pytorch(ours, theirs):
    torch.manual_seed(0)
    reference, cell = theirs(4, 3), ours(3)
    nn.init.zeros_(reference.bias_hh)  # ours has its bias among the inputs
    cell.load_state_dict({"weight": reference.weight_hh})
    x, start = torch.randn(2, 4), cell.init_state(torch.randn(2, 3))
    expected = reference(x, start if len(start) == 2 else start[0])
    actual = cell(F.linear(x, reference.weight_ih, reference.bias_ih), start)
    same(torch.stack(actual), torch.stack(expected) if len(start) == 2 else expected[None])


def test_additive_attention_equals_its_formula_word_by_word():
    torch.manual_seed(0)
    attention, hidden, states = AdditiveAttention(3, 4, 5), torch.randn(4, 3), torch.randn(2, 3, 4)
    nn.init.normal_(attention.score)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    context, weights = attention(hidden, attention.read(Memory(states, mask)))  # 2 hypotheses for each of 2 sources
    for row in range(4):
        words = states[row // 2][mask[row // 2]]
        scores = [attention.score @ torch.tanh(attention.query(hidden[row]) + attention.key(word)) for word in words]
        expected = torch.stack(scores).softmax(0)
        same(weights[row, : len(words)], expected)
        same(context[row], expected @ words)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("input_feeding", [False, True])
def test_the_decoder_equals_the_equations_of_its_docstring(cell, input_feeding):
    torch.manual_seed(0)
    backbone = recurrent(cell=cell, input_feeding=input_feeding).build(VOCAB).eval()
    memory, target = backbone.encode(torch.tensor([[3, 4, 5]]), torch.ones(1, 3, dtype=torch.bool)), targets()[:1]
    source = backbone.attention.read(memory)
    state = backbone.cells[0].init_state(torch.tanh(backbone.first[0](memory.states.mean(1))))
    feed, expected = torch.zeros(1, 8), []
    for token in target[0]:
        embedded = backbone.embedding(token[None]) * 8**0.5
        state = backbone.cells[0](backbone.token_input(embedded) + backbone.feed_input(feed), state)
        context, _ = backbone.attention(state[0], source)
        read = backbone.state_readout(torch.cat([state[0], context], dim=1))
        expected.append(torch.tanh(backbone.token_readout(embedded) + read))
        feed = expected[-1] if input_feeding else context
    same(backbone.decode(target, memory), torch.stack(expected, dim=1))


@pytest.mark.parametrize(("cell", "biases"), [("lstm", 5), ("gru", 0)])
def test_every_forget_gate_of_an_lstm_is_open_at_first(cell, biases):
    backbone = recurrent(cell=cell, encoder_layers=1, decoder_layers=3).build(VOCAB)
    opened = [p for name, p in backbone.named_parameters() if "bias" in name and (p == 1).any()]
    assert len(opened) == biases  # two directions of the encoder, three layers of the decoder
    assert all(torch.equal(p, torch.eye(4)[1].repeat_interleave(6)) for p in opened)


def test_a_reordered_beam_does_not_copy_what_belongs_to_the_source():
    backbone = build("lstm")
    state = backbone.init_state(backbone.encode(*sources()))
    before = state.source
    state.select(torch.tensor([[0, 0], [1, 1], [2, 2]]))
    state.select(torch.tensor([[1, 0], [3, 3], [4, 5]]))
    assert state.source is before
    state.select(torch.tensor([[1, 0], [4, 5]]))
    assert state.source.values.shape == (2, 5, 8)


@pytest.mark.parametrize("name", ["lstm", "gru-feeding"])
def test_a_source_without_any_token_gives_finite_numbers(name):
    backbone, (source, mask) = build(name), sources()
    mask = mask & torch.tensor([[True], [False], [True]])
    hidden = backbone.decode(targets(), backbone.encode(source, mask))
    hidden.sum().backward()
    assert hidden.isfinite().all()
    assert all(p.grad.isfinite().all() for p in backbone.parameters() if p.grad is not None)
