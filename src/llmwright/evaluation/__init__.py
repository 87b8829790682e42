"""How good answers and rankings are: figures with intervals, and a record for each example."""

from llmwright.evaluation.answer_metrics import (
    exact_match,
    normalize_answer,
    strip_citations,
    token_f1,
)
from llmwright.evaluation.answers import AnswerReport, evaluate_answers
from llmwright.evaluation.grade import grade_answers
from llmwright.evaluation.groundedness import Groundedness, groundedness, split_sentences
from llmwright.evaluation.retrieval import RetrievalReport, evaluate_retrieval
from llmwright.evaluation.retrieval_metrics import (
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
    reciprocal_rank,
)

__all__ = [
    "AnswerReport",
    "Groundedness",
    "RetrievalReport",
    "evaluate_answers",
    "evaluate_retrieval",
    "exact_match",
    "grade_answers",
    "groundedness",
    "ndcg_at_k",
    "normalize_answer",
    "precision_at_k",
    "recall_at_k",
    "reciprocal_rank",
    "split_sentences",
    "strip_citations",
    "token_f1",
]
