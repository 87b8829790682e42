"""The engine gives by every method what the plain loop gives, all asked for at once."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from llmwright.core import SamplingParams
from llmwright.inference import Engine, Token
from llmwright.inference.decoding import generate
from llmwright.modeling import load_model

METHODS = [
    SamplingParams(),
    SamplingParams(min_tokens=5, stop_token_ids=tuple(range(3, 400, 9))),
    SamplingParams(temperature=1.0, seed=1, n=3),
    SamplingParams(temperature=1.3, seed=2, top_k=50, top_p=0.9, min_p=0.01, typical_p=0.95),
    SamplingParams(temperature=1.0, seed=3, n=2, best_of=4),
    SamplingParams(temperature=1.0, seed=4, repetition_penalty=1.5, frequency_penalty=1.0),
    SamplingParams(num_beams=4, n=3, length_penalty=0.5),
    SamplingParams(num_beams=4, num_beam_groups=2, diversity_penalty=2.0, n=4),
    SamplingParams(num_beams=3, repetition_penalty=3.0, logit_bias={7: 3.0}),
    SamplingParams(penalty_alpha=0.6, top_k=4),
    SamplingParams(json_schema='{"type": "array", "items": {"type": "boolean"}, "maxItems": 3}'),
    SamplingParams(regex="[0-9]{3,9}", temperature=1.0, seed=5, n=2),
    SamplingParams(regex="[a-c]{2,5}!", num_beams=3, n=2),
    SamplingParams(logprobs=2, ignore_eos=True),
]


def test_every_method_in_one_batch_equals_the_plain_loop(tiny_model_path: Path) -> None:
    model = load_model(str(tiny_model_path), "float32")
    methods = [replace(params, max_tokens=14) for params in METHODS]
    prompts = [model.tokenizer.encode(f"Prompt {i} of several.") for i in range(len(methods))]

    async def ask(engine: Engine, prompt: list[int], params: SamplingParams) -> list[Token]:
        async with aclosing(engine.stream_tokens(prompt, params)) as stream:
            return [token async for token in stream]

    async def ask_all(engine: Engine) -> list[list[Token]]:
        asked = zip(prompts, methods, strict=True)
        return await asyncio.gather(*(ask(engine, prompt, params) for prompt, params in asked))

    with Engine(model, cache_tokens=8192) as engine:
        found = asyncio.run(ask_all(engine))
    for prompt, params, tokens in zip(prompts, methods, found, strict=True):
        expected = generate(model.decoder, prompt, params, model.tokenizer)
        ours = [[t.id for t in tokens if t.answer == i] for i in range(params.n)]
        assert ours == [list(answer.token_ids) for answer in expected], params
        reasons = [t.finish_reason for t in tokens if t.finish_reason is not None]
        assert sorted(map(str, reasons)) == sorted(a.finish_reason for a in expected), params
