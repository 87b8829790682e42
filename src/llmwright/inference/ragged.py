"""Attention for sequences of different lengths that share one forward pass (continuous batching).

The tokens of all sequences are laid end to end as one row, [batch=1, time = n_1 + n_2 + ...]: the
linear layers, which are most of the work, see one matrix and read each weight once for all. Only
attention looks at sequences apart. Each has a cache of its keys and values, so a call brings only
a sequence's new tokens: one while it answers, a chunk of the prompt before. Nothing is padded.

For the new tokens i of a sequence whose cache holds s earlier ones, causal attention is

    out_i = softmax(q_i K[: s+i+1]^T / sqrt(d)) V[: s+i+1]

(Yu, Jeong, Kim, Kim, Chun, "Orca: A Distributed Serving System for Transformer-Based Generative
Models", OSDI 2022, calls it selective batching.) Costs 2 * layers * kv_heads * head_dim numbers
of cache a token, and one attention call per sequence and layer. A cache grows by doubling, so at
most half of it is unused.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


class SequenceCache:
    """Keys and values of one sequence; ``length`` tokens of it are valid, at most ``limit``."""

    def __init__(self, layers: int, limit: int) -> None:
        self.length = 0
        self._layers = layers
        self._limit = limit
        self._store: Tensor | None = None  # [layers, key or value, kv_heads, capacity, head_dim]

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write new k, v [kv_heads, new, head_dim] after the valid tokens of a layer.

        Gives all keys and values of that layer, [kv_heads, length + new, head_dim]. ``length``
        stays: it is moved once, when every layer has its part (see ``RaggedAttention.commit``).
        """
        end = self.length + k.shape[1]
        store = self._store
        if store is None or end > store.shape[3]:
            store = self._grow(end, k)
        keys, values = store[layer].unbind(0)
        keys[:, self.length : end] = k
        values[:, self.length : end] = v
        return keys[:, :end], values[:, :end]

    def clear(self) -> None:
        """Forget everything, and free the memory."""
        self.length = 0
        self._store = None

    def _grow(self, needed: int, k: Tensor) -> Tensor:
        kv_heads, _, head_dim = k.shape
        capacity = max(needed, min(self._limit, max(64, 2 * self.length)))
        store = k.new_empty(self._layers, 2, kv_heads, capacity, head_dim)
        if self._store is not None:
            store[:, :, :, : self.length] = self._store[:, :, :, : self.length]
        self._store = store
        return store


class RaggedAttention:
    """The ``attention`` of one forward pass over ``counts[i]`` new tokens of ``caches[i]``."""

    def __init__(
        self,
        caches: Sequence[SequenceCache],
        counts: Sequence[int],
        device: torch.device | str = "cpu",
    ) -> None:
        self._device = device
        self._parts: list[tuple[SequenceCache, int, int, Tensor | None]] = []
        begin = 0
        for cache, count in zip(caches, counts, strict=True):
            mask = None
            if count > 1 and cache.length:  # new token i sees all cached and the new up to i
                mask = torch.ones(count, cache.length + count, dtype=torch.bool, device=device)
                mask = mask.tril(cache.length)  # [new, length + new]
            self._parts.append((cache, begin, begin + count, mask))
            begin += count

    @property
    def positions(self) -> Tensor:
        """Place of each token in its own sequence, [1, time]."""
        spans = [range(c.length, c.length + e - b) for c, b, e, _ in self._parts]
        return torch.tensor([[place for span in spans for place in span]], device=self._device)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q [1, heads, time, head_dim], k and v [1, kv_heads, time, head_dim], q and k rotated.

        Gives [1, heads, time, head_dim].
        """
        _, heads, _, head_dim = q.shape
        kv_heads = k.shape[1]
        group = heads // kv_heads  # query heads that share one key-value head
        out = torch.empty_like(q)
        for cache, begin, end, mask in self._parts:
            keys, values = cache.extend(layer, k[0, :, begin:end], v[0, :, begin:end])
            queries = q[0, :, begin:end]  # [heads, new, head_dim]
            if end - begin == 1:
                # One token sees everything, so the heads of a group may stand where time stands,
                # and keys and values are read once for the whole group.
                part = F.scaled_dot_product_attention(
                    queries.view(1, kv_heads, group, head_dim), keys[None], values[None]
                ).view(heads, 1, head_dim)
            else:
                shape = (kv_heads, group, *keys.shape[1:])  # heads of a group see the same keys
                part = F.scaled_dot_product_attention(
                    queries.reshape(kv_heads, group, end - begin, head_dim),
                    keys[:, None].expand(shape),
                    values[:, None].expand(shape),
                    attn_mask=mask,
                    is_causal=mask is None,
                ).flatten(0, 1)
            out[0, :, begin:end] = part
        return out

    def commit(self) -> None:
        """Count the new tokens as cached, after the pass went through all layers."""
        for cache, begin, end, _ in self._parts:
            cache.length += end - begin
