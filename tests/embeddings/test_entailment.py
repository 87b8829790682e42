"""An entailment model gives the probabilities that transformers gives."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from llmwright.core import ModelSourceError
from llmwright.embeddings.entailment import EntailmentModel


@pytest.fixture(scope="module")
def folder(tiny_bert, tmp_path_factory):
    from transformers import BertForSequenceClassification

    torch.manual_seed(2)
    folder = tmp_path_factory.mktemp("nli")
    model = BertForSequenceClassification.from_pretrained(tiny_bert, num_labels=3)
    for layer in (model.classifier, model.bert.pooler.dense):
        torch.nn.init.normal_(layer.weight, std=0.5)
        torch.nn.init.normal_(layer.bias, std=0.5)
    model.config.id2label = {0: "CONTRADICTION", 1: "ENTAILMENT", 2: "NEUTRAL"}
    model.save_pretrained(folder)
    shutil.copy(tiny_bert / "tokenizer.json", folder)
    return folder


PAIRS = [
    ("A tokenizer cuts text into pieces.", "Text is cut."),
    ("The rank is small. The adapter is cheap.", "The model is expensive to train."),
    ("Words", ""),
]


def test_probabilities_are_those_of_transformers(folder):
    from transformers import BertForSequenceClassification

    model = EntailmentModel.load(folder)
    assert model.labels == ("contradiction", "entailment", "neutral") and model.entailment == 1
    ours = model.probabilities(PAIRS)
    theirs = BertForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = model.encoder.tokenizer
    for (premise, hypothesis), row in zip(PAIRS, ours, strict=True):
        pair = tokenizer.encode(premise, hypothesis)
        with torch.inference_mode():
            logits = theirs(
                torch.tensor([pair.ids]), token_type_ids=torch.tensor([pair.type_ids])
            ).logits  # [1, labels]
        assert row == pytest.approx(logits.softmax(-1)[0].numpy(), abs=1e-5)
    assert model(PAIRS) == pytest.approx(ours[:, 1].tolist())
    assert np.ptp(ours[:, 1]) > 1e-3  # it looks at the texts
    assert model([]) == []


def test_another_model_is_refused(tiny_bert):
    with pytest.raises(ModelSourceError, match="no entailment model"):
        EntailmentModel.load(tiny_bert)
