"""Keys and values of what was read, kept so that each further token costs one token.

Memory: ``2 * layers * kv_heads * head_dim * bytes`` a token (SmolLM2-135M in bfloat16: 23 KB).
The buffers double when they are full, so n tokens are copied at most twice in all.

This is the plain cache of one sequence, or of a batch whose rows are equally long; the paged one
is ``inference/engine``'s.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from llmwright.modeling.config import ModelConfig


class KVCache:
    """An ``Attention`` that remembers.

    >>> cache = KVCache(decoder.config, decoder.dtype)
    >>> decoder(prompt, cache.positions(prompt.shape[1]), cache)
    >>> decoder(next_token, cache.positions(1), cache)
    """

    def __init__(
        self,
        config: ModelConfig,
        dtype: torch.dtype,
        *,
        batch: int = 1,
        capacity: int = 256,
        device: torch.device | str = "cpu",
    ) -> None:
        self.length = 0  # tokens held
        self._layers = config.num_hidden_layers
        shape = (2, self._layers, batch, config.num_key_value_heads, capacity, config.head_dim)
        self._buffer = torch.empty(shape, dtype=dtype, device=device)

    @property
    def capacity(self) -> int:
        return self._buffer.shape[4]

    def positions(self, time: int) -> Tensor:
        """[1, time]: the positions of the next ``time`` tokens."""
        device = self._buffer.device
        return torch.arange(self.length, self.length + time, device=device).unsqueeze(0)

    def truncate(self, length: int) -> None:
        """Forget everything from position ``length`` on."""
        self.length = min(self.length, length)

    def select(self, rows: Tensor) -> None:
        """Let the batch be its own ``rows`` [n], some perhaps several times: branches that fork
        or end."""
        self._buffer = self._buffer[:, :, rows]

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        batch, heads, time, head_dim = q.shape
        start, end = self.length, self.length + time
        if end > self.capacity:
            self._grow(end)
        keys, values = self._buffer[0, layer], self._buffer[1, layer]
        keys[:, :, start:end] = k
        values[:, :, start:end] = v
        keys, values = keys[:, :, :end], values[:, :, :end]  # [batch, kv_heads, end, head_dim]
        if layer == self._layers - 1:
            self.length = end
        kv_heads = keys.shape[1]
        if time == 1:
            # The heads of a group ask the same keys: as rows of one query they need no copies.
            q = q.reshape(batch, kv_heads, heads // kv_heads, head_dim)
            mixed = F.scaled_dot_product_attention(q, keys, values)
            return mixed.view(batch, heads, 1, head_dim)
        gqa = heads != kv_heads
        if start == 0:
            return F.scaled_dot_product_attention(q, keys, values, is_causal=True, enable_gqa=gqa)
        # Row i of the new tokens sees everything up to start + i.
        places = torch.arange(end, device=q.device)
        seen = places <= places[start:, None]  # [time, end]
        return F.scaled_dot_product_attention(q, keys, values, attn_mask=seen, enable_gqa=gqa)

    def _grow(self, needed: int) -> None:
        shape = list(self._buffer.shape)
        shape[4] = max(needed, 2 * self.capacity)
        larger = self._buffer.new_empty(shape)
        larger[:, :, :, :, : self.length] = self._buffer[:, :, :, :, : self.length]
        self._buffer = larger
