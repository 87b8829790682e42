import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils import prune as reference

from llmwright.core import ConfigurationError
from llmwright.quantization import prune
from llmwright.quantization.pruning import magnitude_mask, two_of_four_mask


@given(st.floats(0, 0.99), st.integers(0, 1000))
def test_the_smallest_go_as_in_pytorchs_pruning(sparsity, seed):
    linear = torch.nn.Linear(12, 7)
    linear.weight.data = torch.randn(7, 12, generator=torch.Generator().manual_seed(seed))
    mask = magnitude_mask(linear.weight.detach(), sparsity)
    reference.l1_unstructured(linear, "weight", amount=round(sparsity * 84))
    assert torch.equal(mask, linear.weight_mask.bool())


def test_two_of_four_stay_the_largest():
    w = torch.tensor([[0.1, -3.0, 2.0, 1.0, 5.0, 5.0, 5.0, -6.0]])
    assert two_of_four_mask(w).int().tolist() == [[0, 1, 1, 0, 1, 0, 0, 1]]
    mask = two_of_four_mask(torch.randn(9, 40))
    assert bool((mask.view(9, 10, 4).sum(-1) == 2).all())


def test_a_model_is_pruned_but_for_its_vocabulary(decoder):
    vocabulary = decoder.model.embed_tokens.weight.clone()
    prune(decoder, 0.25)
    layer = decoder.model.layers[1].mlp.down_proj.weight
    assert float((layer == 0).float().mean()) == 0.25
    prune(decoder)
    assert float((layer == 0).float().mean()) >= 0.5
    assert torch.equal(decoder.model.embed_tokens.weight, vocabulary)


def test_the_bounds_of_a_share():
    w = torch.tensor([[3.0, -1.0, 2.0]])
    for sparsity, stay in ((0.0, [True] * 3), (0.34, [True, False, True]), (0.99, [False] * 3)):
        mask = magnitude_mask(w, sparsity)
        assert mask.dtype == torch.bool and mask.tolist() == [stay]
    for sparsity in (-0.01, 1.0):
        says = f"^sparsity: a share of {sparsity} cannot be pruned.*use 0 or more, below 1"
        with pytest.raises(ConfigurationError, match=says):
            magnitude_mask(w, sparsity)
    assert two_of_four_mask(torch.ones(1, 4)).dtype == torch.bool
    with pytest.raises(ConfigurationError, match=r"rows of 3 weights .* prune by share instead"):
        two_of_four_mask(w)
