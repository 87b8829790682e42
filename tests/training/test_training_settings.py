import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwright.core import ConfigurationError
from llmwright.training import LoraSettings
from llmwright.training.schedule import cosine_rate


@pytest.mark.parametrize(
    "wrong",
    [
        {"rank": 0}, {"alpha": 0}, {"dropout": 1.0}, {"targets": ()}, {"targets": [""]},
        {"epochs": 0}, {"batch_size": 0}, {"tokens_per_pass": 0}, {"learning_rate": 0.0},
        {"learning_rate": float("nan")}, {"warmup": 1.5}, {"weight_decay": -0.1},
        {"max_grad_norm": 0.0}, {"max_length": 1}, {"too_long": "shorten"},
        {"checkpoint_every": 0},
    ],
)  # fmt: skip
def test_a_setting_out_of_range_is_named(wrong):
    (name,) = wrong
    with pytest.raises(ConfigurationError, match=f"training settings: {name} is .*must be"):
        LoraSettings(**wrong)


@given(st.integers(1, 300), st.floats(1e-6, 1.0), st.floats(0, 1))
def test_the_rate_rises_to_its_peak_and_falls(steps, peak, warmup):
    rates = [cosine_rate(step, steps, peak, warmup) for step in range(steps)]
    top = rates.index(max(rates))
    assert rates[top] == pytest.approx(peak)
    assert all(rate > 0 for rate in rates)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_the_rate_is_transformers_cosine_with_a_warm_up_that_starts_at_once():
    import torch
    from transformers import get_cosine_schedule_with_warmup

    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.3)
    theirs = get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=4, num_training_steps=20)
    for step in range(20):
        ours = cosine_rate(step, 20, 0.3, 0.2)
        if step < 4:
            assert ours == pytest.approx(0.3 * (step + 1) / 4)
        else:
            assert ours == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
