"""Prompts for an engine, and what comes back."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace


def prompt_of(number, length=None):
    """Different for each number."""
    length = 3 + number % 17 if length is None else length
    return [3 + (number * 31 + place * 7) % 390 for place in range(length)]


async def collect(engine, prompt, params):
    async with aclosing(engine.stream_tokens(prompt, params)) as tokens:
        return [token async for token in tokens]


def without_eos(model):
    """The same model, which never ends by itself."""
    return replace(model, tokenizer=Endless(model.tokenizer))


class Endless:
    """A tokenizer without an end token."""

    def __init__(self, tokenizer):
        self.__dict__.update(tokenizer.__dict__)
        self.eos_ids = frozenset()
        self.stream_decoder = tokenizer.stream_decoder
