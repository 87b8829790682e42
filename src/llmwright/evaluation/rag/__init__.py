"""RAG measured part by part: retrieval and generation apart, by gold labels, words, an entailment
model or a chat model; which part to mend; and questions made from documents."""

from llmwright.evaluation.rag.attribution import ADVICE, Facts, blame
from llmwright.evaluation.rag.citations import citation_quality
from llmwright.evaluation.rag.entailment import Entailment, EntailmentJudge
from llmwright.evaluation.rag.figures import draw_rag
from llmwright.evaluation.rag.judging import Judge, LexicalJudge
from llmwright.evaluation.rag.model_judge import ModelJudge
from llmwright.evaluation.rag.pipeline import RagReport, evaluate_rag, evaluate_rag_records
from llmwright.evaluation.rag.refusals import refuses
from llmwright.evaluation.rag.scoring import (
    RagRecord,
    read_rag_records,
    score_means,
    score_record,
)
from llmwright.evaluation.rag.tuning import Trial, Tuning, tune_retrieval

__all__ = [
    "ADVICE",
    "Entailment",
    "EntailmentJudge",
    "Facts",
    "Judge",
    "LexicalJudge",
    "ModelJudge",
    "RagRecord",
    "RagReport",
    "Trial",
    "Tuning",
    "blame",
    "citation_quality",
    "draw_rag",
    "evaluate_rag",
    "evaluate_rag_records",
    "read_rag_records",
    "refuses",
    "score_means",
    "score_record",
    "tune_retrieval",
]
