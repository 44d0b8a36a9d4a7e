"""The translation task: rows to ids, directions, tags, scores."""

from __future__ import annotations

import math

import pytest
import sacrebleu

import lmtasks.metrics.translation
from lmtasks.errors import InputError
from lmtasks.tasks.base import Answer, Prediction
from lmtasks.tasks.translation import TranslationTask, split_direction
from lmtasks.text.tokenizer import Tokenizer, TokenizerConfig


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train([], TokenizerConfig("byte"), ["de", "fr"])


def test_the_row_of_the_docstring(tokenizer):
    task = TranslationTask(("en-de",))
    (example,) = task.examples([{"en": "A dog runs.", "de": "Ein Hund läuft."}], tokenizer)
    assert example.source == [*tokenizer.encode("A dog runs."), tokenizer.eos_id]
    assert example.target == [*tokenizer.encode("Ein Hund läuft."), tokenizer.eos_id]
    assert (example.text, example.reference, example.group, example.row) == (
        "A dog runs.",
        "Ein Hund läuft.",
        "en-de",
        0,
    )
    assert list(task.texts({"en": "A dog runs.", "de": "Ein Hund läuft."})) == ["A dog runs.", "Ein Hund läuft."]


def test_several_targets_are_told_apart_by_a_tag_before_the_source(tokenizer):
    task = TranslationTask(("en-de", "en-fr", "fr-de"))
    german, french, from_french = task.examples([{"en": "a", "de": "b", "fr": "c"}], tokenizer)
    assert german.source == [tokenizer.tag("de"), *tokenizer.encode("a"), tokenizer.eos_id]
    assert french.source == [tokenizer.tag("fr"), *tokenizer.encode("a"), tokenizer.eos_id]
    assert from_french.source == [tokenizer.tag("de"), *tokenizer.encode("c"), tokenizer.eos_id]
    assert [example.group for example in (german, french, from_french)] == ["en-de", "en-fr", "fr-de"]
    assert task.languages == ("de", "fr")
    assert TranslationTask(("en-de", "fr-de")).languages == ()


def test_a_row_gives_what_it_can(tokenizer):
    task = TranslationTask(("en-de", "de-en"))
    rows = [{"en": "a", "de": None}, {"en": " ", "de": "b"}, {"en": "c"}, {"en": "", "de": ""}]
    examples = task.examples(rows, Tokenizer.train([], TokenizerConfig("byte"), ["de", "en"]))
    assert [(e.row, e.group, bool(e.target)) for e in examples] == [
        (0, "en-de", False),
        (1, "de-en", False),
        (2, "en-de", False),
    ]


def test_between_any_languages_a_row_gives_each_two_that_it_has(tokenizer):
    task = TranslationTask((), ("en", "de", "fr"))
    examples = task.examples([{"de": "a", "fr": "b"}, {"en": "c"}, {"fr": "d", "en": " "}], tokenizer)
    assert [(example.row, example.group) for example in examples] == [(0, "de-fr"), (0, "fr-de")]
    assert examples[0].source[0] == tokenizer.tag("fr")
    assert task.columns == task.source_columns == task.languages == ("en", "de", "fr")
    assert task.signatures().keys() == {"bleu", "chrf"}
    with pytest.raises(InputError, match="translates between any of en, de, fr; choose source and target"):
        task.questions([{"en": "a"}], tokenizer)


@pytest.mark.parametrize("task", [TranslationTask((), ("en", "de", "fr")), TranslationTask(("en-de", "en-fr"))])
def test_a_task_is_narrowed_to_one_direction_and_keeps_its_tags(task, tokenizer):
    (example,) = task.narrowed("en-fr").questions([{"en": "a"}], tokenizer)
    assert (example.source[0], example.group) == (tokenizer.tag("fr"), "en-fr")
    with pytest.raises(InputError, match="the model cannot translate 'en-xx'"):
        task.narrowed("en-xx")


def test_languages_are_chosen_by_name():
    task = TranslationTask((), ("eng_Latn", "deu_Latn", "zho_Hans", "zho_Hant"))
    assert task.choose("English", "German") == ("eng_Latn", "eng_Latn-deu_Latn")
    assert TranslationTask(("en-de", "en-fr")).choose(None, "French") == ("en", "en-fr")
    with pytest.raises(InputError, match="cannot translate from Engish; did you mean English"):
        task.choose("Engish", None)
    with pytest.raises(InputError, match="to translate from en to zh; it knows eng_Latn-zho_Hans, eng_Latn-zho_Hant"):
        task.choose("en", "zh")
    with pytest.raises(InputError, match="cannot translate from en to en; it knows eng_Latn, deu_Latn"):
        task.choose("en", "en")


def test_a_task_without_directions_is_refused():
    with pytest.raises(InputError, match="there are no directions"):
        TranslationTask(())


def test_columns_are_the_languages_and_prediction_needs_the_sources():
    task = TranslationTask(("en-de", "en-fr"))
    assert task.columns == ("en", "de", "fr")
    assert task.source_columns == ("en",)


@pytest.mark.parametrize("wrong", ["ende", "en_de", "en-", "", "en-de-"])
def test_a_direction_that_is_none_is_refused(wrong):
    with pytest.raises(InputError, match="write source and target language with a hyphen"):
        TranslationTask((wrong,))


@pytest.mark.parametrize(
    ("direction", "languages"), [("en-de", ("en", "de")), ("zh-en", ("zh", "en")), ("en-zh-Hans", ("en", "zh-Hans"))]
)
def test_directions_are_cut_between_the_languages(direction, languages):
    assert split_direction(direction) == languages


def test_a_list_of_directions_from_a_config_becomes_a_tuple():
    assert TranslationTask(["en-de"]) == TranslationTask(("en-de",))  # type: ignore[arg-type]


def test_the_only_direction_need_not_be_named_and_others_must():
    one, several = TranslationTask(("en-de",)), TranslationTask(("en-de", "en-fr", "de-en"))
    assert one.choose(None, None) == ("en", "en-de")
    assert several.choose("de", None) == several.choose(None, "en") == ("de", "de-en")
    assert several.choose("en", "fr") == ("en", "en-fr")
    for task, languages in ((one, (None, "fr")), (one, ("fr", "de")), (several, (None, None)), (several, ("en", None))):
        with pytest.raises(InputError, match=r"knows en-de.*: choose source and target \(--source, --target,") as error:
            task.choose(*languages)
        assert "\n" not in str(error.value)


def test_the_head_forbids_what_is_no_text(tokenizer):
    head = TranslationTask(("en-de", "en-fr"), label_smoothing=0.2).head(tokenizer, d_model=8)
    assert set(head.suppress_tokens) == {tokenizer.pad_id, tokenizer.bos_id, tokenizer.tag("de"), tokenizer.tag("fr")}
    assert (head.start, head.end, head.label_smoothing) == (tokenizer.bos_id, tokenizer.eos_id, 0.2)


PREDICTIONS = [
    "the small dog runs home",
    "a cat sat on the mat",
    "birds fly over the big house",
    "it rains again today",
]
REFERENCES = ["the small dog ran home", "a cat sat on a mat", "birds fly over the big tree", "it rains again tomorrow"]


def score(task, predictions, references, groups):
    rows = zip(predictions, references, groups, strict=True)
    samples = [Prediction("", right, answers=[Answer(text, 0.0)], group=group) for text, right, group in rows]
    return task.score(samples, nll=4.0, count=8)


def test_scores_are_those_of_sacrebleu():
    scores = score(TranslationTask(("de-en",)), PREDICTIONS, REFERENCES, ["de-en"] * 4)
    assert scores["bleu"] == pytest.approx(sacrebleu.corpus_bleu(PREDICTIONS, [REFERENCES]).score)
    assert scores["chrf"] == pytest.approx(sacrebleu.corpus_chrf(PREDICTIONS, [REFERENCES]).score)
    assert scores["perplexity"] == pytest.approx(math.exp(0.5))
    assert set(scores) == {"perplexity", "bleu", "chrf"}


def test_several_directions_have_a_score_each_and_their_mean():
    task = TranslationTask(("de-en", "fr-en"))
    groups = ["de-en", "fr-en", "de-en", "fr-en"]
    scores = score(task, PREDICTIONS, REFERENCES, groups)
    for metric in ("bleu", "chrf"):
        each = [scores[f"{metric}_de-en"], scores[f"{metric}_fr-en"]]
        assert scores[metric] == pytest.approx(sum(each) / 2)
        assert each[0] == pytest.approx(
            score(TranslationTask(("de-en",)), PREDICTIONS[::2], REFERENCES[::2], groups[::2])[metric]
        )


def test_each_score_has_the_signature_of_sacrebleu():
    bleu, chrf = sacrebleu.BLEU(), sacrebleu.CHRF()
    for scorer in (bleu, chrf):
        scorer.corpus_score(PREDICTIONS, [REFERENCES])
    expected = {"bleu": str(bleu.get_signature()), "chrf": str(chrf.get_signature())}
    assert TranslationTask(("de-en",)).signatures() == expected
    several = TranslationTask(("de-en", "en-zh"))
    assert set(several.signatures()) < set(score(several, ["a", "b"], ["a", "b"], several.directions))
    assert several.signatures()["bleu_de-en"] == expected["bleu"]
    assert "tok:zh" in several.signatures()["bleu_en-zh"]


def test_a_scorer_that_cannot_work_here_is_an_error(monkeypatch):
    def missing(tokenize, *others):
        raise InputError(f"{tokenize} needs a package that is missing")

    monkeypatch.setattr(lmtasks.metrics.translation, "_bleu_scorer", missing)
    with pytest.raises(InputError, match="ja-mecab needs a package"):
        TranslationTask(("en-ja",)).signatures()


def test_a_row_that_lacks_nothing_gives_as_many_examples_as_it_says(tokenizer):
    for directions in (("en-de",), ("en-de", "en-fr", "fr-de")):
        task = TranslationTask(directions)
        assert len(task.examples([{"en": "a", "de": "b", "fr": "c"}], tokenizer)) == task.examples_per_row


def test_the_main_score_is_among_the_scores():
    task = TranslationTask(("de-en",))
    assert task.main_metric in score(task, ["a"], ["a"], ["de-en"])
    assert math.isnan(score(task, [], [], [])[task.main_metric])


@pytest.mark.parametrize(
    ("directions", "options"),
    [
        (("en-de",), ""),
        (("en-de", "en-fr"), " --target de"),
        (("en-de", "fr-de"), " --source en"),
        (("en-de", "de-en"), " --source en --target de"),
    ],
)
def test_what_to_type_to_try_it_names_a_direction(directions, options):
    assert TranslationTask(directions).example_command == f'"A sentence."{options}'


def test_a_text_in_place_of_a_list_of_directions_is_refused():
    with pytest.raises(InputError, match=r"directions is 'en-de'; give a list, each a text, such as \['en-de'\]"):
        TranslationTask("en-de")
