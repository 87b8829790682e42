"""Diverse beams against a slow reading of the paper, and against plain beams."""

from __future__ import annotations

import pytest
import torch

from llmwright.core import SamplingParams
from llmwright.inference.decoding import (
    BeamSearch,
    DiverseBeamSearch,
    SamplingState,
    generate,
    run_search,
    search_for,
)
from llmwright.modeling import Decoder


def slow_reference(
    decoder: Decoder, prompt: list[int], size: int, groups: int, strength: float, steps: int
) -> list[list[tuple[tuple[int, ...], float]]]:
    """Every group's texts with their log-probabilities, nothing ending; all texts read afresh."""
    beams: list[list[tuple[tuple[int, ...], float]]] = [[((), 0.0)] for _ in range(groups)]
    for _ in range(steps):
        said: list[int] = []
        for g in range(groups):
            found = []
            for text, score in beams[g]:
                logp = decoder(torch.tensor([[*prompt, *text]]))[0, -1].log_softmax(-1).tolist()
                for token, value in enumerate(logp):
                    total = score + value
                    found.append((total - strength * said.count(token), total, (*text, token)))
            found.sort(key=lambda entry: -entry[0])
            beams[g] = [(text, total) for _, total, text in found[:size]]
            said += [text[-1] for text, _ in beams[g]]
    return beams


@pytest.mark.parametrize("strength", [1e-9, 0.5, 3.0])
@torch.inference_mode()
def test_equal_to_the_slow_reference(decoder, strength):
    prompt, steps = [7, 1, 30], 5
    expected = slow_reference(decoder, prompt, 2, 3, strength, steps)
    params = SamplingParams(num_beams=6, num_beam_groups=3, diversity_penalty=strength)
    search = search_for(SamplingState(params), steps)
    assert isinstance(search, DiverseBeamSearch)
    assert search.width == 6
    ours = {a.token_ids: a.score * steps for a in run_search(decoder, prompt, search)}
    texts = {text: score for group in expected for text, score in group}
    assert set(ours) == set(texts)
    for text, score in texts.items():
        assert ours[text] == pytest.approx(score, abs=1e-3)


def test_one_group_is_beam_search_and_the_first_group_always(decoder):
    prompt = [9, 9, 4]

    def answers(kind, **given):
        state = SamplingState(SamplingParams(**given), ends=[3, 11, 40, 41, 42, 60])
        return run_search(decoder, prompt, kind(state, 10))

    assert answers(DiverseBeamSearch, num_beams=4) == answers(BeamSearch, num_beams=4)
    small = answers(BeamSearch, num_beams=2)
    many = answers(DiverseBeamSearch, num_beams=6, num_beam_groups=3, diversity_penalty=2.0)
    found = [answer.token_ids for answer in many]
    assert all(answer.token_ids in found for answer in small)


def test_groups_begin_differently_when_the_penalty_is_strong(decoder):
    params = SamplingParams(
        max_tokens=6, num_beams=4, num_beam_groups=4, diversity_penalty=100.0, n=4
    )
    answers = generate(decoder, [2, 2], params)
    for place in range(6):
        assert len({answer.token_ids[place] for answer in answers}) == 4
