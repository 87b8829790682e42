"""A classifier of tokens gives the probabilities that transformers gives, word by word."""

from __future__ import annotations

import shutil

import pytest
import torch

from llmwright.core import ModelSourceError
from llmwright.embeddings.token_classifier import TokenClassifier


@pytest.fixture(scope="module")
def folder(tiny_bert, tmp_path_factory):
    from transformers import BertForTokenClassification

    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("tokens")
    model = BertForTokenClassification.from_pretrained(tiny_bert, num_labels=3)
    torch.nn.init.normal_(model.classifier.weight, std=1.0)
    torch.nn.init.normal_(model.classifier.bias, std=1.0)
    model.config.id2label = {0: "drop", 1: "keep", 2: "maybe"}
    model.save_pretrained(folder)
    shutil.copy(tiny_bert / "tokenizer.json", folder)
    return folder


TEXT = "Tokenization cuts a text into pieces,  and\nvocabularies (of 32,000 entries) hold them."


def test_every_word_has_the_mean_of_what_transformers_gives_its_tokens(folder):
    from transformers import BertForTokenClassification

    classifier = TokenClassifier.load(folder)
    assert classifier.labels == ("drop", "keep", "maybe")
    words = classifier.words(TEXT)
    assert [TEXT[start:end] for start, end, _ in words] == TEXT.split()
    encoding = classifier.tokenizer.encode(TEXT)
    model = BertForTokenClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        theirs = model(torch.tensor([encoding.ids])).logits[0].softmax(-1)  # [tokens, labels]
    for start, end, ours in words:
        tokens = [i for i, (a, b) in enumerate(encoding.offsets) if start <= a < b <= end]
        assert tokens and ours == pytest.approx(theirs[tokens].mean(0).tolist(), abs=1e-5)


def test_a_text_longer_than_the_window_is_read_in_windows_cut_between_words(folder):
    classifier = TokenClassifier.load(folder)
    text = " ".join([TEXT] * 6)
    words = classifier.words(text)
    assert [text[start:end] for start, end, _ in words] == text.split()
    first = classifier.words(TEXT)[0]
    assert words[0][2] != pytest.approx(first[2])  # it sees more of the text in its window
    assert all(sum(p) == pytest.approx(1.0, abs=1e-5) for _, _, p in words)
    (endless,) = classifier.words("x" * 400)
    assert endless[:2] == (0, 400)
    assert classifier.words("") == classifier.words(" \n") == []


def test_a_folder_without_such_a_head_is_refused(tiny_bert):
    with pytest.raises(ModelSourceError, match="no classifier of tokens"):
        TokenClassifier.load(tiny_bert)
