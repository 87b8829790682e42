"""Questions with answers, made into training and test records in the prompt that serving uses.

A model tuned on bare questions and answers learns to answer from memory. One tuned on retrieved
passages, the right one among near misses, learns to read and to cite (after RAFT: Zhang et al.
2024, arXiv 2403.10131; here without their share of records that lack the right passage).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from llmwright.answering import build_context
from llmwright.build.recipe import Behaviour
from llmwright.core import Chunk, Example, Hit, Message, Score, Search, progress
from llmwright.data import Question
from llmwright.prompting import cited_messages
from llmwright.statistics import mean_score

if TYPE_CHECKING:
    from llmwright.modeling import Model
    from llmwright.retrieval import Index


def cited_examples(
    questions: Sequence[Question], index: Index, search: Search, behaviour: Behaviour
) -> list[Example]:
    """The conversations a perfect assistant would have: the passages that retrieval finds, the
    right one put in the last place where it was missed, and the answer citing it."""
    examples = []
    with progress("examples", total=len(questions), unit="questions") as advance:
        for question in questions:
            hits = search(question.question, behaviour.top)
            examples.append(_example(question, hits, index, behaviour))
            advance(1)
    return examples


def _example(
    question: Question, found: Sequence[Hit], index: Index, behaviour: Behaviour
) -> Example:
    passages = build_context(question.question, found, behaviour.context)
    hits = [passage.shown for passage in passages]
    answer = question.answer
    if question.relevant:
        right = _best_chunk(question, index)
        places = [place for place, hit in enumerate(hits) if hit.chunk.id == right.id]
        if not places:
            hits = [*hits[:-1], Hit(right, 0.0)]
            places = [len(hits) - 1]
        answer = f"{answer} [{places[0] + 1}]"
    prompt = cited_messages(question.question, hits, behaviour.system)
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

    Answers weigh the same whatever their length, and the interval resamples answers: the tokens
    of one answer are not independent.
    """
    from llmwright.inference import token_logprobs

    losses = []
    with progress(name.replace("_", " "), len(examples), "answers") as advance:
        for example in examples:
            token_ids, is_target = model.tokenizer.encode_chat_spans(example.messages)
            last = len(token_ids) - is_target.index(True)  # the answer ends the conversation
            logprobs = token_logprobs(model, token_ids, last)  # [last]
            losses.append(-float(logprobs[np.asarray(is_target[-last:])].mean()))
            advance(1)
    loss = mean_score(name, losses, seed)
    value, low, high = (
        None if x is None else math.exp(x) for x in (loss.value, loss.low, loss.high)
    )
    return replace(loss, value=value, low=low, high=high)
