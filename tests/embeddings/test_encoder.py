"""The BERT embedder: the reference's vectors, laws of batching, pooling, truncation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from llmwright.core import Embedder, ModelSourceError
from llmwright.embeddings import (
    BertEmbedder,
    SentenceTransformerEmbedder,
    encoder,
    load_embedder,
)

TEXTS = [
    "How does LoRA save memory?",
    "",
    "  \n ",
    "Какой ранг выбрать для LoRA?",
    "量子化とは何ですか",
    "A sentence that is a little longer than the others, with punctuation; and numbers: 3.14!",
    "token " * 300,
    "x" * 500,
]


def reference_vectors(folder: Path, texts: list[str], max_tokens: int) -> np.ndarray:
    """transformers' BertModel, padded and masked, mean pooling as on the model's card."""
    from transformers import BertModel

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(max_tokens)
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(texts)
    ids = torch.tensor([e.ids for e in encoded])
    mask = torch.tensor([e.attention_mask for e in encoded])
    with torch.inference_mode():
        hidden = BertModel.from_pretrained(folder).eval()(ids, attention_mask=mask)
    weights = mask.unsqueeze(-1).float()
    pooled = (hidden.last_hidden_state * weights).sum(1) / weights.sum(1)
    return torch.nn.functional.normalize(pooled, dim=1).numpy()


def test_minilm_equals_the_reference(minilm_path: Path) -> None:
    embedder = load_embedder(minilm_path, precision="float32")
    assert isinstance(embedder, BertEmbedder)
    assert isinstance(embedder, Embedder)
    assert (embedder.dimension, embedder.max_tokens) == (384, 256)
    assert embedder.languages == frozenset({"en"})
    ours = embedder.embed(TEXTS)
    theirs = reference_vectors(minilm_path, TEXTS, 256)
    assert ours.dtype == np.float32
    assert np.abs(ours - theirs).max() < 1e-5
    assert (ours * theirs).sum(1).min() > 0.9999
    # Meaning, not only numbers: the paraphrase is nearer than another question.
    near, far, query = embedder.embed(
        ["LoRA needs little memory.", "Cats sleep all day.", TEXTS[0]], kind="query"
    )
    assert query @ near > query @ far + 0.3


def test_minilm_equals_sentence_transformers(minilm_path: Path) -> None:
    library = pytest.importorskip(
        "sentence_transformers", reason="sentence-transformers is an extra (llmwright[hub])"
    )
    theirs = library.SentenceTransformer(str(minilm_path), device="cpu").encode(
        TEXTS, normalize_embeddings=True, show_progress_bar=False
    )
    exact = load_embedder(minilm_path, precision="float32").embed(TEXTS)
    assert np.abs(exact - theirs).max() < 1e-5
    assert (load_embedder(minilm_path).embed(TEXTS) * theirs).sum(1).min() > 0.9995


def test_tiny_equals_the_reference_with_mean_and_with_cls(tiny_bert: Path, tmp_path: Path) -> None:
    expected = reference_vectors(tiny_bert, TEXTS, 48)
    exact = load_embedder(tiny_bert, precision="float32")
    np.testing.assert_allclose(exact.embed(TEXTS), expected, atol=1e-5)

    folder = Path(shutil.copytree(tiny_bert, tmp_path / "cls"))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    embedder = load_embedder(folder)
    vectors = embedder.embed(["one two three", "four"])
    assert np.abs(vectors - load_embedder(tiny_bert).embed(["one two three", "four"])).max() > 0.01
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert embedder.fingerprint != load_embedder(tiny_bert).fingerprint


def test_long_texts_are_cut_where_the_reference_cuts(tiny_bert: Path) -> None:
    embedder = load_embedder(tiny_bert)
    words = ["a"] * 46  # and [CLS] and [SEP]: 48 tokens
    tokenizer = Tokenizer.from_file(str(tiny_bert / "tokenizer.json"))
    assert len(tokenizer.encode(" ".join(words)).ids) == 48
    exact, longer, shorter = embedder.embed(
        [" ".join(words), " ".join([*words, "model"]), " ".join(words[:-1])]
    )
    assert np.array_equal(exact, longer)
    assert not np.array_equal(exact, shorter)


words = st.lists(
    st.sampled_from(["rank", "token", "model", "the", "a", "quantization", "ы"]), max_size=60
)


@settings(max_examples=25, deadline=None)
@given(st.lists(words.map(" ".join), max_size=20), st.sampled_from([1, 16, 100, 10_000]))
def test_batching_keeps_order_and_changes_no_vector(
    tiny_bert: Path, texts: list[str], batch_tokens: int
) -> None:
    embedder = load_embedder(tiny_bert)
    before = encoder.BATCH_TOKENS
    encoder.BATCH_TOKENS = batch_tokens
    try:
        together = embedder.embed(texts)
    finally:
        encoder.BATCH_TOKENS = before
    assert together.shape == (len(texts), 32)
    for text, vector in zip(texts, together, strict=True):
        # Equal bits on the machines we know; other matrix libraries may differ in the last.
        np.testing.assert_allclose(embedder.embed([text])[0], vector, atol=1e-6)
    assert np.array_equal(together, embedder.embed(texts)) or batch_tokens < 10_000


def test_many_texts_keep_their_places(tiny_bert: Path) -> None:
    embedder = load_embedder(tiny_bert)
    texts = [f"{'token ' * (i * 7 % 40)} number {i}" for i in range(500)]
    vectors = embedder.embed(texts)
    picked = [0, 1, 17, 123, 250, 499]
    np.testing.assert_allclose(
        vectors[picked], embedder.embed([texts[i] for i in picked]), atol=1e-6
    )


def test_prompts_and_lower_case_from_the_folder(tiny_bert: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "prompted"))
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "the query of ", "document": ""}})
    )
    prompted, plain = load_embedder(folder), load_embedder(tiny_bert)
    assert np.array_equal(prompted.embed(["rank"]), plain.embed(["rank"]))
    assert np.array_equal(
        prompted.embed(["rank"], kind="query"), plain.embed(["the query of rank"], kind="query")
    )


@pytest.mark.parametrize(
    ("says", "query", "document"),
    [
        ({"prompts": {"query": "rank ", "passage": "the "}}, "rank ", "the "),
        ({"prompts": {"query": "", "corpus": "the ", "other": "of "}}, "", "the "),
        ({"prompts": {"other": "of "}, "default_prompt_name": "other"}, "of ", "of "),
        ({"prompts": {"other": "of "}}, "", ""),
        ({"prompts": None}, "", ""),
    ],
)
def test_names_of_prompts_are_those_of_sentence_transformers(
    tiny_bert: Path, tmp_path: Path, says: dict[str, object], query: str, document: str
) -> None:
    """As that library documents them."""
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "prompted"))
    (folder / "config_sentence_transformers.json").write_text(json.dumps(says))
    ours = load_embedder(folder, precision="float32")
    plain = load_embedder(tiny_bert, precision="float32")
    wanted = plain.embed([query + "model"])[0], plain.embed([document + "model"])[0]
    assert np.array_equal(ours.embed(["model"], kind="query")[0], wanted[0])
    assert np.array_equal(ours.embed(["model"])[0], wanted[1])


def test_sentence_transformers_is_asked_for_each_kind(tiny_bert: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "prompted"))
    says = {"prompts": {"query": "rank ", "document": "the "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(says))
    pytest.importorskip("sentence_transformers", reason="an extra (llmwright[hub])")
    tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    kinds = (("", "Transformer"), ("1_Pooling", "Pooling"))
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    plain = load_embedder(tiny_bert, precision="float32")
    theirs = SentenceTransformerEmbedder(folder, name="m", fingerprint="f", languages=None)
    for kind, expected in (("query", "rank model"), ("document", "the model")):
        vectors = plain.embed([expected])
        np.testing.assert_allclose(theirs.embed(["model"], kind=kind), vectors, atol=1e-5)
        ours = load_embedder(folder, precision="float32")
        np.testing.assert_allclose(ours.embed(["model"], kind=kind), vectors, atol=1e-5)


def test_a_broken_tokenizer_is_named(tiny_bert: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "broken"))
    (folder / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(ModelSourceError, match=r"tokenizer\.json cannot be read"):
        load_embedder(folder)
    whole = json.loads((tiny_bert / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**whole, "post_processor": None}))
    with pytest.raises(ModelSourceError, match=r"tokenizer\.json adds no \[CLS\]"):
        load_embedder(folder)


@pytest.mark.parametrize(
    ("file", "change", "fit"),
    [
        ("config.json", {}, True),
        ("config.json", {"model_type": "xlm-roberta"}, True),
        ("config.json", {"model_type": "mpnet"}, False),
        ("config.json", {"hidden_act": "relu"}, False),
        ("config.json", {"position_embedding_type": "relative_key"}, False),
        ("config.json", {"is_decoder": True}, False),
        ("modules.json", [{"type": "a.Transformer"}, {"type": "a.Pooling"}], True),
        ("modules.json", [{"type": "a.Transformer"}, {"type": "a.Dense"}], False),
        ("1_Pooling/config.json", {"pooling_mode": "cls"}, True),
        ("1_Pooling/config.json", {"pooling_mode": "cls", "include_prompt": False}, False),
        ("1_Pooling/config.json", {"pooling_mode": "max"}, False),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, False),
        (
            "1_Pooling/config.json",
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
            False,
        ),
    ],
)
def test_what_our_encoder_computes(
    tiny_bert: Path, tmp_path: Path, file: str, change: object, fit: bool
) -> None:
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "model"))
    path = folder / file
    path.parent.mkdir(exist_ok=True)
    if isinstance(change, dict) and path.is_file():
        change = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps(change))
    assert encoder.fits(folder) is fit


def test_without_a_tokenizer_our_encoder_does_not_fit(tiny_bert: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "model"))
    (folder / "tokenizer.json").unlink()
    assert not encoder.fits(folder)
