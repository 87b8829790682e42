"""The loop on a tiny random encoder: what it writes, that it learns, that a kill costs nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from llmwright.core import ConfigurationError, InputError, ModelSourceError
from llmwright.embeddings import load_embedder
from llmwright.embeddings.encoder import BertEmbedder
from llmwright.embeddings.training import (
    OBJECTIVES,
    EncoderSettings,
    SentenceEncoder,
    train_encoder,
)

TEXTS = ["The cache.", "What does the kernel do?", "A much longer text about the sampler. " * 9, ""]
QUICK = EncoderSettings(
    batch_size=8, epochs=2, learning_rate=1e-3, dtype="float32", matryoshka=(8, 32), seed=3
)


def test_what_is_trained_computes_what_the_embedder_does(tiny_bert: Path) -> None:
    encoder = SentenceEncoder.load(tiny_bert)
    with torch.no_grad():
        ours = encoder(encoder.token_ids(TEXTS, 48, "document")).numpy()
    np.testing.assert_allclose(
        ours, load_embedder(tiny_bert, precision="float32").embed(TEXTS), atol=1e-6
    )


def test_the_folder_opens_here_and_in_sentence_transformers(tiny_bert, pairs, tmp_path) -> None:
    library = pytest.importorskip("sentence_transformers")
    encoder = SentenceEncoder.load(tiny_bert)
    encoder.languages = frozenset({"en", "ru"})
    result = train_encoder(encoder, pairs, QUICK, tmp_path / "model")
    assert result.folder == tmp_path / "model" and result.dimension == 32
    opened = load_embedder(tmp_path / "model", precision="float32")
    assert isinstance(opened, BertEmbedder) and opened.languages == {"en", "ru"}
    vectors = opened.embed(TEXTS)
    with torch.no_grad():
        trained = encoder(encoder.token_ids(TEXTS, 48, "document")).numpy()
    theirs = library.SentenceTransformer(str(tmp_path / "model"), device="cpu")
    np.testing.assert_allclose(vectors, trained, atol=1e-6)
    np.testing.assert_allclose(vectors, theirs.encode(TEXTS), atol=1e-5)
    again = SentenceEncoder.load(tmp_path / "model")  # and can be trained on
    assert again.projection is not None and again.languages == {"en", "ru"}
    curve = (tmp_path / "model" / "curve.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in curve] == list(range(1, len(result.curve) + 1))
    assert not (tmp_path / "model" / "checkpoint.safetensors").exists()


def test_every_objective_learns(tiny_bert, pairs, tmp_path) -> None:
    teacher = load_embedder(tiny_bert)
    for objective in OBJECTIVES:
        settings = replace(QUICK, objective=objective, epochs=6, batch_size=22, weights=(2.0, 1.0))
        encoder = SentenceEncoder.load(tiny_bert)
        if objective == "distillation":  # a student that was moved away from its teacher
            torch.manual_seed(0)
            for parameter in encoder.bert.layers.parameters():
                parameter.data += 0.05 * torch.randn_like(parameter)
        folder = tmp_path / objective
        losses = [
            s.loss for s in train_encoder(encoder, pairs, settings, folder, teacher=teacher).curve
        ]
        assert losses[-1] < 0.9 * losses[0], (objective, losses)


def test_a_turn_alone_changes_no_cosine(tiny_bert, pairs, tmp_path) -> None:
    still = replace(QUICK, learning_rate=1e-12, epochs=1)
    train_encoder(SentenceEncoder.load(tiny_bert), pairs, still, tmp_path / "turned")
    before, after = (
        load_embedder(folder, precision="float32") for folder in (tiny_bert, tmp_path / "turned")
    )
    texts = [text for pair in pairs for text in (pair.positive, *pair.negatives)]
    a, b = before.embed(texts), after.embed(texts)
    np.testing.assert_allclose(a @ a.T, b @ b.T, atol=1e-5)
    spread = b.var(axis=0)
    assert (np.diff(spread) <= 1e-6).all(), "by falling variance"
    assert spread[:8].sum() > a.var(axis=0)[:8].sum()


class Killed(Exception):
    pass


def test_a_run_that_was_killed_goes_on_to_the_same_weights(tiny_bert, pairs, tmp_path) -> None:
    settings = replace(QUICK, checkpoint_every=2)

    def kill(step) -> None:
        if step.step == 4 + 1:
            raise Killed

    with pytest.raises(Killed):
        train_encoder(
            SentenceEncoder.load(tiny_bert), pairs, settings, tmp_path / "a", on_step=kill
        )
    resumed = train_encoder(SentenceEncoder.load(tiny_bert), pairs, settings, tmp_path / "a")
    straight = train_encoder(SentenceEncoder.load(tiny_bert), pairs, settings, tmp_path / "b")
    assert (resumed.resumed_from, straight.resumed_from) == (4, 0)
    assert resumed.curve == straight.curve
    for name in ("model.safetensors", "2_Dense/model.safetensors", "curve.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

    with pytest.raises(Killed):
        train_encoder(
            SentenceEncoder.load(tiny_bert), pairs, settings, tmp_path / "c", on_step=kill
        )
    with pytest.raises(ConfigurationError, match="other data, settings"):
        other = replace(settings, seed=4)
        train_encoder(SentenceEncoder.load(tiny_bert), pairs, other, tmp_path / "c")


def test_bfloat16_computes_nearly_the_same(tiny_bert, pairs, tmp_path) -> None:
    half = replace(QUICK, dtype="bfloat16", epochs=1)
    a = train_encoder(SentenceEncoder.load(tiny_bert), pairs, half, tmp_path / "a").curve
    full = replace(QUICK, epochs=1)
    b = train_encoder(SentenceEncoder.load(tiny_bert), pairs, full, tmp_path / "b").curve
    assert a[0].loss == pytest.approx(b[0].loss, rel=0.05) and a[0].loss != b[0].loss


def test_what_cannot_be_trained(tiny_bert, pairs, tmp_path) -> None:
    encoder = SentenceEncoder.load(tiny_bert)
    with pytest.raises(InputError, match="at least 2"):
        train_encoder(encoder, pairs[:1], QUICK, tmp_path / "x")
    with pytest.raises(ConfigurationError, match="up to 32"):
        train_encoder(encoder, pairs, replace(QUICK, matryoshka=(64,)), tmp_path / "x")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="other files"):
        train_encoder(encoder, pairs, QUICK, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
    with pytest.raises(ConfigurationError, match="no teacher"):
        train_encoder(encoder, pairs, replace(QUICK, objective="distillation"), tmp_path / "x")
    without = [replace(pair, margin=None) for pair in pairs]
    with pytest.raises(ConfigurationError, match="no teacher to give it"):
        train_encoder(encoder, without, replace(QUICK, objective="margin-mse"), tmp_path / "x")
    config = json.loads((tiny_bert / "config.json").read_text()) | {"model_type": "roberta"}
    other = tmp_path / "roberta"
    other.mkdir()
    (other / "config.json").write_text(json.dumps(config))
    (other / "model.safetensors").write_bytes((tiny_bert / "model.safetensors").read_bytes())
    with pytest.raises(ModelSourceError, match="no BERT encoder that can be trained"):
        SentenceEncoder.load(other)
    with pytest.raises(ConfigurationError, match="learning_rate must be above 0"):
        EncoderSettings(learning_rate=0)
    with pytest.raises(ConfigurationError, match="one number of at least 0 for each"):
        EncoderSettings(matryoshka=(8, 16), weights=(1.0,))


def test_the_projection_alone_learns_as_it_would_with_the_rest_frozen(
    tiny_bert, pairs, tmp_path
) -> None:
    settings = replace(QUICK, parts="projection", epochs=4)
    encoder = SentenceEncoder.load(tiny_bert)
    before = {name: t.clone() for name, t in encoder.bert.state_dict().items()}
    curve = train_encoder(encoder, pairs, settings, tmp_path / "alone").curve
    assert all(torch.equal(t, before[name]) for name, t in encoder.bert.state_dict().items())
    assert np.mean([s.loss for s in curve[-3:]]) < np.mean([s.loss for s in curve[:3]])
    full = train_encoder(
        SentenceEncoder.load(tiny_bert), pairs, replace(settings, parts="all"), tmp_path / "all"
    ).curve
    assert curve[0].loss == pytest.approx(full[0].loss, rel=1e-5)
    unturned = replace(settings, rotate=False)
    train_encoder(SentenceEncoder.load(tiny_bert), pairs, unturned, tmp_path / "unturned")
    vectors = load_embedder(tmp_path / "unturned").embed(TEXTS)
    assert not np.allclose(vectors, load_embedder(tiny_bert).embed(TEXTS), atol=1e-3)


def test_texts_are_read_alike_by_the_compiled_encoder(tiny_bert, pairs, tmp_path) -> None:
    settings = replace(QUICK, parts="projection", learning_rate=1e-12, epochs=1)
    for name, dtype in (("full", "float32"), ("half", "bfloat16")):
        encoder = SentenceEncoder.load(tiny_bert)
        train_encoder(encoder, pairs, replace(settings, dtype=dtype), tmp_path / name)
    a, b = (
        load_embedder(tmp_path / n).embed([p.positive for p in pairs]) for n in ("full", "half")
    )
    np.testing.assert_allclose(a @ a.T, b @ b.T, atol=0.01)
