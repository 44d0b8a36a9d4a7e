"""Search against brute force over all texts, each source alone, greedy and plain lists; prefixes, streams, settings."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from decoding_models import (
    END,
    FREE_RATIO,
    PAD,
    START,
    Scripted,
    Table,
    assert_same,
    brute_force,
    naive_log_p,
    one,
    real_memory,
    real_model,
    run,
    table_memory,
    table_model,
)
from hypothesis import given, settings, strategies as st

from lmtasks.backbones.base import Backbone, Memory
from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.decoding import Decoding, Hypothesis, search, stream
from lmtasks.decoding.beam import beam_search
from lmtasks.decoding.search import _prepare
from lmtasks.errors import InputError

quick = settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 10_000)
penalties = st.sampled_from([-0.5, 0.0, 0.6, 1.0, 2.0])
stops = st.sampled_from(["exact", "beam", "estimate"])


# Against brute force


@quick
@given(seeds, penalties, st.sampled_from([1, 3, 7]), st.integers(4, 6), st.integers(0, 3))
def test_a_wide_beam_finds_what_brute_force_finds(seed, penalty, n_best, vocab, min_length):
    model = table_model(seed, sources=3, vocab=vocab)
    decoding = Decoding(100, penalty, n_best, max_length=4, min_length=min_length, **FREE_RATIO)
    memory = table_memory(model, [2, 0, 1])
    for line, found in enumerate(run(model, memory, decoding)):
        assert_same(found, brute_force(model, one(memory, line), decoding)[:n_best])


@pytest.mark.parametrize("kind", ["recurrent", "transformer"])
@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=seeds, penalty=penalties, n_best=st.sampled_from([1, 4]))
def test_a_wide_beam_finds_what_brute_force_finds_with_real_backbones(kind, seed, penalty, n_best):
    model = real_model(kind, seed, vocab=6)
    memory = real_memory(model, seed, [3, 1, 5])
    decoding = Decoding(60, penalty, n_best, max_length=4, **FREE_RATIO)
    for line, found in enumerate(run(model, memory, decoding)):
        assert_same(found, brute_force(model, one(memory, line), decoding)[:n_best])


def test_all_texts_are_found_when_all_are_wanted():
    model = table_model(1, vocab=5)
    decoding = Decoding(200, n_best=200, max_length=4, **FREE_RATIO)
    memory = table_memory(model, [0])
    assert_same(run(model, memory, decoding)[0], brute_force(model, memory, decoding))


@quick
@given(seeds, penalties)
def test_a_prefix_is_kept_and_searched_on_from(seed, penalty):
    model = table_model(seed, sources=3, vocab=5)
    memory = table_memory(model, [0, 1, 2])
    prefix = [[3], [4, 3], [3, 4, 4]]
    decoding = Decoding(60, penalty, n_best=2, max_length=5, **FREE_RATIO)
    for line, found in enumerate(run(model, memory, decoding, prefix=prefix)):
        assert_same(found, brute_force(model, one(memory, line), decoding, tuple(prefix[line]))[:2])


# Beam


@quick
@given(seeds, st.sampled_from([0.0, 0.6, 1.0, 2.0, -1.0]), st.integers(2, 4), st.integers(1, 2))
def test_exact_early_stop_changes_nothing(seed, penalty, beam, n_best):
    model = table_model(seed, sources=4, vocab=7)
    memory = table_memory(model, [0, 1, 2, 3], [1, 2, 3, 4])
    decoding = Decoding(beam, penalty, n_best, max_length=13, max_ratio=1.0)
    with pytest.MonkeyPatch.context() as patch:
        stopped = run(model, memory, decoding)
        steps = len(model.rows_seen)
        patch.setattr("lmtasks.decoding.beam.is_done", lambda d, total, *rest: total == -torch.inf)
        assert run(model, memory, decoding) == stopped
        assert steps <= len(model.rows_seen) - steps


@quick
@given(seeds, stops, st.integers(1, 4))
def test_a_batch_finds_what_each_source_finds_alone(seed, early_stop, beam):
    model = table_model(seed, sources=5, vocab=7)
    memory = table_memory(model, [4, 1, 0, 2, 3], [3, 1, 4, 1, 5])
    prefix: list[list[int]] = [[], [3], [], [4, 5, 3], [6]]
    decoding = Decoding(beam, max_length=18, max_ratio=0.5, early_stop=early_stop)
    together = run(model, memory, decoding, prefix=prefix)
    for line in range(5):
        assert_same(together[line], run(model, one(memory, line), decoding, prefix=[prefix[line]])[0])


@pytest.mark.parametrize("kind", ["recurrent", "transformer"])
@pytest.mark.parametrize("beam", [1, 3])
def test_a_batch_finds_what_each_source_finds_alone_with_real_backbones(kind, beam):
    model = real_model(kind, 3, vocab=12)
    memory = real_memory(model, 3, [2, 7, 1, 4])
    decoding = Decoding(beam, max_length=14, max_ratio=1.0)
    prefix = [[5], [6, 7], [5], [8, 9, 10]]
    together = run(model, memory, decoding, prefix=prefix)
    for line in range(4):
        assert_same(together[line], run(model, one(memory, line), decoding, prefix=[prefix[line]])[0])


@quick
@given(seeds)
def test_beam_search_of_width_1_is_greedy(seed):
    model = table_model(seed, sources=3, vocab=8)
    memory = table_memory(model, [0, 1, 2])
    decoding = Decoding(1, max_length=9, early_stop="beam")
    tokens, rules = _prepare(memory, decoding, START, END, (PAD, START), None, model)
    beams = beam_search(model, model.init_state(memory), tokens, rules)
    for line, found in enumerate(run(model, memory, decoding)):
        assert_same(found, beams[line])


def test_greedy_takes_the_likeliest_token_each_time():
    model = table_model(5, vocab=8)
    memory = table_memory(model, [0])
    found = run(model, memory, Decoding(1, max_length=12))[0][0]
    text: list[int] = []
    while len(text) < 11:
        logits = model.logits(model.decode(torch.tensor([[START, *text]]), memory))[0, -1]
        logits[[PAD, START]] = -torch.inf
        if (token := int(logits.argmax())) == END:
            break
        text.append(token)
    assert found.tokens == text


@quick
@given(seeds)
def test_a_narrow_beam_returns_different_texts_with_their_true_scores(seed):
    model = table_model(seed, vocab=6)
    memory = table_memory(model, [0])
    decoding = Decoding(3, max_length=4, n_best=3, **FREE_RATIO)
    every = {tuple(text.tokens): text for text in brute_force(model, memory, decoding)}
    found = run(model, memory, decoding)[0]
    assert len({tuple(text.tokens) for text in found}) == len(found) == 3
    assert_same(found, [every[tuple(text.tokens)] for text in found])
    assert [text.score for text in found] == sorted((text.score for text in found), reverse=True)


@quick
@given(seeds, penalties, st.integers(2, 4), st.integers(1, 2), stops, st.integers(0, 2))
def test_a_narrow_beam_finds_what_a_beam_of_plain_lists_finds(seed, penalty, beam, n_best, early_stop, ngram):
    model = table_model(seed, sources=3, vocab=7, sharpness=2.5)
    memory = table_memory(model, [1, 0, 2])
    decoding = Decoding(
        beam, penalty, n_best, max_length=7, early_stop=early_stop, repetition_penalty=1.2, no_repeat_ngram=ngram
    )
    for line, found in enumerate(run(model, memory, decoding)):
        assert_same(found, naive_beam(model, one(memory, line), decoding))


def naive_beam(model: Table, memory: Memory, decoding: Decoding, prefix: Sequence[int] = ()) -> list[Hypothesis]:
    """Beam search over lists, which stops early only for "beam" and "estimate"."""
    open_: list[tuple[float, list[int]]] = [(0.0, [*prefix])]
    finished: list[Hypothesis] = []
    while open_ and not (decoding.early_stop == "beam" and len(finished) >= decoding.beam):
        ranked = sorted(
            (
                (total + log_p, [*text, token])
                for total, text in open_
                for token, log_p in enumerate(naive_log_p(model, memory, text, decoding))
                if log_p > -math.inf
            ),
            reverse=True,
        )
        for total, text in ranked[: decoding.beam]:
            if text[-1] == END:
                finished.append(Hypothesis.of(text[:-1], total, decoding.length_penalty))
        open_ = [(total, text) for total, text in ranked if text[-1] != END][: decoding.beam]
        scores = sorted((text.score for text in finished), reverse=True)
        if decoding.early_stop == "estimate" and open_ and len(scores) >= decoding.beam:
            total, text = open_[0]
            if total / len(text) ** decoding.length_penalty <= scores[decoding.beam - 1]:
                break
    return sorted(finished, key=lambda text: -text.score)[: decoding.n_best]


def test_the_exact_bound_does_not_stop_before_a_long_certain_text():
    # The end is at hand with p = 0.3, but token 3 (p = 0.7) leads to certainty: better only by the mean of many tokens.
    def logits(history: list[int]) -> dict[int, float]:
        return {3: 0.7, END: 0.3} if not history else {3: 1.0} if len(history) < 8 else {END: 1.0}

    model = Scripted(logits, vocab=5)
    memory = table_memory(model, [0])
    late = run(model, memory, Decoding(2, length_penalty=1.0, max_length=12, **FREE_RATIO))[0][0]
    assert late.tokens == [3] * 8
    assert late.score == pytest.approx(math.log(0.7) / 9, abs=1e-4)


def test_the_estimate_stops_before_a_long_certain_text_that_the_exact_bound_waits_for():
    # Token 4 (p = 0.1) leads to certainty, but after two tokens log 0.1 / 2 is below the scores of the two ended.
    def logits(history: list[int]) -> dict[int, float]:
        if history == [3]:
            return {3: 0.1, END: 0.9}
        return {END: 0.6, 3: 0.3, 4: 0.1} if not history else {4: 1.0} if len(history) < 9 else {END: 1.0}

    found = {}
    for early_stop in ("exact", "estimate"):
        decoding = Decoding(2, max_length=10, early_stop=early_stop, **FREE_RATIO)
        model = Scripted(logits, vocab=5)
        found[early_stop] = run(model, table_memory(model, [0]), decoding)[0][0].tokens, len(model.rows_seen)
    assert found == {"exact": ([4] * 9, 10), "estimate": ([], 2)}


def test_the_exact_bound_is_safe_when_long_texts_are_punished():
    def logits(history: list[int]) -> dict[int, float]:
        return {3: 0.9, END: 0.1} if not history else {END: 1.0}

    model = Scripted(logits, vocab=5)
    decoding = Decoding(2, length_penalty=-1.0, max_length=50, **FREE_RATIO)
    assert run(model, table_memory(model, [0]), decoding)[0][0].tokens == [3]


def test_stopping_when_the_beam_has_ended_is_sooner():
    model = table_model(0, sources=8, vocab=9)
    memory = table_memory(model, list(range(8)))
    run(model, memory, Decoding(4, max_length=30, max_ratio=9.0, early_stop="beam"))
    soon = sum(model.rows_seen)
    model.rows_seen.clear()
    run(model, memory, Decoding(4, max_length=30, max_ratio=9.0, early_stop="exact"))
    assert soon < sum(model.rows_seen)


@pytest.mark.parametrize("beam", [1, 4])
def test_finished_sources_leave_the_batch(beam):
    # Source b ends after b + 1 tokens, with certainty.
    table = torch.full((4, 499, 6), -30.0)
    model = Table(table)
    for source in range(4):
        key = 0
        for step in range(source + 1):
            key = (key * 31 + (START if step == 0 else 3) + 1) % 499
            table[source, key, END if step == source else 3] = 30.0
    found = run(model, table_memory(model, [0, 1, 2, 3]), Decoding(beam, length_penalty=0.0, max_length=9))
    assert [len(lines[0].tokens) for lines in found] == [0, 1, 2, 3]
    first_width = min(beam, 5)
    assert model.rows_seen == [4, 3 * first_width, 2 * beam, 1 * beam]


# Numbers that are not finite, and all settings together

BROKEN = [math.nan, math.inf, -math.inf]
WAYS = [
    {"beam": 1},
    {"beam": 3, "n_best": 3},
    {"beam": 1, "sample": True, "seed": 1, "n_best": 2},
    {"beam": 1, "sample": True, "top_p": 0.9, "top_k": 3},
]


@pytest.mark.parametrize("value", BROKEN)
@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("places", [slice(None), END, 3, PAD])
def test_every_search_ends_on_logits_that_are_not_finite(how, value, places):
    model = table_model(3, sources=2, vocab=6)
    model.table[1, ..., places] = value
    decoding = Decoding(**how, max_length=6, min_length=2, no_repeat_ngram=2, **FREE_RATIO)
    if value != -math.inf or places == slice(None):
        with pytest.raises(InputError, match="no numbers that are finite"):
            run(model, table_memory(model, [0, 1]), decoding)
        return
    found = run(model, table_memory(model, [0, 1]), decoding)
    assert all(math.isfinite(text.score) and len(text.tokens) < 6 for several in found for text in several)
    assert all(several for several in found)


@pytest.mark.parametrize("how", [{}, {"sample": True}])
def test_a_stream_ends_on_logits_that_are_not_finite(how):
    model = table_model(3, vocab=6)
    model.table[..., 3] = math.nan
    tokens = stream(model, table_memory(model, [0]), Decoding(1, max_length=9, **how), START, END, (PAD, START))
    with pytest.raises(InputError, match="no numbers that are finite for the next token; its training has diverged"):
        list(tokens)


@pytest.mark.parametrize("how", WAYS)
def test_a_text_whose_every_continuation_is_impossible_ends(how):
    model = table_model(3, sources=2, vocab=6)
    model.table[1, ..., [3, 4, 5, END]] = -torch.inf  # what is left is suppressed
    found = run(model, table_memory(model, [0, 1]), Decoding(**how, max_length=6))
    assert {tuple(text.tokens) for text in found[1]} == {()}
    assert all(math.isfinite(text.score) for text in found[1])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_any_settings_together_find_what_a_search_over_lists_finds(data):
    draw = data.draw
    vocab, beam, max_length = draw(st.integers(4, 6)), draw(st.integers(2, 6)), draw(st.integers(1, 6))
    decoding = Decoding(
        beam,
        draw(st.sampled_from([-5.0, -0.5, 0.0, 0.6, 1.0, 2.0, 5.0])),
        draw(st.integers(1, beam)),
        max_length,
        draw(st.sampled_from([0.0, 0.5, 4.0])),
        draw(st.integers(0, max_length)),
        draw(stops),
        repetition_penalty=draw(st.sampled_from([0.5, 1.0, 1.7])),
        no_repeat_ngram=draw(st.integers(0, 3)),
    )
    model = table_model(draw(seeds), sources=3, vocab=vocab, sharpness=draw(st.sampled_from([0.3, 1.5, 6.0])))
    lengths = draw(st.lists(st.integers(1, 4), min_size=3, max_size=3))
    memory = table_memory(model, [2, 0, 1], lengths)
    prefix = [draw(st.lists(st.integers(3, vocab - 1), max_size=max_length - 1)) for _ in lengths]
    found = run(model, memory, decoding, prefix=prefix)
    for line, texts in enumerate(found):
        wanted = naive_beam(model, one(memory, line), decoding, prefix[line])
        scores = [text.score for text in texts]
        assert scores == sorted(scores, reverse=True)
        assert len({tuple(text.tokens) for text in texts}) == len(texts)
        assert_same(texts, wanted)


# Prefix, stream, no memory, settings


@pytest.mark.parametrize("how", [{"beam": 1}, {"beam": 3, "n_best": 3}, {"beam": 1, "sample": True, "n_best": 3}])
def test_a_prefix_stands_first_even_if_forbidden(how):
    model = table_model(6, sources=4, vocab=8)
    prefix = [[], [START], [4, 5], [7, 7, 7, 7]]
    found = run(model, table_memory(model, [0, 1, 2, 3]), Decoding(**how, max_length=12), prefix=prefix)
    for first, lines in zip(prefix, found, strict=True):
        assert all(text.tokens[: len(first)] == first for text in lines)


@pytest.mark.parametrize("how", [{}, {"sample": True, "seed": 4}])
@pytest.mark.parametrize("kind", ["table", "transformer", "recurrent"])
def test_a_stream_gives_what_search_gives(how, kind):
    model = table_model(6, vocab=8) if kind == "table" else real_model(kind, 6, 8)
    memory = table_memory(model, [0]) if isinstance(model, Table) else real_memory(model, 6, [4])
    decoding = Decoding(1, max_length=12, **how)
    whole = run(model, memory, decoding, prefix=[[4, 3]])[0][0].tokens
    assert [4, 3, *stream(model, memory, decoding, START, END, (PAD, START), prefix=[4, 3])] == whole


def test_a_stream_gives_each_token_before_the_next_is_computed():
    model = table_model(6, vocab=8)
    model.table[..., END] = -9
    tokens = stream(model, table_memory(model, [0]), Decoding(1, max_length=9), START, END, (PAD, START))
    for count in range(1, 4):
        next(tokens)
        assert len(model.rows_seen) == count


ONE_OR_SEVERAL = [{"beam": 1}, {"beam": 3, "n_best": 2}, {"beam": 1, "sample": True, "seed": 5, "n_best": 2}]
PROMPTS = [[END, 4], [END], [5, 6, 7], [END, 8, END, 3], [3, 3]]


@pytest.mark.parametrize("kind", ["transformer", "recurrent"])
@pytest.mark.parametrize("how", ONE_OR_SEVERAL)
def test_a_language_model_goes_on_from_prompts_of_any_length(kind, how):
    model = real_model(kind, 2, vocab=9, encoder=False)
    decoding, prefix = Decoding(**how, max_length=7, min_length=4), [[4], [], [5, 6, 8], [], [7]]
    together = search(model, None, decoding, START, END, (PAD, START), prefix, prompt=PROMPTS)
    for line, (prompt, begin) in enumerate(zip(PROMPTS, prefix, strict=True)):
        alone = search(model, None, decoding, START, END, (PAD, START), [begin], [line], [prompt])[0]
        assert_same(together[line], alone)
        for text in alone:
            assert text.tokens[: len(begin)] == begin
            assert 4 <= len(text.tokens) + 1 <= 7
            assert_true_score(model, prompt, len(begin), text, decoding)


def assert_true_score(model: Backbone, prompt: list[int], forced: int, text: Hypothesis, decoding: Decoding) -> None:
    """Compare with one pass over prompt and text; a last token that was not free has its own probability too."""
    whole = [*prompt, *text.tokens, END]
    log_p = model.logits(model.decode(torch.tensor([whole[:-1]]), None))[0].log_softmax(-1).detach()
    first = len(prompt) + forced
    wanted = sum(float(log_p[place - 1, whole[place]]) for place in range(first, len(whole)))
    assert text.log_probability == pytest.approx(wanted, abs=1e-4)
    assert text.score == pytest.approx(wanted / (len(text.tokens) + 1) ** decoding.length_penalty, abs=1e-4)


@pytest.mark.parametrize("kind", ["transformer", "recurrent"])
@pytest.mark.parametrize("penalty", [0.0, 1.0, -0.5])
def test_a_wide_beam_after_prompts_finds_what_brute_force_finds(kind, penalty):
    model = real_model(kind, 4, vocab=6, encoder=False)
    decoding = Decoding(60, penalty, 4, max_length=4)
    prompts = [[END, 4, 3], [5], [3, END, 4, 4]]
    found = search(model, None, decoding, START, END, (PAD, START), prompt=prompts)
    for prompt, lines in zip(prompts, found, strict=True):
        assert_same(lines, brute_force(model, None, decoding, prompt=tuple(prompt))[:4])


@pytest.mark.parametrize("kind", ["transformer", "recurrent"])
@pytest.mark.parametrize("how", [{}, {"sample": True, "seed": 4}])
def test_a_stream_of_a_language_model_gives_what_search_gives(kind, how):
    model, decoding = real_model(kind, 6, 8, encoder=False), Decoding(1, max_length=12, **how)
    for prompt in PROMPTS[:2]:
        found = search(model, None, decoding, START, END, (PAD, START), [[4]], prompt=[prompt])[0][0].tokens
        assert [4, *stream(model, None, decoding, START, END, (PAD, START), [4], prompt=prompt)] == found


@pytest.mark.parametrize("how", ONE_OR_SEVERAL)
def test_what_prompts_have_in_common_is_read_in_one_pass(how, monkeypatch):
    model, seen = real_model("transformer", 2, vocab=9, encoder=False), []
    step = type(model).step
    monkeypatch.setattr(type(model), "step", lambda *given: seen.append(given[1].size(1)) or step(*given))
    search(model, None, Decoding(**how, max_length=4), START, END, prompt=[[END, 3, 4, 5, 6], [5, 4, 3, END, 6, 7, 8]])
    assert seen[0] == 5
    assert set(seen[1:]) == {1}


def test_a_source_and_a_prompt_go_together():
    model = real_model("transformer", 2, vocab=9)
    memory, decoding = real_memory(model, 2, [3, 2]), Decoding(3, max_length=6)
    start = search(model, memory, decoding, START, END)
    assert search(model, memory, decoding, 7, END, prompt=[[START]] * 2) == start


def test_no_sources_give_no_texts():
    model = table_model(0)
    assert run(model, Memory(torch.zeros(0, 3, 1), torch.zeros(0, 3, dtype=torch.bool)), Decoding()) == []


def test_half_precision_logits_are_normalised_in_single():
    model = table_model(1, vocab=8)
    memory = table_memory(model, [0])
    decoding = Decoding(3, max_length=8)
    model.table = model.table.bfloat16()
    half = run(model, memory, decoding)
    model.table = model.table.float()
    assert run(model, memory, decoding) == half


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"beam": 0}, "decoding.beam is 0"),
        ({"beam": 2, "n_best": 3}, "raise beam to 3"),
        ({"sample": True}, "set beam to 1"),
        ({"temperature": 0.0, "sample": True, "beam": 1}, "decoding.temperature"),
        ({"top_p": 0.0}, "decoding.top_p"),
        ({"min_p": 1.5}, "decoding.min_p"),
        ({"top_k": 5}, "is for sampling"),
        ({"temperature": 0.7}, "is for sampling"),
        ({"max_length": 0}, "decoding.max_length"),
        ({"min_length": 9, "max_length": 8}, "above max_length"),
        ({"repetition_penalty": 0.0}, "decoding.repetition_penalty"),
        ({"length_penalty": math.nan}, "length_penalty is nan; give a number"),
        ({"max_ratio": math.nan}, "decoding.max_ratio"),
        ({"early_stop": "never"}, "early_stop"),
        ({"seed": -1}, "decoding.seed"),
        ({"length_penalty": 1e6}, "decoding.length_penalty is 1000000.0; give a number from -5 to 5"),
        ({"max_ratio": 1e300}, "decoding.max_ratio"),
        ({"beam": 10**6}, "decoding.beam"),
        ({"beam": "5"}, "decoding.beam is '5'; give a whole number"),
        ({"beem": 5}, "did you mean beam?"),
    ],
)
def test_contradictory_settings_say_what_to_do(wrong, message):
    with pytest.raises(InputError, match=message):
        Decoding(**wrong)


def test_wrong_calls_say_what_to_do():
    model = table_model(0)
    memory = table_memory(model, [0, 0])
    for more, message in (
        ({"prefix": [[3]]}, "1 lists of tokens for 2 sources"),
        ({"prefix": [[3], [END]]}, "end token"),
        ({"prefix": [[3], [3] * 256]}, "no room"),
    ):
        with pytest.raises(InputError, match=message):
            run(model, memory, Decoding(), **more)
    with pytest.raises(InputError, match="end token"):
        search(model, memory, Decoding(), START, END, suppress_tokens=[END])
    with pytest.raises(InputError, match="give prompt"):
        search(model, None, Decoding(), START, END)
    with pytest.raises(InputError, match="1 lists of tokens for 2 sources"):
        search(model, None, Decoding(), START, END, prefix=[[3]], prompt=[[3], [4]])
    with pytest.raises(InputError, match="a prompt has no token"):
        search(model, None, Decoding(), START, END, prompt=[[]])
    short = TransformerConfig(d_model=8, n_heads=2, d_ff=8, encoder_layers=0, decoder_layers=1, max_length=5).build(9)
    assert len(search(short.eval(), None, Decoding(1, min_length=9), START, END, prompt=[[3] * 5])[0][0].tokens) == 0
    with pytest.raises(InputError, match="a prompt of 6 tokens leaves no room"):
        search(short, None, Decoding(), START, END, prompt=[[3] * 6])
    with pytest.raises(InputError, match="with one hypothesis only"):
        stream(model, memory, Decoding(), START, END)
