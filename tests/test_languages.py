"""Codes, tags and settings, which need neither mteb nor torch; only what they are held against does."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mteb.languages import ISO_TO_LANGUAGE, check_language_code, iso_mappings

from hybrid_bench.errors import HybridBenchError, RequestError
from hybrid_bench.languages import (
    LANGUAGES,
    Language,
    Setting,
    did_you_mean,
    is_right_to_left,
    language,
    languages,
    name_of,
    setting_of,
)

XQUAD_R = ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh")
MLQA_R = ("ar", "de", "en", "es", "hi", "vi", "zh")
MIRACL = ("ar", "bn", "de", "en", "es", "fa", "fi", "fr", "hi", "id", "ja", "ko", "ru", "sw", "te", "th", "yo", "zh")


def test_every_language_of_the_three_data_sets_is_known_and_no_other() -> None:
    assert set(LANGUAGES) == {*XQUAD_R, *MLQA_R, *MIRACL}
    assert list(LANGUAGES) == sorted(LANGUAGES)


def test_codes_names_and_tags_are_well_formed_and_unique() -> None:
    assert all(code == known.code and re.fullmatch(r"[a-z]{2}", code) for code, known in LANGUAGES.items())
    assert all(re.fullmatch(r"[a-z]{3}-[A-Z][a-z]{3}", known.tag) for known in LANGUAGES.values())
    assert len({known.tag for known in LANGUAGES.values()}) == len(LANGUAGES)
    assert len({known.name for known in LANGUAGES.values()}) == len(LANGUAGES)


def test_only_chinese_japanese_and_thai_are_written_without_spaces() -> None:
    assert {code for code, known in LANGUAGES.items() if not known.spaced} == {"ja", "th", "zh"}


ANY = "give a code of ISO 639-1 or 639-3, with or without script, as de, deu or deu-Latn for German"


def test_every_code_of_iso_639_is_known_and_written_in_one_way() -> None:
    """Held against mteb's own tables, by mteb's own check of a tag."""
    two_letters = iso_mappings._get_iso1_to_iso3()
    for code in (*two_letters, *ISO_TO_LANGUAGE):
        known = language(code)
        check_language_code(known.tag)
        iso, script = known.tag.split("-")
        ways = [known.code, iso, known.tag, f"{iso}_{script}", f"{known.code}-{script}"]
        assert {language(way) for way in ways} == {known}
        assert "-" not in known.code  # which divides the names of subsets
        assert (len(known.code) == 2) == (iso in two_letters.values() or iso == "arb")
    for two, three in two_letters.items():
        assert language(two) == language(three)


@pytest.mark.parametrize(
    ("given", "known", "right_to_left"),
    [
        ("pol-Latn", Language("pl", "Polish", "pol-Latn"), False),
        ("it", Language("it", "Italian", "ita-Latn"), False),
        ("he", Language("he", "Hebrew", "heb-Hebr"), True),
        ("urd", Language("ur", "Urdu", "urd-Arab"), True),
        ("ara-Arab", Language("ar", "Arabic", "arb-Arab"), True),
        ("cmn", Language("zh", "Chinese", "zho-Hans", spaced=False), False),
        ("zho-Hant", Language("zh_Hant", "Chinese (Traditional)", "zho-Hant", spaced=False), False),
        ("sr", Language("sr", "Serbian", "srp-Cyrl"), False),
        ("sr-Latn", Language("sr_Latn", "Serbian (Latin)", "srp-Latn"), False),
        ("yue", Language("yue", "Yue Chinese", "yue-Hant", spaced=False), False),
        ("arb-Latn", Language("ar_Latn", "Arabic (Latin)", "arb-Latn"), False),
        ("que", Language("qu", "Quechua", "que-Zyyy"), False),
    ],
)
def test_languages_that_no_collection_has(given: str, known: Language, right_to_left: bool) -> None:
    assert language(given) == language(known.code) == known
    assert is_right_to_left(given) == right_to_left
    assert name_of(given) == known.name


def test_a_code_that_is_none_has_its_own_name_and_no_direction() -> None:
    assert (name_of("qx"), is_right_to_left("qx")) == ("qx", False)


def test_other_languages_are_known_without_mteb_being_imported() -> None:
    code = "import sys; from hybrid_bench import languages as l; l.language('pl'); print('mteb' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_language_by_code() -> None:
    assert language("de") == Language("de", "German", "deu-Latn", spaced=True)
    assert languages(["zh", "ar", "zh"]) == (LANGUAGES["zh"], LANGUAGES["ar"], LANGUAGES["zh"])
    assert languages([]) == ()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("German", "unknown language 'German': languages are given by code, 'de'"),
        ("chinese", "unknown language 'chinese': languages are given by code, 'zh'"),
        ("DE", "unknown language 'DE': did you mean 'de'?"),
        ("EN", "unknown language 'EN': did you mean 'en'?"),  # there is a language that is called En
        ("Pl", "unknown language 'Pl': did you mean 'pl'?"),
        ("polish", "unknown language 'polish': languages are given by code, 'pl'"),
        ("qx", f"unknown language 'qx': {ANY}"),
        ("pl-Abcd", f"unknown language 'pl-Abcd': {ANY}"),
        ("pt-BR", f"unknown language 'pt-BR': {ANY}"),
        ("", f"unknown language '': {ANY}"),
    ],
)
def test_unknown_language(asked: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        language(asked)
    assert str(caught.value) == message
    with pytest.raises(RequestError) as caught:
        languages(["de", asked])
    assert str(caught.value) == message
    assert isinstance(caught.value, HybridBenchError)


@pytest.mark.parametrize(
    ("word", "known", "clause"),
    [
        ("XQuAD", ["XQuAD-R", "MLQA-R"], "did you mean 'XQuAD-R'?"),
        ("xquad-r", ["XQuAD-R", "MLQA-R"], "did you mean 'XQuAD-R'?"),  # case alone is no distance
        ("MONO", ["mono", "Mono"], "did you mean 'Mono'?"),  # of two that differ in case only, always the same one
        ("paper-labse", ["paper-base", "paper-labse-x-y", "paper-labse-hybrid"], "did you mean 'paper-labse-hybrid'?"),
        ("rum", ["run", "sum-up", "rumba-and-more"], "did you mean 'run'?"),  # three letters begin too much
        ("zebra", ["b", "a"], "known: a, b"),
        ("zebra", [], "known: "),
    ],
)
def test_did_you_mean(word: str, known: list[str], clause: str) -> None:
    assert did_you_mean(word, known) == clause
    assert did_you_mean(word, iter(known[::-1])) == clause


@given(st.lists(st.text(max_size=6), min_size=1, unique_by=str.casefold), st.data())
def test_did_you_mean_finds_a_word_that_is_known(known: list[str], data: st.DataObject) -> None:
    word = data.draw(st.sampled_from([candidate for candidate in known if candidate.casefold()] or ["x"]))
    expected = f"did you mean '{word}'?" if word in known else "known: " + ", ".join(sorted(known))
    assert did_you_mean(word, known) == expected


@pytest.mark.parametrize(
    ("query", "pool", "setting"),
    [
        ("ar", ["ar"], Setting.MONOLINGUAL),
        ("ar", ["de"], Setting.CROSS_LINGUAL),
        ("ar", ["ar", "de"], Setting.MULTILINGUAL),
        ("ar", ["de", "en"], Setting.MULTILINGUAL),  # the query's language need not be in the pool
        ("ar", XQUAD_R, Setting.MULTILINGUAL),
    ],
)
def test_setting_of(query: str, pool: list[str], setting: Setting) -> None:
    assert setting_of(query, pool) is setting


@pytest.mark.parametrize(("codes", "counts"), [(XQUAD_R, (11, 110, 11)), (MLQA_R, (7, 42, 7))])
def test_number_of_settings_of_a_collection(codes: tuple[str, ...], counts: tuple[int, int, int]) -> None:
    pools = [[corpus] for corpus in codes] + [list(codes)]
    found = [setting_of(query, pool) for query in codes for pool in pools]
    assert tuple(found.count(setting) for setting in Setting) == counts


def test_settings_by_value_and_short_name() -> None:
    assert [(setting.value, setting.short) for setting in Setting] == [
        ("monolingual", "Mo."),
        ("cross-lingual", "Cr."),
        ("multilingual", "Mul."),
    ]
    assert Setting("cross-lingual") is Setting.CROSS_LINGUAL
    assert f"{Setting.MULTILINGUAL}" == "multilingual"  # as written into tables
