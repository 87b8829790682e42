"""BM25 against the formula in plain Python, and against bm25s's own indexing."""

from __future__ import annotations

import math
from collections import Counter
from hashlib import blake2b

import bm25s
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwright.retrieval import BM25
from llmwright.retrieval.lexical.terms import passage_terms, query_terms, term_hash

CORPUS = [
    ["the", "cat", "sat", "on", "the", "mat"],
    ["the", "dog", "chased", "the", "cat", "and", "the", "cat", "ran"],
    ["dogs", "and", "cats", "living", "together"],
    [],
    ["mat"],
]


def build(corpus: list[list[str]]) -> BM25:
    terms = [term_hash(term) for passage in corpus for term in passage]
    return BM25.build(np.array(terms, np.int64), np.array([len(p) for p in corpus], np.int64))


def ask(words: list[str]) -> dict[int, float]:
    return {term_hash(word): float(count) for word, count in Counter(words).items()}


def plain(corpus: list[list[str]], query: list[str], k1: float = 1.5, b: float = 0.75):
    mean = sum(map(len, corpus)) / len(corpus)
    df = Counter(term for passage in corpus for term in set(passage))
    scores = []
    for passage in corpus:
        tf, score = Counter(passage), 0.0
        for term in query:
            if tf[term]:
                idf = math.log(1 + (len(corpus) - df[term] + 0.5) / (df[term] + 0.5))
                norm = k1 * (1 - b + b * len(passage) / mean)
                score += idf * tf[term] / (tf[term] + norm)
        scores.append(score)
    return scores


@pytest.mark.parametrize("query", ["cat", "the cat cat", "mat dog unknown", "unknown", ""])
def test_equals_the_formula(query):
    words = query.split()
    scores = build(CORPUS).score(ask(words))
    np.testing.assert_allclose(scores, plain(CORPUS, words), rtol=1e-5)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abcdefg"), max_size=12), min_size=1, max_size=8),
    st.lists(st.sampled_from("abcdefgz"), max_size=6),
)
def test_equals_the_formula_on_any_corpus(corpus, query):
    if not any(corpus):
        corpus[0] = ["a"]
    scores = build(corpus).score(ask(query))
    np.testing.assert_allclose(scores, plain(corpus, query), rtol=1e-4, atol=1e-6)


def test_equals_bm25s():
    corpus = [passage for passage in CORPUS if passage]
    theirs = bm25s.BM25()
    theirs.index(corpus, show_progress=False)
    expected = theirs.get_scores(["cat", "mat", "dog"])
    scores = build(corpus).score(ask(["cat", "mat", "dog"]))
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_saved_and_loaded_it_scores_the_same(tmp_path):
    bm25 = build(CORPUS)
    bm25.save(tmp_path)
    query = ask(["cat", "mat"])
    np.testing.assert_array_equal(BM25.load(tmp_path).score(query), bm25.score(query))


def test_no_words_at_all():
    assert build([[], []]).score(ask(["a"])).tolist() == [0, 0]


def test_what_terms_give_to_a_passage():
    bm25 = build(CORPUS)
    for row, passage in enumerate(CORPUS):
        gives = bm25.passage(row)
        assert gives.keys() == {term_hash(term) for term in passage}
        for term in set(passage):
            assert gives[term_hash(term)] == bm25.score(ask([term]))[row]


def test_hashes_are_the_same_on_every_machine():
    assert (
        term_hash("lora") == int.from_bytes(blake2b(b"lora", digest_size=8).digest(), "little") // 2
    )
    assert len({term_hash(f"term{i}") for i in range(100_000)}) == 100_000
    assert term_hash("lora", fragment=True) == -1 - term_hash("lora")


def test_a_word_weighs_one_by_its_stem_and_one_by_its_fragments():
    weights = query_terms("models", ["en"])
    assert weights.pop(term_hash("model")) == 1
    grams = [" mod", "mode", "odel", "dels", "els "]
    assert weights == {term_hash(gram, fragment=True): 1 / 5 for gram in grams}
    assert set(query_terms("model 2017 cat 机器", ["en"]).values()) == {1.0, 0.25}
    assert query_terms("cat cat", ["en"]) == {term_hash("cat"): 2.0}
    assert {*query_terms("models", ["en"])} == {*passage_terms("models", "en").tolist()}
    assert query_terms("running", ["en", "ru", "de"])[term_hash("run")] == 1


def test_equals_bm25s_on_a_larger_corpus():
    """Its method lucene, word counts up to 30, passages of very different lengths."""
    rng = np.random.default_rng(5)
    corpus = [
        [f"w{int(n)}" for n in rng.zipf(1.4, rng.integers(1, 300)) if n < 500] or ["w1"]
        for _ in range(400)
    ]
    theirs = bm25s.BM25(method="lucene", k1=1.2, b=0.6)
    theirs.index(corpus, show_progress=False)
    terms = np.array([term_hash(term) for passage in corpus for term in passage], np.int64)
    ours = BM25.build(terms, np.array([len(passage) for passage in corpus]), k1=1.2, b=0.6)
    for _ in range(10):
        query = list({f"w{int(n)}" for n in rng.zipf(1.4, 8) if n < 500})
        expected = theirs.get_scores([word for word in query if word in theirs.vocab_dict])
        np.testing.assert_allclose(ours.score(ask(query)), expected, rtol=1e-5, atol=1e-6)
