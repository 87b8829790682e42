"""Things that answer: the local engine, a remote endpoint, two in a cascade, a script: all are
``ChatModel``s.

``open_chat_model`` names any of them by a source string. Names are fetched when first used, so
a gateway in front of remote models never imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports

if TYPE_CHECKING:
    from llmwright.providers.batch import generate_many
    from llmwright.providers.cascade import CascadeModel
    from llmwright.providers.local import LocalModel
    from llmwright.providers.open import open_chat_model
    from llmwright.providers.remote import RemoteModel
    from llmwright.providers.scripted import ScriptedModel

_HOMES = {
    "CascadeModel": "cascade",
    "LocalModel": "local",
    "RemoteModel": "remote",
    "ScriptedModel": "scripted",
    "generate_many": "batch",
    "open_chat_model": "open",
}

__all__ = [
    "CascadeModel",
    "LocalModel",
    "RemoteModel",
    "ScriptedModel",
    "generate_many",
    "open_chat_model",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
