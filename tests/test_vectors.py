"""Word vectors: the right rows get the right numbers, and broken files are named."""

from __future__ import annotations

import gzip

import pytest
import torch
from torch import nn

from lmtasks.errors import InputError
from lmtasks.text.tokenizer import Tokenizer, TokenizerConfig
from lmtasks.text.vectors import initialise

D = 4
TOKENIZER = Tokenizer.train(["the dog is going, The dog's 天气 好"] * 5, TokenizerConfig(vocab_size=320))
VECTORS = {
    "the": [1.0, 2.0, 3.0, 4.0],
    "dog": [-1.0, 0.5, 0.25, 2.0],
    "ing": [9.0, 9.0, 9.0, 9.0],
    ",": [0.5, 0.0, -0.5, 1e-3],
    "'s": [0.1, 0.2, 0.3, 0.4],
    "天气": [3.0, -3.0, 1.0, 0.0],
    "unseen": [7.0, 7.0, 7.0, 7.0],
}
LINES = [f"{word} {' '.join(map(str, numbers))}" for word, numbers in VECTORS.items()]


def fresh(tokenizer=TOKENIZER):
    embedding = nn.Embedding(len(tokenizer), D)
    with torch.no_grad():
        embedding.weight.normal_(std=0.05, generator=torch.Generator().manual_seed(0))
    return embedding


def write(path, lines):
    content = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def set_rows(before, embedding, tokenizer=TOKENIZER):
    """Return {piece: row} of the rows that changed."""
    changed = (before != embedding.weight).any(dim=1).nonzero().flatten().tolist()
    return {tokenizer.pieces([i])[0]: embedding.weight[i].detach() for i in changed}


def initialised(path, tokenizer=TOKENIZER):
    embedding = fresh(tokenizer)
    before = embedding.weight.detach().clone()
    share = initialise(embedding, tokenizer, path)
    rows = set_rows(before, embedding, tokenizer)
    assert share == len(rows) / len(tokenizer)
    return rows


def parallel(row, numbers):
    return torch.cosine_similarity(row, torch.tensor(numbers), dim=0).item() == pytest.approx(1)


def test_whole_words_get_their_vectors_and_parts_of_words_none(tmp_path):
    rows = initialised(write(tmp_path / "glove.txt", LINES))
    assert set(rows) == {" the", " dog", " The", ",", "'s", "天气"}  # not "ing", not "the" without a blank
    for piece, row in rows.items():
        assert parallel(row, VECTORS[piece.strip().lower()])
    assert torch.allclose(rows[" the"], rows[" The"])  # the file has lower case only


def test_the_exact_word_comes_before_its_lower_case(tmp_path):
    upper = [-4.0, 3.0, -2.0, 1.0]
    rows = initialised(write(tmp_path / "glove.txt", [*LINES, "The -4 3 -2 1"]))
    assert parallel(rows[" The"], upper)
    assert parallel(rows[" the"], VECTORS["the"])


def test_of_a_word_that_comes_twice_the_first_counts(tmp_path):
    rows = initialised(write(tmp_path / "glove.txt", [*LINES, "dog 5 5 5 5"]))
    assert parallel(rows[" dog"], VECTORS["dog"])


def test_vectors_get_the_spread_of_the_embedding_and_keep_their_relative_lengths(tmp_path):
    rows = initialised(write(tmp_path / "glove.txt", LINES))
    assert torch.stack(list(rows.values())).std().item() == pytest.approx(fresh().weight.std().item(), rel=1e-4)
    ratio = torch.tensor(VECTORS["the"]).norm() / torch.tensor(VECTORS["dog"]).norm()
    assert (rows[" the"].norm() / rows[" dog"].norm()).item() == pytest.approx(ratio.item(), rel=1e-4)


def test_an_embedding_of_zeros_takes_the_vectors_as_they_are(tmp_path):
    embedding = fresh()
    nn.init.zeros_(embedding.weight)
    initialise(embedding, TOKENIZER, write(tmp_path / "glove.txt", LINES))
    assert VECTORS["dog"] in embedding.weight.tolist()


def test_header_gzip_and_trailing_blanks_change_nothing(tmp_path):
    plain = initialised(write(tmp_path / "glove.txt", LINES))
    header = f"{len(LINES)} {D}"
    for name, lines in (("v.txt.gz", LINES), ("w.vec", [header, *(f"{line} \r" for line in LINES)])):
        other = initialised(write(tmp_path / name, lines))
        assert other.keys() == plain.keys()
        assert all(torch.equal(other[piece], plain[piece]) for piece in plain)


def test_words_may_hold_blanks_and_strange_bytes(tmp_path):
    plain = initialised(write(tmp_path / "glove.txt", LINES))
    odd = [
        LINES[0],
        ". . . 1 2 3 4",
        "at name@domain.com 1 2 3 4",
        "\x85 1 2 3 4",
        "\u00a0 1 2 3 4",
        "2000 1 2 3 4",
        *LINES,
    ]
    path = write(tmp_path / "odd.txt", odd)
    path.write_bytes(path.read_bytes() + b"caf\xc3 1 2 3 4\n")
    assert initialised(path).keys() == plain.keys()


def test_characters_are_words_of_a_tokenizer_of_characters(tmp_path):
    tokenizer = Tokenizer.train(["ab 天"], TokenizerConfig("character"))
    lines = ["a 1 2 3 4", "天 4 3 2 1", "z 1 1 2 2"]  # z was not seen in training
    assert set(initialised(write(tmp_path / "v.txt", lines), tokenizer)) == {"a", "天"}


def test_bytes_are_no_words(tmp_path):
    tokenizer = Tokenizer.train([], TokenizerConfig("byte"))
    assert initialised(write(tmp_path / "v.txt", LINES), tokenizer) == {}


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (["the 1 2 3", "dog 1 2 3"], "row 1: 3 numbers, the embedding has 4; set d_model=3"),
        (["the 1 2 3 4 5"], "row 1: 5 numbers, the embedding has 4; set d_model=5"),
        (["1000 300", "the 1 2 3 4"], "row 1: 300 numbers, the embedding has 4"),
        ([*LINES, "cat 1 2 3"], "row 8: 3 numbers"),
        ([*LINES, "cat 1 2 3 4 5"], "row 8: 5 numbers"),
        (["the 1 2 3 4", "", "dog 1 2 3 4"], "row 2: 0 numbers"),
        (["the 1 2 3 4", "dog 1 two 3 4"], "row 2, column 3: 'two'"),
        (["dog 1 nan 3 4"], "row 1, column 3: 'nan'"),
        (["5 4", *LINES[:3]], "3 words, its header says 5"),
        ([], "empty"),
    ],
)
def test_broken_files_are_named_with_the_row(tmp_path, lines, fault):
    with pytest.raises(InputError, match=rf"glove\.txt.*{fault}"):
        initialise(fresh(), TOKENIZER, write(tmp_path / "glove.txt", lines))


def test_missing_and_cut_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.txt, after row 0: cannot be read"):
        initialise(fresh(), TOKENIZER, tmp_path / "nowhere.txt")
    path = write(tmp_path / "cut.gz", LINES)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(InputError, match=r"cut\.gz, after row"):
        initialise(fresh(), TOKENIZER, path)


def test_a_failure_leaves_the_embedding_as_it_was(tmp_path):
    embedding = fresh()
    with pytest.raises(InputError):
        initialise(embedding, TOKENIZER, write(tmp_path / "glove.txt", [*LINES, "cat 1"]))
    assert torch.equal(embedding.weight, fresh().weight)
