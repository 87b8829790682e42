"""Ways to cut documents, compared on questions whose answering passages are known.

Larger chunks find more at equal numbers of hits, for five of them are more text; so each way is
measured twice:

* at equal hits: recall, precision and nDCG of the first ``top`` (``retrieval.py``), and how many
  tokens of context they cost;
* at equal tokens: hits are taken until ``tokens`` are full, the last one cut to fit. Recall of what
  is then in the prompt, and ``covered``, the share of the gold spans' characters that is in it
  (token-wise recall: Smith and Troynikov, "Evaluating Chunking Strategies for Retrieval", 2024).

The second is the fair one: tokens are what a prompt has room for. Gold labels are spans of
characters, so one set of questions measures every way of cutting. Differences to the first way are
paired by question.

Cost: an index for each way, of which embedding is nearly all; with a ``CachedEmbedder`` a text
that two ways have in common is embedded once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llmwright.core import (
    Chunk,
    ConfigurationError,
    Document,
    Embedder,
    Hit,
    InputError,
    Score,
    Search,
    SearchMode,
    progress,
)
from llmwright.data import Question
from llmwright.evaluation.retrieval import Span, evaluate_retrieval
from llmwright.retrieval import (
    ChunkSettings,
    Index,
    SearchSettings,
    approximate_tokens,
    chunk_document,
    make_search,
)
from llmwright.retrieval.chunking import lift
from llmwright.statistics import mean_score, paired_bootstrap

_UPSERT = 256  # documents committed at a time


@dataclass(frozen=True, slots=True)
class ChunkingRow:
    """One way to cut: how many chunks it made, its figures by name, and by how much they differ
    from those of the first way. ``values`` holds each question's, in order."""

    settings: ChunkSettings
    chunks: int
    mean_tokens: float
    scores: dict[str, Score]
    differences: dict[str, Score]
    values: dict[str, list[float | None]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ChunkingReport:
    """All ways, in the order they were asked for, at ``top`` hits and at ``tokens`` tokens."""

    rows: tuple[ChunkingRow, ...]
    top: int
    tokens: int

    @property
    def recall_at_top(self) -> str:
        """Name of the figure."""
        return f"recall@{self.top}"

    @property
    def recall_in_tokens(self) -> str:
        """Name of the figure."""
        return f"recall in {self.tokens}"


def compare_chunkings(
    documents: Sequence[Document],
    questions: Sequence[Question],
    ways: Sequence[ChunkSettings],
    embedder: Embedder,
    folder: Path,
    *,
    top: int = 5,
    tokens: int = 1500,
    mode: SearchMode = "hybrid",
    spans: Callable[[str], Span] | None = None,
    seed: int = 0,
) -> ChunkingReport:
    """Index ``documents`` in each of the ``ways`` below ``folder``, and ask all ``questions``.

    Every question counts; keep those that shall judge the choice out of them. ``spans`` resolves
    gold labels; without it they are documents, sections (``"a.md#rank"``) or spans
    (``"a.md:120-240"``). Raises ``ConfigurationError`` where nothing is compared or asked.
    """
    for name, given in (("ways to cut", ways), ("questions", questions), ("documents", documents)):
        if not given:
            raise ConfigurationError(f"no {name} are given", where="chunk comparison")
    if top < 1 or tokens < 1:
        raise ConfigurationError(
            f"top is {top} and tokens {tokens}", where="chunk comparison", fix="give 1 or more"
        )
    found_spans = spans or span_of({document.id: document for document in documents})
    rows: list[ChunkingRow] = []
    with progress("comparing chunks", total=len(ways), unit="ways") as advance:
        for number, way in enumerate(ways):
            index = Index.create(folder / f"{number:02}", embedder, chunking=way)
            for start in range(0, len(documents), _UPSERT):
                index.upsert(documents[start : start + _UPSERT])
            search = make_search(index, SearchSettings(mode=mode))
            hits = [_enough(search, q.question, top, tokens) for q in questions]
            values = _values(questions, hits, found_spans, top, tokens, seed)
            base = rows[0].values if rows else values
            sizes = [approximate_tokens(text) for text in _given(index, documents)]
            rows.append(
                ChunkingRow(
                    way,
                    len(sizes),
                    sum(sizes) / max(1, len(sizes)),
                    {name: mean_score(name, column, seed) for name, column in values.items()},
                    {
                        name: replace(paired_bootstrap(base[name], column, seed), name=name)
                        for name, column in values.items()
                    },
                    values,
                )
            )
            advance(1, way.label)
    return ChunkingReport(tuple(rows), top, tokens)


def span_of(documents: Mapping[str, Document]) -> Callable[[str], Span]:
    """What a gold label names: a document, one of its sections, or a span of it."""

    def find(label: str) -> Span:
        if label in documents:
            return label, 0, len(documents[label].text)
        identity, colon, place = label.rpartition(":")
        start, dash, end = place.partition("-")
        if colon and identity in documents and start.isdecimal() and dash and end.isdecimal():
            return identity, int(start), int(end)
        identity, _, anchor = label.partition("#")
        document = documents.get(identity)
        for section in document.sections if document else ():
            if section.anchor == anchor:
                return identity, section.start, section.end
        known = [s.anchor for s in document.sections] if document else list(documents)
        raise InputError(
            "there is no such section" if document else "no document of that id is compared",
            where=f"relevant {label!r}",
            fix=f"known: {', '.join(known[:8])}{', ...' if len(known) > 8 else ''}",
        )

    return find


def within_tokens(hits: Sequence[Hit], tokens: int) -> list[Hit]:
    """The first hits that fill ``tokens`` tokens, the last of them cut to fit; text that stands
    in two of them is paid for twice, as in a prompt."""
    kept: list[Hit] = []
    room = tokens
    for hit in hits:
        size = approximate_tokens(hit.chunk.text)
        if size > room:
            if room and (cut := _first_tokens(hit.chunk, room)):
                kept.append(replace(hit, chunk=cut))
            break
        kept.append(hit)
        room -= size
    return kept


def _first_tokens(chunk: Chunk, tokens: int) -> Chunk | None:
    pieces = chunk_document(Document(chunk.document_id, chunk.text), ChunkSettings("fixed", tokens))
    if not pieces:
        return None
    end = pieces[0].end
    return replace(chunk, text=chunk.text[:end], end=chunk.start + end)


def _enough(search: Search, question: str, top: int, tokens: int) -> list[Hit]:
    """At least ``top`` hits that fill ``tokens`` tokens, or all there are."""
    depth = max(top, 10)
    while True:
        hits = list(search(question, depth))
        filled = sum(approximate_tokens(hit.chunk.text) for hit in hits)
        if filled >= tokens or len(hits) < depth:
            return hits
        depth *= 2


def _values(
    questions: Sequence[Question],
    hits: Sequence[Sequence[Hit]],
    spans: Callable[[str], Span],
    top: int,
    tokens: int,
    seed: int,
) -> dict[str, list[float | None]]:
    """Figures of each question, by name."""
    fitting = [within_tokens(found, tokens) for found in hits]
    most = max(1, *(len(found) for found in fitting))
    at_hits = _metrics(questions, hits, spans, (1, top), seed)
    at_tokens = _metrics(questions, fitting, spans, (most,), seed)
    names = [f"recall@{k}" for k in sorted({1, top})] + [f"precision@{top}", f"ndcg@{top}"]
    values: dict[str, list[float | None]] = {n: [m[n] for m in at_hits] for n in names}
    values[f"tokens@{top}"] = [
        float(sum(approximate_tokens(hit.chunk.text) for hit in found[:top])) for found in hits
    ]
    values[f"recall in {tokens}"] = [m[f"recall@{most}"] for m in at_tokens]
    values[f"covered in {tokens}"] = [
        _covered(found, [spans(label) for label in dict.fromkeys(question.relevant)])
        for question, found in zip(questions, fitting, strict=True)
    ]
    return values


def _metrics(
    questions: Sequence[Question],
    hits: Sequence[Sequence[Hit]],
    spans: Callable[[str], Span],
    ks: Sequence[int],
    seed: int,
) -> list[dict[str, Any]]:
    stored = iter(hits)
    report = evaluate_retrieval(lambda *_: next(stored), questions, spans, ks=ks, seed=seed)
    return [record["metrics"] for record in report.records]


def _covered(hits: Sequence[Hit], gold: Sequence[Span]) -> float | None:
    """Share of the gold spans' characters that stand in the hits; None without gold."""
    wanted = _merged(gold)
    held = _merged([(h.chunk.document_id, h.chunk.start, h.chunk.end) for h in hits])
    shared = sum(
        max(0, min(end, stop) - max(start, begin))
        for document, start, end in wanted
        for other, begin, stop in held
        if other == document
    )
    length = sum(end - start for _, start, end in wanted)
    return shared / length if length else None


def _merged(spans: Sequence[Span]) -> list[Span]:
    """The same characters in spans that do not overlap."""
    merged: list[Span] = []
    for document, start, end in sorted(spans):
        if merged and merged[-1][0] == document and start <= merged[-1][2]:
            merged[-1] = document, merged[-1][1], max(end, merged[-1][2])
        else:
            merged.append((document, start, end))
    return merged


def _given(index: Index, documents: Sequence[Document]) -> Iterator[str]:
    """Texts of the chunks that a search gives: of children, the parents."""
    texts = {document.id: document.text for document in documents}
    for hit in lift([Hit(chunk, 0.0) for chunk in index.chunks()], texts.__getitem__):
        yield hit.chunk.text
