"""Whether a long context works: perplexity by position, and needles in a haystack.

**Perplexity by position.** One long text is read in one pass, and log-probabilities are taken at
places spread evenly over it, the same ones for every model compared:

    perplexity(bucket) = exp(-mean over places t in the bucket of log p(x_t | x_1 .. x_{t-1}))

The vocabulary is asked only at those places. A pass costs ``2 * weights * n + 2 * layers * heads *
head_dim * n^2`` operations: beyond some 10,000 tokens of a small model attention is most of it.

**Needles** (Kamradt, 2023; several keys in one text as in RULER, Hsieh et al., 2024, arXiv
2404.06654). Sentences "The secret number of Oslo is 48213." are hidden at several depths of real
text, and each is asked for at the end. Scored in two ways: whether the model finds the right
number likelier than every other number that stands in the text, and whether it writes it out. The
text is read once for all its needles, and each question goes on from the cached keys.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llmwright.core import ContextLengthError, InputError
from llmwright.inference.decoding import logprob_of
from llmwright.modeling import Attention, KVCache, Model, causal_attention
from llmwright.tokenization import Tokenizer

LayerDone = Callable[[int], None]
_NAMES = (
    "Oslo", "Lima", "Cairo", "Quito", "Dublin", "Havana", "Athens", "Ankara", "Lisbon", "Warsaw",
    "Vienna", "Prague", "Madrid", "London", "Berlin", "Moscow", "Tokyo", "Delhi", "Rome", "Paris",
)  # fmt: skip
_ROOM = 64  # tokens kept free for a question and its answer


@torch.inference_mode()
def logprobs_at(
    model: Model,
    token_ids: Sequence[int],
    places: Sequence[int],
    on_layer: LayerDone = lambda layer: None,
) -> list[float]:
    """log p (natural) of the tokens at ``places`` (0-based, from 1 on) given all before them, in
    one pass.

    ``on_layer`` is told of each layer that is done. Raises ``ContextLengthError`` where the
    tokens exceed the model's context.
    """
    _check_room(model, len(token_ids))
    device = model.decoder.device
    ids = torch.tensor([token_ids], device=device)  # [1, time]
    wanted = torch.tensor(places, device=device)  # [places]
    # Position t predicts token t + 1.
    logits = model.decoder(ids, None, _told(causal_attention, on_layer), logits_at=wanted - 1)
    logprobs: list[float] = logprob_of(logits[0], ids[0, wanted]).tolist()
    return logprobs


@dataclass(frozen=True, slots=True)
class Needle:
    """A sentence to find, and its question. ``depth`` 0 is the text's beginning, 1 its end."""

    name: str
    number: str
    depth: float

    @property
    def sentence(self) -> str:
        return f" The secret number of {self.name} is {self.number}."

    @property
    def question(self) -> str:
        number = f"secret number of {self.name}"
        return f"\n\nQuestion: What is the {number}?\nAnswer: The {number} is"


@dataclass(frozen=True, slots=True)
class Found:
    """How a needle was found: ``rank`` 1 means that of all ``choices`` numbers in the text the
    right one was the likeliest; ``written`` is what greedy decoding gave in its place."""

    needle: Needle
    rank: int
    choices: int
    written: str


def make_needles(depths: Sequence[float], seed: int) -> tuple[Needle, ...]:
    """A needle for each depth, with names and five-digit numbers drawn by ``seed``.

    Raises ``InputError`` for more depths than there are names.
    """
    if not 1 <= len(depths) <= len(_NAMES):
        raise InputError(f"{len(depths)} needles", fix=f"hide 1 to {len(_NAMES)}")
    rng = random.Random(seed)
    names = rng.sample(_NAMES, len(depths))
    numbers = rng.sample(range(10_000, 100_000), len(depths))
    return tuple(
        Needle(name, str(number), depth)
        for name, number, depth in zip(names, numbers, depths, strict=True)
    )


def hide(
    tokenizer: Tokenizer, hay: Sequence[int], needles: Sequence[Needle], length: int
) -> list[int]:
    """Token ids of ``hay`` cut so that, with the needles in it and room for a question behind it,
    there are ``length`` tokens.

    Each needle stands behind the sentence end nearest to its depth. Raises ``InputError`` where
    there is too little hay.
    """
    sentences = [tokenizer.encode(needle.sentence) for needle in needles]
    room = length - _ROOM - sum(map(len, sentences))
    if not 1 <= room <= len(hay):
        raise InputError(
            f"{len(needles)} needles, a question and text do not make {length} tokens: there are "
            f"{len(hay)} tokens of text",
            where="texts",
            fix="give more text or fewer needles, or ask for another length",
        )
    hay = hay[:room]
    ends = [0, *(n for n in range(1, room) if tokenizer.decode([hay[n - 1]]).endswith(".")), room]
    text: list[int] = []
    begin = 0
    for needle, sentence in sorted(
        zip(needles, sentences, strict=True), key=lambda pair: pair[0].depth
    ):
        place = min(ends, key=lambda end, aim=needle.depth * room: abs(end - aim))  # type: ignore[misc]
        text += [*hay[begin:place], *sentence]
        begin = place
    return [*text, *hay[begin:]]


@torch.inference_mode()
def find_needles(
    model: Model,
    token_ids: Sequence[int],
    needles: Sequence[Needle],
    on_layer: LayerDone = lambda layer: None,
) -> tuple[Found, ...]:
    """Ask for each of the ``needles`` that ``hide`` has put into ``token_ids``.

    Raises ``ContextLengthError`` where text and question exceed the model's context.
    """
    length = len(token_ids)
    capacity = length + _ROOM
    _check_room(model, capacity)
    decoder = model.decoder
    cache = KVCache(model.config, decoder.dtype, capacity=capacity, device=decoder.device)
    # One and the same for text and questions: under a scaling that looks at the length, the keys
    # of the text would be stale otherwise.
    planned = torch.tensor([[capacity]], device=decoder.device)

    def read(ids: Sequence[int], attention: Attention, wanted: Sequence[int]) -> Tensor:
        """Logits [wanted, vocab] of tokens behind what is cached."""
        tokens = torch.tensor([ids], device=decoder.device)
        places = torch.tensor(wanted, device=decoder.device)
        positions = cache.positions(len(ids))
        logits: Tensor = decoder(tokens, positions, attention, logits_at=places, lengths=planned)
        return logits[0]

    read(token_ids, _told(cache, on_layer), [length - 1])
    encode = model.tokenizer.encode
    numbers = {needle.number: encode(f" {needle.number}") for needle in needles}
    found = []
    for needle in needles:
        cache.truncate(length)
        question = encode(needle.question)
        start = read(question, cache, [len(question) - 1])  # [1, vocab]
        behind = cache.length
        scores = {}
        for number, ids in numbers.items():
            cache.truncate(behind)
            rest = read(ids[:-1], cache, range(len(ids) - 1)) if len(ids) > 1 else start[:0]
            logits = torch.cat((start, rest))  # [digits, vocab]
            scores[number] = float(logprob_of(logits, torch.tensor(ids)).sum())
        rank = 1 + sum(score > scores[needle.number] for score in scores.values())
        cache.truncate(behind)
        written = [int(start.argmax())]
        for _ in numbers[needle.number][1:]:
            written.append(int(read(written[-1:], cache, [0]).argmax()))
        answer = model.tokenizer.decode(written)
        found.append(Found(needle, rank, len(numbers), answer))
    return tuple(found)


def _told(attention: Attention, on_layer: LayerDone) -> Attention:
    """``attention`` that tells of each layer it has done."""

    def told(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        mixed = attention(layer, q, k, v)
        on_layer(layer)
        return mixed

    return told


def _check_room(model: Model, length: int) -> None:
    limit = model.config.max_position_embeddings
    if length > limit:
        raise ContextLengthError(
            f"{length} tokens, and the model's context holds {limit}",
            where=model.source,
            fix="extend it first: extend_context(model, scaling, context)",
        )
