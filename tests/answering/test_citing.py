from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwright.answering import CitationStream, cited_numbers


def always(number: int | None):  # type: ignore[no-untyped-def]
    return lambda sentence: number


def whole(text: str, number: int | None = None, count: int = 3) -> str:
    stream = CitationStream(always(number), count)
    return stream.push(text) + stream.flush()


@pytest.mark.parametrize(
    ("written", "given_out"),
    [
        ("Rank is small [2].", "Rank is small [2]."),
        ("Rank is small [7].", "Rank is small."),
        ("Rank [0] is [4] small.", "Rank is small."),
        ("Rank [1, 9] is small [2; 3].", "Rank [1] is small [2; 3]."),
        ("[9] Rank is small.", "Rank is small."),
        ("Rank is small. [9] It is.", "Rank is small. It is."),
        ("Use `a[9]` or\n```\na [9]\n```\nnot a [9].", "Use `a[9]` or\n```\na [9]\n```\nnot a."),
        ("See [here] and [12", "See [here] and [12"),
    ],
)
def test_only_citations_of_passages_that_exist_stand(written: str, given_out: str) -> None:
    assert whole(written) == given_out


@pytest.mark.parametrize(
    ("written", "given_out"),
    [
        ("One thing. Another! A third", "One thing [1]. Another [1]! A third [1]"),
        ("One [2]. Another.", "One [2]. Another [1]."),
        ("One. [2] Another.", "One. [2] Another [1]."),
        ('He said "so." Then left.', 'He said "so." [1] Then left [1].'),
        ("It grew, e.g. by 3.5 percent. Fine.", "It grew, e.g. by 3.5 percent [1]. Fine [1]."),
        ("See Fig. 3 of Hu et al. 2021. Yes.", "See Fig. 3 of Hu et al. 2021 [1]. Yes [1]."),
        ("It was in 1998. Then not.", "It was in 1998 [1]. Then not [1]."),
        ("1. First\n2. Second.\n", "1. First [1]\n2. Second [1].\n"),
        (
            "# Heading\n\nThe steps are:\n- one\n| a | b |\n",
            "# Heading\n\nThe steps are:\n- one [1]\n| a | b |\n",
        ),
        ("Why? Because.", "Why? Because [1]."),
        ("为什么？因为。", "为什么？因为 [1]。"),
        ("Two... And one?!", "Two [1]... And one [1]?!"),
        ("Run `a. B` now. So.", "Run `a. B` now [1]. So [1]."),
        ("```python\nx = 1. \n```\nDone.", "```python\nx = 1. \n```\nDone [1]."),
        ("Ранг мал, т. е. равен 8. Это так.", "Ранг мал, т. е. равен 8 [1]. Это так [1]."),
        ("It grows\nwith the rank.\nAnd so", "It grows\nwith the rank [1].\nAnd so [1]"),
        ("秩很小。它是八。", "秩很小 [1]。它是八 [1]。"),
        ("  \n\n", "  \n\n"),
        ("", ""),
    ],
)
def test_each_sentence_without_a_citation_gets_one(written: str, given_out: str) -> None:
    assert whole(written, 1) == given_out


def test_the_sentence_asked_about_is_the_sentence() -> None:
    asked: list[str] = []
    stream = CitationStream(lambda sentence: asked.append(sentence), 2)
    stream.push("One thing [8]. Two [1]. Three things?\n Four\r\nFive")
    stream.flush()
    assert asked == ["One thing.", "Four", "Five"]


# Text made of what the rules look at, so that every edge is hit often.
PIECES = st.sampled_from(
    ["a", "B", " ", "\n", ".", "!", "?", "。", "[", "]", "1", "9", ",", "`", "```", "#", ")", '"', "*",
     "e.g.", "[1]", " [9]", "word ", "Word", "ё", "\t", "…", "|", ":", "\r\n"]
)  # fmt: skip


@given(
    pieces=st.lists(PIECES | st.text(max_size=3), max_size=40), number=st.sampled_from([None, 1, 2])
)
def test_every_way_of_cutting_gives_the_same(pieces: list[str], number: int | None) -> None:
    def cite(sentence: str) -> int | None:  # depends on the sentence, so a wrong one shows
        return number if len(sentence) % 2 else None

    once, split, single = (CitationStream(cite, 2) for _ in range(3))
    text = "".join(pieces)
    expected = once.push(text) + once.flush()
    assert "".join([split.push(piece) for piece in pieces]) + split.flush() == expected
    assert "".join([single.push(letter) for letter in text]) + single.flush() == expected


@given(pieces=st.lists(PIECES, max_size=40))
def test_citing_only_adds_and_removes_citations(pieces: list[str]) -> None:
    def bare(text: str) -> str:
        return re.sub(r"[\[\]\d,\s]", "", text)

    assert bare(whole("".join(pieces), 1, 2)) == bare("".join(pieces))


@given(pieces=st.lists(PIECES, max_size=40))
def test_numbers_read_back_are_in_range(pieces: list[str]) -> None:
    assert cited_numbers(whole("".join(pieces), 2, 2), 2) <= {1, 2}


def test_words_are_given_out_as_they_come() -> None:
    stream = CitationStream(always(1), 1)
    shown = [stream.push(piece) for piece in ("Rank ", "is ", "small", ". ", "It ", "is")]
    assert shown == ["Rank", " is", " small", "", " [1]. It", " is"]
    assert stream.flush() == " [1]"


def test_a_sentence_without_end_is_not_kept_waiting() -> None:
    stream = CitationStream(always(1), 1)
    text = "word " * 1000
    shown = "".join([stream.push("word ") for _ in range(1000)]) + stream.flush()
    assert shown.replace(" [1]", "") == text
    assert shown == whole(text, 1)
    assert len(stream._open) == 0


def test_the_last_words_of_an_answer_that_was_cut_are_not_cited() -> None:
    stream = CitationStream(always(1), 1)
    assert stream.push("It is so. The answer to") + stream.flush(finished=False) == (
        "It is so [1]. The answer to"
    )


def test_cited_numbers_leave_code_alone() -> None:
    text = "One [1]. `a[2]`\n```\nb[3]\n```\nand [4, 9][5]."
    assert cited_numbers(text, 5) == {1, 4, 5}
