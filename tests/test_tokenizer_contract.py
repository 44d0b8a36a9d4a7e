"""A tokenizer that is not ours: other special ids and another framing go through tasks, heads, data and answers."""

from __future__ import annotations

import json
import re

import pytest
import torch
from tiny import fit, tiny_backbone, tiny_module, weights, write_corpus

from lmtasks.batch import IGNORE, Batch
from lmtasks.decoding import Decoding
from lmtasks.errors import InputError
from lmtasks.model import Model
from lmtasks.storage import CHECKSUMS
from lmtasks.storage.model_folder import load, save
from lmtasks.tasks.answering import SpanAnsweringTask
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.tasks.dialogue import DialogueTask
from lmtasks.tasks.generation import GenerationTask
from lmtasks.tasks.tagging import TaggingTask
from lmtasks.tasks.translation import TranslationTask
from lmtasks.text.base import BaseTokenizer
from lmtasks.training.callbacks.checkpoints import Checkpoints, SafeCheckpointIO

TEXTS = ["the old dog sleeps", "anna has a cat", "who has a cat ?", "rome", "hello anna"]


class Words(BaseTokenizer):
    """A word is a token; sources are `[CLS] a [SEP] b [SEP]` as in BERT, targets begin with the pad token as in T5."""

    kind = "word"

    def __init__(self, texts=TEXTS):
        names = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[END]", "<user>", "<model>", "<2de>", "<2fr>"]
        self.vocabulary = [*names, *sorted({word for text in texts for word in text.split()})]
        self.bos_id, self.separator, self.pad_id, self.eos_id = 1, 2, 3, 4

    decoder_start_id = property(lambda self: self.pad_id)
    separator_id = property(lambda self: self.separator)
    suppress_tokens = property(lambda self: [i for i in range(9) if i != self.eos_id])

    def frame_source(self, *texts, language=None, source_language=None):
        return [self.bos_id, *super().frame_source(*texts, language=language)]

    def __len__(self):
        return len(self.vocabulary)

    def tag(self, language):
        return self.vocabulary.index(f"<2{language}>")

    def mark(self, name):
        return self.vocabulary.index(name)

    def encode_batch(self, texts):
        return [[self.vocabulary.index(w) if w in self.vocabulary else 0 for w in text.split()] for text in texts]

    def encode_words(self, words, spaced):
        return self.encode_batch(words)

    def encode_with_offsets(self, text):
        return self.encode(text), [match.span() for match in re.finditer(r"\S+", text)]

    def decode_batch(self, rows):
        return [" ".join(self.vocabulary[i] for i in row if i > 8) for row in rows]

    def pieces(self, ids):
        return [self.vocabulary[i] for i in ids]

    def byte_pieces(self):
        return [word.encode() if i > 8 else b"" for i, word in enumerate(self.vocabulary)]

    def to_json(self):
        return json.dumps(self.vocabulary)

    @classmethod
    def from_json(cls, text):
        made = cls([])
        made.vocabulary = json.loads(text)
        return made

    def extended(self, languages, marks):
        made = Words([])
        names = [*(f"<2{language}>" for language in languages), *marks]
        made.vocabulary = [*self.vocabulary, *(name for name in names if name not in self.vocabulary)]
        return made


TASKS = {
    "translation": TranslationTask(("en-de", "en-fr")),
    "mood": ClassificationTask(labels=("bad", "good")),
    "pair": ClassificationTask(pair=True, labels=("no", "yes")),
    "answers": SpanAnsweringTask(window=10, stride=3),
    "names": TaggingTask(labels=("PER", "LOC"), writing=("letters",)),
    "talk": DialogueTask(history=8),
    "story": GenerationTask(block=6, prompt=2),
}
ROW = {
    **{"en": TEXTS[0], "de": TEXTS[1], "fr": TEXTS[3]},
    **{"text": TEXTS[1], "pair": TEXTS[0], "label": "good", "turns": ["hello anna", "rome"]},
    **{"question": TEXTS[2], "context": "anna has a cat the old dog sleeps anna", "answers": ["anna"], "starts": [34]},
    **{"words": ["anna", "has", "rome"], "tags": ["B-PER", "O", "B-LOC"]},
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = Model(TASKS, tiny_backbone(), Decoding(beam=2, max_length=5))
    tokenizer = Words([*TEXTS, *(f"<task-{name}>" for name in ("translation", "talk", "story"))])
    made.build(tokenizer)
    return made.eval()


def examples(name, tokenizer):
    row = ROW | ({"label": "yes"} if name == "pair" else {})
    return TASKS[name].examples([row], tokenizer)


def test_sources_have_the_frame_of_the_tokenizer():
    words = Words()
    text, pair = words.encode(TEXTS[1]), words.encode(TEXTS[0])
    assert examples("mood", words)[0].source == [1, *text, 2]
    assert examples("pair", words)[0].source == [1, *text, 2, *pair, 2]
    assert examples("talk", words)[0].source == [1, words.mark("<user>"), *words.encode("hello anna"), 2]
    german, french = examples("translation", words)
    assert german.source == [1, words.tag("de"), *pair, 2]
    assert (german.target, french.target) == ([*text, 4], [*words.encode("rome"), 4])


def test_a_prompt_stands_before_the_turns_that_are_left_of_a_long_history():
    words, task = Words([*TEXTS, "reply"]), DialogueTask(history=7, prompt_text="reply ")
    (example,) = task.questions([{"turns": ["who has a cat ?", "rome", "hello anna"]}], words)
    turn = [words.mark("<user>"), *words.encode("hello anna")]
    assert example.source == [1, *words.encode("reply"), *turn, 2]


def test_spans_and_tags_stand_where_their_words_do():
    words = Words()
    windows = examples("answers", words)
    assert len(windows) > 1
    found = [window for window in windows if window.target[0] != len(window.source) - 1]
    assert found  # the answer is the last word of the context, in the last window
    for window in found:
        first, last = window.target
        assert words.decode(window.source[first : last + 1]) == "anna"
        (answers,) = TASKS["answers"].answers([[(first, last, 1.0)]], [window], words)
        assert answers[0].spans[0][:2] == (34, 38)
    (tagged,) = examples("names", words)
    at = [place for place, tag in enumerate(tagged.target) if tag != IGNORE]
    assert words.decode([tagged.source[place] for place in at]) == "anna has rome"
    assert [tagged.text[slice(*tagged.offsets[2 * place : 2 * place + 2])] for place in at] == ROW["words"]


def test_padding_is_the_tokenizer_s_own_and_changes_nothing(model):
    tokenizer = model.tokenizer
    for name in TASKS:
        (first, *_), head = examples(name, tokenizer), model.heads[name]
        row = ROW | {"text": " ".join([TEXTS[1]] * 3), "en": " ".join([TEXTS[0]] * 3)}
        longer = TASKS[name].questions([row], tokenizer)
        batch = Batch.of(name, [first, *longer[:1]], tokenizer.pad_id)
        if batch.source_mask.all():
            continue
        assert set(batch.source[~batch.source_mask].tolist()) == {tokenizer.pad_id}
        alone = Batch.of(name, [first], tokenizer.pad_id)
        torch.testing.assert_close(
            head.loss(model.backbone, batch.select([0])).nll, head.loss(model.backbone, alone).nll
        )


def test_the_decoder_begins_with_the_tokenizer_s_start_and_writes_no_special_token():
    words = Words()
    head = TASKS["translation"].head(words, 8)
    assert (head.start, head.end) == (words.pad_id, words.eos_id)
    assert words.eos_id not in head.suppress_tokens
    assert words.pad_id in head.suppress_tokens


def test_every_task_answers(model):
    for name, task in TASKS.items():
        group = "en-de" if name == "translation" else None
        ((best, *_),) = model.solve([ROW], name, group)
        assert isinstance(best.text, str), task
    source, target, weights = model.align(TEXTS[0], TEXTS[1], "en-de", "translation")
    assert (source[0], target[-1]) == ("[CLS]", "[END]")
    assert weights.shape == (len(target), len(source))


def test_a_model_is_saved_and_loaded_with_its_tokenizer(model, tmp_path):
    loaded = load(save(model, tmp_path / "model"))
    assert isinstance(loaded.tokenizer, Words)
    assert loaded.solve([ROW], "translation", "en-de") == model.solve([ROW], "translation", "en-de")


def test_a_run_resumes_and_another_begins_with_its_tokenizer(tmp_path):
    corpus, words = write_corpus(tmp_path), Words([letter * count for letter in "abcdef" for count in (1, 2, 3)])

    def trained(module, steps, **settings):
        saving = {"enable_checkpointing": True, "callbacks": [Checkpoints(None)], "plugins": [SafeCheckpointIO()]}
        return fit(corpus, module, max_steps=steps, **saving, **settings)

    def with_words():
        module = tiny_module()
        module.tokenizer = words
        return module

    last = str(corpus / "run" / "checkpoints" / "last.ckpt")
    whole = trained(with_words(), 2)
    trained(with_words(), 1)
    assert torch.equal(weights(trained(with_words(), 2, ckpt_path=last)), weights(whole))
    begun = trained(tiny_module(init_from=last), 1)
    assert isinstance(begun.tokenizer, Words)
    assert begun.tokenizer.vocabulary == words.vocabulary


@pytest.mark.parametrize("forged", ["os.system", "TransformerConfig", "no_such_package.Words", "Words"])
def test_a_config_that_names_anything_but_a_tokenizer_is_refused(model, tmp_path, forged):
    config = save(model, tmp_path / "model") / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"tokenizer_class": forged}))
    (config.parent / CHECKSUMS).unlink()
    with pytest.raises(InputError, match=forged):
        load(config.parent)
