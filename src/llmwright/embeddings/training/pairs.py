"""Training data of an encoder: records of texts that belong together, and batches of them.

Three forms of a JSONL record:

    {"query": ..., "positive": ..., "negative": ... or [...], "group": ..., "margin": ...}
    {"a": ..., "b": ..., "score": 0.8}
    {"text": ...} or {"text": ..., "translation": ...}

``ranking`` takes the first form, ``triplet`` and ``margin-mse`` too, but need a negative;
``cosent`` takes the second and ``distillation`` the third, where a text and its translation are
both drawn to the teacher's vector of the text.

What is relevant to a query is read off all records, not only the one at hand: a document that
any record gives as the positive of a query is no negative for it in any batch. Records with the
same ``group``, where given (sentences cut from one passage, say), are no negatives of each other
either.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmwright.core import InputError, kind_of, read_located_jsonl, write_jsonl
from llmwright.embeddings.training.settings import Objective


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts that belong together, as far as ``score`` says, and texts that do not.

    ``margin`` is the teacher's score of the positive less that of the first negative. Pairs of one
    ``group`` are no negatives of each other.
    """

    query: str
    positive: str
    negatives: tuple[str, ...] = ()
    score: float | None = None
    margin: float | None = None
    group: str | None = None


def read_pairs(path: Path, objective: Objective) -> list[Pair]:
    """The records of a JSONL file. Raises ``InputError`` where one does not fit the objective."""
    pairs = []
    for where, record in read_located_jsonl(path):
        pair = _pair(record, where, objective)
        missing = None
        if objective == "cosent" and pair.score is None:
            missing = '"score", a number'
        elif objective in ("triplet", "margin-mse") and not pair.negatives:
            missing = '"negative", a text'
        if missing:
            raise InputError(
                f"{objective} needs {missing}", where=where, fix="add it, or choose an objective"
            )
        pairs.append(pair)
    return pairs


def write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    """Write pairs as ``read_pairs`` reads them for ``ranking``, ``triplet`` and ``margin-mse``."""
    write_jsonl(
        path,
        (
            {
                "query": pair.query,
                "positive": pair.positive,
                **({"negative": list(pair.negatives)} if pair.negatives else {}),
                **({"score": pair.score} if pair.score is not None else {}),
                **({"margin": pair.margin} if pair.margin is not None else {}),
                **({"group": pair.group} if pair.group is not None else {}),
            }
            for pair in pairs
        ),
    )


def _pair(record: dict[str, Any], where: str, objective: Objective) -> Pair:
    first, second = ("a", "b") if "a" in record else ("query", "positive")
    if objective == "distillation":
        first, second = "text", "translation"
        record = {"translation": record.get("text"), **record}
    for name in (first, second):
        if not isinstance(record.get(name), str) or not record[name].strip():
            value = record.get(name)
            said = f"is {kind_of(value)}" if name in record else "is missing"
            if isinstance(value, str):
                said = "is empty"
            raise InputError(f"the field {name!r} {said}", where=where, fix="it must be a text")
    negatives = record.get("negative", [])
    negatives = [negatives] if isinstance(negatives, str) else negatives
    if not isinstance(negatives, list) or not all(isinstance(n, str) for n in negatives):
        raise InputError(
            f"the field 'negative' is {kind_of(negatives)}",
            where=where,
            fix="it must be a text or a list of texts",
        )
    for name in ("score", "margin"):
        value = record.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise InputError(
                f"the field {name!r} is {kind_of(value)}", where=where, fix="it must be a number"
            )
    group = record.get("group")
    return Pair(
        record[first],
        record[second],
        tuple(negatives),
        record.get("score"),
        record.get("margin"),
        None if group is None else str(group),
    )


def batches(count: int, size: int, epoch: int, seed: int) -> Iterator[list[int]]:
    """Every place once, in an order of this epoch's own, in as many batches as ``size`` asks for,
    of nearly equal size: a small last one would have few negatives, and no meaning in the curve."""
    order = np.random.default_rng([seed, epoch]).permutation(count)
    parts = min(-(-count // size), max(1, count // 2))  # none of one, which has no negative
    for batch in np.array_split(order, parts):
        yield batch.tolist()


class Relevance:
    """Which documents the records call relevant to which queries."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._positives: dict[str, set[str]] = defaultdict(set)
        for pair in pairs:
            self._positives[pair.query].add(pair.positive)

    def known(self, pairs: Sequence[Pair]) -> Tensor:
        """[n, n + negatives]: true where the document is relevant to the query of that row, for
        the documents of a batch: the positives in order, then every pair's negatives."""
        documents = [p.positive for p in pairs] + [n for p in pairs for n in p.negatives]
        groups = [p.group for p in pairs] + [None for p in pairs for _ in p.negatives]
        return torch.tensor(
            [
                [
                    document in self._positives[pair.query]
                    or (pair.group is not None and pair.group == group)
                    for document, group in zip(documents, groups, strict=True)
                ]
                for pair in pairs
            ]
        )
