"""Text analysis: no script is dropped, stemming follows script and language."""

from __future__ import annotations

import pytest
import Stemmer
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwright.retrieval import analyze
from llmwright.retrieval.lexical.analysis import (
    _word_pattern,
    analyze_query,
    normalize,
    words,
)


def test_english_is_stemmed_by_snowball():
    words = ["running", "quickly", "generalization", "connected", "connections"]
    assert analyze(" ".join(words), "en") == Stemmer.Stemmer("english").stemWords(words)


def test_russian_forms_of_a_word_meet():
    for forms in ("модель модели моделей моделями", "обучение обучения обучением"):
        assert len(set(analyze(forms, "ru"))) == 1


def test_yo_is_ye_and_compatibility_forms_are_folded():
    assert analyze("Ёжик учёт", "ru") == analyze("ежик учет", "ru")
    assert analyze("ﬁne ＬｏＲＡ STRASSE", "en") == analyze("fine lora straße", "en")
    assert analyze("cafe\u0301", "fr") == analyze("café", "fr")


def test_each_word_is_stemmed_by_its_script():
    assert analyze("модели embeddings", "ru") == [*analyze("модели", "ru"), "embed"]
    assert analyze("моделями embeddings", "en") == [*analyze("модели", "ru"), "embed"]
    assert analyze("моделями", "uk") == ["моделями"]  # Snowball has no Ukrainian
    assert analyze("Häuser", "de") == Stemmer.Stemmer("german").stemWords(["häuser"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("机器学习", ["机", "器", "学", "习", "机器", "器学", "学习"]),
        ("水", ["水"]),
        ("한국어", ["한", "국", "어", "한국", "국어"]),
        ("ひらがな", ["ひ", "ら", "が", "な", "ひら", "らが", "がな"]),
        ("ไทย", ["ไทย"]),
        ("GPU显存", ["gpu", "显", "存", "显存"]),
    ],
)
def test_scripts_without_spaces_give_ngrams(text, expected):
    assert analyze(text) == expected


@pytest.mark.parametrize(
    "text",
    ["مرحبا بالعالم", "नमस्ते दुनिया", "שלום עולם", "γειά σου", "გამარჯობა", "வணக்கம்", "Բարեւ", "ሰላም", "ភាសាខ្មែរ",
     "বাংলা ভাষা", "ကမ္ဘာ", "Привіт", "ދިވެހި", "ᏣᎳᎩ", "𞤀𞤣𞤤𞤢𞤥"],
)  # fmt: skip
@pytest.mark.parametrize("language", ["", "en", "ru", "zh"])
def test_no_script_is_dropped(text, language):
    assert len(analyze(text, language)) >= len(text.split())


def test_vowel_signs_do_not_cut_words():
    assert len(analyze("हिन्दी", "")) == 1
    assert analyze("مُحَمَّد", "ar") == analyze("محمد", "ar")


def test_numbers_hyphens_and_underscores():
    assert analyze("boundary-layer max_new_tokens GPT-4 3.5 don't", "en") == [
        "boundari", "layer", "max", "new", "token", "gpt", "4", "3", "5", "don", "t",
    ]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200), st.sampled_from(["", "en", "ru", "de", "zh", "xx"]))
def test_every_letter_and_digit_outside_a_stemmed_word_survives(text, language):
    terms = analyze(text, language)
    assert all(terms)
    # The Arabic tatweel is a letter to Unicode, and a dash that draws a word out to readers.
    assert bool(terms) >= any(c.isalnum() for c in text.replace("\u0640", ""))


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="runing модели机器 -", max_size=60))
def test_a_query_in_several_languages_holds_the_terms_of_each(text):
    positions = analyze_query(text, ("en", "ru", "de"))
    for language in ("en", "ru", "de"):
        own = analyze(text, language)
        assert len(own) == len(positions)
        assert all(term in terms for term, terms in zip(own, positions, strict=True))


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="utf-8") | st.sampled_from("aZ_9 я机กẽ・́-"), max_size=40))
def test_cutting_in_two_steps_finds_the_words_of_the_one_pattern(text):
    found = [word for word, _ in words(text)]
    assert found == _word_pattern().findall(normalize(text))
