"""Tokens: text to ids and back, conversations to prompts, and how many there are."""

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.tokenization.chat import ChatTemplate
    from llmwright.tokenization.gguf_header import GGUFHeader, GGUFTensor, read_gguf
    from llmwright.tokenization.gguf_metadata import gguf_vocabulary
    from llmwright.tokenization.loading import load_tokenizer
    from llmwright.tokenization.streaming import StreamDecoder
    from llmwright.tokenization.tokenizer import Tokenizer

_HOMES = {
    "ChatTemplate": "chat",
    "GGUFHeader": "gguf_header",
    "GGUFTensor": "gguf_header",
    "StreamDecoder": "streaming",
    "Tokenizer": "tokenizer",
    "gguf_vocabulary": "gguf_metadata",
    "load_tokenizer": "loading",
    "read_gguf": "gguf_header",
}

__all__ = [
    "ChatTemplate",
    "GGUFHeader",
    "GGUFTensor",
    "StreamDecoder",
    "Tokenizer",
    "gguf_vocabulary",
    "load_tokenizer",
    "read_gguf",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
