"""Distillation: the student's vector of a text is the teacher's.

    loss = mean over texts and dimensions of (student - teacher)^2

With a text and its translation both drawn to the teacher's vector of the original, a student
learns a language the teacher does not know: Reimers and Gurevych (2020), "Making Monolingual
Sentence Embeddings Multilingual using Knowledge Distillation", arXiv 2004.09813. Between unit
vectors it is 2 (1 - cos) / dimension. Needs no labels; cost: nothing beside the two encoders.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """The loss of vectors ``student`` and ``teacher``, both [n, d]."""
    return F.mse_loss(student, teacher)
