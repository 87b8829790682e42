"""Questions with answers, made into training and test records in the prompt that serving uses.

A model tuned on bare questions and answers learns to answer from memory. One tuned on retrieved
passages, the right one among near misses, learns to read and to cite (after RAFT: Zhang et al.
2024, arXiv 2403.10131; here without their share of records that lack the right passage).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from llmwright.core import Chunk, Example, Hit, Message, Score, progress
from llmwright.data import Question
from llmwright.prompting import cited_messages
from llmwright.statistics import bootstrap_interval

if TYPE_CHECKING:
    from llmwright.modeling import Model
    from llmwright.retrieval import Index


def cited_example(
    question: Question,
    index: Index,
    *,
    mode: Literal["hybrid", "lexical", "dense"],
    top: int,
    system: str,
) -> Example:
    """The conversation a perfect assistant would have: the passages that retrieval finds, the
    right one put in the last place where it was missed, and the answer citing it."""
    hits = index.search(question.question, top, mode=mode)
    answer = question.answer
    if question.relevant:
        right = _best_chunk(question, index)
        places = [place for place, hit in enumerate(hits) if hit.chunk.id == right.id]
        if not places:
            hits = [*hits[: top - 1], Hit(right, 0.0)]
            places = [len(hits) - 1]
        answer = f"{answer} [{places[0] + 1}]"
    prompt = cited_messages(question.question, hits, system)
    return Example((*prompt, Message("assistant", answer)), id=question.id)


def _best_chunk(question: Question, index: Index) -> Chunk:
    """The chunk that holds most of the section which answers the question."""
    document_id, start, end = index.section_span(question.relevant[0])
    chunks = [chunk for chunk in index.chunks() if chunk.document_id == document_id]
    return max(
        chunks, key=lambda chunk: (min(chunk.end, end) - max(chunk.start, start), -chunk.start)
    )


def answer_perplexity(name: str, model: Model, examples: Sequence[Example], seed: int) -> Score:
    """exp of the mean negative log-likelihood per answer token, given the prompt.

    The interval resamples examples, not tokens: tokens of one answer are not independent.
    """
    from llmwright.inference import token_logprobs

    losses, counts = [], []
    with progress(name.replace("_", " "), len(examples), "answers") as advance:
        for example in examples:
            token_ids, is_target = model.tokenizer.encode_chat_spans(example.messages)
            logprobs = np.asarray(token_logprobs(model, token_ids))  # [time - 1], of token t + 1
            mask = np.asarray(is_target[1:])
            losses.append(-float(logprobs[mask].sum()))
            counts.append(int(mask.sum()))
            advance(1)
    mean = sum(losses) / sum(counts)
    per_example = [loss / count for loss, count in zip(losses, counts, strict=True)]
    low, high = bootstrap_interval(per_example, seed=seed)
    return Score(name, math.exp(mean), math.exp(low), math.exp(high), len(examples))
