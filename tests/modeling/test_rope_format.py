"""Rotary scaling in files: config.json as transformers reads and writes it, and GGUF."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from test_rope_scaling import SCALINGS, L, scaled, theirs, tiny
from tiny_gguf import write_gguf
from tiny_llama import TINY

from llmwright.core import ConfigurationError, ModelSourceError
from llmwright.modeling import (
    DynamicScaling,
    LinearScaling,
    LongRopeScaling,
    ModelConfig,
    NTKScaling,
    YarnScaling,
    load_model,
)
from llmwright.modeling.rope_format import rope_from_gguf, rope_to_gguf

LENGTHS = torch.tensor([1, L, L + 1, 4 * L])
HEAD = TINY.head_dim


def turns(config: ModelConfig) -> tuple[torch.Tensor, float]:
    """What a scaling comes to, for sequences of several lengths."""
    scaling = config.rope_scaling
    if scaling is None:
        scaling = LinearScaling(1.0)
    values = scaling.frequencies(config.head_dim, config.rope_theta, LENGTHS)
    return values.expand(len(LENGTHS), -1), scaling.amplitude


def same(one: ModelConfig, two: ModelConfig) -> None:
    (ours, amplitude), (theirs, other) = turns(one), turns(two)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-12)
    assert amplitude == pytest.approx(other, rel=1e-6)


@pytest.mark.parametrize("name", SCALINGS)
def test_config_json_there_and_back(name):
    config = scaled(name)
    raw = json.loads(json.dumps(config.to_dict()))
    again = ModelConfig.from_hf(raw, "here")
    same(again, config)
    assert again.max_position_embeddings == config.max_position_embeddings
    if name != "ntk":  # which is written as what it comes to: another base
        assert again == config


@pytest.mark.parametrize("name", SCALINGS)
def test_what_transformers_writes_is_read(name):
    """transformers 5 writes ``rope_parameters``, with the base inside."""
    transformers = pytest.importorskip("transformers")
    config = scaled(name)
    raw = json.loads(transformers.LlamaConfig(**config.to_dict()).to_json_string())
    assert "rope_scaling" not in raw
    assert "rope_theta" not in raw
    same(ModelConfig.from_hf(raw, "here"), config)


def test_old_words_and_places():
    base = TINY.to_dict() | {"max_position_embeddings": 4 * L}
    short, long = [1.0] * 5, [2.0] * 5
    raw = base | {
        "rope_scaling": {"type": "su", "short_factor": short, "long_factor": long},
        "original_max_position_embeddings": L,  # Phi-3's place
    }
    assert ModelConfig.from_hf(raw, "here").rope_scaling == LongRopeScaling(
        tuple(short), tuple(long), L, 4.0
    )
    raw = base | {"rope_scaling": {"type": "linear", "factor": 2}}
    assert ModelConfig.from_hf(raw, "here").rope_scaling == LinearScaling(2.0)
    raw = base | {"rope_scaling": {"rope_type": "ntk", "factor": 4}}
    assert ModelConfig.from_hf(raw, "here").rope_scaling == NTKScaling(4.0)
    # Where YaRN names no factor, the two lengths say it, as in transformers.
    raw = base | {
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": None,
            "original_max_position_embeddings": L,
        }
    }
    config = ModelConfig.from_hf(raw, "here")
    assert config.rope_scaling == YarnScaling(4.0, L)
    torch.testing.assert_close(turns(config)[0][0], theirs(config)[0])


def test_dynamic_scaling_serves_its_factor_times_the_trained_length():
    raw = TINY.to_dict() | {
        "max_position_embeddings": L,
        "rope_scaling": {"type": "dynamic", "factor": 2.0},
    }
    config = ModelConfig.from_hf(raw, "here")
    assert config.rope_scaling == DynamicScaling(2.0, L)
    assert config.max_position_embeddings == 2 * L
    assert config.to_dict()["max_position_embeddings"] == L


@pytest.mark.parametrize(
    ("rope", "says"),
    [
        ({"rope_type": "mrope"}, "rotary scaling is 'mrope'"),
        ({"rope_type": "linear"}, "field 'factor' is missing"),
        ({"rope_type": "linear", "factor": 0.5}, "factor is 0.5"),
        ({"rope_type": "linear", "factor": "many"}, "broken"),
        ({"rope_type": "llama3", "factor": 8.0}, "low_freq_factor"),
        ({"rope_type": "default", "partial_rotary_factor": 0.5}, "turns 0.5 of the dimensions"),
        ({"full_attention": {"rope_type": "default"}}, "differs by layer"),
    ],
)
def test_broken_scalings_say_so(rope, says):
    with pytest.raises(ModelSourceError, match=says):
        ModelConfig.from_hf(TINY.to_dict() | {"rope_scaling": rope}, "here")


@pytest.mark.parametrize("name", [name for name in SCALINGS if name != "dynamic"])
@torch.inference_mode()
def test_gguf_there_and_back(name, tmp_path: Path, tiny_model_path: Path):
    """Through a real file, so names, types and shapes are the gguf package's."""
    config = replace(scaled(name), vocab_size=400)
    decoder = tiny(config)
    keys, tensors = rope_to_gguf(config.rope, HEAD)
    for key in keys:  # every key is one that llama.cpp knows
        assert key.replace("llama", "{arch}", 1) in vars(gguf.Keys.Rope).values()
    file = tmp_path / "model.gguf"
    write_gguf(file, decoder, tokenizer=tiny_model_path, metadata=keys, vectors=tensors)
    loaded = load_model(file, "float32")
    same(loaded.config, config)
    ids = torch.randint(0, 97, (1, 100), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loaded.decoder(ids), decoder(ids), atol=2e-4, rtol=1e-4)


def test_llama_3_in_gguf_is_a_divisor_for_each_pair():
    """As llama.cpp's converter computes rope_freqs, written out here from its definition."""
    config = replace(scaled("llama3"), head_dim=64, max_position_embeddings=512)
    expected = []
    for pair in range(32):
        wavelength = 2 * np.pi * config.rope_theta ** (2 * pair / 64)
        if wavelength < L / 4:
            expected.append(1.0)
        elif wavelength > L / 1:
            expected.append(8.0)
        else:
            smooth = (L / wavelength - 1) / (4 - 1)
            expected.append(1 / ((1 - smooth) / 8 + smooth))
    keys, tensors = rope_to_gguf(config.rope, 64)
    assert keys == {"llama.rope.freq_base": 10_000.0}
    assert tensors["rope_freqs.weight"] == pytest.approx(expected, rel=1e-5)


def test_yarn_metadata():
    keys, tensors = rope_to_gguf(replace(scaled("yarn")).rope, HEAD)
    assert not tensors
    assert "llama.rope.scaling.attn_factor" not in keys  # llama.cpp computes it itself
    config = replace(scaled("yarn"), rope_scaling=YarnScaling(4.0, L, attention_factor=2.0))
    keys, _ = rope_to_gguf(config.rope, HEAD)
    assert keys["llama.rope.scaling.attn_factor"] == pytest.approx(2.0 / (0.1 * np.log(4) + 1))
    # The multiplier of DeepSeek's files: mscale 1 over mscale_all_dim.
    given = {
        "llama.rope.scaling.type": "yarn",
        "llama.rope.scaling.factor": 40.0,
        "llama.rope.scaling.original_context_length": L,
        "llama.rope.scaling.yarn_log_multiplier": 0.5,
    }
    scaling = rope_from_gguf(given, {}, 40 * L, "here")
    assert scaling is not None
    assert scaling.amplitude == pytest.approx((0.1 * np.log(40) + 1) / (0.05 * np.log(40) + 1))


def test_dynamic_scaling_has_no_form_in_gguf():
    with pytest.raises(ConfigurationError, match="no form"):
        rope_to_gguf(scaled("dynamic").rope, HEAD)


@pytest.mark.parametrize(
    ("metadata", "factors"),
    [
        ({"type": "su"}, {}),
        ({"type": "longrope"}, {}),
        ({"type": "yarn", "factor": 4.0}, {"rope_freqs.weight": [1.0] * 5}),
        ({"type": "yarn", "factor": 4.0, "yarn_ext_factor": 0.5}, {}),
        ({}, {"rope_factors_long.weight": [1.0] * 5}),
    ],
)
def test_unknown_forms_in_gguf_are_refused(metadata, factors):
    keys = {f"llama.rope.scaling.{key}": value for key, value in metadata.items()}
    with pytest.raises(ModelSourceError, match="rotary scaling"):
        rope_from_gguf(keys, factors, 4 * L, "here")


def test_linear_scaling_before_there_were_types():
    assert rope_from_gguf({"llama.rope.scale_linear": 4.0}, {}, L, "here") == LinearScaling(4.0)
    assert rope_from_gguf({}, {}, L, "here") is None
