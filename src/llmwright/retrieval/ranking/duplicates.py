"""Drop hits that say again, word for word or nearly, what a better hit said.

Two hits are near-duplicates where most of the smaller one's runs of three words stand in the other:

    |S_a & S_b| / min(|S_a|, |S_b|)  >=  threshold            S: the set of word 3-shingles

Broder, "On the resemblance and containment of documents" (1997), calls it containment; unlike
the Jaccard resemblance it also finds a short hit that lies inside a long one, as with chunks of
several sizes. Of two, the one that came first stays. Costs one set a hit and one intersection
for each pair of hits.
"""

from __future__ import annotations

from collections.abc import Sequence

from llmwright.core import ConfigurationError, Hit
from llmwright.retrieval.lexical.analysis import words

THRESHOLD = 0.8
_RUN = 3


def drop_near_duplicates(hits: Sequence[Hit], *, threshold: float = THRESHOLD) -> list[Hit]:
    """The hits in their order without those a hit before them holds.

    A hit without a word is kept unless the very text came before. Raises ``ConfigurationError``
    for a threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ConfigurationError(
            f"threshold is {threshold}", where="near-duplicates", fix="give more than 0, up to 1"
        )
    kept: list[Hit] = []
    seen: list[frozenset[tuple[str, ...]]] = []
    for hit in hits:
        runs = shingles(hit.chunk.text)
        if not any(containment(runs, other) >= threshold for other in seen):
            kept.append(hit)
            seen.append(runs)
    return kept


def shingles(text: str) -> frozenset[tuple[str, ...]]:
    """Runs of three words of a text; the whole text where it has fewer than three."""
    found = [word for word, _ in words(text)]
    if len(found) < _RUN:
        return frozenset([tuple(found) or (text,)])
    return frozenset(zip(*(found[i:] for i in range(_RUN)), strict=False))


def containment(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> float:
    """How much of the smaller set the other holds, 0 to 1."""
    return len(a & b) / min(len(a), len(b))
