"""Names and codes of languages."""

from __future__ import annotations

import pytest

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
