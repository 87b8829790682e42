"""The structures that Python and the kernels share; field by field those of the C sources."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_float, c_int32, c_int64, c_void_p

F32, BF16, INT8, INT4 = range(4)
KV_KINDS = {"float32": 0, "bfloat16": 1, "int8": 2}


class MatrixC(ctypes.Structure):
    """``Matrix`` of products.h."""

    _fields_ = [
        ("kind", c_int32),
        ("n", c_int32),
        ("k", c_int32),
        ("group", c_int32),
        ("half_scales", c_int32),
        ("zero", c_int32),
        ("column", c_int32),
        ("codes", c_void_p),
        ("scales", c_void_p),
        ("offsets", c_void_p),
        ("bias", c_void_p),
    ]


class CacheC(ctypes.Structure):
    """``Cache`` of attention.h."""

    _fields_ = [
        ("kind", c_int32),
        ("layers", c_int32),
        ("kv_heads", c_int32),
        ("group", c_int32),
        ("head_dim", c_int32),
        ("block_size", c_int32),
        ("pages", c_void_p),
    ]


class LinearC(ctypes.Structure):
    _fields_ = [
        ("parts", MatrixC * 3),
        ("count", c_int32),
        ("k", c_int32),
        ("forms", c_int32),
        ("width", c_int32),
        ("perm", c_void_p),
    ]


class LayerC(ctypes.Structure):
    _fields_ = [
        ("norm", c_void_p),
        ("mlp_norm", c_void_p),
        ("qkv", LinearC),
        ("o", LinearC),
        ("gate_up", LinearC),
        ("down", LinearC),
    ]


class LoraC(ctypes.Structure):
    _fields_ = [
        ("rank", c_int32),
        ("n", c_int32),
        ("column", c_int32),
        ("stride", c_int32),
        ("a", c_void_p),
        ("b", c_void_p),
    ]


class ModelC(ctypes.Structure):
    _fields_ = [
        ("layer_count", c_int32),
        ("hidden", c_int32),
        ("inner", c_int32),
        ("vocab", c_int32),
        ("eps", c_float),
        ("cache", CacheC),
        ("norm", c_void_p),
        ("layers", POINTER(LayerC)),
        ("head", LinearC),
    ]


class StepC(ctypes.Structure):
    _fields_ = [
        ("tokens", c_int64),
        ("sequences", c_int64),
        ("wanted", c_int64),
        ("table_width", c_int64),
        ("x", c_void_p),
        ("cos", c_void_p),
        ("sin", c_void_p),
        ("slots", c_void_p),
        ("starts", c_void_p),
        ("lengths", c_void_p),
        ("tables", c_void_p),
        ("logits_at", c_void_p),
        ("logits", c_void_p),
        ("hidden", c_void_p),
        ("adapters", c_void_p),
    ]
