import torch
from hypothesis import given
from hypothesis import strategies as st

from llmwright.modeling import KVCache, causal_attention
from llmwright.quantization import Int8KV, dequantize_kv, quantize_kv


@given(st.integers(0, 10_000), st.floats(0.05, 1e3))
def test_errors_are_half_a_step_of_the_tokens_own_scale(seed, size):
    x = torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(seed)) * size
    codes, scales = quantize_kv(x)
    assert codes.dtype == torch.int8 and scales.shape == (2, 3, 5, 1)
    step = x.abs().amax(-1, keepdim=True) / 127
    error = (dequantize_kv(codes, scales, torch.float32) - x).abs()
    assert bool((error <= step * (0.5 + 127 / 2048)).all())


def test_a_token_does_not_depend_on_the_others_and_zeros_stay():
    x = torch.randn(1, 2, 4, 8)
    x[:, :, 2] = 0
    x[:, :, 3] *= 1000
    whole = dequantize_kv(*quantize_kv(x), x.dtype)
    for place in range(4):
        one = x[:, :, place : place + 1]
        assert torch.equal(
            dequantize_kv(*quantize_kv(one), x.dtype), whole[:, :, place : place + 1]
        )
    assert not whole[:, :, 2].any()


def test_attention_over_rounded_keys_and_values(decoder, token_ids):
    q, k, v = (torch.randn(1, 2, 6, 12) for _ in range(3))
    expected = causal_attention(0, q, *(dequantize_kv(*quantize_kv(x), x.dtype) for x in (k, v)))
    assert torch.equal(Int8KV()(0, q, k, v), expected)
    near = (decoder(token_ids, attention=Int8KV()) - decoder(token_ids)).norm()
    assert 0 < near < 0.05 * decoder(token_ids).norm()
    cache = KVCache(decoder.config, decoder.dtype)
    stepwise = [
        decoder(part, cache.positions(1), Int8KV(cache)) for part in token_ids[:1].split(1, 1)
    ]
    whole = decoder(token_ids[:1], attention=Int8KV())
    torch.testing.assert_close(torch.cat(stepwise, 1), whole, rtol=1e-3, atol=1e-3)
