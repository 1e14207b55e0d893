"""Languages and settings: the codes of the data sets, their mteb tags, and what a query faces.

A *setting* says what pool one query language is asked against: its own language (monolingual), one other language
(cross-lingual), or all languages of the collection at once (multilingual).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from hybrid_bench.errors import RequestError

__all__ = ["LANGUAGES", "Language", "Setting", "did_you_mean", "language", "languages", "setting_of", "settings_of"]


class Language(NamedTuple):
    """A language as the data sets name it.

    Attributes:
        code: Two-letter code used in file names and subset names, e.g. ``de``.
        name: English name, e.g. ``German``.
        tag: mteb's tag, ISO 639-3 code and ISO 15924 script, e.g. ``deu-Latn``.
        spaced: Whether words are separated by spaces (false for Chinese, Japanese, Thai).
    """

    code: str
    name: str
    tag: str
    spaced: bool = True


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


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A clause to end an error message with: the nearest known word, or all of them when none is near."""
    known = sorted(known)
    by_folded = {candidate.casefold(): candidate for candidate in reversed(known)}
    near = difflib.get_close_matches(word.casefold(), by_folded, n=1)
    if near:
        return f"did you mean '{by_folded[near[0]]}'?"
    return "known: " + ", ".join(known)


def language(code: str) -> Language:
    """The language with this two-letter code.

    Raises:
        RequestError: If no language has it.
    """
    if code in LANGUAGES:
        return LANGUAGES[code]
    by_name = {lang.name.casefold(): lang.code for lang in LANGUAGES.values()}
    if code.casefold() in by_name:
        raise RequestError(f"unknown language '{code}': languages are given by code, '{by_name[code.casefold()]}'")
    raise RequestError(f"unknown language '{code}': {did_you_mean(code, LANGUAGES)}")


def languages(codes: Iterable[str]) -> tuple[Language, ...]:
    """The languages with these codes, in the order given; see `language`."""
    return tuple(language(code) for code in codes)


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
