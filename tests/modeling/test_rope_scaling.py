"""Rotary scalings: frequencies against transformers' own, and what they do to a decoder."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_llama import TINY

from llmwright.core import LLMwrightError, ModelSourceError
from llmwright.modeling import (
    SCALING_METHODS,
    Decoder,
    DynamicScaling,
    KVCache,
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    Model,
    ModelConfig,
    NTKScaling,
    RopeScaling,
    YarnScaling,
    extend_context,
    random_decoder,
    scaling_by_name,
    trained_length,
)
from llmwright.modeling.rope import RotaryEmbedding
from llmwright.modeling.rope_scaling import ntk_theta, plain_frequencies

L = 64  # the trained length of the tiny models here
HALF = TINY.head_dim // 2
SCALINGS: dict[str, RopeScaling] = {
    "linear": LinearScaling(4.0),
    "ntk": NTKScaling(4.0),
    "dynamic": DynamicScaling(2.0, L),
    "yarn": YarnScaling(4.0, L),
    "longrope": LongRopeScaling(
        tuple(1 + 0.1 * n for n in range(HALF)), tuple(1.5 + n for n in range(HALF)), L, 4.0
    ),
    "llama3": Llama3Scaling(8.0, 1.0, 4.0, L),
}
GROWING = ("dynamic", "longrope")


def scaled(name: str) -> ModelConfig:
    # What serves 256 tokens; dynamic NTK serves its factor times what it was trained on.
    context = 2 * L if name == "dynamic" else 4 * L
    return replace(TINY, rope_scaling=SCALINGS[name], max_position_embeddings=context)


def tiny(config: ModelConfig) -> Decoder:
    return random_decoder(config, seed=1, std=0.3)


def theirs(config: ModelConfig, length: int | None = None) -> tuple[torch.Tensor, float]:
    """Frequencies and attention factor as transformers computes them from our config.json."""
    transformers = pytest.importorskip("transformers")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    hf = transformers.LlamaConfig(**config.to_dict())
    compute = ROPE_INIT_FUNCTIONS[hf.rope_parameters["rope_type"]]
    return compute(hf, torch.device("cpu"), seq_len=length)


dims = st.integers(2, 64).map(lambda half: 2 * half)
thetas = st.floats(1_000, 10_000_000)
factors = st.floats(1, 64)
trained_lengths = st.integers(32, 200_000)


def holds(config: ModelConfig, length: int = 0) -> None:
    scaling = config.rope_scaling
    assert scaling is not None
    expected, amplitude = theirs(config, length)
    ours = scaling.frequencies(config.head_dim, config.rope_theta, torch.tensor(length))
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)
    # The values span six decades, so the small ones are held by themselves; a steep ramp of
    # Llama 3's leaves five digits in single precision, theirs and ours.
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-12)
    assert scaling.amplitude == pytest.approx(amplitude, rel=1e-12)


def shaped(
    head_dim: int, theta: float, scaling: RopeScaling, context: int = 1 << 20
) -> ModelConfig:
    return replace(
        TINY,
        head_dim=head_dim,
        rope_theta=theta,
        rope_scaling=scaling,
        max_position_embeddings=context,
    )


@given(dims, thetas, factors)
def test_linear(head_dim, theta, factor):
    holds(shaped(head_dim, theta, LinearScaling(factor)))


@given(dims, thetas, factors, st.integers(16, 100_000), st.floats(0.1, 20))
def test_dynamic(head_dim, theta, factor, trained, times):
    config = shaped(head_dim, theta, DynamicScaling(factor, trained))
    holds(config, max(1, int(trained * times)))


@given(
    dims,
    thetas,
    factors,
    trained_lengths,
    st.floats(1.5, 64),
    st.floats(0.1, 1.4),
    st.none() | st.floats(0.1, 3),
    st.none() | st.floats(0, 2),
    st.none() | st.floats(0, 2),
    st.booleans(),
)
def test_yarn(head_dim, theta, factor, trained, fast, slow, attention, scale, all_dim, truncate):
    scaling = YarnScaling(factor, trained, fast, slow, attention, scale, all_dim, truncate)
    holds(shaped(head_dim, theta, scaling))


@given(
    thetas,
    factors,
    trained_lengths,
    st.lists(st.tuples(st.floats(1, 80), st.floats(1, 80)), min_size=2, max_size=48),
    st.none() | st.floats(0.1, 3),
    st.floats(0.5, 3),
)
def test_longrope(theta, factor, trained, pairs, attention, times):
    short, long = zip(*pairs, strict=True)
    scaling = LongRopeScaling(short, long, trained, factor, attention)
    config = shaped(2 * len(pairs), theta, scaling)
    holds(config, int(trained * times))
    holds(config, trained)
    holds(config, trained + 1)


@given(dims, thetas, factors, st.floats(0.5, 4), st.floats(4.5, 16), trained_lengths)
def test_llama3(head_dim, theta, factor, low, high, trained):
    holds(shaped(head_dim, theta, Llama3Scaling(factor, low, high, trained)))


@given(dims.filter(lambda d: d > 2), thetas, factors)
def test_ntk_keeps_the_fastest_pair_and_interpolates_the_slowest(head_dim, theta, factor):
    plain = plain_frequencies(head_dim, theta)
    scaled = NTKScaling(factor).frequencies(head_dim, theta, torch.tensor(0))
    assert scaled[0] == plain[0] == 1
    torch.testing.assert_close(scaled[-1], plain[-1] / factor, rtol=1e-5, atol=0)
    assert bool((scaled <= plain * (1 + 1e-6)).all())


def test_figures_of_the_papers():
    assert ntk_theta(10_000, 4, 128) == pytest.approx(40_889.94, abs=0.01)
    assert YarnScaling(4.0, 4096).amplitude == pytest.approx(1.138629, abs=1e-6)
    assert YarnScaling(4.0, 4096, attention_factor=1.5).amplitude == 1.5
    # DeepSeek-V2: equal mscales cancel.
    assert YarnScaling(40.0, 4096, mscale=0.707, mscale_all_dim=0.707).amplitude == 1.0
    # Dynamic: s L'/L - (s - 1); at the trained length nothing changes.
    at = DynamicScaling(2.0, 4096).frequencies(128, 10_000.0, torch.tensor([100, 4096, 8192]))
    torch.testing.assert_close(at[:2], plain_frequencies(128, 10_000.0).expand(2, -1))
    expected = plain_frequencies(128, ntk_theta(10_000, 3, 128))
    torch.testing.assert_close(at[2], expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", SCALINGS)
@torch.inference_mode()
def test_logits_are_transformers(name, reference):
    decoder = tiny(scaled(name))
    ids = torch.randint(0, 97, (2, 2 * L), generator=torch.Generator().manual_seed(0))
    model = reference(decoder)
    for length in (40, 2 * L):  # within the trained length, and beyond it
        torch.testing.assert_close(
            decoder(ids[:, :length]), model(ids[:, :length]).logits, atol=3e-4, rtol=1e-4
        )


@pytest.mark.parametrize("name", GROWING)
@torch.inference_mode()
def test_a_batch_of_two_lengths_is_each_alone(name):
    decoder = tiny(scaled(name))
    ids = torch.randint(0, 97, (2, 90), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([[50], [120]])  # one within the trained length, one beyond
    both = decoder(ids, lengths=lengths)
    for row in (0, 1):
        alone = decoder(ids[row : row + 1], lengths=lengths[row : row + 1])
        torch.testing.assert_close(both[row : row + 1], alone, atol=1e-5, rtol=1e-5)
    # The same as one row of tokens, each with its own length, as a ragged batch has them.
    rotary = decoder.model.rotary
    places = torch.arange(90).repeat(2).unsqueeze(0)
    flat = rotary(places, torch.float32, lengths.expand(2, 90).reshape(1, -1))
    apart = rotary(torch.arange(90).expand(2, 90), torch.float32, lengths)
    for one, two in zip(flat, apart, strict=True):
        torch.testing.assert_close(one.view(2, 1, 90, -1), two)


@pytest.mark.parametrize("name", GROWING)
@torch.inference_mode()
def test_cached_keys_do_not_go_stale_where_the_length_is_planned(name):
    decoder = tiny(scaled(name))
    ids = torch.randint(0, 97, (1, 100), generator=torch.Generator().manual_seed(0))
    planned = torch.tensor([[100]])
    whole = decoder(ids, lengths=planned)

    def in_pieces(lengths):
        cache = KVCache(decoder.config, torch.float32)
        cuts = [0, 30, 60, *range(61, 101)]  # two chunks of the prompt, then token by token
        pieces = [
            decoder(ids[:, a:b], cache.positions(b - a), cache, lengths=lengths)
            for a, b in pairwise(cuts)
        ]
        return torch.cat(pieces, dim=1)

    torch.testing.assert_close(in_pieces(planned), whole, atol=2e-5, rtol=1e-4)
    # Left to the length so far, early keys were turned by other angles: what the rule is for.
    assert float((in_pieces(None) - whole).abs().max()) > 0.01
    assert decoder.model.rotary.depends_on_length


@pytest.mark.parametrize("name", [name for name in SCALINGS if name not in GROWING])
def test_the_others_do_not_look_at_lengths(name):
    rotary = RotaryEmbedding(TINY.head_dim, TINY.rope_theta, SCALINGS[name])
    assert not rotary.depends_on_length
    places = torch.arange(20).unsqueeze(0)
    one = rotary(places, torch.float32)
    two = rotary(places, torch.float32, torch.tensor([[500]]))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_a_table_of_the_attention_factor():
    """YaRN's factor multiplies cosines and sines, so logits grow by its square."""
    rotary = RotaryEmbedding(TINY.head_dim, TINY.rope_theta, SCALINGS["yarn"])
    cos, sin = rotary(torch.arange(300).unsqueeze(0), torch.float32)
    torch.testing.assert_close(
        cos**2 + sin**2, torch.full_like(cos, SCALINGS["yarn"].amplitude ** 2)
    )


@pytest.fixture
def model() -> Model:
    config = replace(TINY, max_position_embeddings=L)
    return Model(tiny(config), None, "tiny", "0")  # type: ignore[arg-type]


@torch.inference_mode()
def test_an_extended_model_shares_the_weights_and_leaves_the_other_alone(model):
    ids = torch.arange(50).unsqueeze(0)
    before = model.decoder(ids)
    extended = extend_context(model, YarnScaling(4.0, L), 4 * L)
    changed = extended.decoder(ids)
    assert float((changed - before).abs().max()) > 0.01
    assert torch.equal(model.decoder(ids), before)
    assert torch.equal(changed, tiny(extended.config)(ids))
    ours = {id(p) for p in model.decoder.parameters()}
    assert {id(p) for p in extended.decoder.parameters()} == ours
    assert extended.config.max_position_embeddings == 4 * L
    assert trained_length(extended.config) == trained_length(model.config) == L
    again = extend_context(extended, None, L)
    assert torch.equal(again.decoder(ids), before)


def test_methods_by_name():
    assert scaling_by_name("none", 4.0, L) is None
    for name in SCALING_METHODS[1:]:
        assert type(scaling_by_name(name, 4.0, L)).__name__.lower() == f"{name}scaling"
    with pytest.raises(LLMwrightError, match="no scaling called 'magic'"):
        scaling_by_name("magic", 4.0, L)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: LinearScaling(0.99), "the rotary scaling factor is 0.99"),
        (lambda: NTKScaling(math.inf), "the rotary scaling factor is inf"),
        (lambda: DynamicScaling(math.nan, L), "the rotary scaling factor is nan"),
        (lambda: YarnScaling(0.5, L), "the rotary scaling factor is 0.5"),
        (lambda: Llama3Scaling(0.5, 1.0, 4.0, L), "the rotary scaling factor is 0.5"),
        (lambda: Llama3Scaling(8.0, 4.0, 4.0, L), "low_freq_factor 4.0 is not below high_freq_f"),
        (lambda: LongRopeScaling((0.0,), (1.0,), L, 1.0), "a divisor .* is not above 0"),
        (lambda: LongRopeScaling((1.0,), (math.inf,), L, 1.0), "a divisor .* is not above 0"),
    ],
)
def test_scalings_that_cannot_be(make, says):
    with pytest.raises(ModelSourceError, match=f"^model configuration: {says}"):
        make()


def test_longrope_has_a_factor_for_each_pair():
    for short, long, which in (((1.0,), (1.0, 2.0), "short"), ((1.0, 2.0), (1.0,), "long")):
        scaling = LongRopeScaling(short, long, L, 1.0)
        says = f"^model configuration: LongRoPE has 1 {which} factors, and the head turns 2 pairs"
        with pytest.raises(ModelSourceError, match=says):
            scaling.frequencies(4, 1e4, torch.tensor(1))


def test_a_factor_of_one_changes_nothing():
    plain = plain_frequencies(16, 1e4)
    length = torch.tensor(4 * L)
    for scaling in (
        LinearScaling(1.0),
        NTKScaling(1.0),
        YarnScaling(1.0, L),
        Llama3Scaling(1.0, 1.0, 4.0, L),
        LongRopeScaling((1.0,) * 8, (1.0,) * 8, L, 1.0),
    ):
        torch.testing.assert_close(scaling.frequencies(16, 1e4, length), plain)
        assert scaling.amplitude == 1.0
        assert not scaling.depends_on_length


def test_longrope_at_the_trained_length_is_short_and_one_more_is_long():
    scaling = LongRopeScaling((1.0, 2.0), (4.0, 8.0), L, 4.0)
    plain = plain_frequencies(4, 1e4)
    got = scaling.frequencies(4, 1e4, torch.tensor([L, L + 1]))
    torch.testing.assert_close(got, torch.stack((plain / torch.tensor([1.0, 2.0]),
                                                 plain / torch.tensor([4.0, 8.0]))))  # fmt: skip
    assert scaling.amplitude == pytest.approx(math.sqrt(1 + math.log(4) / math.log(L)))


def test_the_table_grows_and_is_kept_while_it_serves():
    rotary = RotaryEmbedding(8, 1e4)

    def table(last, dtype=torch.float32):
        cos, sin = rotary(torch.tensor([[0, last]]), dtype)
        assert cos.shape == sin.shape == (1, 1, 2, 8)
        angles = torch.tensor([0.0, last])[:, None] * plain_frequencies(8, 1e4)
        torch.testing.assert_close(cos[0, 0], torch.cat((angles.cos(),) * 2, -1).to(dtype))
        torch.testing.assert_close(
            sin[0, 0], torch.cat((-angles.sin(), angles.sin()), -1).to(dtype)
        )
        return rotary._tables[0]

    first = table(3)
    assert len(first) == 512
    assert table(511) is first
    second = table(512)
    assert len(second) == 1024 and table(1023) is second and table(5) is second
    assert len(table(1024)) == 2048
    assert table(257, torch.bfloat16).dtype == torch.bfloat16  # another dtype, another table
    empty, _ = rotary(torch.empty(1, 0, dtype=torch.long), torch.float32)
    assert empty.shape == (1, 1, 0, 8)


@pytest.mark.parametrize("name", GROWING)
def test_a_call_without_lengths_plans_to_its_last_position(name):
    rotary = RotaryEmbedding(TINY.head_dim, TINY.rope_theta, SCALINGS[name])
    places = torch.arange(L - 4, L + 1).unsqueeze(0)  # the longest is L + 1 tokens
    for planned in (torch.tensor([[L + 1]]), torch.full((1, 5), L + 1)):
        for one, two in zip(
            rotary(places, torch.float32), rotary(places, torch.float32, planned), strict=True
        ):
            assert one.shape == (1, 1, 5, TINY.head_dim)
            torch.testing.assert_close(one, two)
    shorter = rotary(places[:, :-1], torch.float32)[1]
    plain = rotary(places[:, :-1], torch.float32, torch.tensor([[L]]))[1]
    torch.testing.assert_close(shorter, plain)


def test_yarn_s_ramp_ends_at_the_last_dimension_and_may_be_a_step():
    plain = plain_frequencies(8, 100.0)
    # One turn within 100,000 positions would be pair 8.4; the ramp goes to d - 1 = 7.
    far = YarnScaling(4.0, 100_000, beta_fast=1e9)
    ramp = torch.arange(4) / 7
    expected = plain / 4 * ramp + plain * (1 - ramp)
    torch.testing.assert_close(far.frequencies(8, 100.0, torch.tensor(1)), expected)
    # Both ends at pair 2.4: pairs 0 to 2 stay, pair 3 is interpolated.
    turns = 100_000 / (2 * math.pi) / 100.0 ** (2 * 2.4 / 8)
    step = YarnScaling(4.0, 100_000, beta_fast=turns, beta_slow=turns, truncate=False)
    expected = plain / torch.tensor([1.0, 1.0, 1.0, 4.0])
    torch.testing.assert_close(step.frequencies(8, 100.0, torch.tensor(1)), expected)


@pytest.mark.parametrize("name", SCALINGS)
def test_frequencies_lie_where_the_lengths_do(name):
    lengths = torch.empty(3, device="meta")
    found = SCALINGS[name].frequencies(TINY.head_dim, 1e4, lengths)
    assert found.device.type == "meta" and found.dtype == torch.float32
    assert RotaryEmbedding(8, 1e4).frequencies(lengths).device.type == "meta"
