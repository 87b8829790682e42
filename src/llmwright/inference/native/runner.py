"""The runner on the CPU: packed weights, a paged cache, and one call into C for a whole step.

    bytes a block = layers * kv_heads * block_size * (key + value),
    key = head_dim * b,  value = ceil16(head_dim) * b,   b = 4, 2, or 1 and 4 for a scale

Weights are float32, bfloat16, or codes of up to 8 bits (``QuantizedLinear``). With codes the
inputs of each product are rounded to 8 bits as well, each row in blocks of 32 columns by its
largest value, and multiplied as whole numbers; the residual stream, attention, norms and logits
are float32 always.

A row's result does not depend on the other rows of the step, on how its prompt was cut into
steps, or on the number of threads: every sum runs in one fixed order.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from llmwright.core import ConfigurationError, settings
from llmwright.inference.native.adapters import PackedAdapter, pack_adapter
from llmwright.inference.native.layout import KV_KINDS, CacheC, LayerC, ModelC, StepC
from llmwright.inference.native.library import KERNELS
from llmwright.inference.native.packing import Arena, pack_linear
from llmwright.inference.runner import Output, Step
from llmwright.modeling import Adapter, Decoder

KVDType = Literal["auto", "float32", "bfloat16", "int8"]


class NativeRunner:
    """A ``Runner`` over compiled kernels. Calls from several threads wait for each other.

    ``block_size`` is a multiple of 16. ``kv_dtype`` "auto" is float32 for a float32 model and
    bfloat16 otherwise. ``threads`` is by default what PyTorch uses. The weights are copied: the
    decoder keeps its own, and only its embedding and rotary tables are used afterwards.

    Raises ``MissingDependencyError`` without kernels (see ``native_available``) and
    ``ConfigurationError`` for what they do not compute.
    """

    def __init__(
        self,
        decoder: Decoder,
        blocks: int,
        block_size: int = 16,
        kv_dtype: KVDType = "auto",
        threads: int | None = None,
    ) -> None:
        if block_size < 16 or block_size % 16:
            raise ConfigurationError(
                f"a block of {block_size} tokens does not fit the native kernels",
                where="block_size",
                fix="use a multiple of 16",
            )
        self.blocks, self.block_size = blocks, block_size
        self._decoder, self._config = decoder, decoder.config
        self._kv_dtype = _kv_dtype(kv_dtype, decoder.dtype)
        self._library = KERNELS.load()
        self._arena = Arena()
        self._threads = threads or settings().threads or torch.get_num_threads()
        self._lock = threading.Lock()
        self._pool, self._pool_process = 0, 0
        self._scratch = torch.empty(0, dtype=torch.uint8)
        self._adapters: dict[str, PackedAdapter] = {}
        with torch.no_grad():
            self._model = self._pack()
            self._pages = _zeros(blocks, self.bytes_per_block)
            self._library.lw_advise(self._pages.data_ptr(), self._pages.numel())
        self._model.cache.pages = self._pages.data_ptr()

    @property
    def bytes_per_block(self) -> int:
        """Bytes of one block of the cache, keys and values of every layer."""
        return int(self._library.lw_block_bytes(ctypes.byref(self._model.cache)))

    @property
    def weight_bytes(self) -> int:
        """Bytes of the packed weights; a step reads them once."""
        return self._arena.bytes

    @torch.no_grad()
    def forward(self, step: Step) -> Output:
        """Run ``step``. Every tensor of the output is its own, not reused by later steps."""
        tokens, sequences = len(step.token_ids), len(step.lengths)
        x = self._decoder.model.embed_tokens(step.token_ids).float()  # [tokens, hidden]
        if step.embedded_rows is not None and step.embeddings is not None:
            x = x.index_copy(0, step.embedded_rows, step.embeddings.to(x.dtype))
        limits = None if step.limits is None else step.limits.unsqueeze(0)
        cos, sin = self._decoder.model.rotary(step.positions.unsqueeze(0), torch.float32, limits)
        logits = torch.empty(len(step.logits_at), self._config.vocab_size)
        hidden = torch.empty(tokens, self._config.hidden_size) if step.want_hidden else None
        given = StepC(tokens, sequences, len(step.logits_at), step.tables.shape[1])
        given.x, given.cos, given.sin = x.data_ptr(), cos.data_ptr(), sin.data_ptr()
        for name in ("slots", "starts", "lengths", "tables", "logits_at"):
            setattr(given, name, getattr(step, name).data_ptr())
        given.logits = logits.data_ptr()
        given.hidden = hidden.data_ptr() if hidden is not None else None
        with self._lock:
            if any(step.adapters):
                chosen = [self._adapters[name].address if name else None for name in step.adapters]
                pointers = (ctypes.c_void_p * sequences)(*chosen)
                given.adapters = ctypes.addressof(pointers)
            self._run(given, int(step.lengths.max()))
        return Output(logits, hidden)

    def copy_blocks(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Copy whole blocks, (source, target), all read before any is written."""
        if pairs:
            sources, targets = (torch.tensor(side) for side in zip(*pairs, strict=True))
            with self._lock:
                self._pages[targets] = self._pages[sources]

    def add_adapter(self, name: str, adapter: Adapter) -> None:
        """Make a LoRA adapter usable by ``Step.adapters``; it is added to the products of its
        sequences, and the weights stay as they are."""
        packed = pack_adapter(adapter, self._config)
        with self._lock:
            self._adapters[name] = packed

    def remove_adapter(self, name: str) -> None:
        """Forget an adapter."""
        with self._lock:
            del self._adapters[name]

    def _run(self, step: StepC, longest: int) -> None:
        if self._pool_process != os.getpid():  # threads do not survive a fork
            self._pool, self._pool_process = self._library.lw_pool_new(self._threads), os.getpid()
            closing = weakref.finalize(self, _close, self._library, self._pool, os.getpid())
            closing.atexit = False  # a step may still run in a daemon thread
        model = ctypes.byref(self._model)
        needed = self._library.lw_scratch_bytes(
            model, self._threads, step.tokens, step.sequences, longest
        )
        if len(self._scratch) < needed + 64:
            self._scratch = torch.empty((needed + 64) * 5 // 4, dtype=torch.uint8)
        scratch = self._scratch.data_ptr()
        self._library.lw_forward(
            model, self._pool, ctypes.byref(step), longest, scratch + -scratch % 64
        )

    def _pack(self) -> ModelC:
        config, arena, stack = self._config, self._arena, self._decoder.model
        dtype = torch.float32 if self._decoder.dtype == torch.float32 else torch.bfloat16
        self._layers = (LayerC * config.num_hidden_layers)()

        def linear(*layers: Any) -> Any:
            return pack_linear(layers, arena, dtype=dtype)

        def norm(layer: Any) -> int:
            return arena.keep(layer.weight.float())

        for made, layer in zip(self._layers, stack.layers, strict=True):
            attention: Any = layer.self_attn
            mlp: Any = layer.mlp
            made.norm = norm(layer.input_layernorm)
            made.mlp_norm = norm(layer.post_attention_layernorm)
            made.qkv = linear(attention.q_proj, attention.k_proj, attention.v_proj)
            made.o = linear(attention.o_proj)
            made.gate_up = linear(mlp.gate_proj, mlp.up_proj)
            made.down = linear(mlp.down_proj)
        return ModelC(
            layer_count=config.num_hidden_layers,
            hidden=config.hidden_size,
            inner=config.intermediate_size,
            vocab=config.vocab_size,
            eps=config.rms_norm_eps,
            cache=CacheC(
                kind=KV_KINDS[self._kv_dtype],
                layers=config.num_hidden_layers,
                kv_heads=config.num_key_value_heads,
                group=config.num_attention_heads // config.num_key_value_heads,
                head_dim=config.head_dim,
                block_size=self.block_size,
            ),
            norm=norm(stack.norm),
            layers=self._layers,
            head=linear(self._decoder.lm_head),
        )


def greedy(logits: Tensor) -> tuple[Tensor, Tensor]:
    """``logits`` [rows, vocab] float32 -> the first place of each row's largest, [rows] int64, and
    the log of its softmax, [rows] float32.

    PyTorch's argmax and logsumexp take several times as long, and leave OpenMP threads spinning on
    the processors that the next step needs.
    """
    logits = logits.float().contiguous()
    places = torch.empty(len(logits), dtype=torch.int64)
    logprobs = torch.empty(len(logits))
    KERNELS.load().lw_greedy(
        logits.data_ptr(), *logits.shape, places.data_ptr(), logprobs.data_ptr()
    )
    return places, logprobs


def _zeros(rows: int, size: int) -> Tensor:
    """[rows, size] bytes on a 64-byte border, which the system gives only as they are written."""
    memory = np.zeros(rows * size + 64, np.uint8)  # PyTorch's zeros would write them all now
    begin = -memory.ctypes.data % 64
    return torch.from_numpy(memory[begin : begin + rows * size]).view(rows, size)


def _kv_dtype(wanted: KVDType, weights: torch.dtype) -> str:
    if wanted == "auto":
        return "float32" if weights == torch.float32 else "bfloat16"
    if wanted not in KV_KINDS:
        raise ConfigurationError(
            f"{wanted!r} is no type of a cache",
            where="kv_dtype",
            fix="use auto, float32, bfloat16 or int8",
        )
    return wanted


def _close(library: ctypes.CDLL, pool: int, process: int) -> None:
    if process == os.getpid():
        library.lw_pool_free(pool)
