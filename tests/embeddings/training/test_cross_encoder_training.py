"""Training of cross-encoders: the losses in closed form, learning, and going on after a kill."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from llmwright.core import ConfigurationError, InputError
from llmwright.embeddings.cross_encoder import CrossEncoder
from llmwright.embeddings.training.cross_encoder import (
    CrossEncoderSettings,
    group_loss,
    train_cross_encoder,
)
from llmwright.embeddings.training.pairs import Pair

WORDS = ("rank", "token", "memory", "cache", "model", "layer")
PAIRS = [
    Pair(word, f"a text on the {word}", tuple(f"a text on the {o}" for o in WORDS if o != word))
    for word in WORDS
]
SETTINGS = CrossEncoderSettings(
    epochs=2, batch_size=2, negatives=2, learning_rate=1e-3, dtype="float32", checkpoint_every=2
)


def test_losses_in_closed_form() -> None:
    logits = torch.tensor([[2.0, 1.0, -1.0], [0.5, 3.0, -math.inf]])
    soft = [
        -2.0 + math.log(sum(map(math.exp, (2, 1, -1)))),
        -0.5 + math.log(math.e**0.5 + math.e**3),
    ]
    assert group_loss(logits, "groups").item() == pytest.approx(sum(soft) / 2, rel=1e-6)

    def cost(logit: float, label: float) -> float:
        value = torch.nn.functional.binary_cross_entropy_with_logits(
            torch.tensor(logit), torch.tensor(label)
        )
        return float(value)

    first = cost(2.0, 1.0) + (cost(1.0, 0.0) + cost(-1.0, 0.0)) / 2
    second = cost(0.5, 1.0) + cost(3.0, 0.0)
    assert group_loss(logits, "pairs").item() == pytest.approx((first + second) / 2, rel=1e-6)
    logits.requires_grad_(True)
    group_loss(logits, "pairs").backward()
    assert logits.grad is not None and bool(torch.isfinite(logits.grad).all())


@pytest.mark.parametrize("objective", ["pairs", "groups"])
def test_it_learns_and_is_saved(tiny_bert: Path, tmp_path: Path, objective: str) -> None:
    settings = CrossEncoderSettings(
        objective=objective,  # type: ignore[arg-type]
        epochs=30, batch_size=6, negatives=3, learning_rate=2e-3, dtype="float32",
    )  # fmt: skip
    result = train_cross_encoder(CrossEncoder.fresh(tiny_bert), PAIRS, settings, tmp_path / "m")
    assert result.curve[-1].loss < 0.5 * result.curve[0].loss
    assert (result.groups, result.left_out, result.resumed_from) == (6, 0, 0)
    loaded = CrossEncoder.load(tmp_path / "m")
    assert loaded.activation == ("sigmoid" if objective == "pairs" else "identity")
    documents = [pair.positive for pair in PAIRS]
    first = [loaded.rank(pair.query, documents)[0][0] for pair in PAIRS]
    assert sum(place == wanted for wanted, place in enumerate(first)) >= 5
    assert {p.name for p in (tmp_path / "m").iterdir()} >= {"curve.jsonl", "model.safetensors"}
    assert not (tmp_path / "m" / "checkpoint.safetensors").exists()


class Killed(Exception):
    pass


def test_it_goes_on_after_a_kill_to_the_same_weights(tiny_bert: Path, tmp_path: Path) -> None:
    def kill(step: object) -> None:
        if getattr(step, "step", 0) == 3:
            raise Killed

    whole = train_cross_encoder(CrossEncoder.fresh(tiny_bert), PAIRS, SETTINGS, tmp_path / "whole")
    with pytest.raises(Killed):
        train_cross_encoder(
            CrossEncoder.fresh(tiny_bert), PAIRS, SETTINGS, tmp_path / "cut", on_step=kill
        )
    with pytest.raises(ConfigurationError):  # another run's checkpoint
        train_cross_encoder(CrossEncoder.fresh(tiny_bert), PAIRS[:5], SETTINGS, tmp_path / "cut")
    cut = train_cross_encoder(CrossEncoder.fresh(tiny_bert), PAIRS, SETTINGS, tmp_path / "cut")
    assert cut.resumed_from == 2 and cut.curve == whole.curve
    ask = [(pair.query, other.positive) for pair in PAIRS for other in PAIRS]
    scores = [CrossEncoder.load(tmp_path / n).predict(ask) for n in ("whole", "cut")]
    np.testing.assert_array_equal(*scores)


def test_what_cannot_be_trained_on_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    model = CrossEncoder.fresh(tiny_bert)
    with pytest.raises(InputError, match="no pair has a negative"):
        train_cross_encoder(model, [Pair("a", "b")], SETTINGS, tmp_path / "new")
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        train_cross_encoder(model, PAIRS, SETTINGS, tmp_path)
    with pytest.raises(ConfigurationError, match="negatives must be at least 1"):
        CrossEncoderSettings(negatives=0)
