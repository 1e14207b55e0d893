"""Languages and settings: the codes of the data sets, their mteb tags, and what a query faces.

A *setting* says what pool one query language is asked against: its own language (monolingual), one other language
(cross-lingual), or all languages of the collection at once (multilingual).
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from hybrid_bench.errors import RequestError

__all__ = [
    "LANGUAGES",
    "Language",
    "Setting",
    "did_you_mean",
    "is_right_to_left",
    "language",
    "languages",
    "name_of",
    "setting_of",
    "settings_of",
]


class Language(NamedTuple):
    """A language, and how it is written.

    Attributes:
        code: How it is called in file names and subset names: two letters, e.g. ``de``, or three where it has no two;
            with a script that is not its usual one, ``sr_Latn``. See `language`.
        name: English name, e.g. ``German``.
        tag: mteb's tag, ISO 639-3 code and ISO 15924 script, e.g. ``deu-Latn``.
        spaced: Whether words are separated by spaces (false for Chinese, Japanese, Thai and others).
    """

    code: str
    name: str
    tag: str
    spaced: bool = True


#: The languages of the collections that come with the package. `language` knows all others.
LANGUAGES = {
    language.code: language
    for language in (
        Language("ar", "Arabic", "arb-Arab"),
        Language("bn", "Bengali", "ben-Beng"),
        Language("de", "German", "deu-Latn"),
        Language("el", "Greek", "ell-Grek"),
        Language("en", "English", "eng-Latn"),
        Language("es", "Spanish", "spa-Latn"),
        Language("fa", "Persian", "fas-Arab"),
        Language("fi", "Finnish", "fin-Latn"),
        Language("fr", "French", "fra-Latn"),
        Language("hi", "Hindi", "hin-Deva"),
        Language("id", "Indonesian", "ind-Latn"),
        Language("ja", "Japanese", "jpn-Jpan", spaced=False),
        Language("ko", "Korean", "kor-Hang"),
        Language("ru", "Russian", "rus-Cyrl"),
        Language("sw", "Swahili", "swa-Latn"),
        Language("te", "Telugu", "tel-Telu"),
        Language("th", "Thai", "tha-Thai", spaced=False),
        Language("tr", "Turkish", "tur-Latn"),
        Language("vi", "Vietnamese", "vie-Latn"),
        Language("yo", "Yoruba", "yor-Latn"),
        Language("zh", "Chinese", "zho-Hans", spaced=False),
    )
}


#: Fewer letters begin too many words to be taken for the beginning of one.
_WORD_BEGUN = 4


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A clause to end an error message with: the nearest known word, or all of them when none is near.

    A word that was not finished is nearest to what begins with it.
    """
    known = sorted(known)
    by_folded = {candidate.casefold(): candidate for candidate in reversed(known)}
    folded = word.casefold()
    near = sorted(known for known in by_folded if known.startswith(folded)) if len(word) >= _WORD_BEGUN else []
    near = near or difflib.get_close_matches(folded, by_folded, n=1)
    if near:
        return f"did you mean '{by_folded[near[0]]}'?"
    return "known: " + ", ".join(known)


#: Codes of ISO 639-3 that mean a language of ours: its individual standard language beside the code of the group.
_SAME = {
    "als": "sq",
    "ara": "ar",
    "azj": "az",
    "cmn": "zh",
    "ekk": "et",
    "khk": "mn",
    "lvs": "lv",
    "npi": "ne",
    "ory": "or",
    "pes": "fa",
    "swh": "sw",
    "uzn": "uz",
}
_NO_SPACES = {"Hani", "Hans", "Hant", "Jpan", "Khmr", "Laoo", "Mymr", "Thai", "Tibt"}
_RIGHT_TO_LEFT = {"Adlm", "Arab", "Aran", "Hebr", "Mand", "Nkoo", "Rohg", "Samr", "Syrc", "Thaa"}
_WRITTEN = re.compile(r"([a-z]{2,3})(?:[-_]([A-Z][a-z]{3}))?")


@lru_cache(maxsize=1024)
def language(code: str) -> Language:
    """The language that a code stands for, any of ISO 639-1 or ISO 639-3, with or without a script of ISO 15924.

    ``pl``, ``pol``, ``pl-Latn`` and ``pol-Latn`` are one language, ``pl``: one way of writing inside, whatever was
    given. It is the two-letter code where there is one, else that of three letters; a script that is not the usual one
    is part of it, after ``_``, which no name of a subset divides at: ``sr-Latn`` is ``sr_Latn``.

    Raises:
        RequestError: If no language has it, or there is no such script.
    """
    if code in LANGUAGES:
        return LANGUAGES[code]
    if (written := _WRITTEN.fullmatch(code)) and (found := _of_iso(written[1], written[2])):
        return found
    if (folded := code.casefold()) != code and (written := _WRITTEN.fullmatch(folded)) and _of_iso(written[1], None):
        raise RequestError(f"unknown language '{code}': did you mean '{folded}'?")
    by_name = {lang.name.casefold(): lang.code for lang in LANGUAGES.values()}
    if code.casefold() not in by_name:
        named = _table("iso_639_3_to_language")
        by_name |= {name.casefold(): _two_letters().get(three, three) for three, name in named.items()}
    if code.casefold() in by_name:
        raise RequestError(f"unknown language '{code}': languages are given by code, '{by_name[code.casefold()]}'")
    hint = did_you_mean(code, LANGUAGES)
    if not hint.startswith("did you mean"):
        hint = "give a code of ISO 639-1 or 639-3, with or without script, as de, deu or deu-Latn for German"
    raise RequestError(f"unknown language '{code}': {hint}")


def languages(codes: Iterable[str]) -> tuple[Language, ...]:
    """The languages with these codes, in the order given; see `language`."""
    return tuple(language(code) for code in codes)


def name_of(code: str) -> str:
    """The English name of a language; the code itself where it is none, as of undetermined languages."""
    try:
        return language(code).name
    except RequestError:
        return code


def is_right_to_left(code: str) -> bool:
    """Whether a language is written from right to left; false for a code that is none."""
    try:
        return language(code).tag.rpartition("-")[2] in _RIGHT_TO_LEFT
    except RequestError:
        return False


def _of_iso(iso: str, script: str | None) -> Language | None:
    names, scripts = _table("iso_639_3_to_language"), _table("iso_15924_to_script")
    three = _table("iso_639_1_to_3").get(iso, iso)
    if three not in names or (script and script not in scripts):
        return None
    code = _SAME.get(three) or _two_letters().get(three, three)
    if code in LANGUAGES:
        usual = LANGUAGES[code]
    else:
        three = _table("iso_639_1_to_3").get(code, code)
        # Where mteb knows no usual script of a language, ISO 15924 has Zyyy for one that is not determined.
        usual_script = _table("iso_639_3_to_default_script").get(three, "Zyyy")
        usual = Language(code, names[three], f"{three}-{usual_script}", usual_script not in _NO_SPACES)
    three, _, usual_script = usual.tag.partition("-")
    if script is None or script == usual_script:
        return usual
    in_script = {"Hans": "Simplified", "Hant": "Traditional"}.get(script, scripts[script])
    spaced = script not in _NO_SPACES
    return Language(f"{usual.code}_{script}", f"{usual.name} ({in_script})", f"{three}-{script}", spaced)


@cache
def _two_letters() -> dict[str, str]:
    """The codes of ISO 639-1 by those of ISO 639-3."""
    return {three: two for two, three in _table("iso_639_1_to_3").items()} | {
        known.tag.partition("-")[0]: known.code for known in LANGUAGES.values()
    }


@cache
def _table(name: str) -> dict[str, str]:
    """One of mteb's tables of codes, read from its file: importing mteb for them would take seconds."""
    found = find_spec("mteb")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("mteb, which hybrid_bench needs, is not installed")
    table: dict[str, str] = json.loads((Path(found.origin).parent / "languages" / f"{name}.json").read_text("utf-8"))
    return table


class Setting(StrEnum):
    """What pool a query is asked against."""

    MONOLINGUAL = "monolingual"
    CROSS_LINGUAL = "cross-lingual"
    MULTILINGUAL = "multilingual"

    @property
    def short(self) -> str:
        """The abbreviation used in tables: Mo., Cr. or Mul."""
        return {"monolingual": "Mo.", "cross-lingual": "Cr.", "multilingual": "Mul."}[self.value]


#: What the settings are called when they are chosen: in short, or in full.
_CHOSEN = {"mono": Setting.MONOLINGUAL, "cross": Setting.CROSS_LINGUAL, "multi": Setting.MULTILINGUAL}
_CHOSEN |= {setting.value: setting for setting in Setting}


def settings_of(names: Iterable[str]) -> set[Setting]:
    """The settings with these names, ``mono``, ``cross``, ``multi`` or their full ones; all of them for no name.

    Raises:
        RequestError: If there is no such setting.
    """
    chosen = set()
    for name in names:
        if name not in _CHOSEN:
            raise RequestError(f"unknown setting '{name}': {did_you_mean(name, _CHOSEN)}")
        chosen.add(_CHOSEN[name])
    return chosen or set(Setting)


def setting_of(query_language: str, pool_languages: Sequence[str]) -> Setting:
    """The setting of queries in one language against a pool of passages in these languages (at least one)."""
    if len(pool_languages) > 1:
        return Setting.MULTILINGUAL
    return Setting.MONOLINGUAL if pool_languages[0] == query_language else Setting.CROSS_LINGUAL
