"""Tagging: words to ids and tags, raw texts to words, tags to names, and what counts as found."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import tiny_backbone, trainer

from lmtasks import TaggingModule, TextDataModule, TokenizerConfig, Village
from lmtasks.batch import IGNORE
from lmtasks.data.limits import cut
from lmtasks.errors import InputError
from lmtasks.storage.model_folder import load, save
from lmtasks.tasks.base import Prediction, Span
from lmtasks.tasks.tagging import TaggingTask, mark_names
from lmtasks.text.tags import as_bio, spans
from lmtasks.text.tokenizer import Tokenizer
from lmtasks.text.words import LETTERS, join_words, learn_writing, split_words
from lmtasks.training.config import Training
from lmtasks.training.optim.optimizers import Adam
from lmtasks.training.optim.schedule import Schedule

ROW = {"words": ["Anna", "lives", "in", "New", "York"], "tags": ["B-PER", "O", "O", "B-LOC", "I-LOC"]}
CHARACTERS = {"words": [*"李明住北京"], "tags": ["B-PER", "E-PER", "O", "B-LOC", "E-LOC"]}
PLACED = {**ROW, "place": "train.conll, row 7"}
TASK = TaggingTask().learn([ROW])


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    texts = ["Anna lives in New York .", "Anna and New York", "li ves"] * 3
    return Tokenizer.train(texts, TokenizerConfig("bpe", 300))


def test_a_row_becomes_pieces_with_a_tag_at_the_first_of_each_word(tokenizer):
    (example,) = TASK.examples([ROW], tokenizer)
    assert example.source == [*tokenizer.encode("Anna lives in New York"), tokenizer.eos_id]
    words = [tokenizer.encode(word) for word in ROW["words"]]
    numbers = [TASK.tags.index(tag) for tag in ROW["tags"]]
    expected = [value for tag, word in zip(numbers, words, strict=True) for value in [tag] + [IGNORE] * (len(word) - 1)]
    assert example.target == [*expected, IGNORE]
    assert len(example.offsets) == 2 * len(example.source)
    assert (example.text, example.reference) == ("Anna lives in New York", "[PER Anna] lives in [LOC New York]")
    assert example.references == ["0:4 PER", "14:22 LOC"]


@pytest.mark.parametrize("kind", ["bpe", "unigram", "character", "byte"])
def test_tags_come_back_as_the_names_they_were(kind):
    tokenizer = Tokenizer.train(["Anna lives in New York", "李明住北京"], TokenizerConfig(kind, 300))
    for row in (ROW, CHARACTERS):
        task = TaggingTask().learn([row])
        (example,) = task.examples([row], tokenizer)
        tags = [tag for tag in example.target if tag != IGNORE]
        ((answer,),) = task.answers([(tags, 0.5)], [example], tokenizer)
        assert (answer.text, answer.score) == (example.reference, 0.5)
        assert answer.plain()["labels"] == as_bio(spans(row["tags"]), len(row["words"]))
        assert [f"{span.start}:{span.stop} {span.label}" for span in answer.spans] == example.references
        assert all(example.text[span.start : span.stop] == span.text for span in answer.spans)
        sample = Prediction(example.text, example.reference, example.references, [answer])
        assert task.score([sample], 1.0, 5)["f1"] == 100


def test_all_schemes_give_the_same_example(tokenizer):
    bio = TASK.examples([ROW], tokenizer)
    for tags in (
        ["S-PER", "O", "O", "B-LOC", "E-LOC"],
        ["U-PER", "O", "O", "B-LOC", "L-LOC"],
        ["I-PER", "O", "O", "I-LOC", "I-LOC"],
    ):
        row = {**ROW, "tags": tags}
        assert TaggingTask().learn([row]) == TASK
        assert TASK.examples([row], tokenizer) == bio


def test_a_raw_text_is_asked_like_its_words(tokenizer):
    (raw,) = TASK.questions([{"text": "Anna lives in New York"}], tokenizer)
    (given,) = TASK.questions([{"words": ROW["words"]}], tokenizer)
    assert raw == given
    assert {tag for tag in raw.target if tag != IGNORE} == {0}  # where the words are, and nothing else
    assert raw.references == []
    assert TASK.questions([{"text": " "}, {"words": []}, {"words": None, "text": "Anna"}], tokenizer)[0].row == 2


def test_names_in_a_raw_text_have_its_own_characters(tokenizer):
    text = " Anna's in  New York!"
    task = TaggingTask(labels=("LOC",), writing=("'s", LETTERS))
    (example,) = task.questions([{"text": text}], tokenizer)
    ((answer,),) = task.answers([([0, 0, 0, 1, 2, 0], 1.0)], [example], tokenizer)
    assert answer.spans == (Span(12, 20, "New York", "LOC"),)
    assert answer.text == " Anna's in  [LOC New York]!"


@pytest.mark.parametrize("length", range(1, 9))
def test_each_word_has_a_tag_wherever_a_text_was_cut(tokenizer, length):
    for row in ({"words": [*ROW["words"], "York", "York"], "tags": [*ROW["tags"], "O", "O"]}, CHARACTERS):
        (whole,) = TaggingTask().learn([row]).examples([row], tokenizer)
        example = replace(whole, source=cut(whole.source, length), target=cut(whole.target, length))
        tags = [0 for tag in example.target if tag != IGNORE]
        ((answer,),) = TASK.answers([(tags, 1.0)], [example], tokenizer)
        assert answer.labels == ("O",) * len(row["words"])


def test_the_words_behind_a_cut_have_no_names_and_count_all_the_same(tokenizer):
    (example,) = TASK.examples([ROW], tokenizer)
    ((answer,),) = TASK.answers([([TASK.tags.index("B-PER")], 1.0)], [example], tokenizer)
    assert [span.text for span in answer.spans] == ["Anna"]
    scores = TASK.score([Prediction(example.text, example.reference, example.references, [answer])], 1.0, 5)
    assert (scores["precision"], scores["recall"], scores["f1_LOC"]) == (100, 50, 0)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"tags": ["B-PER", "O"]}, "5 words and 2 tags, expected a tag for each word"),
        (
            {"tags": ["B-PER", "O", "O", "B-SEA", "I-SEA"]},
            r"column 'tags', word 4: a name of the kind 'SEA', .* LOC, PER",
        ),
        ({"tags": ["B-PER", "O", "O", "LOC", "O"]}, "column 'tags': tag 'LOC': expected O, or B-"),
        ({"words": [1, 2]}, r"column 'words': \[1, 2\], expected a list of texts"),
    ],
)
def test_a_wrong_row_is_named(tokenizer, change, complaint):
    with pytest.raises(InputError, match=rf"train\.conll, row 7, {complaint}"):
        TASK.examples([ROW, {**PLACED, **change}], tokenizer)


def test_rows_that_teach_nothing_are_refused():
    with pytest.raises(InputError, match="all 1 training rows have no name"):
        TaggingTask().learn([{"words": ["a"], "tags": ["O"]}])
    with pytest.raises(InputError, match=r"train\.conll, row 7, column 'tags': tag 'X-PER'"):
        TaggingTask().learn([{**PLACED, "tags": ["X-PER", "O", "O", "O", "O"]}])
    assert TASK.learn([{**ROW, "tags": ["O", "O", "O", "B-LOC", "I-LOC"]}]).labels == TASK.labels  # the head has these


def test_an_answer_begins_a_name_before_it_goes_on_with_it(tokenizer):
    head = TASK.head(tokenizer, 8)
    tags = TASK.tags
    follows = {(a, b) for i, a in enumerate(tags) for j, b in enumerate(tags) if head.chain.may_follow[i, j]}
    assert {(a, b) for a, b in follows if b[0] == "I"} == {(f"{p}-{k}", f"I-{k}") for p in "BI" for k in ("LOC", "PER")}
    assert [tag for tag, may in zip(tags, head.chain.may_begin.tolist(), strict=True) if may] == ["O", "B-LOC", "B-PER"]


def test_kinds_without_a_name_work_too(tokenizer):
    row = {"words": ["Anna", "lives"], "tags": ["B", "O"]}
    task = TaggingTask().learn([row])
    assert task.tags == ["O", "B", "I"]
    assert task.examples([row], tokenizer)[0].reference == "[Anna] lives"
    assert task.head(tokenizer, 8).chain.may_follow.tolist() == [[True, True, False], [True] * 3, [True] * 3]


def test_what_is_special_has_no_letters(tokenizer):
    head = TASK.head(tokenizer, 8)
    assert head.spelling is not None
    lengths = head.spelling.lengths
    assert lengths[[tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id]].tolist() == [0, 0, 0]
    (piece,) = tokenizer.encode("York")
    assert lengths[piece] == len("York")


@pytest.mark.parametrize("kind", ["bpe", "character", "byte"])
def test_a_word_is_spelled_by_its_bytes_where_pieces_cut_its_characters(kind):
    tokenizer = Tokenizer.train(["Anna"], TokenizerConfig(kind, 300))
    spelling = TASK.head(tokenizer, 8).spelling
    ids = torch.tensor([tokenizer.encode(" Ä北")])
    first = torch.arange(ids.size(1)).unsqueeze(0) == 0
    letters = spelling.spell(ids, torch.zeros(1, 1, dtype=torch.int64), first)
    assert bytes(letters[0, 0] - 1).decode() == "Ä北"


def test_scores_and_signatures_go_by_the_same_names():
    scores = TASK.score([Prediction("", "", ["0:4 PER"])], 1.0, 1)
    assert set(TASK.signatures()) <= set(scores)
    assert TASK.main_metric in scores
    assert {"f1_LOC", "f1_PER"} < set(scores)
    assert "PER" in TASK.table([Prediction("", "", ["0:4 PER"])])


def test_how_words_are_written_is_learnt():
    tweets = [["@anna", "do", "n't", "go", ",", "anna", "'s", "re-imagining", "@", "9"]] * 10
    writing = learn_writing(tweets)
    assert writing == ("'s", "-", LETTERS, "n't")  # "@" is as often a word as it begins one
    assert learn_writing([["@anna", "go", "'s", "@"], ["@ben", "go"]] * 5) == ("'s", "@letters", LETTERS)
    text = "Don't go to Anna's re-imagining!"
    words = ["Do", "n't", "go", "to", "Anna", "'s", "re-imagining", "!"]
    assert [text[slice(*place)] for place in split_words(text, writing)] == words
    assert learn_writing([["李", "明"], ["P", "M"]]) == ()
    assert [place for place, _ in split_words("P M北", ())] == [0, 2, 3]


def test_marks_belong_to_letters_and_scripts_without_blanks_fall_into_characters():
    text = "हिन्दी cafe\N{COMBINING ACUTE ACCENT} 北京。"
    words = [text[slice(*place)] for place in split_words(text, (LETTERS,))]
    assert words == ["हिन्दी", "cafe\N{COMBINING ACUTE ACCENT}", "北", "京", "。"]
    assert join_words(["We", "love", "北京", "上海"], (LETTERS,))[0] == "We love 北京上海"
    assert join_words(["北", "P", "M"], ())[0] == "北PM"


def test_names_are_marked_where_they_stand():
    assert mark_names("Anna", [Span(0, 4, "Anna", "PER")]) == "[PER Anna]"
    assert mark_names("", []) == ""


def test_village_names_are_learned_saved_and_found_again(tmp_path):
    module = TaggingModule(
        dropout=0.0,
        backbone=tiny_backbone(decoder_layers=0),
        tokenizer=TokenizerConfig("bpe", 400),
        training=Training(Adam(0.02), Schedule("constant", warmup=0)),
    )
    data = TextDataModule(Village(train=60, validation=8, test=8), tokens_per_step=400, cache=str(tmp_path / "cache"))
    torch.manual_seed(0)
    one = trainer(tmp_path, max_steps=40, limit_val_batches=0, num_sanity_val_steps=0)
    one.fit(module, datamodule=data)
    (scores,) = one.test(module, datamodule=data, verbose=False)
    assert scores["test/tagging/loss"] < 0.5  # nats a word; nine tags have 2.2 at first
    loaded = load(save(module, tmp_path / "model"))
    assert loaded.task == module.task
    texts = ["Rose slept at The Red Cow, and Paul in Mill Lane.", " "]
    assert loaded.tag(texts) == module.tag(texts)
    assert loaded.tag(texts)[1] == []
