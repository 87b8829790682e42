"""The runner in PyTorch operations: any device, any dtype, the decoder as it is.

Pages are [layers, 2, blocks, block_size, kv_heads, head_dim]. A layer writes the new keys and
values to their slots and then attends: where every sequence has one new token, once for all of
them over tables padded to the longest (shapes that CUDA graphs and flex attention want);
otherwise sequence by sequence, which pads nothing. LoRA adapters, several in one pass, are added
by hooks on the linear layers,

    y[rows of a] += (x[rows of a] A_a^T) B_a^T.

On a CPU with a C compiler the engine takes ``native.NativeRunner``, which computes the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmwright.inference.runner import Output, Step
from llmwright.modeling import Adapter, Decoder

Factors = tuple[Tensor, Tensor]


class PagedAttention:
    """The ``Attention`` of one pass over paged keys and values."""

    def __init__(self, pages: Tensor, step: Step, device: torch.device) -> None:
        self._pages = pages  # [layers, 2, blocks, block_size, kv_heads, head_dim]
        self._slots = step.slots.to(device)
        self._tables = step.tables.long().to(device)
        lengths = step.lengths.to(device)
        self._starts, self._lengths = step.starts.tolist(), step.lengths.tolist()
        self._decoding = len(step.token_ids) == len(self._lengths)
        longest = self._tables.shape[1] * pages.shape[3]
        places = torch.arange(longest, device=device)
        self._visible = places[None] < lengths[:, None]  # [sequences, longest]

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        pages = self._pages[layer]
        flat = pages.flatten(1, 2)  # [2, blocks * block_size, kv_heads, head_dim]
        flat[0, self._slots] = k[0].transpose(0, 1).to(pages.dtype)
        flat[1, self._slots] = v[0].transpose(0, 1).to(pages.dtype)
        if self._decoding:
            return self._one_each(pages, q)
        parts = []
        for i, length in enumerate(self._lengths):
            begin, end = self._starts[i], self._starts[i + 1]
            blocks = self._tables[i, : -(-length // pages.shape[2])]
            keys, values = pages[:, blocks].flatten(1, 2)[:, :length].transpose(1, 2).to(q.dtype)
            new = end - begin
            places = torch.arange(length - new, length, device=q.device)
            mask = torch.arange(length, device=q.device)[None] <= places[:, None]
            parts.append(
                F.scaled_dot_product_attention(
                    q[:, :, begin:end], keys[None], values[None], attn_mask=mask, enable_gqa=True
                )
            )
        return torch.cat(parts, 2)  # [1, heads, tokens, head_dim]

    def _one_each(self, pages: Tensor, q: Tensor) -> Tensor:
        heads, sequences = q.shape[1], q.shape[2]
        kv_heads = pages.shape[3]
        # [2, sequences, kv_heads, longest, head_dim]
        keys, values = pages[:, self._tables].flatten(2, 3).transpose(2, 3).to(q.dtype)
        queries = q[0].transpose(0, 1).reshape(sequences, kv_heads, heads // kv_heads, -1)
        mixed = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=self._visible[:, None, None]
        )
        return mixed.reshape(1, sequences, heads, -1).transpose(1, 2)


class TorchRunner:
    """A decoder over paged keys and values in ``kv_dtype``, by default the decoder's own."""

    def __init__(
        self,
        decoder: Decoder,
        blocks: int,
        block_size: int = 16,
        kv_dtype: torch.dtype | None = None,
    ) -> None:
        config = decoder.config
        self.blocks = blocks
        self.block_size = block_size
        self._decoder = decoder
        shape = (blocks, block_size, config.num_key_value_heads, config.head_dim)
        # Zeros, not whatever was there: a masked NaN would still spoil its neighbours.
        self._pages = torch.zeros(
            (config.num_hidden_layers, 2, *shape),
            dtype=kv_dtype or decoder.dtype,
            device=decoder.device,
        )
        self._adapters: dict[str, dict[nn.Module, Factors]] = {}
        self._hooked: set[nn.Module] = set()
        self._rows: dict[str, Tensor] = {}  # of the pass under way, by adapter: [tokens] bool

    @torch.no_grad()
    def forward(self, step: Step) -> Output:
        decoder, device = self._decoder, self._decoder.device
        attention = PagedAttention(self._pages, step, device)
        owner = torch.arange(len(step.lengths)).repeat_interleave(step.starts.diff())  # [tokens]
        for name in {*step.adapters} - {None}:
            using = torch.tensor([adapter == name for adapter in step.adapters])  # [sequences]
            self._rows[str(name)] = using[owner].to(device)
        embed = decoder.model.embed_tokens
        hook = None
        if step.embeddings is not None:
            vectors = step.embeddings.to(device, decoder.dtype)
            hook = embed.register_forward_hook(
                lambda _module, _inputs, x: x[0].index_copy(0, step.embedded_rows, vectors)[None]
            )
        try:
            tokens, positions = step.token_ids.to(device)[None], step.positions.to(device)[None]
            limits = None if step.limits is None else step.limits.to(device)[None]
            hidden = decoder.model(tokens, positions, attention, limits)[0]  # [tokens, hidden]
            wanted = step.logits_at.to(device)
            self._rows = {name: rows[wanted] for name, rows in self._rows.items()}
            logits = decoder.lm_head(hidden[None, wanted])[0].float()
        finally:
            self._rows = {}
            if hook is not None:
                hook.remove()
        return Output(logits, hidden if step.want_hidden else None)

    def copy_blocks(self, pairs: Sequence[tuple[int, int]]) -> None:
        for source, target in pairs:
            self._pages[:, :, target] = self._pages[:, :, source]

    def add_adapter(self, name: str, adapter: Adapter) -> None:
        factors: dict[nn.Module, Factors] = {}
        for module_name, (a, b) in adapter.factors.items():
            module = self._decoder.get_submodule(module_name)
            weight = self._decoder.model.embed_tokens.weight
            factors[module] = (a.to(weight), b.to(weight))
            if module not in self._hooked:
                module.register_forward_hook(self._add_low_rank)
                self._hooked.add(module)
        self._adapters[name] = factors

    def remove_adapter(self, name: str) -> None:
        del self._adapters[name]

    def _add_low_rank(self, module: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> Tensor:
        for name, rows in self._rows.items():
            factors = self._adapters[name].get(module)
            if factors is not None:
                a, b = factors
                y[:, rows] += F.linear(F.linear(inputs[0][:, rows], a), b)
        return y
