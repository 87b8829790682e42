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
    Llama3Scaling,
    LongRopeScaling,
    ModelConfig,
    NTKScaling,
    YarnScaling,
    load_model,
)
from llmwright.modeling.rope_format import (
    Rope,
    rope_from_gguf,
    rope_from_hf,
    rope_to_gguf,
    rope_to_hf,
)

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


def yarn(**fields):
    return {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": L, **fields}


@pytest.mark.parametrize(
    ("rope", "expected"),
    [
        (yarn(), YarnScaling(4.0, L, 32.0, 1.0, None, None, None, True)),
        (yarn(beta_fast=16, beta_slow=2), YarnScaling(4.0, L, 16.0, 2.0)),
        (yarn(attention_factor=2), YarnScaling(4.0, L, attention_factor=2.0)),
        (yarn(mscale=0.7, mscale_all_dim=0.5), YarnScaling(4.0, L, mscale=0.7, mscale_all_dim=0.5)),
        (yarn(truncate=False), YarnScaling(4.0, L, truncate=False)),
        (
            yarn(
                rope_type="longrope", short_factor=[1], long_factor=[2], factor=3,
                attention_factor=1.5,
            ),
            LongRopeScaling((1.0,), (2.0,), L, 3.0, 1.5),
        ),
        (
            yarn(rope_type="llama3", low_freq_factor=1, high_freq_factor=5),
            Llama3Scaling(4.0, 1.0, 5.0, L),
        ),
        (yarn(original_max_position_embeddings=None, factor=None), YarnScaling(1.0, 2048)),
    ],
)  # fmt: skip
def test_every_field_of_a_scaling_is_read_and_written(rope, expected):
    raw = {"max_position_embeddings": 2048, "rope_scaling": rope}
    read = rope_from_hf(raw, "here")
    assert read == Rope(10_000.0, expected, 2048)
    assert rope_from_hf(rope_to_hf(read, 2), "here") == read


def test_what_a_config_json_may_leave_out():
    assert rope_from_hf({}, "here") == Rope(10_000.0, None, 2048)
    assert rope_from_hf({"rope_theta": 5e5, "max_position_embeddings": 64}, "here") == Rope(
        5e5, None, 64
    )
    assert rope_to_hf(Rope(5e5, None, 64), 2) == {"max_position_embeddings": 64, "rope_theta": 5e5}


def test_the_place_of_a_part_that_is_turned_is_named():
    for raw, says in (
        ({"partial_rotary_factor": 0.25}, "here: the rotary embedding turns 0.25 of"),
        ({"rope_scaling": {"a": {}}}, "here: the rotary embedding differs by layer"),
        ({"rope_scaling": {"rope_type": "mrope"}}, "here: the rotary scaling is 'mrope'.*ntk, lin"),
    ):
        with pytest.raises(ModelSourceError, match=f"^{says}"):
            rope_from_hf(raw, "here")


def gguf_keys(**values):
    return {f"llama.rope.scaling.{key}": value for key, value in values.items()}


FREQS, LONG, SHORT = (
    "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight",
)  # fmt: skip


@pytest.mark.parametrize(
    ("metadata", "factors", "expected"),
    [
        (gguf_keys(type="linear", factor=4.0), {}, LinearScaling(4.0)),
        (gguf_keys(type="linear", factor=float(np.float32(4.1))), {}, LinearScaling(4.1)),
        (gguf_keys(type="linear", factor=0.0), {}, None),
        (gguf_keys(type="none", factor=4.0), {}, None),
        (gguf_keys(type="none") | {"llama.rope.scale_linear": 2.0}, {}, LinearScaling(2.0)),
        (
            gguf_keys(type="none", factor=3.0) | {"llama.rope.scale_linear": 2.0}, {},
            LinearScaling(3.0),
        ),
        (gguf_keys(), {FREQS: [1, 2]}, LongRopeScaling((1.0, 2.0), (1.0, 2.0), 4 * L, 1.0, 1.0)),
        (
            gguf_keys(type="linear", factor=3.0), {FREQS: [1, 2]},
            LongRopeScaling((3.0, 6.0), (3.0, 6.0), 4 * L, 1.0, 1.0),
        ),
        (gguf_keys(type="yarn", factor=4.0), {}, YarnScaling(4.0, 4 * L)),
        (
            gguf_keys(
                type="yarn", factor=4.0, original_context_length=L, yarn_beta_fast=16.0,
                yarn_beta_slow=2.0, yarn_ext_factor=1.0,
            ),
            {},
            YarnScaling(4.0, L, 16.0, 2.0),
        ),
        (
            gguf_keys(type="longrope", original_context_length=L, attn_factor=1.25),
            {LONG: [4, 8], SHORT: [1, 2]},
            LongRopeScaling((1.0, 2.0), (4.0, 8.0), L, 4.0, 1.25),
        ),
        (
            gguf_keys(type="longrope", original_context_length=8 * L, yarn_attn_factor=1.25),
            {LONG: [4, 8], SHORT: [1, 2]},
            LongRopeScaling((1.0, 2.0), (4.0, 8.0), 8 * L, 1.0, 1.25),
        ),
    ],
)  # fmt: skip
def test_what_llama_cpp_s_converter_writes_is_read(metadata, factors, expected):
    assert rope_from_gguf(metadata, factors, 4 * L, "here") == expected


def test_attention_factors_of_a_file_multiply_what_yarn_gives_itself():
    keys = gguf_keys(
        type="yarn", factor=4.0, original_context_length=L, attn_factor=1.5, yarn_attn_factor=2.0
    )
    scaling = rope_from_gguf(keys, {}, 4 * L, "here")
    assert scaling.amplitude == pytest.approx(3.0 * (0.1 * np.log(4) + 1))
    assert replace(scaling, attention_factor=None) == YarnScaling(4.0, L)


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        (None, {}),
        (LinearScaling(4.0), gguf_keys(type="linear", factor=4.0)),
        (
            YarnScaling(4.0, L, 16.0, 2.0),
            gguf_keys(
                type="yarn", factor=4.0, original_context_length=L, yarn_beta_fast=16.0,
                yarn_beta_slow=2.0,
            ),
        ),
        (
            LongRopeScaling((1.0, 2.0), (4.0, 8.0), L, 4.0, 1.25),
            gguf_keys(type="longrope", original_context_length=L, attn_factor=1.25),
        ),
    ],
)  # fmt: skip
def test_gguf_metadata_word_for_word(scaling, expected):
    keys, tensors = rope_to_gguf(Rope(5e5, scaling, 4 * L), 4)
    assert keys == {"llama.rope.freq_base": 5e5, **expected}
    longrope = isinstance(scaling, LongRopeScaling)
    assert tensors == ({LONG: [4.0, 8.0], SHORT: [1.0, 2.0]} if longrope else {})


def test_divisors_that_stay_the_same_need_no_longrope_unless_they_are_louder():
    plain = LongRopeScaling((1.0, 2.0), (1.0, 2.0), L, 1.0, 1.0)
    keys, tensors = rope_to_gguf(Rope(1e4, plain, L), 4)
    assert keys == {"llama.rope.freq_base": 1e4}
    assert tensors == {FREQS: [1.0, 2.0]}
    keys, tensors = rope_to_gguf(Rope(1e4, replace(plain, attention_factor=1.5), L), 4)
    assert keys["llama.rope.scaling.type"] == "longrope" and set(tensors) == {LONG, SHORT}


def test_refusals_of_gguf_say_what_and_where():
    with pytest.raises(
        ModelSourceError, match=r"^here: the rotary scaling is 'su' with rope_freqs"
    ):
        rope_from_gguf(gguf_keys(type="su"), {FREQS: [1.0]}, L, "here")
    with pytest.raises(ModelSourceError, match=f"is 'yarn' with {LONG} and {SHORT}[.;]"):
        rope_from_gguf(gguf_keys(type="yarn"), {LONG: [1.0], SHORT: [1.0]}, L, "here")
    with pytest.raises(ConfigurationError, match=r"^rope_scaling: GGUF has no form for dynamic"):
        rope_to_gguf(Rope(1e4, DynamicScaling(2.0, L), L), 4)
