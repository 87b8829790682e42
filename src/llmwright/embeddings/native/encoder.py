"""A ``BertEncoder``'s weights in the form ``bert.c`` computes with, in bfloat16 or in 8 bits.

* bfloat16 (weights and activations rounded to 8 bits of mantissa, sums in float32): MiniLM's
  vectors stay within a cosine of 0.9999 of those of float32.
* INT8 (a scale for each output of a weight, a scale and a lowest value for each row of
  activations, taken while computing; sums of whole numbers):

      y_o = s_o step sum_i(w_oi u_i)  +  s_o low sum_i(w_oi)  +  b_o         x_i ~ low + step u_i

  half the memory again and twice the products a second; benchmarks/embeddings.py has the cosine.

Dettmers, Lewis, Belkada and Zettlemoyer (2022), "LLM.int8()", arXiv 2208.07339, for scales by
row and by output.

Cost: 2 bytes or 1 byte a weight besides the embedding tables, which stay in float32.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llmwright.core import CLibrary
from llmwright.embeddings.bert import BertConfig, BertEncoder

_POINTER, _LONG, _INT = ctypes.c_void_p, ctypes.c_long, ctypes.c_int32
_PANEL, _VECTOR = 64, 16  # outputs, as in products.h
_MEAN, _FIRST, _ALL = range(3)  # as in bert.c

KERNELS = CLibrary(
    Path(__file__).parent / "bert.c",
    (
        ("lw_bert_supported", _INT, ()),
        ("lw_bert_shared", _INT, ()),
        ("lw_bert_scratch", _LONG, (_POINTER, _LONG, _LONG, _INT)),
        ("lw_bert", None, (_POINTER,) * 4 + (_LONG, _INT, _POINTER, _POINTER)),
        ("lw_pool_new", _POINTER, (_INT,)),
        ("lw_pool_free", None, (_POINTER,)),
    ),
)


class _Linear(ctypes.Structure):
    _fields_ = (
        ("n", _INT), ("k", _INT), ("codes", _POINTER), ("bias", _POINTER),
        ("scale", _POINTER), ("sums", _POINTER),
    )  # fmt: skip


_Norm = _POINTER * 2


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, _Linear) for name in ("qkv", "out", "up", "down")),
        ("norm_attention", _Norm),
        ("norm_output", _Norm),
    )


class _Bert(ctypes.Structure):
    _fields_ = (
        *((name, _INT) for name in ("hidden", "heads", "intermediate", "layers", "int8")),
        ("epsilon", ctypes.c_float),
        *((name, _POINTER) for name in ("words", "positions", "type")),
        ("norm", _Norm),
        ("layer", ctypes.POINTER(_Layer)),
    )


def native_fits(config: BertConfig) -> bool:
    """Whether the compiled encoder computes such a model on this processor."""
    pairs = config.hidden_size % (2 * config.num_attention_heads) == 0
    return pairs and bool(KERNELS.available()) and bool(KERNELS.load().lw_bert_supported())


class NativeEncoder:
    """Pooled vectors of token ids. Safe to use from many threads.

    A call computes on the thread it is made in; a short one, such as a query, is shared with
    ``threads`` - 1 others, unless those are busy with another. 0 is as many as torch uses.
    """

    def __init__(self, encoder: BertEncoder, *, int8: bool = False, threads: int = 0) -> None:
        self.hidden = encoder.config.hidden_size
        self._library = KERNELS.load()
        self._threads = threads or torch.get_num_threads()
        self._pool: tuple[int, int | None] | None = None  # the process it is of, the pool
        self._pool_lock = threading.Lock()
        self._kept: list[Tensor | NDArray[np.float32]] = []  # what the structures point into
        layers = [self._layer(layer, int8) for layer in encoder.layers]
        self._layers = (_Layer * len(layers))(*layers)
        self._bert = _Bert(
            self.hidden, encoder.config.num_attention_heads, encoder.config.intermediate_size,
            len(layers), int(int8), encoder.config.layer_norm_eps,
            self._pointer(encoder.words.weight), self._pointer(encoder.positions.weight),
            self._pointer(encoder.types.weight[0]), self._norm(encoder.norm), self._layers,
        )  # fmt: skip
        self._scratch = threading.local()

    def pooled(self, texts: Sequence[Sequence[int]], *, first: bool) -> NDArray[np.float32]:
        """[texts, hidden]: the mean of each text's token vectors, or the ``first`` of them.

        Texts are token ids, none empty or longer than the model's positions.
        """
        return self._encode(texts, _FIRST if first else _MEAN, len(texts))

    def tokens(self, texts: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        """The token vectors of each text: [tokens, hidden]."""
        lengths = [len(text) for text in texts]
        return np.split(self._encode(texts, _ALL, sum(lengths)), np.cumsum(lengths)[:-1])

    def _encode(self, texts: Sequence[Sequence[int]], which: int, rows: int) -> NDArray[np.float32]:
        lengths = [len(text) for text in texts]
        starts = np.cumsum([0, *lengths], dtype=np.int64)
        ids = np.array([token for text in texts for token in text], np.int32)
        out = np.empty((rows, self.hidden), np.float32)
        shared = self._threads > 1 and len(ids) <= self._library.lw_bert_shared()
        shared = shared and self._pool_lock.acquire(blocking=False)
        try:
            threads = self._threads if shared else 1
            bert = ctypes.byref(self._bert)
            size = self._library.lw_bert_scratch(bert, len(ids), max(lengths), threads)
            self._library.lw_bert(
                bert, self._helpers() if shared else None, ids.ctypes.data, starts.ctypes.data,
                len(texts), which, out.ctypes.data, self._room(size).ctypes.data,
            )  # fmt: skip
        finally:
            if shared:
                self._pool_lock.release()
        return out

    def _helpers(self) -> int | None:
        """The other threads; they sleep while there is nothing to do. A forked process, where
        they are not, starts its own."""
        if self._pool is None or self._pool[0] != os.getpid():
            pool = self._library.lw_pool_new(self._threads)
            self._pool = os.getpid(), pool
            if pool is not None:
                weakref.finalize(self, _end, self._library.lw_pool_free, os.getpid(), pool)
        return self._pool[1]

    def _room(self, size: int) -> NDArray[np.uint8]:
        """Memory that stays with the thread: new pages cost more than a short text."""
        room: NDArray[np.uint8] | None = getattr(self._scratch, "room", None)
        if room is None or len(room) < size:
            room = self._scratch.room = np.empty(size, np.uint8)
        return room

    def _layer(self, layer: Any, int8: bool) -> _Layer:
        linears = [self._linear(getattr(layer, n), int8) for n in ("qkv", "out", "up", "down")]
        return _Layer(*linears, self._norm(layer.norm_attention), self._norm(layer.norm_output))

    def _linear(self, linear: nn.Linear, int8: bool) -> _Linear:
        weight = linear.weight.float()  # [n, k]
        n, k = weight.shape
        bias = self._pointer(_filled(linear.bias))
        if not int8:
            codes = panels(weight.to(torch.bfloat16).view(torch.int16), 2)
            return _Linear(n, k, self._pointer(codes), bias, None, None)
        scale, codes8 = rounded(weight)
        sums = scale * codes8.sum(1)
        return _Linear(
            n, k, self._pointer(panels(codes8, 4)), bias,
            self._pointer(_filled(scale)), self._pointer(_filled(sums)),
        )  # fmt: skip

    def _norm(self, norm: nn.LayerNorm) -> ctypes.Array[ctypes.c_void_p]:
        return _Norm(self._pointer(norm.weight), self._pointer(norm.bias))

    def _pointer(self, tensor: Tensor) -> int:
        tensor = tensor.detach().contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()


def _end(free: Callable[[int], None], process: int, pool: int) -> None:
    if os.getpid() == process:
        free(pool)


def int8_in_torch(encoder: BertEncoder) -> BertEncoder:
    """A copy of the encoder that rounds as the compiled one does in 8 bits, for processors and
    systems where that does not run. It saves neither time nor memory."""
    with torch.device("meta"):
        copy = BertEncoder(encoder.config)
    copy.load_state_dict(encoder.state_dict(), assign=True)
    for layer in copy.layers:
        for name in ("qkv", "out", "up", "down"):
            setattr(layer, name, _RoundedLinear(getattr(layer, name)))
    return copy.requires_grad_(False).eval()


class _RoundedLinear(nn.Module):
    weight: Tensor
    bias: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        scale, codes = rounded(linear.weight.detach())
        self.register_buffer("weight", scale[:, None] * codes)  # [n, k]
        self.register_buffer("bias", linear.bias.detach())

    def forward(self, x: Tensor) -> Tensor:  # [rows, k] -> [rows, n]
        low = x.amin(1, keepdim=True)
        step = (x.amax(1, keepdim=True) - low).clamp_min(1e-30) / 255
        return nn.functional.linear(low + step * ((x - low) / step).round(), self.weight, self.bias)


def rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A scale for each output [n] and codes in -127..127 [n, k]."""
    scale = weight.abs().amax(1) / 127
    codes = (weight / scale.clamp_min(1e-12)[:, None]).round()
    return scale, codes.to(torch.int8)


def panels(codes: Tensor, group: int) -> Tensor:
    """[n, k] packed as products.h reads it: in panels of 64 outputs [k / group][outputs][group]."""
    n, k = codes.shape
    whole = codes.new_zeros(-(-n // _VECTOR) * _VECTOR, -(-k // group) * group)
    whole[:n, :k] = codes
    parts = [part.view(len(part), -1, group).transpose(0, 1) for part in torch.split(whole, _PANEL)]
    return torch.cat([part.reshape(-1) for part in parts])


def _filled(values: Tensor) -> Tensor:
    """[n] padded with zeros to whole vectors, in float32."""
    return nn.functional.pad(values.detach().float(), (0, -len(values) % _VECTOR))
