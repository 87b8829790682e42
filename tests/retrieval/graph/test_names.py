"""Names found by their form, in several scripts."""

import pytest

from llmwright.retrieval.graph.names import name_key, read


def spellings(text, title="", language="en"):
    return set(read(text, title, language).names.values())


def test_names_are_runs_of_capitalised_words_and_their_parts():
    found = spellings("The drummer was Mark Robert Bowden of the University of New Wales in 1958.")
    assert {"Mark Robert Bowden", "Bowden", "University of New Wales", "1958"} <= found
    assert not {"The", "drummer", "Wales in 1958", "of"} & found - {"Wales in 1958"}


def test_words_of_mixed_form_are_names():
    assert {"BM25", "iPhone", "QLoRA"} <= spellings("we like BM25, the iPhone and QLoRA")


def test_a_word_that_only_begins_a_sentence_is_no_name():
    assert "Rivers" not in spellings("Rivers flow. All rivers flow to the sea.")
    assert "Rivers" in spellings("The band Rivers played. Nobody came.")
    assert "However" not in spellings("However it rains. They sing.")


def test_the_title_is_a_name_without_its_bracket():
    reading = read("It is a film.", "Alien (film)", "en")
    assert reading.title == name_key("Alien", "en") == "alien"
    assert "alien" in reading.names


def test_case_endings_make_no_other_name():
    moscow = read("Он родился в Москве.", "", "ru").names
    assert name_key("Москва", "ru") in moscow
    assert "он" not in moscow


def test_scripts_without_capitals_have_names_too():
    assert read("東京大学で学んだ。", "", "ja").names
    assert name_key("दिल्ली", "hi") in read("वह दिल्ली गया।", "", "hi").names


def test_a_name_stands_in_the_phrase_of_its_passage():
    reading = read("He met Sir Francis Baring.", "Exeter", "en")
    for key in reading.names:
        assert f" {key} " in reading.phrase


@pytest.mark.parametrize("text", ["", " ", "...", "\n\n"])
def test_a_text_without_words_has_no_names(text):
    assert read(text).names == {}
