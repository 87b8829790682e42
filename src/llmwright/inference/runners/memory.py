"""The bytes an engine will hold, said before they are taken.

    weights + packed + blocks * block_size * 2 * layers * kv_heads * head_dim * bytes a value

The third term is the cache; ``kv_bytes_per_token`` has the arithmetic for every kind of cache.
``packed`` is the copy of the matrices that the compiled kernels read. What a pass needs beside
them (activations of at most ``token_budget`` tokens, and logits) is small and is counted too, from
above. The weights are there already when an engine is made, so what has to fit is the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from llmwright.core import CapacityError
from llmwright.inference.native import packed_bytes
from llmwright.modeling import Decoder, kv_bytes_per_token, weight_bytes

_DEFAULT_CACHE = 1 << 30
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes by purpose. ``cache_tokens`` tokens fit into the cache."""

    weights: int
    packed: int
    bytes_per_token: int
    cache_tokens: int
    activations: int
    available: int | None  # for all but the weights; None where it cannot be known

    @property
    def cache(self) -> int:
        return self.bytes_per_token * self.cache_tokens

    @property
    def total(self) -> int:
        return self.weights + self.packed + self.cache + self.activations

    def __str__(self) -> str:
        return (
            f"weights {self.weights / _MIB:,.0f} MiB + packed for the kernels "
            f"{self.packed / _MIB:,.0f} MiB + cache {self.cache_tokens:,} tokens x "
            f"{self.bytes_per_token:,} bytes = {self.cache / _MIB:,.0f} MiB + activations "
            f"{self.activations / _MIB:,.0f} MiB = {self.total / _MIB:,.0f} MiB"
        )

    def check(self, where: str) -> None:
        """Raise ``CapacityError``, with the arithmetic, where it does not fit."""
        needed = self.packed + self.cache + self.activations
        if self.available is not None and needed > self.available:
            raise CapacityError(
                f"the engine would hold {self}, and beside the weights "
                f"{self.available / _MIB:,.0f} MiB are free",
                where=where,
                fix="give it a smaller cache, fewer bits a value, or a smaller model",
            )


def plan_memory(
    decoder: Decoder,
    *,
    kv_dtype: str,
    cache_tokens: int | None,
    block_size: int,
    max_sequences: int,
    token_budget: int,
    native: bool,
) -> MemoryPlan:
    """The plan for a cache of ``cache_tokens`` tokens, rounded up to whole blocks.

    None is as many as all sequences could fill, but at most 1 GiB, and at least one context.
    ``native`` says whether the compiled kernels will run.
    """
    config = decoder.config
    per_token = kv_bytes_per_token(config, kv_dtype)
    if cache_tokens is None:
        context = config.max_position_embeddings
        cache_tokens = max(context, min(max_sequences * context, _DEFAULT_CACHE // per_token))
    widest = max(config.intermediate_size * 2, config.hidden_size * 4)
    return MemoryPlan(
        weights=weight_bytes(decoder),
        packed=packed_bytes(decoder) if native else 0,
        bytes_per_token=per_token,
        cache_tokens=-(-cache_tokens // block_size) * block_size,
        activations=4 * (token_budget * 2 * widest + 2 * max_sequences * config.vocab_size),
        available=available_bytes(decoder.device),
    )


def available_bytes(device: torch.device) -> int | None:
    """Memory that can be taken on ``device``, None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    free = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            free.append(int(limit) - int((group / "memory.current").read_text()))
    except OSError:
        pass  # no control group of this kind limits us
    return min(free, default=None)
