"""The tokenizer: nothing is lost, nothing is special by accident, nothing is left to chance."""

from __future__ import annotations

import argparse
import copy
import gzip
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import tokenizers
from hypothesis import example, given, settings, strategies as st

from lmtasks.cli import tokenizer as command
from lmtasks.errors import InputError
from lmtasks.text.pieces import Kind
from lmtasks.text.tokenizer import SPECIALS, Tokenizer, TokenizerConfig

KINDS = get_args(Kind)
CORPUS = [
    "The dog's house is near the river, and the dogs sleep.",
    "Le chien dort près de la rivière; l'homme lit un livre.",
    "Ein Mädchen läuft 12 Meter zum Haus am Fluss.",
    "你好，世界。今天天气很好，我们去河边走走。",
    "他说：「天气很好。」 <pad> <s> </s> <2de> <2fr>",
] * 3
TRAINED = {kind: Tokenizer.train(CORPUS, TokenizerConfig(kind, 500), ["de", "zh-Hans"]) for kind in KINDS}
EVERY_KIND = pytest.mark.parametrize("tokenizer", TRAINED.values(), ids=KINDS)

SNIPPETS = [
    *(
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "\u00a0",
        "\u3000",
        "\u2028",
        "\x00",
        "\ufeff",
        "\u200d",
        "\ufffd",
        "\u2581",
        "Ġ",
        "Ċ",
    ),
    *(*SPECIALS, "<2de>", "<unk>", "<0x41>", "<0x0A>", "dog", "dogs", "'s", "’", "it's", "12", "½", "\u0301", "\u0308"),
    *(
        "läuft",
        "la\u0308uft",
        "天气",
        "很",
        "ー",
        "カナ",
        "ไทย",
        "हिन्दी",
        "שלום",
        "مرحبا",
        "👩‍👩‍👧",
        "🇫🇷",
        "𝔘",
        "\U0010ffff",
    ),
]
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])), st.lists(st.sampled_from(SNIPPETS), max_size=12).map("".join)
)


@EVERY_KIND
@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
@example(text="")
@example(text=" ")
@example(text=" 你")
@example(text="  <pad> dog\n")
def test_no_text_is_lost_and_none_becomes_a_special_token(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert not set(ids) & tokenizer._special_ids
    assert tokenizer.encode_batch([text, "dog"]) == [ids, tokenizer.encode("dog")]
    assert tokenizer.decode_batch([ids, []]) == [text, ""]


@EVERY_KIND
@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
@example(text=" dog")
@example(text="\n dog")
def test_offsets_lie_in_the_very_text(tokenizer, text):
    ids, spans = tokenizer.encode_with_offsets(text)
    assert ids == tokenizer.encode(text)
    assert len(spans) == len(ids)
    assert all(0 <= start <= stop <= len(text) for start, stop in spans)
    assert spans == sorted(spans)
    covered = {place for start, stop in spans for place in range(start, stop)}
    assert all(place in covered or text[place] == " " for place in range(len(text)))
    for piece, (start, stop) in zip(tokenizer.pieces(ids), spans, strict=True):
        whole = "\\x" not in piece and start < stop  # all bytes of its characters, and not the blank put in front
        assert not whole or piece.removeprefix(" ") in (text[start:stop], text[start:stop].removeprefix(" "))


@EVERY_KIND
def test_a_span_of_pieces_gives_back_the_answer(tokenizer):
    text = "  The dog läuft to the river.\n今天 dogs sleep"
    _, spans = tokenizer.encode_with_offsets(text)
    for answer in ("The", "dog", "läuft", "river", "今天", "dogs sleep"):
        begin = text.index(answer)
        inside = [span for span in spans if begin <= span[0] < span[1] <= begin + len(answer)]
        assert text[inside[0][0] : inside[-1][1]] == answer


@EVERY_KIND
@pytest.mark.parametrize("word", ["dogs", "Mädchen", "天气", "12"])
def test_the_first_word_has_the_pieces_it_has_amid_a_text(tokenizer, word):
    before = "好，" if word == "天气" else "the " if tokenizer.kind in ("byte", "character") else "the"
    blank = "" if before != "the" else " "
    assert tokenizer.encode(before + blank + word) == tokenizer.encode(before) + tokenizer.encode(word)


def test_punctuation_digits_and_scripts_are_cut_apart():
    words = [word for word, _ in TRAINED["bpe"]._inner.pre_tokenizer.pre_tokenize_str(" Don't go12, l'suis 'til 好a")]
    assert words == ["ĠDon", "'t", "Ġgo", "12", ",", "Ġl", "'", "suis", "Ġ'", "til", "Ġ", "å¥½", "a"]
    hindi, decomposed = " हिन्दी", " la\u0308uft"  # combining marks stay in their word
    assert all(len(TRAINED["bpe"]._inner.pre_tokenizer.pre_tokenize_str(word)) == 1 for word in (hindi, decomposed))


@EVERY_KIND
def test_the_vocabulary_is_dense_and_within_its_bound(tokenizer):
    assert sorted(tokenizer._inner.get_vocab().values()) == list(range(len(tokenizer)))
    assert len(tokenizer) <= 500
    assert tokenizer.pieces([tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id]) == list(SPECIALS)
    assert tokenizer.pieces([tokenizer.tag("de"), tokenizer.tag("zh-Hans")]) == ["<2de>", "<2zh-Hans>"]
    assert tokenizer.languages == ("de", "zh-Hans")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vocab_size", [259, 260, 300])
def test_the_bound_holds_for_the_smallest_sizes(kind, vocab_size):
    tokenizer = Tokenizer.train(CORPUS, TokenizerConfig(kind, vocab_size))
    assert len(tokenizer) <= vocab_size
    assert tokenizer.decode(tokenizer.encode("天 dog <pad>")) == "天 dog <pad>"


@pytest.mark.parametrize("kind", ["bpe", "unigram", "character"])
def test_a_bound_below_the_bytes_is_refused(kind):
    with pytest.raises(InputError, match="vocab_size 260: at least 261"):
        Tokenizer.train(CORPUS, TokenizerConfig(kind, 260), ["de", "fr"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("corpus", [["a"], ["", "a\n"], ["天"], [" "]])
def test_a_tiny_corpus_gives_a_small_tokenizer_of_the_same_kind(kind, corpus):
    tokenizer = Tokenizer.train(corpus, TokenizerConfig(kind))
    assert tokenizer.kind == kind
    assert 259 <= len(tokenizer) < 270
    assert tokenizer.decode(tokenizer.encode("ab 天")) == "ab 天"
    assert tokenizer.encode_with_offsets("好")[1][-1] == (0, 1)


@pytest.mark.parametrize("kind", ["bpe", "unigram", "character"])
@pytest.mark.parametrize("corpus", [[], ["", ""]])
def test_no_text_at_all_is_refused(kind, corpus):
    with pytest.raises(InputError, match="no text"):
        Tokenizer.train(corpus, TokenizerConfig(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_training_twice_gives_the_same_tokenizer(kind):
    again = Tokenizer.train(iter(CORPUS), TokenizerConfig(kind, 500), ["de", "zh-Hans"])
    assert again.to_json() == TRAINED[kind].to_json()


def test_training_gives_the_same_in_another_process():
    code = (
        "import json, sys; from lmtasks.text.tokenizer import *; texts = json.load(sys.stdin);"
        "print(*(Tokenizer.train(texts, TokenizerConfig(k, 500), ['de', 'zh-Hans']).fingerprint for k in sys.argv[1:]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [sys.executable, "-c", code, *KINDS],
        input=json.dumps(CORPUS),
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert done.stdout.split() == [TRAINED[kind].fingerprint for kind in KINDS]


def test_the_most_frequent_characters_are_kept_and_others_are_bytes():
    tokenizer = Tokenizer.train(["ééé天天b"], TokenizerConfig("character", 259 + 2))
    assert tokenizer.pieces(tokenizer.encode("é天bü")) == ["é", "天", "b", "\\xc3", "\\xbc"]
    assert tokenizer.pieces(range(259, 261)) == ["é", "天"]


@EVERY_KIND
def test_the_bytes_of_pieces_are_those_of_their_text(tokenizer):
    pieces = tokenizer.byte_pieces()
    assert len(pieces) == len(tokenizer)
    text = "dog 天气 𝔘 Ä"  # some letters were never seen
    assert b"".join(pieces[i] for i in tokenizer.encode(text)).decode().strip() == text
    assert {pieces[i] for i in [*tokenizer.suppress_tokens, tokenizer.eos_id]} == {b""}


@EVERY_KIND
def test_pieces_show_real_characters(tokenizer):
    text = "dog 天气 𝔘"
    shown = tokenizer.pieces(tokenizer.encode(text))
    assert "".join(shown).strip().endswith("\\xf0\\x9d\\x94\\x98")  # this letter was never seen
    assert not set("Ġ▁") & set("".join(shown))
    assert tokenizer.pieces([tokenizer.bos_id]) == ["<s>"]
    with pytest.raises(IndexError, match="not in the vocabulary"):
        tokenizer.pieces([len(tokenizer)])


@EVERY_KIND
def test_special_tokens_are_left_out_of_decoding(tokenizer):
    ids = [tokenizer.tag("de"), tokenizer.bos_id, *tokenizer.encode("the dog"), tokenizer.eos_id, tokenizer.pad_id]
    assert tokenizer.decode(ids) == "the dog"


@EVERY_KIND
def test_json_pickle_and_copy_keep_every_id(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    text = "The dog <pad> läuft 天气 <2de> 👩‍👩‍👧"
    for other in (
        Tokenizer.from_json(tokenizer.to_json()),
        Tokenizer.load(tmp_path / "tokenizer.json"),
        pickle.loads(pickle.dumps(tokenizer)),
        copy.deepcopy(tokenizer),
    ):
        assert other.encode(text) == tokenizer.encode(text)
        assert other.to_json() == tokenizer.to_json()
        assert other.fingerprint == tokenizer.fingerprint
        assert (other.kind, other.languages) == (tokenizer.kind, tokenizer.languages)


def test_other_pieces_give_another_fingerprint():
    assert len({tokenizer.fingerprint for tokenizer in TRAINED.values()}) == len(KINDS)


@EVERY_KIND
def test_half_a_surrogate_pair_is_named(tokenizer):
    for cut in (tokenizer.encode, tokenizer.encode_with_offsets):
        with pytest.raises(InputError, match=r"text 1, character 2: '\\ud800'"):
            cut("a\ud800")
    with pytest.raises(InputError, match="text 2, character 1"):
        tokenizer.encode_batch(["a", "\udc00"])


@pytest.mark.parametrize("kind", ["bpe", "unigram", "character"])
def test_half_a_surrogate_pair_is_named_in_training_too(kind):
    with pytest.raises(InputError, match="text 2, character 3"):
        Tokenizer.train(["a", "ab\ud800"], TokenizerConfig(kind))


def test_unknown_and_impossible_languages_are_named():
    with pytest.raises(InputError, match=r"'xx' \(it has: de, zh-Hans\)"):
        TRAINED["bpe"].tag("xx")
    with pytest.raises(InputError, match="'d e'"):
        Tokenizer.train(CORPUS, TokenizerConfig(), ["d e"])


def test_a_given_file_is_used_and_must_know_the_languages(tmp_path):
    path = tmp_path / "tokenizer.json"
    TRAINED["bpe"].save(path)
    config = TokenizerConfig("unigram", file=str(path))
    assert Tokenizer.train([], config, ["de"]).to_json() == TRAINED["bpe"].to_json()
    with pytest.raises(InputError, match="'fr'"):
        Tokenizer.train([], config, ["fr"])


def test_what_is_no_tokenizer_of_ours_is_refused(tmp_path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(InputError, match=r"tokenizer\.json: cannot be read"):
        Tokenizer.load(path)
    alien = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<pad>": 0, "<s>": 1, "</s>": 2}, unk_token="<pad>"))
    shifted = TRAINED["byte"].to_json().replace('"<s>":1', '"<s>":2').replace('"</s>":2', '"</s>":1')
    for text, fault in (
        ("{", "no tokenizer.json"),
        ("[]", "no tokenizer.json"),
        (alien.to_str(), "bytes"),
        (shifted, "<s>"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=fault):
            Tokenizer.load(path)


def run_command(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(words))


def test_the_command_trains_what_the_class_trains_and_shows_it(tmp_path, capsys):
    with gzip.open(tmp_path / "text.gz", "wt", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in CORPUS)
    output = str(tmp_path / "tokenizer.json")
    words = [str(tmp_path / "text.gz"), "--output", output, "--vocab-size", "500", "--languages", "de, zh-Hans"]
    assert run_command(*words) == 0
    assert capsys.readouterr().out == f"{output}\n"
    assert Tokenizer.load(output).to_json() == TRAINED["bpe"].to_json()
    assert run_command("--show", output, "the dogs", "天气") == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ["".join(pieces) for pieces in shown] == [" the dogs", "天气"]


def test_the_command_names_what_is_missing(tmp_path):
    with pytest.raises(InputError, match="no file"):
        run_command("--output", str(tmp_path / "tokenizer.json"))
    with pytest.raises(InputError, match="no folder"):
        run_command("text.txt", "--output", str(tmp_path / "nowhere" / "tokenizer.json"))
    with pytest.raises(InputError, match="no such file"):
        run_command(str(tmp_path / "text.txt"), "--output", str(tmp_path / "tokenizer.json"))


def test_the_command_offers_every_kind():
    assert command.KINDS == KINDS
