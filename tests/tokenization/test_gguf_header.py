"""Our reading of a GGUF file's head against the gguf package's."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from llmwright.core import ModelSourceError
from llmwright.tokenization import read_gguf


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Every type of value, several shapes and types of tensor."""
    path = tmp_path / "t.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint8("u8", 255)
    writer.add_int8("i8", -128)
    writer.add_uint16("u16", 65535)
    writer.add_int16("i16", -32768)
    writer.add_uint32("u32", 2**32 - 1)
    writer.add_int32("i32", -(2**31))
    writer.add_uint64("u64", 2**64 - 1)
    writer.add_int64("i64", -(2**63))
    writer.add_float32("f32", 1.5)
    writer.add_float64("f64", 0.1)
    writer.add_bool("yes", True)
    writer.add_string("text", "привет 🎉")
    writer.add_array("strings", ["a", "", "ж"])
    writer.add_array("numbers", [1, -2, 3])
    writer.add_array("floats", [1.0, 2.5])
    writer.add_custom_alignment(64)
    writer.add_tensor("vector", np.arange(5, dtype=np.float32))
    writer.add_tensor("matrix", np.ones((3, 32), dtype=np.float16))
    blocks = gguf.quants.quantize(
        np.ones((4, 64), dtype=np.float32), gguf.GGMLQuantizationType.Q8_0
    )
    writer.add_tensor("blocks", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def compare(path: Path) -> None:
    ours, theirs = read_gguf(path), gguf.GGUFReader(path)
    for name, field in theirs.fields.items():
        if not name.startswith("GGUF."):
            assert ours.metadata[name] == field.contents(), name
    assert len(ours.metadata) == len(theirs.fields) - 3
    assert len(ours.tensors) == len(theirs.tensors)
    for tensor in theirs.tensors:
        mine = ours.tensors[tensor.name]
        assert mine.shape == tuple(int(n) for n in reversed(tensor.shape))
        assert (mine.type, mine.offset, mine.size) == (
            tensor.tensor_type,
            tensor.data_offset,
            tensor.n_bytes,
        )


def test_every_value_and_tensor_is_read_as_the_gguf_package_does(file: Path) -> None:
    compare(file)


@pytest.mark.xdist_group("smollm2")
def test_the_embedded_model_s_head(smollm2_path: Path) -> None:
    compare(smollm2_path)


def test_no_length_of_the_file_gives_anything_but_one_sentence(file: Path) -> None:
    content = file.read_bytes()
    last = max(tensor.offset + tensor.size for tensor in read_gguf(file).tensors.values())
    for length in [*range(0, last, 7), last - 1]:
        file.write_bytes(content[:length])
        with pytest.raises(ModelSourceError) as caught:
            read_gguf(file)
        assert "\n" not in str(caught.value)


def test_random_damage_never_escapes(file: Path) -> None:
    content = file.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(400):
        broken = bytearray(content)
        for place in rng.integers(4, 700, 3):
            broken[place] = rng.integers(256)
        file.write_bytes(bytes(broken))
        try:
            read_gguf(file)
        except ModelSourceError:
            continue


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (b"PK\x03\x04", "not a GGUF file"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(16), "version 50331648 is not supported"),
        (b"GGUF" + struct.pack("<I", 1) + bytes(16), "version 1 is not supported"),
    ],
)
def test_other_files(tmp_path: Path, head: bytes, says: str) -> None:
    (tmp_path / "x.gguf").write_bytes(head)
    with pytest.raises(ModelSourceError, match=says):
        read_gguf(tmp_path / "x.gguf")
    with pytest.raises(ModelSourceError, match="cannot be read"):
        read_gguf(tmp_path / "missing.gguf")
