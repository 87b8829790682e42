"""Perplexity by position and needles, against whole passes without a cache."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmwright.core import ContextLengthError, InputError
from llmwright.inference import find_needles, hide, logprobs_at, make_needles, token_logprobs
from llmwright.modeling import DynamicScaling, extend_context, load_model

TEXT = "The cat sat on the mat. It was warm there, and it slept. Rain fell on the roof. " * 60


@pytest.fixture(scope="module")
def tiny(tiny_model_path):
    return load_model(tiny_model_path, "float32")


@pytest.fixture(scope="module")
def growing(tiny):
    """Under a scaling that looks at the length of the text."""
    return extend_context(tiny, DynamicScaling(2.0, 200), 4096)


@pytest.fixture(params=["plain", "growing"])
def model(request, tiny, growing):
    return tiny if request.param == "plain" else growing


def test_logprobs_at_places_are_those_of_the_whole_text(model):
    ids = model.tokenizer.encode(TEXT)[:700]
    every = token_logprobs(model, ids)
    places = [1, 2, 50, 513, 699]
    result = logprobs_at(model, ids, places)
    expected = [float(every[place - 1]) for place in places]
    assert result == pytest.approx(expected, abs=1e-4)


def test_each_layer_is_told_of(tiny):
    layers: list[int] = []
    logprobs_at(tiny, tiny.tokenizer.encode(TEXT)[:20], [5], layers.append)
    assert layers == [0, 1]


def test_more_tokens_than_the_context_are_refused(tiny):
    short = extend_context(tiny, None, 100)
    with pytest.raises(ContextLengthError, match="holds 100"):
        logprobs_at(short, [5] * 101, [5])
    needles = make_needles([0.5], 0)
    with pytest.raises(ContextLengthError, match="holds 100"):
        find_needles(short, [5] * 60, needles)  # no room for the question


@given(st.integers(1, 20), st.integers(0, 50))
def test_needles_are_drawn_by_their_seed(count, seed):
    depths = [n / count for n in range(count)]
    needles = make_needles(depths, seed)
    assert needles == make_needles(depths, seed)
    assert len({needle.name for needle in needles}) == count
    assert len({needle.number for needle in needles}) == count
    assert [needle.depth for needle in needles] == depths
    assert all(len(needle.number) == 5 for needle in needles)


def test_too_many_needles():
    for count in (0, 21):
        with pytest.raises(InputError, match=f"{count} needles; hide 1 to 20"):
            make_needles([0.5] * count, 0)


def test_needles_lie_at_their_depths_behind_sentences(tiny):
    hay = tiny.tokenizer.encode(TEXT)
    depths = [1.0, 0.0, 0.5, 0.25]
    needles = make_needles(depths, 3)
    ids = hide(tiny.tokenizer, hay, needles, 1000)
    text = tiny.tokenizer.decode(ids)
    assert len(ids) == 1000 - 64  # the rest is room for a question and its answer
    for needle in needles:
        before, _, _ = text.partition(needle.sentence)
        assert before == "" or before.endswith(".") or needle.depth == 1.0
        assert len(before) / len(text) == pytest.approx(needle.depth, abs=0.1)
        text_without = text.replace(needle.sentence, "")
        assert len(text_without) == len(text) - len(needle.sentence)  # once
    ordered = sorted(needles, key=lambda needle: needle.depth)
    places = [text.index(needle.sentence) for needle in ordered]
    assert all(a < b for a, b in pairwise(places))


def test_too_little_hay(tiny):
    (needle,) = make_needles([0.5], 0)
    taken = 64 + len(tiny.tokenizer.encode(needle.sentence))
    with pytest.raises(
        InputError, match=r"^texts: 1 needles, .* there are 10 tokens of text; give"
    ):
        hide(tiny.tokenizer, [5] * 10, [needle], taken + 11)
    assert len(hide(tiny.tokenizer, [5] * 10, [needle], taken + 10)) == taken + 10 - 64
    assert len(hide(tiny.tokenizer, [5] * 10, [needle], taken + 1)) == taken + 1 - 64
    with pytest.raises(InputError, match=f"do not make {taken} tokens"):
        hide(tiny.tokenizer, [5] * 10, [needle], taken)


@torch.inference_mode()
def test_ranks_and_answers_are_those_of_whole_passes(model):
    needles = make_needles([0.0, 0.3, 0.6, 1.0], 7)
    encode = model.tokenizer.encode
    ids = hide(model.tokenizer, encode(TEXT), needles, 500)
    planned = torch.tensor([[500]])
    for needle, found in zip(needles, find_needles(model, ids, needles), strict=True):
        prompt = ids + encode(needle.question)
        scores = {}
        for other in needles:
            number = encode(f" {other.number}")
            whole = torch.tensor([prompt + number])
            table = model.decoder(whole, lengths=planned)[0].log_softmax(-1)
            places = range(len(prompt) - 1, len(prompt) + len(number) - 1)
            scores[other.number] = math.fsum(
                float(table[place, token]) for place, token in zip(places, number, strict=True)
            )
        best = sorted(scores, key=lambda number: -scores[number])
        assert found.rank == best.index(needle.number) + 1
        assert found.choices == 4
        written = list(prompt)
        for _ in encode(f" {needle.number}"):
            logits = model.decoder(torch.tensor([written]), lengths=planned)[0, -1]
            written.append(int(logits.argmax()))
        assert found.written == model.tokenizer.decode(written[len(prompt) :])
        assert found.needle is needle
