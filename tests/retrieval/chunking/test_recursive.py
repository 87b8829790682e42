"""Recursive chunks: which border wins, how sections are kept, what is refused. The laws that every
way of cutting keeps are in test_laws.py."""

from __future__ import annotations

from itertools import pairwise

import pytest

from llmwright.core import CapacityError, Chunk, ConfigurationError, Document, Section
from llmwright.retrieval import approximate_tokens, chunk_document


def test_a_chunk_says_where_it_comes_from():
    text = "# One\n\nFirst text."
    document = Document(
        "a/b.md",
        text,
        "Title",
        "source",
        "en",
        (Section("One", "one", 1, 0, len(text)),),
        {"k": "v"},
    )
    assert chunk_document(document) == [
        Chunk("a/b.md:0-18", "a/b.md", text, 0, 18, "One", "en", {"k": "v"})
    ]


def test_approximate_tokens():
    assert approximate_tokens("") == 0
    assert approximate_tokens("abcdefgh") == 1
    assert approximate_tokens("abcdefghi, 漢字!") == 2 + 1 + 2 + 1


def test_overlap_repeats_the_last_sentences():
    text = " ".join(f"Sentence number {i} is here." for i in range(12))
    chunks = chunk_document(Document("d", text), size=24, overlap=8)
    for one, two in pairwise(chunks):
        assert text[two.start : one.end].startswith("Sentence number")
    assert chunk_document(Document("d", text), 24, 0) != chunks


def test_the_strongest_border_wins():
    text = "One two three. Four five six.\n\nSeven eight nine. Ten eleven twelve."
    assert [c.text for c in chunk_document(Document("d", text), size=9)] == text.split("\n\n")
    assert [c.text for c in chunk_document(Document("d", text), size=4)] == [
        "One two three.", "Four five six.", "Seven eight nine.", "Ten eleven twelve.",
    ]  # fmt: skip


def test_a_text_just_too_long_is_cut_in_the_middle():
    text = " ".join(f"w{i:02}." for i in range(23))  # 2 tokens each
    sizes = [approximate_tokens(c.text) for c in chunk_document(Document("d", text), size=40)]
    assert sizes == [24, 22]


def test_pieces_that_just_fit_stand_together():
    text = "One two three. Four five six. Seven eight nine."  # 4 tokens each
    assert [c.text for c in chunk_document(Document("d", text), size=8)] == [
        "One two three. Four five six.", "Seven eight nine.",
    ]  # fmt: skip
    even = " ".join(f"w{i:02}." for i in range(8))  # 16 tokens: two halves of 8, not 10 and 6
    sizes = [approximate_tokens(c.text) for c in chunk_document(Document("d", even), size=10)]
    assert sizes == [8, 8]


def test_a_counter_that_sees_more_in_the_whole_than_in_its_pieces_is_believed():
    """Two words of two letters are five characters: one more than the pieces add up to."""
    chunks = chunk_document(Document("d", "aa bb cc"), 4, 0, len)
    assert [c.text for c in chunks] == ["aa", "bb", "cc"]


def _markdown(*parts: tuple[int, str, str]) -> Document:
    """A document of (level, title, body)."""
    text, starts = "", []
    for level, title, body in parts:
        starts.append(len(text))
        text += f"{'#' * level} {title}\n\n{body}\n\n"
    sections = []
    for i, (level, title, _) in enumerate(parts):
        later = (starts[j] for j in range(i + 1, len(parts)) if parts[j][0] <= level)
        end = next(later, len(text))
        sections.append(Section(title, title.lower(), level, starts[i], end))
    return Document("d", text, sections=tuple(sections))


def test_sections_are_not_crossed_and_headings_are_paths():
    body = "word " * 30
    document = _markdown((1, "LoRA", body), (2, "Rank", body), (2, "Alpha", body), (1, "End", body))
    chunks = chunk_document(document, size=100)
    assert [c.heading for c in chunks] == ["LoRA", "LoRA > Rank", "LoRA > Alpha", "End"]
    assert all(c.text.startswith("#") for c in chunks)


def test_tiny_sections_join_below_one_heading_and_bare_headings_join_their_first_section():
    tiny, body = "A few words.", "word " * 30
    document = _markdown(
        (1, "FAQ", body), (2, "One", tiny), (2, "Two", tiny), (1, "Next", ""), (2, "Part", body)
    )
    chunks = chunk_document(document, size=100)
    assert [c.heading for c in chunks] == ["FAQ", "FAQ", "Next > Part"]
    assert "# One" in chunks[1].text and "# Two" in chunks[1].text
    # A tiny section is not joined across its parent's border.
    apart = _markdown((1, "A", body), (2, "One", tiny), (1, "B", body), (2, "Two", tiny))
    assert [c.heading for c in chunk_document(apart, 100)] == ["A", "A > One", "B", "B > Two"]


@pytest.mark.parametrize("text", ["", " \n\t ", "\u2003\n"])
def test_no_text_no_chunks(text):
    assert chunk_document(Document("d", text)) == []


@pytest.mark.parametrize(
    ("size", "overlap", "says"),
    [
        (0, 0, "chunk size: the chunk size is 0; give 1 or more."),
        (10, 6, "chunk overlap: the chunk overlap is 6; give 0 to 5, half of the chunk size."),
        (10, -1, "chunk overlap: the chunk overlap is -1; give 0 to 5, half of the chunk size."),
        (1, 1, "chunk overlap: the chunk overlap is 1; give 0 to 0, half of the chunk size."),
    ],
)
def test_sizes_that_make_no_sense_are_refused(size, overlap, says):
    with pytest.raises(ConfigurationError) as caught:
        chunk_document(Document("d", "x"), size, overlap)
    assert str(caught.value) == says
    for fine in ((1, 0), (10, 5), (11, 5)):
        assert [c.text for c in chunk_document(Document("d", "x"), *fine)] == ["x"]


def test_a_long_word_is_cut_in_linear_time():
    chunks = chunk_document(Document("d", "x" * 300_000), size=100)
    assert "".join(c.text for c in chunks) == "x" * 300_000
    assert max(len(c.text) for c in chunks) <= 800


def test_a_character_too_large_by_itself_is_refused_and_named():
    """It can be neither cut nor left out, and a larger chunk than asked for is no answer."""
    with pytest.raises(CapacityError) as caught:
        chunk_document(Document("d", "ab漢"), 2, 0, lambda text: len(text.encode()))
    assert str(caught.value) == (
        "character 2 of the text: the character '漢' alone counts 3, more than the chunk size 2; "
        "give a chunk size of at least 3."
    )


def test_marks_stay_with_their_letters():
    text = "e\u0301" * 4000
    assert all(c.text.startswith("e") for c in chunk_document(Document("d", text), size=10))


def test_counts_are_near_those_of_word_pieces(minilm_path):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(minilm_path / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    text = (
        "Low-rank adaptation (LoRA) freezes the pretrained weights and injects trainable "
        "rank-decomposition matrices into each layer of the Transformer architecture, greatly "
        "reducing the number of trainable parameters for downstream tasks. Compared to GPT-3 "
        "175B fine-tuned with Adam, it cuts them 10,000 times and the GPU memory 3 times."
    )
    pieces = len(tokenizer.encode(text, add_special_tokens=False).ids)
    assert 0.8 < approximate_tokens(text) / pieces < 1.25
