"""Texts to unit vectors: our own BERT encoder, any sentence-transformers model, an endpoint.

``load_embedder`` names any of them by a source string; all are ``core.Embedder``s, and so are
``CachedEmbedder`` and ``TruncatedEmbedder`` around another one. Names are
fetched when first used, so that importing this room does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.embeddings.cached import CachedEmbedder
    from llmwright.embeddings.cross_encoder import CrossEncoder
    from llmwright.embeddings.encoder import BertEmbedder
    from llmwright.embeddings.load import load_embedder
    from llmwright.embeddings.remote import RemoteEmbedder
    from llmwright.embeddings.sentence import SentenceTransformerEmbedder
    from llmwright.embeddings.truncated import TruncatedEmbedder, truncate

_HOMES = {
    "BertEmbedder": "encoder",
    "CachedEmbedder": "cached",
    "CrossEncoder": "cross_encoder",
    "RemoteEmbedder": "remote",
    "SentenceTransformerEmbedder": "sentence",
    "TruncatedEmbedder": "truncated",
    "load_embedder": "load",
    "truncate": "truncated",
}

__all__ = [
    "BertEmbedder",
    "CachedEmbedder",
    "CrossEncoder",
    "RemoteEmbedder",
    "SentenceTransformerEmbedder",
    "TruncatedEmbedder",
    "load_embedder",
    "truncate",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
