"""The CPU runner: one call into compiled kernels runs a whole forward pass.

The kernels are C sources beside this file, compiled with the system's compiler when first used.
"""

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.inference.native.library import native_available
    from llmwright.inference.native.packing import packed_bytes
    from llmwright.inference.native.runner import KVDType, NativeRunner, greedy

_HOMES = {
    "KVDType": "runner",
    "NativeRunner": "runner",
    "greedy": "runner",
    "native_available": "library",
    "packed_bytes": "packing",
}

__all__ = ["KVDType", "NativeRunner", "greedy", "native_available", "packed_bytes"]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
