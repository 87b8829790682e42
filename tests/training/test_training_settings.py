import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwright.core import ConfigurationError
from llmwright.training import LoraSettings
from llmwright.training.schedule import cosine_rate


@pytest.mark.parametrize(
    ("wrong", "rule", "right"),
    [
        ({"rank": 0}, "at least 1", [1]),
        ({"alpha": 0}, "above 0", [1e-9]),
        ({"dropout": 1.0}, "at least 0 and below 1", [0.0, 0.999]),
        ({"dropout": -0.1}, "at least 0 and below 1", []),
        ({"targets": ()}, '"all-linear" or module names', [["q_proj"], "q_proj"]),
        ({"targets": [""]}, '"all-linear" or module names', []),
        ({"epochs": 0}, "at least 1", [1]),
        ({"batch_size": 0}, "at least 1", [1]),
        ({"tokens_per_pass": 0}, "at least 1", [1]),
        ({"learning_rate": 0.0}, "above 0 and at most 1", [1e-30, 1.0]),
        ({"learning_rate": 1.01}, "above 0 and at most 1", []),
        ({"learning_rate": float("nan")}, "above 0 and at most 1", []),
        ({"warmup": 1.5}, "a share between 0 and 1", [0.0, 1.0]),
        ({"warmup": -0.1}, "a share between 0 and 1", []),
        ({"weight_decay": -0.1}, "between 0 and 1", [0.0, 1.0]),
        ({"weight_decay": 1.1}, "between 0 and 1", []),
        ({"max_grad_norm": 0.0}, "above 0", [1e-9]),
        ({"max_length": 1}, "at least 2 tokens", [2]),
        ({"too_long": "shorten"}, '"drop" or "cut"', ["drop", "cut"]),
        ({"checkpoint_every": 0}, "at least 1 step", [1]),
    ],
)
def test_a_setting_out_of_range_is_named_and_one_at_its_bound_is_taken(wrong, rule, right):
    ((name, value),) = wrong.items()
    with pytest.raises(ConfigurationError) as caught:
        LoraSettings(**wrong)
    says = f"training settings: {name} is {value!r}; {name} must be {rule}."
    assert str(caught.value) == says
    for good in right:
        assert getattr(LoraSettings(**{name: good}), name) == good


def test_what_decides_the_weights():
    plain = LoraSettings()
    assert plain.scale == 2.0
    assert LoraSettings(checkpoint_every=7).identity() == plain.identity()
    assert (
        LoraSettings(targets=("q", "v")).identity() == LoraSettings(targets=["q", "v"]).identity()
    )
    assert {"rank": 8, "alpha": 16, "targets": "all-linear", "seed": 0}.items() <= (
        plain.identity().items()
    )
    for other in ({"rank": 4}, {"alpha": 8}, {"targets": ["q"]}, {"seed": 1}, {"recompute": True}):
        assert LoraSettings(**other).identity() != plain.identity()


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
