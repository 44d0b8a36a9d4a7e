"""What a language tells metrics: whether words stand between blanks; and what the script of texts tells of a language.

A language is a code of ISO 639 (zh, zh-TW, zho) or an English name (Chinese).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache
from itertools import islice

from lmtasks.errors import did_you_mean
from lmtasks.text.languages import code_of, language_names

CHINESE = ("zh", "zho", "cmn", "yue")  # ISO 639-1 and -3
BY_CHARACTER = (*CHINESE, "ja", "jpn", "th", "tha", "lo", "lao", "km", "khm", "my", "mya", "shn")
SCRIPTS = {
    "HIRAGANA": "ja", "KATAKANA": "ja", "HANGUL": "ko", "CJK": "zh", "THAI": "th", "LAO": "lo", "KHMER": "km",
    "MYANMAR": "my", "CYRILLIC": "ru", "GREEK": "el", "ARABIC": "ar", "HEBREW": "he", "ARMENIAN": "hy",
    "GEORGIAN": "ka", "ETHIOPIC": "am", "DEVANAGARI": "hi", "BENGALI": "bn", "GURMUKHI": "pa", "GUJARATI": "gu",
    "ORIYA": "or", "TAMIL": "ta", "TELUGU": "te", "KANNADA": "kn", "MALAYALAM": "ml", "SINHALA": "si", "TIBETAN": "bo",
    "LATIN": "Latin",
}  # the beginning of the name of a letter -> a language in this script  # fmt: skip
LATIN = "Latin"
WRITTEN_AS = {
    "ru": "uk bg mk be ky", "ar": "fa ur ps sd ug ckb", "he": "yi", "hi": "mr ne sa bho mai", "zh": "yue", "am": "ti",
    "bo": "dz", "bn": "as", LATIN: "en de fr es it pt nl sv da nb nn fi et lv lt pl cs sk sl hr hu ro tr vi id ms tl",
}  # the language above -> others in its script, where they are written in no other  # fmt: skip
FEW = 20  # letters that may be names or signs
LOOKED_AT = 1000  # texts
MUCH = 0.2  # share of the letters: Japanese has Chinese characters too, and most texts have Latin ones
OTHER = "other"
KNOWN = ("en", "de", "fr", "es", "zh", "ja", "English", "German", "French", "Spanish", "Chinese", "Japanese", "Korean")


def primary_code(language: str) -> str:
    """Return the shortest code of a language given by a code, with a region or script or without, or by its name.

    >>> primary_code("zh-TW"), primary_code("Chinese"), primary_code("eng_Latn"), primary_code("xx")
    ('zh', 'zh', 'en', 'xx')
    """
    return code_of(language) or language.lower().replace("_", "-").split("-")[0]


def is_chinese(language: str) -> bool:
    """Tell whether a language, as in zh or zh-TW, is Chinese."""
    return primary_code(language) in CHINESE


def is_english(language: str) -> bool:
    """Tell whether a language, as in en or en-GB, is English."""
    return primary_code(language) in ("en", "eng")


def is_written_without_spaces(language: str) -> bool:
    """Tell whether a language is Chinese, Japanese, Thai, Lao, Khmer or Burmese."""
    return primary_code(language) in BY_CHARACTER


def language_of(texts: Iterable[str]) -> str:
    """Return a language that has the script of texts, the one that is most common with it; "" for Latin letters.

    >>> language_of(["雨が降る"]), language_of(["下雨了"]), language_of(["It rains."])
    ('ja', 'zh', '')
    """
    return _most_likely(_letters(texts))


def fitting_language(language: str, texts: Iterable[str]) -> tuple[str, str]:
    """Return the language by which texts are to be scored, and what is odd about the given one, "" if nothing is.

    It is another one if the texts are in a script that the given one does not have, as that decides what a word is.
    Languages of one script are not told apart.

    >>> fitting_language("en", ["下雨了"])
    ('zh', "the texts look like Chinese, not like 'en'")
    >>> fitting_language("yue", ["落雨"]), fitting_language("en", ["It rains."])
    (('yue', ''), ('en', ''))
    """
    letters, code = _letters(texts), primary_code(language)
    found, own = _most_likely(letters), _script_of(code)
    splits = found == "ko" or (bool(found) and is_written_without_spaces(found))  # in another way than at blanks
    alike = own == found or (own == "ja" and found == "zh") or not (own or splits)
    if found and not alike:
        return found, f"the texts look like {language_names([found])[0]}, not like {language!r}"
    if own not in ("", LATIN) and not found and letters[LATIN] >= FEW:
        return language, f"the texts are in Latin letters, not like {language!r}"
    if not language_names([language]):
        hint = did_you_mean(language, KNOWN, "give a code of ISO 639, such as en, zh or deu")
        return language, f"the language {language!r} is not known, so blanks are taken to separate its words; {hint}"
    return language, ""


def _letters(texts: Iterable[str]) -> Counter[str]:
    """Count the letters of the first texts by their script."""
    return Counter(_script(letter) for text in islice(texts, LOOKED_AT) for letter in text if letter.isalpha())


def _most_likely(letters: Counter[str]) -> str:
    known = letters.total() - letters[OTHER] - letters[LATIN]
    if known < MUCH * letters.total() or not known:
        return ""
    if letters["ja"] > MUCH * (letters["ja"] + letters["zh"]):
        return "ja"
    return max(letters.keys() - {OTHER, LATIN}, key=lambda code: letters[code])


@cache
def _script(letter: str) -> str:
    name = unicodedata.name(letter, "")
    return next((code for start, code in SCRIPTS.items() if name.startswith(start)), OTHER)


@cache
def _script_of(code: str) -> str:
    """Return the language that stands for the script of another one; "" where it is not known, or has several."""
    if code in SCRIPTS.values():
        return code
    return next((first for first, others in WRITTEN_AS.items() if code in others.split()), "")


@cache
def marks() -> str:
    """Return the combining marks for a class of a regular expression: they are no letters, but parts of words."""
    every = (chr(point) for point in range(0x300, 0xFE30))
    return re.escape("".join(mark for mark in every if unicodedata.category(mark)[0] == "M"))
