"""The cross-encoder: equal to transformers' and sentence-transformers', laws of batches and cuts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwright.core import ModelSourceError
from llmwright.embeddings.cross_encoder import CrossEncoder, batched

QUERY = "How does LoRA save memory?"
PAIRS = [
    (QUERY, "It trains two small matrices beside a frozen one."),
    (QUERY, ""),
    ("", "A passage without a question."),
    ("rank", "token " * 300),
    ("Какой ранг?", "量子化とは"),
    (QUERY, "x" * 80),
]


@pytest.fixture(scope="module")
def folder(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random ``BertForSequenceClassification`` with one label."""
    from transformers import BertForSequenceClassification

    target = tmp_path_factory.mktemp("cross") / "model"
    shutil.copytree(tiny_bert, target)
    torch.manual_seed(3)
    model = BertForSequenceClassification.from_pretrained(target, num_labels=1)
    for layer in (model.bert.pooler.dense, model.classifier):
        torch.nn.init.normal_(layer.weight, std=0.5)
        torch.nn.init.normal_(layer.bias, std=0.5)
    model.save_pretrained(target)
    about = {"tokenizer_class": "BertTokenizer", "model_max_length": 64}
    (target / "tokenizer_config.json").write_text(json.dumps(about))
    return target


def test_scores_equal_those_of_transformers(folder: Path) -> None:
    from transformers import BertForSequenceClassification

    ours = CrossEncoder.load(folder)
    ids, firsts = ours.token_ids(PAIRS)
    reference = BertForSequenceClassification.from_pretrained(folder).eval()
    expected = []
    with torch.inference_mode():
        for one, first in zip(ids, firsts, strict=True):
            kinds = [0] * first + [1] * (len(one) - first)
            logit = reference(torch.tensor([one]), token_type_ids=torch.tensor([kinds])).logits
            expected.append(logit.item())
    assert np.std(expected) > 0.01
    logits = ours.predict(PAIRS, activation="identity")
    np.testing.assert_allclose(logits, expected, atol=2e-5)
    np.testing.assert_allclose(ours.predict(PAIRS), 1 / (1 + np.exp(-np.array(expected))), 1e-4)


def test_scores_and_ranks_equal_those_of_sentence_transformers(folder: Path) -> None:
    from sentence_transformers import CrossEncoder as Reference

    theirs = Reference(str(folder), device="cpu", local_files_only=True)
    ours = CrossEncoder.load(folder)
    np.testing.assert_allclose(ours.predict(PAIRS), theirs.predict(PAIRS), atol=1e-4)
    documents = [passage for _, passage in PAIRS]
    expected = theirs.rank(QUERY, documents)
    found = ours.rank(QUERY, documents)
    assert [place for place, _ in found] == [one["corpus_id"] for one in expected]
    np.testing.assert_allclose([s for _, s in found], [o["score"] for o in expected], atol=1e-4)
    assert ours.rank(QUERY, documents, top=2) == found[:2]


@pytest.mark.parametrize("activation", ["sigmoid", "identity"])
def test_a_saved_model_is_opened_by_all_three(
    folder: Path, tmp_path: Path, activation: str
) -> None:
    from sentence_transformers import CrossEncoder as Reference
    from transformers import BertForSequenceClassification

    ours = CrossEncoder.load(folder)
    ours.activation = activation  # type: ignore[assignment]
    ours.save(tmp_path / "saved")
    expected = ours.predict(PAIRS)
    again = CrossEncoder.load(tmp_path / "saved")
    assert again.activation == activation and again.max_tokens == 64
    np.testing.assert_array_equal(again.predict(PAIRS), expected)
    theirs = Reference(str(tmp_path / "saved"), device="cpu", local_files_only=True)
    np.testing.assert_allclose(theirs.predict(PAIRS), expected, atol=1e-4)
    loaded, about = BertForSequenceClassification.from_pretrained(
        tmp_path / "saved", output_loading_info=True
    )
    assert loaded.config.num_labels == 1 and not about["missing_keys"]


@settings(max_examples=20)
@given(st.permutations(range(len(PAIRS))))
def test_a_score_does_not_depend_on_the_company(folder: Path, order: list[int]) -> None:
    model = _shared(folder)
    alone = np.concatenate([model.predict([pair]) for pair in PAIRS])
    together = model.predict([PAIRS[place] for place in order] * 2)
    np.testing.assert_allclose(together, np.tile(alone[order], 2), atol=2e-6)


_MODELS: dict[Path, CrossEncoder] = {}


def _shared(folder: Path) -> CrossEncoder:
    return _MODELS.setdefault(folder, CrossEncoder.load(folder))


def test_only_the_passage_is_cut(folder: Path) -> None:
    model = _shared(folder)
    begin, end = model.tokenizer.encode("").ids
    query = model.tokenizer.encode(QUERY, add_special_tokens=False).ids
    (ids,), (first,) = model.token_ids([(QUERY, "word " * 200)])
    assert len(ids) == 64 and ids[:first] == [begin, *query, end] and ids[-1] == end
    (ids,), (first,) = model.token_ids([("word " * 200, "passage")])
    assert len(ids) == 64 and ids[-2:] == [end, end] and first == 63
    (ids,), _ = model.token_ids([(QUERY, "word " * 200)], max_tokens=30)
    assert len(ids) == 30
    assert model.predict([("half \ud800 a pair", "\udc00")]).shape == (1,)
    assert model.predict([]).shape == (0,)


def test_bfloat16_is_near(folder: Path) -> None:
    exact = _shared(folder).predict(PAIRS, activation="identity")
    half = CrossEncoder.load(folder, dtype="bfloat16").predict(PAIRS, activation="identity")
    # Weights of this size magnify rounding; a trained model's logits move by about 0.01.
    assert 0 < np.abs(exact - half).max() < 0.3 * np.abs(exact).max()
    assert np.corrcoef(exact, half)[0, 1] > 0.98


def test_a_fresh_model_is_an_encoder_with_a_new_head(tiny_bert: Path, folder: Path) -> None:
    one, same, other = (CrossEncoder.fresh(tiny_bert, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.classifier.weight, same.classifier.weight)
    assert not torch.equal(one.classifier.weight, other.classifier.weight)
    assert all(parameter.requires_grad for parameter in one.parameters())
    assert torch.equal(
        CrossEncoder.fresh(folder).classifier.weight, _shared(folder).classifier.weight
    )


def test_what_is_no_cross_encoder_is_refused(folder: Path, tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelSourceError, match="no cross-encoder"):
        CrossEncoder.load(tiny_bert)
    several = Path(shutil.copytree(folder, tmp_path / "several"))
    config = json.loads((several / "config.json").read_text())
    labels = {"id2label": {"0": "A", "1": "B"}}
    (several / "config.json").write_text(json.dumps({**config, **labels}))
    with pytest.raises(ModelSourceError, match="no cross-encoder"):
        CrossEncoder.load(several)
    (several / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))
    with pytest.raises(ModelSourceError, match="no BERT"):
        CrossEncoder.fresh(several)
    headless = Path(shutil.copytree(folder, tmp_path / "headless"))
    shutil.copyfile(tiny_bert / "model.safetensors", headless / "model.safetensors")
    with pytest.raises(ModelSourceError, match="missing or of another shape"):
        CrossEncoder.load(headless)


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 60))
def test_batches_hold_every_place_once_and_no_more_than_they_may(
    lengths: list[int], most: int
) -> None:
    order = list(range(len(lengths)))
    batches = batched(order, lengths, most)
    assert [place for batch in batches for place in batch] == order
    assert all(len(b) == 1 or sum(lengths[i] for i in b) <= most for b in batches)
