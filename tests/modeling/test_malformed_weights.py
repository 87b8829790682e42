"""Broken weight files of every format: one sentence, or the model that the file still describes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_gguf import write_gguf
from tiny_llama import TINY

from llmwright.core import LLMwrightError, ModelSourceError
from llmwright.modeling import load_model, random_decoder
from llmwright.modeling.bits import pack_bits
from llmwright.modeling.checkpoint import load_safetensors
from llmwright.modeling.gguf_reader import load_gguf
from llmwright.tokenization import read_gguf

Damage = Callable[[torch.Tensor], torch.Tensor]
# Hypothesis would rather have a fixture for each example; these are only read.
shared = settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


def one_sentence(error: LLMwrightError) -> None:
    assert error.fix and "\n" not in str(error)


@pytest.fixture(scope="module")
def gguf_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    from dataclasses import replace

    from gguf import GGMLQuantizationType

    shape = replace(TINY, hidden_size=32, intermediate_size=32, num_hidden_layers=1, head_dim=8,
                    num_attention_heads=4)  # fmt: skip
    file = tmp_path_factory.mktemp("gguf") / "t.gguf"
    write_gguf(file, random_decoder(shape, std=0.1), kind=GGMLQuantizationType.Q4_1)
    return file.read_bytes()


def read_back(file: Path, content: bytes, packed: bool) -> None:
    file.write_bytes(content)
    try:
        decoder = load_gguf(read_gguf(file), torch.float32, packed=packed)
    except LLMwrightError as error:
        one_sentence(error)
    else:
        assert decoder(torch.tensor([[1, 2, 3]])).shape[:2] == (1, 3)


@shared
@given(part=st.floats(0, 0.99), packed=st.booleans())
def test_a_gguf_cut_anywhere(tmp_path: Path, gguf_bytes: bytes, part: float, packed) -> None:
    content = gguf_bytes[: int(part * len(gguf_bytes))]
    (tmp_path / "t.gguf").write_bytes(content)
    with pytest.raises(LLMwrightError) as caught:
        load_gguf(read_gguf(tmp_path / "t.gguf"), torch.float32, packed=packed)
    one_sentence(caught.value)


@shared
@given(data=st.data(), packed=st.booleans())
def test_a_gguf_with_a_wrong_byte_in_its_head(tmp_path: Path, gguf_bytes, data, packed) -> None:
    head = gguf_bytes.rindex(b"output_norm.weight") + 60
    content = bytearray(gguf_bytes)
    for _ in range(data.draw(st.integers(1, 2))):
        content[data.draw(st.integers(0, head))] = data.draw(st.integers(0, 255))
    read_back(tmp_path / "t.gguf", bytes(content), packed)


@pytest.mark.parametrize("packed", [False, True])
def test_a_gguf_with_an_empty_matrix(tmp_path: Path, gguf_bytes: bytes, packed: bool) -> None:
    content = bytearray(gguf_bytes)
    columns = content.index(b"token_embd.weight") + len("token_embd.weight") + 4
    content[columns : columns + 8] = bytes(8)
    (tmp_path / "t.gguf").write_bytes(content)
    with pytest.raises(ModelSourceError, match=r"embed_tokens.weight' is \[97, 0\], and its conf"):
        load_gguf(read_gguf(tmp_path / "t.gguf"), torch.float32, packed=packed)


# Quantized safetensors

BITS = 4


def packed_layer(method: str, shape: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Parts of a layer [out, in] of any codes, in groups of 16."""
    out, columns = shape
    draw = torch.Generator().manual_seed(out)
    codes = torch.randint(0, 16, shape, generator=draw).byte()
    zeros = torch.randint(1, 16, (columns // 16, out), generator=draw).byte()
    scales = torch.rand(columns // 16, out, generator=draw).half() / 100
    if method == "compressed-tensors":
        return {
            "weight_packed": pack_bits(codes, BITS),
            "weight_scale": scales.t(),
            "weight_zero_point": pack_bits(zeros, BITS).t(),
            "weight_shape": torch.tensor(shape),
        }
    if method == "awq":
        return {"qweight": pack_bits(codes.t(), 4), "qzeros": pack_bits(zeros, 4), "scales": scales}
    return {
        "qweight": pack_bits(codes, BITS).t(),
        "qzeros": pack_bits(zeros - 1, BITS),
        "scales": scales,
        "g_idx": (torch.arange(columns) // 16).int(),
    }


SETTINGS = {
    "gptq": {"bits": 4, "group_size": 16},
    "awq": {"bits": 4, "group_size": 16, "version": "GEMM"},
    "compressed-tensors": {
        "format": "pack-quantized",
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {"num_bits": 4, "symmetric": False, "group_size": 16},
            }
        },
    },
}
LAYER = "model.layers.0.self_attn.q_proj"  # [48, 32]
METHODS = tuple(SETTINGS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_model_path: Path) -> dict[str, Path]:
    made = {}
    for method in METHODS:
        folder = tmp_path_factory.mktemp(method) / "model"
        shutil.copytree(tiny_model_path, folder)
        config = json.loads((folder / "config.json").read_text())
        config["quantization_config"] = {"quant_method": method, **SETTINGS[method]}
        (folder / "config.json").write_text(json.dumps(config))
        tensors = load_file(folder / "model.safetensors")
        for name in [n for n in tensors if "_proj." in n]:
            shape = tuple(tensors.pop(name).shape)
            layer = name.removesuffix(".weight")
            for part, value in packed_layer(method, shape).items():
                tensors[f"{layer}.{part}"] = value.contiguous()
        save_file(tensors, folder / "model.safetensors")
        made[method] = folder
    return made


@pytest.mark.parametrize("method", METHODS)
def test_the_folders_are_whole(folders: dict[str, Path], method: str) -> None:
    model = load_model(folders[method], "float32", packed=True)
    whole = load_model(folders[method], "float32")
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(model.decoder(ids), whole.decoder(ids))


DAMAGES: dict[str, Damage] = {
    "a row less": lambda x: x[:-1],
    "a row more": lambda x: torch.cat((x, x[:1])),
    "a column less": lambda x: x[..., :-1],
    "turned": lambda x: x.t() if x.ndim == 2 else x.flip(0),
    "flat": lambda x: x.reshape(-1),
    "deep": lambda x: x[None],
    "empty": lambda x: x[:0],
    "another dtype": lambda x: x.float() if x.dtype == torch.int32 else x.int(),
    "negative": lambda x: -x - 1,
    "huge": lambda x: torch.full_like(x, 2**30 if x.dtype != torch.float16 else 6e4),
}
values = st.one_of(
    st.none(), st.integers(-3, 70), st.sampled_from([True, "4", 3.5, [], {}, "gptq_v2", "marlin"])
)


@shared
@given(data=st.data())
def test_damaged_layers_and_settings(tmp_path: Path, folders, data) -> None:
    method = data.draw(st.sampled_from(METHODS))
    folder = tmp_path / "model"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(folders[method], folder)
    tensors = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    if data.draw(st.booleans()):
        part = data.draw(st.sampled_from(sorted(n for n in tensors if n.startswith(LAYER))))
        how = data.draw(st.sampled_from(["gone", *DAMAGES]))
        found = tensors.pop(part)
        if how != "gone":
            tensors[part] = DAMAGES[how](found).contiguous()
        save_file(tensors, folder / "model.safetensors")
    else:
        settings_ = config["quantization_config"]
        if method == "compressed-tensors" and data.draw(st.booleans()):
            settings_ = settings_["config_groups"]["group_0"]
            if data.draw(st.booleans()):
                settings_ = settings_["weights"]
        settings_[data.draw(st.sampled_from(sorted(settings_)))] = data.draw(values)
        (folder / "config.json").write_text(json.dumps(config))
    try:
        load_safetensors(folder, torch.float32, packed=data.draw(st.booleans()))
    except LLMwrightError as error:
        one_sentence(error)


@pytest.mark.parametrize(
    ("method", "part", "how", "says"),
    [
        ("gptq", "qweight", "a row less", r"\[48, 24\]|g_idx|shape"),
        ("gptq", "scales", "gone", "lacks the tensor 'scales'"),
        ("gptq", "qzeros", "another dtype", "'qzeros' as torch.float32"),
        ("gptq", "g_idx", "huge", "names a group in g_idx beyond its 2"),
        ("awq", "qweight", "a row less", "2 groups of 16 for 31 columns|group_size"),
        ("awq", "scales", "turned", "'scales' of shape|'qzeros' of shape"),
        ("compressed-tensors", "weight_packed", "a column less", "'weight_packed' of shape"),
        ("compressed-tensors", "weight_zero_point", "gone", "lacks the tensor 'weight_zero_point'"),
        ("compressed-tensors", "weight_shape", "flat", ""),
        ("compressed-tensors", "weight_shape", "huge", "says that it is"),
    ],
)
def test_the_sentence_names_layer_and_tensor(
    tmp_path: Path, folders, method: str, part: str, how: str, says: str
) -> None:
    shutil.copytree(folders[method], tmp_path / "m")
    tensors = load_file(tmp_path / "m" / "model.safetensors")
    found = tensors.pop(f"{LAYER.replace('q_proj', 'k_proj')}.{part}")
    if how != "gone":
        tensors[f"{LAYER.replace('q_proj', 'k_proj')}.{part}"] = DAMAGES[how](found).contiguous()
    save_file(tensors, tmp_path / "m" / "model.safetensors")
    if not says:
        load_model(tmp_path / "m")  # nothing was changed
        return
    with pytest.raises(ModelSourceError, match=says) as caught:
        load_model(tmp_path / "m")
    assert "self_attn.k_proj" in str(caught.value)
    one_sentence(caught.value)
