"""A chat model by its source string: the one place where names become things that answer.

=================================  ==========================================================
a path, ``hf:...``, ``pypi:...``   a model on this machine (``modeling.resolve`` finds its files)
``http://host/v1#model``           ``model`` behind an OpenAI-compatible endpoint, also https
``openai:NAME``                    the same at ``OPENAI_BASE_URL``, by default OpenAI itself
=================================  ==========================================================

Which endpoint gets the key from ``OPENAI_API_KEY``, ``core.endpoint_of`` says.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from llmwright.core import ConfigurationError, DType, endpoint_of, is_endpoint

if TYPE_CHECKING:
    from llmwright.inference import EngineOptions
    from llmwright.providers.local import LocalModel
    from llmwright.providers.remote import RemoteModel


def open_chat_model(
    source: str,
    *,
    adapter: Path | None = None,
    dtype: DType = "auto",
    packed: bool = False,
    **options: Unpack[EngineOptions],
) -> LocalModel | RemoteModel:
    """Open ``source``. ``adapter`` is a PEFT LoRA folder; it, ``packed`` and ``options`` are
    those of ``LocalModel.open``, and say nothing to a remote model.

    Raises ``ModelSourceError`` where there is no such model, ``ConfigurationError`` where the
    source lacks something or cannot be combined with ``adapter``.
    """
    source = source.strip()
    if not is_endpoint(source):
        from llmwright.providers.local import LocalModel

        return LocalModel.open(source, adapter=adapter, dtype=dtype, packed=packed, **options)
    if adapter is not None:
        raise ConfigurationError(
            "an adapter cannot be merged into a remote model",
            where=source,
            fix="leave the adapter out, or name a local model",
        )
    from llmwright.providers.remote import RemoteModel

    base_url, name, key = endpoint_of(source)
    return RemoteModel(base_url, name, key)
