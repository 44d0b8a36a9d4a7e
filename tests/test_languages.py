"""Names and codes of languages."""

from __future__ import annotations

import pytest

from lmtasks.errors import InputError
from lmtasks.metrics import bleu, rouge, squad, ter
from lmtasks.metrics.languages import fitting_language, is_chinese, is_written_without_spaces, language_of
from lmtasks.tasks.base import Row, Task
from lmtasks.tasks.dialogue import DialogueTask
from lmtasks.tasks.free_answering import FreeAnsweringTask
from lmtasks.tasks.generation import GenerationTask
from lmtasks.tasks.summarisation import SummarisationTask
from lmtasks.tasks.translation import TranslationTask
from lmtasks.text.languages import language_names, languages_meant

NLLB = ("eng_Latn", "deu_Latn", "nob_Latn", "arb_Arab", "zho_Hans", "zho_Hant", "ace_Arab", "ace_Latn")
MBART = ("en_XX", "de_DE", "zh_CN")
OPUS = ("fra", "pt", "pt_br", "cmn", "cmn_Hans", "gem")


@pytest.mark.parametrize(("name", "known", "meant"), [
    ("German", NLLB, ("deu_Latn",)), ("german", MBART, ("de_DE",)), ("deu", MBART, ("de_DE",)),
    ("de", NLLB, ("deu_Latn",)),
    ("Norwegian", NLLB, ("nob_Latn",)), ("ar", NLLB, ("arb_Arab",)), ("Modern Standard Arabic", NLLB, ("arb_Arab",)),
    ("Chinese", NLLB, ("zho_Hans", "zho_Hant")), ("Chinese (Traditional)", NLLB, ("zho_Hant",)),
    ("zh-Hans", NLLB, ("zho_Hans",)), ("zh", MBART, ("zh_CN",)), ("zh-Hans", MBART, ()),
    ("Acehnese (Latin)", NLLB, ("ace_Latn",)),
    ("Portuguese", OPUS, ("pt",)), ("pt-br", OPUS, ("pt_br",)), ("zho", OPUS, ("cmn",)), ("gem", OPUS, ("gem",)),
    ("Englsh", NLLB, ()), ("", NLLB, ()), ("French", ("en", "de"), ()),
])  # fmt: skip
def test_a_language_is_found_by_name_or_by_a_code_of_another_standard(name, known, meant):
    assert languages_meant(name, known) == meant


def test_codes_without_a_name_have_none():
    assert language_names(("deu_Latn", "gem", "en_XX")) == ["German", "English"]


def test_every_language_of_nllb_m2m100_and_mbart_has_a_name_of_its_own():
    transformers = pytest.importorskip("transformers.models")
    lists = [
        transformers.nllb.tokenization_nllb.FAIRSEQ_LANGUAGE_CODES,
        transformers.m2m_100.tokenization_m2m_100.FAIRSEQ_LANGUAGE_CODES["m2m100"],
        transformers.mbart50.tokenization_mbart50.FAIRSEQ_LANGUAGE_CODES,
    ]
    for codes in map(tuple, lists):
        assert len(language_names(codes)) == len(codes)
        for code, name in zip(codes, language_names(codes), strict=True):
            languages = {each.split("_")[0] for each in languages_meant(name, codes)}
            assert languages == {code.split("_")[0]}  # in one script or several


SCRIPTS = {
    "zh": "北京是中国的首都。", "ja": "東京は日本の首都です。", "ko": "서울은 한국의 수도이다.",
    "th": "กรุงเทพเป็นเมืองหลวง", "lo": "ວຽງຈັນເປັນນະຄອນຫຼວງ", "km": "ភ្នំពេញជារដ្ឋធានី", "my": "နေပြည်တော်သည်မြို့တော်",
    "ru": "Москва столица России", "hi": "दिल्ली भारत की राजधानी है", "ar": "القاهرة عاصمة مصر",
    "el": "Η Αθήνα είναι πρωτεύουσα", "he": "ירושלים היא בירה",
}  # fmt: skip


@pytest.mark.parametrize("language", SCRIPTS)
def test_no_script_is_scored_zero_in_silence(language):
    text = SCRIPTS[language]
    assert language_of([text]) == language
    found, doubt = fitting_language("en", [text])
    assert found == language
    assert "not like 'en'" in doubt
    assert fitting_language(language, [text]) == (language, "")
    assert rouge([text], [[text]], language).values["rouge1"] == pytest.approx(100)
    part = text[:6] if is_written_without_spaces(language) else text.split()[0]
    assert squad([part], [[text]], language).values["f1"] > 0
    other = f"{text[:-2]}x{text[-2:]}"
    if is_written_without_spaces(language):
        assert 0 < rouge([other], [[text]], language).values["rougeL"] < 100
        assert 0 < ter([other], [[text]], language).values["ter"] < 50
        if language != "ja":  # its package splits it
            assert 0 < bleu([other], [[text]], language).values["bleu"] < 100


def test_marks_belong_to_their_letters_in_rouge():
    assert rouge(["किताब"], [["कुतुब"]], "hi").values["rouge1"] == 0
    assert rouge(["un café"], [["un cafe\u0301"]], "fr").values["rouge1"] == 100


def test_latin_texts_and_a_few_foreign_words_raise_no_doubt():
    for texts in (["It rains in 北京 today, they say."], ["Größe"], ["..."], [], ["1984"]):
        assert fitting_language("en", texts) == ("en", "")
    for language in ("de", "gsw-x", "eng_Latn", "german"):
        assert bool(fitting_language(language, ["abc"])[1]) == (language == "gsw-x")
    assert fitting_language("zh", ["a text of more than twenty letters"]) == (
        "zh", "the texts are in Latin letters, not like 'zh'",
    )  # fmt: skip
    assert fitting_language("de", ["Москва столица"])[0] == fitting_language("ar", ["Москва столица"])[0] == "ru"
    for language, text in (("ja", "北京"), ("uk", "Київ"), ("sr", "Београд"), ("fa", "تهران"), ("zh-TW", "北京")):
        assert fitting_language(language, [text]) == (language, "")
    assert is_chinese("Chinese")
    assert is_chinese("zho_Hant")
    assert "did you mean Chinese?" in fitting_language("Chinse", ["abc"])[1]


ROW = {"text": SCRIPTS["zh"], "summary": SCRIPTS["zh"], "turns": [SCRIPTS["zh"]] * 2, "question": "?", "context": "x",
       "answers": [SCRIPTS["zh"]], "en": "x", "xx": SCRIPTS["zh"]}  # fmt: skip


@pytest.mark.parametrize("task", [SummarisationTask(), DialogueTask(), FreeAnsweringTask(), GenerationTask()])
def test_a_task_learns_the_language_of_its_scores(task, caplog):
    rows: list[Row] = [ROW] * 3
    learned = task.learn(rows)
    assert (learned.language, type(task)(language="zh").learn(rows).language) == ("zh", "zh")
    assert len(caplog.messages) == 1
    assert "the texts look like Chinese, not like 'en'; the language of its scores is 'zh'" in caplog.text


def test_a_language_whose_package_is_missing_is_doubted(monkeypatch, caplog):
    def signatures(task: Task) -> dict[str, str]:
        raise InputError("a package is missing")

    monkeypatch.setattr(SummarisationTask, "signatures", signatures)
    assert SummarisationTask().learn([ROW]).language == "en"
    assert "scored as 'en': a package is missing" in caplog.text


def test_a_translation_into_an_unknown_language_is_doubted(caplog):
    TranslationTask(("en-xx",)).learn([ROW])
    assert "the texts look like Chinese, not like 'xx'; BLEU splits words as in 'xx': call it zh" in caplog.text
