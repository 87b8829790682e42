"""Where sentences end: abbreviations, initials, numbers, quotations, several scripts."""

from __future__ import annotations

import json

import pytest

from llmwright.core import ConfigurationError, Document
from llmwright.retrieval.chunking import ChunkSettings, chunk_document, split_sentences


def cut(text: str) -> list[str]:
    return [text[a:b].strip() for a, b in split_sentences(text)]


@pytest.mark.parametrize(
    "text",
    [
        # Each ¦ is the end of a sentence.
        "Dr. Smith met J. S. Bach at 3 p.m. in the U.S.¦ He left.",
        "He works at Apple Inc.¦ The firm is large.¦ It sells phones, tablets etc.¦ And more.",
        "It costs 3.14 dollars.¦ See Fig. 3 and p. 7, e.g. Apples.¦ No. 5 is the best, no.¦ Well.",
        '"Stop!" he said.¦ "Why?"¦ She left.¦ Really?!¦ Yes...¦ No.',
        "Visit example.com today.¦ Use v1.2.3 of it.¦ Wait ... and then go.",
        "Am 3. Oktober war z. B. Herr Dr. Müller da.¦ Er ging.¦ Das 19. Jahrhundert begann.",
        "Il vit M. Dupont à 9 h.¦ Elle partit.¦ Voir p. 12.",
        "Он жил на ул. Ленина, д. 5.¦ В 1990 г. А. С. Пушкин родился.¦ Потом и т. д.¦ Он умер.",
        "这是一句话。¦这是另一句！¦「你好。」¦他说。",
        "これは文です。¦次の文です。",
        "यह एक वाक्य है।¦ यह दूसरा है।",
        "هل هذا سؤال؟¦ نعم. ¦هذا جواب.",
        "זה משפט.¦ זה עוד משפט.",
        "Նա գնաց։¦ Նա եկավ։",
        "One line\ngoes on here.¦ A list:¦\n- one¦\n- two¦\n\n# Head¦\nText.",
        "A table:¦\n| a | b |",
        "1. First of all.¦\n2. Then.",
    ],
)  # fmt: skip
def test_where_sentences_end(text):
    assert cut(text.replace("¦", "")) == [part.strip() for part in text.split("¦")]


def test_answers_of_readers_are_not_cut(shared_data):
    """XQuAD's answers stand inside sentences: a border inside one is a wrong border."""
    for language, most in (("en", 0.005), ("ru", 0.005)):
        data = json.loads((shared_data / "xquad" / f"xquad.{language}.json").read_text("utf-8"))
        wrong = total = 0
        for article in data["data"]:
            for paragraph in article["paragraphs"]:
                borders = [end for _, end in split_sentences(paragraph["context"])][:-1]
                for question in paragraph["qas"]:
                    answer = question["answers"][0]
                    start, end = (
                        answer["answer_start"],
                        answer["answer_start"] + len(answer["text"]),
                    )
                    total += 1
                    wrong += any(start < border < end for border in borders)
        assert wrong <= most * total, language


def test_chunks_of_sentences_with_overlap():
    text = " ".join(f"Sentence {i} is here." for i in range(7))
    asked = ChunkSettings("sentence", 100, sentences=3, sentence_overlap=1)
    chunks = chunk_document(Document("d", text), asked)
    numbers = [[int(w) for w in c.text.replace(".", "").split() if w.isdigit()] for c in chunks]
    assert numbers == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]
    small = ChunkSettings("sentence", 10, sentences=3)  # two sentences of five tokens fit
    assert all(c.text.count("Sentence") <= 2 for c in chunk_document(Document("d", text), small))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"strategy": "clever"}, "the strategy 'clever' is unknown; use one of recursive, fixed,"),
        ({"size": 0}, "the chunk size is 0; give 1 or more"),
        ({"overlap": 200}, "the chunk overlap is 200; give 0 to 110, half of the chunk size"),
        ({"strategy": "sentence", "overlap": 9}, "overlap in tokens is 9; use sentence_overlap"),
        ({"sentences": 0}, "the number of sentences is 0; give 1 or more"),
        ({"sentences": 3, "sentence_overlap": 3}, "the sentence overlap is 3; give 0 to 2"),
        ({"window": -1}, "the window of sentences is -1; give 0 or more"),
        ({"breakpoint": "eye"}, "the breakpoint 'eye' is unknown"),
        ({"threshold": 101.0}, "the threshold is 101; give 0 to 100"),
        ({"threshold": float("nan")}, "the threshold is nan"),
        ({"strategy": "parent-child", "parent_size": 100}, "the parent size is 100; give 220 or m"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, says):
    with pytest.raises(ConfigurationError, match="chunk") as caught:
        ChunkSettings(**settings)
    assert says in str(caught.value)


def test_settings_say_what_they_are():
    assert ChunkSettings(size=220, overlap=50).label == "recursive 220+50"
    assert ChunkSettings("parent-child", 100, parent_size=400).label == "parent-child 100/400"
    assert ChunkSettings(breakpoint="deviation").limit == 3
    assert ChunkSettings("semantic", threshold=80.0).limit == 80
