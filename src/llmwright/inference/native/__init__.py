"""The CPU runner: one call into compiled kernels runs a whole forward pass.

The kernels are C sources beside this file, compiled with the system's compiler when first used.
"""

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.inference.native.library import Native, native_available
    from llmwright.inference.native.runner import NativeRunner, greedy

_HOMES = {
    "Native": "library",
    "NativeRunner": "runner",
    "greedy": "runner",
    "native_available": "library",
}

__all__ = ["Native", "NativeRunner", "greedy", "native_available"]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
