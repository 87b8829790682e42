"""The switch between kernels is turned back in every case, and changes no more than rounding."""

from __future__ import annotations

import threading

import pytest
import torch
from tiny_llama import TINY

from llmwright.modeling import random_decoder
from llmwright.modeling.products import products_for

WEIGHT = torch.zeros(2, 2, dtype=torch.bfloat16)


def enabled() -> bool:
    return bool(torch._C._get_mkldnn_enabled())


@pytest.fixture(autouse=True)
def on() -> None:
    if not enabled():
        pytest.skip("this build of PyTorch has no oneDNN")


def test_only_few_rows_of_bfloat16_are_switched() -> None:
    for rows, weight, stays in (
        (1, WEIGHT, False),
        (2, WEIGHT, False),
        (3, WEIGHT, True),
        (1, WEIGHT.float(), True),
        (1, WEIGHT.to("meta"), True),
    ):
        with products_for(rows, weight):
            assert enabled() is stays
        assert enabled()


def test_turned_back_after_an_error_and_when_nested() -> None:
    with pytest.raises(ZeroDivisionError), products_for(1, WEIGHT):
        with products_for(1, WEIGHT):
            pass
        assert not enabled()
        raise ZeroDivisionError
    assert enabled()


def test_turned_back_when_the_last_thread_is_done() -> None:
    inside, leave = threading.Barrier(3), [threading.Event(), threading.Event()]

    def work(number: int) -> None:
        with products_for(1, WEIGHT):
            inside.wait(10)
            leave[number].wait(10)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    inside.wait(10)
    leave[0].set()
    threads[0].join(10)
    assert not enabled()  # the other still multiplies
    leave[1].set()
    threads[1].join(10)
    assert enabled()


@torch.inference_mode()
def test_both_kernels_give_the_same_logits_but_for_rounding() -> None:
    decoder = random_decoder(TINY, seed=1, std=0.2).to(torch.bfloat16)
    many = torch.arange(6).unsqueeze(1)  # six rows of one token: oneDNN
    together = decoder(many)
    for row in range(6):
        alone = decoder(many[row : row + 1])
        torch.testing.assert_close(alone, together[row : row + 1], atol=0.05, rtol=0.05)
