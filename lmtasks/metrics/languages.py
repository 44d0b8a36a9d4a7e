"""The languages that metrics compare character by character, because they put no spaces between words."""

from __future__ import annotations

CHINESE = ("zh", "zho", "cmn", "yue")  # ISO 639-1 and -3
BY_CHARACTER = (*CHINESE, "ja", "jpn")


def primary_code(language: str) -> str:
    """Return the language of an ISO 639 code with a region or script, such as zh of zh-TW."""
    return language.lower().replace("_", "-").split("-")[0]


def is_chinese(language: str) -> bool:
    """Tell whether an ISO 639 code, as in zh or zh-TW, means Chinese."""
    return primary_code(language) in CHINESE


def is_english(language: str) -> bool:
    """Tell whether an ISO 639 code, as in en or en-GB, means English."""
    return primary_code(language) in ("en", "eng")


def is_written_without_spaces(language: str) -> bool:
    """Tell whether an ISO 639 code means Chinese or Japanese."""
    return primary_code(language) in BY_CHARACTER
