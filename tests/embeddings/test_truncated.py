"""Short vectors: against sentence-transformers, and what an index is told about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llmwright.core import ConfigurationError, Embedder
from llmwright.embeddings import TruncatedEmbedder, load_embedder, truncate


def test_cut_then_scaled() -> None:
    vectors = np.array([[0.6, 0.0, 0.8], [0.0, 0.0, 1.0]], np.float32)
    assert truncate(vectors, 2).tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert np.array_equal(truncate(vectors, 3), vectors)


def test_equals_sentence_transformers(minilm_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers", reason="an extra (llmwright[hub])")
    model = library.SentenceTransformer(str(minilm_path), device="cpu", truncate_dim=64)
    texts = ["How does LoRA save memory?", "Cats sleep all day."]
    theirs = model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    ours = load_embedder(minilm_path, dimension=64, precision="float32")
    assert isinstance(ours, Embedder)
    assert ours.dimension == 64
    np.testing.assert_allclose(ours.embed(texts), theirs, atol=1e-5)


def test_another_dimension_is_another_model(tiny_bert: Path) -> None:
    whole = load_embedder(tiny_bert)
    cut, shorter = TruncatedEmbedder(whole, 16), load_embedder(tiny_bert, dimension=8)
    assert len({e.fingerprint for e in (whole, cut, shorter)}) == 3
    assert cut.fingerprint == load_embedder(tiny_bert, dimension=16).fingerprint
    assert (cut.name, cut.languages) == (whole.name, whole.languages)
    query = cut.embed(["rank"], kind="query")
    np.testing.assert_allclose(query, truncate(whole.embed(["rank"], kind="query"), 16))


@pytest.mark.parametrize("dimension", [0, -1, 33])
def test_dimensions_there_are_not(tiny_bert: Path, dimension: int) -> None:
    with pytest.raises(ConfigurationError, match="cannot be cut"):
        load_embedder(tiny_bert, dimension=dimension)
