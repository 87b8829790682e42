"""Training of sentence encoders: objectives, the loop that fits an encoder to one, and data.

``EncoderSettings`` is light; everything that needs PyTorch is imported when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports
from llmwright.embeddings.training.settings import OBJECTIVES, EncoderSettings, Objective, Parts

if TYPE_CHECKING:
    from llmwright.embeddings.training.adaptation import KINDS, PairKind, document_pairs
    from llmwright.embeddings.training.encoder import SentenceEncoder
    from llmwright.embeddings.training.figures import draw_curve
    from llmwright.embeddings.training.loop import EncoderResult, EncoderStep, train_encoder
    from llmwright.embeddings.training.mining import Ranking, mine_negatives, vector_ranking
    from llmwright.embeddings.training.pairs import Pair, read_pairs, write_pairs
    from llmwright.embeddings.training.rotation import principal_rotation

_HOMES = {
    "EncoderResult": "loop",
    "EncoderStep": "loop",
    "KINDS": "adaptation",
    "Pair": "pairs",
    "PairKind": "adaptation",
    "Ranking": "mining",
    "SentenceEncoder": "encoder",
    "document_pairs": "adaptation",
    "draw_curve": "figures",
    "mine_negatives": "mining",
    "principal_rotation": "rotation",
    "read_pairs": "pairs",
    "train_encoder": "loop",
    "vector_ranking": "mining",
    "write_pairs": "pairs",
}

__all__ = [
    "KINDS",
    "OBJECTIVES",
    "EncoderResult",
    "EncoderSettings",
    "EncoderStep",
    "Objective",
    "Pair",
    "PairKind",
    "Parts",
    "Ranking",
    "SentenceEncoder",
    "document_pairs",
    "draw_curve",
    "mine_negatives",
    "principal_rotation",
    "read_pairs",
    "train_encoder",
    "vector_ranking",
    "write_pairs",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
