"""Small chunks are found, large ones given: which, in what order, and how many."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmwright.core import Chunk, Document, Hit
from llmwright.retrieval import ChunkSettings, parent_search
from llmwright.retrieval.chunking import chunk_document, lift, parent_of

TEXT = "\n\n".join(f"Paragraph {i} begins here. It goes on so. And it ends." for i in range(12))
ASKED = ChunkSettings("parent-child", 6, parent_size=34)


def children() -> list[Chunk]:
    return chunk_document(Document("d", TEXT, metadata={"k": "v"}), ASKED)


def test_children_lie_in_their_parents_which_are_cut_as_by_themselves():
    spans = list(dict.fromkeys(parent_of(child) for child in children()))
    parents = chunk_document(Document("d", TEXT), 34)
    assert spans == [(parent.start, parent.end) for parent in parents]
    assert len(children()) > 2 * len(parents)


def test_hits_are_lifted_and_those_of_one_parent_merged():
    found = children()
    hits = [Hit(found[i], 1.0 - i / 10, {"dense": i + 1}) for i in (1, 0, 8, 2)]
    lifted = lift(hits, {"d": TEXT}.__getitem__)
    first, second = lifted
    assert (first.chunk.start, first.chunk.end) == parent_of(found[1]) == parent_of(found[0])
    assert first.chunk.text == TEXT[first.chunk.start : first.chunk.end]
    assert first.chunk.id == f"d:{first.chunk.start}-{first.chunk.end}"
    assert first.chunk.metadata == {"k": "v"}
    assert (first.score, first.ranks) == (0.9, {"dense": 2})  # those of the child found first
    assert second.chunk.start == parent_of(found[8])[0]


def test_hits_that_are_no_children_stay_as_they_are():
    plain = [Hit(Chunk("x:0-3", "x", "abc", 0, 3, metadata={"parent": "Anna-Maria"}), 1.0)]
    assert lift(plain, {}.__getitem__) == plain


@given(st.lists(st.integers(0, 30), unique=True, max_size=31), st.integers(1, 8))
def test_a_search_gives_as_many_parents_as_there_are(order, top):
    found = children()
    hits = [Hit(found[i], -float(n)) for n, i in enumerate(i for i in order if i < len(found))]
    depths = []

    def search(query: str, depth: int) -> list[Hit]:
        depths.append(depth)
        return hits[:depth]

    given_ = parent_search(search, {"d": TEXT}.__getitem__)("q", top)
    expected = list(dict.fromkeys(parent_of(hit.chunk) for hit in hits))[:top]
    assert [(hit.chunk.start, hit.chunk.end) for hit in given_] == expected
    assert depths == [2 * top * 2**i for i in range(len(depths))]
