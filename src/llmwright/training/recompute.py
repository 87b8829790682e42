"""Activations computed twice instead of kept: memory for time.

Each layer keeps only its input and runs forward again when its gradient is due. Memory falls from
all activations of all layers to one layer's and the inputs of the others; a training step with a
frozen base costs half as much again.

Chen et al., 2016, arXiv 1604.06174.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def recomputed(layers: Iterable[nn.Module]) -> Iterator[None]:
    """Within the block each of ``layers`` recomputes its activations. Dropout repeats its mask."""
    changed = list(layers)
    for layer in changed:
        # On the instance, so that names of modules and parameters stay as they are.
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    try:
        yield
    finally:
        for layer in changed:
            del layer.forward
