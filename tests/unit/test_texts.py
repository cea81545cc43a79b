from __future__ import annotations

import string

import pytest

from dicomnode import coding
from dicomnode.errors import REASONS
from dicomnode.imaging.typeface import drawable
from dicomnode.study import ResultRole
from dicomnode.texts import LANGUAGE_CONCEPTS, LANGUAGES, MEASUREMENTS, REASON_TABLE, TABLE, Words


def blanks(text: str) -> list[str]:
    return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name)


@pytest.mark.parametrize("key", list(TABLE))
def test_every_text_is_there_in_every_language_with_the_same_blanks(key: str) -> None:
    texts = TABLE[key]
    assert len(texts) == len(LANGUAGES)
    assert all(text.strip() for text in texts)
    assert len({tuple(blanks(text)) for text in texts}) == 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_letter_is_in_the_typeface_that_ships(language: str) -> None:
    words = Words(language)
    texts = [TABLE[key][LANGUAGES.index(language)] for key in TABLE] + [words.reason(code) for code in REASON_TABLE]
    texts += [words.measurement(concept) for concept in MEASUREMENTS]
    assert [text for text in texts if drawable(text) != text] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_role_and_reason_has_a_name(language: str) -> None:
    words = Words(language)
    assert all(words.say(role.value) for role in ResultRole)
    assert words.concept is LANGUAGE_CONCEPTS[language]
    assert all(code in REASONS for code in REASON_TABLE)
    assert words.say("not-found", label="Lung") != words.say("not-found", label="Heart")


def test_measurements_and_units_are_named_as_people_write_them() -> None:
    german = Words("de")
    assert german.measurement(coding.MEAN_LUNG_DENSITY) == "Mittlere Lungendichte"
    assert (german.unit("[hnsf'U]"), Words("fr").unit("[hnsf'U]")) == ("HE", "UH")
    assert german.unit("ml") == "ml"
    assert german.measurement(coding.AREA) == "Area", "what has no translation keeps its meaning"
    assert Words("en").measurement(coding.PERC15) == coding.PERC15.meaning
    assert german.unit("1") == ""


def test_a_reason_without_translation_is_english() -> None:
    assert Words("de").reason("internal") == REASONS["internal"].text
    assert Words("de").reason("geometry-gap") != REASONS["geometry-gap"].text
    assert Words("en").reason("geometry-gap") == REASONS["geometry-gap"].text


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_missing_rescale_is_not_told_as_a_missing_place(language: str) -> None:
    assert Words(language).reason("rescale-attribute-missing") != Words(language).reason("geometry-attribute-missing")
    assert Words("de").reason("rescale-attribute-missing") != REASONS["rescale-attribute-missing"].text


def test_other_languages_are_refused() -> None:
    with pytest.raises(ValueError, match="no texts"):
        Words("tlh")


def test_letters_that_the_typeface_lacks_lose_their_accents_or_are_asked_for() -> None:
    assert drawable("Müller 王 ± –") == "Müller 王 ± –"
    assert drawable("\u0f40") == "?"
