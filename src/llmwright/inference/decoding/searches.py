"""From parameters to the search they ask for."""

from __future__ import annotations

from collections.abc import Collection

from llmwright.core import SamplingParams
from llmwright.inference.decoding.beam import BeamSearch
from llmwright.inference.decoding.contrastive import ContrastiveSearch
from llmwright.inference.decoding.diverse_beams import DiverseBeamSearch
from llmwright.inference.decoding.search import Search
from llmwright.inference.decoding.state import SamplingState


def search_for(
    params: SamplingParams,
    ends: Collection[int],
    max_tokens: int,
    state: SamplingState | None = None,
) -> Search | None:
    """The search that ``params`` ask for; None where tokens are drawn or greedy.

    ``max_tokens`` bounds the answer (``params.max_tokens``, or less where the context ends
    sooner). ``state`` is a fresh ``SamplingState`` of the prompt, which the search then owns;
    needed where the parameters have bias, penalties, a least length or structure.
    """
    if params.num_beams == 1 and params.penalty_alpha == 0.0:
        return None
    if state is None and SamplingState(params, ends=ends).changes_logits:
        raise ValueError("these parameters need the state of a sequence")
    if state is not None and not state.changes_logits:
        state = None
    if params.penalty_alpha > 0.0:
        return ContrastiveSearch(
            params.top_k, params.penalty_alpha, ends=ends, max_tokens=max_tokens, state=state
        )
    if params.num_beam_groups > 1:
        return DiverseBeamSearch(
            params.num_beams,
            params.num_beam_groups,
            params.diversity_penalty,
            ends=ends,
            max_tokens=max_tokens,
            length_penalty=params.length_penalty,
            early_stopping=params.early_stopping,
            state=state,
        )
    return BeamSearch(
        params.num_beams,
        ends=ends,
        max_tokens=max_tokens,
        length_penalty=params.length_penalty,
        early_stopping=params.early_stopping,
        state=state,
    )
