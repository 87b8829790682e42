"""How good answers and rankings are: figures with intervals, and a record for each example.

What runs a model itself (long contexts) is imported when first used.
"""

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports
from llmwright.evaluation.answer_metrics import (
    exact_match,
    normalize_answer,
    strip_citations,
    token_f1,
)
from llmwright.evaluation.answers import evaluate_answers
from llmwright.evaluation.comparison import compare_reports
from llmwright.evaluation.grade import grade_answers
from llmwright.evaluation.groundedness import Groundedness, groundedness, split_sentences
from llmwright.evaluation.report import Report
from llmwright.evaluation.retrieval import evaluate_retrieval
from llmwright.evaluation.retrieval_metrics import (
    average_precision,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
    reciprocal_rank,
)
from llmwright.evaluation.runs import evaluate_run, read_judgements, read_run

if TYPE_CHECKING:
    from llmwright.evaluation.chunking import ChunkingReport, compare_chunkings
    from llmwright.evaluation.chunking_figures import draw_chunkings
    from llmwright.evaluation.context import ContextSettings, measure_context
    from llmwright.evaluation.context_figures import draw_context
    from llmwright.evaluation.context_report import ContextReport
    from llmwright.evaluation.dimensions import VectorForm, measure_dimensions
    from llmwright.evaluation.embedder_choice import Candidate, compare_embedders, recommended
    from llmwright.evaluation.embedder_figures import draw_dimensions, draw_embedders

_HOMES = {
    "Candidate": "embedder_choice",
    "VectorForm": "dimensions",
    "compare_embedders": "embedder_choice",
    "draw_dimensions": "embedder_figures",
    "draw_embedders": "embedder_figures",
    "measure_dimensions": "dimensions",
    "recommended": "embedder_choice",
    "ChunkingReport": "chunking",
    "ContextReport": "context_report",
    "ContextSettings": "context",
    "compare_chunkings": "chunking",
    "draw_chunkings": "chunking_figures",
    "draw_context": "context_figures",
    "measure_context": "context",
}

__all__ = [
    "Candidate",
    "ChunkingReport",
    "ContextReport",
    "ContextSettings",
    "Groundedness",
    "Report",
    "VectorForm",
    "average_precision",
    "compare_chunkings",
    "compare_embedders",
    "compare_reports",
    "draw_chunkings",
    "draw_context",
    "draw_dimensions",
    "draw_embedders",
    "evaluate_answers",
    "evaluate_retrieval",
    "evaluate_run",
    "exact_match",
    "grade_answers",
    "groundedness",
    "measure_context",
    "measure_dimensions",
    "ndcg_at_k",
    "normalize_answer",
    "precision_at_k",
    "read_judgements",
    "read_run",
    "recall_at_k",
    "reciprocal_rank",
    "recommended",
    "split_sentences",
    "strip_citations",
    "token_f1",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
