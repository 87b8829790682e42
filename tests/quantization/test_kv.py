import torch
from hypothesis import given
from hypothesis import strategies as st

from llmwright.modeling import KVCache, causal_attention
from llmwright.quantization import Int8KV
from llmwright.quantization.kv import through_int8


@given(st.integers(0, 10_000), st.floats(0.05, 1e3))
def test_errors_are_half_a_step_of_the_tokens_own_scale(seed, size):
    x = torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(seed)) * size
    step = x.abs().amax(-1, keepdim=True) / 127
    back = through_int8(x)
    assert bool(((back - x).abs() <= step * 0.50001).all())
    codes = back / step  # whole numbers, of which the largest is 127
    torch.testing.assert_close(codes, codes.round(), rtol=0, atol=1e-3)
    assert through_int8(x.bfloat16()).dtype == torch.bfloat16


def test_a_token_does_not_depend_on_the_others_and_zeros_stay():
    x = torch.randn(1, 2, 4, 8)
    x[:, :, 2] = 0
    x[:, :, 3] *= 1000
    whole = through_int8(x)
    for place in range(4):
        one = slice(place, place + 1)
        assert torch.equal(through_int8(x[:, :, one]), whole[:, :, one])
    assert not whole[:, :, 2].any()


def test_attention_over_rounded_keys_and_values(decoder, token_ids):
    q, k, v = (torch.randn(1, 2, 6, 12) for _ in range(3))
    expected = causal_attention(0, q, through_int8(k), through_int8(v))
    assert torch.equal(Int8KV()(0, q, k, v), expected)
    near = (decoder(token_ids, attention=Int8KV()) - decoder(token_ids)).norm()
    assert 0 < near < 0.05 * decoder(token_ids).norm()
    cache = KVCache(decoder.config, decoder.dtype)
    stepwise = [
        decoder(part, cache.positions(1), Int8KV(cache)) for part in token_ids[:1].split(1, 1)
    ]
    whole = decoder(token_ids[:1], attention=Int8KV())
    torch.testing.assert_close(torch.cat(stepwise, 1), whole, rtol=1e-3, atol=1e-3)
