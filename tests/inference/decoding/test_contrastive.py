"""Contrastive search against a slow reading of the paper, and greedy at alpha 0."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from llmwright.core import SamplingParams
from llmwright.inference.decoding import ContrastiveSearch, SamplingState, generate, run_search
from llmwright.modeling import Decoder


def search(k: int, alpha: float, count: int, ends: tuple[int, ...] = ()) -> ContrastiveSearch:
    params = SamplingParams(top_k=k, penalty_alpha=alpha)
    return ContrastiveSearch(SamplingState(params, ends=ends), count)


def slow_reference(
    decoder: Decoder, prompt: list[int], k: int, alpha: float, ends: tuple[int, ...], count: int
) -> list[int]:
    """Every candidate read afresh with the whole text before it."""
    text: list[int] = []
    while len(text) < count:
        so_far = [*prompt, *text]
        hidden = decoder.model(torch.tensor([so_far]))[0]
        p = decoder.lm_head(hidden[-1]).softmax(-1)
        best: tuple[float, int] | None = None
        for token in p.topk(k).indices.tolist():
            last = decoder.model(torch.tensor([[*so_far, token]]))[0, -1]
            likeness = max(float(F.cosine_similarity(last, h, dim=0)) for h in hidden)
            score = (1 - alpha) * float(p[token]) - alpha * likeness
            if best is None or score > best[0]:
                best = (score, token)
        assert best is not None
        text.append(best[1])
        if best[1] in ends:
            break
    return text


@pytest.mark.parametrize("alpha", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("ends", [(), tuple(range(0, 97, 4))])
@torch.inference_mode()
def test_equal_to_the_slow_reference(decoder, alpha, ends):
    prompt = [11, 3, 50, 3]
    (answer,) = run_search(decoder, prompt, search(4, alpha, 10, ends))
    assert list(answer.token_ids) == slow_reference(decoder, prompt, 4, alpha, ends, 10)
    assert answer.finish_reason == ("stop" if answer.token_ids[-1] in ends else "length")


def test_without_the_penalty_it_is_greedy(decoder):
    (answer,) = run_search(decoder, [1, 2], search(4, 0.0, 12))
    (greedy,) = generate(decoder, [1, 2], SamplingParams(max_tokens=12))
    assert answer.token_ids == greedy.token_ids
    assert answer.logprobs == pytest.approx(greedy.logprobs, abs=1e-4)


def test_it_counts_what_it_said_in_the_penalties(decoder):
    params = SamplingParams(max_tokens=12, top_k=4, penalty_alpha=0.2, repetition_penalty=100.0)
    (answer,) = generate(decoder, [1, 2], params)
    assert len(set(answer.token_ids)) == 12
    with pytest.raises(ValueError, match="prompt"):
        search(2, 0.5, 3).advance(torch.zeros(1, 9))
    started = search(2, 0.5, 3)
    started.start(torch.ones(1, 4))
    with pytest.raises(ValueError, match="hidden states"):
        started.advance(torch.zeros(1, 9))


def test_the_score_is_the_mean_of_what_tokens_were_chosen_by():
    """By hand: of two candidates of p 0.6 and 0.4 the first is as the prompt, the second unlike."""
    one = search(2, 0.5, 1)
    (nothing,) = one.results()
    assert (nothing.token_ids, nothing.score) == ((), 0.0)
    one.start(torch.tensor([[1.0, 0.0]]))
    logits = torch.tensor([[0.6, 0.4]]).log()
    hidden = torch.tensor([[1.0, 0.0]])
    assert [branch.token for branch in one.advance(logits, hidden)] == [0, 1]
    assert one.advance(logits.expand(2, -1), torch.tensor([[3.0, 0.0], [0.0, 2.0]])) == []
    (answer,) = one.results()
    assert answer.token_ids == (1,)
    assert answer.logprobs == pytest.approx([math.log(0.4)])
    assert answer.score == pytest.approx(0.5 * 0.4 - 0.5 * 0.0)
    assert answer.finish_reason == "length"
