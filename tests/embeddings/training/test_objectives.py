"""The objectives against those of sentence-transformers: the same values, the same gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from llmwright.core import ConfigurationError
from llmwright.embeddings.training.objectives import (
    cosent,
    distillation,
    margin_mse,
    matryoshka,
    ranking,
    triplet,
)

SIZE = 12


class Given(nn.Module):
    """Stands where sentence-transformers has its model: gives the vectors it is handed."""

    def forward(self, features: dict[str, Tensor], **_: object) -> dict[str, Tensor]:
        return {"sentence_embedding": features["vectors"]}

    def get_embedding_dimension(self) -> int:
        return SIZE


def vectors(count: int, seed: int, rows: int = 6) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, SIZE, generator=generator, requires_grad=True) for _ in range(count)]


def their(loss: nn.Module, given: list[Tensor], labels: Tensor | None = None) -> Tensor:
    return loss([{"vectors": v} for v in given], labels)


def assert_equal(ours: Tensor, theirs: Tensor, given: list[Tensor]) -> None:
    torch.testing.assert_close(ours, theirs)
    expected = torch.autograd.grad(theirs, given, retain_graph=True)
    for got, want in zip(torch.autograd.grad(ours, given), expected, strict=True):
        torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-5)
        assert want.abs().max() > 0


@pytest.fixture(scope="module")
def losses():
    return pytest.importorskip("sentence_transformers.sentence_transformer.losses")


def test_ranking(losses) -> None:
    q, d, hard = vectors(3, 0)
    theirs = losses.MultipleNegativesRankingLoss(Given(), scale=15.0)
    assert_equal(ranking(q, d, scale=15.0), their(theirs, [q, d]), [q, d])
    both = ranking(q, torch.cat([d, hard]), scale=15.0)
    assert_equal(both, their(theirs, [q, d, hard]), [q, d, hard])


@pytest.mark.parametrize("hard", [0, 1])
def test_symmetric_ranking(losses, hard: int) -> None:
    q, *documents = vectors(2 + hard, 1)
    theirs = losses.MultipleNegativesRankingLoss(
        Given(), directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"
    )
    ours = ranking(q, torch.cat(documents), symmetric=True)
    assert_equal(ours, their(theirs, [q, *documents]), [q, *documents])


def test_a_document_known_to_be_relevant_is_no_negative() -> None:
    q, d = vectors(2, 2)
    known = torch.eye(6, dtype=torch.bool)
    known[0, 3] = True
    loss = ranking(q, d, known=known)
    # By hand: the softmax of the first query is over the other five documents.
    scores = 20 * nn.functional.cosine_similarity(q[:, None], d[None], dim=2)
    kept = [torch.cat([scores[0, :3], scores[0, 4:]]), *scores[1:]]
    by_hand = torch.stack([row.logsumexp(0) for row in kept]) - scores.diagonal()
    torch.testing.assert_close(loss, by_hand.mean())
    assert known[0, 0], "the caller's mask is as it was"


@pytest.mark.parametrize("scores", [[0.0, 1, 2, 3, 4, 5], [0.0, 0, 1, 1, 1, 0], [2.0] * 6])
def test_cosent(losses, scores: list[float]) -> None:
    a, b = vectors(2, 3)
    labels = torch.tensor(scores)
    ours, theirs = cosent(a, b, scores=labels), their(losses.CoSENTLoss(Given()), [a, b], labels)
    if len(set(scores)) > 1:
        assert_equal(ours, theirs, [a, b])
    else:  # nothing has an order: nothing to learn
        assert ours.item() == theirs.item() == 0


@given(st.lists(st.integers(0, 4), min_size=2, max_size=8), st.integers(0, 1000))
def test_cosent_looks_only_at_the_order_of_scores(scores: list[int], seed: int) -> None:
    a, b = vectors(2, seed, rows=len(scores))
    plain = cosent(a, b, scores=torch.tensor(scores, dtype=torch.float32))
    bent = cosent(a, b, scores=torch.tensor([2.0**s - 7 for s in scores]))
    assert torch.equal(plain, bent)


def test_triplet(losses) -> None:
    given = vectors(3, 4)
    metric = losses.TripletDistanceMetric
    for distance, theirs in (("cosine", metric.COSINE), ("euclidean", metric.EUCLIDEAN)):
        loss = losses.TripletLoss(Given(), theirs, triplet_margin=0.3)
        ours = triplet(*given, margin=0.3, distance=distance)
        assert_equal(ours, their(loss, given), given)


def test_distillation_and_margins(losses) -> None:
    student, teacher, other = vectors(3, 5)
    theirs = their(losses.MSELoss(Given()), [student], teacher.detach())
    assert_equal(distillation(student, teacher.detach()), theirs, [student])
    margins = torch.linspace(-1, 1, 6)
    theirs = their(losses.MarginMSELoss(Given()), [student, teacher, other], margins)
    ours = margin_mse(student, teacher, other, margins=margins)
    assert_equal(ours, theirs, [student, teacher, other])


def test_matryoshka(losses) -> None:
    q, d, n = vectors(3, 6)
    dimensions, weights = [2, 5, SIZE], [3.0, 1.0, 0.5]
    plain = losses.MultipleNegativesRankingLoss(Given())
    theirs = losses.MatryoshkaLoss(plain.model, plain, dimensions, weights)
    ours = matryoshka(ranking, dimensions, weights)(q, d)
    assert_equal(ours, their(theirs, [q, d]), [q, d])

    labels = torch.tensor([0.0, 1, 2, 0, 1, 2])
    plain = losses.CoSENTLoss(Given())
    theirs = losses.MatryoshkaLoss(plain.model, plain, dimensions)
    ours = matryoshka(cosent, dimensions)(q, d, scores=labels)
    assert_equal(ours, their(theirs, [q, d], labels), [q, d])

    plain = losses.TripletLoss(Given(), triplet_margin=0.2)
    theirs = losses.MatryoshkaLoss(plain.model, plain, dimensions)
    triplets = matryoshka(lambda *v: triplet(*v, distance="euclidean"), dimensions)(q, d, n)
    assert_equal(triplets, their(theirs, [q, d, n]), [q, d, n])


def test_dimensions_that_are_not_there() -> None:
    with pytest.raises(ConfigurationError, match="up to 12"):
        matryoshka(ranking, [4, 13])(*vectors(2, 7))
    with pytest.raises(ConfigurationError, match="at least 1"):
        matryoshka(ranking, [0, 4])
    with pytest.raises(ConfigurationError, match="one weight"):
        matryoshka(ranking, [4, 8], [1.0])
