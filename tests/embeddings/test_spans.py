"""Late chunking: token vectors of the whole text, pooled by span."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwright.core import ConfigurationError
from llmwright.embeddings import BertEmbedder
from llmwright.embeddings.spans import windows

TEXT = (
    "Berlin is the capital of Germany. It has more than three million people. The city lies on "
    "the river Spree. Its first written mention was in the thirteenth century, and it grew."
)


@pytest.fixture(scope="module")
def embedder(tiny_bert):
    return BertEmbedder.load(
        tiny_bert, name="tiny", fingerprint="f", languages=None, precision="float32"
    )


@given(st.integers(0, 300), st.integers(2, 60), st.data())
def test_windows_take_every_token_once_and_never_at_an_inner_edge(tokens, size, data):
    overlap = data.draw(st.integers(0, size - 1))
    plan = windows(tokens, size, overlap)
    assert [i for w in plan for i in range(w.first, w.last)] == list(range(tokens))
    for window in plan:
        assert 0 <= window.start <= window.first <= window.last <= window.end <= tokens
        assert window.end - window.start <= size
        if window.start:
            assert window.first - window.start >= overlap // 2
        if window.end < tokens:
            assert window.end - window.last >= (overlap // 2 if overlap else 0)


def reference(tiny_bert, text, spans):
    """Transformers' own model and tokenizer over the whole text, in one window."""
    import torch
    from tokenizers import Tokenizer
    from transformers import BertModel

    tokenizer = Tokenizer.from_file(str(tiny_bert / "tokenizer.json"))
    found = tokenizer.encode(text)
    model = BertModel.from_pretrained(tiny_bert, add_pooling_layer=False).eval()
    with torch.inference_mode():
        hidden = model(torch.tensor([found.ids])).last_hidden_state[0].numpy()
    vectors = []
    for number, (start, end) in enumerate(spans):
        rows = [
            i
            for i, (a, b) in enumerate(found.offsets)
            if (a < end and b > start and b > a)
            or (i == 0 and number == 0)
            or (i == len(found.ids) - 1 and number == len(spans) - 1)
        ]
        mean = hidden[rows].mean(0)
        vectors.append(mean / np.linalg.norm(mean))
    return np.array(vectors)


def test_spans_of_a_short_text_are_means_of_its_token_vectors(embedder, tiny_bert):
    text = TEXT[:90]
    spans = [(0, 33), (34, 72), (60, 90)]
    found = embedder.embed_spans(text, spans)
    np.testing.assert_allclose(found, reference(tiny_bert, text, spans), atol=1e-5)


def test_one_span_that_is_the_whole_text_is_its_ordinary_embedding(embedder):
    text = TEXT[:60]
    np.testing.assert_allclose(
        embedder.embed_spans(text, [(0, len(text))]), embedder.embed([text]), atol=1e-5
    )


def test_a_long_text_is_read_in_windows_and_each_token_in_its_own(embedder, monkeypatch):
    """Each span is the mean over the tokens of what the window that takes it says of them."""
    text = " ".join([TEXT] * 4)
    spans = [(i, min(i + 120, len(text))) for i in range(0, len(text), 100)]
    found = embedder.embed_spans(text, spans, window=40, overlap=16)
    assert found.shape == (len(spans), embedder.dimension)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
    ids, places = embedder._tokenize(text)
    marks = embedder._whole.encode("").ids
    taken = {}
    plan = windows(len(ids), 38, 16)
    for number, window in enumerate(plan):
        inside = [marks[0], *ids[window.start : window.end], marks[1]]
        (vectors,) = embedder._encode_windows([inside])
        for i in range(window.first, window.last):
            taken[i] = vectors[1 + i - window.start]
        if number == 0:
            first = vectors[0]
        last = vectors[-1]
    for number, (start, end) in enumerate(spans):
        rows = [taken[i] for i, (a, b) in enumerate(places) if a < end and b > start]
        rows += [first] * (number == 0) + [last] * (number == len(spans) - 1)
        mean = np.mean(rows, 0)
        np.testing.assert_allclose(found[number], mean / np.linalg.norm(mean), atol=1e-5)


def test_blocks_of_a_very_long_text_are_read_one_after_another(embedder, monkeypatch):
    from llmwright.embeddings import spans as late

    text = " ".join([TEXT] * 6)
    parts = [(i, min(i + 50, len(text))) for i in range(0, len(text), 50)]
    monkeypatch.setattr(late, "_AT_ONCE", 300)
    found = embedder.embed_spans(text, parts)
    alone = [
        embedder.embed_spans(text[i : i + 300], [(a, a + 50) for a in range(0, 300, 50)])
        for i in (0, 300)
    ]
    np.testing.assert_allclose(found[:12], np.concatenate(alone), atol=1e-5)


def test_a_span_without_a_token_and_no_spans_at_all(embedder):
    text = "One two. \u200b\u200b Three."
    found = embedder.embed_spans(text, [(0, 8), (9, 11), (12, len(text))])
    np.testing.assert_allclose(found[1], embedder.embed(["\u200b\u200b"])[0], atol=1e-6)
    assert embedder.embed_spans(text, []).shape == (0, embedder.dimension)


def test_context_stands_in_front_and_is_not_pooled(embedder):
    text, spans = TEXT[:70], [(0, 33), (34, 70)]
    plain, led = embedder.embed_spans(text, spans), embedder.embed_spans(text, spans, context="Ice")
    assert np.abs(plain - led).max() > 1e-3


def test_a_model_that_pools_the_first_mark_is_refused(embedder, monkeypatch):
    monkeypatch.setattr(embedder, "_pooling", "cls")
    with pytest.raises(ConfigurationError, match=r"only that of \[CLS\]; choose another way"):
        embedder.embed_spans("a", [(0, 1)])
