"""Learned term weights: each token of a text gets one weight, by a linear head on its state.

    w_t(text) = max over places i of token t of  relu(v . h_i + b)
    score(q, d) = sum over t of  w_t(q) w_t(d)

The form of uniCOIL (Lin and Ma, "A Few Brief Notes on DeepImpact, COIL, and a Conceptual Framework
for Information Retrieval Techniques", 2021, arXiv 2106.14807): BM25 with weights that know the
context, searched in the same inverted index, and no word a text does not hold. The encoder stays
as it is; the head's hidden + 1 weights are learned by contrast, each query's own text against the
others of its batch:

    loss = - mean over q of  ln ( exp(score(q, d_q)) / sum over d in batch of exp(score(q, d)) )

Training costs one pass of the encoder over all texts, whose states are kept (1.5 KB a token),
and seconds for the head; encoding costs what embedding costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from llmwright.core import InputError, ModelSourceError
from llmwright.embeddings.sparse import SparseVectors
from llmwright.embeddings.token_states import TokenStates

_FILE = "impact.safetensors"


class ImpactEncoder:
    """A ``SparseEncoder`` over the encoder's tokens. ``head`` is [hidden + 1], the bias last."""

    def __init__(self, states: TokenStates, head: Tensor) -> None:
        self._states = states
        self.head = head
        self.vocabulary = states.encoder.config.vocab_size

    def encode(self, texts: Sequence[str]) -> SparseVectors:
        """The terms of each text and their weights."""
        rows = [_NOTHING] * len(texts)
        for place, ids, states in self._states.of_texts(texts):
            weights = F.relu(states @ self.head[:-1] + self.head[-1])  # [tokens]
            rows[place] = _row(ids, weights.numpy(), self._states.special)
        return SparseVectors.of_rows(rows)

    def save(self, folder: Path) -> None:
        """Write the head; the encoder is a model of its own."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"head": self.head.contiguous()}, folder / _FILE)

    @classmethod
    def load(cls, folder: Path, states: TokenStates) -> ImpactEncoder:
        """Raises ``ModelSourceError`` where the head is missing or of another encoder."""
        try:
            head = load_file(folder / _FILE)["head"]
        except (SafetensorError, OSError, KeyError) as error:
            raise ModelSourceError(
                f"the head cannot be read ({error})", where=str(folder / _FILE), fix="train it"
            ) from error
        if head.shape != (states.hidden + 1,):
            raise ModelSourceError(
                f"the head has {len(head)} weights for an encoder of {states.hidden}",
                where=str(folder / _FILE),
                fix="open it with the encoder it was trained on",
            )
        return cls(states, head)


def train_impact(
    states: TokenStates,
    pairs: Sequence[tuple[str, str]],
    *,
    epochs: int = 20,
    batch: int = 32,
    learning_rate: float = 0.01,
    seed: int = 0,
) -> ImpactEncoder:
    """Learn the head from (query, text that answers it). Equal arguments give an equal head.

    Pairs of one text are never each other's wrong answer. Raises ``InputError`` for fewer than
    two texts: there is nothing to tell apart.
    """
    texts = list(dict.fromkeys(text for _, text in pairs))
    if len(texts) < 2:
        raise InputError("fewer than two texts", where="training pairs", fix="give more pairs")
    number = {text: n for n, text in enumerate(texts)}
    queries = list(dict.fromkeys(query for query, _ in pairs))
    asked = {query: n for n, query in enumerate(queries)}
    document_bags, query_bags = _bags(states, texts), _bags(states, queries)
    head = torch.zeros(states.hidden + 1)
    head[-1] = 1.0  # all tokens weigh the same: retrieval by words in common
    head.requires_grad_(True)
    optimizer = torch.optim.Adam([head], learning_rate)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        order = torch.randperm(len(pairs), generator=generator).tolist()
        for begin in range(0, len(order), batch):
            part = [pairs[i] for i in order[begin : begin + batch]]
            column = {t: n for n, t in enumerate(dict.fromkeys(number[text] for _, text in part))}
            scores = _scores(
                head, [query_bags[asked[q]] for q, _ in part], [document_bags[t] for t in column]
            )
            wanted = torch.tensor([column[number[text]] for _, text in part])
            loss = F.cross_entropy(scores, wanted)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return ImpactEncoder(states, head.detach())


_Bag = tuple[Tensor, Tensor]  # token ids [tokens], states [tokens, hidden], without special ones


def _bags(states: TokenStates, texts: Sequence[str]) -> list[_Bag]:
    bags: list[_Bag] = [(torch.empty(0, dtype=torch.long), torch.empty(0, states.hidden))] * len(
        texts
    )
    for place, ids, vectors in states.of_texts(texts):
        kept = [i for i, token in enumerate(ids) if token not in states.special]
        bags[place] = torch.tensor([ids[i] for i in kept], dtype=torch.long), vectors[kept].clone()
    return bags


def _scores(head: Tensor, queries: Sequence[_Bag], documents: Sequence[_Bag]) -> Tensor:
    """[queries, documents], over the terms of this batch alone."""
    every = torch.cat([ids for ids, _ in (*queries, *documents)])
    terms = torch.unique(every)
    return _weights(head, queries, terms) @ _weights(head, documents, terms).T


def _weights(head: Tensor, bags: Sequence[_Bag], terms: Tensor) -> Tensor:  # [bags, terms]
    ids = torch.cat([ids for ids, _ in bags])
    vectors = torch.cat([vectors for _, vectors in bags])
    row = torch.repeat_interleave(
        torch.arange(len(bags)), torch.tensor([len(ids) for ids, _ in bags])
    )
    weights = F.relu(vectors @ head[:-1] + head[-1])  # [tokens]
    place = row * len(terms) + torch.searchsorted(terms, ids)
    full = torch.zeros(len(bags) * len(terms))
    return full.scatter_reduce(0, place, weights, "amax").view(len(bags), len(terms))


_NOTHING = (np.empty(0, np.int32), np.empty(0, np.float32))


def _row(
    ids: Sequence[int], weights: np.ndarray, special: frozenset[int]
) -> tuple[np.ndarray, np.ndarray]:
    best: dict[int, float] = {}
    for token, weight in zip(ids, weights.tolist(), strict=True):
        if token not in special and weight > best.get(token, 0.0):
            best[token] = weight
    terms = sorted(best)
    return np.array(terms, np.int32), np.array([best[t] for t in terms], np.float32)
