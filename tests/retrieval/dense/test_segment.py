"""The file of a segment: what goes in comes out, damage is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from llmwright.core import InputError
from llmwright.retrieval.dense import segment as module
from llmwright.retrieval.dense.codes import encode
from llmwright.retrieval.dense.segment import FILE, DenseSegment, write_segment


def unit(seed: int, n: int, dimension: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((n, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def written(folder: Path, vectors: np.ndarray, votes: np.ndarray | None = None) -> DenseSegment:
    folder.mkdir(exist_ok=True)
    write_segment(folder, vectors, np.ones(len(vectors), np.bool_) if votes is None else votes)
    return DenseSegment(folder)


@pytest.mark.parametrize("native", ["0", "1"])
def test_vectors_come_back(tmp_path: Path, native: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMWRIGHT_NATIVE", native)
    votes = np.array([1, 0, 0, 1, 1, 0, 1], np.bool_)
    vectors = unit(0, 4, 70)
    segment = written(tmp_path / "s", vectors, votes)
    assert (segment.rows, segment.voting, segment.dimension) == (7, 4, 70)
    assert segment.votes.tolist() == votes.tolist()
    assert np.array_equal(segment.matrix, vectors)
    assert np.array_equal(segment.vectors(np.array([6, 0, 4, 0])), vectors[[3, 0, 2, 0]])
    assert segment.vectors(np.array([], np.int64)).shape == (0, 70)
    with pytest.raises(IndexError):
        segment.at(np.array([4]))
    # Anyone can read the file.
    tensors = load_file(segment.path)
    assert np.array_equal(tensors["vectors"], vectors)
    assert np.array_equal(tensors["bits"], segment.codes.bits)


def test_a_removed_file_can_still_be_read(tmp_path: Path) -> None:
    vectors = unit(1, 20, 8)
    segment = written(tmp_path, vectors)
    segment.path.unlink()
    assert np.array_equal(segment.at(np.arange(20)), vectors)
    assert len(segment.codes) == 20


def test_codes_are_those_of_the_vectors_about_their_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", 16)
    vectors = unit(4, 43, 24)
    codes = written(tmp_path, vectors).codes
    np.testing.assert_allclose(codes.centre, vectors.mean(axis=0), atol=1e-7)
    again = encode(vectors, codes.centre)
    # A product may round a value that is nearly zero to either side.
    assert np.bitwise_count(again.bits ^ codes.bits).sum() <= 2
    np.testing.assert_allclose(again.scale, codes.scale, rtol=1e-5)
    np.testing.assert_allclose(again.shift, codes.shift, atol=1e-6)
    assert np.array_equal(again.turned_centre, codes.turned_centre)


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        DenseSegment(tmp_path)
    segment = written(tmp_path, unit(2, 30, 16))
    whole = segment.path.read_bytes()
    for broken in (whole[:4], whole[:60], b"\xff" * 8 + whole[8:], whole.replace(b"bits", b"bats")):
        segment.path.write_bytes(broken)
        with pytest.raises(InputError, match="header is damaged"):
            DenseSegment(tmp_path)
    segment.path.write_bytes(whole[:-1])
    with pytest.raises(InputError, match="ends too early"):
        DenseSegment(tmp_path)


@pytest.mark.parametrize("native", ["0", "1"])
def test_a_file_cut_while_open_is_named(
    tmp_path: Path, native: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMWRIGHT_NATIVE", native)
    segment = written(tmp_path, unit(2, 30, 16))
    with segment.path.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(InputError, match="too early"):
        segment.at(np.array([29]))


def test_as_many_vectors_as_votes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 rows vote, and 3 vectors"):
        write_segment(tmp_path, unit(3, 3, 8), np.array([1, 1, 0], np.bool_))
    assert not (tmp_path / FILE).exists()
