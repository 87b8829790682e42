"""Likelihoods equal transformers' on the same weights, in one piece and in windows."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from llmwright.core import CapacityError, ConfigurationError, InputError
from llmwright.inference import likelihood, perplexity, token_logprobs
from llmwright.inference.likelihood import windows

TEXTS = ["Retrieval finds passages.", "A longer text about adapters and ranks. " * 9, "x"]


@pytest.fixture(scope="module")
def reference(tiny_model_path):
    return AutoModelForCausalLM.from_pretrained(tiny_model_path, dtype=torch.float32).eval()


def reference_sum(model, ids):
    """Sum of log-probabilities by the model's own loss."""
    row = torch.tensor([ids])
    with torch.inference_mode():
        return -float(model(row, labels=row).loss) * (len(ids) - 1)


def test_token_logprobs_equal_transformers(tiny, reference, monkeypatch):
    monkeypatch.setattr(likelihood, "_CHUNK", 7)  # several chunks through the cache
    ids = tiny.tokenizer.encode(TEXTS[1])
    row = torch.tensor([ids])
    with torch.inference_mode():
        logits = reference(row).logits.log_softmax(-1)[0, :-1]
    expected = logits.gather(-1, row[0, 1:, None])[:, 0]
    torch.testing.assert_close(token_logprobs(tiny, ids), expected, atol=1e-4, rtol=1e-4)
    assert token_logprobs(tiny, ids[:1]).shape == (0,)
    for last in (0, 1, 6, 7, 8, len(ids) - 1, len(ids) + 5):
        part = token_logprobs(tiny, ids, last)
        torch.testing.assert_close(part, expected[len(expected) - min(last, len(expected)) :])


def test_perplexity_equals_transformers_loss(tiny, reference):
    result = perplexity(tiny, TEXTS)
    lists = [tiny.tokenizer.encode(text) for text in TEXTS]
    sums = [reference_sum(reference, ids) if len(ids) > 1 else 0.0 for ids in lists]
    assert result.counts == tuple(len(ids) - 1 for ids in lists)
    assert result.sums == pytest.approx(sums, rel=1e-4, abs=1e-4)
    assert result.value == pytest.approx(math.exp(-sum(sums) / sum(result.counts)), rel=1e-4)
    assert perplexity(tiny, lists) == result


def test_windows_give_each_token_the_context_they_promise(tiny, reference):
    ids = tiny.tokenizer.encode(TEXTS[1])[:26]
    result = perplexity(tiny, [ids], window=16, stride=6)
    total = 0.0
    for place in range(1, len(ids)):
        # Windows start at 0, 6, 12, ...; a token is scored by the first that reaches it.
        begin = max(0, math.ceil((place + 1 - 16) / 6)) * 6
        total += reference_sum(reference, ids[begin : place + 1]) - (
            reference_sum(reference, ids[begin:place]) if place - begin > 1 else 0.0
        )
    assert result.sums[0] == pytest.approx(total, rel=1e-3)
    assert result.tokens == 25


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 200), st.integers(2, 40), st.data())
def test_windows_score_every_token_once(length, window, data):
    stride = data.draw(st.integers(1, window - 1))
    scored = [place for b, e, new in windows(length, window, stride) for place in range(e - new, e)]
    assert scored == list(range(1, length))
    for begin, end, new in windows(length, window, stride):
        assert end - begin <= window
        assert not new or end - new > begin  # there is something to predict from


def test_windows_of_any_size_that_fits_and_half_of_it_as_the_stride_by_default(tiny):
    limit = tiny.config.max_position_embeddings
    ids = tiny.tokenizer.encode(TEXTS[1])[:26]
    whole = perplexity(tiny, [ids])
    assert perplexity(tiny, [ids], window=limit) == whole
    assert perplexity(tiny, [ids], window=16) == perplexity(tiny, [ids], window=16, stride=8)
    assert perplexity(tiny, [ids], window=16) != perplexity(tiny, [ids], window=16, stride=5)
    assert perplexity(tiny, [ids], window=2).tokens == whole.tokens


def test_bad_requests(tiny):
    limit = tiny.config.max_position_embeddings
    with pytest.raises(CapacityError, match=f"{limit + 1} tokens, and the model's context holds"):
        token_logprobs(tiny, [5] * (limit + 1))
    with pytest.raises(InputError, match="no token"):
        token_logprobs(tiny, [])
    with pytest.raises(InputError, match="nothing can be scored"):
        perplexity(tiny, ["", "x"])
    for window, stride in [(limit + 1, 5), (8, 8), (8, 0), (1, 1)]:
        with pytest.raises(ConfigurationError, match="cannot be read") as refused:
            perplexity(tiny, ["abc"], window=window, stride=stride)
        assert refused.value.where == tiny.source
