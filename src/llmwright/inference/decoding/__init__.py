"""Every way to turn logits into tokens, one file each.

Drawing: ``SamplingState`` for each sequence, ``choose`` for a batch. Searching (beams, diverse
beams, contrastive): a ``Search`` from ``search_for``. Whoever runs the model asks these which
tokens come next; they know nothing of models or caches. ``run_search`` and ``generate`` are plain
loops over a decoder. Names are fetched when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.inference.decoding.beam import BeamSearch
    from llmwright.inference.decoding.best_of import rank_answers
    from llmwright.inference.decoding.contrastive import ContrastiveSearch
    from llmwright.inference.decoding.diverse_beams import DiverseBeamSearch
    from llmwright.inference.decoding.driver import (
        generate,
        run_search,
    )
    from llmwright.inference.decoding.logprobs import (
        Top,
        logprob_of,
        top_alternatives,
    )
    from llmwright.inference.decoding.min_p import keep_min_p
    from llmwright.inference.decoding.sampler import (
        Choice,
        choose,
        distribution,
        distribution_after,
        draw,
        process,
        record,
        states_along,
    )
    from llmwright.inference.decoding.search import (
        Branch,
        Hypothesis,
        Search,
    )
    from llmwright.inference.decoding.searches import search_for
    from llmwright.inference.decoding.state import (
        SamplingState,
        check_tokens,
    )
    from llmwright.inference.decoding.structured import (
        GrammarState,
        compile_grammar,
    )
    from llmwright.inference.decoding.top_k import keep_top_k
    from llmwright.inference.decoding.top_p import keep_top_p
    from llmwright.inference.decoding.typical import keep_typical

_HOMES = {
    "BeamSearch": "beam",
    "Branch": "search",
    "Choice": "sampler",
    "ContrastiveSearch": "contrastive",
    "DiverseBeamSearch": "diverse_beams",
    "GrammarState": "structured",
    "Hypothesis": "search",
    "SamplingState": "state",
    "Search": "search",
    "Top": "logprobs",
    "check_tokens": "state",
    "choose": "sampler",
    "compile_grammar": "structured",
    "distribution": "sampler",
    "distribution_after": "sampler",
    "draw": "sampler",
    "generate": "driver",
    "keep_min_p": "min_p",
    "keep_top_k": "top_k",
    "keep_top_p": "top_p",
    "keep_typical": "typical",
    "logprob_of": "logprobs",
    "process": "sampler",
    "rank_answers": "best_of",
    "record": "sampler",
    "run_search": "driver",
    "search_for": "searches",
    "states_along": "sampler",
    "top_alternatives": "logprobs",
}

__all__ = [
    "BeamSearch",
    "Branch",
    "Choice",
    "ContrastiveSearch",
    "DiverseBeamSearch",
    "GrammarState",
    "Hypothesis",
    "SamplingState",
    "Search",
    "Top",
    "check_tokens",
    "choose",
    "compile_grammar",
    "distribution",
    "distribution_after",
    "draw",
    "generate",
    "keep_min_p",
    "keep_top_k",
    "keep_top_p",
    "keep_typical",
    "logprob_of",
    "process",
    "rank_answers",
    "record",
    "run_search",
    "search_for",
    "states_along",
    "top_alternatives",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
