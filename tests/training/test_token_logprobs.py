import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from llmwright.training.objectives import logprobs as module
from llmwright.training.objectives.logprobs import token_logprobs
from llmwright.training.objectives.sft import sft_loss


def case(tokens: int, hidden: int, vocab: int, dtype: torch.dtype, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(tokens, hidden, generator=generator, dtype=dtype).requires_grad_()
    w = torch.randn(vocab, hidden, generator=generator, dtype=dtype)
    y = torch.randint(0, vocab, (tokens,), generator=generator)
    return h, w, y


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 9), st.integers(1, 6), st.integers(2, 30), st.integers(0, 99))
def test_value_and_gradient_are_those_of_the_whole_log_softmax(tokens, hidden, vocab, seed):
    h, w, y = case(tokens, hidden, vocab, torch.float32, seed)
    upstream = torch.randn(tokens, generator=torch.Generator().manual_seed(seed))
    ours = token_logprobs(h, w, y)
    (ours_gradient,) = torch.autograd.grad(ours, h, upstream)

    exact = h.detach().double().requires_grad_()
    reference = (exact @ w.double().T).log_softmax(1)[torch.arange(tokens), y]
    (gradient,) = torch.autograd.grad(reference, exact, upstream.double())
    torch.testing.assert_close(ours.double(), reference, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours_gradient.double(), gradient, atol=1e-5, rtol=1e-4)


def test_blocks_do_not_change_the_values(monkeypatch):
    h, w, y = case(50, 8, 31, torch.float32)
    whole = token_logprobs(h, w, y)
    (whole_gradient,) = torch.autograd.grad(whole.sum(), h)
    monkeypatch.setattr(module, "_BLOCK", 7)
    parts = token_logprobs(h, w, y)
    (parts_gradient,) = torch.autograd.grad(parts.sum(), h)
    torch.testing.assert_close(whole, parts)
    torch.testing.assert_close(whole_gradient, parts_gradient)


def test_bfloat16_is_as_near_as_cross_entropy_in_bfloat16():
    h, w, y = case(64, 32, 200, torch.bfloat16)
    ours = token_logprobs(h, w, y)
    (gradient,) = torch.autograd.grad(ours.sum(), h)
    plain = -F.cross_entropy(F.linear(h, w).float(), y, reduction="none")
    (plain_gradient,) = torch.autograd.grad(plain.sum(), h)
    torch.testing.assert_close(ours, plain)
    exact = h.detach().double().requires_grad_()
    reference = -F.cross_entropy(exact @ w.double().T, y, reduction="sum")
    (exact_gradient,) = torch.autograd.grad(reference, exact)

    def off(g: torch.Tensor) -> float:
        return (g.double() - exact_gradient).norm().item()

    assert off(gradient) <= 1.05 * off(plain_gradient)


def test_without_gradients_none_is_computed():
    h, w, y = case(5, 4, 9, torch.float32)
    with torch.no_grad():
        assert not token_logprobs(h, w.requires_grad_(), y).requires_grad


def test_an_output_matrix_that_wants_a_gradient_is_refused():
    h, w, y = case(5, 4, 9, torch.float32)
    with pytest.raises(ValueError, match="frozen"):
        token_logprobs(h, w.requires_grad_(), y)


def test_sft_loss_is_the_mean_over_learnt_tokens_and_its_gradient():
    # Closed form: d loss / d logits = m (softmax - one-hot) / sum m, in float64.
    logits = torch.randn(2, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    logits.requires_grad_()
    labels = torch.tensor([[1, 2, 3, 4, 5], [6, 0, 1, 2, 3]])
    mask = torch.tensor([[False, True, True, False, True], [False, False, False, True, True]])
    logprobs = logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    loss = sft_loss(logprobs[mask], int(mask.sum()))
    (gradient,) = torch.autograd.grad(loss, logits)

    softmax = logits.detach().exp() / logits.detach().exp().sum(-1, keepdim=True)
    picked = softmax.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    assert loss.item() == pytest.approx(-picked[mask].log().mean().item(), abs=1e-12)
    closed = mask.unsqueeze(-1) * (softmax - F.one_hot(labels, 7)) / 5
    torch.testing.assert_close(gradient, closed, atol=1e-12, rtol=0)


def test_sft_loss_is_hugging_faces_on_ragged_accumulated_passes():
    from transformers.loss.loss_utils import ForCausalLMLoss

    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(4, 9, 11, generator=generator)
    labels = torch.randint(0, 11, (4, 9), generator=generator)
    keep = torch.rand(4, 9, generator=generator) < torch.tensor([[0.9], [0.1], [0.5], [0.5]])
    labels = labels.masked_fill(~keep, -100)
    total = int((labels[:, 1:] != -100).sum())
    theirs = ForCausalLMLoss(logits, labels, vocab_size=11, num_items_in_batch=total)

    def share(rows: slice) -> torch.Tensor:
        shifted = labels[rows, 1:]
        mask = shifted != -100
        picked = logits[rows, :-1].log_softmax(-1).gather(-1, shifted.clamp(0).unsqueeze(-1))
        return sft_loss(picked.squeeze(-1)[mask], total)

    torch.testing.assert_close(share(slice(0, 1)) + share(slice(1, 4)), theirs)
    # What the trap would give: the mean of two means, each pass divided by its own count.
    means = [
        ForCausalLMLoss(logits[r], labels[r], vocab_size=11) for r in (slice(0, 1), slice(1, 4))
    ]
    assert abs(sum(means) / 2 - theirs) > 1e-3
