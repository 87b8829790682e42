"""What an encoder is trained to do, one objective a file: vectors in, one number out.

Each is a pure function of tensors [texts, dimension] that knows nothing of models, texts or
loops. ``matryoshka`` makes an objective of any of them that holds for short vectors too.
"""

from llmwright.embeddings.training.objectives.cosent import cosent
from llmwright.embeddings.training.objectives.distillation import distillation
from llmwright.embeddings.training.objectives.margin import margin_mse
from llmwright.embeddings.training.objectives.matryoshka import matryoshka
from llmwright.embeddings.training.objectives.ranking import ranking
from llmwright.embeddings.training.objectives.triplet import triplet

__all__ = ["cosent", "distillation", "margin_mse", "matryoshka", "ranking", "triplet"]
