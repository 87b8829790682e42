"""Guess several tokens cheaply, check them in one pass of the model: speculation and cascades.

``proposer`` says what a proposer is; ``ngram`` and ``draft`` are two. ``acceptance`` keeps the
target's distribution, ``controller`` chooses how many to guess, ``expected`` says what to expect,
``generate`` does it for one prompt. ``deferral`` and ``cascades`` trade some of the target's
distribution for speed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.inference.speculation.acceptance import verify, verify_greedy
    from llmwright.inference.speculation.cascades import (
        Cascade,
        Confidence,
        cascade_generate,
        least_confidence,
        mean_confidence,
        plain_cascade,
        plain_generate,
    )
    from llmwright.inference.speculation.controller import LengthController
    from llmwright.inference.speculation.deferral import RULES, Rule, target_distribution
    from llmwright.inference.speculation.draft import DraftModelProposer, draft_model
    from llmwright.inference.speculation.expected import (
        acceptance_rate,
        best_length,
        expected_speedup,
        expected_tokens,
    )
    from llmwright.inference.speculation.generate import Speculation, speculative_generate
    from llmwright.inference.speculation.ngram import NGramProposer
    from llmwright.inference.speculation.proposer import Ask, Draft, Proposer

_HOMES = {
    "Ask": "proposer",
    "Cascade": "cascades",
    "Confidence": "cascades",
    "Draft": "proposer",
    "DraftModelProposer": "draft",
    "LengthController": "controller",
    "NGramProposer": "ngram",
    "Proposer": "proposer",
    "RULES": "deferral",
    "Rule": "deferral",
    "Speculation": "generate",
    "acceptance_rate": "expected",
    "best_length": "expected",
    "cascade_generate": "cascades",
    "draft_model": "draft",
    "expected_speedup": "expected",
    "expected_tokens": "expected",
    "least_confidence": "cascades",
    "mean_confidence": "cascades",
    "plain_cascade": "cascades",
    "plain_generate": "cascades",
    "speculative_generate": "generate",
    "target_distribution": "deferral",
    "verify": "acceptance",
    "verify_greedy": "acceptance",
}

__all__ = [
    "RULES",
    "Ask",
    "Cascade",
    "Confidence",
    "Draft",
    "DraftModelProposer",
    "LengthController",
    "NGramProposer",
    "Proposer",
    "Rule",
    "Speculation",
    "acceptance_rate",
    "best_length",
    "cascade_generate",
    "draft_model",
    "expected_speedup",
    "expected_tokens",
    "least_confidence",
    "mean_confidence",
    "plain_cascade",
    "plain_generate",
    "speculative_generate",
    "target_distribution",
    "verify",
    "verify_greedy",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
