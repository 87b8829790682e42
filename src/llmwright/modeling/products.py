"""Which kernel multiplies bfloat16 matrices: oneDNN's for many rows, PyTorch's own for one or two.

With one row a product reads each weight once and is bound by memory. oneDNN prepares a matrix
product all the same; PyTorch's own dot products come near the bandwidth. Measured with torch
2.13 on two cores with AVX-512 BF16, a 1536 x 576 matrix of SmolLM2-135M, microseconds::

    rows                1    2    4   16
    oneDNN            135  119  140  189
    PyTorch's own      60  100  187  774

PyTorch chooses by a switch of the whole process, so it is turned here under a lock, and back when
the last of the threads inside is done. Another thread's product meanwhile takes the other kernel:
it is rounded in another order and may be slower, nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

MAX_ROWS = 2

_lock = threading.Lock()
_inside = 0
_before = True


@contextmanager
def products_for(rows: int, weight: torch.Tensor) -> Iterator[None]:
    """Within the block, products of ``rows`` rows with matrices like ``weight`` are quick."""
    global _inside, _before
    if rows > MAX_ROWS or weight.dtype != torch.bfloat16 or weight.device.type != "cpu":
        yield
        return
    with _lock:
        if _inside == 0:
            # What torch.backends.mkldnn.flags() sets, without the other flags it would touch.
            _before = torch._C._get_mkldnn_enabled()
            torch._C._set_mkldnn_enabled(False)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                torch._C._set_mkldnn_enabled(_before)
