"""The file of a segment: what goes in comes out, merged as written at once, damage is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from llmwright.core import InputError
from llmwright.retrieval.dense import segment as module
from llmwright.retrieval.dense.segment import FILE, DenseSegment, merge_segments, write_segment


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


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_merging_is_writing_what_is_left(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("merge")
    sizes = data.draw(st.lists(st.integers(0, 40), min_size=1, max_size=4))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    segments, keeps, left, left_votes = [], [], [], []
    for i, size in enumerate(sizes):
        votes = rng.random(size) < data.draw(st.sampled_from([0.0, 0.6, 1.0]))
        vectors = unit(i, int(votes.sum()), 24)
        segments.append(written(folder / str(i), vectors, votes))
        keep = rng.random(size) < 0.7 if data.draw(st.booleans()) else np.ones(size, np.bool_)
        keeps.append(keep if data.draw(st.booleans()) or not keep.all() else None)
        left.append(vectors[keep[votes]])
        left_votes.append(votes[keep])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", 16)
        (folder / "merged").mkdir()
        merge_segments(folder / "merged", segments, keeps)
    merged = DenseSegment(folder / "merged")
    assert np.array_equal(merged.matrix, np.concatenate(left))
    assert np.array_equal(merged.votes, np.concatenate(left_votes))
    # The codes are those of the same vectors about the same centre, wherever blocks were cut.
    again = module.encode(merged.matrix, merged.codes.centre)
    differing = np.bitwise_count(again.bits ^ merged.codes.bits).sum()
    assert differing <= 2  # a product may round a value that is nearly zero to either side
    np.testing.assert_allclose(again.scale, merged.codes.scale, rtol=1e-5)
    np.testing.assert_allclose(again.shift, merged.codes.shift, atol=1e-6)


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
