"""A draft model opened from a loaded model: how much it holds, and what does not fit."""

from __future__ import annotations

import pytest
import torch

from llmwright.core import CapacityError
from llmwright.inference.speculation import Ask, draft_model
from llmwright.modeling import load_model


@pytest.fixture(scope="module")
def model(tiny_model_path):
    return load_model(str(tiny_model_path), "float32")


def greedy(model, tokens, count):
    """By whole passes."""
    with torch.inference_mode():
        for _ in range(count):
            logits = model.decoder(torch.tensor([tokens]))[0, -1]
            tokens = [*tokens, int(logits.argmax())]
    return tuple(tokens[-count:])


def test_it_drafts_what_the_model_would_say(model):
    proposer = draft_model(model, cache_tokens=64, runner="torch")
    (draft,) = proposer.propose([Ask(1, [5, 6, 7], 4)])
    assert draft.tokens == greedy(model, [5, 6, 7], 4)
    assert draft.probabilities is None


def test_it_holds_the_tokens_asked_for_and_no_more(model):
    proposer = draft_model(model, cache_tokens=64, runner="torch")
    # The last draft is never read: 61 tokens and 4 drafts take 64 places, 62 and 4 take 65.
    full, beyond = (proposer.propose([Ask(1, [5] * n, 4)])[0] for n in (61, 62))
    assert (len(full.tokens), len(beyond.tokens)) == (4, 0)


def test_drafts_end_with_the_context_of_the_draft_model(model):
    limit = model.config.max_position_embeddings
    proposer = draft_model(model, cache_tokens=2 * limit, runner="torch")
    asks = [Ask(n, [5] * (limit - n), 4) for n in (0, 1, 5)]
    assert [len(draft.tokens) for draft in proposer.propose(asks)] == [0, 1, 4]


def test_a_cache_that_does_not_fit_is_refused(model):
    with pytest.raises(CapacityError, match="cache"):
        draft_model(model, cache_tokens=10**12)
