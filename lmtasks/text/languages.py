"""Languages by name: which code of a model is meant by "German", "de", "deu" or "zh-Hant".

Models of many languages have codes of several standards: de (ISO 639-1), deu (ISO 639-3), deu_Latn (with a script, ISO
15924), de_DE (with a country). The table has the languages of NLLB-200, M2M100 and mBART-50: codes, then English names.
A code that covers several languages stands with the one of them that is commonly meant, as ar with Standard Arabic.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, lru_cache

LANGUAGES = """
ace Acehnese; acm Mesopotamian Arabic; acq Ta'izzi-Adeni Arabic; aeb Tunisian Arabic; afr/af Afrikaans;
ajp South Levantine Arabic; aka/ak Akan; als/sqi/sq Albanian, Tosk Albanian; amh/am Amharic; apc North Levantine Arabic;
arb/ara/ar Arabic, Standard Arabic, Modern Standard Arabic; ars Najdi Arabic; ary Moroccan Arabic; arz Egyptian Arabic;
asm/as Assamese; ast Asturian; awa Awadhi; ayr/aym/ay Aymara, Central Aymara; azb South Azerbaijani;
azj/aze/az Azerbaijani, North Azerbaijani; bak/ba Bashkir; bam/bm Bambara; ban Balinese; bel/be Belarusian; bem Bemba;
ben/bn Bengali; bho Bhojpuri; bjn Banjar; bod/bo Tibetan; bos/bs Bosnian; bre/br Breton; bug Buginese; bul/bg Bulgarian;
cat/ca Catalan; ceb Cebuano; ces/cs Czech; cjk Chokwe; ckb Central Kurdish, Sorani; crh Crimean Tatar; cym/cy Welsh;
dan/da Danish; deu/de German; dik/din Dinka, Southwestern Dinka; dyu Dyula; dzo/dz Dzongkha; ell/el Greek;
eng/en English; epo/eo Esperanto; est/et Estonian; eus/eu Basque; ewe/ee Ewe; fao/fo Faroese; fij/fj Fijian;
fin/fi Finnish; fon Fon; fra/fr French; fry/fy Western Frisian, Frisian; fur Friulian;
fuv/ful/ff Fulfulde, Nigerian Fulfulde, Fula; gaz/orm/om Oromo, West Central Oromo; gla/gd Scottish Gaelic;
gle/ga Irish; glg/gl Galician; grn/gn Guarani; guj/gu Gujarati; hat/ht Haitian Creole, Haitian; hau/ha Hausa;
heb/he Hebrew; hin/hi Hindi; hne Chhattisgarhi; hrv/hr Croatian; hun/hu Hungarian; hye/hy Armenian; ibo/ig Igbo;
ilo Ilocano; ind/id Indonesian; isl/is Icelandic; ita/it Italian; jav/jv Javanese; jpn/ja Japanese; kab Kabyle;
kac Jingpho, Kachin; kam Kamba; kan/kn Kannada; kas/ks Kashmiri; kat/ka Georgian; kaz/kk Kazakh; kbp Kabiyè;
kea Kabuverdianu, Cape Verdean Creole; khk/mon/mn Mongolian, Halh Mongolian; khm/km Khmer; kik/ki Kikuyu;
kin/rw Kinyarwanda; kir/ky Kyrgyz; kmb Kimbundu; kmr/kur/ku Northern Kurdish, Kurmanji;
knc/kau/kr Kanuri, Central Kanuri; kon/kg Kongo, Kikongo; kor/ko Korean; lao/lo Lao; lij Ligurian; lim/li Limburgish;
lin/ln Lingala; lit/lt Lithuanian; lmo Lombard; ltg Latgalian; ltz/lb Luxembourgish; lua Luba-Kasai;
lug/lg Ganda, Luganda; luo Luo; lus Mizo; lvs/lav/lv Latvian, Standard Latvian; mag Magahi; mai Maithili;
mal/ml Malayalam; mar/mr Marathi; min Minangkabau; mkd/mk Macedonian; mlt/mt Maltese; mni Meitei, Manipuri; mos Mossi;
mri/mi Maori; mya/my Burmese; nld/nl Dutch; nno/nn Norwegian Nynorsk, Nynorsk;
nob/nb/no Norwegian Bokmål, Bokmål, Norwegian; npi/nep/ne Nepali; nso/ns Northern Sotho, Sepedi; nus Nuer;
nya/ny Nyanja, Chichewa; oci/oc Occitan; ory/ori/or Odia, Oriya; pag Pangasinan; pan/pa Punjabi, Eastern Punjabi;
pap Papiamento; pbt/pus/ps Pashto, Southern Pashto; pes/fas/fa Persian, Farsi, Western Persian;
plt/mlg/mg Malagasy, Plateau Malagasy; pol/pl Polish; por/pt Portuguese; prs Dari; quy/que/qu Quechua, Ayacucho Quechua;
ron/ro Romanian; run/rn Rundi, Kirundi; rus/ru Russian; sag/sg Sango; san/sa Sanskrit; sat Santali; scn Sicilian;
shn Shan; sin/si Sinhala; slk/sk Slovak; slv/sl Slovenian, Slovene; smo/sm Samoan; sna/sn Shona; snd/sd Sindhi;
som/so Somali; sot/st Southern Sotho, Sesotho; spa/es Spanish; srd/sc Sardinian; srp/sr Serbian; ssw/ss Swati, Swazi;
sun/su Sundanese; swe/sv Swedish; swh/swa/sw Swahili; szl Silesian; tam/ta Tamil; taq Tamasheq; tat/tt Tatar;
tel/te Telugu; tgk/tg Tajik; tgl/tl/fil Tagalog, Filipino; tha/th Thai; tir/ti Tigrinya; tpi Tok Pisin; tsn/tn Tswana;
tso/ts Tsonga; tuk/tk Turkmen; tum Tumbuka; tur/tr Turkish; twi/tw Twi; tzm Central Atlas Tamazight; uig/ug Uyghur;
ukr/uk Ukrainian; umb Umbundu; urd/ur Urdu; uzn/uzb/uz Uzbek, Northern Uzbek; vec Venetian; vie/vi Vietnamese;
war Waray; wol/wo Wolof; xho/xh Xhosa; ydd/yid/yi Yiddish, Eastern Yiddish; yor/yo Yoruba; yue Cantonese, Yue Chinese;
zho/zh/cmn Chinese, Mandarin Chinese, Mandarin; zsm/msa/ms Malay, Standard Malay; zul/zu Zulu
"""
SCRIPTS = {"simplified": "Hans", "traditional": "Hant", "arabic": "Arab", "latin": "Latn", "devanagari": "Deva",
           "tifinagh": "Tfng", "bengali": "Beng", "cyrillic": "Cyrl"}  # fmt: skip
CODE = re.compile(r"(\w+?)[_-](\w+)")  # eng_Latn, de_DE, zh-Hant
IN_SCRIPT = re.compile(r"(.+?) \((.+)\)")  # Chinese (Traditional)


@lru_cache(maxsize=1024)  # asked for every example
def languages_meant(name: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Return which of the codes `known` a code or an English name means: one, none, or several.

    >>> languages_meant("German", ("eng_Latn", "deu_Latn")), languages_meant("zh", ("zho_Hans", "zho_Hant"))
    (('deu_Latn',), ('zho_Hans', 'zho_Hant'))
    """
    if name in known:
        return (name,)
    language, detail = _parsed(name)
    found = {code: own for code in known for base, own in [_parsed(code)] if base == language}
    if detail:
        return tuple(code for code, own in found.items() if own == detail)
    return tuple(code for code, own in found.items() if not own) or tuple(found)


def language_names(known: Iterable[str]) -> list[str]:
    """Return the first English names of those codes that have one.

    >>> language_names(["de_DE", "gem"])
    ['German']
    """
    return [names[0] for code in known if (names := _table()[1].get(_parsed(code)[0]))]


def code_of(name: str) -> str:
    """Return the shortest code of the language that a code or an English name means, "" if none is known.

    >>> code_of("zho_Hans"), code_of("german"), code_of("xx")
    ('zh', 'de', '')
    """
    return _shortest().get(_parsed(name)[0], "")


@cache
def _shortest() -> dict[str, str]:
    """Return {first code: shortest code}."""
    codes = [entry.partition(" ")[0].split("/") for entry in " ".join(LANGUAGES.split()).split("; ")]
    return {own[0]: min(own, key=len) for own in codes}


def _parsed(name: str) -> tuple[str, str]:
    """Return the first code of a language, or the name in lower case, and the script or country, "" without one."""
    known = _table()[0]
    if name.casefold() in known:
        return known[name.casefold()], ""
    base, detail = name, ""
    if match := CODE.fullmatch(name) or IN_SCRIPT.fullmatch(name):
        base, detail = match.groups()
    return known.get(base.casefold(), base.casefold()), SCRIPTS.get(detail.casefold(), detail).casefold()


@cache
def _table() -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return {any code or name in lower case: first code} and {first code: names}."""
    known: dict[str, str] = {}
    named: dict[str, list[str]] = {}
    for entry in " ".join(LANGUAGES.split()).split("; "):
        codes, _, names = entry.partition(" ")
        first, *others = codes.split("/")
        named[first] = names.split(", ")
        known |= {each.casefold(): first for each in (first, *others, *named[first])}
    return known, named
