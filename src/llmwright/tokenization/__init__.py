"""Tokens: text to ids and back, conversations to prompts, and how many there are."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmwright.tokenization.chat import ChatTemplate
    from llmwright.tokenization.gguf_header import GGUFHeader, GGUFTensor, read_gguf
    from llmwright.tokenization.loading import load_tokenizer
    from llmwright.tokenization.streaming import StreamDecoder
    from llmwright.tokenization.tokenizer import Tokenizer

_LAZY = {
    "ChatTemplate": "chat",
    "GGUFHeader": "gguf_header",
    "GGUFTensor": "gguf_header",
    "StreamDecoder": "streaming",
    "Tokenizer": "tokenizer",
    "load_tokenizer": "loading",
    "read_gguf": "gguf_header",
}

__all__ = [
    "ChatTemplate",
    "GGUFHeader",
    "GGUFTensor",
    "StreamDecoder",
    "Tokenizer",
    "load_tokenizer",
    "read_gguf",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"llmwright.tokenization.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
