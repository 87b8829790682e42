"""A chat model by its source string: the one place where names become things that answer.

=================================  ==========================================================
a path, ``hf:...``, ``pypi:...``   a model on this machine (``modeling.resolve`` finds its files)
``http://host/v1#model``           ``model`` behind an OpenAI-compatible endpoint, also https
``openai:NAME``                    the same at ``OPENAI_BASE_URL``, by default OpenAI itself
=================================  ==========================================================

The key is read from ``OPENAI_API_KEY`` and sent to ``OPENAI_BASE_URL`` alone. A source that spells
out another address gets no key: a recipe from elsewhere must not be able to carry it away.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from llmwright.core import ConfigurationError, ModelSourceError

if TYPE_CHECKING:
    from llmwright.providers.local import DType, LocalModel
    from llmwright.providers.remote import RemoteModel

_OPENAI = "https://api.openai.com/v1"


def open_chat_model(
    source: str, *, adapter: Path | None = None, dtype: DType = "auto"
) -> LocalModel | RemoteModel:
    """Open ``source``. ``adapter`` is a PEFT LoRA folder, merged into a local model's weights.

    Raises ``ModelSourceError`` where there is no such model, ``ConfigurationError`` where the
    source lacks something or cannot be combined with ``adapter``.
    """
    source = source.strip()
    if not source.startswith(("http://", "https://", "openai:")):
        from llmwright.providers.local import LocalModel

        return LocalModel.open(source, adapter=adapter, dtype=dtype)
    if adapter is not None:
        raise ConfigurationError(
            "an adapter cannot be merged into a remote model",
            where=source,
            fix="leave the adapter out, or name a local model",
        )
    from llmwright.providers.remote import RemoteModel

    key = os.environ.get("OPENAI_API_KEY") or None
    home = (os.environ.get("OPENAI_BASE_URL") or _OPENAI).rstrip("/")
    if source.startswith("openai:"):
        name = source.removeprefix("openai:")
        if not name:
            raise ModelSourceError(
                "the model's name is missing", where=source, fix="write openai:NAME"
            )
        if key is None and home == _OPENAI:
            raise ConfigurationError(
                "there is no API key", where=source, fix="set OPENAI_API_KEY, or OPENAI_BASE_URL"
            )
        return RemoteModel(home, name, key)
    address, _, name = source.partition("#")
    if not name:
        raise ModelSourceError(
            "the address does not say which model", where=source, fix=f"write {address}#MODEL"
        )
    mine = address.rstrip("/") == home
    return RemoteModel(address, name, key if mine else None)
