"""SPLADE against sentence-transformers; learned term weights by their equation and by what they
learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from llmwright.core import InputError, ModelSourceError
from llmwright.embeddings.impact import ImpactEncoder, train_impact
from llmwright.embeddings.sparse import SparseVectors
from llmwright.embeddings.splade import SpladeEncoder
from llmwright.embeddings.token_states import TokenStates

TEXTS = [
    "retrieval finds passages",
    "",
    "the weights of a model and the tokens of a text " * 3,
    "tokens",
]


@pytest.fixture(scope="module")
def tiny_splade(tiny_bert, tmp_path_factory):
    """The tiny BERT with a random language model's head."""
    from transformers import AutoConfig, BertForMaskedLM

    folder = tmp_path_factory.mktemp("splade")
    torch.manual_seed(1)
    model = BertForMaskedLM(AutoConfig.from_pretrained(tiny_bert))
    model.bert.load_state_dict(load_file(tiny_bert / "model.safetensors"), strict=False)
    for parameter in model.cls.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.tie_weights()
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes((tiny_bert / "tokenizer.json").read_bytes())
    return folder


def test_splade_is_sentence_transformers(tiny_splade):
    from sentence_transformers import SparseEncoder
    from sentence_transformers.sparse_encoder.modules import MLMTransformer, SpladePooling
    from transformers import PreTrainedTokenizerFast

    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(
        tokenizer_file=str(tiny_splade / "tokenizer.json"), unk_token="[UNK]", **names
    ).save_pretrained(tiny_splade)
    theirs = SparseEncoder(
        modules=[MLMTransformer(str(tiny_splade), max_seq_length=48), SpladePooling("max")],
        device="cpu",
    )
    expected = theirs.encode(TEXTS, convert_to_sparse_tensor=False).numpy()
    encoder = SpladeEncoder.load(tiny_splade, max_tokens=48)
    found = encoder.encode(TEXTS)
    assert found.dense(encoder.vocabulary) == pytest.approx(expected, abs=1e-5)
    assert (found.weights > 0).all() and len(found) == 4
    assert 0 < len(found.terms) < 4 * encoder.vocabulary


def test_splade_needs_its_head(tiny_bert, tiny_splade, tmp_path):
    with pytest.raises(ModelSourceError, match="no masked-language-model head"):
        SpladeEncoder.load(tiny_bert)
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((tiny_splade / name).read_bytes())
    tensors = load_file(tiny_splade / "model.safetensors")
    tensors["cls.predictions.decoder.weight"] = (
        tensors["bert.embeddings.word_embeddings.weight"] * 2
    )
    save_file(tensors, tmp_path / "model.safetensors")
    untied = SpladeEncoder.load(tmp_path).encode(["tokens"])
    assert not np.array_equal(
        untied.weights, SpladeEncoder.load(tiny_splade).encode(["tokens"]).weights
    )


def test_sparse_rows():
    rows = [(np.array([1, 3], np.int32), np.array([0.5, 2], np.float32))]
    nothing = (np.empty(0, np.int32), np.empty(0, np.float32))
    vectors = SparseVectors.of_rows([nothing, *rows, nothing])
    assert vectors.dense(5).tolist() == [[0] * 5, [0, 0.5, 0, 2, 0], [0] * 5]
    assert [len(vectors.row(n)[0]) for n in range(3)] == [0, 2, 0]
    assert len(SparseVectors.of_rows([])) == 0


@pytest.fixture(scope="module")
def states(tiny_bert):
    return TokenStates.load(tiny_bert, 48)


def test_a_terms_weight_is_its_best_places(states):
    head = torch.randn(states.hidden + 1, generator=torch.Generator().manual_seed(0))
    vectors = ImpactEncoder(states, head).encode(TEXTS)
    for number, ids in enumerate(states.token_ids(TEXTS)):
        ((_, hidden),) = states.of_ids([ids])
        expected = np.zeros(states.encoder.config.vocab_size)
        for token, state in zip(ids, hidden, strict=True):
            if token not in states.special:
                weight = float((state * head[:-1]).sum() + head[-1])
                expected[token] = max(expected[token], weight)
        found = vectors.dense(len(expected))[number]
        assert found == pytest.approx(expected, abs=1e-4)
    assert not len(vectors.row(1)[0]) and len(vectors.row(2)[0])


def test_training_learns_which_words_tell(states, tmp_path):
    """Each text holds the word asked for and a word that all texts hold: the head learns it."""
    words = ["model", "token", "weight", "layer", "prompt", "search", "text", "word"]
    pairs = [(f"the {word}", f"{word} the the") for word in words]
    encoder = train_impact(states, pairs, epochs=40, batch=8)
    again = train_impact(states, pairs, epochs=40, batch=8)
    assert torch.equal(encoder.head, again.head)

    def margin(encoder: ImpactEncoder) -> float:
        queries = encoder.encode([q for q, _ in pairs]).dense(encoder.vocabulary)
        texts = encoder.encode([t for _, t in pairs]).dense(encoder.vocabulary)
        scores = queries @ texts.T
        return float(np.mean(scores.diagonal() - (scores.sum(1) - scores.diagonal()) / 7))

    plain = ImpactEncoder(states, torch.tensor([0.0] * states.hidden + [1.0]))
    assert margin(encoder) > 2 * margin(plain)
    encoder.save(tmp_path / "head")
    loaded = ImpactEncoder.load(tmp_path / "head", states)
    assert torch.equal(loaded.head, encoder.head)


def test_what_cannot_be_a_head(states, tmp_path):
    with pytest.raises(InputError, match="fewer than two texts"):
        train_impact(states, [("a", "b"), ("c", "b")])
    with pytest.raises(ModelSourceError, match="the head cannot be read"):
        ImpactEncoder.load(tmp_path, states)
    ImpactEncoder(states, torch.zeros(3)).save(tmp_path)
    with pytest.raises(ModelSourceError, match="the head has 3 weights for an encoder of 32"):
        ImpactEncoder.load(tmp_path, states)


def test_states_can_be_learned_from_and_need_tokens(states):
    from llmwright.core import ConfigurationError

    for _, _, hidden in states.of_texts(["a text"]):
        assert not torch.is_inference_mode_enabled() and hidden.shape[1] == states.hidden
    with pytest.raises(ConfigurationError, match="a text has no tokens"):
        list(states.of_ids([[]]))
