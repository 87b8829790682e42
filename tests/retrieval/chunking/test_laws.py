"""The laws of cutting, for every way of it, on texts that are not kind.

Offsets hold, nothing but white space is lost, nothing is doubled outside the stated overlap,
nothing is larger than its limit, the order is that of the text, and the same again gives the same.
"""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

import pytest
from hashing_embedder import HashingEmbedder
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwright.core import CapacityError, Document, Section
from llmwright.retrieval.chunking import (
    ChunkSettings,
    Strategy,
    approximate_tokens,
    chunk_document,
    iter_chunks,
    parent_of,
    split_sentences,
)
from llmwright.retrieval.chunking.packing import Packer
from llmwright.retrieval.chunking.sentence import sentence_pieces
from llmwright.retrieval.chunking.spans import parts

EMBEDDER = HashingEmbedder()
STRATEGIES = get_args(Strategy)
PIECES = [
    "word", "Слово", "#", "\n\n", ". ", "漢字", "a\u0300\u0301", " ", "# Head\n", "```python\n",
    "```\n", "~~~~\n", "def f(x):\n", "    return (x)\n", "class A {\n", "}\n", "- item\n",
    "  - more\n", "1. one\n", "| a | b |\n", "|---|:-:|\n", "/* ", " */", "'''", '"', "`", "{[(",
    "Dr. ", "e.g. ", "U.S. ", "שלום, עולם! ", "مرحبا؟ ", "\u202e", "\u200b", "\u200d", "👩‍👩‍👧", "🏽",
    "\r\n", "\r", "\0", "\x1c", "\u2028", "\u3000", "\ufeff", "!?", "…", "。", "x" * 40, "é" * 9,
    "\ud800", "𝔘𝔫𝔦", "----\n", "Title\n=====\n", "\t",
]  # fmt: skip
texts = st.one_of(
    st.text(max_size=300),
    st.text(alphabet="ab. \n\n!?。字👩‍👩‍👧é`#-|{}", max_size=500),
    st.lists(st.sampled_from(PIECES), max_size=120).map("".join),
)


def utf8_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


@st.composite
def documents(draw: st.DrawFn) -> Document:
    text = draw(texts)
    starts = draw(st.lists(st.integers(0, len(text)), max_size=5, unique=True).map(sorted))
    levels = [draw(st.integers(1, 3)) for _ in starts]
    found = []
    for i, (start, level) in enumerate(zip(starts, levels, strict=True)):
        later = (s for s, at in zip(starts[i + 1 :], levels[i + 1 :], strict=True) if at <= level)
        found.append(Section(f"h{i}", f"h{i}", level, start, next(later, len(text))))
    name = draw(st.sampled_from(["d.md", "d.py", "d.ts", "d.go", "d.c", "d.sh", "d.rs", "d.java"]))
    return Document(name, text, sections=tuple(found))


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=80, deadline=None)
@given(document=documents(), size=st.integers(1, 40), data=st.data())
def test_the_laws(strategy, document, size, data):
    counted = data.draw(st.sampled_from([approximate_tokens, len, utf8_bytes]))
    overlap, shared = 0, 0
    if strategy == "sentence":
        shared = data.draw(st.integers(0, 3))
    else:
        overlap = data.draw(st.sampled_from([0, size // 4, size // 2]))
    asked = ChunkSettings(
        strategy, size, overlap, sentences=4, sentence_overlap=shared, threshold=70.0,
        parent_size=size + data.draw(st.integers(0, 60)),
    )  # fmt: skip
    too_large = any(counted(c) > size for c in document.text if not c.isspace())
    if too_large:  # in no way of cutting is there room for it
        with pytest.raises(CapacityError, match="alone counts"):
            chunk_document(document, asked, count=counted, embedder=EMBEDDER)
        return
    chunks = chunk_document(document, asked, count=counted, embedder=EMBEDDER)
    text, covered = document.text, bytearray(len(document.text))
    for chunk in chunks:
        assert text[chunk.start : chunk.end] == chunk.text == chunk.text.strip() != ""
        assert chunk.id == f"{document.id}:{chunk.start}-{chunk.end}"
        assert counted(chunk.text) <= size
        covered[chunk.start : chunk.end] = b"\1" * len(chunk.text)
    assert all(seen or c.isspace() for seen, c in zip(covered, text, strict=True))
    packer = Packer(text, size, 0, counted)
    within = parts(document, size, counted) if shared else ()
    starts = [start for _, span in within for start, _ in sentence_pieces(packer, span)]
    for one, two in pairwise(chunks):
        assert one.start < two.start and one.end < two.end
        common = text[two.start : one.end]
        if strategy == "sentence":
            assert sum(two.start <= start < one.end for start in starts) <= shared
        if not overlap and not shared:
            assert one.end <= two.start
        elif overlap:
            assert counted(common.strip()) <= overlap
    assert chunks == list(iter_chunks(document, asked, count=counted, embedder=EMBEDDER))
    if strategy == "parent-child":
        parents = dict.fromkeys(parent_of(chunk) for chunk in chunks)
        assert all(parent[0] <= c.start < c.end <= parent[1] for c in chunks
                   for parent in [parent_of(c)])  # fmt: skip
        for one, two in pairwise(parents):
            assert one[1] <= two[0]
        assert all(counted(text[a:b]) <= asked.parent_size for a, b in parents)


@given(texts, st.data())
def test_sentences_cover_a_text_without_gap(text, data):
    begin = data.draw(st.integers(0, len(text)))
    found = list(split_sentences(text, (begin, len(text))))
    assert "".join(text[a:b] for a, b in found) == text[begin:]
    assert all(a < b for a, b in found)


HARD = {
    "one word": "x",
    "marks on one letter": "\u0301",
    "full stops": ".",
    "closing brackets": ".)",
    "line ends": "\n",
    "line ends and spaces": "\n ",
    "opening brackets": "{\n",
    "opening quotes": '"""',
    "fences": "```\n",
    "items": "- a\n",
    "bars": "|",
    "delimiters": "|-",
    "comments": "/*",
    "Chinese": "漢",
    "joiners": "\u200d",
    "right to left": "שלום ",
    "initials": "A.",
    "indentation": " ",
    "nul": "\0",
}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", HARD)
def test_work_grows_with_the_text_and_not_with_its_square(strategy, name):
    """Counted: characters given to the counter, for a text and one four times as long."""
    work = []
    for length in (2_000, 8_000):
        unit = HARD[name]
        text = "a" + unit * (length // len(unit)) + "b"
        seen = 0

        def counting(part: str) -> int:
            nonlocal seen
            seen += len(part)
            return approximate_tokens(part)

        for ending in ("d.md", "d.py", "d.js") if strategy == "structure" else ("d.md",):
            chunk_document(
                Document(ending, text),
                ChunkSettings(strategy, 50, 0),
                count=counting,
                embedder=EMBEDDER,
            )
        work.append(seen)
    assert work[1] <= 8 * work[0]  # its square would be 16
