"""Texts to unit vectors: our own BERT encoder, any sentence-transformers model, an endpoint.

``load_embedder`` names any of them by a source string; all are ``core.Embedder``s. Names are
fetched when first used, so that importing this room does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.embeddings.encoder import BertEmbedder
    from llmwright.embeddings.load import load_embedder
    from llmwright.embeddings.remote import RemoteEmbedder
    from llmwright.embeddings.sentence import SentenceTransformerEmbedder

_HOMES = {
    "BertEmbedder": "encoder",
    "RemoteEmbedder": "remote",
    "SentenceTransformerEmbedder": "sentence",
    "load_embedder": "load",
}

__all__ = [
    "BertEmbedder",
    "RemoteEmbedder",
    "SentenceTransformerEmbedder",
    "load_embedder",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
