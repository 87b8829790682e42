"""From parameters to the search they ask for."""

from __future__ import annotations

from llmwright.inference.decoding.beam import BeamSearch
from llmwright.inference.decoding.contrastive import ContrastiveSearch
from llmwright.inference.decoding.diverse_beams import DiverseBeamSearch
from llmwright.inference.decoding.search import Search
from llmwright.inference.decoding.state import SamplingState


def search_for(state: SamplingState, max_tokens: int) -> Search | None:
    """The search that the parameters of ``state`` ask for; None where tokens are drawn or greedy.

    ``state`` is a fresh one of the prompt, which the search then owns. ``max_tokens`` bounds the
    answer (the parameters' own, or less where the context ends sooner).
    """
    if state.params.penalty_alpha > 0.0:
        return ContrastiveSearch(state, max_tokens)
    if state.params.num_beam_groups > 1:
        return DiverseBeamSearch(state, max_tokens)
    if state.params.num_beams > 1:
        return BeamSearch(state, max_tokens)
    return None
