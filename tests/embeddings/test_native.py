"""The compiled encoder against float32, against its like in torch, and the laws of batches."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwright.core import ConfigurationError
from llmwright.embeddings import BertEmbedder, load_embedder
from llmwright.embeddings.bert import BertConfig, BertEncoder
from llmwright.embeddings.native.encoder import (
    KERNELS,
    NativeEncoder,
    int8_in_torch,
    native_fits,
    panels,
    rounded,
)

HERE = bool(KERNELS.available()) and bool(KERNELS.load().lw_bert_supported())
needs_native = pytest.mark.skipif(not HERE, reason="no compiler, or no AVX-512 with BF16")


def random_encoder(hidden: int, heads: int, between: int, seed: int = 0) -> BertEncoder:
    """Weights of the size that training gives: vectors differ, and scores are not all alike."""
    torch.manual_seed(seed)
    encoder = BertEncoder(BertConfig(50, hidden, 2, heads, between, 200))
    for name, weight in encoder.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(weight, std=0.3 / hidden**0.5 if "layers" in name else 1.0)
    return encoder.requires_grad_(False).eval()


def random_texts(seed: int, lengths: list[int]) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 50, (n,), generator=generator).tolist() for n in lengths]


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def by_torch(encoder: BertEncoder, texts: list[list[int]], *, first: bool) -> np.ndarray:
    with torch.inference_mode():
        groups = [encoder([text])[0][0] for text in texts]
    return np.stack([(h[0] if first else h.mean(0)).numpy() for h in groups])


# Sizes that fill panels, vectors and groups of inputs, and sizes that leave some of each empty.
SIZES = [(32, 2, 64), (64, 1, 128), (36, 3, 70), (160, 2, 96), (84, 6, 22)]


@needs_native
@pytest.mark.parametrize(("hidden", "heads", "between"), SIZES)
@pytest.mark.parametrize("first", [False, True])
def test_bfloat16_is_near_float32(hidden: int, heads: int, between: int, first: bool) -> None:
    encoder = random_encoder(hidden, heads, between)
    texts = random_texts(1, [200, 130, 97, 64, 17, 16, 7, 6, 2, 1])
    expected = by_torch(encoder, texts, first=first)
    found = NativeEncoder(encoder).pooled(texts, first=first)
    assert cosine(found, expected).min() > 0.9998
    np.testing.assert_allclose(found, expected, atol=0.03 * np.abs(expected).max())


@needs_native
@pytest.mark.parametrize(("hidden", "heads", "between"), SIZES)
def test_int8_is_as_torch_rounds_it(hidden: int, heads: int, between: int) -> None:
    encoder = random_encoder(hidden, heads, between)
    texts = random_texts(2, [150, 97, 33, 8, 1])
    expected = by_torch(int8_in_torch(encoder), texts, first=False)
    found = NativeEncoder(encoder, int8=True).pooled(texts, first=False)
    # Attention is in bfloat16 there, so a code may fall to the next.
    assert cosine(found, expected).min() > 0.9995
    plain = by_torch(encoder, texts, first=False)
    assert cosine(found, plain).min() > 0.998


@needs_native
@pytest.mark.parametrize("int8", [False, True])
def test_shared_work_gives_the_same_bits(int8: bool) -> None:
    for hidden, heads, between in SIZES:
        encoder = random_encoder(hidden, heads, between)
        alone = NativeEncoder(encoder, int8=int8, threads=1)
        together = NativeEncoder(encoder, int8=int8, threads=3)
        for lengths in ([1], [14], [40, 7, 40], [96], [97]):
            texts = random_texts(5, lengths)
            for _ in range(10):
                assert together.pooled(texts, first=False).tobytes() == (
                    alone.pooled(texts, first=False).tobytes()
                )
            for ours, theirs in zip(together.tokens(texts), alone.tokens(texts), strict=True):
                assert ours.tobytes() == theirs.tobytes()


@needs_native
@pytest.mark.parametrize("int8", [False, True])
@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 120), min_size=1, max_size=8), st.integers(0, 100))
def test_no_text_depends_on_its_neighbours(int8: bool, lengths: list[int], seed: int) -> None:
    native = NativeEncoder(random_encoder(36, 3, 70), int8=int8)
    texts = random_texts(seed, lengths)
    together = native.pooled(texts, first=False)
    for text, vector in zip(texts, together, strict=True):
        assert native.pooled([text], first=False)[0].tobytes() == vector.tobytes()


@needs_native
def test_threads_do_not_meet() -> None:
    native = NativeEncoder(random_encoder(64, 2, 128), threads=2)
    texts = [random_texts(i, [40 + 10 * i, 9]) for i in range(6)]
    expected = [native.pooled(part, first=False) for part in texts]
    found: dict[int, list[bytes]] = {i: [] for i in range(6)}

    def work(i: int) -> None:
        for _ in range(20):
            found[i].append(native.pooled(texts[i], first=False).tobytes())

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, results in found.items():
        assert set(results) == {expected[i].tobytes()}


FORK = """
import os, sys
sys.path.insert(0, sys.argv[1])
from test_native import NativeEncoder, random_encoder, random_texts
native = NativeEncoder(random_encoder(36, 3, 70), threads=2)
texts = random_texts(1, [14])
before = native.pooled(texts, first=False).tobytes()
child = os.fork()
same = native.pooled(texts, first=False).tobytes() == before
if child:
    sys.exit(os.waitpid(child, 0)[1] or not same)
sys.exit(not same)
"""


@needs_native
def test_a_forked_process_has_threads_of_its_own() -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORK, str(Path(__file__).parent)]
    assert subprocess.run(command, timeout=60).returncode == 0


@needs_native
def test_scratch_is_as_large_as_what_is_written() -> None:
    """What lies behind the memory that was asked for stays as it was."""
    for hidden, heads, between in SIZES:
        native = NativeEncoder(random_encoder(hidden, heads, between), threads=3)
        for lengths in ([1], [96], [200], [97, 3], [5] * 30):
            bert, threads = ctypes.byref(native._bert), 3 if sum(lengths) <= 96 else 1
            size = KERNELS.load().lw_bert_scratch(bert, sum(lengths), max(lengths), threads)
            room = np.full(size + 256, 171, np.uint8)
            native._scratch.room = room[:size]
            native.pooled(random_texts(3, lengths), first=False)
            assert native._scratch.room is not None
            assert (room[size:] == 171).all()


def test_packing() -> None:
    codes = torch.arange(70 * 6).view(70, 6)
    packed = panels(codes, 4)
    assert len(packed) == 80 * 8
    first, last = packed[: 64 * 8].view(2, 64, 4), packed[64 * 8 :].view(2, 16, 4)
    assert torch.equal(first[0], codes[:64, :4])
    assert torch.equal(first[1, :, :2], codes[:64, 4:])
    assert torch.equal(last[0, :6], codes[64:, :4])
    assert not last[:, 6:].any()
    assert not first[1, :, 2:].any()
    scale, rounds = rounded(torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0]]))
    assert rounds.tolist() == [[64, -127, 32], [0, 0, 0]]
    assert scale.tolist() == [pytest.approx(2 / 127), 0]


def test_what_the_compiled_encoder_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not native_fits(BertConfig(50, 33, 1, 11, 64))  # heads of 3: no pairs
    assert native_fits(BertConfig(50, 32, 1, 4, 64)) is HERE
    monkeypatch.setenv("LLMWRIGHT_NATIVE", "0")
    assert not native_fits(BertConfig(50, 32, 1, 4, 64))


TEXTS = ["rank", "", "quantization of the model " * 30, "token model rank", "the a", "model"]


def test_precisions_and_fingerprints(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = load_embedder(tiny_bert, precision="float32")
    auto, int8 = load_embedder(tiny_bert), load_embedder(tiny_bert, precision="int8")
    monkeypatch.setenv("LLMWRIGHT_NATIVE", "0")
    without, int8_without = load_embedder(tiny_bert), load_embedder(tiny_bert, precision="int8")
    expected = exact.embed(TEXTS)
    assert np.array_equal(without.embed(TEXTS), expected)
    assert cosine(auto.embed(TEXTS), expected).min() > 0.9998
    assert cosine(int8.embed(TEXTS), expected).min() > 0.995
    assert cosine(int8.embed(TEXTS), int8_without.embed(TEXTS)).min() > 0.999
    assert auto.fingerprint == exact.fingerprint == without.fingerprint
    assert int8.fingerprint == int8_without.fingerprint != exact.fingerprint
    with pytest.raises(ConfigurationError, match="'half' is no precision"):
        load_embedder(tiny_bert, precision="half")  # type: ignore[arg-type]


def test_minilm_keeps_its_vectors(minilm_path: Path) -> None:
    texts = [
        "How does LoRA save memory?",
        "A sentence that is a little longer than the others, with punctuation; and numbers: 3.14!",
        "The adapter's rank bounds how much it can change the weights. " * 20,
    ]
    expected = load_embedder(minilm_path, precision="float32").embed(texts)
    assert cosine(load_embedder(minilm_path).embed(texts), expected).min() > 0.9999
    assert cosine(load_embedder(minilm_path, precision="int8").embed(texts), expected).min() > 0.998


@needs_native
def test_token_vectors_are_those_that_are_pooled(tiny_bert: Path) -> None:
    native = NativeEncoder(random_encoder(36, 3, 70))
    texts = random_texts(4, [5, 40, 1])
    states = native.tokens(texts)
    assert [state.shape for state in states] == [(5, 36), (40, 36), (1, 36)]
    np.testing.assert_allclose(
        [state.mean(0) for state in states], native.pooled(texts, first=False), atol=1e-5
    )
    assert np.array_equal([state[0] for state in states], native.pooled(texts, first=True))
    # And so a span that is the whole text has the text's own vector (late chunking).
    text = "rank of the model and its quantization"
    embedder = load_embedder(tiny_bert)
    assert isinstance(embedder, BertEmbedder)
    found = embedder.embed_spans(text, [(0, len(text))])
    expected = load_embedder(tiny_bert, precision="float32")
    assert isinstance(expected, BertEmbedder)
    assert cosine(found, expected.embed_spans(text, [(0, len(text))])).min() > 0.9998


def test_threads_change_no_vector(tiny_bert: Path) -> None:
    embedder = load_embedder(tiny_bert)
    texts = [f"{'token ' * (i * 7 % 40)} number {i}" for i in range(300)]
    alone = embedder.embed(texts)
    torch.set_num_threads(3)  # the fixture of this folder sets it back
    np.testing.assert_allclose(embedder.embed(texts), alone, atol=0 if HERE else 1e-6)
