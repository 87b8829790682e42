"""Multiple negatives ranking: of all documents of the batch, the query's own is the likeliest.

    s_ij = scale * cos(q_i, d_j)
    loss = -(1/n) sum_i log( exp(s_ii) / sum_j exp(s_ij) )

The documents of other queries serve as negatives, so a batch of n pairs has n(n - 1) of them for
nothing; documents beyond the first n are hard negatives, which every query sees. ``symmetric``
also asks for the query of each document, and takes the mean of both.

Another query's document may answer this query as well. Counting it as wrong teaches the opposite
of what the data says, so the pairs that ``known`` marks are left out of the sum.

van den Oord et al. (2018), "Representation Learning with Contrastive Predictive Coding", arXiv
1807.03748; Henderson et al. (2017), arXiv 1705.00652, who gave it the name. The temperature is
1 / scale. Cost: n * m products of vectors for n queries and m documents.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def ranking(
    queries: Tensor,
    documents: Tensor,
    *,
    known: Tensor | None = None,
    scale: float = 20.0,
    symmetric: bool = False,
) -> Tensor:
    """The loss of ``queries`` [n, d] with ``documents`` [m, d], of which the first n are theirs.

    ``known`` [n, m], true where a document is relevant to a query; the query's own may be marked.
    """
    count = len(queries)
    # [n, m]
    scores = scale * F.normalize(queries, dim=1) @ F.normalize(documents, dim=1).T
    own = torch.arange(count, device=scores.device)
    if known is not None:
        others = known.clone()
        others[own, own] = False
        scores = scores.masked_fill(others, -torch.inf)
    loss = F.cross_entropy(scores, own)
    if symmetric:
        loss = (loss + F.cross_entropy(scores[:, :count].T, own)) / 2
    return loss
