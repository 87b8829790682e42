"""What the engine asks of a model: one forward pass over the new tokens of many sequences.

A runner owns the weights it computes with and the pages of the cache; it knows nothing of
requests, and of blocks only their numbers. Two are here: ``TorchRunner`` (any device, PyTorch
operations) and ``native.NativeRunner`` (CPU, compiled kernels).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from llmwright.modeling import Adapter


@dataclass(frozen=True, slots=True)
class Step:
    """The new tokens of several sequences, laid end to end.

    Sequence i owns rows ``starts[i]:starts[i + 1]``; they are its last tokens, and its context,
    they included, is ``lengths[i]`` tokens, which lie in blocks ``tables[i]`` in order.
    """

    token_ids: Tensor  # [tokens] int64
    positions: Tensor  # [tokens] int64, the place of each token in its sequence
    slots: Tensor  # [tokens] int64, block * block_size + offset: where its key and value go
    starts: Tensor  # [sequences + 1] int64
    lengths: Tensor  # [sequences] int64
    tables: Tensor  # [sequences, most blocks] int32, padded with 0
    logits_at: Tensor  # [wanted] int64, rows whose logits are wanted
    adapters: tuple[str | None, ...] = ()  # one a sequence; empty where none has any
    embedded_rows: Tensor | None = None  # [n] int64, rows whose embedding is given (soft prompts)
    embeddings: Tensor | None = None  # [n, hidden]
    want_hidden: bool = False
    limits: Tensor | None = None  # [tokens] int64, what each token's sequence may reach at most,
    # where the rotary scaling looks at that


@dataclass(frozen=True, slots=True)
class Output:
    """What a runner computed. Its tensors are its own, not written again by later steps."""

    logits: Tensor  # [wanted, vocab] float32
    hidden: Tensor | None = None  # [tokens, hidden] after the last norm, where asked for


class Runner(Protocol):
    """A model over a paged cache of ``blocks`` blocks of ``block_size`` tokens."""

    blocks: int
    block_size: int

    def forward(self, step: Step) -> Output: ...

    def copy_blocks(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Copy whole blocks, (source, target), keys and values of every layer."""
        ...

    def add_adapter(self, name: str, adapter: Adapter) -> None:
        """Make a LoRA adapter, read for this model, usable by ``Step.adapters``."""
        ...

    def remove_adapter(self, name: str) -> None:
        """Forget one that was added."""
        ...
