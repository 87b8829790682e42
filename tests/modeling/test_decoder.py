"""The decoder against transformers' Llama, its laws, and the rotary embedding's closed form."""

from __future__ import annotations

import threading

import pytest
import torch
from tiny_llama import TINY

from llmwright.core import ModelSourceError
from llmwright.modeling import Decoder, ModelConfig, causal_attention, random_decoder
from llmwright.modeling.rope import RotaryEmbedding, rotate


def tokens(batch: int, time: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 97, (batch, time), generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
@pytest.mark.parametrize("time", [1, 2, 33])
def test_logits_equal_transformers(decoder, reference, time) -> None:
    ids = tokens(3, time)
    ours, theirs = decoder(ids), reference(decoder)(ids).logits
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-4)


def test_the_number_of_weights(decoder) -> None:
    assert decoder.config.parameters == sum(p.numel() for p in decoder.parameters())


def test_names_are_hugging_face_s(decoder, reference) -> None:
    assert set(decoder.state_dict()) == set(reference(decoder).state_dict())


@torch.inference_mode()
def test_given_positions_count_as_written(reference) -> None:
    decoder = random_decoder(TINY, seed=2, std=0.3)
    ids, positions = tokens(2, 9), torch.tensor([[3, 4, 5, 9, 10, 11, 12, 700, 2000]] * 2)
    theirs = reference(decoder)(ids, position_ids=positions).logits
    torch.testing.assert_close(decoder(ids, positions), theirs, atol=2e-4, rtol=1e-4)


@torch.inference_mode()
def test_only_distances_matter() -> None:
    decoder = random_decoder(TINY, seed=2, std=0.3)
    ids, places = tokens(1, 12), torch.arange(12).unsqueeze(0)
    torch.testing.assert_close(
        decoder(ids, places), decoder(ids, places + 513), atol=1e-4, rtol=1e-4
    )


@torch.inference_mode()
def test_right_padding_and_neighbours_change_nothing() -> None:
    decoder = random_decoder(TINY, seed=3, std=0.3)
    ids = tokens(1, 7)
    padded = torch.cat((torch.cat((ids, tokens(1, 5, seed=1)), 1), tokens(1, 12, seed=2)))
    torch.testing.assert_close(decoder(padded)[:1, :7], decoder(ids), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_logits_at_chosen_places() -> None:
    decoder = random_decoder(TINY, seed=3, std=0.3)
    ids = tokens(2, 7)
    full = decoder(ids)
    torch.testing.assert_close(decoder(ids, logits_at=torch.tensor([-1])), full[:, -1:])
    torch.testing.assert_close(decoder(ids, logits_at=torch.tensor([0, 3])), full[:, [0, 3]])
    each = decoder(ids, logits_at=torch.tensor([[2], [6]]))
    torch.testing.assert_close(each, torch.stack((full[0, [2]], full[1, [6]])))


@torch.inference_mode()
def test_attention_is_an_argument() -> None:
    decoder = random_decoder(TINY, seed=3, std=0.3)
    seen = []

    def watching(layer, q, k, v):
        seen.append((layer, tuple(q.shape), tuple(k.shape), tuple(v.shape)))
        return causal_attention(layer, q, k, v)

    ids = tokens(2, 5)
    assert torch.equal(decoder(ids, attention=watching), decoder(ids))
    assert seen == [(n, (2, 6, 5, 10), (2, 2, 5, 10), (2, 2, 5, 10)) for n in range(3)]


@torch.inference_mode()
def test_bfloat16_stays_near_float32() -> None:
    decoder = random_decoder(TINY, seed=4, std=0.2)
    exact = decoder(tokens(2, 20))
    rough = decoder.to(torch.bfloat16)(tokens(2, 20))
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().mean() < 0.02 * exact.abs().mean() + 0.02


def test_training_after_generating() -> None:
    """Tables made in inference mode would refuse to take part in a backward pass."""
    decoder = random_decoder(TINY, seed=5)
    with torch.inference_mode():
        decoder(tokens(1, 4))
    decoder(tokens(1, 4)).sum().backward()
    assert all(p.grad is not None for p in decoder.parameters())


def test_gradients_equal_transformers(reference) -> None:
    decoder = random_decoder(TINY, seed=6, std=0.3)
    model = reference(decoder)
    for logits in (decoder(tokens(2, 6)), model(tokens(2, 6)).logits):
        logits.logsumexp(-1).mean().backward()
    theirs = dict(model.named_parameters())
    for name, weight in decoder.named_parameters():
        torch.testing.assert_close(weight.grad, theirs[name].grad, atol=1e-4, rtol=1e-3, msg=name)


def test_the_same_seed_gives_the_same_weights() -> None:
    one, two, other = (random_decoder(TINY, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["lm_head.weight"], other["lm_head.weight"])


def test_tied_weights_are_one_tensor() -> None:
    config = ModelConfig(**{**vars_of(TINY), "tie_word_embeddings": True})
    decoder = Decoder(config)
    assert decoder.lm_head.weight is decoder.model.embed_tokens.weight


def vars_of(config: ModelConfig) -> dict[str, object]:
    return {name: getattr(config, name) for name in config.__slots__}


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"num_key_value_heads": 4}, "cannot share"), ({"head_dim": 9}, "is odd")],
)
def test_impossible_shapes_are_refused(changes, says) -> None:
    with pytest.raises(ModelSourceError, match=says):
        ModelConfig(**{**vars_of(TINY), **changes})


# Rotary embedding


def test_rotation_is_multiplication_by_a_unit_complex_number() -> None:
    head_dim, theta = 16, 10_000.0
    places = torch.tensor([[0, 1, 5, 300, 4095]])
    x = torch.randn(1, 2, 5, head_dim, generator=torch.Generator().manual_seed(0))
    cos, sin = RotaryEmbedding(head_dim, theta)(places, torch.float32)
    pair = torch.arange(head_dim // 2, dtype=torch.float64)
    angles = places[0, :, None] * theta ** (-2 * pair / head_dim)  # [time, head_dim / 2]
    turned = torch.complex(x[..., :8].double(), x[..., 8:].double()) * torch.polar(
        torch.ones_like(angles), angles
    )
    expected = torch.cat((turned.real, turned.imag), -1).float()
    torch.testing.assert_close(rotate(x, cos, sin), expected, atol=2e-4, rtol=1e-4)


def test_tables_grow_with_the_positions_and_for_threads() -> None:
    rotary = RotaryEmbedding(8, 10_000.0)
    wrong = []

    def look(start: int) -> None:
        for place in range(start, 20_000, 1013):
            cos, sin = rotary(torch.tensor([[place]]), torch.float32)
            if abs(float(cos[0, 0, 0, 0]) - torch.tensor(float(place)).cos()) > 1e-3:
                wrong.append(place)
            if cos.shape != sin.shape:
                wrong.append(place)

    threads = [threading.Thread(target=look, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
