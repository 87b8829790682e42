"""The cache by content: equal bits, no other model's vectors, threads, processes, broken files."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwright.core import ConfigurationError, Embedder, InputError
from llmwright.embeddings import CachedEmbedder


class Counting:
    """Vectors that no second call gives again; keeps what it was asked."""

    name, dimension, languages = "counting", 3, None

    def __init__(self, fingerprint: str = "f") -> None:
        self.fingerprint = fingerprint
        self.asked: list[tuple[str, str]] = []

    def embed(self, texts: Sequence[str], *, kind: str = "document") -> np.ndarray:
        self.asked += [(kind, text) for text in texts]
        vectors = np.random.default_rng(len(self.asked)).standard_normal((len(texts), 3))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_a_hit_has_the_bits_of_the_first_time(tmp_path: Path) -> None:
    inner = Counting()
    cache = CachedEmbedder(inner, tmp_path / "deep" / "cache.sqlite")
    assert isinstance(cache, Embedder)
    texts = ["a", "b", "a", "", "half of a pair \ud83d"]
    first = cache.embed(texts)
    assert np.array_equal(first[0], first[2])
    assert inner.asked == [("document", t) for t in ("a", "b", "", "half of a pair \ud83d")]
    again = CachedEmbedder(inner, tmp_path / "deep" / "cache.sqlite")
    assert again.embed(texts[::-1]).tobytes() == first[::-1].tobytes()
    assert len(inner.asked) == 4
    assert cache.embed([]).shape == (0, 3)
    assert (cache.name, cache.dimension, cache.fingerprint) == ("counting", 3, "f")


def test_another_kind_or_model_never_hits(tmp_path: Path) -> None:
    one, other = Counting("one"), Counting("other")
    first, second = (CachedEmbedder(e, tmp_path / "c") for e in (one, other))
    a = first.embed(["text"])
    second.embed(["x", "text"])
    first.embed(["text"], kind="query")
    assert one.asked == [("document", "text"), ("query", "text")]
    assert other.asked == [("document", "x"), ("document", "text")]
    assert np.array_equal(first.embed(["text"]), a)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.text(max_size=2), max_size=9), max_size=5))
def test_every_text_is_embedded_once(
    tmp_path_factory: pytest.TempPathFactory, calls: list[list[str]]
) -> None:
    inner = Counting()
    cache = CachedEmbedder(inner, tmp_path_factory.mktemp("c") / "cache")
    known: dict[str, bytes] = {}
    for texts in calls:
        for text, vector in zip(texts, cache.embed(texts), strict=True):
            assert known.setdefault(text, vector.tobytes()) == vector.tobytes()
    assert sorted(text for _, text in inner.asked) == sorted(known)
    cache.close()


def test_more_texts_than_one_question_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmwright.embeddings import cached

    monkeypatch.setattr(cached, "_AT_ONCE", 7)
    monkeypatch.setattr(cached, "_EMBEDDED_AT_ONCE", 10)
    cache = CachedEmbedder(Counting(), tmp_path / "c")
    texts = [str(i) for i in range(33)]
    assert cache.embed(texts).tobytes() == cache.embed(texts).tobytes()


def test_threads(tmp_path: Path) -> None:
    cache = CachedEmbedder(Counting(), tmp_path / "c")
    texts = [[str(i * j) for i in range(20)] for j in range(4)]
    threads = [threading.Thread(target=cache.embed, args=(part,)) for part in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    flat = [text for part in texts for text in part]
    assert cache.embed(flat).tobytes() == cache.embed(flat).tobytes()


PROCESS = """
import sys
sys.path.insert(0, sys.argv[2])
from test_cached import Counting
from llmwright.embeddings import CachedEmbedder
cache = CachedEmbedder(Counting(), sys.argv[1])
for i in range(int(sys.argv[3]), 60):
    cache.embed([str(i)])
"""


def test_processes_share_one_file(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROCESS, str(tmp_path / "c"), str(Path(__file__).parent)]
    others = [subprocess.Popen([*command, start]) for start in ("0", "30")]
    assert [other.wait(timeout=60) for other in others] == [0, 0]
    inner = Counting()
    CachedEmbedder(inner, tmp_path / "c").embed([str(i) for i in range(61)])
    assert inner.asked == [("document", "60")]


def test_what_cannot_be_a_cache(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("This is no database, but a text of some length. " * 40)
    with pytest.raises(InputError, match="cannot be used as a cache of vectors"):
        CachedEmbedder(Counting(), tmp_path / "text")
    with pytest.raises(InputError, match="cannot be used as a cache of vectors"):
        CachedEmbedder(Counting(), tmp_path / "text" / "below")
    with pytest.raises(ConfigurationError, match="no fingerprint"):
        CachedEmbedder(Counting(""), tmp_path / "c")
