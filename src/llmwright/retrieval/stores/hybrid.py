"""The vectors in a store, the words in an index, and one hybrid search over both.

For those who keep vectors in a database that several programs share, or that is too large for one
machine. ``fill_store`` copies an index's vectors, each with where its chunk stands;
``store_search`` ranks by the store's vectors and the index's words and fuses both. A chunk that
the store still holds and the index no longer does is passed over. The search in the index itself,
which feeds the best passages back as well, needs no store and finds a little more.

Costs one request to the store a query, and the documents of its hits read from the index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

from llmwright.core import Chunk, Embedder, Hit, InputError, Search
from llmwright.data import detect_language
from llmwright.retrieval.dense.cosine import knows
from llmwright.retrieval.index.index import Index
from llmwright.retrieval.queries.expansion import fuse_hits
from llmwright.retrieval.ranking.fusion import DEFAULT_FUSION, Fusion
from llmwright.retrieval.stores.entry import Entry, Found, VectorStore

_AT_ONCE = 1000  # entries handed to the store together
_DEPTH = 100  # candidates each side gives to the fusion, at least
_PLACE = "llmwright."  # before the names of our own metadata, so that they meet no user's


def fill_store(store: VectorStore, index: Index) -> int:
    """Put the vectors of an index into a store; how many there were. Doing it again changes
    nothing; what the index has lost since is the caller's to delete."""
    entries = (
        Entry(
            chunk.id,
            vector,
            {
                **chunk.metadata,
                f"{_PLACE}document": chunk.document_id,
                f"{_PLACE}span": f"{chunk.start}-{chunk.end}",
                f"{_PLACE}heading": chunk.heading,
                f"{_PLACE}language": chunk.language,
            },
        )
        for chunk, vector in index.vectors()
    )
    count = 0
    while batch := list(islice(entries, _AT_ONCE)):
        store.upsert(batch)
        count += len(batch)
    return count


def store_search(
    store: VectorStore,
    index: Index,
    embedder: Embedder,
    *,
    filter: Mapping[str, str] | None = None,
    fusion: Fusion = DEFAULT_FUSION,
) -> Search:
    """A search by the store's vectors and the index's words. ``filter`` holds values that the
    chunks' metadata must have. The embedder votes only in languages that it knows."""
    languages = sorted(index.stats()["languages"])

    def found(query: str, top: int) -> list[Hit]:
        depth = max(top, _DEPTH)
        lexical = index.search(query, depth, mode="lexical", filter=filter)
        rankings: dict[str, Sequence[Hit]] = {"lexical": lexical}
        asked = query.strip() and detect_language(query, among=languages)
        if asked and knows(embedder.languages, asked):
            near = store.search(embedder.embed([query], kind="query")[0], depth, filter)
            hits = [_hit(one, index) for one in near]
            rankings["dense"] = [hit for hit in hits if hit is not None]
        return fuse_hits(rankings, fusion)[:top]

    return found


def _hit(found: Found, index: Index) -> Hit | None:
    """The chunk of an entry as the index has it; None where it is not there any more."""
    own = {k: v for k, v in found.metadata.items() if k.startswith(_PLACE)}
    try:
        text = index.document(own[f"{_PLACE}document"]).text
    except (InputError, KeyError):
        return None
    start, _, end = own[f"{_PLACE}span"].partition("-")
    chunk = Chunk(
        id=found.id,
        document_id=own[f"{_PLACE}document"],
        text=text[int(start) : int(end)],
        start=int(start),
        end=int(end),
        heading=own[f"{_PLACE}heading"],
        language=own[f"{_PLACE}language"],
        metadata={k: v for k, v in found.metadata.items() if k not in own},
    )
    return Hit(chunk, found.score)
